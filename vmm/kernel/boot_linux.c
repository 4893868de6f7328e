/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_linux.c - put a Linux kernel into a machine's memory and say where its first vCPU starts
 *
 * Theory of operation
 *
 * The file is read straight into guest memory: the kernel where it wants to be, the initrd at the
 * end of RAM, the rest below 1 MiB (layout.h). The kernel decompresses itself there; where it goes
 * then, it finds out from the E820 map. All that is checked here is that what it needs before it
 * has read the map (init_size from pref_address) is in RAM and not where the initrd is.
 */
#include "vmm/kernel/boot_linux.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/log.h"
#include "common/util.h"
#include "vmm/kernel/boot_internal.h"
#include "vmm/kernel/layout.h"
#include "vmm/kernel/power.h"

enum {
	SETUP_HEADER = 0x1f1, /* of the file, and of the zero page */
	SECTOR = 512,
	SECTORS_DEFAULT = 4,
	ENTRY_64 = 0x200, /* of the protected-mode code */
	LOADER_UNKNOWN = 0xff,
	VERSION_64 = 0x020c, /* the first protocol with xloadflags */
	ARCH_MAGIC = 0x38,   /* where Image files of arm64 and RISC-V have theirs */
};

int boot_refuse(const struct boot_image *image, int err, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_error("boot: %s: %s", image->name, text);
	return err;
}

/** A file to memory above 1 MiB, or the reason why not. */
static int read_to(const struct guest_mem *mem, int fd, uint64_t offset, uint64_t bytes,
		   uint64_t gpa)
{
	void *at = gpa >= LAYOUT_HIGH ? guest_mem_ptr(mem, (struct gpa){gpa}, bytes) : NULL;
	ssize_t n;

	if (!at)
		return -EFBIG;
	n = pread_full(fd, at, bytes, offset);
	if (n < 0)
		return (int)n;
	return (uint64_t)n == bytes ? 0 : -ENOEXEC;
}

int boot_read(const struct boot_image *image, uint64_t offset, uint64_t bytes, uint64_t gpa)
{
	int ret;

	if (offset > image->file_bytes || bytes > image->file_bytes - offset)
		return boot_refuse(image, -ENOEXEC,
				   "truncated: %llu bytes at %llu are wanted, the file has %llu",
				   (unsigned long long)bytes, (unsigned long long)offset,
				   (unsigned long long)image->file_bytes);
	ret = read_to(image->mem, image->fd, offset, bytes, gpa);
	return ret ? boot_refuse(image, ret, "reading it: %s", strerror(-ret)) : 0;
}

/* ---- bzImage ---- */

/** What a file that is neither may be. */
static int refuse_unknown(const struct boot_image *image)
{
	static const struct {
		unsigned at;
		const char *magic, *what;
	} others[] = {
		{ARCH_MAGIC, "ARM\x64", "a kernel for another architecture: arm64; this is x86-64"},
		{ARCH_MAGIC, "RSC\x05", "a kernel for another architecture: riscv; this is x86-64"},
		{0, "\x1f\x8b", "compressed with gzip: give a bzImage or an ELF vmlinux"},
		{0, "\x28\xb5\x2f\xfd", "compressed with zstd: give a bzImage or an ELF vmlinux"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (!memcmp(image->head + others[i].at, others[i].magic, strlen(others[i].magic)))
			return boot_refuse(image, -ENOEXEC, "%s", others[i].what);
	return boot_refuse(image, -ENOEXEC,
			   "no Linux kernel: neither a bzImage nor an ELF vmlinux");
}

static int check_setup(const struct boot_image *image)
{
	const struct setup_header *s = &image->setup;

	if (s->boot_flag != 0xaa55 || s->header != 0x53726448)
		return refuse_unknown(image);
	if (s->version < VERSION_64 || !(s->loadflags & LOADED_HIGH))
		return boot_refuse(image, -ENOEXEC,
				   "boot protocol %u.%02u is too old: 2.12 is needed",
				   s->version >> 8, s->version & 0xff);
	if (!(s->xloadflags & XLF_KERNEL_64))
		return boot_refuse(image, -ENOEXEC,
				   "a kernel for another architecture: 32-bit x86; this is x86-64");
	return 0;
}

static int load_bzimage(struct boot_image *image)
{
	struct setup_header *s = &image->setup;
	uint64_t offset, bytes, end;
	size_t known;
	int ret;

	memcpy(s, image->head + SETUP_HEADER, sizeof(*s));
	ret = check_setup(image);
	if (ret)
		return ret;
	/* A later protocol may have a longer header, an earlier one a shorter one (0x201). */
	known = 0x202 - SETUP_HEADER + (size_t)(s->jump >> 8);
	if (known < sizeof(*s))
		memset((uint8_t *)s + known, 0, sizeof(*s) - known);
	offset = ((s->setup_sects ? s->setup_sects : SECTORS_DEFAULT) + 1ull) * SECTOR;
	bytes = (uint64_t)s->syssize * 16;
	if (bytes < ENTRY_64 || s->pref_address < LAYOUT_HIGH ||
	    !checked_add(s->pref_address, MAX((uint64_t)s->init_size, bytes), &end))
		return boot_refuse(image, -ENOEXEC, "a damaged setup header");
	if (end > image->mem->ram_bytes)
		return boot_refuse(
			image, -EFBIG,
			"it needs memory up to 0x%llx to start: give it more than %llu MiB",
			(unsigned long long)end, (unsigned long long)(image->mem->ram_bytes >> 20));
	image->end = end;
	image->entry = (struct boot_entry){.rip = s->pref_address + ENTRY_64};
	return boot_read(image, offset, bytes, s->pref_address);
}

/* ---- what both kinds get ---- */

/** struct initrd - where it was put. */
struct initrd {
	uint64_t gpa, bytes;
};

static int load_initrd(const struct boot_image *image, const struct boot_linux *boot,
		       struct initrd *ret)
{
	uint64_t top = MIN(image->mem->ram_bytes, (uint64_t)image->setup.initrd_addr_max + 1);
	struct stat st;
	int err;

	*ret = (struct initrd){0};
	if (boot->initrd_fd < 0)
		return 0;
	err = fstat(boot->initrd_fd, &st) ? -errno : 0;
	if (!err && (image->end > top || (uint64_t)st.st_size > top - image->end))
		err = -EFBIG;
	if (!err) {
		ret->bytes = (uint64_t)st.st_size;
		ret->gpa = align_down(top - ret->bytes, PAGE_BYTES);
		err = ret->gpa < image->end
			      ? -EFBIG
			      : read_to(image->mem, boot->initrd_fd, 0, ret->bytes, ret->gpa);
	}
	if (err == -EFBIG)
		log_error("boot: %s: the initrd does not fit beside the kernel into %llu MiB",
			  boot->initrd_name, (unsigned long long)(image->mem->ram_bytes >> 20));
	else if (err)
		log_error("boot: %s: reading the initrd: %s", boot->initrd_name, strerror(-err));
	return err;
}

static int put_cmdline(const struct guest_mem *mem, const char *cmdline)
{
	size_t n = strlen(cmdline) + 1;
	void *at = guest_mem_ptr(mem, (struct gpa){LAYOUT_CMDLINE}, n);

	if (n > LAYOUT_CMDLINE_BYTES || !at) {
		log_error("boot: the command line has %zu bytes, and may have %u", n - 1,
			  LAYOUT_CMDLINE_BYTES - 1);
		return -E2BIG;
	}
	memcpy(at, cmdline, n);
	return 0;
}

/** The map of memory: two areas of RAM, and what stays ours between them. */
static unsigned make_e820(const struct guest_mem *mem, struct boot_e820_entry map[3])
{
	map[0] = (struct boot_e820_entry){.addr = 0, .size = LAYOUT_LOW_END, .type = 1};
	map[1] = (struct boot_e820_entry){
		.addr = LAYOUT_LOW_END, .size = LAYOUT_HIGH - LAYOUT_LOW_END, .type = 2};
	map[2] = (struct boot_e820_entry){
		.addr = LAYOUT_HIGH, .size = mem->ram_bytes - LAYOUT_HIGH, .type = 1};
	return 3;
}

static void put_zero_page(const struct boot_image *image, const struct initrd *initrd)
{
	struct boot_params *zero =
		guest_mem_ptr(image->mem, (struct gpa){LAYOUT_ZERO_PAGE}, sizeof(*zero));
	struct boot_e820_entry map[3];

	memset(zero, 0, sizeof(*zero));
	zero->hdr = image->setup;
	zero->hdr.type_of_loader = LOADER_UNKNOWN;
	zero->hdr.cmd_line_ptr = (uint32_t)LAYOUT_CMDLINE;
	zero->hdr.ramdisk_image = (uint32_t)initrd->gpa;
	zero->hdr.ramdisk_size = (uint32_t)initrd->bytes;
	zero->acpi_rsdp_addr = LAYOUT_ACPI;
	zero->e820_entries = (uint8_t)make_e820(image->mem, map);
	memcpy(zero->e820_table, map, sizeof(map));
}

/** struct pvh_info and its parts (xen/include/public/arch-x86/hvm/start_info.h, version 1). */
struct pvh_info {
	uint32_t magic, version, flags, modules;
	uint64_t module_list, cmdline, rsdp, memory_map;
	uint32_t memory_entries, reserved;
};
struct pvh_module {
	uint64_t gpa, bytes, cmdline, reserved;
};
struct pvh_memory {
	uint64_t gpa, bytes;
	uint32_t type, reserved;
};

static void put_pvh_info(const struct boot_image *image, const struct initrd *initrd)
{
	struct pvh {
		struct pvh_info info;
		struct pvh_module module;
		struct pvh_memory memory[3];
	} *pvh = guest_mem_ptr(image->mem, (struct gpa){LAYOUT_PVH_INFO}, sizeof(*pvh));
	struct boot_e820_entry map[3];

	memset(pvh, 0, sizeof(*pvh));
	pvh->info = (struct pvh_info){
		.magic = 0x336ec578,
		.version = 1,
		.modules = initrd->bytes != 0,
		.module_list = LAYOUT_PVH_INFO + offsetof(struct pvh, module),
		.cmdline = LAYOUT_CMDLINE,
		.rsdp = LAYOUT_ACPI,
		.memory_map = LAYOUT_PVH_INFO + offsetof(struct pvh, memory),
		.memory_entries = make_e820(image->mem, map),
	};
	pvh->module = (struct pvh_module){.gpa = initrd->gpa, .bytes = initrd->bytes};
	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		pvh->memory[i] = (struct pvh_memory){
			.gpa = map[i].addr, .bytes = map[i].size, .type = map[i].type};
}

/* ---- the first vCPU ---- */

enum { SELECTOR_CODE = 0x10, SELECTOR_DATA = 0x18, SELECTOR_TSS = 0x20 };

static struct kvm_segment code_segment(bool long_mode)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = SELECTOR_CODE,
				    .type = 11, /* execute, read, accessed */
				    .present = 1,
				    .db = !long_mode,
				    .s = 1,
				    .l = long_mode,
				    .g = 1};
}

static struct kvm_segment data_segment(void)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = SELECTOR_DATA,
				    .type = 3, /* read, write, accessed */
				    .present = 1,
				    .db = 1,
				    .s = 1,
				    .g = 1};
}

/** The descriptor of a flat segment: all that is needed is its base 0 and limit of 4 GiB. */
static uint64_t descriptor(const struct kvm_segment *s)
{
	return 0x000f00000000ffffull | (uint64_t)s->type << 40 | (uint64_t)s->s << 44 |
	       (uint64_t)s->present << 47 | (uint64_t)s->l << 53 | (uint64_t)s->db << 54 |
	       (uint64_t)s->g << 55;
}

static void put_gdt(const struct guest_mem *mem, bool long_mode)
{
	uint64_t *gdt = guest_mem_ptr(mem, (struct gpa){LAYOUT_GDT}, 4 * sizeof(*gdt));
	struct kvm_segment code = code_segment(long_mode), data = data_segment();

	gdt[0] = gdt[1] = 0;
	gdt[SELECTOR_CODE / 8] = descriptor(&code);
	gdt[SELECTOR_DATA / 8] = descriptor(&data);
}

/** The first 4 GiB where they are, by pages of 2 MiB. */
static void put_page_tables(const struct guest_mem *mem)
{
	enum { GIBS = 4, ENTRIES = 512, PRESENT_WRITE = 3, LARGE = 0x80 };
	uint64_t(*tables)[ENTRIES] =
		guest_mem_ptr(mem, (struct gpa){LAYOUT_PML4}, (2 + GIBS) * PAGE_BYTES);

	memset(tables, 0, (2 + GIBS) * PAGE_BYTES);
	tables[0][0] = (LAYOUT_PML4 + PAGE_BYTES) | PRESENT_WRITE;
	for (unsigned i = 0; i < GIBS; i++) {
		tables[1][i] = (LAYOUT_PML4 + (2 + i) * PAGE_BYTES) | PRESENT_WRITE;
		for (unsigned k = 0; k < ENTRIES; k++)
			tables[2 + i][k] = GIB(i) | MIB(2) * k | PRESENT_WRITE | LARGE;
	}
}

void boot_linux_registers(const struct boot_entry *entry, struct kvm_regs *ret_regs,
			  struct kvm_sregs *sregs)
{
	bool long_mode = entry->protocol == BOOT_PROTOCOL_64;

	*ret_regs = (struct kvm_regs){.rflags = 2, .rip = entry->rip, .rsp = LAYOUT_STACK};
	if (long_mode)
		ret_regs->rsi = entry->info;
	else
		ret_regs->rbx = entry->info;
	sregs->cs = code_segment(long_mode);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data_segment();
	sregs->tr = (struct kvm_segment){
		.limit = 0x67, .selector = SELECTOR_TSS, .type = 11, .present = 1};
	sregs->gdt = (struct kvm_dtable){.base = LAYOUT_GDT, .limit = 4 * 8 - 1};
	sregs->idt = (struct kvm_dtable){0};
	sregs->cr0 = 0x11; /* PE, ET */
	sregs->cr4 = 0;
	sregs->efer = 0;
	if (long_mode) {
		sregs->cr0 |= 1u << 31; /* PG */
		sregs->cr3 = LAYOUT_PML4;
		sregs->cr4 = 1u << 5;		  /* PAE */
		sregs->efer = 1u << 8 | 1u << 10; /* LME, LMA */
	}
}

/**
 * What a BIOS has at its reset vector. Linux on hardware-reduced ACPI wants EFI to reset the
 * machine (efi_reboot_required()), and finding none it goes back to real mode and jumps there.
 */
static void put_reset_vector(const struct guest_mem *mem)
{
	static const uint8_t code[] = {
		0xb0, POWER_I8042_RESET,	 /* mov al, RESET */
		0xe6, LAYOUT_PORT_I8042_COMMAND, /* out COMMAND, al */
		0xf4,				 /* hlt */
	};

	memcpy(guest_mem_ptr(mem, (struct gpa){LAYOUT_RESET_VECTOR}, sizeof(code)), code,
	       sizeof(code));
}

static int open_image(struct boot_image *image)
{
	struct stat st;
	ssize_t n;

	if (fstat(image->fd, &st))
		return boot_refuse(image, -errno, "%s", strerror(errno));
	image->file_bytes = (uint64_t)st.st_size;
	n = pread_full(image->fd, image->head, sizeof(image->head), 0);
	if (n < 0)
		return boot_refuse(image, (int)n, "%s", strerror((int)-n));
	return n < (ssize_t)sizeof(struct boot_params)
		       ? boot_refuse(image, -ENOEXEC, "truncated: %zd bytes are no kernel", n)
		       : 0;
}

int boot_linux_load(const struct guest_mem *mem, const struct boot_linux *boot,
		    struct boot_entry *ret_entry)
{
	struct boot_image image = {.mem = mem, .fd = boot->kernel_fd, .name = boot->kernel_name};
	struct initrd initrd;
	int ret = open_image(&image);

	if (!ret)
		ret = boot_is_elf(&image) ? boot_load_elf(&image) : load_bzimage(&image);
	if (!ret)
		ret = load_initrd(&image, boot, &initrd);
	if (!ret)
		ret = put_cmdline(mem, boot->cmdline);
	if (ret)
		return ret;
	put_reset_vector(mem);
	put_gdt(mem, image.entry.protocol == BOOT_PROTOCOL_64);
	if (image.entry.protocol == BOOT_PROTOCOL_64) {
		put_page_tables(mem);
		put_zero_page(&image, &initrd);
		image.entry.info = LAYOUT_ZERO_PAGE;
	} else {
		put_pvh_info(&image, &initrd);
		image.entry.info = LAYOUT_PVH_INFO;
	}
	*ret_entry = image.entry;
	return 0;
}
