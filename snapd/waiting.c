/* SPDX-License-Identifier: Apache-2.0 */
/* waiting.c - invocations that wait for an instance, in an order that is fair to functions */
#include "snapd/waiting.h"

#include <assert.h>
#include <stddef.h>

void waiting_init(struct waiting *w)
{
	*w = (struct waiting){.count = 0};
	TAILQ_INIT(&w->functions);
}

void waiting_function_init(struct waiting_function *f)
{
	*f = (struct waiting_function){.count = 0};
	TAILQ_INIT(&f->lanes);
}

void waiting_lane_init(struct waiting_lane *lane, struct waiting_function *f)
{
	*lane = (struct waiting_lane){.function = f};
	TAILQ_INIT(&lane->entries);
}

void waiting_push(struct waiting *w, struct waiting_lane *lane, struct waiting_entry *e,
		  uint64_t now_ns)
{
	struct waiting_function *f = lane->function;

	e->lane = lane;
	e->since_ns = now_ns;
	if (!f->count++) {
		f->since_ns = now_ns;
		TAILQ_INSERT_TAIL(&w->functions, f, link);
		w->function_count++;
	}
	if (!lane->count++)
		TAILQ_INSERT_TAIL(&f->lanes, lane, link);
	TAILQ_INSERT_TAIL(&lane->entries, e, link);
	w->count++;
}

void waiting_remove(struct waiting *w, struct waiting_entry *e)
{
	struct waiting_lane *lane = e->lane;
	struct waiting_function *f = lane->function;

	assert(lane->count && f->count && w->count);
	TAILQ_REMOVE(&lane->entries, e, link);
	e->lane = NULL;
	w->count--;
	if (!--lane->count)
		TAILQ_REMOVE(&f->lanes, lane, link);
	if (!--f->count) {
		TAILQ_REMOVE(&w->functions, f, link);
		w->function_count--;
	}
}

struct waiting_entry *waiting_oldest(const struct waiting_lane *lane)
{
	return TAILQ_FIRST(&lane->entries);
}

/** Start one of @f. Return: false when the first of every lane is blocked. */
static bool try_function(struct waiting *w, struct waiting_function *f, waiting_try_fn try)
{
	struct waiting_lane *lane;

	TAILQ_FOREACH(lane, &f->lanes, link)
	{
		/* With its last invocation, a deleted function and its lanes go away. */
		bool more_of_lane = lane->count > 1, more = f->count > 1;

		if (!try(TAILQ_FIRST(&lane->entries)))
			continue;
		if (more_of_lane) {
			TAILQ_REMOVE(&f->lanes, lane, link);
			TAILQ_INSERT_TAIL(&f->lanes, lane, link);
		}
		if (more) {
			TAILQ_REMOVE(&w->functions, f, link);
			TAILQ_INSERT_TAIL(&w->functions, f, link);
		}
		return true;
	}
	return false;
}

/** Whose turn it is of those that are not blocked in this round. */
static struct waiting_function *next_function(struct waiting *w)
{
	struct waiting_function *f;

	TAILQ_FOREACH(f, &w->functions, link)
	if (f->blocked_round != w->round)
		return f;
	return NULL;
}

void waiting_walk(struct waiting *w, waiting_try_fn try)
{
	struct waiting_function *f;

	w->round++;
	while ((f = next_function(w)))
		if (!try_function(w, f, try))
			f->blocked_round = w->round;
}
