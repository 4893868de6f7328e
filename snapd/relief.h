/* SPDX-License-Identifier: Apache-2.0 */
/* relief.h - give memory back when it is short: idle instances first, then templates */
#ifndef QUICKTHAW_SNAPD_RELIEF_H
#define QUICKTHAW_SNAPD_RELIEF_H

#include <stdbool.h>
#include <stdint.h>

/** relief_want() - an instance of so many bytes waits for room. */
void relief_want(uint64_t bytes);

/**
 * relief_turn() - once per turn of the loop: look at the host's memory now and then, and give back
 * one turn's share of what is too much.
 * @idle: nothing is under way, so the host is looked at less often
 * Return: true when there is more to give back, so the loop should not sleep.
 */
bool relief_turn(uint64_t now_ns, bool idle);
/** relief_next_ns() - when it wants to look again. */
uint64_t relief_next_ns(void);

#endif
