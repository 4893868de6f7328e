/* SPDX-License-Identifier: Apache-2.0 */
/*
 * budget.c - what instances and templates may take of this host, and what they have taken
 *
 * An instance counts as what instances of its version have been seen to have of their own; their
 * shared memory counts once, as the template. What is counted is an estimate. That the host really
 * has the memory is looked at besides, once in a while (relief.c), and limits the same decision.
 */
#include "snapd/budget.h"

#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/host_memory.h"
#include "snapd/template.h"

enum { RESERVE_PERCENT = 5, STALL_PERCENT_MAX = 10 };

static struct {
	uint64_t limit_bytes, reserve_bytes;
	uint64_t available_bytes; /* UINT64_MAX: not known */
	uint64_t charged_bytes;
	unsigned instances_max;
	struct host_memory last;
	uint64_t last_ns;
} budget = {.available_bytes = UINT64_MAX, .limit_bytes = UINT64_MAX};

enum budget_verdict budget_decide(const struct budget_view *v, uint64_t bytes)
{
	if (v->instances >= v->instances_max)
		return BUDGET_INSTANCES;
	if (!v->instances)
		return BUDGET_ROOM;
	if (v->used_bytes > v->limit_bytes || bytes > v->limit_bytes - v->used_bytes)
		return BUDGET_MEMORY;
	if (v->available_bytes != UINT64_MAX && v->available_bytes < v->reserve_bytes + bytes)
		return BUDGET_MEMORY;
	return BUDGET_ROOM;
}

uint64_t budget_excess(const struct budget_view *v)
{
	uint64_t over = v->used_bytes > v->limit_bytes ? v->used_bytes - v->limit_bytes : 0;
	uint64_t under =
		v->available_bytes < v->reserve_bytes ? v->reserve_bytes - v->available_bytes : 0;

	return MAX(over, under);
}

void budget_init(uint64_t limit_bytes, unsigned instances_max)
{
	struct host_memory m;

	budget.instances_max = instances_max;
	budget.limit_bytes = limit_bytes ? limit_bytes : UINT64_MAX;
	if (host_memory_read("", &m)) {
		log_warn(
			"budget: /proc/meminfo cannot be read: only --memory-budget bounds memory");
		return;
	}
	budget.last = m;
	budget.last_ns = clock_mono_ns();
	budget.available_bytes = m.available_bytes;
	budget.reserve_bytes = m.total_bytes / 100 * RESERVE_PERCENT;
	if (!limit_bytes)
		budget.limit_bytes = m.total_bytes / 4 * 3;
}

static unsigned instances_in_use(void)
{
	unsigned n = 0;

	for (int state = INSTANCE_BOOTING; state <= INSTANCE_IDLE; state++)
		n += session_count((enum instance_state)state);
	return n;
}

struct budget_view budget_view(void)
{
	return (struct budget_view){
		.limit_bytes = budget.limit_bytes,
		.used_bytes = budget.charged_bytes + template_all_bytes() +
			      session_count(INSTANCE_SHELL) * BUDGET_SHELL_BYTES,
		.available_bytes = budget.available_bytes,
		.reserve_bytes = budget.reserve_bytes,
		.instances = instances_in_use(),
		.instances_max = budget.instances_max,
	};
}

void budget_charge(struct instance *inst, uint64_t bytes)
{
	uint64_t charged = inst->charge_bytes;

	budget.charged_bytes += bytes - charged;
	inst->charge_bytes = bytes;
	if (bytes < charged)
		budget_freed(charged - bytes);
	else if (budget.available_bytes != UINT64_MAX)
		budget.available_bytes -= MIN(budget.available_bytes, bytes - charged);
}

void budget_freed(uint64_t bytes)
{
	if (budget.available_bytes != UINT64_MAX)
		budget.available_bytes += bytes;
}

void budget_sample(void)
{
	uint64_t now = clock_mono_ns(), stalled_us, elapsed_us = (now - budget.last_ns) / 1000;
	struct host_memory m;

	if (budget.available_bytes == UINT64_MAX || host_memory_read("", &m))
		return;
	stalled_us = m.stall_us - budget.last.stall_us;
	budget.available_bytes = m.available_bytes;
	/* What counts as available may be slow to get: the kernel says when somebody waits. */
	if (elapsed_us && stalled_us * 100 / elapsed_us > STALL_PERCENT_MAX)
		budget.available_bytes = MIN(budget.available_bytes, budget.reserve_bytes / 2);
	budget.last = m;
	budget.last_ns = now;
}
