/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relief.c - give memory back when it is short: idle instances first, then templates
 *
 * Short is what the budget or the host says (budget.c). Idle instances go in the order of their
 * last use; provisioned ones never do. When none is left, templates are evicted, the least recently
 * used one first, a few chunks a turn, so that no fault and no request waits for it. What is needed
 * again comes back by page-in. A template that an instance was given a moment ago is left alone
 * (template.c says why), and so is one that is being loaded.
 */
#include "snapd/relief.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/budget.h"
#include "snapd/keep.h"
#include "snapd/page_in.h"
#include "snapd/scheduler.h"
#include "snapd/template.h"

enum { SAMPLE_MS = 1000, SAMPLE_IDLE_MS = 5000, CHUNKS_PER_TURN = 8, SETTLE_MS = 500 };

static struct {
	uint64_t wanted_bytes;
	uint64_t next_ns;
} relief;

void relief_want(uint64_t bytes)
{
	relief.wanted_bytes = MAX(relief.wanted_bytes, bytes);
}

/** How much has to go so that nothing is too much, and who waits for room can start. */
static uint64_t excess(void)
{
	struct budget_view view = budget_view();

	view.used_bytes += relief.wanted_bytes;
	if (view.available_bytes != UINT64_MAX)
		view.available_bytes -= MIN(view.available_bytes, relief.wanted_bytes);
	return budget_excess(&view);
}

static bool may_evict(const struct template *t, uint64_t now_ns)
{
	return t->resident_pages && now_ns - t->used_ns > SETTLE_MS * NSEC_PER_MSEC &&
	       !page_in_is_loading(t);
}

/** Return: false when no template has anything to give. */
static bool evict(uint64_t now_ns)
{
	struct template *t = template_oldest();
	int pages = 0;

	for (; t && pages <= 0; t = template_next_oldest(t)) {
		if (!may_evict(t, now_ns))
			continue;
		pages = template_evict(t, CHUNKS_PER_TURN);
		if (pages < 0)
			log_warn("relief: %s: %s", t->name, strerror(-pages));
	}
	if (pages > 0)
		budget_freed((uint64_t)pages * PAGE_BYTES);
	return pages > 0;
}

bool relief_turn(uint64_t now_ns, bool idle)
{
	struct instance *oldest;

	if (now_ns >= relief.next_ns) {
		budget_sample();
		relief.next_ns = now_ns + (idle ? SAMPLE_IDLE_MS : SAMPLE_MS) * NSEC_PER_MSEC;
	}
	if (!excess()) {
		if (relief.wanted_bytes) {
			relief.wanted_bytes = 0;
			scheduler_pump();
		}
		return false;
	}
	oldest = keep_oldest();
	if (oldest) {
		log_info("relief: memory is short: instance %s ends", oldest->id);
		session_end(oldest);
		return true;
	}
	return evict(now_ns);
}

uint64_t relief_next_ns(void)
{
	return relief.next_ns;
}
