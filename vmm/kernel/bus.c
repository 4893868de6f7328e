/* SPDX-License-Identifier: Apache-2.0 */
/* bus.c - which device an access to a port or to device memory is for */
#include "vmm/kernel/bus.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

int bus_add(struct bus *bus, const struct bus_range *range)
{
	if (!range->bytes || range->base + range->bytes < range->base)
		return -EINVAL;
	if (bus->count == BUS_RANGES_MAX)
		return -ENOSPC;
	for (unsigned i = 0; i < bus->count; i++) {
		const struct bus_range *r = &bus->ranges[i];

		if (range->base < r->base + r->bytes && r->base < range->base + range->bytes)
			return -EEXIST;
	}
	bus->ranges[bus->count++] = *range;
	return 0;
}

static const struct bus_range *find(const struct bus *bus, uint64_t at, unsigned n)
{
	for (unsigned i = 0; i < bus->count; i++) {
		const struct bus_range *r = &bus->ranges[i];

		if (at >= r->base && at - r->base < r->bytes)
			return n <= r->bytes - (at - r->base) ? r : NULL;
	}
	return NULL;
}

bool bus_read(const struct bus *bus, uint64_t at, void *data, unsigned n)
{
	const struct bus_range *r = find(bus, at, n);

	memset(data, 0xff, n);
	if (!r || !r->read)
		return false;
	r->read(r->dev, at - r->base, data, n);
	return true;
}

bool bus_write(const struct bus *bus, uint64_t at, const void *data, unsigned n)
{
	const struct bus_range *r = find(bus, at, n);

	if (!r || !r->write)
		return false;
	r->write(r->dev, at - r->base, data, n);
	return true;
}
