/* SPDX-License-Identifier: Apache-2.0 */
/* test_snapd_template.c - what a template gives back, what it keeps, and what outlives its snapd */
#include "tests/unit/page_in_fixture.h"

/* ---- eviction -------------------------------------------------------------------------------- */

/* Everything is taken away from a guest that runs; it finds all of it again, its own writes too. */
static void evicted_pages_come_back(const char *name)
{
	struct template *t = open_template(name);
	struct guest *reader = guest_start(3, t), *writer = guest_start(4, t);
	uint64_t faults, all_bytes = template_all_bytes();
	int pages;

	touch_all(reader, 1);
	guest_run(reader);
	guest_join(reader);
	writer->write = true;
	touch_all(writer, 2);
	writer->touch_count = PAGES / 2;
	guest_run(writer);
	guest_join(writer);
	settle(t);
	assert_int_equal(template_all_bytes() - all_bytes, PAGES * PAGE_BYTES);
	check_bits(t);

	pages = template_evict(t, 3);
	assert_in_range(pages, 1, 3 * SNAPSHOT_CHUNK_PAGES);
	assert_int_equal(t->resident_pages, PAGES - (unsigned)pages);
	check_bits(t);
	while ((pages = template_evict(t, 8)) > 0)
		assert_true(pages <= 8 * (int)SNAPSHOT_CHUNK_PAGES);
	assert_int_equal(pages, 0);
	assert_int_equal(t->resident_pages, 0);
	assert_int_equal(template_all_bytes(), all_bytes);
	check_bits(t);

	/* What one has written is its own, and stays. */
	for (unsigned i = 0; i < writer->touch_count; i++)
		assert_int_equal(writer->ram[(size_t)writer->touches[i] * PAGE_BYTES], 0xaa);
	faults = page_in_account(3).faults;
	reader->done = false;
	guest_run(reader);
	guest_join(reader);
	settle(t);
	assert_int_equal(reader->wrong, 0);
	assert_true(page_in_account(3).faults > faults);
	assert_int_equal(t->resident_pages, PAGES);
	check_bits(t);
	guest_free(reader);
	guest_free(writer);
	template_put(t);
}

static void test_evicted_pages_come_back(void **state)
{
	(void)state;
	evicted_pages_come_back("plain");
}

static void test_evicted_pages_of_a_chain_come_back(void **state)
{
	(void)state;
	write_chain("chain", NULL, 0);
	evicted_pages_come_back("chain");
}

/* Guests fault, read, write and populate while the same pages are taken away all the time. */
static void test_eviction_races_with_guests(void **state)
{
	struct template *t = open_template("plain");
	uint64_t deadline = clock_mono_ns() + 60 * NSEC_PER_SEC, evicted = 0;
	struct guest *list[8];
	unsigned running = 8;

	(void)state;
	for (uint32_t i = 0; i < 8; i++) {
		list[i] = guest_start(i, t);
		list[i]->write = i % 2;
		touch_all(list[i], i + 50);
		guest_run(list[i]);
	}
	while (running && clock_mono_ns() < deadline) {
		turn();
		evicted += (uint64_t)MAX(template_evict(t, 2), 0);
		running = 0;
		for (uint32_t i = 0; i < 8; i++)
			running += !list[i]->done;
	}
	assert_int_equal(running, 0);
	assert_true(evicted > 0);
	settle(t);
	check_bits(t);
	for (uint32_t i = 0; i < 8; i++) {
		pthread_join(list[i]->thread, NULL);
		assert_int_equal(list[i]->wrong, 0);
		assert_false(list[i]->failed);
		guest_free(list[i]);
	}
	template_put(t);
}

static void *populate_main(void *arg)
{
	struct guest *g = arg;

	/* As vmm/populate.c does: some for writing, some for reading. */
	if (madvise(g->ram, PAGES / 2 * PAGE_BYTES, MADV_POPULATE_WRITE) ||
	    madvise(g->ram + PAGES / 2 * PAGE_BYTES, PAGES / 2 * PAGE_BYTES, MADV_POPULATE_READ))
		g->wrong++;
	for (uint32_t i = 0; i < PAGES; i++)
		g->wrong += !page_is_right(i, g->ram + (size_t)i * PAGE_BYTES);
	g->done = true;
	return NULL;
}

/* One that was told to populate all loses all at once: it waits for page-in, and is right. */
static void test_eviction_under_populate(void **state)
{
	struct template *t = open_template("plain");
	struct guest *first = guest_start(0, t), *g;

	(void)state;
	touch_all(first, 1);
	guest_run(first);
	guest_join(first);
	settle(t);
	for (int round = 0; round < 20; round++) {
		g = guest_start(1, t);
		assert_int_equal(pthread_create(&g->thread, NULL, populate_main, g), 0);
		while (!g->done) {
			assert_true(template_evict(t, 4) >= 0);
			turn();
		}
		pthread_join(g->thread, NULL);
		assert_int_equal(g->wrong, 0);
		settle(t);
		guest_free(g);
	}
	check_bits(t);
	guest_free(first);
	template_put(t);
}

static void test_eviction_spares_the_working_set_to_the_last(void **state)
{
	struct snapshot_ws_entry ws[40];
	struct template *t;
	struct guest *g;
	unsigned left;

	(void)state;
	for (uint32_t i = 0; i < ARRAY_SIZE(ws); i++)
		ws[i] = (struct snapshot_ws_entry){(i * 37 + 1) % PAGES, 0};
	write_snapshot("warm", ws, ARRAY_SIZE(ws));
	t = open_template("warm");
	g = guest_start(2, t);
	touch_all(g, 4);
	guest_run(g);
	guest_join(g);
	settle(t);
	assert_true(template_populate_count(t) > 0);
	while (t->resident_pages > ARRAY_SIZE(ws))
		assert_true(template_evict(t, 1) > 0);
	left = 0;
	for (size_t i = 0; i < ARRAY_SIZE(ws); i++)
		left += template_has_page(t, ws[i].page);
	/* Zeros of the working set cost nothing to have again: they have gone first. */
	assert_int_equal(left, t->resident_pages);
	assert_int_equal(template_populate_count(t), 0);
	/* The first pages that an invocation touches are the last to go. */
	assert_true(template_evict(t, 1) > 0);
	assert_true(template_has_page(t, ws[0].page));

	/* What a prefetch brings back is all that is missing of it. */
	page_in_prefetch(t, 2);
	assert_true(page_in_is_loading(t));
	settle(t);
	turn();
	assert_false(page_in_is_loading(t));
	assert_true(template_populate_count(t) > 0);
	check_bits(t);

	/* And pre-warming without an instance can bring in the rest, but for zeros. */
	page_in_load(t, PAGE_IN_NOBODY);
	settle(t);
	for (uint32_t i = 0; i < PAGES; i++)
		assert_true(template_has_page(t, i) ||
			    snapshot_reader_page_chunk(t->file->reader, i) == SNAPSHOT_PAGE_ZERO);
	assert_true(page_in_costs().read_ns > 0 && page_in_costs().decode_ns > 0);
	guest_free(g);
	template_put(t);
}

static void test_what_records_or_reads_is_not_evicted(void **state)
{
	struct template *t = open_template("plain");
	struct guest *g = guest_start(5, t);

	(void)state;
	touch_all(g, 7);
	g->touch_count = 50;
	assert_int_equal(template_record(t, true), 0);
	guest_run(g);
	guest_join(g);
	settle(t);
	assert_int_equal(template_evict(t, 100), 0);
	assert_int_equal(t->resident_pages, 50);
	assert_int_equal(template_record(t, false), 0);
	page_in_load(t, PAGE_IN_NOBODY);
	assert_true(t->reads > 0);
	assert_int_equal(template_evict(t, 100), 0);
	settle(t);
	assert_true(template_evict(t, 100) > 0);
	guest_free(g);
	template_put(t);
}

static void test_templates_are_listed_by_their_last_use(void **state)
{
	struct template *a = open_template("plain"), *b = open_template("plain");

	(void)state;
	assert_null(template_oldest());
	template_used(a, 1);
	template_used(b, 2);
	assert_ptr_equal(template_oldest(), a);
	assert_ptr_equal(template_next_oldest(a), b);
	template_used(a, 3);
	assert_ptr_equal(template_oldest(), b);
	assert_null(template_next_oldest(a));
	template_put(b);
	assert_ptr_equal(template_oldest(), a);
	template_put(a);
	assert_null(template_oldest());
}

static struct template_file *open_file(const char *name)
{
	struct template_file *file;
	struct snapshot_error err;

	assert_int_equal(template_file_open(dirfd_, name, name, false, &file, &err), 0);
	return file;
}

/* What was filled before is known, and not read again; the rest comes in as ever. */
static void test_a_template_is_revived(void **state)
{
	struct template *t = open_template("plain"), *again;
	struct guest *g = guest_start(1, t);
	uint64_t had;

	(void)state;
	touch_all(g, 60);
	g->touch_count = 3;
	guest_run(g);
	guest_join(g);
	settle(t);
	guest_free(g);
	had = t->resident_pages;
	assert_true(had >= 3 && had < PAGES);
	assert_int_equal(template_revive("again", open_file("plain"), dup(t->memfd),
					 dup(t->resident_fd), t->serial, &again),
			 0);
	assert_int_equal(again->resident_pages, had);
	assert_int_equal(again->serial, t->serial);
	template_put(t);
	g = guest_start(1, again);
	touch_all(g, 61);
	guest_run(g);
	guest_join(g);
	settle(again);
	assert_int_equal(g->wrong, 0);
	assert_int_equal(again->resident_pages, PAGES);
	guest_free(g);
	template_put(again);
}

static void test_a_template_that_does_not_fit_is_not_revived(void **state)
{
	struct template *t = open_template("plain"), *again;
	int small = memfd_create("small", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int loose = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct stat st;

	(void)state;
	assert_int_equal(fstat(t->resident_fd, &st), 0);
	assert_int_equal(ftruncate(small, PAGE_BYTES), 0);
	assert_int_equal(ftruncate(loose, st.st_size), 0); /* it could shrink under us */
	assert_int_equal(template_revive("x", open_file("plain"), dup(small), dup(t->resident_fd),
					 9, &again),
			 -EBADMSG);
	assert_int_equal(
		template_revive("x", open_file("plain"), dup(t->memfd), dup(loose), 9, &again),
		-EBADMSG);
	assert_int_equal(
		template_revive("x", open_file("plain"), -1, dup(t->resident_fd), 9, &again),
		-EBADMSG);
	close(small);
	close(loose);
	template_put(t);
}

/* An instance that breaks out of its vmm has the descriptor that it was given. */
static void test_instances_cannot_write_to_a_template(void **state)
{
	struct template *t = open_template("plain");

	(void)state;
	assert_int_equal(pwrite(t->view_fd, "x", 1, 0), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(ftruncate(t->view_fd, 0), -1);
	assert_ptr_equal(mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, t->view_fd, 0),
			 MAP_FAILED);
	assert_int_equal(fcntl(t->view_fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	template_put(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_evicted_pages_come_back),
		cmocka_unit_test(test_evicted_pages_of_a_chain_come_back),
		cmocka_unit_test(test_eviction_races_with_guests),
		cmocka_unit_test(test_eviction_under_populate),
		cmocka_unit_test(test_eviction_spares_the_working_set_to_the_last),
		cmocka_unit_test(test_what_records_or_reads_is_not_evicted),
		cmocka_unit_test(test_templates_are_listed_by_their_last_use),
		cmocka_unit_test(test_a_template_is_revived),
		cmocka_unit_test(test_a_template_that_does_not_fit_is_not_revived),
		cmocka_unit_test(test_instances_cannot_write_to_a_template),
	};

	return cmocka_run_group_tests_name("template", tests, setup, teardown);
}
