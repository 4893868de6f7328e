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
 *    on_message()  park()  page_read_start() on_read()  page_read_decode()  page_in_wake_waiters()
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
 *  4. A parked fault is in exactly one list: that of the read covering its page's chunk, or starved
 *     (no read was free). Starved faults are looked at again whenever a read ends.
 *  5. A page is marked resident only after its contents, verified by the chunk's checksum, are in
 *     the memfd completely.
 *  6. A chunk that cannot be read or verified fills nothing: every instance waiting for it ends.
 *  7. An instance that ends leaves nothing in its template: until its process is gone its faults
 *     are answered with zeros of its own.
 *  8. One turn of the loop does a bounded amount of work, for each instance and for prefetching.
 *
 * Reads and decoding are in page_read.c, prefetching in prefetch.c.
 */
#include "snapd/page_in_internal.h"

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
	PARKED_MAX = 1024,
	MESSAGES_PER_READ = 16,
	FAULT_READS_PER_TURN = 4,
};

/**
 * @unread: it has had more than a turn's share of faults
 * @ending: it is being killed; see page_in_end()
 */
struct client {
	bool used;
	bool unread;
	bool ending;
	uint32_t generation;
	int uffd;
	uint64_t ram_base;
	struct template *template;
	struct page_in_account account;
};

/** struct parked - a fault that waits. @client: PAGE_IN_NOBODY where the entry is free. @next: in
 * its list, or in the free list. */
struct parked {
	uint64_t since_ns;
	uint32_t client;
	uint32_t generation;
	uint32_t page;
	uint16_t next;
};

static const char no_memory_text[] = "no memory for the template";

static struct {
	page_in_fail_fn fail;
	struct client clients[PAGE_IN_CLIENTS_MAX];
	struct parked parked[PARKED_MAX];
	uint16_t parked_free;
	uint16_t starved;
	bool unread; /* one or more clients are */
} page_in;

static void on_fault_event(const struct loop_event *event);

int page_in_init(page_in_fail_fn fail)
{
	page_in.fail = fail;
	for (int i = 0; i < PARKED_MAX; i++) {
		page_in.parked[i].client = PAGE_IN_NOBODY;
		page_in.parked[i].next = i + 1 < PARKED_MAX ? (uint16_t)(i + 1) : PAGE_IN_NONE;
	}
	page_in.parked_free = 0;
	page_in.starved = PAGE_IN_NONE;
	event_loop_handle(LOOP_FAULT, on_fault_event);
	return page_read_init();
}

void page_in_finish(void)
{
	prefetch_finish();
	page_read_finish();
}

/* ---- clients --------------------------------------------------------------------------------- */

void page_in_attach(uint32_t client, int uffd, uint64_t ram_base)
{
	struct client *c = &page_in.clients[client];

	assert(client < PAGE_IN_CLIENTS_MAX && !c->used);
	c->used = true;
	c->unread = c->ending = false;
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

void page_in_charge(uint32_t client, uint32_t bytes)
{
	if (client == PAGE_IN_NOBODY)
		return;
	page_in.clients[client].account.bytes_read += bytes;
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

/*
 * An event can be read once. What the snapd before had read and not answered is known to the kernel
 * alone, as a thread that sleeps. A wake of everything ends that sleep: each such thread takes its
 * fault again, and where the page is still not there, that is a new event.
 */
void page_in_recover(uint32_t client)
{
	struct client *c = &page_in.clients[client];
	struct uffdio_range range = {
		.start = c->ram_base,
		.len = c->template->pages * PAGE_BYTES,
	};

	if (range.len && ioctl(c->uffd, UFFDIO_WAKE, &range) < 0 && errno != ENOENT &&
	    errno != ESRCH)
		log_warn("page-in: wake of an instance that was adopted: %m");
}

/* ---- the end of an instance ------------------------------------------------------------------ */

/** Zeros of its own: in a private mapping they go to this instance and not to the template. */
static void answer_with_zeros(const struct client *c, uint64_t address)
{
	struct uffdio_range range = {.start = address & ~(uint64_t)(PAGE_BYTES - 1),
				     .len = PAGE_BYTES};
	struct uffdio_zeropage zeros = {.range = range};

	if (!ioctl(c->uffd, UFFDIO_ZEROPAGE, &zeros) || errno == ESRCH)
		return;
	if (errno != EEXIST || (ioctl(c->uffd, UFFDIO_WAKE, &range) && errno != ESRCH))
		log_warn("page-in: an instance that ends waits for a page: %m");
}

/*
 * A signal does not reach everybody who waits: KVM has threads of its own that touch a guest's
 * memory for it (asynchronous page faults), and a VM ends after them. Were the userfaultfd closed
 * under them, they would take their fault again as one that nobody serves: the kernel makes a page
 * of zeros in the memfd then, which the next instance takes for the template's.
 */
void page_in_end(uint32_t client)
{
	struct client *c = &page_in.clients[client];

	if (!c->used || c->ending)
		return;
	c->ending = true;
	c->template = NULL;
	for (int i = 0; i < PARKED_MAX; i++) {
		const struct parked *p = &page_in.parked[i];

		if (p->client == client && p->generation == c->generation)
			answer_with_zeros(c, c->ram_base + (uint64_t)p->page * PAGE_BYTES);
	}
}

/* ---- parked faults --------------------------------------------------------------------------- */

static bool park(uint16_t *list, uint32_t client, uint32_t page, uint64_t since_ns)
{
	uint16_t i = page_in.parked_free;
	struct parked *p;

	if (i == PAGE_IN_NONE) {
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

	if (i == PAGE_IN_NONE)
		return false;
	*ret = page_in.parked[i];
	*list = ret->next;
	page_in.parked[i].client = PAGE_IN_NOBODY;
	page_in.parked[i].next = page_in.parked_free;
	page_in.parked_free = i;
	return true;
}

static struct client *parked_client(const struct parked *p)
{
	struct client *c = &page_in.clients[p->client];

	return c->used && !c->ending && c->generation == p->generation ? c : NULL;
}

bool page_in_first_waiter(const struct page_read *r, uint32_t *ret_page)
{
	if (r->waiters == PAGE_IN_NONE)
		return false;
	*ret_page = page_in.parked[r->waiters].page;
	return true;
}

void page_in_wake_waiters(struct page_read *r, uint32_t chunk, int err, const char *text)
{
	uint16_t list = r->waiters;
	struct parked p;

	r->waiters = PAGE_IN_NONE;
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
		} else if (r->template->recording &&
			   page_read_fill_page(r->template, chunk, p.page)) {
			fail_client(p.client, no_memory_text);
		} else {
			wake(client, p.page);
			metrics_observe(METRIC_PAGE_IN, clock_mono_ns() - p.since_ns);
		}
	}
}

void page_in_fail_waiters(struct page_read *r, const char *text)
{
	struct parked p;

	while (unpark(&r->waiters, &p))
		if (parked_client(&p))
			fail_client(p.client, text);
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

static void serve_chunk(uint32_t client, struct template *t, uint32_t chunk, uint32_t page,
			uint64_t since_ns)
{
	uint8_t slot = t->file->chunk_read[chunk];
	struct page_read *r;

	if (slot != TEMPLATE_NO_READ)
		r = page_read_of(slot);
	else
		r = page_read_cluster(t, chunk, client);
	if (!park(r ? &r->waiters : &page_in.starved, client, page,
		  since_ns ? since_ns : clock_mono_ns()))
		return;
	metrics_add(METRIC_FAULTS_READ, r != NULL); /* a starved one comes here again */
	if (r && r->state == READ_LOADED)
		page_read_decode(r, chunk);
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
	} else if (page_read_bounce(t, chunk, page)) {
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

void page_in_serve_starved(void)
{
	uint16_t list = page_in.starved;
	struct parked p;

	page_in.starved = PAGE_IN_NONE;
	while (unpark(&list, &p))
		if (parked_client(&p))
			serve(p.client, p.page, p.since_ns);
}

static void on_message(uint32_t client, const struct uffd_msg *msg)
{
	struct client *c = &page_in.clients[client];
	struct template *t = c->template;
	uint64_t page = (msg->arg.pagefault.address - c->ram_base) / PAGE_BYTES;

	if (c->ending) {
		answer_with_zeros(c, msg->arg.pagefault.address);
		return;
	}
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

void page_in_read(uint32_t client)
{
	if (page_in.clients[client].used)
		read_faults(client);
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

/* ---- once per turn ----------------------------------------------------------------------------
 */

bool page_in_work(void)
{
	bool more;

	if (page_in.unread)
		read_unread_faults();
	more = page_read_work();
	more |= prefetch_settle();
	return more || page_in.unread;
}
