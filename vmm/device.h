/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h - the one ordered table that capture and restore walk
 *
 * Everything with state of a guest is a device here. The order is the load order: what is named by
 * others comes before them. A record in the STATE section is {name, version, length, bytes}; a load
 * refuses records that it does not know, of a newer version, or that leave bytes over.
 */
#ifndef QUICKTHAW_VMM_DEVICE_H
#define QUICKTHAW_VMM_DEVICE_H

#include <stdint.h>

#include "common/state.h"

struct proc;

struct device {
	const char *name;
	uint32_t version;
	int (*save)(struct proc *p, struct state_writer *w);
	int (*load)(struct proc *p, struct state_reader *r);
};

/** devices_save() - all devices in order into @w. Return: 0 or -errno with a log line. */
int devices_save(struct proc *p, struct state_writer *w);
/** devices_version() - a number that another set of devices, or of their versions, does not have.
 */
uint64_t devices_version(void);
/** devices_load() - the counterpart. On error the instance must end; @p->end_text names device
 * and offset. */
int devices_load(struct proc *p, const void *state, size_t n);

#endif
