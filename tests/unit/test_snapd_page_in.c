/* SPDX-License-Identifier: Apache-2.0 */
/* test_snapd_page_in.c - a guest's fault becomes a filled page, for many guests at once */
#include "tests/unit/page_in_fixture.h"

static void test_every_page_comes_in_once(void **state)
{
	struct template *t = open_template("plain");
	struct guest *g = guest_start(3, t), *second;
	uint64_t faults = counted_faults(), bytes = metric_counters[METRIC_SNAPSHOT_READ_BYTES];
	uint64_t chunks = metric_counters[METRIC_CHUNKS_DECODED];
	uint64_t times = observed(METRIC_PAGE_IN), reads = observed(METRIC_SNAPSHOT_READ);

	(void)state;
	touch_all(g, 1);
	guest_run(g);
	guest_join(g);
	settle(t);
	assert_int_equal(g->wrong, 0);
	assert_true(page_in_account(3).faults > 0);
	assert_true(page_in_account(3).bytes_read > 0);
	/* Metrics say the same: every fault is counted once, every read has taken its time. */
	assert_int_equal(counted_faults() - faults, page_in_account(3).faults);
	assert_int_equal(metric_counters[METRIC_SNAPSHOT_READ_BYTES] - bytes,
			 page_in_account(3).bytes_read);
	assert_int_equal(metric_counters[METRIC_CHUNKS_DECODED] - chunks, t->chunks_decoded);
	assert_in_range(observed(METRIC_PAGE_IN) - times, 1, page_in_account(3).faults);
	assert_in_range(observed(METRIC_SNAPSHOT_READ) - reads, 1, t->chunks_decoded);
	assert_int_equal(t->resident_pages, PAGES);

	/* The next instance finds everything. */
	second = guest_start(4, t);
	touch_all(second, 2);
	guest_run(second);
	guest_join(second);
	assert_int_equal(second->wrong, 0);
	assert_int_equal(page_in_account(4).faults, 0);
	guest_free(g);
	guest_free(second);
	template_put(t);
}

static void test_writes_stay_private(void **state)
{
	struct template *t = open_template("plain");
	struct guest *g = guest_start(0, t), *second;

	(void)state;
	g->write = true;
	touch_all(g, 3);
	guest_run(g);
	guest_join(g);
	assert_int_equal(g->wrong, 0);
	second = guest_start(1, t);
	touch_all(second, 4);
	guest_run(second);
	guest_join(second);
	assert_int_equal(second->wrong, 0);
	settle(t);
	guest_free(g);
	guest_free(second);
	template_put(t);
}

/* More threads wait than there are reads, on one template and at once. */
static void many_at_once(const char *name)
{
	struct template *t = open_template(name);
	struct guest *list[GUESTS_MAX];

	for (uint32_t i = 0; i < GUESTS_MAX; i++) {
		list[i] = guest_start(i, t);
		list[i]->write = i % 2;
		touch_all(list[i], i);
	}
	for (uint32_t i = 0; i < GUESTS_MAX; i++)
		guest_run(list[i]);
	for (uint32_t i = 0; i < GUESTS_MAX; i++)
		guest_join(list[i]);
	settle(t);
	for (uint32_t i = 0; i < GUESTS_MAX; i++) {
		assert_int_equal(list[i]->wrong, 0);
		assert_false(list[i]->failed);
		guest_free(list[i]);
	}
	assert_int_equal(t->resident_pages, PAGES);
	assert_int_equal(t->refs, 1);
	template_put(t);
}

static void test_many_at_once(void **state)
{
	(void)state;
	many_at_once("plain");
}

/* Old contents of a page come in with a chunk of a base, and must go nowhere. */
static void test_a_chain_of_three_files(void **state)
{
	(void)state;
	write_chain("chain", NULL, 0);
	many_at_once("chain");
}

static void fill_working_set(struct snapshot_ws_entry ws[90])
{
	for (uint32_t i = 0; i < 90; i++)
		ws[i] = (struct snapshot_ws_entry){(i * 37) % PAGES,
						   i % 3 ? 0 : SNAPSHOT_WS_WRITTEN};
}

/* What the working set has in bases is read ahead, too: only the chunks that it is in. */
static void test_prefetch_reads_the_whole_chain(void **state)
{
	struct snapshot_ws_entry ws[90];
	struct template *t;
	struct guest *g;

	(void)state;
	fill_working_set(ws);
	write_chain("hot-chain", ws, ARRAY_SIZE(ws));
	t = open_template("hot-chain");
	g = guest_start(9, t);
	assert_in_range(t->file->working_set_chunks, 31, t->file->load_count - 1);
	page_in_prefetch(t, 9);
	settle(t);
	for (size_t i = 0; i < ARRAY_SIZE(ws); i++)
		assert_true(template_has_page(t, ws[i].page));
	assert_true(template_populate_count(t) > 0);
	touch_all(g, 7);
	guest_run(g);
	guest_join(g);
	assert_int_equal(g->wrong, 0);
	settle(t);
	guest_free(g);
	template_put(t);
}

static void test_load_reads_the_whole_chain(void **state)
{
	struct template *t = open_template("chain");

	(void)state;
	assert_true(page_in_load(t, PAGE_IN_NOBODY));
	while (page_in_is_loading(t))
		turn();
	settle(t);
	for (uint32_t page = 0; page < PAGES; page++)
		assert_true(template_has_page(t, page) == (page % 7 != 0));
	template_put(t);
}

/* A damaged base is named, and what is in other files is there all the same. */
static void test_damaged_base(void **state)
{
	struct template *t;
	struct guest *g;
	int fd;

	(void)state;
	write_chain("chain", NULL, 0);
	t = open_template("chain");
	fd = openat(dirfd_, "layer-0", O_RDWR | O_CLOEXEC);
	for (uint32_t i = 0; i < snapshot_reader_chunk_count(t->file->reader); i++) {
		const struct snapshot_chunk *c = snapshot_reader_chunk(t->file->reader, i);

		if (c->file == 2)
			assert_int_equal(pwrite_full(fd, "damage", 6, c->offset), 0);
	}
	close(fd);
	g = guest_start(5, t);
	g->touches[g->touch_count++] = 1; /* layer-1 */
	g->touches[g->touch_count++] = 2; /* the diff itself */
	guest_run(g);
	guest_join(g);
	assert_int_equal(g->wrong, 0);
	assert_false(g->failed);
	guest_free(g);
	g = guest_start(5, t);
	g->touches[g->touch_count++] = 3;
	guest_run(g);
	guest_join(g);
	assert_true(g->failed);
	assert_non_null(strstr(g->why, "layer-0: chunk at offset"));
	settle(t);
	guest_free(g);
	template_put(t);
}

static void test_prefetch_fills_the_working_set(void **state)
{
	struct snapshot_ws_entry ws[90];
	struct template *t;
	struct guest *g;

	(void)state;
	fill_working_set(ws);
	write_snapshot("hot", ws, ARRAY_SIZE(ws));
	t = open_template("hot");
	g = guest_start(9, t);
	assert_true(template_has_working_set(t));
	assert_int_equal(template_populate_count(t), 0);
	page_in_prefetch(t, 9);
	settle(t);
	for (size_t i = 0; i < ARRAY_SIZE(ws); i++)
		assert_true(template_has_page(t, ws[i].page));
	assert_int_equal(t->resident_pages, ARRAY_SIZE(ws));
	assert_true(template_populate_count(t) > 0);

	/* While a prefetch of it is under way, a guest gets every page all the same. */
	touch_all(g, 5);
	guest_run(g);
	guest_join(g);
	assert_int_equal(g->wrong, 0);
	settle(t);
	guest_free(g);
	template_put(t);
}

static void test_prefetch_beside_faults(void **state)
{
	struct template *t = open_template("hot");
	struct guest *g = guest_start(9, t);

	(void)state;
	touch_all(g, 6);
	guest_run(g);
	page_in_prefetch(t, 9);
	guest_join(g);
	settle(t);
	assert_int_equal(g->wrong, 0);
	assert_int_equal(t->resident_pages, PAGES);
	assert_int_equal(t->refs, 1);
	guest_free(g);
	template_put(t);
}

static void test_recording_sees_the_order_of_first_touches(void **state)
{
	struct template *t = open_template("plain");
	struct guest *g = guest_start(5, t);

	(void)state;
	touch_all(g, 7);
	g->touch_count = 123;
	assert_int_equal(template_record(t, true), 0);
	guest_run(g);
	guest_join(g);
	settle(t);
	assert_int_equal(g->wrong, 0);
	assert_int_equal(t->order_count, 123);
	for (unsigned i = 0; i < 123; i++)
		assert_int_equal(t->order[i], g->touches[i]);
	assert_int_equal(t->resident_pages, 123);
	assert_int_equal(template_record(t, false), 0);
	guest_free(g);
	template_put(t);
}

/* Same memory, other order: what was filled stays, what was not comes from the new file. */
static void test_file_is_replaced_under_a_guest(void **state)
{
	struct template *t = open_template("plain");
	struct guest *g = guest_start(6, t);
	struct template_file *file;
	struct snapshot_error err;

	(void)state;
	touch_all(g, 8);
	g->touch_count = PAGES / 2;
	guest_run(g);
	while (!g->done && t->resident_pages < 50)
		turn();
	assert_int_equal(template_file_open(dirfd_, "hot", "hot", false, &file, &err), 0);
	template_replace_file(t, file);
	guest_join(g);
	settle(t);
	assert_ptr_equal(t->file, file);
	assert_int_equal(g->wrong, 0);
	touch_all(g, 9);
	g->done = false;
	guest_run(g);
	guest_join(g);
	settle(t);
	assert_int_equal(g->wrong, 0);
	guest_free(g);
	template_put(t);
}

static void test_damaged_chunk_ends_who_needs_it(void **state)
{
	struct template *t = open_template("plain");
	const struct snapshot_chunk *c = snapshot_reader_chunk(
		t->file->reader, snapshot_reader_page_chunk(t->file->reader, 100));
	struct guest *bad = guest_start(7, t), *good = guest_start(8, t);
	int fd = openat(dirfd_, "plain", O_RDWR);
	uint8_t byte;

	(void)state;
	assert_int_equal(pread(fd, &byte, 1, (off_t)c->offset + 5), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)c->offset + 5), 1);
	fsync(fd);
	bad->touches[0] = 100;
	bad->touch_count = 1;
	guest_run(bad);
	guest_join(bad);
	assert_true(bad->failed);
	assert_non_null(strstr(bad->why, "plain"));
	assert_false(template_has_page(t, 100));

	good->touch_count = 0;
	for (uint32_t page = 0; page < PAGES; page++)
		if (snapshot_reader_page_chunk(t->file->reader, page) !=
		    snapshot_reader_page_chunk(t->file->reader, 100))
			good->touches[good->touch_count++] = page;
	guest_run(good);
	guest_join(good);
	settle(t);
	assert_false(good->failed);
	assert_int_equal(good->wrong, 0);

	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)c->offset + 5), 1);
	close(fd);
	guest_free(bad);
	guest_free(good);
	template_put(t);
}

static void test_shortened_file_ends_who_needs_it(void **state)
{
	struct template *t;
	struct guest *g;

	(void)state;
	write_snapshot("short", NULL, 0);
	t = open_template("short");
	g = guest_start(7, t);
	assert_int_equal(ftruncate(t->file->fd, 0), -1); /* it is open for reading only */
	int fd = openat(dirfd_, "short", O_RDWR);

	assert_int_equal(ftruncate(fd, 4096), 0);
	close(fd);
	g->touches[0] = 600;
	g->touch_count = 1;
	guest_run(g);
	guest_join(g);
	assert_true(g->failed);
	assert_non_null(strstr(g->why, "short"));
	settle(t);
	guest_free(g);
	template_put(t);
}

static void test_stranger_addresses_are_a_breach(void **state)
{
	struct template *t = open_template("plain");
	struct guest *g = guest_start(2, t);

	(void)state;
	t->pages = 10; /* as if the instance had mapped more than its template */
	g->touches[0] = 11;
	g->touch_count = 1;
	guest_run(g);
	guest_join(g);
	assert_true(g->failed);
	assert_non_null(strstr(g->why, "outside"));
	t->pages = PAGES;
	guest_free(g);
	template_put(t);
}

/* ---- more at once than one turn takes -------------------------------------------------------- */

enum { STORM_THREADS = 90 };

struct storm_touch {
	const volatile uint8_t *at;
	pthread_t thread;
};

static void *storm_main(void *arg)
{
	const struct storm_touch *touch = arg;

	return *touch->at ? arg : NULL;
}

static void test_a_storm_of_faults_is_served_in_turns(void **state)
{
	struct template *t = open_template("plain");
	struct guest *g = guest_start(0, t);
	struct storm_touch touches[STORM_THREADS];
	uint64_t deadline = clock_mono_ns() + 60 * NSEC_PER_SEC;

	(void)state;
	for (int i = 0; i < STORM_THREADS; i++) { /* pages of zeros: served at once */
		touches[i].at = g->ram + (size_t)i * 7 * PAGE_BYTES;
		assert_int_equal(pthread_create(&touches[i].thread, NULL, storm_main, &touches[i]),
				 0);
	}
	usleep(300000); /* until all of them wait */
	assert_int_equal(event_loop_turn(10000000), 0);
	assert_in_range(page_in_account(0).faults, 1, STORM_THREADS - 1);
	while (page_in_account(0).faults < STORM_THREADS && clock_mono_ns() < deadline)
		turn();
	assert_int_equal(page_in_account(0).faults, STORM_THREADS);
	for (int i = 0; i < STORM_THREADS; i++)
		assert_int_equal(pthread_join(touches[i].thread, NULL), 0);
	guest_free(g);
	template_put(t);
}

/* ---- what a snapd that was killed leaves ------------------------------------------------------
 */

/** As a snapd that dies before it answers: read the one fault that the guest waits in. */
static uint32_t swallow_fault(const struct guest *g)
{
	struct pollfd fault = {.fd = g->uffd, .events = POLLIN};
	struct uffd_msg msg;

	assert_int_equal(poll(&fault, 1, 10000), 1);
	assert_int_equal(read(g->uffd, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(msg.event, UFFD_EVENT_PAGEFAULT);
	return (uint32_t)((msg.arg.pagefault.address - (uintptr_t)g->ram) / PAGE_BYTES);
}

/* Nobody serves the faults of an instance that is killed, and yet the template has nothing that the
 * snapshot has not. */
static void test_an_instance_that_ends_leaves_nothing_behind(void **state)
{
	enum { GUESTS = 12 };
	struct template *t = open_template("plain");
	struct guest *list[GUESTS], *next;
	unsigned wrong = 0;

	(void)state;
	for (uint32_t i = 0; i < GUESTS; i++) {
		list[i] = guest_start(i, t);
		list[i]->write = i % 2;
		touch_all(list[i], 70 + i);
		guest_run(list[i]);
	}
	while (!page_in_account(0).faults)
		turn(); /* some have their first page, some wait for a read, some were not seen */
	for (uint32_t i = 0; i < GUESTS; i++)
		page_in_end(i);
	for (uint32_t i = 0; i < GUESTS; i++) {
		guest_join(list[i]); /* a thread is not killed: it goes on in zeros */
		assert_false(list[i]->failed);
		wrong += list[i]->wrong;
	}
	settle(t);
	assert_true(wrong);
	assert_in_range(t->resident_pages, 1, PAGES - 1);
	check_bits(t);
	for (uint32_t i = 0; i < GUESTS; i++)
		guest_free(list[i]);
	next = guest_start(0, t);
	touch_all(next, 90);
	guest_run(next);
	guest_join(next);
	assert_int_equal(next->wrong, 0);
	guest_free(next);
	template_put(t);
}

/* Events that the dead snapd had read will not come again: its heir makes the threads fault
 * anew.
 */
static void test_faults_that_a_dead_snapd_has_read_are_recovered(void **state)
{
	enum { GUESTS = 6 };
	struct template *t = open_template("plain");
	struct guest *list[GUESTS];
	uint32_t words[PAGE_BYTES / 4];

	(void)state;
	for (uint32_t i = 0; i < GUESTS; i++) {
		list[i] = guest_start(i, t);
		page_in_detach(i);
		list[i]->write = i % 2;
		touch_all(list[i], 50 + i);
		guest_run(list[i]);
	}
	event_loop_turn(0);
	for (uint32_t i = 0; i < GUESTS; i++) {
		uint32_t page = swallow_fault(list[i]);

		if (i < 2) { /* it had filled the page, and died before the wake */
			make_page(page, words);
			assert_int_equal(pwrite_full(t->memfd, words, PAGE_BYTES,
						     (uint64_t)page * PAGE_BYTES),
					 0);
		}
		page_in_attach(i, list[i]->uffd, (uintptr_t)list[i]->ram);
		page_in_use(i, t);
	}
	for (int i = 0; i < 20; i++)
		turn();
	for (uint32_t i = 0; i < GUESTS; i++) { /* nobody tells them */
		assert_int_equal(page_in_account(i).faults, 0);
		assert_false(list[i]->done);
	}
	for (uint32_t i = 0; i < GUESTS; i++)
		page_in_recover(i);
	for (uint32_t i = 0; i < GUESTS; i++) {
		guest_join(list[i]);
		assert_int_equal(list[i]->wrong, 0);
		assert_false(list[i]->failed);
	}
	settle(t);
	for (uint32_t i = 0; i < GUESTS; i++)
		guest_free(list[i]);
	template_put(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_page_comes_in_once),
		cmocka_unit_test(test_writes_stay_private),
		cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_a_chain_of_three_files),
		cmocka_unit_test(test_prefetch_reads_the_whole_chain),
		cmocka_unit_test(test_load_reads_the_whole_chain),
		cmocka_unit_test(test_damaged_base),
		cmocka_unit_test(test_prefetch_fills_the_working_set),
		cmocka_unit_test(test_prefetch_beside_faults),
		cmocka_unit_test(test_recording_sees_the_order_of_first_touches),
		cmocka_unit_test(test_file_is_replaced_under_a_guest),
		cmocka_unit_test(test_damaged_chunk_ends_who_needs_it),
		cmocka_unit_test(test_shortened_file_ends_who_needs_it),
		cmocka_unit_test(test_stranger_addresses_are_a_breach),
		cmocka_unit_test(test_a_storm_of_faults_is_served_in_turns),
		cmocka_unit_test(test_an_instance_that_ends_leaves_nothing_behind),
		cmocka_unit_test(test_faults_that_a_dead_snapd_has_read_are_recovered),
	};

	return cmocka_run_group_tests_name("page_in", tests, setup, teardown);
}
