/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch.c - read a template's working set in file order, ahead of its faults
 *
 * What is read is a part of the file's load order: the hot chunks, which are one range of the file,
 * and of a diff then the chunks of its bases that the working set is in.
 * How it goes together with faults is at the top of page_in.c.
 */
#include "snapd/event_loop.h"
#include "snapd/page_in_internal.h"

enum { ZEROS_PER_TURN = 64 };
#define FIRST_PIECE_BYTES (64u << 10)

static struct template *prefetching[READS_MAX]; /* each holds a reference; NULL: free */

void prefetch_finish(void)
{
	for (unsigned i = 0; i < READS_MAX; i++) {
		template_put(prefetching[i]);
		prefetching[i] = NULL;
	}
}

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

bool prefetch_settle(void)
{
	bool more = false;

	for (unsigned i = 0; i < READS_MAX; i++) {
		struct template *t = prefetching[i];

		if (!t || t->reads || t->prefetch_next < t->prefetch_end)
			continue;
		if (!prefetch_zeros(t)) {
			more = true;
			continue;
		}
		prefetching[i] = NULL;
		template_put(t);
	}
	return more;
}

static bool first_piece_in_flight(const struct template *t)
{
	uint8_t slot = t->file->chunk_read[t->file->load_order[t->prefetch_first]];

	return slot != TEMPLATE_NO_READ && page_read_of(slot)->state == READ_IN_FLIGHT;
}

/** Ask for the next piece of a template's load order. Return: false when no read is free. */
static bool prefetch_piece(struct template *t)
{
	const uint32_t *order = t->file->load_order;
	uint32_t first, count = 1, bytes;
	struct page_read *r;

	/*
	 * The guest waits for the first piece: it is small and goes alone, because a disk tends to
	 * report reads that it got together when all of them are done.
	 */
	bytes = t->prefetch_next == t->prefetch_first ? FIRST_PIECE_BYTES : PAGE_READ_BYTES;
	if (t->prefetch_next != t->prefetch_first && first_piece_in_flight(t))
		return false;
	while (t->prefetch_next < t->prefetch_end && page_read_settled(t, order[t->prefetch_next]))
		t->prefetch_next++;
	if (t->prefetch_next >= t->prefetch_end)
		return true;
	first = order[t->prefetch_next];
	r = page_read_new(true);
	if (!r)
		return false;
	while (t->prefetch_next + count < t->prefetch_end &&
	       order[t->prefetch_next + count] == first + count &&
	       !page_read_settled(t, first + count) &&
	       page_read_fits(t, first, first + count, bytes))
		count++;
	t->prefetch_next += count;
	page_read_start(r, t, first, count, true, t->prefetch_client);
	return true;
}

void prefetch_continue(void)
{
	for (unsigned i = 0; i < READS_MAX; i++) {
		struct template *t = prefetching[i];

		while (t && t->prefetch_next < t->prefetch_end)
			if (!prefetch_piece(t))
				return;
	}
}

/** Read the first @count chunks of the load order. */
static bool prefetch_chunks(struct template *t, uint32_t count, uint32_t client)
{
	if (!count)
		return true;
	for (unsigned i = 0; i < READS_MAX; i++)
		if (prefetching[i] == t)
			return true;
	for (unsigned i = 0; i < READS_MAX; i++) {
		if (prefetching[i])
			continue;
		prefetching[i] = template_get(t);
		t->prefetch_first = t->prefetch_next = 0;
		t->prefetch_end = count;
		t->prefetch_zero = 0;
		t->prefetch_client = client;
		prefetch_continue();
		event_loop_submit();
		return true;
	}
	return false;
}

bool page_in_prefetch(struct template *t, uint32_t client)
{
	return prefetch_chunks(t, t->file->working_set_chunks, client);
}

bool page_in_load(struct template *t, uint32_t client)
{
	return prefetch_chunks(t, t->file->load_count, client);
}

bool page_in_is_loading(const struct template *t)
{
	for (unsigned i = 0; i < READS_MAX; i++)
		if (prefetching[i] == t)
			return true;
	return false;
}
