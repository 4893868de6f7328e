/* SPDX-License-Identifier: Apache-2.0 */
/* synth_file.c - the tree of /proc, /dev and /sys, and open descriptions of its nodes */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/sysmacros.h>

#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/synth.h"
#include "vmm/process/task.h"
#include "vmm/process/vfs_node.h"

#define PROC	 "/proc/1"
#define TASK_DIR PROC "/task/"

/** What one read of a device gives at most, so that no call runs for long. */
enum { DEVICE_READ_MAX = 32 << 20 };

/** What all open descriptions keep of their texts. */
enum { TEXTS_MAX = 16 << 20 };

enum { MINOR_NULL = 3, MINOR_ZERO = 5, MINOR_FULL = 7, MINOR_RANDOM = 8, MINOR_URANDOM = 9 };

/**
 * struct synth_file - an open node.
 * @text: written at the first read; a restored description writes it again
 */
struct synth_file {
	struct synth_ref ref;
	bool written;
	struct synth_text text;
};

/* ---- lookup --------------------------------------------------------------------------------- */

static const struct synth_entry *entry_by_path(const char *path)
{
	const struct synth_entry *e;

	for (e = synth_entries; e->path; e++)
		if (!strcmp(e->path, path))
			return e;
	return NULL;
}

/* A decimal number up to the next slash. Return: what follows it, or NULL. */
static const char *number_parse(const char *s, int *ret)
{
	int value = 0;

	if (*s < '0' || *s > '9' || (*s == '0' && s[1] >= '0' && s[1] <= '9'))
		return NULL;
	for (; *s >= '0' && *s <= '9'; s++) {
		if (value > 100000)
			return NULL;
		value = value * 10 + (*s - '0');
	}
	*ret = value;
	return *s && *s != '/' ? NULL : s;
}

/* /proc/1/task/N has what /proc/1 has, without another task. */
static bool task_lookup(struct proc *p, const char *path, struct synth_ref *ret)
{
	char own[64];
	int tid;
	const char *rest = number_parse(path + strlen(TASK_DIR), &tid);

	if (!rest || !task_by_tid(p, tid))
		return false;
	ret->num = tid;
	ret->entry = &synth_task_dir;
	if (!*rest)
		return true;
	if (!strncmp(rest, "/task", 5) || strlen(rest) > 32)
		return false;
	snprintf(own, sizeof(own), PROC "%s", rest);
	ret->entry = entry_by_path(own);
	return ret->entry != NULL;
}

bool synth_lookup(struct proc *p, const char *path, struct synth_ref *ret)
{
	static const struct {
		const char *prefix;
		const struct synth_entry *entry;
	} by_fd[] = {{PROC "/fd/", &synth_fd_link}, {PROC "/fdinfo/", &synth_fdinfo}};
	const char *rest;

	*ret = (struct synth_ref){0};
	if (!strncmp(path, TASK_DIR, strlen(TASK_DIR)))
		return task_lookup(p, path, ret);
	for (size_t i = 0; i < ARRAY_SIZE(by_fd); i++) {
		size_t len = strlen(by_fd[i].prefix);

		if (strncmp(path, by_fd[i].prefix, len))
			continue;
		rest = number_parse(path + len, &ret->num);
		ret->entry = by_fd[i].entry;
		return rest && !*rest && fd_get(p, ret->num);
	}
	ret->entry = entry_by_path(path);
	return ret->entry != NULL;
}

mode_t synth_mode(struct synth_ref ref)
{
	switch (ref.entry ? ref.entry->kind : SYNTH_DIR) {
	case SYNTH_DIR:
	case SYNTH_FD_DIR:
	case SYNTH_TASK_DIR:
		return S_IFDIR | (ref.entry ? ref.entry->mode : 0555);
	case SYNTH_LINK:
	case SYNTH_SELF_LINK:
	case SYNTH_FD_LINK:
		return S_IFLNK | ref.entry->mode;
	case SYNTH_DEVICE:
		return S_IFCHR | ref.entry->mode;
	default:
		return S_IFREG | ref.entry->mode;
	}
}

static uint64_t ref_ino(struct synth_ref ref)
{
	bool own = ref.entry == &synth_fd_link || ref.entry == &synth_fdinfo ||
		   ref.entry == &synth_task_dir;

	return 0x10000ull * (unsigned)ref.num + (own ? 0x8000 + (unsigned)ref.entry->kind
						     : 16 + (uint64_t)(ref.entry - synth_entries));
}

static enum vfs_mount ref_mount(struct synth_ref ref)
{
	if (!strncmp(ref.entry->path, "/dev", 4))
		return VFS_DEV;
	return !strncmp(ref.entry->path, "/sys", 4) ? VFS_SYS : VFS_PROC;
}

static dev_t device_number(const struct synth_entry *e)
{
	return e->device >> 8 ? makedev(e->device >> 8, 0) : makedev(1, e->device);
}

void synth_stat(struct proc *p, struct synth_ref ref, struct stat *ret)
{
	(void)p;
	memset(ret, 0, sizeof(*ret));
	ret->st_dev = vfs_dev(ref_mount(ref));
	ret->st_ino = ref_ino(ref);
	ret->st_mode = synth_mode(ref);
	ret->st_nlink = S_ISDIR(ret->st_mode) ? 2 : 1;
	ret->st_blksize = PAGE_BYTES;
	if (ref.entry->kind == SYNTH_DEVICE)
		ret->st_rdev = device_number(ref.entry);
	if (ref_mount(ref) == VFS_SYS && S_ISREG(ret->st_mode))
		ret->st_size = PAGE_BYTES;
}

static int fd_link_text(struct proc *p, int fd, char *buf, size_t size, struct file **ret_magic)
{
	struct file *f = fd_get(p, fd);
	const struct tmpfs_inode *i = f ? tmpfs_inode_of(f) : NULL;
	bool gone = i && (S_ISDIR(i->mode) ? tmpfs_dir_removed(i) : !i->nlink);
	int n;

	if (!f)
		return -ENOENT;
	if (!f->path || f->path[0] != '/' || i)
		*ret_magic = f;
	if (i && S_ISDIR(i->mode) && !gone) {
		*ret_magic = NULL;
		return tmpfs_dir_path(i, buf, size);
	}
	n = f->path ? snprintf(buf, size, "%s%s", f->path, gone ? " (deleted)" : "")
		    : snprintf(buf, size, "anon_inode:[%s]", f->ops->name);
	return (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* The program file without links. */
static int exe_path(struct proc *p, char *buf, size_t size)
{
	CLEANUP_NODE struct vfs_node n;
	int err = vfs_walk(p, AT_FDCWD, mm_exec_info(p)->path, VFS_WALK_FOLLOW, &n);

	if (err)
		return err;
	return (size_t)snprintf(buf, size, "%s", n.path) >= size ? -ENAMETOOLONG : 0;
}

int synth_readlink(struct proc *p, struct synth_ref ref, char *buf, size_t size,
		   struct file **ret_magic)
{
	const struct task *t = task_current(p);
	const char *name;
	int n;

	*ret_magic = NULL;
	if (ref.entry->kind == SYNTH_FD_LINK)
		return fd_link_text(p, ref.num, buf, size, ret_magic);
	if (ref.entry->kind == SYNTH_LINK) {
		n = snprintf(buf, size, "%s", ref.entry->text);
		return (size_t)n >= size ? -ENAMETOOLONG : 0;
	}
	name = strrchr(ref.entry->path, '/') + 1;
	if (!strcmp(name, "cwd"))
		return vfs_cwd(p, buf, size);
	if (!strcmp(name, "exe"))
		return exe_path(p, buf, size);
	if (!strcmp(name, "thread-self"))
		n = snprintf(buf, size, "1/task/%d", t ? t->tid : 1);
	else
		n = snprintf(buf, size, "/");
	return (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* ---- open descriptions ---------------------------------------------------------------------- */

int synth_open(struct proc *p, struct synth_ref ref, const char *path, int flags, struct file **ret)
{
	bool write = (flags & O_ACCMODE) != O_RDONLY;
	struct synth_file *s;
	struct file *f;

	if (!(flags & O_PATH)) {
		if (ref.entry->kind == SYNTH_DEVICE && ref.entry->device >> 8)
			return -ENXIO; /* no controlling terminal */
		if (write && !(ref.entry->mode & 0200))
			return -EACCES;
	}
	s = calloc(1, sizeof(*s));
	f = s ? file_new(p, &synth_file_ops, flags, s) : NULL;
	if (!f) {
		free(s);
		return -ENOMEM;
	}
	s->ref = ref;
	f->path = strdup(*path ? path : "/");
	if (!f->path) {
		file_put(p, f);
		return -ENOMEM;
	}
	*ret = f;
	return 0;
}

static int64_t random_read(const struct iovec *iov, int n)
{
	int64_t done = 0;

	for (int i = 0; i < n && done < DEVICE_READ_MAX; i++) {
		size_t at = 0;

		while (at < iov[i].iov_len && done < DEVICE_READ_MAX) {
			ssize_t got = getrandom((uint8_t *)iov[i].iov_base + at,
						MIN(iov[i].iov_len - at, (size_t)1 << 20), 0);

			if (got < 0 && errno == EINTR)
				continue;
			if (got <= 0)
				return done ? done : -EIO;
			at += (size_t)got;
			done += got;
		}
	}
	return done;
}

static int64_t device_read(unsigned minor, const struct iovec *iov, int n)
{
	int64_t done = 0;

	if (minor == MINOR_NULL)
		return 0;
	if (minor == MINOR_RANDOM || minor == MINOR_URANDOM)
		return random_read(iov, n);
	for (int i = 0; i < n; i++) {
		memset(iov[i].iov_base, 0, iov[i].iov_len);
		done += (int64_t)iov[i].iov_len;
	}
	return done;
}

static void text_drop(struct proc *p, struct synth_file *s)
{
	p->vfs->synth_bytes -= s->text.used;
	free(s->text.data);
	s->text = (struct synth_text){0};
}

static int text_write(struct proc *p, struct synth_file *s)
{
	const struct synth_entry *e = s->ref.entry;

	text_drop(p, s);
	if (e->write)
		e->write(p, s->ref.num, &s->text);
	else if (e->text)
		synth_append(&s->text, e->text, strlen(e->text));
	s->written = true;
	p->vfs->synth_bytes += s->text.used;
	if (p->vfs->synth_bytes > TEXTS_MAX) {
		text_drop(p, s);
		return -ENOMEM;
	}
	return s->text.err == -E2BIG ? 0 : s->text.err;
}

static int64_t synth_read(struct proc *p, struct file *f, const struct iovec *iov, int n,
			  int64_t offset)
{
	struct synth_file *s = f->priv;
	uint64_t at = (uint64_t)(offset < 0 ? f->pos : offset), start = at;

	if (S_ISDIR(synth_mode(s->ref)))
		return -EISDIR;
	if (s->ref.entry->kind == SYNTH_DEVICE)
		return device_read(s->ref.entry->device, iov, n);
	if (!s->written || !at) {
		int err = text_write(p, s);

		if (err)
			return err;
	}
	for (int i = 0; i < n && at < s->text.used; i++) {
		size_t part = MIN(iov[i].iov_len, s->text.used - at);

		memcpy(iov[i].iov_base, s->text.data + at, part);
		at += part;
	}
	if (offset < 0)
		f->pos = (int64_t)at;
	return (int64_t)(at - start);
}

static void comm_set(struct proc *p, int tid, const struct iovec *iov)
{
	struct task *t = task_by_tid(p, tid ? tid : 1);
	size_t n = MIN(iov->iov_len, sizeof(t->name) - 1);

	if (!t)
		return;
	memset(t->name, 0, sizeof(t->name));
	memcpy(t->name, iov->iov_base, n);
	t->name[strcspn(t->name, "\n")] = '\0';
}

/* Settings are taken and have no effect: there is nothing behind them. */
static int64_t synth_write(struct proc *p, struct file *f, const struct iovec *iov, int n,
			   int64_t offset)
{
	struct synth_file *s = f->priv;
	int64_t total = 0;

	(void)offset;
	if (s->ref.entry->kind == SYNTH_DEVICE && s->ref.entry->device == MINOR_FULL)
		return -ENOSPC;
	for (int i = 0; i < n; i++)
		total += (int64_t)iov[i].iov_len;
	if (n && total && !strcmp(s->ref.entry->path, PROC "/comm"))
		comm_set(p, s->ref.num, iov);
	return total;
}

static int synth_file_stat(struct proc *p, struct file *f, struct stat *ret)
{
	struct synth_file *s = f->priv;

	synth_stat(p, s->ref, ret);
	return 0;
}

static int64_t synth_seek(struct proc *p, struct file *f, int64_t offset, int whence)
{
	const struct synth_file *s = f->priv;

	(void)p;
	if (s->ref.entry->kind == SYNTH_DEVICE)
		return f->pos = 0;
	if (S_ISREG(synth_mode(s->ref)) && whence == SEEK_END)
		return -EINVAL;
	return file_seek_to(f, offset, whence, 0);
}

/* Numbers as names: descriptors or tasks; their place is number + 2. */
static void numbers_put(struct proc *p, struct file *f, struct dirent_buf *out, bool fds)
{
	char name[16];

	for (int num = (int)f->pos - 2;; num++) {
		if (fds) {
			num = fd_next(p, num - 1);
			if (num < 0)
				break;
		} else if (num > TASKS_MAX * 64) {
			break;
		} else if (!task_by_tid(p, num)) {
			continue;
		}
		snprintf(name, sizeof(name), "%d", num);
		if (!dirent_put(out, 0x10000ull * (unsigned)num + 0x8000, num + 3,
				fds ? DT_LNK : DT_DIR, name))
			break;
		f->pos = num + 3;
	}
}

/* Entries of the table one name below @path; their place is index + 2. */
static void table_put(struct file *f, struct dirent_buf *out, const char *path)
{
	size_t len = strlen(path);
	int64_t index = 0;

	for (const struct synth_entry *e = synth_entries; e->path; e++, index++) {
		struct synth_ref ref = {.entry = e};

		if (index + 2 < f->pos || strncmp(e->path, path, len) || e->path[len] != '/' ||
		    strchr(e->path + len + 1, '/'))
			continue;
		if (!dirent_put(out, ref_ino(ref), index + 3, IFTODT(synth_mode(ref)),
				e->path + len + 1))
			break;
		f->pos = index + 3;
	}
}

static int64_t synth_getdents(struct proc *p, struct file *f, void *buf, size_t n)
{
	struct synth_file *s = f->priv;
	struct dirent_buf out = {.buf = buf, .size = n};
	bool task = s->ref.entry == &synth_task_dir;

	if (!S_ISDIR(synth_mode(s->ref)))
		return -ENOTDIR;
	if (f->pos == 0 && dirent_put(&out, ref_ino(s->ref), 1, DT_DIR, "."))
		f->pos = 1;
	if (f->pos == 1 && dirent_put(&out, 1, 2, DT_DIR, ".."))
		f->pos = 2;
	if (f->pos < 2 || f->pos > INT32_MAX - 16)
		return dirent_result(&out);
	if (s->ref.entry->kind == SYNTH_FD_DIR || s->ref.entry->kind == SYNTH_TASK_DIR)
		numbers_put(p, f, &out, s->ref.entry->kind == SYNTH_FD_DIR);
	else
		table_put(f, &out, task ? PROC : s->ref.entry->path);
	return dirent_result(&out);
}

static int synth_truncate(struct proc *p, struct file *f, uint64_t bytes)
{
	const struct synth_file *s = f->priv;

	(void)p;
	(void)bytes;
	return S_ISREG(synth_mode(s->ref)) ? 0 : -EINVAL;
}

static int synth_fill_page(struct proc *p, struct file *f, uint64_t offset, void *page)
{
	const struct synth_file *s = f->priv;

	(void)p;
	(void)offset;
	if (s->ref.entry->kind != SYNTH_DEVICE || s->ref.entry->device != MINOR_ZERO)
		return -ENODEV;
	memset(page, 0, PAGE_BYTES);
	return 0;
}

static void synth_release(struct proc *p, struct file *f)
{
	struct synth_file *s = f->priv;

	text_drop(p, s);
	free(s);
}

/* The name is all: {str path}. */
static int synth_save(struct proc *p, struct file *f, struct state_writer *w)
{
	(void)p;
	state_put_str(w, f->path);
	return w->err;
}

static int synth_load(struct proc *p, struct state_reader *r, struct file **ret)
{
	char path[VFS_PATH_MAX] = "";
	struct synth_ref ref;

	state_get_str(r, path, sizeof(path));
	if (r->err)
		return r->err;
	/* Tasks and descriptors are loaded later: what hangs on one is empty from then on. */
	if (!synth_lookup(p, path, &ref)) {
		if (strncmp(path, PROC "/", 8))
			return -EBADMSG;
		ref = (struct synth_ref){.entry = &synth_fdinfo, .num = -1};
	}
	return synth_open(p, ref, path, O_PATH, ret);
}

const struct file_ops synth_file_ops = {
	.type = FILE_SYNTH,
	.name = "synthesised file",
	.read = synth_read,
	.write = synth_write,
	.stat = synth_file_stat,
	.seek = synth_seek,
	.getdents = synth_getdents,
	.truncate = synth_truncate,
	.fill_page = synth_fill_page,
	.release = synth_release,
	.save = synth_save,
	.load = synth_load,
};
