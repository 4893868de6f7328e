/* SPDX-License-Identifier: Apache-2.0 */
/* keep.h - the instances that are idle: which one serves next, and which one goes first */
#ifndef QUICKTHAW_SNAPD_KEEP_H
#define QUICKTHAW_SNAPD_KEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "snapd/session.h"

/** keep_add() - an IDLE instance may serve until @deadline_ns, when it ends; one that is
 * provisioned has no deadline. */
void keep_add(struct instance *inst, uint64_t deadline_ns);
/** keep_left() - it is IDLE no more. One that was not added is fine. */
void keep_left(struct instance *inst);

/** keep_take() - who serves an invocation of @v: a provisioned one first, else the one that was
 * used last, so that the others grow old and end. NULL: none is idle. It stays added until it
 * leaves IDLE. */
struct instance *keep_take(const struct version *v, uint64_t now_ns);
/** keep_oldest() - the one that has been idle for longest; NULL: none. Never a provisioned one. */
struct instance *keep_oldest(void);
/** keep_count() - idle instances that are not provisioned. */
unsigned keep_count(void);

#endif
