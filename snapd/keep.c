/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep.c - the instances that are idle: which one serves next, and which one goes first
 *
 * Two lists hold an idle instance: its version's, newest first, from which invocations are served,
 * and one of all in the order of their last use, whose head goes first when memory or slots are
 * short. Both are found, entered and left in constant time. A provisioned instance is in a list of
 * its version only, so it is never a victim.
 */
#include "snapd/keep.h"

#include <assert.h>

static struct {
	TAILQ_HEAD(, instance) by_age;
	unsigned count;
} keep = {
	.by_age = TAILQ_HEAD_INITIALIZER(keep.by_age),
};

void keep_add(struct instance *inst, uint64_t deadline_ns)
{
	struct version_idle *idle = &inst->version->idle;

	assert(inst->state == INSTANCE_IDLE && !inst->kept);
	inst->kept = true;
	if (inst->provisioned) {
		LIST_INSERT_HEAD(&idle->provisioned, inst, idle_link);
		idle->provisioned_count++;
		return;
	}
	LIST_INSERT_HEAD(&idle->others, inst, idle_link);
	TAILQ_INSERT_TAIL(&keep.by_age, inst, list_link);
	idle->other_count++;
	keep.count++;
	session_idle_until(inst, deadline_ns);
}

void keep_left(struct instance *inst)
{
	struct version_idle *idle;

	if (!inst->kept)
		return;
	idle = &inst->version->idle;
	inst->kept = false;
	LIST_REMOVE(inst, idle_link);
	if (inst->provisioned) {
		idle->provisioned_count--;
		return;
	}
	TAILQ_REMOVE(&keep.by_age, inst, list_link);
	idle->other_count--;
	keep.count--;
}

struct instance *keep_take(const struct version *v, uint64_t now_ns)
{
	struct instance *inst = LIST_FIRST(&v->idle.provisioned);

	if (inst)
		return inst;
	inst = LIST_FIRST(&v->idle.others);
	/* Its time is over, and so is that of those before it: they end in this turn. */
	return inst && inst->deadline_ns > now_ns ? inst : NULL;
}

struct instance *keep_oldest(void)
{
	return TAILQ_FIRST(&keep.by_age);
}

unsigned keep_count(void)
{
	return keep.count;
}
