/* SPDX-License-Identifier: Apache-2.0 */
/* test_neighbours.c - which pages are worth a copy for the sake of others */
#include "tests/unit/mm_fixture.h"

#include "vmm/process/neighbours.h"
#include "vmm/working_set.h"

#define R  WORKING_SET_TOUCHED
#define W  (WORKING_SET_TOUCHED | WORKING_SET_WRITTEN)
#define NO NEIGHBOUR_NONE
#define AT 0x10000000ull

enum { PAGES = 64, PLENTY = 1000 };

struct choice {
	struct neighbour_group group;
	uint8_t before[8], after[8]; /* marks of pages 0 to 7 */
	uint32_t chosen;
};

static void test_one_group(void **state)
{
	static const struct choice cases[] = {
		/* All of it. */
		{{{0, 1, 2, 3, 4, 5, 6, 7}}, {R, R, R, R, R, R, R, R}, {W, W, W, W, W, W, W, W}, 8},
		/* Up to the last one that is touched, with what lies between. */
		{{{0, 1, 2, 3, 4, 5, 6, 7}}, {R, 0, R, R}, {W, W, W, W}, 4},
		/* The page itself comes in anyway. */
		{{{0, 1, 2, 3, 4, 5, 6, 7}}, {0, 0, 0, R}, {0, 0, 0, R}, 0},
		/* Nothing behind an absent page can be reached. */
		{{{0, 1, NO, 3, 4, 5, 6, 7}}, {R, R, 0, R, R, R}, {W, W, 0, R, R, R}, 2},
		{{{NO, 1, 2, 3, 4, 5, 6, 7}}, {0, R, R, R, R}, {0, R, R, R, R}, 0},
		{{{0, 1, 2, PAGES, 4, 5, 6, 7}}, {R, R, R, R, R}, {W, W, W, R, R}, 3},
		/* What was written is a copy already. */
		{{{0, 1, 2, 3, 4, 5, 6, 7}}, {W, W, W, W, W, W, W, R}, {W, W, W, W, W, W, W, W}, 1},
		{{{0, 1, 2, 3, 4, 5, 6, 7}}, {W, R, W, W, W, W, W, W}, {W, W, W, W, W, W, W, W}, 1},
		/* Too far away to be worth it. */
		{{{0, 1, 2, 3, 4, 5, 6, 7}}, {R, 0, 0, 0, 0, 0, 0, R}, {R, 0, 0, 0, 0, 0, 0, R}, 0},
		/* Frames are anywhere. */
		{{{7, 3, 5, 0, 1, 2, 4, 6}}, {0, 0, 0, R, 0, R, 0, R}, {0, 0, 0, W, 0, W, 0, W}, 3},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t marks[PAGES] = {0};

		memcpy(marks, cases[i].before, 8);
		assert_int_equal(neighbours_choose(&cases[i].group, 1, marks, PAGES, PLENTY),
				 cases[i].chosen);
		assert_memory_equal(marks, cases[i].after, 8);
	}
}

static void test_budget_takes_the_best_first(void **state)
{
	/* All eight, one in two, the first three. */
	const struct neighbour_group groups[] = {
		{{0, 1, 2, 3, 4, 5, 6, 7}},
		{{8, 9, 10, 11, 12, 13, 14, 15}},
		{{16, 17, 18, 19, 20, 21, 22, 23}},
	};
	const uint8_t touched[24] = {R, R, R, R, R, R, R, R, R, 0, R, 0,
				     R, 0, R, 0, R, R, R, 0, 0, 0, 0, 0};
	uint8_t marks[PAGES] = {0};

	(void)state;
	memcpy(marks, touched, sizeof(touched));
	assert_int_equal(neighbours_choose(groups, 3, marks, PAGES, 0), 0);
	assert_memory_equal(marks, touched, sizeof(touched));
	assert_int_equal(neighbours_choose(groups, 3, marks, PAGES, 8), 8);
	assert_int_equal(marks[7], W);
	assert_int_equal(marks[8], R);
	assert_int_equal(marks[16], R);
	assert_int_equal(neighbours_choose(groups, 3, marks, PAGES, 5), 3);
	assert_int_equal(marks[8], R);
	assert_int_equal(marks[18], W);
	assert_int_equal(neighbours_choose(groups, 3, marks, PAGES, 7), 7);
	assert_int_equal(marks[14], W);
	assert_int_equal(marks[15], 0);
	/* It has what it can have. */
	assert_int_equal(neighbours_choose(groups, 3, marks, PAGES, PLENTY), 0);
}

/** Any groups at all: within the budget, and nothing is forgotten. */
static void test_hostile_groups(void **state)
{
	(void)state;
	srand(1);
	for (int round = 0; round < 20000; round++) {
		struct neighbour_group groups[16];
		uint8_t before[PAGES], marks[PAGES];
		uint32_t budget = (uint32_t)rand() % 40, chosen, more = 0;

		for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
			for (int j = 0; j < NEIGHBOUR_GROUP_PAGES; j++)
				groups[i].page[j] = rand() % 8 ? (uint32_t)rand() % PAGES
							       : (uint32_t)rand() * 2u;
		for (int i = 0; i < PAGES; i++)
			before[i] = marks[i] = rand() % 3 == 2 ? W : (uint8_t)(rand() % 2);
		chosen = neighbours_choose(groups, ARRAY_SIZE(groups), marks, PAGES, budget);
		for (int i = 0; i < PAGES; i++) {
			assert_int_equal(marks[i] & before[i], before[i]);
			assert_true(marks[i] == before[i] || marks[i] == W);
			more += marks[i] != before[i];
		}
		assert_true(more <= chosen && chosen <= budget);
	}
}

/* ---- of a guest ------------------------------------------------------------------------------ */

static int setup(void **state)
{
	struct fixture *fx = fixture_new(MIB(8));

	fx->p.memory_bytes = MIB(4);
	*state = fx;
	return mm_new(&fx->p);
}

static int teardown(void **state)
{
	fixture_free(*state);
	return 0;
}

static uint32_t frame_at(struct proc *p, uint64_t va)
{
	const uint64_t *pte = pt_find(p, va);
	uint32_t page = 0;

	assert_non_null(pte);
	assert_true(pte_page(&p->mm->frames, *pte, &page));
	return page;
}

static void test_groups_of_page_tables(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint64_t pages = fx->vm.mem.ram_bytes / PAGE_BYTES;
	uint8_t *marks = calloc(1, pages);
	uint64_t *pte;

	assert_non_null(marks);
	/* Two mappings share the second group; both are brought in whole. */
	map_anonymous(p, AT, 12);
	map_anonymous(p, AT + 12 * PAGE_BYTES, 20);
	assert_int_equal(mm_protect(p, AT + 12 * PAGE_BYTES, 20 * PAGE_BYTES, PROT_READ), 0);
	assert_int_equal(fault_populate(p, AT, AT + 32 * PAGE_BYTES, FAULT_READ), 0);
	for (unsigned i = 8; i < 16; i++)
		marks[frame_at(p, AT + i * PAGE_BYTES)] = R;
	/* In the third group a page was never accessed, in the fourth it may not be. */
	for (unsigned i = 16; i < 32; i++)
		marks[frame_at(p, AT + i * PAGE_BYTES)] = R;
	pte = pt_find(p, AT + 19 * PAGE_BYTES);
	*pte &= ~PTE_ACCESSED;
	assert_int_equal(mm_protect(p, AT + 26 * PAGE_BYTES, PAGE_BYTES, PROT_NONE), 0);

	assert_int_equal(neighbours_mark(p, marks, pages), 0);
	for (unsigned i = 0; i < 32; i++) {
		uint8_t want = i < 8 ? 0 : i < 19 || i == 24 || i == 25 ? W : R;

		assert_int_equal(marks[frame_at(p, AT + i * PAGE_BYTES)], want);
	}
	free(marks);
}

static void test_memory_stays_bounded(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint64_t pages = fx->vm.mem.ram_bytes / PAGE_BYTES, touched = 0, copies = 0;
	uint8_t *marks = calloc(1, pages);

	assert_non_null(marks);
	map_anonymous(p, AT, 800);
	assert_int_equal(fault_populate(p, AT, AT + 800 * PAGE_BYTES, FAULT_READ), 0);
	for (unsigned i = 0; i < 800; i += 2)
		marks[frame_at(p, AT + i * PAGE_BYTES)] = R;
	assert_int_equal(neighbours_mark(p, marks, pages), 0);
	for (uint64_t i = 0; i < pages; i++) {
		touched += marks[i] == R || marks[i] == W;
		copies += marks[i] == W;
	}
	assert_true(touched >= 400);
	assert_true(copies <= 250); /* 5/8 */
	free(marks);
}

/** Tables that refer to themselves have entries without end. */
static void test_hostile_page_tables(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint64_t pages = fx->vm.mem.ram_bytes / PAGE_BYTES;
	uint64_t *table = guest_page_ptr(&fx->vm.mem, 1000);
	uint8_t *marks = malloc(pages);
	struct vma all = {.start = GUEST_USER_GVA_MIN, .end = GUEST_USER_GVA_MAX, .prot = 1};

	assert_non_null(marks);
	memset(marks, R, pages);
	for (int i = 0; i < PT_ENTRIES; i++)
		table[i] = guest_page_gpa(1000).v | PTE_TABLE | PTE_HELD;
	p->mm->paging.pml4 = 1000;
	assert_int_equal(vma_reserve(&p->mm->vmas, 1), 0);
	vma_insert(p, &p->mm->vmas, &all);
	assert_int_equal(neighbours_mark(p, marks, pages), 0);
	vma_remove(p, &p->mm->vmas, all.start, all.end);
	free(marks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_group),
		cmocka_unit_test(test_budget_takes_the_best_first),
		cmocka_unit_test(test_hostile_groups),
		cmocka_unit_test_setup_teardown(test_groups_of_page_tables, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory_stays_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_page_tables, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
