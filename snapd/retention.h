/* SPDX-License-Identifier: Apache-2.0 */
/* retention.h - which versions and snapshots are not kept for ever */
#ifndef QUICKTHAW_SNAPD_RETENTION_H
#define QUICKTHAW_SNAPD_RETENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapd/function.h"

/** struct retention_params - 0: without that limit. */
struct retention_params {
	unsigned keep_versions; /**< of a function: the newest so many */
	uint64_t disk_bytes;	/**< of all snapshots */
};

enum retention_verdict { RETENTION_KEEP, RETENTION_REMOVE_VERSION, RETENTION_REMOVE_SNAPSHOT };

/**
 * struct retention_item - a published version, as the decision sees it.
 * @age: 0 for the newest of its function, 1 for the one before it, ...
 * @bytes: of its snapshot; 0: it has none
 * @used_ns: its last invocation; 0: none since the start; among equals @made_ns decides
 * @named: an alias names it, or something is set for it: it is never touched
 * @busy: something is at work with it: not now
 */
struct retention_item {
	struct version *version;
	uint32_t age;
	uint64_t bytes;
	uint64_t used_ns, made_ns;
	bool named, busy;
	enum retention_verdict verdict;
};

/**
 * retention_decide() - fill in the verdicts. Sorts @items.
 * First go versions over the number of a function; then, over the budget, snapshots: of old
 * versions before those of the newest, and of these the least recently used first.
 * Return: bytes over the budget for which nothing could be found.
 */
uint64_t retention_decide(struct retention_item *items, size_t count,
			  const struct retention_params *params);

/** retention_named() - do an alias or other settings of @f name this version? */
bool retention_named(const struct function *f, uint32_t number);

void retention_init(const struct retention_params *params);
/** retention_look() - a version was published: look soon, not in a while. */
void retention_look(void);
/** retention_turn() - once per turn of the loop. */
void retention_turn(uint64_t now_ns);
uint64_t retention_next_ns(void);

#endif
