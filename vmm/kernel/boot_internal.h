/* SPDX-License-Identifier: Apache-2.0 */
/* boot_internal.h - what boot_linux.c and boot_elf.c share */
#ifndef QUICKTHAW_KERNEL_BOOT_INTERNAL_H
#define QUICKTHAW_KERNEL_BOOT_INTERNAL_H

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/kernel/boot_linux.h"

enum { BOOT_HEAD_BYTES = 8192 };

/**
 * struct boot_image - a kernel file while it is loaded.
 * @head: its first bytes, zeros where the file is shorter
 * @end: first address behind all that the kernel needs before it reads the E820 map
 * @setup: header of the boot protocol: the file's, or one of our own for an ELF file
 */
struct boot_image {
	const struct guest_mem *mem;
	int fd;
	const char *name;
	uint64_t file_bytes;
	uint8_t head[BOOT_HEAD_BYTES];
	uint64_t end;
	struct setup_header setup;
	struct boot_entry entry;
};

/** boot_read() - part of the file to guest memory at or above 1 MiB. Return: 0 or -errno with a log
 * line. */
int boot_read(const struct boot_image *image, uint64_t offset, uint64_t bytes, uint64_t gpa);
/** boot_refuse() - log why the image is no use. Return: @err. */
int boot_refuse(const struct boot_image *image, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** boot_is_elf() / boot_load_elf() - vmlinux. */
bool boot_is_elf(const struct boot_image *image);
int boot_load_elf(struct boot_image *image);

#endif
