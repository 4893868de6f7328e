/* SPDX-License-Identifier: Apache-2.0 */
/* prewarm.h - bring a version's memory in before somebody waits for it */
#ifndef QUICKTHAW_SNAPD_PREWARM_H
#define QUICKTHAW_SNAPD_PREWARM_H

#include <stdbool.h>
#include <stdint.h>

#include "snapd/function.h"

/** typedef prewarm_done_fn - @text: what went wrong, or NULL. */
typedef void (*prewarm_done_fn)(void *arg, struct version *v, const char *text);

/**
 * prewarm_start() - load @v's working set into its template, or with @whole all of its snapshot.
 * @done: called once, perhaps before this returns
 * Return: 0, or -EBUSY when too many are under way.
 */
int prewarm_start(struct version *v, bool whole, prewarm_done_fn done, void *arg);

/** prewarm_wanted() - should a version be loaded, by what its traffic says? @percent: how likely an
 * invocation is soon; @loaded: its working set is there; @room_bytes: of the budget;
 * @bytes: of its working set. */
bool prewarm_wanted(unsigned percent, bool loaded, uint64_t room_bytes, uint64_t bytes);

/** prewarm_turn() - once per turn of the loop. */
void prewarm_turn(uint64_t now_ns);
uint64_t prewarm_next_ns(void);
/** prewarm_finish() - at the end: whoever waits is told. */
void prewarm_finish(void);

#endif
