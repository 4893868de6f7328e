/* SPDX-License-Identifier: Apache-2.0 */
/* test_kernel_boot.c - kernels as files: those that boot, and hostile ones; no KVM */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "vmm/kernel/boot_linux.h"
#include "vmm/kernel/layout.h"

enum { KERNEL_BYTES = 0x20000, SETUP_BYTES = 5 * 512, PREF = 16 << 20 };

static struct guest_mem mem;
static uint8_t image[KERNEL_BYTES];
static struct setup_header *setup_header = (struct setup_header *)(image + 0x1f1);

/* A bzImage that is right in every way, but for being a kernel. */
static void make_bzimage(void)
{
	memset(image, 0x90, sizeof(image));
	memset(setup_header, 0, sizeof(*setup_header));
	setup_header->setup_sects = SETUP_BYTES / 512 - 1;
	setup_header->boot_flag = 0xaa55;
	setup_header->jump = (uint16_t)((sizeof(*setup_header) - 0x11) << 8 | 0xeb);
	setup_header->header = 0x53726448;
	setup_header->version = 0x020f;
	setup_header->loadflags = LOADED_HIGH;
	setup_header->xloadflags = XLF_KERNEL_64;
	setup_header->syssize = (KERNEL_BYTES - SETUP_BYTES) / 16;
	setup_header->pref_address = PREF;
	setup_header->init_size = 4 << 20;
	setup_header->initrd_addr_max = 0x7fffffff;
	setup_header->cmdline_size = 2047;
}

static int file_of(const void *data, size_t n)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write_full(fd, data, n), 0);
	return fd;
}

static int load_with(size_t bytes, int initrd_fd, const char *cmdline, struct boot_entry *entry)
{
	int fd = file_of(image, bytes);
	const struct boot_linux boot = {.kernel_fd = fd,
					.kernel_name = "kernel",
					.initrd_fd = initrd_fd,
					.initrd_name = "initrd",
					.cmdline = cmdline};
	int ret = boot_linux_load(&mem, &boot, entry);

	close(fd);
	return ret;
}

static int load(size_t bytes)
{
	struct boot_entry entry;

	return load_with(bytes, -1, "", &entry);
}

static void *at(uint64_t gpa)
{
	return guest_mem_ptr(&mem, (struct gpa){gpa}, 1);
}

static int setup(void **state)
{
	(void)state;
	assert_int_equal(guest_mem_init_kernel(&mem, MIB(64)), 0);
	make_bzimage();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	guest_mem_free(&mem);
	return 0;
}

/* ---- what boots ---- */

static void test_bzimage(void **state)
{
	static const char initrd[5000] = "initramfs";
	const struct boot_params *zero = at(LAYOUT_ZERO_PAGE);
	int initrd_fd = file_of(initrd, sizeof(initrd));
	struct boot_entry entry;

	(void)state;
	assert_int_equal(load_with(sizeof(image), initrd_fd, "console=ttyS0 quiet", &entry), 0);
	close(initrd_fd);
	assert_int_equal(entry.protocol, BOOT_PROTOCOL_64);
	assert_int_equal(entry.rip, PREF + 0x200);
	assert_int_equal(entry.info, LAYOUT_ZERO_PAGE);
	assert_memory_equal(at(PREF), image + SETUP_BYTES, KERNEL_BYTES - SETUP_BYTES);
	assert_string_equal(at(zero->hdr.cmd_line_ptr), "console=ttyS0 quiet");
	assert_int_equal(zero->hdr.ramdisk_image, MIB(64) - 8192);
	assert_int_equal(zero->hdr.ramdisk_size, sizeof(initrd));
	assert_string_equal(at(zero->hdr.ramdisk_image), "initramfs");
	assert_int_equal(zero->acpi_rsdp_addr, LAYOUT_ACPI);
	assert_int_equal(zero->e820_entries, 3);
	assert_int_equal(zero->e820_table[1].type, 2);
	assert_int_equal(zero->e820_table[2].addr + zero->e820_table[2].size, MIB(64));
}

static void test_registers(void **state)
{
	const struct boot_entry entry = {BOOT_PROTOCOL_64, PREF + 0x200, LAYOUT_ZERO_PAGE};
	const struct boot_entry pvh = {BOOT_PROTOCOL_PVH, PREF, LAYOUT_PVH_INFO};
	struct kvm_sregs sregs = {0};
	struct kvm_regs regs;

	(void)state;
	boot_linux_registers(&entry, &regs, &sregs);
	assert_int_equal(regs.rsi, LAYOUT_ZERO_PAGE);
	assert_int_equal(sregs.cr0, 0x80000011);
	assert_int_equal(sregs.efer, 0x500);
	assert_int_equal(sregs.cs.l, 1);
	boot_linux_registers(&pvh, &regs, &sregs);
	assert_int_equal(regs.rbx, LAYOUT_PVH_INFO);
	assert_int_equal(sregs.cr0, 0x11);
	assert_int_equal(sregs.efer, 0);
	assert_int_equal(sregs.cs.db, 1);
}

/* ---- bzImages that do not ---- */

static void test_damaged_bzimage(void **state)
{
	(void)state;
	assert_int_equal(load(0), -ENOEXEC);
	assert_int_equal(load(600), -ENOEXEC);
	assert_int_equal(load(sizeof(image) - 1), -ENOEXEC);
	setup_header->header = 0;
	assert_int_equal(load(sizeof(image)), -ENOEXEC);
	make_bzimage();
	setup_header->version = 0x0204;
	assert_int_equal(load(sizeof(image)), -ENOEXEC);
	make_bzimage();
	setup_header->xloadflags = 0;
	assert_int_equal(load(sizeof(image)), -ENOEXEC);
	make_bzimage();
	setup_header->syssize = 0;
	assert_int_equal(load(sizeof(image)), -ENOEXEC);
	make_bzimage();
	setup_header->syssize = UINT32_MAX;
	assert_int_equal(load(sizeof(image)), -EFBIG);
}

static void test_addresses_out_of_reach(void **state)
{
	static const uint64_t low[] = {0, 0x1000, LAYOUT_HIGH - 1, UINT64_MAX, UINT64_MAX - 0xfff};
	static const uint64_t high[] = {MIB(64) - PAGE_BYTES, MIB(64), 1ull << 40};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(low); i++) {
		setup_header->pref_address = low[i];
		assert_int_equal(load(sizeof(image)), -ENOEXEC);
	}
	for (size_t i = 0; i < ARRAY_SIZE(high); i++) {
		setup_header->pref_address = high[i];
		assert_int_equal(load(sizeof(image)), -EFBIG);
	}
	make_bzimage();
	setup_header->init_size = UINT32_MAX;
	assert_int_equal(load(sizeof(image)), -EFBIG);
}

static void test_initrd_and_cmdline_without_room(void **state)
{
	struct boot_entry entry;
	static char cmdline[LAYOUT_CMDLINE_BYTES + 1];
	int fd = memfd_create("initrd", MFD_CLOEXEC);

	(void)state;
	for (uint64_t mib = 45; mib < 70; mib += 3) {
		assert_int_equal(ftruncate(fd, (off_t)MIB(mib)), 0);
		assert_int_equal(load_with(sizeof(image), fd, "", &entry), -EFBIG);
	}
	assert_int_equal(ftruncate(fd, (off_t)MIB(43)), 0);
	assert_int_equal(load_with(sizeof(image), fd, "", &entry), 0);
	setup_header->initrd_addr_max = 4096;
	assert_int_equal(load_with(sizeof(image), fd, "", &entry), -EFBIG);
	close(fd);
	memset(cmdline, 'x', LAYOUT_CMDLINE_BYTES);
	assert_int_equal(load_with(sizeof(image), -1, cmdline, &entry), -E2BIG);
	cmdline[LAYOUT_CMDLINE_BYTES - 1] = '\0';
	assert_int_equal(load_with(sizeof(image), -1, cmdline, &entry), 0);
}

static void test_other_architectures(void **state)
{
	(void)state;
	setup_header->boot_flag = 0;
	memcpy(image + 0x38, "ARM\x64", 4);
	assert_int_equal(load(sizeof(image)), -ENOEXEC);
	memset(image, 0, sizeof(image));
	memcpy(image, "\x1f\x8b\x08", 3);
	assert_int_equal(load(sizeof(image)), -ENOEXEC);
}

/* ---- ELF ---- */

static Elf64_Ehdr *eh = (Elf64_Ehdr *)image;
static Elf64_Phdr *ph = (Elf64_Phdr *)(image + sizeof(Elf64_Ehdr));

/* A vmlinux with one segment, and the note with a PVH entry. */
static void make_elf(void)
{
	static const struct {
		Elf64_Nhdr head;
		char name[4];
		uint32_t entry;
	} note = {{4, 4, 18}, "Xen", PREF + 0x40};

	memset(image, 0, sizeof(image));
	memcpy(eh->e_ident, ELFMAG, SELFMAG);
	eh->e_ident[EI_CLASS] = ELFCLASS64;
	eh->e_ident[EI_DATA] = ELFDATA2LSB;
	eh->e_machine = EM_X86_64;
	eh->e_entry = PREF;
	eh->e_phoff = sizeof(*eh);
	eh->e_phentsize = sizeof(*ph);
	eh->e_phnum = 2;
	ph[0] = (Elf64_Phdr){.p_type = PT_LOAD,
			     .p_offset = 0x2000,
			     .p_paddr = PREF,
			     .p_filesz = 0x1000,
			     .p_memsz = 0x3000};
	ph[1] = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = 0x1000, .p_filesz = sizeof(note)};
	memcpy(image + 0x1000, &note, sizeof(note));
	memset(image + 0x2000, 0xcc, 0x1000);
}

static void test_elf(void **state)
{
	struct boot_entry entry;

	(void)state;
	make_elf();
	assert_int_equal(load_with(sizeof(image), -1, "quiet", &entry), 0);
	assert_int_equal(entry.protocol, BOOT_PROTOCOL_PVH);
	assert_int_equal(entry.rip, PREF + 0x40);
	assert_int_equal(*(uint32_t *)at(entry.info), 0x336ec578);
	assert_int_equal(*(uint8_t *)at(PREF), 0xcc);
	eh->e_phnum = 1;
	assert_int_equal(load_with(sizeof(image), -1, "quiet", &entry), 0);
	assert_int_equal(entry.protocol, BOOT_PROTOCOL_64);
	assert_int_equal(entry.rip, PREF);
}

static void test_damaged_elf(void **state)
{
	(void)state;
	make_elf();
	assert_int_equal(load(0x2800), -ENOEXEC); /* a segment is cut */
	eh->e_machine = EM_AARCH64;
	assert_int_equal(load(sizeof(image)), -ENOEXEC);
	make_elf();
	eh->e_phnum = UINT16_MAX;
	assert_int_equal(load(sizeof(image)), -ENOEXEC);
	make_elf();
	eh->e_phoff = UINT64_MAX - 8;
	assert_true(load(sizeof(image)) < 0);
	make_elf();
	ph[0].p_filesz = UINT64_MAX;
	assert_int_equal(load(sizeof(image)), -ENOEXEC);
	make_elf();
	ph[0].p_offset = UINT64_MAX;
	assert_int_equal(load(sizeof(image)), -ENOEXEC);
	make_elf();
	ph[0].p_memsz = UINT64_MAX;
	assert_int_equal(load(sizeof(image)), -ENOEXEC);
	make_elf();
	ph[0].p_paddr = 0x8000; /* where page tables go */
	assert_int_equal(load(sizeof(image)), -EFBIG);
	make_elf();
	ph[0].p_paddr = MIB(64) - 0x1000;
	assert_int_equal(load(sizeof(image)), -EFBIG);
	make_elf();
	eh->e_entry = 0;
	eh->e_phnum = 1;
	assert_int_equal(load(sizeof(image)), -ENOEXEC);
}

static void test_damaged_notes(void **state)
{
	uint32_t *note = (uint32_t *)(image + 0x1000);
	struct boot_entry entry;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		static const uint32_t values[] = {0, 3, 0x7fffffff, UINT32_MAX};

		for (size_t k = 0; k < ARRAY_SIZE(values); k++) {
			make_elf();
			note[i] = values[k];
			assert_int_equal(load_with(sizeof(image), -1, "", &entry), 0);
			assert_int_equal(entry.protocol, BOOT_PROTOCOL_64);
		}
	}
	make_elf();
	note[4] = 0; /* a PVH entry that is nowhere */
	assert_int_equal(load(sizeof(image)), -ENOEXEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bzimage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_bzimage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_addresses_out_of_reach, setup, teardown),
		cmocka_unit_test_setup_teardown(test_initrd_and_cmdline_without_room, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_other_architectures, setup, teardown),
		cmocka_unit_test_setup_teardown(test_elf, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_elf, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_notes, setup, teardown),
	};

	log_init("test_kernel_boot", NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
