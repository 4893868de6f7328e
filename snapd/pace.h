/* SPDX-License-Identifier: Apache-2.0 */
/* pace.h - how many invocations are begun at once: what waits for a CPU waits in a queue */
#ifndef QUICKTHAW_SNAPD_PACE_H
#define QUICKTHAW_SNAPD_PACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/** Who runs for longer has most likely gone to wait for something: it is not counted any more. */
enum { PACE_YOUNG_MS = 20 };

/** struct pace_entry - an invocation that has been given an instance; embed it there. */
struct pace_entry {
	TAILQ_ENTRY(pace_entry) link;
	uint64_t start_ns;
	bool young;
};

/**
 * struct pace - at most @max invocations are in their first PACE_YOUNG_MS at any time.
 *
 * Without it a burst starts all at once, and each takes as long as all of them together; with it
 * the first are done long before the last, and the last no later. It also keeps the queue where
 * admission can see it, not in the kernel's list of runnable threads. It never stops anything for
 * longer than PACE_YOUNG_MS, so functions that wait for other machines run by the hundred.
 */
struct pace {
	TAILQ_HEAD(, pace_entry) young; /**< in the order of their starts */
	unsigned count, max;
};

void pace_init(struct pace *p, unsigned max);
/** pace_may_start() - forgets those that are young no more. */
bool pace_may_start(struct pace *p, uint64_t now_ns);
void pace_begin(struct pace *p, struct pace_entry *e, uint64_t now_ns);
/** pace_end() - it is over, young or not. */
void pace_end(struct pace *p, struct pace_entry *e);
/** pace_next_ns() - when one more may start though none ends; UINT64_MAX: at any time. */
uint64_t pace_next_ns(const struct pace *p);

#endif
