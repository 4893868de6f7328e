/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.c - a program file becomes an address space with a stack and a first instruction
 *
 * The layout is always the same: position-independent programs at PIE_BASE, libraries downwards
 * from MMAP_TOP, the stack below STACK_TOP; these are the addresses of Linux without randomisation.
 * Random ones would gain nothing, as all instances of a snapshot share its layout anyway, and would
 * make two captures of one program differ.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/util.h"
#include "vmm/process/clock.h"
#include "vmm/process/elf.h"
#include "vmm/process/exec_stack.h"
#include "vmm/process/mm_internal.h"
#include "vmm/process/vfs.h"

#define PIE_BASE 0x555555554000ull

enum {
	SCRIPT_DEPTH_MAX = 5,  /* Linux: binfmt_script */
	SCRIPT_LINE_MAX = 256, /* BINPRM_BUF_SIZE */
	ARGS_MAX = 65536,
	STACK_ROOM = 128 * 1024 /* mapped below the arguments at start */
};

/** struct exec - what is known while a program is being loaded. */
struct exec {
	struct proc *p;
	struct file *file;
	char path[VFS_PATH_MAX];
	char **argv; /**< heap array of heap strings */
	size_t argc;
	struct elf_image *image;
	uint64_t base;	      /**< added to the program's addresses */
	uint64_t interp_base; /**< where the interpreter was loaded, 0 without one */
	uint64_t entry;
};

static int64_t read_file_at(struct proc *p, struct file *f, void *buf, size_t n, uint64_t offset)
{
	size_t done = 0;

	while (done < n) {
		struct iovec iov = {(char *)buf + done, n - done};
		int64_t got = offset <= INT64_MAX - n
				      ? f->ops->read(p, f, &iov, 1, (int64_t)(offset + done))
				      : 0;

		if (got < 0)
			return got;
		if (!got)
			break;
		done += (size_t)got;
	}
	return (int64_t)done;
}

/** struct elf_source - the argument of elf_read(). */
struct elf_source {
	struct proc *p;
	struct file *file;
};

static int64_t elf_read(void *arg, void *buf, size_t n, uint64_t offset)
{
	struct elf_source *s = arg;

	return read_file_at(s->p, s->file, buf, n, offset);
}

/** Open a file that is to be executed; log what is wrong with it. */
static int open_program(struct proc *p, const char *path, struct file **ret)
{
	struct file *f = NULL;
	struct stat st;
	int err = vfs_open(p, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0, &f);

	if (err || !f) {
		log_error("exec: %s: %s (paths are those inside the guest's root)", path,
			  strerror(-err));
		return err ? err : -ENOENT;
	}
	err = f->ops->stat ? f->ops->stat(p, f, &st) : -EACCES;
	if (!err && (!S_ISREG(st.st_mode) || !f->ops->read)) {
		log_error("exec: %s: not a regular file", path);
		err = -EACCES;
	} else if (!err && !(st.st_mode & 0111)) {
		log_error("exec: %s: not executable (chmod +x)", path);
		err = -EACCES;
	}
	if (err)
		file_put(p, f);
	else
		*ret = f;
	return err;
}

/* ---- scripts -------------------------------------------------------------------------------- */

static int args_insert(struct exec *x, size_t at, const char *text)
{
	char **argv = reallocarray(x->argv, x->argc + 1, sizeof(*argv));
	char *copy = strdup(text);

	if (argv)
		x->argv = argv;
	if (!argv || !copy) {
		free(copy);
		return -ENOMEM;
	}
	memmove(&argv[at + 1], &argv[at], (x->argc - at) * sizeof(*argv));
	argv[at] = copy;
	x->argc++;
	return 0;
}

/**
 * Put interpreter, its one optional argument and the script's path before the arguments.
 * @line: NUL-terminated text after "#!"
 */
static int apply_script_line(struct exec *x, char *line)
{
	char *interp = line + strspn(line, " \t");
	char *arg;
	size_t n;
	int err = 0;

	line[strcspn(line, "\n")] = '\0';
	for (n = strlen(interp); n > 0 && strchr(" \t\r", interp[n - 1]); n--)
		interp[n - 1] = '\0';
	if (!*interp) {
		log_error("exec: %s: the #! line names no interpreter", x->path);
		return -ENOEXEC;
	}
	arg = interp + strcspn(interp, " \t");
	if (*arg) {
		*arg++ = '\0';
		arg += strspn(arg, " \t");
	}
	/* The script's own name replaces argv[0]. */
	if (x->argc > 0) {
		free(x->argv[0]);
		memmove(x->argv, x->argv + 1, --x->argc * sizeof(*x->argv));
	}
	err = args_insert(x, 0, x->path);
	if (!err && *arg)
		err = args_insert(x, 0, arg);
	if (!err)
		err = args_insert(x, 0, interp);
	if (!err && strlen(interp) >= sizeof(x->path))
		err = -ENAMETOOLONG;
	if (!err)
		memcpy(x->path, interp, strlen(interp) + 1);
	return err;
}

/** Follow #! lines until the file is a program. On success x->file is open. */
static int resolve_scripts(struct exec *x)
{
	for (int depth = 0; depth <= SCRIPT_DEPTH_MAX; depth++) {
		char head[SCRIPT_LINE_MAX] = {0};
		int64_t n;
		int err = open_program(x->p, x->path, &x->file);

		if (err)
			return err;
		n = read_file_at(x->p, x->file, head, sizeof(head) - 1, 0);
		if (n < 0)
			return (int)n;
		if (head[0] != '#' || head[1] != '!')
			return 0;
		if (!strchr(head, '\n') && n == sizeof(head) - 1) {
			log_error("exec: %s: the #! line is longer than %d bytes", x->path,
				  SCRIPT_LINE_MAX - 1);
			return -ENOEXEC;
		}
		file_put(x->p, x->file);
		x->file = NULL;
		err = apply_script_line(x, head + 2);
		if (err)
			return err;
	}
	log_error("exec: %s: more than %d scripts run each other", x->path, SCRIPT_DEPTH_MAX);
	return -ELOOP;
}

/* ---- images --------------------------------------------------------------------------------- */

/** Zero memory from the end of a segment's file part to the end of its page, and map the rest. */
static int map_bss(struct proc *p, const struct elf_segment *s, uint64_t vaddr)
{
	static const uint8_t zeros[PAGE_BYTES];
	uint64_t file_end = vaddr + s->file_bytes, mem_end = vaddr + s->mem_bytes;
	uint64_t start = align_up(file_end, PAGE_BYTES);
	int64_t at = 0;

	if (!s->file_bytes && vaddr % PAGE_BYTES && !mm_mapped(p, vaddr, 1))
		start = align_down(vaddr, PAGE_BYTES);
	else if (s->prot & PROT_WRITE && file_end < start && mem_end > file_end &&
		 mm_copy_out(p, file_end, zeros, start - file_end))
		return -EFAULT;
	if (align_up(mem_end, PAGE_BYTES) > start)
		at = mm_map(p, start, align_up(mem_end, PAGE_BYTES) - start, s->prot,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0);
	return at < 0 ? (int)at : 0;
}

static int map_segment(struct proc *p, struct file *file, const struct elf_segment *s,
		       uint64_t base)
{
	uint64_t vaddr = base + s->vaddr;
	uint64_t start = align_down(vaddr, PAGE_BYTES);

	if (s->file_bytes) {
		uint64_t end = align_up(vaddr + s->file_bytes, PAGE_BYTES);
		int64_t at = mm_map(p, start, end - start, s->prot, MAP_PRIVATE | MAP_FIXED, file,
				    align_down(s->offset, PAGE_BYTES));

		if (at < 0)
			return (int)at;
	}
	return map_bss(p, s, vaddr);
}

/**
 * Map all segments of an image.
 * @want: address for a position-independent image, 0 for any
 * @ret_base: what was added to its addresses
 */
static int map_image(struct proc *p, struct file *file, const struct elf_image *e, uint64_t want,
		     uint64_t *ret_base)
{
	uint64_t span = e->high - e->low;
	uint64_t base = 0;

	if (e->pie) {
		uint64_t bytes = span + e->align;
		int64_t at =
			mm_map(p, want, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, 0);

		if (at < 0)
			return (int)at;
		mm_unmap(p, (uint64_t)at, bytes);
		base = align_up((uint64_t)at, e->align) - align_down(e->low, e->align);
		/* The alignment of a first segment that is less aligned than the rest. */
		if (base + e->low < (uint64_t)at || base + e->high > (uint64_t)at + bytes)
			base = (uint64_t)at - e->low;
	}
	for (uint32_t i = 0; i < e->segment_count; i++) {
		int err = map_segment(p, file, &e->segments[i], base);

		if (err)
			return err;
	}
	*ret_base = base;
	return 0;
}

static int load_interp(struct exec *x)
{
	struct elf_image *image = malloc(sizeof(*image));
	struct file *file = NULL;
	struct elf_source source = {.p = x->p};
	const char *why = "";
	int err = image ? open_program(x->p, x->image->interp, &file) : -ENOMEM;

	if (!err) {
		source.file = file;
		err = elf_parse(elf_read, &source, image, &why);
		if (err)
			log_error("exec: %s, the interpreter of %s: %s", x->image->interp, x->path,
				  why);
	}
	if (!err)
		err = map_image(x->p, file, image, 0, &x->interp_base);
	if (!err)
		x->entry = x->interp_base + image->entry;
	if (file)
		file_put(x->p, file);
	free(image);
	return err;
}

static int load_program(struct exec *x)
{
	struct elf_source source = {x->p, x->file};
	const char *why;
	int err = elf_parse(elf_read, &source, x->image, &why);

	if (err) {
		log_error("exec: %s: %s", x->path, why);
		return err;
	}
	err = map_image(x->p, x->file, x->image, PIE_BASE, &x->base);
	if (err)
		return err;
	mm_set_brk(x->p, x->base + x->image->high);
	x->entry = x->base + x->image->entry;
	return x->image->interp[0] ? load_interp(x) : 0;
}

/* ---- the first registers -------------------------------------------------------------------- */

static void fill_auxv(struct exec *x, struct exec_stack *s)
{
	const struct elf_image *e = x->image;

	exec_stack_aux(s, AT_SYSINFO_EHDR, x->p->mm->exec.vdso);
	exec_stack_aux(s, AT_HWCAP, x->p->vm->cpu_features[GUEST_CPU_1_EDX]);
	exec_stack_aux(s, AT_PAGESZ, PAGE_BYTES);
	exec_stack_aux(s, AT_CLKTCK, 100);
	exec_stack_aux(s, AT_PHDR, e->phdr_vaddr ? x->base + e->phdr_vaddr : 0);
	exec_stack_aux(s, AT_PHENT, sizeof(Elf64_Phdr));
	exec_stack_aux(s, AT_PHNUM, e->phdr_count);
	exec_stack_aux(s, AT_BASE, x->interp_base);
	exec_stack_aux(s, AT_FLAGS, 0);
	exec_stack_aux(s, AT_ENTRY, x->base + e->entry);
	exec_stack_ids(s);
}

static int build_stack(struct exec *x, char *const envp[], uint64_t *ret_sp)
{
	struct mm_exec *info = &x->p->mm->exec;
	struct exec_stack s = {.argv = x->argv, .argc = x->argc, .envp = envp, .name = x->path};
	uint64_t bottom;
	int64_t at;
	int err = vdso_map(x->p, &info->vdso);

	if (err)
		return err;
	fill_auxv(x, &s);
	err = exec_stack_build(&s, STACK_TOP, STACK_LIMIT / 4);
	if (err) {
		log_error("exec: %s: arguments and environment: %s", x->path, strerror(-err));
		return err;
	}
	bottom = align_down(s.sp, PAGE_BYTES) - STACK_ROOM;
	at = mm_map(x->p, bottom, STACK_TOP - bottom,
		    PROT_READ | PROT_WRITE | (x->image->exec_stack ? PROT_EXEC : 0),
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, NULL, 0);
	err = at < 0 ? (int)at : mm_copy_out(x->p, s.sp, s.image, s.bytes);
	if (!err) {
		memcpy(info->path, x->path, sizeof(info->path));
		info->arg_start = s.arg_start;
		info->arg_end = info->env_start = s.env_start;
		info->env_end = s.env_end;
		memcpy(info->auxv, s.auxv, sizeof(info->auxv));
		info->auxv_words = s.auxv_words;
		*ret_sp = s.sp;
	}
	free(s.image);
	return err;
}

/* Source: System V ABI x86-64, 3.4.1: the state a process starts with. */
static void fill_user(struct user_state *u, uint64_t entry, uint64_t sp)
{
	static const uint16_t fcw = 0x37f;
	static const uint32_t mxcsr = 0x1f80;
	static const uint64_t xstate_bv = 3; /* x87, SSE; AVX in its initial state */

	memset(u, 0, sizeof(*u));
	u->regs.rip = entry;
	u->regs.rsp = sp;
	u->regs.rflags = 0x202; /* IF and the bit that is always 1 */
	memcpy(u->xsave, &fcw, sizeof(fcw));
	memcpy(u->xsave + 24, &mxcsr, sizeof(mxcsr));
	memcpy(u->xsave + 512, &xstate_bv, sizeof(xstate_bv));
}

static int exec_run(struct exec *x, char *const envp[], struct user_state *ret_user)
{
	uint64_t sp;
	int err = resolve_scripts(x);

	if (!err)
		err = load_program(x);
	if (!err)
		err = build_stack(x, envp, &sp);
	if (!err)
		fill_user(ret_user, x->entry, sp);
	return err;
}

int exec_load(struct proc *p, const char *path, char *const argv[], char *const envp[],
	      struct user_state *ret_user)
{
	struct exec *x = calloc(1, sizeof(*x));
	int err = 0;

	if (!x)
		return -ENOMEM;
	x->p = p;
	x->image = malloc(sizeof(*x->image));
	if (!x->image)
		err = -ENOMEM;
	if (!err && strlen(path) >= sizeof(x->path))
		err = -ENAMETOOLONG;
	if (!err)
		memcpy(x->path, path, strlen(path) + 1);
	for (size_t i = 0; !err && argv[i]; i++)
		err = i < ARGS_MAX ? args_insert(x, i, argv[i]) : -E2BIG;
	if (!err)
		err = exec_run(x, envp, ret_user);
	if (x->file)
		file_put(p, x->file);
	for (size_t i = 0; i < x->argc; i++)
		free(x->argv[i]);
	free(x->argv);
	free(x->image);
	free(x);
	return err;
}
