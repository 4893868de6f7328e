/* SPDX-License-Identifier: Apache-2.0 */
/* page_in_internal.h - what page_in.c, page_read.c and prefetch.c share */
#ifndef QUICKTHAW_SNAPD_PAGE_IN_INTERNAL_H
#define QUICKTHAW_SNAPD_PAGE_IN_INTERNAL_H

#include "snapd/page_in.h"

enum {
	READS_MAX = 8,
	PAGE_IN_NONE = UINT16_MAX, /**< the end of a list of faults */
};
#define PAGE_READ_BYTES (256u << 10)

enum read_state { READ_FREE, READ_IN_FLIGHT, READ_LOADED };

/** struct page_read - some chunks that are one range of one file. @waiters: faults, a list of
 * page_in.c. */
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

/* ---- page_read.c ---- */

int page_read_init(void);
void page_read_finish(void);
struct page_read *page_read_of(unsigned slot);
/** page_read_new() - a free read for page_read_start(), or NULL. */
struct page_read *page_read_new(bool prefetch);
/** page_read_start() - read chunks [first, first + count), which form one range of the file. */
void page_read_start(struct page_read *r, struct template *t, uint32_t first, uint32_t count,
		     bool prefetch, uint32_t client);
/** page_read_cluster() - read the chunk that a fault needs, and absent neighbours: forward first,
 * as programs go. Return: NULL when no read is free. */
struct page_read *page_read_cluster(struct template *t, uint32_t chunk, uint32_t client);
/** page_read_settled() - is there nothing to gain from reading @chunk? All its pages are there, or
 * on their way. */
bool page_read_settled(const struct template *t, uint32_t chunk);
/** page_read_fits() - would [first, last] be one range of one file, of at most @bytes? */
bool page_read_fits(const struct template *t, uint32_t first, uint32_t last, uint32_t bytes);
/** page_read_decode() - put a chunk of a loaded read into the template, wake who waits for it. */
void page_read_decode(struct page_read *r, uint32_t chunk);
/** page_read_fill_page() - fill one page of the chunk that is in the bounce buffer. */
int page_read_fill_page(struct template *t, uint32_t chunk, uint32_t page);
/** page_read_bounce() - while recording, the page's chunk may still be in the bounce buffer.
 * Return: true when the page was filled from there. */
bool page_read_bounce(struct template *t, uint32_t chunk, uint32_t page);
/** page_read_work() - decode a turn's share of what is loaded. Return: true when more is left. */
bool page_read_work(void);

/* ---- prefetch.c ---- */

/** prefetch_continue() - a read is free: ask for the next pieces. */
void prefetch_continue(void);
/** prefetch_settle() - what has been read is decoded: fill the zeros, and let go. Return: true when
 * work is left. */
bool prefetch_settle(void);
void prefetch_finish(void);

/* ---- page_in.c ---- */

/** page_in_charge() - the client has made us read so much. */
void page_in_charge(uint32_t client, uint32_t bytes);
/** page_in_first_waiter() - which page the first fault in the read's list waits for. Return: false
 * when none waits. */
bool page_in_first_waiter(const struct page_read *r, uint32_t *ret_page);
/** page_in_wake_waiters() - wake or end every instance that waits for @chunk of @r. The lists of a
 * read are short. */
void page_in_wake_waiters(struct page_read *r, uint32_t chunk, int err, const char *text);
/** page_in_fail_waiters() - the read has failed: all that wait for it end. */
void page_in_fail_waiters(struct page_read *r, const char *text);
/** page_in_serve_starved() - faults that found no read free: one has come free. */
void page_in_serve_starved(void);

#endif
