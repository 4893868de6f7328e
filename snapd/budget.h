/* SPDX-License-Identifier: Apache-2.0 */
/* budget.h - what instances and templates may take of this host, and what they have taken */
#ifndef QUICKTHAW_SNAPD_BUDGET_H
#define QUICKTHAW_SNAPD_BUDGET_H

#include <stdint.h>

#include "snapd/session.h"

/** What a shell takes before it is anybody's instance. */
#define BUDGET_SHELL_BYTES MIB(2)

/**
 * struct budget_view - what a decision needs to know.
 * @limit_bytes: --memory-budget; @used_bytes: of instances, shells and templates
 * @available_bytes: what the host had left when it was last looked at, less what was begun since;
 *	UINT64_MAX: not known
 * @reserve_bytes: of that, what is not for us
 * @instances, @instances_max: with somebody's code in them
 */
struct budget_view {
	uint64_t limit_bytes, used_bytes;
	uint64_t available_bytes, reserve_bytes;
	unsigned instances, instances_max;
};

enum budget_verdict {
	BUDGET_ROOM,
	BUDGET_INSTANCES, /**< as many instances as there may be */
	BUDGET_MEMORY,	  /**< no room for so much memory */
};

/** budget_decide() - may an instance of @bytes be started? One that would be the only one always
 * may: what is larger than the whole budget is slow then, but served. */
enum budget_verdict budget_decide(const struct budget_view *v, uint64_t bytes);

/** budget_excess() - how much has to be given back for used memory to be inside the budget and
 * the host to have its reserve. */
uint64_t budget_excess(const struct budget_view *v);

/** budget_init() - the limits. @limit_bytes 0: three quarters of what the host or our cgroup has.
 */
void budget_init(uint64_t limit_bytes, unsigned instances_max);
/** budget_view() - as of now. */
struct budget_view budget_view(void);
/** budget_charge() - what @inst is counted for from now on, until it leaves for ENDING. */
void budget_charge(struct instance *inst, uint64_t bytes);
/** budget_freed() - so much was given back to the host since it was last looked at. */
void budget_freed(uint64_t bytes);
/** budget_sample() - look at the host's memory. Reads files of /proc and /sys: tens of µs. */
void budget_sample(void);

#endif
