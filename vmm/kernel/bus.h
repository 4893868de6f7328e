/* SPDX-License-Identifier: Apache-2.0 */
/* bus.h - which device an access to a port or to device memory is for */
#ifndef QUICKTHAW_KERNEL_BUS_H
#define QUICKTHAW_KERNEL_BUS_H

#include <stdbool.h>
#include <stdint.h>

enum { BUS_RANGES_MAX = 32 };

/**
 * struct bus_range - the registers of one device.
 * @read, @write: an access of 1, 2, 4 or 8 bytes that lies inside the range as a whole. The guest
 *	chose all of it: offsets are not aligned, values mean nothing yet.
 */
struct bus_range {
	uint64_t base, bytes;
	void *dev;
	void (*read)(void *dev, uint64_t offset, void *data, unsigned n);
	void (*write)(void *dev, uint64_t offset, const void *data, unsigned n);
};

/** struct bus - all ports, or all device memory, of a machine. */
struct bus {
	struct bus_range ranges[BUS_RANGES_MAX];
	unsigned count;
};

/** bus_add() - put a device on the bus; @range is copied. Return: 0, -ENOSPC, or -EEXIST where it
 * overlaps another. */
int bus_add(struct bus *bus, const struct bus_range *range);

/** bus_read() - what nobody answers, or two ranges would have to, reads as ones. Return: whether a
 * device answered. */
bool bus_read(const struct bus *bus, uint64_t at, void *data, unsigned n);
/** bus_write() - the counterpart: what nobody takes is dropped. */
bool bus_write(const struct bus *bus, uint64_t at, const void *data, unsigned n);

#endif
