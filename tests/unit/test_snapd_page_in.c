/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_snapd_page_in.c - page-in for real: a snapshot file, userfaultfd, io_uring, and threads of
 * this process in the place of instances
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/util.h"
#include "snapd/event_loop.h"
#include "snapd/metrics.h"
#include "snapd/page_in.h"
#include "snapd/template.h"

enum { PAGES = 700, GUESTS_MAX = 24, TOUCHES_MAX = PAGES };

static char dir[] = "/tmp/test_page_in.XXXXXX";
static int dirfd_ = -1;

/* ---- a snapshot whose contents tell page and offset ------------------------------------------ */

/** Every 7th page is zero; every 5th does not compress. */
static void make_page(uint32_t page, uint32_t *words)
{
	uint32_t x = page * 2654435761u + 1;

	for (unsigned i = 0; i < PAGE_BYTES / 4; i++) {
		x = x * 1664525 + 1013904223;
		words[i] = page % 7 == 0 ? 0 : page % 5 == 0 ? x : page * 1024 + i / 64;
	}
}

static bool page_is_right(uint32_t page, const void *at)
{
	uint32_t words[PAGE_BYTES / 4];

	make_page(page, words);
	return !memcmp(words, at, PAGE_BYTES);
}

/** Chunks of 16 pages in address order, the pages of @ws first. */
static void write_snapshot(const char *name, const struct snapshot_ws_entry *ws, size_t ws_count)
{
	const struct snapshot_params params = {
		.ram_pages = 2 * PAGES, .template_pages = PAGES, .guest_kind = 1};
	int fd = openat(dirfd_, name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	static uint32_t data[SNAPSHOT_CHUNK_PAGES][PAGE_BYTES / 4];
	uint32_t pages[SNAPSHOT_CHUNK_PAGES];
	struct snapshot_writer *w;
	static bool done[PAGES];
	unsigned n = 0;

	memset(done, 0, sizeof(done));
	assert_int_equal(snapshot_writer_new(fd, &params, &w), 0);
	assert_int_equal(snapshot_writer_section(w, SNAPSHOT_SECTION_STATE, "state", 5), 0);
	assert_int_equal(snapshot_writer_section(w, SNAPSHOT_SECTION_METADATA, "{}", 2), 0);
	if (ws_count)
		assert_int_equal(snapshot_writer_section(w, SNAPSHOT_SECTION_WORKING_SET, ws,
							 ws_count * sizeof(*ws)),
				 0);
	for (size_t i = 0; i < ws_count; i++) {
		done[ws[i].page] = true;
		make_page(ws[i].page, data[0]);
		pages[0] = ws[i].page;
		assert_int_equal(snapshot_writer_chunk(w, pages, 1, data, true), 0);
	}
	for (uint32_t page = 0; page < PAGES; page++) {
		if (!done[page]) {
			make_page(page, data[n]);
			pages[n++] = page;
		}
		if (n == SNAPSHOT_CHUNK_PAGES || (n && page == PAGES - 1)) {
			assert_int_equal(snapshot_writer_chunk(w, pages, n, data, false), 0);
			n = 0;
		}
	}
	assert_int_equal(snapshot_writer_finish(w), 0);
	snapshot_writer_free(w);
	close(fd);
}

static struct template *open_template(const char *name)
{
	struct template_file *file;
	struct snapshot_error err;
	struct template *t;
	int ret = template_file_open(dirfd_, name, name, false, &file, &err);

	if (ret)
		fail_msg("%s", err.text);
	assert_int_equal(template_new(name, file, &t), 0);
	/* It takes C++'s keyword for one. cppcheck-suppress CastIntegerToAddressAtReturn */
	return t;
}

/* ---- guests: threads which touch pages ------------------------------------------------------- */

struct guest {
	uint32_t client;
	int uffd;
	uint8_t *ram;
	uint32_t touches[TOUCHES_MAX];
	unsigned touch_count;
	bool write;
	pthread_t thread;
	atomic_uint wrong;
	atomic_bool done;
	bool failed;
	char why[300];
};

static struct guest *guests[PAGE_IN_CLIENTS_MAX];

static void *guest_main(void *arg)
{
	struct guest *g = arg;

	for (unsigned i = 0; i < g->touch_count; i++) {
		uint32_t page = g->touches[i];
		uint8_t *at = g->ram + (size_t)page * PAGE_BYTES;

		if (g->write) { /* a write, then what it was copied from must be there */
			uint8_t old = *(volatile uint8_t *)(at + 1);

			*(volatile uint8_t *)at = 0xaa;
			*(volatile uint8_t *)(at + 1) = old;
			uint32_t words[PAGE_BYTES / 4];

			make_page(page, words);
			((uint8_t *)words)[0] = 0xaa;
			g->wrong += memcmp(words, at, PAGE_BYTES) != 0;
		} else {
			g->wrong += !page_is_right(page, at);
		}
	}
	g->done = true;
	return NULL;
}

static void on_failed(uint32_t client, const char *text)
{
	struct guest *g = guests[client];

	g->failed = true;
	snprintf(g->why, sizeof(g->why), "%s", text);
	page_in_detach(client);
	/* A real instance is killed; a thread is set free: closing wakes it, then it sees zeros. */
	close(g->uffd);
	g->uffd = -1;
}

static int open_uffd(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = dev < 0 ? -1 : ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

	if (dev >= 0)
		close(dev);
	if (fd < 0) {
		print_message("userfaultfd: /dev/userfaultfd cannot be used here\n");
		skip();
	}
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	return fd;
}

static struct guest *guest_start(uint32_t client, struct template *t)
{
	struct guest *g = calloc(1, sizeof(*g));
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};

	assert_non_null(g);
	g->client = client;
	g->uffd = open_uffd();
	g->ram = mmap(NULL, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, t->view_fd, 0);
	assert_true(g->ram != MAP_FAILED);
	reg.range.start = (uintptr_t)g->ram;
	reg.range.len = PAGES * PAGE_BYTES;
	assert_int_equal(ioctl(g->uffd, UFFDIO_REGISTER, &reg), 0);
	guests[client] = g;
	page_in_attach(client, g->uffd, (uintptr_t)g->ram);
	page_in_use(client, t);
	return g;
}

static void guest_run(struct guest *g)
{
	assert_int_equal(pthread_create(&g->thread, NULL, guest_main, g), 0);
}

static void turn(void)
{
	bool more = page_in_work();

	assert_int_equal(event_loop_turn(more ? 0 : 10000000), 0);
}

static void guest_join(struct guest *g)
{
	uint64_t deadline = clock_mono_ns() + 60 * NSEC_PER_SEC;

	while (!g->done) {
		turn();
		if (clock_mono_ns() > deadline)
			fail_msg("guest %u hangs", g->client);
	}
	pthread_join(g->thread, NULL);
}

static void settle(struct template *t)
{
	while (t->reads || page_in_work())
		turn();
}

static void guest_free(struct guest *g)
{
	page_in_detach(g->client);
	if (g->uffd >= 0)
		close(g->uffd);
	munmap(g->ram, PAGES * PAGE_BYTES);
	guests[g->client] = NULL;
	free(g);
	event_loop_turn(0);
}

static void shuffle(uint32_t *list, unsigned n, unsigned seed)
{
	for (unsigned i = n - 1; i > 0; i--) {
		unsigned j = (unsigned)rand_r(&seed) % (i + 1);
		uint32_t swap = list[i];

		list[i] = list[j];
		list[j] = swap;
	}
}

static void touch_all(struct guest *g, unsigned seed)
{
	g->touch_count = PAGES;
	for (uint32_t i = 0; i < PAGES; i++)
		g->touches[i] = i;
	shuffle(g->touches, PAGES, seed);
}

static uint64_t counted_faults(void)
{
	return metric_counters[METRIC_FAULTS_RESIDENT] + metric_counters[METRIC_FAULTS_ZERO] +
	       metric_counters[METRIC_FAULTS_READ];
}

static uint64_t observed(enum metric_histogram h)
{
	const struct metric_times *t = metrics_times(h);
	uint64_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(t->buckets); i++)
		n += t->buckets[i];
	return n;
}

/* ---- tests ----------------------------------------------------------------------------------- */

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
static void test_many_at_once(void **state)
{
	struct template *t = open_template("plain");
	struct guest *list[GUESTS_MAX];

	(void)state;
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

static void test_prefetch_fills_the_working_set(void **state)
{
	struct snapshot_ws_entry ws[90];
	struct template *t;
	struct guest *g;

	(void)state;
	for (uint32_t i = 0; i < ARRAY_SIZE(ws); i++)
		ws[i] = (struct snapshot_ws_entry){(i * 37) % PAGES,
						   i % 3 ? 0 : SNAPSHOT_WS_WRITTEN};
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

/* ---- eviction -------------------------------------------------------------------------------- */

static uint64_t resident_bits(const struct template *t)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < t->pages; i++)
		n += template_has_page(t, i);
	return n;
}

/** Does the memfd have what the bits say? SEEK_DATA tells without bringing anything in. */
static void check_bits(const struct template *t)
{
	assert_int_equal(resident_bits(t), t->resident_pages);
	for (uint32_t i = 0; i < t->pages; i++) {
		off_t at = (off_t)i * PAGE_BYTES;
		bool there = lseek(t->memfd, at, SEEK_DATA) == at;

		if (there != template_has_page(t, i))
			fail_msg("page %u: in the memfd %d, by its bit %d", i, there,
				 template_has_page(t, i));
	}
}

/* Everything is taken away from a guest that runs; it finds all of it again, its own writes too. */
static void test_evicted_pages_come_back(void **state)
{
	struct template *t = open_template("plain");
	struct guest *reader = guest_start(3, t), *writer = guest_start(4, t);
	uint64_t faults, all_bytes = template_all_bytes();
	int pages;

	(void)state;
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

static int setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY);
	write_snapshot("plain", NULL, 0);
	if (event_loop_init()) {
		print_message("io_uring: cannot be used here\n");
		return -1;
	}
	return page_in_init(on_failed);
}

static int teardown(void **state)
{
	char command[100];

	(void)state;
	page_in_finish();
	event_loop_finish();
	close(dirfd_);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command); /* NOLINT(cert-env33-c) */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_page_comes_in_once),
		cmocka_unit_test(test_writes_stay_private),
		cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_prefetch_fills_the_working_set),
		cmocka_unit_test(test_prefetch_beside_faults),
		cmocka_unit_test(test_recording_sees_the_order_of_first_touches),
		cmocka_unit_test(test_file_is_replaced_under_a_guest),
		cmocka_unit_test(test_damaged_chunk_ends_who_needs_it),
		cmocka_unit_test(test_shortened_file_ends_who_needs_it),
		cmocka_unit_test(test_stranger_addresses_are_a_breach),
		cmocka_unit_test(test_a_storm_of_faults_is_served_in_turns),
		cmocka_unit_test(test_evicted_pages_come_back),
		cmocka_unit_test(test_eviction_races_with_guests),
		cmocka_unit_test(test_eviction_under_populate),
		cmocka_unit_test(test_eviction_spares_the_working_set_to_the_last),
		cmocka_unit_test(test_what_records_or_reads_is_not_evicted),
		cmocka_unit_test(test_templates_are_listed_by_their_last_use),
		cmocka_unit_test(test_faults_that_a_dead_snapd_has_read_are_recovered),
		cmocka_unit_test(test_a_template_is_revived),
		cmocka_unit_test(test_a_template_that_does_not_fit_is_not_revived),
		cmocka_unit_test(test_instances_cannot_write_to_a_template),
	};

	return cmocka_run_group_tests_name("page_in", tests, setup, teardown);
}
