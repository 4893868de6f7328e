/* SPDX-License-Identifier: Apache-2.0 */
/* waiting.h - invocations that wait for an instance, in an order that is fair to functions */
#ifndef QUICKTHAW_SNAPD_WAITING_H
#define QUICKTHAW_SNAPD_WAITING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/** struct waiting_entry - one that waits; embed it in an invocation. */
struct waiting_entry {
	TAILQ_ENTRY(waiting_entry) link;
	struct waiting_lane *lane;
	uint64_t since_ns;
};

TAILQ_HEAD(waiting_entries, waiting_entry);

/** struct waiting_lane - first come, first served: invocations of one version; embed it there. */
struct waiting_lane {
	struct waiting_entries entries;
	TAILQ_ENTRY(waiting_lane) link;
	struct waiting_function *function;
	unsigned count;
};

TAILQ_HEAD(waiting_lanes, waiting_lane);

/**
 * struct waiting_function - the lanes of one function that are not empty; embed it there.
 * @since_ns: when the last of it that waited came to wait after none did
 * @blocked_round: the round of the walk in which none of it could start
 */
struct waiting_function {
	struct waiting_lanes lanes;
	TAILQ_ENTRY(waiting_function) link;
	unsigned count;
	uint64_t since_ns;
	uint64_t blocked_round;
};

TAILQ_HEAD(waiting_functions, waiting_function);

/** struct waiting - all of it: the functions that wait, the one whose turn it is first. */
struct waiting {
	struct waiting_functions functions;
	unsigned count, function_count;
	uint64_t round;
};

void waiting_init(struct waiting *w);
void waiting_function_init(struct waiting_function *f);
void waiting_lane_init(struct waiting_lane *lane, struct waiting_function *f);

/** waiting_push() - @e waits in @lane from now on; everything stays the caller's. */
void waiting_push(struct waiting *w, struct waiting_lane *lane, struct waiting_entry *e,
		  uint64_t now_ns);
/** waiting_remove() - it waits no more. */
void waiting_remove(struct waiting *w, struct waiting_entry *e);

/**
 * typedef waiting_try_fn - try to start what waits longest of a lane.
 * Return: true when it has left the lane (has started, or failed); false when it has to wait on.
 */
typedef bool (*waiting_try_fn)(struct waiting_entry *e);

/**
 * waiting_walk() - start what can be started: one of each function in turn, and one of each version
 * of a function in turn, until every lane's first is blocked. Who has started goes to the end of
 * the ring, so that of a scarce thing each function gets an equal share, however long its queue.
 * Costs a try for each start and for each lane that is blocked: not for each one that waits.
 */
void waiting_walk(struct waiting *w, waiting_try_fn try);

/** waiting_oldest() - of one lane; NULL when nobody waits there. */
struct waiting_entry *waiting_oldest(const struct waiting_lane *lane);

#endif
