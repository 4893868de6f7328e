/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aml.h - write ACPI Machine Language, as much as the DSDT of a microVM takes
 *
 * Source: ACPI 6.4, chapter 20 (terms), 6.4 (resource descriptors). Nothing here fails: what has no
 * room sets @overflow, which is checked once, at the end.
 */
#ifndef QUICKTHAW_KERNEL_AML_H
#define QUICKTHAW_KERNEL_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** struct aml - bytes under construction, in the caller's memory. */
struct aml {
	uint8_t *data;
	size_t used, size;
	bool overflow;
};

/** struct aml_block - an open scope, device, method, package or resource template. */
struct aml_block {
	size_t length_at;
};

/** aml_scope() ... - open a block; aml_end() closes it. @path: four characters a segment, with a
 * leading backslash where it is absolute. */
struct aml_block aml_scope(struct aml *a, const char *path);
struct aml_block aml_device(struct aml *a, const char *name);
/** aml_method() - @flags: argument count, and 8 for a serialized one. */
struct aml_block aml_method(struct aml *a, const char *name, uint8_t flags);
struct aml_block aml_package(struct aml *a, uint8_t elements);
struct aml_block aml_resources(struct aml *a);
void aml_end(struct aml *a, struct aml_block block);
/** aml_end_resources() - the same for aml_resources(), with its end tag. */
void aml_end_resources(struct aml *a, struct aml_block block);

/** aml_name() - Name(@name, the value that is written next). */
void aml_name(struct aml *a, const char *name);
void aml_integer(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
/** aml_eisa_id() - @id: seven characters, for example "PNP0501". */
void aml_eisa_id(struct aml *a, const char *id);
/** aml_notify() - Notify(@path, @value). */
void aml_notify(struct aml *a, const char *path, uint8_t value);

/* ---- inside aml_resources() ---- */

void aml_resource_memory(struct aml *a, uint32_t base, uint32_t bytes);
void aml_resource_ports(struct aml *a, uint16_t base, uint8_t count);
/** aml_resource_interrupt() - edge-triggered, active high, not shared. */
void aml_resource_interrupt(struct aml *a, uint32_t gsi);

#endif
