/* SPDX-License-Identifier: Apache-2.0 */
/* power.c - how a guest turns itself off or resets */
#include "vmm/kernel/power.h"

#include <string.h>

#include "vmm/kernel/layout.h"

/* Sleep control register (ACPI 6.4, 4.8.3.7). */
enum { SLEEP_ENABLE = 0x20, SLEEP_TYPE_SHIFT = 2, SLEEP_TYPE_MASK = 7 };

/** No keyboard, no mouse: nothing to read, and ready to take a command. */
static void read_idle(void *dev, uint64_t offset, void *data, unsigned n)
{
	(void)dev;
	(void)offset;
	memset(data, 0, n);
}

static void write_i8042(void *dev, uint64_t offset, const void *data, unsigned n)
{
	struct power *p = dev;

	(void)offset;
	(void)n;
	if (*(const uint8_t *)data == POWER_I8042_RESET)
		p->event(p->arg, POWER_RESET);
}

static void write_sleep(void *dev, uint64_t offset, const void *data, unsigned n)
{
	struct power *p = dev;
	uint8_t v = *(const uint8_t *)data;

	(void)n;
	if (!offset && (v & SLEEP_ENABLE) &&
	    (v >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK) == POWER_SLEEP_TYPE_OFF)
		p->event(p->arg, POWER_OFF);
}

int power_add(struct power *p, struct bus *ports)
{
	const struct bus_range i8042 = {
		.base = LAYOUT_PORT_I8042_COMMAND,
		.bytes = 1,
		.dev = p,
		.read = read_idle,
		.write = write_i8042,
	};
	const struct bus_range sleep = {
		.base = LAYOUT_PORT_SLEEP_CONTROL,
		.bytes = 2, /* control and status */
		.dev = p,
		.read = read_idle,
		.write = write_sleep,
	};
	int ret = bus_add(ports, &i8042);

	return ret ? ret : bus_add(ports, &sleep);
}
