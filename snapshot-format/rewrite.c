/* SPDX-License-Identifier: Apache-2.0 */
/* rewrite.c - the same memory with other hot chunks: what a working set is recorded for */
#include "common/cleanup.h"
#include "snapshot-format/internal.h"

enum {
	CACHE_CHUNKS = 32, /* decoded chunks of the source: 2 MiB */
	/* A cold chunk with this many pages ends where addresses jump by a whole chunk. */
	COLD_PAGES_ENOUGH = 8,
};

/** struct rewrite - one copy in progress. */
struct rewrite {
	const struct snapshot_reader *r;
	struct snapshot_writer *w;
	struct snapshot_error *err;
	uint8_t *done; /* by page: is in the working set, or was written */
	struct snapshot_ws_entry *ws;
	size_t ws_count;
	unsigned count; /* pages in @data */
	uint32_t pages[SNAPSHOT_CHUNK_PAGES];
	uint8_t data[SNAPSHOT_CHUNK_BYTES];
	uint32_t cached[CACHE_CHUNKS]; /* chunk + 1 of the source, or 0 */
	uint8_t cache[CACHE_CHUNKS][SNAPSHOT_CHUNK_BYTES];
};

/** A page of the source, decoded. The pointer is good until the next call. */
static int source_page(struct rewrite *rw, uint32_t page, const uint8_t **ret_data)
{
	uint32_t chunk = snapshot_reader_page_chunk(rw->r, page);
	const struct snapshot_chunk *c = snapshot_reader_chunk(rw->r, chunk);
	unsigned slot = chunk % CACHE_CHUNKS, i = 0;

	if (rw->cached[slot] != chunk + 1) {
		int ret;

		rw->cached[slot] = 0;
		ret = snapshot_reader_read_chunk(rw->r, chunk, rw->cache[slot], rw->err);
		if (ret)
			return ret;
		rw->cached[slot] = chunk + 1;
	}
	while (c->pages[i] != page)
		i++;
	*ret_data = rw->cache[slot] + (size_t)i * PAGE_BYTES;
	return 0;
}

static int write_fail(struct rewrite *rw, int ret)
{
	return format_fail(rw->err, rw->r->name, "copy",
			   rw->w ? snapshot_writer_stored_bytes(rw->w) : 0, ret, "write: %s",
			   strerror(-ret));
}

static int flush_chunk(struct rewrite *rw, bool hot)
{
	int ret = 0;

	if (rw->count)
		ret = snapshot_writer_chunk(rw->w, rw->pages, rw->count, rw->data, hot);
	rw->count = 0;
	return ret ? write_fail(rw, ret) : 0;
}

static int add_page(struct rewrite *rw, uint32_t page, bool hot)
{
	const uint8_t *data;
	int ret = source_page(rw, page, &data);

	if (ret)
		return ret;
	memcpy(rw->data + (size_t)rw->count * PAGE_BYTES, data, PAGE_BYTES);
	rw->pages[rw->count++] = page;
	return rw->count == SNAPSHOT_CHUNK_PAGES ? flush_chunk(rw, hot) : 0;
}

static int copy_hot(struct rewrite *rw)
{
	for (size_t i = 0; i < rw->ws_count; i++) {
		uint32_t page = rw->ws[i].page;
		int ret = 0;

		if (snapshot_reader_page_chunk(rw->r, page) != SNAPSHOT_PAGE_ZERO)
			ret = add_page(rw, page, true);
		if (ret)
			return ret;
	}
	return flush_chunk(rw, true);
}

static int copy_cold(struct rewrite *rw)
{
	uint32_t end = (uint32_t)rw->r->header.template_pages;

	for (uint32_t page = 0; page < end; page++) {
		int ret = 0;

		if (rw->done[page] || snapshot_reader_page_chunk(rw->r, page) == SNAPSHOT_PAGE_ZERO)
			continue;
		if (rw->count >= COLD_PAGES_ENOUGH &&
		    page - rw->pages[rw->count - 1] > SNAPSHOT_CHUNK_PAGES)
			ret = flush_chunk(rw, false);
		if (!ret)
			ret = add_page(rw, page, false);
		if (ret)
			return ret;
	}
	return flush_chunk(rw, false);
}

/** Take the caller's working set: pages of the template, each once, flags of repetitions merged. */
static int take_working_set(struct rewrite *rw, const struct snapshot_ws_entry *ws, size_t count)
{
	rw->done = calloc(rw->r->header.template_pages + 1, 1);
	rw->ws = malloc((count + 1) * sizeof(*rw->ws));
	if (!rw->done || !rw->ws)
		return -ENOMEM;
	/* From here on, two bits: 1 is in the set, 2 is written. */
	for (size_t i = 0; i < count; i++) {
		uint32_t page = ws[i].page;

		if (page >= rw->r->header.template_pages)
			continue;
		if (!rw->done[page])
			rw->ws[rw->ws_count++].page = page;
		rw->done[page] |= ws[i].flags & SNAPSHOT_WS_WRITTEN ? 3 : 1;
	}
	for (size_t i = 0; i < rw->ws_count; i++)
		rw->ws[i].flags = rw->done[rw->ws[i].page] & 2 ? SNAPSHOT_WS_WRITTEN : 0;
	return 0;
}

static int copy_sections(struct rewrite *rw)
{
	static const enum snapshot_section kinds[] = {SNAPSHOT_SECTION_STATE,
						      SNAPSHOT_SECTION_METADATA};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t n;
		const void *data = snapshot_reader_section(rw->r, kinds[i], &n);
		int ret = data ? snapshot_writer_section(rw->w, kinds[i], data, n) : 0;

		if (ret)
			return ret;
	}
	return snapshot_writer_section(rw->w, SNAPSHOT_SECTION_WORKING_SET, rw->ws,
				       rw->ws_count * sizeof(*rw->ws));
}

static int rewrite_all(struct rewrite *rw, const struct snapshot_ws_entry *ws, size_t ws_count,
		       int out_fd)
{
	int ret = take_working_set(rw, ws, ws_count);

	if (!ret)
		ret = snapshot_writer_new(out_fd, &rw->r->params, &rw->w);
	if (!ret)
		ret = copy_sections(rw);
	if (ret)
		return write_fail(rw, ret);
	ret = copy_hot(rw);
	if (!ret)
		ret = copy_cold(rw);
	if (ret)
		return ret;
	ret = snapshot_writer_finish(rw->w);
	return ret ? write_fail(rw, ret) : 0;
}

int snapshot_rewrite(const struct snapshot_reader *r, const struct snapshot_ws_entry *ws,
		     size_t ws_count, int out_fd, struct snapshot_error *err)
{
	struct rewrite *rw = calloc(1, sizeof(*rw));
	int ret;

	if (!rw)
		return format_fail(err, r->name, "copy", 0, -ENOMEM, "no memory");
	rw->r = r;
	rw->err = err;
	ret = rewrite_all(rw, ws, ws_count, out_fd);
	snapshot_writer_free(rw->w);
	free(rw->done);
	free(rw->ws);
	free(rw);
	return ret;
}
