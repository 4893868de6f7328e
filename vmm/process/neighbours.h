/* SPDX-License-Identifier: Apache-2.0 */
/* neighbours.h - pages worth a copy of their own, because one fault then maps their whole group */
#ifndef QUICKTHAW_PROCESS_NEIGHBOURS_H
#define QUICKTHAW_PROCESS_NEIGHBOURS_H

#include <stddef.h>
#include <stdint.h>

struct proc;

/** What KVM's shadow MMU maps at one fault: PTE_PREFETCH_NUM in arch/x86/kvm/mmu/mmu.c. */
enum { NEIGHBOUR_GROUP_PAGES = 8 };

/**
 * struct neighbour_group - eight guest-virtual pages that begin at a multiple of their size.
 * @page: the template page behind each, or NEIGHBOUR_NONE where KVM would stop
 */
#define NEIGHBOUR_NONE UINT32_MAX
struct neighbour_group {
	uint32_t page[NEIGHBOUR_GROUP_PAGES];
};

/**
 * neighbours_choose() - decide which pages to copy ahead for the sake of others.
 * @groups: @count of them; a page may be in several, or out of range, which ends its group
 * @marks: WORKING_SET_* of each of @pages pages; those chosen get WORKING_SET_TOUCHED and
 *	WORKING_SET_WRITTEN
 * @budget: no more pages than this are chosen
 * Return: how many were.
 */
uint32_t neighbours_choose(const struct neighbour_group *groups, size_t count, uint8_t *marks,
			   uint64_t pages, uint32_t budget);

/**
 * neighbours_mark() - the same for what @p has in its page tables, which may be hostile, within a
 * share of what it has touched. The guest must stand still. Return: 0 or -ENOMEM.
 */
int neighbours_mark(struct proc *p, uint8_t *marks, uint64_t pages);

#endif
