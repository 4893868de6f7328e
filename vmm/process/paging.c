/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paging.c - the guest's page tables, in frames of RAM
 *
 * Source: SDM vol. 3, 4.5 (4-level paging, 4 KiB pages only). What lies in the tables is hostile
 * after a restore: an upper entry counts only if it points into RAM; a leaf entry only if it is
 * marked as ours and its frame lies in RAM. Walks go through fixed levels and never loop.
 */
#include <errno.h>
#include <string.h>

#include "vmm/process/mm_internal.h"

enum { LEVELS = 4, LEVEL_BITS = 9 };

/** Address bits below an entry of @level (4: PML4 .. 1: leaf). */
static unsigned level_shift(int level)
{
	return PAGE_SHIFT + LEVEL_BITS * (unsigned)(level - 1);
}

static unsigned level_index(uint64_t va, int level)
{
	return (unsigned)(va >> level_shift(level)) & (PT_ENTRIES - 1);
}

/** The table that an upper entry points to, or NULL. */
static uint64_t *table_of(const struct proc *p, uint64_t entry)
{
	uint64_t at = entry & PTE_ADDR;

	if (!(entry & PTE_PRESENT) || entry & (1ull << 7) || at < GUEST_RAM_GPA)
		return NULL;
	return guest_mem_ptr(&p->vm->mem, (struct gpa){at}, PAGE_BYTES);
}

static uint64_t *root_of(const struct proc *p)
{
	return guest_page_ptr(&p->vm->mem, p->mm->paging.pml4);
}

static int table_new(struct proc *p, uint64_t *entry)
{
	uint32_t page;
	int ret = mm_page_alloc(p, &page);

	if (ret)
		return ret;
	p->mm->paging.tables++;
	*entry = guest_page_gpa(page).v | PTE_TABLE;
	return 0;
}

static void cache_reset(struct paging *pg)
{
	for (int i = 0; i < PT_CACHE; i++)
		pg->cache[i].span = UINT64_MAX;
}

/** Make the entry for the system slot what this vmm wants, and touch nothing when it is. */
static int map_system_slot(struct proc *p)
{
	uint64_t *pml4e = &root_of(p)[level_index(GUEST_SYSTEM_GVA, 4)];
	uint64_t *pdpte;
	int ret;

	if (!table_of(p, *pml4e)) {
		ret = table_new(p, pml4e);
		if (ret)
			return ret;
	}
	if ((*pml4e & ~PTE_ADDR) != PTE_TABLE)
		*pml4e = (*pml4e & PTE_ADDR) | PTE_TABLE;
	pdpte = &table_of(p, *pml4e)[level_index(GUEST_SYSTEM_GVA, 3)];
	if (*pdpte != SYSTEM_PDPT_ENTRY)
		*pdpte = SYSTEM_PDPT_ENTRY;
	return 0;
}

int paging_new(struct proc *p)
{
	struct paging *pg = &p->mm->paging;
	int ret = mm_page_alloc(p, &pg->pml4);

	if (ret)
		return ret;
	pg->tables = 1;
	cache_reset(pg);
	ret = map_system_slot(p);
	if (!ret)
		vm_set_page_tables(p->vm, guest_page_gpa(pg->pml4));
	return ret;
}

int paging_load(struct proc *p, uint32_t pml4)
{
	int ret;

	p->mm->paging.pml4 = pml4;
	cache_reset(&p->mm->paging);
	ret = map_system_slot(p);
	if (!ret)
		vm_set_page_tables(p->vm, guest_page_gpa(pml4));
	return ret;
}

uint64_t *pt_find(struct proc *p, uint64_t va)
{
	struct paging *pg = &p->mm->paging;
	uint64_t span = va >> PT_SPAN_SHIFT;
	unsigned slot = span % PT_CACHE;
	uint64_t *table;

	if (va >= GUEST_USER_GVA_MAX)
		return NULL;
	if (pg->cache[slot].span == span)
		return &pg->cache[slot].table[level_index(va, 1)];
	table = root_of(p);
	for (int level = LEVELS; level > 1; level--) {
		table = table_of(p, table[level_index(va, level)]);
		if (!table)
			return NULL;
	}
	pg->cache[slot].span = span;
	pg->cache[slot].table = table;
	return &table[level_index(va, 1)];
}

int pt_make(struct proc *p, uint64_t va, uint64_t **ret)
{
	uint64_t *table = root_of(p);

	if (va >= GUEST_USER_GVA_MAX)
		return -EFAULT;
	for (int level = LEVELS; level > 1; level--) {
		uint64_t *entry = &table[level_index(va, level)];

		table = table_of(p, *entry);
		if (!table) {
			int err = table_new(p, entry);

			if (err)
				return err;
			table = table_of(p, *entry);
		} else if ((*entry & ~PTE_ADDR) != PTE_TABLE) {
			/* Only a hostile table lacks rights up here: without this the program would
			 * fault for ever. */
			*entry = (*entry & PTE_ADDR) | PTE_TABLE;
		}
	}
	*ret = &table[level_index(va, 1)];
	return 0;
}

void pt_for_each(struct proc *p, uint64_t start, uint64_t end,
		 void (*fn)(void *arg, uint64_t va, uint64_t *pte), void *arg)
{
	uint64_t va = start;

	while (va < end) {
		uint64_t *table = root_of(p);
		uint64_t stop;
		int level = LEVELS;

		for (; level > 1; level--) {
			uint64_t *next = table_of(p, table[level_index(va, level)]);

			if (!next)
				break;
			table = next;
		}
		/* Nothing below this entry: go on at the next one of its level. */
		stop = align_down(va, 1ull << level_shift(level)) + (1ull << level_shift(level));
		if (level > 1) {
			va = stop;
			continue;
		}
		stop = MIN(end, align_down(va, 1ull << PT_SPAN_SHIFT) + (1ull << PT_SPAN_SHIFT));
		for (; va < stop; va += PAGE_BYTES) {
			uint64_t *pte = &table[level_index(va, 1)];

			if (*pte)
				fn(arg, va, pte);
		}
	}
}
