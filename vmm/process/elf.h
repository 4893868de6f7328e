/* SPDX-License-Identifier: Apache-2.0 */
/* elf.h - ELF program files: from hostile bytes to a checked description */
#ifndef QUICKTHAW_PROCESS_ELF_H
#define QUICKTHAW_PROCESS_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ELF_SEGMENTS_MAX = 64, ELF_INTERP_MAX = 4096 };

/**
 * struct elf_segment - one PT_LOAD, with addresses as in the file.
 * @vaddr - @offset is a multiple of the page size; @file_bytes <= @mem_bytes
 */
struct elf_segment {
	uint64_t vaddr, offset, file_bytes, mem_bytes;
	int prot;
};

/**
 * struct elf_image - a program file that can be loaded.
 * @pie: addresses are relative to a base of the loader's choice
 * @low, @high: page-aligned span of all segments
 * @phdr_vaddr: where the program headers are in memory, 0 if they are not
 * @align: largest p_align, at least a page
 * @interp: path of the dynamic linker, "" for none
 */
struct elf_image {
	bool pie;
	bool exec_stack;
	uint64_t entry;
	uint64_t low, high;
	uint64_t align;
	uint64_t phdr_vaddr;
	uint32_t phdr_count;
	uint32_t segment_count;
	struct elf_segment segments[ELF_SEGMENTS_MAX];
	char interp[ELF_INTERP_MAX];
};

/** elf_read_fn - read @n bytes at @offset of the file. Return: bytes read (short at its end) or
 * -errno. */
typedef int64_t (*elf_read_fn)(void *arg, void *buf, size_t n, uint64_t offset);

/**
 * elf_parse() - read and check the headers.
 * @ret_why: what is wrong, for a log line; static text
 * Return: 0, -ENOEXEC for files that are no x86-64 Linux programs or are damaged, or -errno of
 * @read_at. Source: System V ABI, chapters 4 and 5.
 */
int elf_parse(elf_read_fn read_at, void *arg, struct elf_image *ret, const char **ret_why);

#endif
