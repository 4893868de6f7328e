/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_in_fixture.h - a snapshot file whose contents tell page and offset, and threads of this
 * process in the place of instances: over a real userfaultfd and io_uring
 */
#ifndef QUICKTHAW_PAGE_IN_FIXTURE_H
#define QUICKTHAW_PAGE_IN_FIXTURE_H

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
static inline void make_page(uint32_t page, uint32_t *words)
{
	uint32_t x = page * 2654435761u + 1;

	for (unsigned i = 0; i < PAGE_BYTES / 4; i++) {
		x = x * 1664525 + 1013904223;
		words[i] = page % 7 == 0 ? 0 : page % 5 == 0 ? x : page * 1024 + i / 64;
	}
}

static inline bool page_is_right(uint32_t page, const void *at)
{
	uint32_t words[PAGE_BYTES / 4];

	make_page(page, words);
	return !memcmp(words, at, PAGE_BYTES);
}

enum { LAYERS = 3 };

/** What file @layer of a chain has: pages get their right contents in one of them, old ones before.
 */
static inline void make_layer_page(unsigned layer, uint32_t page, uint32_t *words)
{
	if (layer >= (page % 7 == 0 ? 1 + page % 2 : page % LAYERS))
		make_page(page, words);
	else
		memset(words, 0xe0 + (int)layer, PAGE_BYTES);
}

/** struct layer_writer - a file of a chain that is being written. */
struct layer_writer {
	struct snapshot_writer *w;
	bool diff;
	unsigned layer, count;
	uint32_t pages[SNAPSHOT_CHUNK_PAGES];
	uint32_t data[SNAPSHOT_CHUNK_PAGES][PAGE_BYTES / 4];
};

static inline void layer_flush(struct layer_writer *l, bool hot)
{
	if (l->count)
		assert_int_equal(snapshot_writer_chunk(l->w, l->pages, l->count, l->data, hot), 0);
	l->count = 0;
}

static inline void layer_add(struct layer_writer *l, uint32_t page)
{
	make_layer_page(l->layer, page, l->data[l->count]);
	if (l->diff && snapshot_writer_same(l->w, page, l->data[l->count]) == 1)
		return;
	l->pages[l->count++] = page;
}

/** Chunks of 16 pages in address order, the pages of @ws first. @base: NULL, or it is a diff. */
static inline void write_layer(const char *name, const char *base, unsigned layer,
			       const struct snapshot_ws_entry *ws, size_t ws_count)
{
	const struct snapshot_params params = {
		.ram_pages = 2 * PAGES, .template_pages = PAGES, .guest_kind = 1};
	int fd = openat(dirfd_, name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	static struct layer_writer l;
	struct snapshot_reader *r = NULL;
	static bool done[PAGES];

	memset(done, 0, sizeof(done));
	l.layer = layer;
	l.diff = base;
	assert_int_equal(snapshot_writer_new(fd, &params, &l.w), 0);
	if (base) {
		assert_int_equal(snapshot_reader_open(dirfd_, base, base, &r, NULL), 0);
		assert_int_equal(snapshot_writer_base(l.w, r, base), 0);
	}
	assert_int_equal(snapshot_writer_section(l.w, SNAPSHOT_SECTION_STATE, "state", 5), 0);
	assert_int_equal(snapshot_writer_section(l.w, SNAPSHOT_SECTION_METADATA, "{}", 2), 0);
	if (ws_count)
		assert_int_equal(snapshot_writer_section(l.w, SNAPSHOT_SECTION_WORKING_SET, ws,
							 ws_count * sizeof(*ws)),
				 0);
	for (size_t i = 0; i < ws_count; i++) {
		done[ws[i].page] = true;
		layer_add(&l, ws[i].page);
		layer_flush(&l, true);
	}
	for (uint32_t page = 0; page < PAGES; page++) {
		if (!done[page])
			layer_add(&l, page);
		if (l.count == SNAPSHOT_CHUNK_PAGES || page == PAGES - 1)
			layer_flush(&l, false);
	}
	assert_int_equal(snapshot_writer_finish(l.w), 0);
	snapshot_writer_free(l.w);
	snapshot_reader_free(r);
	close(fd);
}

static inline void write_snapshot(const char *name, const struct snapshot_ws_entry *ws,
				  size_t ws_count)
{
	write_layer(name, NULL, LAYERS, ws, ws_count);
}

/** The same memory in three files: @name on layer-1 on layer-0. */
static inline void write_chain(const char *name, const struct snapshot_ws_entry *ws,
			       size_t ws_count)
{
	write_layer("layer-0", NULL, 0, NULL, 0);
	write_layer("layer-1", "layer-0", 1, NULL, 0);
	write_layer(name, "layer-1", 2, ws, ws_count);
}

static inline struct template *open_template(const char *name)
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

static inline void *guest_main(void *arg)
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

static inline void on_failed(uint32_t client, const char *text)
{
	struct guest *g = guests[client];

	g->failed = true;
	snprintf(g->why, sizeof(g->why), "%s", text);
	page_in_detach(client);
	/* A real instance is killed; a thread is set free: closing wakes it, then it sees zeros. */
	close(g->uffd);
	g->uffd = -1;
}

static inline int open_uffd(void)
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

static inline struct guest *guest_start(uint32_t client, struct template *t)
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

static inline void guest_run(struct guest *g)
{
	assert_int_equal(pthread_create(&g->thread, NULL, guest_main, g), 0);
}

static inline void turn(void)
{
	bool more = page_in_work();

	assert_int_equal(event_loop_turn(more ? 0 : 10000000), 0);
}

static inline void guest_join(struct guest *g)
{
	uint64_t deadline = clock_mono_ns() + 60 * NSEC_PER_SEC;

	while (!g->done) {
		turn();
		if (clock_mono_ns() > deadline)
			fail_msg("guest %u hangs", g->client);
	}
	pthread_join(g->thread, NULL);
}

static inline void settle(struct template *t)
{
	while (t->reads || page_in_work())
		turn();
}

static inline void guest_free(struct guest *g)
{
	page_in_detach(g->client);
	if (g->uffd >= 0)
		close(g->uffd);
	munmap(g->ram, PAGES * PAGE_BYTES);
	guests[g->client] = NULL;
	free(g);
	event_loop_turn(0);
}

static inline void shuffle(uint32_t *list, unsigned n, unsigned seed)
{
	for (unsigned i = n - 1; i > 0; i--) {
		unsigned j = (unsigned)rand_r(&seed) % (i + 1);
		uint32_t swap = list[i];

		list[i] = list[j];
		list[j] = swap;
	}
}

static inline void touch_all(struct guest *g, unsigned seed)
{
	g->touch_count = PAGES;
	for (uint32_t i = 0; i < PAGES; i++)
		g->touches[i] = i;
	shuffle(g->touches, PAGES, seed);
}

static inline uint64_t counted_faults(void)
{
	return metric_counters[METRIC_FAULTS_RESIDENT] + metric_counters[METRIC_FAULTS_ZERO] +
	       metric_counters[METRIC_FAULTS_READ];
}

static inline uint64_t observed(enum metric_histogram h)
{
	const struct metric_times *t = metrics_times(h);
	uint64_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(t->buckets); i++)
		n += t->buckets[i];
	return n;
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
	char command[100];

	(void)state;
	page_in_finish();
	event_loop_finish();
	close(dirfd_);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command); /* NOLINT(cert-env33-c) */
}

static uint64_t resident_bits(const struct template *t)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < t->pages; i++)
		n += template_has_page(t, i);
	return n;
}

/** Does the memfd have what the bits say? SEEK_DATA tells without bringing anything in. */
static inline void check_bits(const struct template *t)
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

#endif
