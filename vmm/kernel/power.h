/* SPDX-License-Identifier: Apache-2.0 */
/*
 * power.h - how a guest turns itself off or resets: the i8042's command port and ACPI's sleep
 * registers
 */
#ifndef QUICKTHAW_KERNEL_POWER_H
#define QUICKTHAW_KERNEL_POWER_H

#include "vmm/kernel/bus.h"

enum power_event { POWER_RESET, POWER_OFF };

/** The sleep type of "off", as the DSDT's \_S5 says. */
#define POWER_SLEEP_TYPE_OFF 5u
/** What the i8042 takes for "pulse the reset line"; the FADT's reset value, too. */
#define POWER_I8042_RESET 0xfeu

/** struct power - @event: called once for each write that means one. */
struct power {
	void (*event)(void *arg, enum power_event event);
	void *arg;
};

/** power_add() - put both on the bus of ports. Return: as bus_add(). */
int power_add(struct power *p, struct bus *ports);

#endif
