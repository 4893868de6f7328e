/* SPDX-License-Identifier: Apache-2.0 */
/* boot_elf.c - load an uncompressed kernel, vmlinux, and find its PVH entry */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "common/io.h"
#include "common/util.h"
#include "vmm/kernel/boot_internal.h"
#include "vmm/kernel/layout.h"

/* The note with PVH's entry, a physical address (xen/include/public/elfnote.h). */
enum { NOTE_PHYS32_ENTRY = 18, NOTES_BYTES_MAX = 64 << 10, SEGMENTS_MAX = 64 };

bool boot_is_elf(const struct boot_image *image)
{
	return !memcmp(image->head, ELFMAG, SELFMAG);
}

static const char *machine_name(unsigned machine)
{
	switch (machine) {
	case EM_386:
		return "32-bit x86";
	case EM_AARCH64:
		return "arm64";
	case EM_ARM:
		return "arm";
	case EM_RISCV:
		return "riscv";
	case EM_PPC64:
		return "ppc64";
	case EM_S390:
		return "s390";
	default:
		return "unknown";
	}
}

static int check_header(const struct boot_image *image, const Elf64_Ehdr *eh)
{
	if (eh->e_ident[EI_DATA] != ELFDATA2LSB || eh->e_machine != EM_X86_64)
		return boot_refuse(image, -ENOEXEC,
				   "a kernel for another architecture: %s (ELF machine %u); this "
				   "is x86-64",
				   machine_name(eh->e_machine), eh->e_machine);
	if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_phentsize != sizeof(Elf64_Phdr))
		return boot_refuse(image, -ENOEXEC, "no 64-bit ELF file");
	if (!eh->e_phnum || eh->e_phnum > SEGMENTS_MAX)
		return boot_refuse(image, -ENOEXEC, "%u program headers", eh->e_phnum);
	return 0;
}

static int load_segment(struct boot_image *image, const Elf64_Phdr *ph)
{
	uint64_t end;

	if (ph->p_filesz > ph->p_memsz || !checked_add(ph->p_paddr, ph->p_memsz, &end))
		return boot_refuse(image, -ENOEXEC, "a segment with impossible sizes");
	if (ph->p_paddr < LAYOUT_HIGH || end > image->mem->ram_bytes)
		return boot_refuse(image, -EFBIG,
				   "a segment at 0x%llx of %llu bytes does not fit into %llu MiB",
				   (unsigned long long)ph->p_paddr, (unsigned long long)ph->p_memsz,
				   (unsigned long long)(image->mem->ram_bytes >> 20));
	image->end = MAX(image->end, end);
	/* What is not in the file is zero, as fresh memory is. */
	return boot_read(image, ph->p_offset, ph->p_filesz, ph->p_paddr);
}

/** Look for PVH's entry in one segment of notes; damaged ones have none. */
static void find_pvh(const uint8_t *notes, size_t n, struct boot_entry *entry)
{
	while (n >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;
		size_t name, desc;

		memcpy(&note, notes, sizeof(note));
		notes += sizeof(note);
		n -= sizeof(note);
		name = align_up(note.n_namesz, 4);
		desc = align_up(note.n_descsz, 4);
		if (name > n || desc > n - name)
			return;
		if (note.n_type == NOTE_PHYS32_ENTRY && note.n_namesz == 4 &&
		    !memcmp(notes, "Xen", 4) && note.n_descsz >= 4) {
			uint32_t rip;

			memcpy(&rip, notes + name, sizeof(rip));
			entry->protocol = BOOT_PROTOCOL_PVH;
			entry->rip = rip;
			return;
		}
		notes += name + desc;
		n -= name + desc;
	}
}

static int read_notes(struct boot_image *image, const Elf64_Phdr *ph)
{
	static uint8_t notes[NOTES_BYTES_MAX]; /* too much for a stack, and one kernel is loaded */
	ssize_t n;

	if (ph->p_filesz > sizeof(notes))
		return 0;
	n = pread_full(image->fd, notes, ph->p_filesz, ph->p_offset);
	if (n > 0)
		find_pvh(notes, (size_t)n, &image->entry);
	return n < 0 ? (int)n : 0;
}

/* The 64-bit protocol wants a setup header; an ELF file has none. */
static void make_setup(struct setup_header *setup)
{
	memset(setup, 0, sizeof(*setup));
	setup->boot_flag = 0xaa55;
	setup->header = 0x53726448; /* "HdrS" */
	setup->version = 0x020c;
	setup->kernel_alignment = 0x200000;
	setup->initrd_addr_max = 0x7fffffff;
	setup->cmdline_size = LAYOUT_CMDLINE_BYTES - 1;
}

int boot_load_elf(struct boot_image *image)
{
	Elf64_Phdr segments[SEGMENTS_MAX];
	Elf64_Ehdr eh;
	ssize_t n;
	int ret;

	memcpy(&eh, image->head, sizeof(eh));
	ret = check_header(image, &eh);
	if (ret)
		return ret;
	image->entry = (struct boot_entry){.rip = eh.e_entry};
	n = pread_full(image->fd, segments, eh.e_phnum * sizeof(segments[0]), eh.e_phoff);
	if (n != (ssize_t)(eh.e_phnum * sizeof(segments[0])))
		return boot_refuse(image, n < 0 ? (int)n : -ENOEXEC,
				   "truncated: its program headers are missing");
	for (unsigned i = 0; !ret && i < eh.e_phnum; i++) {
		if (segments[i].p_type == PT_LOAD)
			ret = load_segment(image, &segments[i]);
		else if (segments[i].p_type == PT_NOTE)
			ret = read_notes(image, &segments[i]);
	}
	if (!ret && (image->entry.rip < LAYOUT_HIGH || image->entry.rip >= image->end))
		ret = boot_refuse(image, -ENOEXEC, "its entry 0x%llx is in none of its segments",
				  (unsigned long long)image->entry.rip);
	make_setup(&image->setup);
	return ret;
}
