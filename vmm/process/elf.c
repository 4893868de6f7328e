/* SPDX-License-Identifier: Apache-2.0 */
/* elf.c - ELF program files: from hostile bytes to a checked description */
#include "vmm/process/elf.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "include/guest_abi.h"

/** Linux: load_elf_phdrs() takes at most 64 KiB of program headers. */
enum { PHDR_COUNT_MAX = 65536 / sizeof(Elf64_Phdr) };

static int refuse(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -ENOEXEC;
}

static const char *foreign_machine(uint16_t machine)
{
	switch (machine) {
	case EM_386:
		return "a 32-bit x86 program: build it for x86-64";
	case EM_AARCH64:
		return "an ARM64 program: build it for x86-64";
	case EM_ARM:
		return "a 32-bit ARM program: build it for x86-64";
	case EM_RISCV:
		return "a RISC-V program: build it for x86-64";
	case EM_PPC64:
		return "a POWER program: build it for x86-64";
	case EM_S390:
		return "an IBM Z program: build it for x86-64";
	default:
		return "a program for another processor: build it for x86-64";
	}
}

static int check_header(const Elf64_Ehdr *h, int64_t n, const char **ret_why)
{
	if (n < (int64_t)SELFMAG || memcmp(h->e_ident, ELFMAG, SELFMAG))
		return refuse(ret_why, "neither an ELF program nor a script with #!");
	if (n < (int64_t)sizeof(*h))
		return refuse(ret_why, "an ELF file cut short");
	if (h->e_ident[EI_DATA] != ELFDATA2LSB)
		return refuse(ret_why, "a big-endian program: build it for x86-64");
	if (h->e_machine != EM_X86_64)
		return refuse(ret_why, foreign_machine(h->e_machine));
	if (h->e_ident[EI_CLASS] != ELFCLASS64)
		return refuse(ret_why, "an x32 program: build it for x86-64");
	if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
		return refuse(ret_why, "an ELF file, but not a program (object or core file)");
	if (h->e_phentsize != sizeof(Elf64_Phdr) || !h->e_phnum || h->e_phnum > PHDR_COUNT_MAX)
		return refuse(ret_why, "an ELF file with damaged program headers");
	return 0;
}

static int prot_of(uint32_t flags)
{
	return (flags & PF_R ? PROT_READ : 0) | (flags & PF_W ? PROT_WRITE : 0) |
	       (flags & PF_X ? PROT_EXEC : 0);
}

static int add_segment(struct elf_image *e, const Elf64_Phdr *ph, const char **ret_why)
{
	struct elf_segment *s = &e->segments[e->segment_count];
	uint64_t end, file_end, last = e->segment_count ? s[-1].vaddr + s[-1].mem_bytes : 0;

	if (!ph->p_memsz)
		return 0;
	if (e->segment_count == ELF_SEGMENTS_MAX)
		return refuse(ret_why, "an ELF file with too many segments");
	if (ph->p_filesz > ph->p_memsz || !checked_add(ph->p_vaddr, ph->p_memsz, &end) ||
	    end > GUEST_USER_GVA_MAX || !checked_add(ph->p_offset, ph->p_filesz, &file_end) ||
	    file_end > INT64_MAX - PAGE_BYTES)
		return refuse(ret_why, "an ELF file with a segment that is out of range");
	if (ph->p_filesz && (ph->p_vaddr - ph->p_offset) % PAGE_BYTES)
		return refuse(ret_why, "an ELF file with a segment that cannot be mapped");
	if (ph->p_vaddr < last)
		return refuse(ret_why, "an ELF file with segments that overlap or are unsorted");
	if (ph->p_align > PAGE_BYTES && !(ph->p_align & (ph->p_align - 1)) &&
	    ph->p_align <= MIB(1024))
		e->align = MAX(e->align, ph->p_align);
	s->vaddr = ph->p_vaddr;
	s->offset = ph->p_offset;
	s->file_bytes = ph->p_filesz;
	s->mem_bytes = ph->p_memsz;
	s->prot = prot_of(ph->p_flags);
	if (!e->segment_count)
		e->low = align_down(s->vaddr, PAGE_BYTES);
	e->high = align_up(end, PAGE_BYTES);
	e->segment_count++;
	return 0;
}

static int read_interp(elf_read_fn read_at, void *arg, struct elf_image *e, const Elf64_Phdr *ph,
		       const char **ret_why)
{
	int64_t n;

	if (e->interp[0])
		return 0; /* Linux takes the first one */
	if (ph->p_filesz < 2 || ph->p_filesz > sizeof(e->interp))
		return refuse(ret_why, "an ELF file with a damaged interpreter name");
	n = read_at(arg, e->interp, ph->p_filesz, ph->p_offset);
	if (n < 0)
		return (int)n;
	if ((uint64_t)n != ph->p_filesz || e->interp[n - 1])
		return refuse(ret_why, "an ELF file with a damaged interpreter name");
	return 0;
}

static int take_phdr(elf_read_fn read_at, void *arg, struct elf_image *e, const Elf64_Phdr *ph,
		     const char **ret_why)
{
	switch (ph->p_type) {
	case PT_LOAD:
		return add_segment(e, ph, ret_why);
	case PT_INTERP:
		return read_interp(read_at, arg, e, ph, ret_why);
	case PT_GNU_STACK:
		e->exec_stack = ph->p_flags & PF_X;
		return 0;
	default:
		return 0;
	}
}

/** Where the segments put the program headers. */
static uint64_t find_phdrs(const struct elf_image *e, uint64_t offset)
{
	for (uint32_t i = 0; i < e->segment_count; i++) {
		const struct elf_segment *s = &e->segments[i];

		if (offset >= s->offset && offset - s->offset < s->file_bytes)
			return s->vaddr + (offset - s->offset);
	}
	return 0;
}

int elf_parse(elf_read_fn read_at, void *arg, struct elf_image *ret, const char **ret_why)
{
	CLEANUP_FREE Elf64_Phdr *phdrs = NULL;
	Elf64_Ehdr h = {0};
	int64_t n = read_at(arg, &h, sizeof(h), 0);
	size_t bytes;
	int err;

	memset(ret, 0, sizeof(*ret));
	ret->align = PAGE_BYTES;
	*ret_why = "cannot be read";
	if (n < 0)
		return (int)n;
	err = check_header(&h, n, ret_why);
	if (err)
		return err;
	bytes = h.e_phnum * sizeof(*phdrs);
	phdrs = malloc(bytes);
	if (!phdrs)
		return -ENOMEM;
	n = read_at(arg, phdrs, bytes, h.e_phoff);
	if (n < 0)
		return (int)n;
	if ((uint64_t)n != bytes)
		return refuse(ret_why, "an ELF file cut short");
	ret->pie = h.e_type == ET_DYN;
	ret->entry = h.e_entry;
	ret->phdr_count = h.e_phnum;
	for (uint32_t i = 0; i < h.e_phnum && !err; i++)
		err = take_phdr(read_at, arg, ret, &phdrs[i], ret_why);
	if (err)
		return err;
	if (!ret->segment_count)
		return refuse(ret_why, "an ELF file with nothing to load");
	if (!ret->pie && ret->low < GUEST_USER_GVA_MIN)
		return refuse(ret_why, "a program linked below the first 64 KiB of memory");
	if (ret->entry < ret->low || ret->entry >= ret->high)
		return refuse(ret_why, "an ELF file without an entry point: a library?");
	ret->phdr_vaddr = find_phdrs(ret, h.e_phoff);
	return 0;
}
