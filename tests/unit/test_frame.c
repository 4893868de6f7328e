/* SPDX-License-Identifier: Apache-2.0 */
/* test_frame.c - the frame allocator: order, counting, zeroes, hostile state */
#include "tests/unit/mm_fixture.h"

#include <unistd.h>

enum { RAM_PAGES = 300 };

/** A frame allocator without page tables above it. */
static int setup(void **state)
{
	struct fixture *fx = fixture_new((uint64_t)RAM_PAGES * PAGE_BYTES);

	fx->p.mm = calloc(1, sizeof(*fx->p.mm));
	assert_non_null(fx->p.mm);
	assert_int_equal(frames_new(&fx->p.mm->frames, RAM_PAGES, 0), 0);
	*state = fx;
	return 0;
}

static int teardown(void **state)
{
	fixture_free(*state);
	return 0;
}

static bool is_zero(struct proc *p, uint32_t page)
{
	const uint8_t *at = guest_page_ptr(&p->vm->mem, page);

	for (size_t i = 0; i < PAGE_BYTES; i++)
		if (at[i])
			return false;
	return true;
}

static void test_lowest_first(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint32_t page;

	for (uint32_t i = 0; i < RAM_PAGES; i++) {
		assert_int_equal(frame_alloc(p, &page), 0);
		assert_int_equal(page, i);
	}
	assert_int_equal(frame_alloc(p, &page), -ENOMEM);
	assert_int_equal(mm_resident_pages(p), RAM_PAGES);
	frame_put(p, 200);
	frame_put(p, 7);
	assert_int_equal(mm_resident_pages(p), RAM_PAGES - 2);
	assert_int_equal(frame_alloc(p, &page), 0);
	assert_int_equal(page, 7);
	assert_int_equal(frame_alloc(p, &page), 0);
	assert_int_equal(page, 200);
}

static void test_counting(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint32_t page, other;

	assert_int_equal(frame_alloc(p, &page), 0);
	frame_ref(p, page);
	memset(guest_page_ptr(&p->vm->mem, page), 0x5a, PAGE_BYTES);
	frame_put(p, page);
	assert_int_equal(frame_alloc(p, &other), 0);
	assert_int_not_equal(other, page);
	assert_false(is_zero(p, page));
	frame_put(p, page);
	frame_put(p, page); /* one too many does nothing */
	assert_int_equal(mm_resident_pages(p), 1);
	assert_int_equal(frame_alloc(p, &other), 0);
	assert_int_equal(other, page);
	assert_true(is_zero(p, page));
	frame_put(p, RAM_PAGES + 5); /* outside of RAM */
	frame_ref(p, UINT32_MAX);
}

static void test_count_sticks(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint32_t page;

	assert_int_equal(frame_alloc(p, &page), 0);
	for (int i = 0; i < UINT16_MAX + 10; i++)
		frame_ref(p, page);
	for (int i = 0; i < UINT16_MAX + 10; i++)
		frame_put(p, page);
	assert_int_equal(mm_resident_pages(p), 1);
}

/* Frames of the template part come second, and never show the template's contents. */
static void test_template_part(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	struct frames *f = &p->mm->frames;
	static uint8_t contents[16 * PAGE_BYTES];
	int fd = memfd_create("template", MFD_CLOEXEC);
	uint32_t page;

	memset(contents, 0x77, sizeof(contents));
	assert_true(fd >= 0);
	assert_int_equal(write(fd, contents, sizeof(contents)), sizeof(contents));
	assert_int_equal(guest_mem_map_template(&p->vm->mem, fd, 16, -1), 0);
	frames_free(f);
	assert_int_equal(frames_new(f, RAM_PAGES, 16), 0);
	for (uint32_t i = 16; i < RAM_PAGES; i++) {
		assert_int_equal(frame_alloc(p, &page), 0);
		assert_int_equal(page, i);
	}
	for (uint32_t i = 0; i < 16; i++) {
		assert_int_equal(frame_alloc(p, &page), 0);
		assert_int_equal(page, i);
		assert_true(is_zero(p, page));
	}
	assert_int_equal(frame_alloc(p, &page), -ENOMEM);
	memset(guest_page_ptr(&p->vm->mem, 3), 0x11, PAGE_BYTES);
	frame_put(p, 3);
	assert_int_equal(frame_alloc(p, &page), 0);
	assert_int_equal(page, 3);
	assert_true(is_zero(p, 3));
	close(fd);
}

static int collect(void *arg, uint32_t page)
{
	uint32_t *count = arg;

	count[page]++;
	return 0;
}

/* Random allocations, references and releases against a plain array of counts. */
static void test_random_operations(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint32_t model[RAM_PAGES] = {0}, seen[RAM_PAGES] = {0};
	uint64_t used = 0, last = 0;

	srandom(1);
	for (int step = 0; step < 20000; step++) {
		uint32_t page = (uint32_t)random() % RAM_PAGES;

		switch (random() % 3) {
		case 0:
			if (frame_alloc(p, &page)) {
				assert_int_equal(used, RAM_PAGES);
				break;
			}
			assert_int_equal(model[page], 0);
			for (uint32_t i = 0; i < page; i++)
				assert_int_not_equal(model[i], 0);
			assert_true(is_zero(p, page));
			memset(guest_page_ptr(&p->vm->mem, page), 1, 8);
			model[page] = 1;
			used++;
			break;
		case 1:
			if (model[page]) {
				frame_ref(p, page);
				model[page]++;
			}
			break;
		default:
			if (model[page]) {
				frame_put(p, page);
				used -= !--model[page];
			}
			break;
		}
		assert_int_equal(mm_resident_pages(p), used);
	}
	assert_int_equal(mm_for_each_frame(p, collect, seen), 0);
	for (uint32_t i = 0; i < RAM_PAGES; i++) {
		assert_int_equal(seen[i], model[i] != 0);
		last = model[i] ? i + 1 : last;
	}
	assert_int_equal(mm_template_pages(p), last);
}

static void test_save_load(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	struct state_writer w = {0};
	struct state_reader r;
	struct frames copy;
	uint32_t page;

	for (int i = 0; i < 150; i++)
		assert_int_equal(frame_alloc(p, &page), 0);
	for (uint32_t i = 20; i < 40; i++)
		frame_put(p, i);
	frame_put(p, 130);
	frame_ref(p, 64);
	assert_int_equal(frames_save(&p->mm->frames, &w), 0);
	r = (struct state_reader){w.data, w.used, 0};
	assert_int_equal(frames_new(&copy, RAM_PAGES, 0), 0);
	assert_int_equal(frames_load(&copy, &r), 0);
	assert_int_equal(r.left, 0);
	assert_int_equal(copy.used, p->mm->frames.used);
	assert_memory_equal(copy.refs, p->mm->frames.refs, RAM_PAGES * sizeof(copy.refs[0]));
	frames_free(&copy);
	/* Cut anywhere, it is refused. */
	for (size_t n = 0; n < w.used; n++) {
		r = (struct state_reader){w.data, n, 0};
		assert_int_equal(frames_new(&copy, RAM_PAGES, 0), 0);
		assert_int_equal(frames_load(&copy, &r), -EBADMSG);
		frames_free(&copy);
	}
	state_writer_free(&w);
}

static void test_hostile_state(void **state)
{
	static const uint32_t bad[][6] = {
		{RAM_PAGES, 1, 1},     /* starts outside */
		{RAM_PAGES - 1, 2, 1}, /* ends outside */
		{0, UINT32_MAX, 1},    /* far too long */
		{5, 1, 0},	       /* nobody holds it */
		{5, 1, 65536},	       /* more than a count can say */
		{5, 2, 1, 6, 1, 1},    /* overlap */
		{5, 1, 1, 3, 1, 1},    /* not ascending */
		{5, 0, 1},	       /* an end that is none */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct state_reader r = {(const uint8_t *)bad[i], sizeof(bad[i]), 0};
		struct frames f;

		assert_int_equal(frames_new(&f, RAM_PAGES, 0), 0);
		assert_int_equal(frames_load(&f, &r), -EBADMSG);
		frames_free(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lowest_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_counting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_count_sticks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_template_part, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_operations, setup, teardown),
		cmocka_unit_test_setup_teardown(test_save_load, setup, teardown),
		cmocka_unit_test(test_hostile_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
