/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h - the one ordered table that capture and restore walk
 *
 * Everything with state of a guest is a device here; there is one table for each kind of guest. The
 * order is the load order: what is named by others comes before them. A record in the STATE section
 * is {name, version, length, bytes}; a load refuses records that it does not know, of a newer
 * version, or that leave bytes over.
 */
#ifndef QUICKTHAW_VMM_DEVICE_H
#define QUICKTHAW_VMM_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "common/state.h"

/** struct device - @save and @load get the guest: of the type that its table is for. */
struct device {
	const char *name;
	uint32_t version;
	int (*save)(void *guest, struct state_writer *w);
	int (*load)(void *guest, struct state_reader *r);
};

struct device_table {
	const struct device *devices;
	size_t count;
};

/** DEVICE_FUNCTIONS() - name_save() and name_load() of a guest's type, as the table has them. */
#define DEVICE_FUNCTIONS(name)                                                                     \
	static int device_save_##name(void *guest, struct state_writer *w)                         \
	{                                                                                          \
		return name##_save(guest, w);                                                      \
	}                                                                                          \
	static int device_load_##name(void *guest, struct state_reader *r)                         \
	{                                                                                          \
		return name##_load(guest, r);                                                      \
	}
#define DEVICE(text, number, name)                                                                 \
	{                                                                                          \
		text, number, device_save_##name, device_load_##name                               \
	}

extern const struct device_table process_devices; /**< of a struct proc */
extern const struct device_table kernel_devices;  /**< of a struct machine */

/** devices_save() - all devices in order into @w. Return: 0 or -errno with a log line. */
int devices_save(const struct device_table *table, void *guest, struct state_writer *w);
/** devices_version() - a number that another set of devices, or of their versions, does not have.
 */
uint64_t devices_version(const struct device_table *table);
/**
 * devices_load() - the counterpart. On error the guest must end.
 * @text: on error, which device and which offset, cut at @size
 */
int devices_load(const struct device_table *table, void *guest, const void *state, size_t n,
		 char *text, size_t size);

#endif
