/* SPDX-License-Identifier: Apache-2.0 */
/* pace.c - how many invocations are begun at once: what waits for a CPU waits in a queue */
#include "snapd/pace.h"

#include <stddef.h>

#include "common/clock.h"

static const uint64_t young_ns = PACE_YOUNG_MS * NSEC_PER_MSEC;

void pace_init(struct pace *p, unsigned max)
{
	TAILQ_INIT(&p->young);
	p->count = 0;
	p->max = max;
}

void pace_end(struct pace *p, struct pace_entry *e)
{
	if (!e->young)
		return;
	e->young = false;
	TAILQ_REMOVE(&p->young, e, link);
	p->count--;
}

bool pace_may_start(struct pace *p, uint64_t now_ns)
{
	struct pace_entry *e;

	while ((e = TAILQ_FIRST(&p->young)) && e->start_ns + young_ns <= now_ns)
		pace_end(p, e);
	return p->count < p->max;
}

void pace_begin(struct pace *p, struct pace_entry *e, uint64_t now_ns)
{
	e->young = true;
	e->start_ns = now_ns;
	TAILQ_INSERT_TAIL(&p->young, e, link);
	p->count++;
}

uint64_t pace_next_ns(const struct pace *p)
{
	return p->count < p->max ? UINT64_MAX : TAILQ_FIRST(&p->young)->start_ns + young_ns;
}
