/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neighbours.c - pages worth a copy of their own, because one fault then maps their whole group
 *
 * Theory of operation
 *
 * Where KVM shadows the guest's page tables, a fault maps the page that was touched, and with it
 * those of its group (eight entries in a row: a cache line of the guest's page table) from the
 * first one on, until one is absent, was never accessed, or is not writable for the host. The last
 * is so for every page that an instance shares with its template. With copies of its own for the
 * beginning of a group, up to the last page there that it is going to touch, an instance takes one
 * fault where it took one for each.
 *
 * A copy costs memory in each instance, and time of another CPU. So each group gets the length at
 * which the faults spared, at so many copies each, exceed the copies by most; and that price is
 * lowered until all groups together stay within the budget.
 */
#include "vmm/process/neighbours.h"

#include <errno.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/util.h"
#include "vmm/process/mm_internal.h"
#include "vmm/process/proc.h"
#include "vmm/working_set.h"

enum {
	PRICE_MAX = 16, /* copies that one fault may cost, in quarters */
	GROUP_SHIFT = PAGE_SHIFT + 3,
	SPAN_SHIFT = 30,
	/* Copies are a share of the pages touched, and never more than 4 MiB. */
	BUDGET_NUM = 5,
	BUDGET_DEN = 8,
	BUDGET_MAX = 1024,
};

/* ---- the choice ------------------------------------------------------------------------------ */

/** How many pages of @g, from its first one on, KVM could map. */
static unsigned usable(const struct neighbour_group *g, uint64_t pages)
{
	unsigned n = 0;

	while (n < NEIGHBOUR_GROUP_PAGES && g->page[n] < pages)
		n++;
	return n;
}

/**
 * The length of the beginning of @g that pays most at @price. @ret_copies: pages to be copied for
 * it. Return: 0 where nothing pays.
 */
static unsigned best_length(const struct neighbour_group *g, const uint8_t *marks, uint64_t pages,
			    unsigned price, uint32_t *ret_copies)
{
	unsigned n = usable(g, pages), length = 0, touched = 0, copies = 0;
	int most = 0;

	*ret_copies = 0;
	for (unsigned i = 0; i < n; i++) {
		uint8_t mark = marks[g->page[i]];

		touched += !!(mark & WORKING_SET_TOUCHED);
		copies += !(mark & WORKING_SET_WRITTEN);
		/* The first of them faults still, for all of them. */
		if (!(mark & WORKING_SET_TOUCHED) ||
		    (int)((touched - 1) * price) - (int)(copies * 4) <= most)
			continue;
		most = (int)((touched - 1) * price) - (int)(copies * 4);
		length = i + 1;
		*ret_copies = copies;
	}
	return length;
}

static uint64_t copies_at(const struct neighbour_group *groups, size_t count, const uint8_t *marks,
			  uint64_t pages, unsigned price)
{
	uint64_t sum = 0;
	uint32_t copies;

	for (size_t i = 0; i < count; i++) {
		best_length(&groups[i], marks, pages, price, &copies);
		sum += copies;
	}
	return sum;
}

uint32_t neighbours_choose(const struct neighbour_group *groups, size_t count, uint8_t *marks,
			   uint64_t pages, uint32_t budget)
{
	unsigned price = PRICE_MAX;
	uint32_t chosen = 0, copies;

	while (price && copies_at(groups, count, marks, pages, price) > budget)
		price--;
	for (size_t i = 0; price && i < count; i++) {
		unsigned length = best_length(&groups[i], marks, pages, price, &copies);

		/* A page of several groups may have been chosen for another meanwhile: that can
		 * make this group longer, by pages which nobody has counted. */
		if (copies > budget - chosen)
			continue;
		chosen += copies;
		for (unsigned j = 0; j < length; j++)
			marks[groups[i].page[j]] |= WORKING_SET_TOUCHED | WORKING_SET_WRITTEN;
	}
	return chosen;
}

/* ---- groups of a guest ----------------------------------------------------------------------- */

/** struct collector - groups with more than one page that was touched, so far. */
struct collector {
	const struct frames *frames;
	const uint8_t *marks;
	uint64_t pages;
	struct neighbour_group *groups;
	size_t count, size;
	uint64_t key;	   /**< of the group that is being filled, at groups[count] */
	unsigned touched;  /**< pages in it */
	uint64_t seen_max; /**< entries that will be looked at: tables may refer to themselves */
};

static void group_begin(struct collector *c, uint64_t key)
{
	c->key = key;
	c->touched = 0;
	for (unsigned i = 0; i < NEIGHBOUR_GROUP_PAGES; i++)
		c->groups[c->count].page[i] = NEIGHBOUR_NONE;
}

static void group_end(struct collector *c)
{
	if (c->touched > 1)
		c->count++;
}

static void collect(void *arg, uint64_t va, uint64_t *pte)
{
	const uint64_t need = PTE_PRESENT | PTE_ACCESSED;
	struct collector *c = arg;
	uint32_t page;

	if (!c->seen_max || !pte_page(c->frames, *pte, &page))
		return;
	c->seen_max--;
	if (va >> GROUP_SHIFT != c->key) {
		group_end(c);
		if (c->count == c->size) {
			c->seen_max = 0;
			c->touched = 0;
			return;
		}
		group_begin(c, va >> GROUP_SHIFT);
	}
	if ((*pte & need) != need || page >= c->pages)
		return;
	c->groups[c->count].page[va >> PAGE_SHIFT & (NEIGHBOUR_GROUP_PAGES - 1)] = page;
	c->touched += !!(c->marks[page] & WORKING_SET_TOUCHED);
}

/** In steps: a mapping may be large, and the walk of its tables cannot be stopped. */
static void collect_vma(struct proc *p, const struct vma *v, struct collector *c)
{
	const uint64_t span = 1ull << SPAN_SHIFT;

	for (uint64_t at = v->start; at < v->end && c->seen_max; at = align_down(at, span) + span)
		pt_for_each(p, at, MIN(v->end, align_down(at, span) + span), collect, c);
}

int neighbours_mark(struct proc *p, uint8_t *marks, uint64_t pages)
{
	const struct vma_set *vmas = &p->mm->vmas;
	struct collector c = {
		.frames = &p->mm->frames,
		.marks = marks,
		.pages = pages,
		.key = UINT64_MAX,
		.seen_max = 2ull * p->mm->frames.total,
	};
	CLEANUP_FREE struct neighbour_group *groups = NULL;
	uint64_t touched = 0;
	uint32_t chosen, budget;

	for (uint64_t i = 0; i < pages; i++)
		touched += marks[i] & WORKING_SET_TOUCHED;
	c.size = touched + 1; /* one is being filled */
	c.groups = groups = malloc(c.size * sizeof(*groups));
	if (!groups)
		return -ENOMEM;
	group_begin(&c, UINT64_MAX);
	for (uint32_t i = 0; i < vmas->count && c.seen_max; i++)
		collect_vma(p, &vmas->v[i], &c);
	group_end(&c);
	budget = (uint32_t)MIN(touched * BUDGET_NUM / BUDGET_DEN, (uint64_t)BUDGET_MAX);
	chosen = neighbours_choose(groups, c.count, marks, pages, budget);
	log_debug("working set: %llu pages touched, %u copies worth it in %zu groups",
		  (unsigned long long)touched, chosen, c.count);
	return 0;
}
