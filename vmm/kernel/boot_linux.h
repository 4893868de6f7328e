/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_linux.h - put a Linux kernel into a machine's memory and say where its first vCPU starts
 *
 * bzImage by the 64-bit boot protocol (Documentation/arch/x86/boot.rst, section 1.14); ELF vmlinux
 * by PVH where it has the note for it (docs/misc/pvh.pandoc of Xen), else by the 64-bit protocol at
 * its entry. Images may be anything: all sizes and addresses in them are checked against the file
 * and against RAM, and nothing outside of what the layout gives to the kernel is written.
 */
#ifndef QUICKTHAW_KERNEL_BOOT_LINUX_H
#define QUICKTHAW_KERNEL_BOOT_LINUX_H

#include <linux/kvm.h>
#include <stdint.h>

#include "vmm/guest_mem.h"

/**
 * struct boot_linux - what to boot.
 * @kernel_fd, @initrd_fd: regular files, open for reading; @initrd_fd may be -1
 * @kernel_name, @initrd_name: for messages
 */
struct boot_linux {
	int kernel_fd;
	const char *kernel_name;
	int initrd_fd;
	const char *initrd_name;
	const char *cmdline;
};

enum boot_protocol { BOOT_PROTOCOL_64, BOOT_PROTOCOL_PVH };

/**
 * struct boot_entry - the first vCPU's start.
 * @rip: physical address of the first instruction
 * @info: physical address of the zero page, or of PVH's start info
 */
struct boot_entry {
	enum boot_protocol protocol;
	uint64_t rip;
	uint64_t info;
};

/**
 * boot_linux_load() - kernel, initrd, command line, E820 map and boot parameters, page tables.
 * ACPI tables are the caller's (at LAYOUT_ACPI).
 * Return: 0; -ENOEXEC (no Linux kernel for x86-64, or a damaged one), -EFBIG (does not fit into
 * RAM), -E2BIG (command line), or -errno of a read; each with a log line.
 */
int boot_linux_load(const struct guest_mem *mem, const struct boot_linux *boot,
		    struct boot_entry *ret_entry);

/** boot_linux_registers() - the state of the first vCPU. @sregs: as KVM made them, changed here. */
void boot_linux_registers(const struct boot_entry *entry, struct kvm_regs *ret_regs,
			  struct kvm_sregs *sregs);

#endif
