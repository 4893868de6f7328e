/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_in.c - turn a guest fault into a filled chunk
 *
 * Theory of operation
 *
 * An instance's RAM is a MAP_PRIVATE mapping of its template's memfd, registered MISSING with the
 * instance's userfaultfd. A touch of a page that the memfd does not have stops the instance and
 * shows up here. What happens then depends on the page:
 *
 *   the template has it by now   wake
 *   the snapshot has zeros there fill zeros into the template, wake
 *   its chunk is being read      wait for that read
 *   else                         read its chunk, and its absent neighbours in the file, by one read
 *
 *        fault ──> parked ──> read ──> loaded ──> decoded ──> filled ──> woken
 *       on_fault()  park()  start_read() on_read() decode_chunk()      wake_waiters()
 *
 * A page goes into the template, never into one instance: the next instance of the version does not
 * fault on it at all. UFFDIO_WAKE alone lets the fault be taken again; the kernel then maps the
 * page from the memfd, and copies it first when it was a write. Pages of zeros too are filled into
 * the template, for a UFFDIO_ZEROPAGE would serve one instance and let every other fault again.
 *
 * Prefetch is the same machine without a waiter: the hot extent of the file (the working set in
 * order of first touch) is read in a few large pieces, while the guest already runs. A loaded piece
 * is decoded chunk by chunk between other events, so a fault never waits for a whole piece: when it
 * is on a chunk which is loaded but not yet decoded, that chunk is decoded first.
 *
 * While a template records its working set, only the very page that was asked for is filled, so
 * that the order of faults is the order of first touches.
 *
 * Invariants
 *  1. Nothing here allocates or blocks: clients, reads, buffers and parked faults are fixed tables.
 *     (template_fill() takes pages for the memfd from the kernel.)
 *  2. At most one read has a chunk still to decode; template.file->chunk_read says which, and is
 *     TEMPLATE_NO_READ when none has.
 *  3. A read holds a reference to its template, and the template's file is not replaced meanwhile.
 *  4. A parked fault is in exactly one list: that of the read covering its page's chunk, or
 * `starved` (no read was free). Starved faults are looked at again whenever a read ends.
 *  5. A page is marked resident only after its contents, verified by the chunk's checksum, are in
 *     the memfd completely.
 *  6. A chunk that cannot be read or verified fills nothing: every instance waiting for it ends.
 *  7. One turn of the loop does a bounded amount of work, for each instance and for prefetching.
 */
#include "snapd/page_in.h"

#include <assert.h>
#include <errno.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "snapd/event_loop.h"
#include "snapd/metrics.h"

enum {
	READS_MAX = 8,
	READS_READY = 2,	/* with their memory touched */
	PREFETCH_READS_MAX = 5, /* in flight or loaded; the rest is for faults */
	PREFETCH_IN_FLIGHT_MAX = 2,
	PARKED_MAX = 1024,
	MESSAGES_PER_READ = 16,
	FAULT_READS_PER_TURN = 4,
	CLUSTER_CHUNKS = 4, /* up to 256 KiB of memory around a fault */
	WORK_CHUNKS_PER_TURN = 2,
	ZEROS_PER_TURN = 64,
	NONE = UINT16_MAX,
};
/** O_DIRECT wants offsets, lengths and buffers in multiples of this. */
#define READ_ALIGN	  4096u
#define READ_BYTES	  (256u << 10)
#define FIRST_PIECE_BYTES (64u << 10)
/** A piece of READ_BYTES, rounded out on both sides. */
#define BUFFER_BYTES (READ_BYTES + 2 * READ_ALIGN)
static_assert(SNAPSHOT_CHUNK_BYTES * 2 <= READ_BYTES, "a chunk fits a read");

/** @unread: it has had more than a turn's share of faults. */
struct client {
	bool used;
	bool unread;
	uint32_t generation;
	int uffd;
	uint64_t ram_base;
	struct template *template;
	struct page_in_account account;
};

/** struct parked - a fault that waits. @next: in its list, or in the free list. */
struct parked {
	uint64_t since_ns;
	uint32_t client;
	uint32_t generation;
	uint32_t page;
	uint16_t next;
};

static const char no_memory_text[] = "no memory for the template";

enum read_state { READ_FREE, READ_IN_FLIGHT, READ_LOADED };

struct page_read {
	enum read_state state;
	uint32_t generation;
	struct template *template;
	uint32_t first_chunk, chunk_count;
	uint64_t offset;     /**< in the file, of the buffer's first byte */
	uint32_t bytes;	     /**< from there to the end of the last chunk */
	uint32_t next_chunk; /**< the first that may not be decoded yet */
	bool prefetch;
	uint16_t waiters;
	uint64_t started_ns;
};

static struct {
	page_in_fail_fn fail;
	struct client clients[PAGE_IN_CLIENTS_MAX];
	struct parked parked[PARKED_MAX];
	uint16_t parked_free;
	uint16_t starved;
	struct page_read reads[READS_MAX];
	unsigned reads_used, prefetch_used, prefetch_in_flight;
	bool unread;				 /* one or more clients are */
	struct template *prefetching[READS_MAX]; /* each holds a reference; NULL: free */
	uint8_t *buffers;
	uint8_t *bounce;
	/* What bounce holds: useful while recording, when a chunk is filled page by page. */
	uint64_t bounce_serial;
	uint32_t bounce_chunk;
} page_in;

static void on_fault_event(const struct loop_event *event);
static void on_read(const struct loop_event *event);

int page_in_init(page_in_fail_fn fail)
{
	size_t bytes = READS_MAX * (size_t)BUFFER_BYTES + SNAPSHOT_CHUNK_BYTES;

	page_in.fail = fail;
	page_in.buffers =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page_in.buffers == MAP_FAILED)
		return -errno;
	page_in.bounce = page_in.buffers;
	/*
	 * Touching new memory takes microseconds a page, which is not for the fault path. The
	 * lowest reads are used first; those which a burst alone needs are touched when it comes.
	 */
	if (madvise(page_in.buffers, SNAPSHOT_CHUNK_BYTES + READS_READY * (size_t)BUFFER_BYTES,
		    MADV_POPULATE_WRITE))
		return -errno;
	for (int i = 0; i < PARKED_MAX; i++)
		page_in.parked[i].next = i + 1 < PARKED_MAX ? (uint16_t)(i + 1) : NONE;
	page_in.parked_free = 0;
	page_in.starved = NONE;
	event_loop_handle(LOOP_FAULT, on_fault_event);
	event_loop_handle(LOOP_READ, on_read);
	return 0;
}

void page_in_finish(void)
{
	for (unsigned i = 0; i < READS_MAX; i++) {
		template_put(page_in.prefetching[i]);
		page_in.prefetching[i] = NULL;
	}
	munmap(page_in.buffers, READS_MAX * (size_t)BUFFER_BYTES + SNAPSHOT_CHUNK_BYTES);
	page_in.buffers = NULL;
}

unsigned page_in_reads(void)
{
	return page_in.reads_used;
}

static uint8_t *read_buffer(const struct page_read *r)
{
	return page_in.buffers + SNAPSHOT_CHUNK_BYTES + (size_t)(r - page_in.reads) * BUFFER_BYTES;
}

/* ---- clients --------------------------------------------------------------------------------- */

void page_in_attach(uint32_t client, int uffd, uint64_t ram_base)
{
	struct client *c = &page_in.clients[client];

	assert(client < PAGE_IN_CLIENTS_MAX && !c->used);
	c->used = true;
	c->unread = false;
	c->uffd = uffd;
	c->ram_base = ram_base;
	c->template = NULL;
	c->account = (struct page_in_account){0};
	event_loop_poll(LOOP_FAULT, client, c->generation, uffd);
}

void page_in_use(uint32_t client, struct template *t)
{
	page_in.clients[client].template = t;
	page_in.clients[client].account = (struct page_in_account){0};
}

void page_in_detach(uint32_t client)
{
	struct client *c = &page_in.clients[client];

	if (!c->used)
		return;
	event_loop_cancel(LOOP_FAULT, client, c->generation);
	c->used = false;
	c->template = NULL;
	/* Its parked faults stay where they are: whoever comes to them sees another generation. */
	c->generation = (c->generation + 1) & LOOP_GENERATION_MASK;
}

struct page_in_account page_in_account(uint32_t client)
{
	return page_in.clients[client].account;
}

static void fail_client(uint32_t client, const char *text)
{
	if (page_in.clients[client].used)
		page_in.fail(client, text);
}

static void wake(struct client *c, uint32_t page)
{
	struct uffdio_range range = {
		.start = c->ram_base + (uint64_t)page * PAGE_BYTES,
		.len = PAGE_BYTES,
	};

	if (ioctl(c->uffd, UFFDIO_WAKE, &range) < 0 && errno != ENOENT && errno != ESRCH)
		log_warn("page-in: wake of page %u: %m", page);
}

/* ---- parked faults --------------------------------------------------------------------------- */

static bool park(uint16_t *list, uint32_t client, uint32_t page, uint64_t since_ns)
{
	uint16_t i = page_in.parked_free;
	struct parked *p;

	if (i == NONE) {
		fail_client(client, "too many faults wait at once");
		return false;
	}
	p = &page_in.parked[i];
	page_in.parked_free = p->next;
	*p = (struct parked){since_ns, client, page_in.clients[client].generation, page, *list};
	*list = i;
	return true;
}

/** Take one fault off a list. Return: false when the list is empty. */
static bool unpark(uint16_t *list, struct parked *ret)
{
	uint16_t i = *list;

	if (i == NONE)
		return false;
	*ret = page_in.parked[i];
	*list = ret->next;
	page_in.parked[i].next = page_in.parked_free;
	page_in.parked_free = i;
	return true;
}

static struct client *parked_client(const struct parked *p)
{
	struct client *c = &page_in.clients[p->client];

	return c->used && c->generation == p->generation ? c : NULL;
}

/* ---- reads ----------------------------------------------------------------------------------- */

static const struct snapshot_chunk *chunk_of(const struct template *t, uint32_t chunk)
{
	return snapshot_reader_chunk(t->file->reader, chunk);
}

/** Is there nothing to gain from reading @chunk? All its pages are there, or on their way. */
static bool chunk_is_settled(const struct template *t, uint32_t chunk)
{
	const struct snapshot_chunk *c = chunk_of(t, chunk);

	if (t->file->chunk_read[chunk] != TEMPLATE_NO_READ)
		return true;
	for (unsigned i = 0; i < c->page_count; i++)
		if (!template_has_page(t, c->pages[i]))
			return false;
	return true;
}

/** Would [first, last] be one range of the file, of at most @bytes? */
static bool extent_fits(const struct template *t, uint32_t first, uint32_t last, uint32_t bytes)
{
	const struct snapshot_chunk *a = chunk_of(t, first), *b = chunk_of(t, last);

	return b->offset >= a->offset && b->offset + b->stored_bytes - a->offset <= bytes;
}

static struct page_read *read_new(bool prefetch)
{
	if (page_in.reads_used == READS_MAX ||
	    (prefetch && (page_in.prefetch_used == PREFETCH_READS_MAX ||
			  page_in.prefetch_in_flight == PREFETCH_IN_FLIGHT_MAX)))
		return NULL;
	for (unsigned i = 0; i < READS_MAX; i++)
		if (page_in.reads[i].state == READ_FREE)
			return &page_in.reads[i];
	return NULL;
}

/** Read chunks [first, first + count), which form one range of the file. */
static void start_read(struct page_read *r, struct template *t, uint32_t first, uint32_t count,
		       bool prefetch, uint32_t client)
{
	const struct snapshot_chunk *last = chunk_of(t, first + count - 1);
	uint64_t end = last->offset + last->stored_bytes;
	uint32_t slot = (uint32_t)(r - page_in.reads);
	int fd = t->file->direct_fd >= 0 ? t->file->direct_fd : t->file->fd;
	uint32_t length;

	r->state = READ_IN_FLIGHT;
	r->template = template_get(t);
	r->first_chunk = r->next_chunk = first;
	r->chunk_count = count;
	r->offset = align_down(chunk_of(t, first)->offset, READ_ALIGN);
	r->bytes = (uint32_t)(end - r->offset);
	r->prefetch = prefetch;
	r->waiters = NONE;
	r->started_ns = clock_mono_ns();
	length = (uint32_t)align_up(r->bytes, READ_ALIGN);
	assert(length <= BUFFER_BYTES);
	memset(t->file->chunk_read + first, (int)slot, count);
	t->reads++;
	t->bytes_read += length;
	metrics_add(METRIC_SNAPSHOT_READ_BYTES, length);
	page_in.clients[client].account.bytes_read += length;
	page_in.reads_used++;
	page_in.prefetch_used += prefetch;
	page_in.prefetch_in_flight += prefetch;
	event_loop_read(LOOP_READ, slot, r->generation, fd, read_buffer(r), length, r->offset);
}

static void read_end(struct page_read *r)
{
	struct template *t = r->template;

	assert(r->waiters == NONE);
	for (uint32_t i = r->first_chunk; i < r->first_chunk + r->chunk_count; i++)
		if (t->file->chunk_read[i] == (uint8_t)(r - page_in.reads))
			t->file->chunk_read[i] = TEMPLATE_NO_READ;
	r->state = READ_FREE;
	r->template = NULL;
	r->generation = (r->generation + 1) & LOOP_GENERATION_MASK;
	page_in.reads_used--;
	page_in.prefetch_used -= r->prefetch;
	t->reads--;
	template_settle(t);
	template_put(t);
}

/** The chunk that a fault needs, and absent neighbours: forward first, as programs go. */
static struct page_read *start_cluster(struct template *t, uint32_t chunk, uint32_t client)
{
	uint32_t count = snapshot_reader_chunk_count(t->file->reader);
	uint32_t first = chunk, last = chunk;
	struct page_read *r = read_new(false);

	if (!r)
		return NULL;
	while (!t->recording && last + 1 < count && last - first + 1 < CLUSTER_CHUNKS &&
	       !chunk_is_settled(t, last + 1) && extent_fits(t, first, last + 1, READ_BYTES))
		last++;
	while (!t->recording && first > 0 && last - first + 1 < CLUSTER_CHUNKS &&
	       !chunk_is_settled(t, first - 1) && extent_fits(t, first - 1, last, READ_BYTES))
		first--;
	start_read(r, t, first, last - first + 1, false, client);
	return r;
}

/* ---- from a buffer into the template --------------------------------------------------------- */

/** Fill the absent pages of a decoded chunk, neighbours together. */
static int fill_chunk(struct template *t, const struct snapshot_chunk *c)
{
	unsigned i = 0, run;
	int ret = 0;

	while (!ret && i < c->page_count) {
		if (template_has_page(t, c->pages[i])) {
			i++;
			continue;
		}
		run = 1;
		while (i + run < c->page_count && c->pages[i + run] == c->pages[i] + run &&
		       !template_has_page(t, c->pages[i + run]))
			run++;
		ret = template_fill(t, c->pages[i], run, page_in.bounce + (size_t)i * PAGE_BYTES);
		i += run;
	}
	return ret;
}

/** Fill one page of the chunk that is in the bounce buffer. */
static int fill_page(struct template *t, const struct snapshot_chunk *c, uint32_t page)
{
	for (unsigned i = 0; i < c->page_count; i++)
		if (c->pages[i] == page)
			return template_fill(t, page, 1, page_in.bounce + (size_t)i * PAGE_BYTES);
	return -EBADMSG;
}

/** Verify and decompress one chunk of a loaded read into the bounce buffer. */
static int load_bounce(struct page_read *r, uint32_t chunk, struct snapshot_error *err)
{
	struct template *t = r->template;
	const struct snapshot_chunk *c = chunk_of(t, chunk);
	int ret;

	page_in.bounce_serial = 0;
	ret = snapshot_chunk_decode(t->file->reader, chunk,
				    read_buffer(r) + (c->offset - r->offset), page_in.bounce, err);
	if (ret)
		return ret;
	t->chunks_decoded++;
	metrics_add(METRIC_CHUNKS_DECODED, 1);
	page_in.bounce_serial = t->file->serial;
	page_in.bounce_chunk = chunk;
	return 0;
}

/** Wake or end every instance that waits for @chunk of @r. The lists of a read are short. */
static void wake_waiters(struct page_read *r, uint32_t chunk, int err, const char *text)
{
	const struct snapshot_chunk *c = chunk_of(r->template, chunk);
	uint16_t list = r->waiters;
	struct parked p;

	r->waiters = NONE;
	while (unpark(&list, &p)) {
		struct client *client = parked_client(&p);

		if (!client)
			continue;
		if (snapshot_reader_page_chunk(r->template->file->reader, p.page) != chunk) {
			park(&r->waiters, p.client, p.page, p.since_ns);
			continue;
		}
		if (err) {
			fail_client(p.client, text);
		} else if (r->template->recording && fill_page(r->template, c, p.page)) {
			fail_client(p.client, no_memory_text);
		} else {
			wake(client, p.page);
			metrics_observe(METRIC_PAGE_IN, clock_mono_ns() - p.since_ns);
		}
	}
}

static void decode_chunk(struct page_read *r, uint32_t chunk)
{
	struct snapshot_error err = {""};
	int ret = load_bounce(r, chunk, &err);

	if (!ret && !r->template->recording)
		ret = fill_chunk(r->template, chunk_of(r->template, chunk));
	if (ret && !err.text[0])
		snprintf(err.text, sizeof(err.text), "%s: cannot fill memory: %s",
			 r->template->name, strerror(-ret));
	if (ret)
		log_error("page-in: %s", err.text);
	wake_waiters(r, chunk, ret, err.text);
	/* Decoded: a later fault on it, if it failed, reads it anew. */
	r->template->file->chunk_read[chunk] = TEMPLATE_NO_READ;
}

static void serve(uint32_t client, uint32_t page, uint64_t since_ns);

/** Faults that found no read free: one has come free. */
static void serve_starved(void)
{
	uint16_t list = page_in.starved;
	struct parked p;

	page_in.starved = NONE;
	while (unpark(&list, &p))
		if (parked_client(&p))
			serve(p.client, p.page, p.since_ns);
}

static void prefetch_continue(void);

static void finish_read(struct page_read *r)
{
	read_end(r);
	if (page_in.starved != NONE)
		serve_starved();
	prefetch_continue();
}

/** Decode the next chunk of a loaded read which is not decoded yet; end the read at its end. */
static void decode_next(struct page_read *r)
{
	uint32_t slot = (uint32_t)(r - page_in.reads);
	uint32_t end = r->first_chunk + r->chunk_count;

	while (r->next_chunk < end && r->template->file->chunk_read[r->next_chunk] != (uint8_t)slot)
		r->next_chunk++;
	if (r->next_chunk < end)
		decode_chunk(r, r->next_chunk++);
	if (r->next_chunk >= end)
		finish_read(r);
}

/** A read that failed: all its waiters end. */
static void fail_read(struct page_read *r, int res)
{
	char text[256];
	struct parked p;

	snprintf(text, sizeof(text), "%s: chunk %u at offset %llu: read of %u bytes: %s",
		 r->template->name, r->first_chunk, (unsigned long long)r->offset, r->bytes,
		 res < 0 ? strerror(-res) : "the file is shorter than it was");
	log_error("page-in: %s", text);
	while (unpark(&r->waiters, &p))
		if (parked_client(&p))
			fail_client(p.client, text);
	finish_read(r);
}

static void on_read(const struct loop_event *event)
{
	struct page_read *r = &page_in.reads[event->slot];
	uint16_t i;

	if (r->state != READ_IN_FLIGHT || r->generation != event->generation)
		return;
	page_in.prefetch_in_flight -= r->prefetch;
	metrics_observe(METRIC_SNAPSHOT_READ, clock_mono_ns() - r->started_ns);
	if (event->res < (int)r->bytes) {
		fail_read(r, event->res);
		return;
	}
	r->state = READ_LOADED;
	/* The disk is to have work while we decode. */
	prefetch_continue();
	event_loop_submit();
	/* Chunks that somebody waits for come first. */
	while ((i = r->waiters) != NONE)
		decode_chunk(r, snapshot_reader_page_chunk(r->template->file->reader,
							   page_in.parked[i].page));
	/* The rest is page_in_work()'s. */
}

/* ---- faults ---------------------------------------------------------------------------------- */

/** A hole of the snapshot: fill it and the zeros around it, up to the next multiple of a chunk. */
static int serve_zero(struct template *t, uint32_t page)
{
	uint32_t start = page, end = page + 1;
	uint32_t block = page & ~(SNAPSHOT_CHUNK_PAGES - 1);
	const struct snapshot_reader *reader = t->file->reader;

	while (!t->recording && start > block && !template_has_page(t, start - 1) &&
	       snapshot_reader_page_chunk(reader, start - 1) == SNAPSHOT_PAGE_ZERO)
		start--;
	while (!t->recording && end < block + SNAPSHOT_CHUNK_PAGES && end < t->pages &&
	       !template_has_page(t, end) &&
	       snapshot_reader_page_chunk(reader, end) == SNAPSHOT_PAGE_ZERO)
		end++;
	return template_fill_zero(t, start, end - start);
}

/** While recording: the page's chunk may still be in the bounce buffer. */
static bool serve_from_bounce(struct template *t, uint32_t chunk, uint32_t page)
{
	if (!t->recording || page_in.bounce_serial != t->file->serial ||
	    page_in.bounce_chunk != chunk)
		return false;
	return !fill_page(t, chunk_of(t, chunk), page);
}

static void serve_chunk(uint32_t client, struct template *t, uint32_t chunk, uint32_t page,
			uint64_t since_ns)
{
	uint8_t slot = t->file->chunk_read[chunk];
	struct page_read *r;

	if (slot != TEMPLATE_NO_READ)
		r = &page_in.reads[slot];
	else
		r = start_cluster(t, chunk, client);
	if (!park(r ? &r->waiters : &page_in.starved, client, page,
		  since_ns ? since_ns : clock_mono_ns()))
		return;
	metrics_add(METRIC_FAULTS_READ, r != NULL); /* a starved one comes here again */
	if (r && r->state == READ_LOADED)
		decode_chunk(r, chunk);
}

/** @since_ns: when it came, if it has waited for a free read; else 0. */
static void serve(uint32_t client, uint32_t page, uint64_t since_ns)
{
	struct client *c = &page_in.clients[client];
	struct template *t = c->template;
	uint32_t chunk = snapshot_reader_page_chunk(t->file->reader, page);
	int ret = 0;

	if (template_has_page(t, page)) {
		metrics_add(METRIC_FAULTS_RESIDENT, 1);
	} else if (chunk == SNAPSHOT_PAGE_ZERO) {
		metrics_add(METRIC_FAULTS_ZERO, 1);
		ret = serve_zero(t, page);
	} else if (serve_from_bounce(t, chunk, page)) {
		metrics_add(METRIC_FAULTS_READ, 1);
	} else {
		serve_chunk(client, t, chunk, page, since_ns);
		return;
	}
	if (ret)
		fail_client(client, no_memory_text);
	else
		wake(c, page);
}

static void on_message(uint32_t client, const struct uffd_msg *msg)
{
	struct client *c = &page_in.clients[client];
	struct template *t = c->template;
	uint64_t page = (msg->arg.pagefault.address - c->ram_base) / PAGE_BYTES;

	if (msg->event != UFFD_EVENT_PAGEFAULT) {
		fail_client(client, "an event that was not asked for came from its userfaultfd");
		return;
	}
	if (!t || msg->arg.pagefault.address < c->ram_base || page >= t->pages) {
		fail_client(client, "a fault outside of its template");
		return;
	}
	c->account.faults++;
	if (t->recording && t->order_count < t->pages && !template_has_page(t, page))
		t->order[t->order_count++] = (uint32_t)page;
	serve(client, (uint32_t)page, 0);
}

/** The poll is edge-triggered: read until there is nothing, or later go on (page_in_work()). */
static void read_faults(uint32_t client)
{
	struct client *c = &page_in.clients[client];
	struct uffd_msg msgs[MESSAGES_PER_READ];
	uint32_t generation = c->generation;
	unsigned left = FAULT_READS_PER_TURN;
	ssize_t n = 1;

	c->unread = false;
	while (left && (n = read(c->uffd, msgs, sizeof(msgs))) > 0) {
		for (size_t i = 0; i < (size_t)n / sizeof(msgs[0]); i++) {
			on_message(client, &msgs[i]);
			if (!c->used || c->generation != generation)
				return;
		}
		left--;
	}
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		fail_client(client, "its userfaultfd cannot be read");
		return;
	}
	c->unread = !left;
	page_in.unread |= c->unread;
}

static void on_fault_event(const struct loop_event *event)
{
	struct client *c = &page_in.clients[event->slot];
	uint32_t generation = c->generation;

	if (!c->used || generation != event->generation)
		return;
	read_faults(event->slot);
	if (!event->more && c->used && c->generation == generation)
		event_loop_poll(LOOP_FAULT, event->slot, generation, c->uffd);
}

static void read_unread_faults(void)
{
	page_in.unread = false;
	for (uint32_t i = 0; i < PAGE_IN_CLIENTS_MAX; i++)
		if (page_in.clients[i].used && page_in.clients[i].unread)
			read_faults(i);
}

/* ---- prefetch -------------------------------------------------------------------------------- */

/** Pages of zeros in the working set: nothing to read, but they must be there to be populated.
 * Return: false when there are more than one turn's share. */
static bool prefetch_zeros(struct template *t)
{
	const struct snapshot_ws_entry *ws;
	unsigned left = ZEROS_PER_TURN;
	size_t count = 0;

	ws = snapshot_reader_working_set(t->file->reader, &count);
	for (; t->prefetch_zero < count; t->prefetch_zero++) {
		uint32_t page = ws[t->prefetch_zero].page;

		if (template_has_page(t, page) ||
		    snapshot_reader_page_chunk(t->file->reader, page) != SNAPSHOT_PAGE_ZERO)
			continue;
		if (!left--)
			return false;
		if (template_fill_zero(t, page, 1))
			return true; /* it will be tried again by a fault, which can report it */
	}
	return true;
}

/** What has been read is decoded: fill the zeros, and let go. Return: true when work is left. */
static bool prefetch_finish(void)
{
	bool more = false;

	for (unsigned i = 0; i < READS_MAX; i++) {
		struct template *t = page_in.prefetching[i];

		if (!t || t->reads || t->prefetch_next < t->prefetch_end)
			continue;
		if (!prefetch_zeros(t)) {
			more = true;
			continue;
		}
		page_in.prefetching[i] = NULL;
		template_put(t);
	}
	return more;
}

static bool first_piece_in_flight(const struct template *t)
{
	uint8_t slot = t->file->chunk_read[t->prefetch_first];

	return slot != TEMPLATE_NO_READ && page_in.reads[slot].state == READ_IN_FLIGHT;
}

/** Ask for the next piece of a template's hot extent. Return: false when no read is free. */
static bool prefetch_piece(struct template *t)
{
	uint32_t first, count = 1, bytes;
	struct page_read *r;

	/*
	 * The guest waits for the first piece: it is small and goes alone, because a disk tends to
	 * report reads that it got together when all of them are done.
	 */
	bytes = t->prefetch_next == t->prefetch_first ? FIRST_PIECE_BYTES : READ_BYTES;
	if (t->prefetch_next != t->prefetch_first && first_piece_in_flight(t))
		return false;
	while (t->prefetch_next < t->prefetch_end && chunk_is_settled(t, t->prefetch_next))
		t->prefetch_next++;
	first = t->prefetch_next;
	if (first >= t->prefetch_end)
		return true;
	r = read_new(true);
	if (!r)
		return false;
	while (first + count < t->prefetch_end && !chunk_is_settled(t, first + count) &&
	       extent_fits(t, first, first + count, bytes))
		count++;
	t->prefetch_next = first + count;
	start_read(r, t, first, count, true, t->prefetch_client);
	return true;
}

static void prefetch_continue(void)
{
	for (unsigned i = 0; i < READS_MAX; i++) {
		struct template *t = page_in.prefetching[i];

		while (t && t->prefetch_next < t->prefetch_end)
			if (!prefetch_piece(t))
				return;
	}
}

void page_in_prefetch(struct template *t, uint32_t client)
{
	uint64_t offset, bytes;
	uint32_t first, count;

	snapshot_reader_hot_extent(t->file->reader, &offset, &bytes, &first, &count);
	for (unsigned i = 0; count && i < READS_MAX; i++) {
		if (page_in.prefetching[i] == t)
			return;
		if (page_in.prefetching[i])
			continue;
		page_in.prefetching[i] = template_get(t);
		t->prefetch_first = t->prefetch_next = first;
		t->prefetch_end = first + count;
		t->prefetch_zero = 0;
		t->prefetch_client = client;
		prefetch_continue();
		event_loop_submit();
		return;
	}
}

/* ---- once per turn ----------------------------------------------------------------------------
 */

bool page_in_work(void)
{
	unsigned budget = WORK_CHUNKS_PER_TURN;
	bool more = false;

	if (page_in.unread)
		read_unread_faults();
	for (unsigned i = 0; page_in.reads_used && i < READS_MAX; i++) {
		struct page_read *r = &page_in.reads[i];

		while (budget && r->state == READ_LOADED) {
			decode_next(r);
			budget--;
		}
		more |= r->state == READ_LOADED;
	}
	more |= prefetch_finish();
	return more || page_in.unread;
}
