/* SPDX-License-Identifier: Apache-2.0 */
/* aml.c - write ACPI Machine Language, as much as the DSDT of a microVM takes */
#include "vmm/kernel/aml.h"

#include <string.h>

/* Opcodes (ACPI 6.4, 20.3). */
enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_MULTI_NAME = 0x2f,
	OP_EXTENDED = 0x5b,
	OP_NOTIFY = 0x86,
	OP_EXTENDED_DEVICE = 0x82,
};

enum { SEGMENT = 4, LENGTH_BYTES = 3 };

static void put(struct aml *a, const void *data, size_t n)
{
	if (a->overflow || n > a->size - a->used) {
		a->overflow = true;
		return;
	}
	memcpy(a->data + a->used, data, n);
	a->used += n;
}

static void put_byte(struct aml *a, unsigned v)
{
	uint8_t byte = (uint8_t)v;

	put(a, &byte, 1);
}

/* The length comes later, always in the form of three bytes: it counts itself, too. */
static struct aml_block open_block(struct aml *a)
{
	struct aml_block block = {.length_at = a->used};

	put(a, "\0\0", LENGTH_BYTES);
	return block;
}

void aml_end(struct aml *a, struct aml_block block)
{
	size_t n;

	if (a->overflow)
		return;
	n = a->used - block.length_at;
	a->data[block.length_at] = (uint8_t)(2u << 6 | (n & 0xf));
	a->data[block.length_at + 1] = (uint8_t)(n >> 4);
	a->data[block.length_at + 2] = (uint8_t)(n >> 12);
}

/** A path of one or more segments (ACPI 6.4, 20.2.2). */
static void put_path(struct aml *a, const char *path)
{
	size_t segments;

	if (*path == '\\')
		put_byte(a, (uint8_t)*path++);
	segments = strlen(path) / SEGMENT;
	if (segments == 2)
		put_byte(a, OP_DUAL_NAME);
	if (segments > 2) {
		put_byte(a, OP_MULTI_NAME);
		put_byte(a, (unsigned)segments);
	}
	put(a, path, segments * SEGMENT);
}

struct aml_block aml_scope(struct aml *a, const char *path)
{
	struct aml_block block;

	put_byte(a, OP_SCOPE);
	block = open_block(a);
	put_path(a, path);
	return block;
}

struct aml_block aml_device(struct aml *a, const char *name)
{
	struct aml_block block;

	put_byte(a, OP_EXTENDED);
	put_byte(a, OP_EXTENDED_DEVICE);
	block = open_block(a);
	put_path(a, name);
	return block;
}

struct aml_block aml_method(struct aml *a, const char *name, uint8_t flags)
{
	struct aml_block block;

	put_byte(a, OP_METHOD);
	block = open_block(a);
	put_path(a, name);
	put_byte(a, flags);
	return block;
}

struct aml_block aml_package(struct aml *a, uint8_t elements)
{
	struct aml_block block;

	put_byte(a, OP_PACKAGE);
	block = open_block(a);
	put_byte(a, elements);
	return block;
}

void aml_name(struct aml *a, const char *name)
{
	put_byte(a, OP_NAME);
	put_path(a, name);
}

void aml_integer(struct aml *a, uint64_t v)
{
	if (v <= 1) {
		put_byte(a, v ? OP_ONE : OP_ZERO);
	} else if (v <= UINT8_MAX) {
		put_byte(a, OP_BYTE);
		put(a, &v, 1); /* x86-64 is little-endian, as AML is */
	} else if (v <= UINT16_MAX) {
		put_byte(a, OP_WORD);
		put(a, &v, 2);
	} else if (v <= UINT32_MAX) {
		put_byte(a, OP_DWORD);
		put(a, &v, 4);
	} else {
		put_byte(a, OP_QWORD);
		put(a, &v, 8);
	}
}

void aml_string(struct aml *a, const char *s)
{
	put_byte(a, OP_STRING);
	put(a, s, strlen(s) + 1);
}

static unsigned hex_digit(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of five bits, four hexadecimal digits, the whole big-endian (ACPI 6.4, 19.3.4). */
void aml_eisa_id(struct aml *a, const char *id)
{
	uint32_t v = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
		     (uint32_t)(id[2] - '@') << 16 | hex_digit(id[3]) << 12 |
		     hex_digit(id[4]) << 8 | hex_digit(id[5]) << 4 | hex_digit(id[6]);

	put_byte(a, OP_DWORD);
	for (int shift = 24; shift >= 0; shift -= 8)
		put_byte(a, v >> shift & 0xff);
}

void aml_notify(struct aml *a, const char *path, uint8_t value)
{
	put_byte(a, OP_NOTIFY);
	put_path(a, path);
	aml_integer(a, value);
}

/* ---- resources ---- */

/*
 * A buffer's size comes before its bytes, as an integer: always a word, filled in at the end. The
 * block of the caller is that of the buffer.
 */
enum { SIZE_BYTES = 3 };

struct aml_block aml_resources(struct aml *a)
{
	struct aml_block block;

	put_byte(a, OP_BUFFER);
	block = open_block(a);
	put_byte(a, OP_WORD);
	put(a, "\0", 2);
	return block;
}

void aml_end_resources(struct aml *a, struct aml_block block)
{
	size_t at = block.length_at + LENGTH_BYTES, n;

	put(a, "\x79", 2); /* end tag, and 0 for "no checksum" */
	if (a->overflow)
		return;
	n = a->used - at - SIZE_BYTES;
	a->data[at + 1] = (uint8_t)n;
	a->data[at + 2] = (uint8_t)(n >> 8);
	aml_end(a, block);
}

void aml_resource_memory(struct aml *a, uint32_t base, uint32_t bytes)
{
	put(a, "\x86\x09\x00\x01", 4); /* 32-bit fixed memory, writable (6.4.3.4) */
	put(a, &base, 4);
	put(a, &bytes, 4);
}

void aml_resource_ports(struct aml *a, uint16_t base, uint8_t count)
{
	put(a, "\x47\x01", 2); /* I/O ports, 16 bits decoded (6.4.2.5) */
	put(a, &base, 2);
	put(a, &base, 2);
	put_byte(a, 1);
	put_byte(a, count);
}

void aml_resource_interrupt(struct aml *a, uint32_t gsi)
{
	put(a, "\x89\x06\x00\x03\x01", 5); /* consumer, edge, active high; one (6.4.3.6) */
	put(a, &gsi, 4);
}
