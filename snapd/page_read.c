/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_read.c - a read of a snapshot file: chunks that go from the disk into a template
 *
 * The reads and their buffers are a fixed table. What a read is for, and the invariants of the
 * whole, are at the top of page_in.c.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "snapd/admission.h"
#include "snapd/event_loop.h"
#include "snapd/metrics.h"
#include "snapd/page_in_internal.h"

enum {
	READS_READY = 2,	/* with their memory touched */
	PREFETCH_READS_MAX = 5, /* in flight or loaded; the rest is for faults */
	PREFETCH_IN_FLIGHT_MAX = 2,
	CLUSTER_CHUNKS = 4, /* up to 256 KiB of memory around a fault */
	WORK_CHUNKS_PER_TURN = 2,
};
/** O_DIRECT wants offsets, lengths and buffers in multiples of this. */
#define READ_ALIGN 4096u
/** A piece of PAGE_READ_BYTES, rounded out on both sides. */
#define BUFFER_BYTES (PAGE_READ_BYTES + 2 * READ_ALIGN)
#define ALL_BYTES    (READS_MAX * (size_t)BUFFER_BYTES + SNAPSHOT_CHUNK_BYTES)
static_assert(SNAPSHOT_CHUNK_BYTES * 2 <= PAGE_READ_BYTES, "a chunk fits a read");

static struct {
	struct page_read table[READS_MAX];
	unsigned used, prefetch_used, prefetch_in_flight;
	uint8_t *buffers;
	uint8_t *bounce;
	/* What bounce holds: useful while recording, when a chunk is filled page by page. */
	uint64_t bounce_serial;
	uint32_t bounce_chunk;
	struct page_in_costs costs;
} reads;

static void on_read(const struct loop_event *event);

int page_read_init(void)
{
	reads.buffers =
		mmap(NULL, ALL_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (reads.buffers == MAP_FAILED)
		return -errno;
	reads.bounce = reads.buffers;
	/*
	 * Touching new memory takes microseconds a page, which is not for the fault path. The
	 * lowest reads are used first; those which a burst alone needs are touched when it comes.
	 */
	if (madvise(reads.buffers, SNAPSHOT_CHUNK_BYTES + READS_READY * (size_t)BUFFER_BYTES,
		    MADV_POPULATE_WRITE))
		return -errno;
	event_loop_handle(LOOP_READ, on_read);
	return 0;
}

void page_read_finish(void)
{
	munmap(reads.buffers, ALL_BYTES);
	reads.buffers = NULL;
}

struct page_in_costs page_in_costs(void)
{
	return reads.costs;
}

unsigned page_in_reads(void)
{
	return reads.used;
}

struct page_read *page_read_of(unsigned slot)
{
	return &reads.table[slot];
}

static uint8_t *read_buffer(const struct page_read *r)
{
	return reads.buffers + SNAPSHOT_CHUNK_BYTES + (size_t)(r - reads.table) * BUFFER_BYTES;
}

/* ---- reads ----------------------------------------------------------------------------------- */

static const struct snapshot_chunk *page_read_chunk(const struct template *t, uint32_t chunk)
{
	return snapshot_reader_chunk(t->file->reader, chunk);
}

bool page_read_settled(const struct template *t, uint32_t chunk)
{
	const struct snapshot_chunk *c = page_read_chunk(t, chunk);

	if (t->file->chunk_read[chunk] != TEMPLATE_NO_READ)
		return true;
	for (unsigned i = 0; i < c->page_count; i++)
		if (snapshot_chunk_has(c, i) && !template_has_page(t, c->pages[i]))
			return false;
	return true;
}

bool page_read_fits(const struct template *t, uint32_t first, uint32_t last, uint32_t bytes)
{
	const struct snapshot_chunk *a = page_read_chunk(t, first), *b = page_read_chunk(t, last);

	return b->file == a->file && b->offset >= a->offset &&
	       b->offset + b->stored_bytes - a->offset <= bytes;
}

struct page_read *page_read_new(bool prefetch)
{
	if (reads.used == READS_MAX ||
	    (prefetch && (reads.prefetch_used == PREFETCH_READS_MAX ||
			  reads.prefetch_in_flight == PREFETCH_IN_FLIGHT_MAX)))
		return NULL;
	for (unsigned i = 0; i < READS_MAX; i++)
		if (reads.table[i].state == READ_FREE)
			return &reads.table[i];
	return NULL;
}

void page_read_start(struct page_read *r, struct template *t, uint32_t first, uint32_t count,
		     bool prefetch, uint32_t client)
{
	const struct snapshot_chunk *last = page_read_chunk(t, first + count - 1);
	uint64_t end = last->offset + last->stored_bytes;
	uint32_t slot = (uint32_t)(r - reads.table);
	int fd = t->file->direct_fd[last->file];
	uint32_t length;

	if (fd < 0)
		fd = snapshot_reader_fd(snapshot_reader_file(t->file->reader, last->file));

	r->state = READ_IN_FLIGHT;
	r->template = template_get(t);
	r->first_chunk = r->next_chunk = first;
	r->chunk_count = count;
	r->offset = align_down(page_read_chunk(t, first)->offset, READ_ALIGN);
	r->bytes = (uint32_t)(end - r->offset);
	r->prefetch = prefetch;
	r->waiters = PAGE_IN_NONE;
	r->started_ns = clock_mono_ns();
	length = (uint32_t)align_up(r->bytes, READ_ALIGN);
	assert(length <= BUFFER_BYTES);
	memset(t->file->chunk_read + first, (int)slot, count);
	t->reads++;
	t->bytes_read += length;
	metrics_add(METRIC_SNAPSHOT_READ_BYTES, length);
	page_in_charge(client, length);
	reads.used++;
	reads.prefetch_used += prefetch;
	reads.prefetch_in_flight += prefetch;
	event_loop_read(LOOP_READ, slot, r->generation, fd, read_buffer(r), length, r->offset);
}

static void read_end(struct page_read *r)
{
	struct template *t = r->template;

	assert(r->waiters == PAGE_IN_NONE);
	for (uint32_t i = r->first_chunk; i < r->first_chunk + r->chunk_count; i++)
		if (t->file->chunk_read[i] == (uint8_t)(r - reads.table))
			t->file->chunk_read[i] = TEMPLATE_NO_READ;
	r->state = READ_FREE;
	r->template = NULL;
	r->generation = (r->generation + 1) & LOOP_GENERATION_MASK;
	reads.used--;
	reads.prefetch_used -= r->prefetch;
	t->reads--;
	template_settle(t);
	template_put(t);
}

struct page_read *page_read_cluster(struct template *t, uint32_t chunk, uint32_t client)
{
	uint32_t count = snapshot_reader_chunk_count(t->file->reader);
	uint32_t first = chunk, last = chunk;
	struct page_read *r = page_read_new(false);

	if (!r)
		return NULL;
	while (!t->recording && last + 1 < count && last - first + 1 < CLUSTER_CHUNKS &&
	       !page_read_settled(t, last + 1) &&
	       page_read_fits(t, first, last + 1, PAGE_READ_BYTES))
		last++;
	while (!t->recording && first > 0 && last - first + 1 < CLUSTER_CHUNKS &&
	       !page_read_settled(t, first - 1) &&
	       page_read_fits(t, first - 1, last, PAGE_READ_BYTES))
		first--;
	page_read_start(r, t, first, last - first + 1, false, client);
	return r;
}

/* ---- from a buffer into the template --------------------------------------------------------- */

/** Is a page of a decoded chunk the snapshot's, and absent? */
static bool is_to_fill(const struct template *t, const struct snapshot_chunk *c, unsigned i)
{
	return snapshot_chunk_has(c, i) && !template_has_page(t, c->pages[i]);
}

/** Fill the absent pages of a decoded chunk, neighbours together. */
static int fill_chunk(struct template *t, const struct snapshot_chunk *c)
{
	unsigned i = 0, run;
	int ret = 0;

	while (!ret && i < c->page_count) {
		if (!is_to_fill(t, c, i)) {
			i++;
			continue;
		}
		run = 1;
		while (i + run < c->page_count && c->pages[i + run] == c->pages[i] + run &&
		       is_to_fill(t, c, i + run))
			run++;
		ret = template_fill(t, c->pages[i], run, reads.bounce + (size_t)i * PAGE_BYTES);
		i += run;
	}
	return ret;
}

int page_read_fill_page(struct template *t, uint32_t chunk, uint32_t page)
{
	const struct snapshot_chunk *c = page_read_chunk(t, chunk);

	for (unsigned i = 0; i < c->page_count; i++)
		if (c->pages[i] == page)
			return template_fill(t, page, 1, reads.bounce + (size_t)i * PAGE_BYTES);
	return -EBADMSG;
}

/** Verify and decompress one chunk of a loaded read into the bounce buffer. */
static int load_bounce(struct page_read *r, uint32_t chunk, struct snapshot_error *err)
{
	struct template *t = r->template;
	const struct snapshot_chunk *c = page_read_chunk(t, chunk);
	int ret;

	reads.bounce_serial = 0;
	ret = snapshot_chunk_decode(t->file->reader, chunk,
				    read_buffer(r) + (c->offset - r->offset), reads.bounce, err);
	if (ret)
		return ret;
	t->chunks_decoded++;
	metrics_add(METRIC_CHUNKS_DECODED, 1);
	reads.bounce_serial = t->file->serial;
	reads.bounce_chunk = chunk;
	return 0;
}

void page_read_decode(struct page_read *r, uint32_t chunk)
{
	struct snapshot_error err = {""};
	uint64_t begin_ns = clock_mono_ns();
	int ret = load_bounce(r, chunk, &err);

	if (!ret && !r->template->recording)
		ret = fill_chunk(r->template, page_read_chunk(r->template, chunk));
	if (ret && !err.text[0])
		snprintf(err.text, sizeof(err.text), "%s: cannot fill memory: %s",
			 r->template->name, strerror(-ret));
	if (ret)
		log_error("page-in: %s", err.text);
	else
		average_add(&reads.costs.decode_ns,
			    (clock_mono_ns() - begin_ns) /
				    page_read_chunk(r->template, chunk)->page_count);
	page_in_wake_waiters(r, chunk, ret, err.text);
	/* Decoded: a later fault on it, if it failed, reads it anew. */
	r->template->file->chunk_read[chunk] = TEMPLATE_NO_READ;
}

static void finish_read(struct page_read *r)
{
	read_end(r);
	page_in_serve_starved();
	prefetch_continue();
}

/** Decode the next chunk of a loaded read which is not decoded yet; end the read at its end. */
static void decode_next(struct page_read *r)
{
	uint32_t slot = (uint32_t)(r - reads.table);
	uint32_t end = r->first_chunk + r->chunk_count;

	while (r->next_chunk < end && r->template->file->chunk_read[r->next_chunk] != (uint8_t)slot)
		r->next_chunk++;
	if (r->next_chunk < end)
		page_read_decode(r, r->next_chunk++);
	if (r->next_chunk >= end)
		finish_read(r);
}

/** A read that failed: all its waiters end. */
static void fail_read(struct page_read *r, int res)
{
	const struct template *t = r->template;
	const struct snapshot_chunk *c = page_read_chunk(t, r->first_chunk);
	char text[512];

	snprintf(text, sizeof(text), "%s: %u bytes of chunks at offset %llu: read: %s",
		 snapshot_reader_name(snapshot_reader_file(t->file->reader, c->file)), r->bytes,
		 (unsigned long long)r->offset,
		 res < 0 ? strerror(-res) : "the file is shorter than it was");
	log_error("page-in: %s", text);
	page_in_fail_waiters(r, text);
	finish_read(r);
}

static void on_read(const struct loop_event *event)
{
	struct page_read *r = &reads.table[event->slot];
	uint32_t page;

	if (r->state != READ_IN_FLIGHT || r->generation != event->generation)
		return;
	reads.prefetch_in_flight -= r->prefetch;
	metrics_observe(METRIC_SNAPSHOT_READ, clock_mono_ns() - r->started_ns);
	average_add(&reads.costs.read_ns, clock_mono_ns() - r->started_ns);
	average_add(&reads.costs.read_bytes, r->bytes);
	if (event->res < (int)r->bytes) {
		fail_read(r, event->res);
		return;
	}
	r->state = READ_LOADED;
	/* The disk is to have work while we decode. */
	prefetch_continue();
	event_loop_submit();
	/* Chunks that somebody waits for come first. */
	while (page_in_first_waiter(r, &page))
		page_read_decode(r, snapshot_reader_page_chunk(r->template->file->reader, page));
	/* The rest is page_in_work()'s. */
}

bool page_read_bounce(struct template *t, uint32_t chunk, uint32_t page)
{
	if (!t->recording || reads.bounce_serial != t->file->serial || reads.bounce_chunk != chunk)
		return false;
	return !page_read_fill_page(t, chunk, page);
}

bool page_read_work(void)
{
	unsigned budget = WORK_CHUNKS_PER_TURN;
	bool more = false;

	for (unsigned i = 0; reads.used && i < READS_MAX; i++) {
		struct page_read *r = &reads.table[i];

		while (budget && r->state == READ_LOADED) {
			decode_next(r);
			budget--;
		}
		more |= r->state == READ_LOADED;
	}
	return more;
}
