/* SPDX-License-Identifier: Apache-2.0 */
/* rewrite.c - the same memory with other hot chunks, or in one file instead of several */
#include "snapshot-format/internal.h"

enum {
	/* A cold chunk with this many pages ends where addresses jump by a whole chunk. */
	COLD_PAGES_ENOUGH = 8,
	PROGRESS_PAGES = 256,
};

/** struct rewrite - one copy in progress. */
struct rewrite {
	const struct snapshot_reader *r;
	struct snapshot_writer *w;
	struct page_source *source;
	struct snapshot_error *err;
	bool flat;     /* without a base; else a diff stays one */
	uint8_t *done; /* by page: is in the working set, or was written */
	struct snapshot_ws_entry *ws;
	size_t ws_count;
	unsigned count; /* pages in @data */
	uint32_t pages[SNAPSHOT_CHUNK_PAGES];
	uint8_t data[SNAPSHOT_CHUNK_BYTES];
	void (*progress)(void *arg, uint64_t done, uint64_t total);
	void *progress_arg;
	uint64_t pages_done, pages_total;
};

/** Does the copy hold this page in a chunk of its own? */
static bool is_stored(const struct rewrite *rw, uint32_t page)
{
	uint32_t chunk = snapshot_reader_page_chunk(rw->r, page);

	return chunk != SNAPSHOT_PAGE_ZERO && (rw->flat || chunk < rw->r->header.chunks);
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
	int ret = page_source_get(rw->source, page, &data, rw->err);

	if (ret)
		return ret;
	if (rw->progress && rw->pages_done++ % PROGRESS_PAGES == 0)
		rw->progress(rw->progress_arg, rw->pages_done - 1, rw->pages_total);
	memcpy(rw->data + (size_t)rw->count * PAGE_BYTES, data, PAGE_BYTES);
	rw->pages[rw->count++] = page;
	return rw->count == SNAPSHOT_CHUNK_PAGES ? flush_chunk(rw, hot) : 0;
}

static int copy_hot(struct rewrite *rw)
{
	for (size_t i = 0; i < rw->ws_count; i++) {
		uint32_t page = rw->ws[i].page;
		int ret = 0;

		if (is_stored(rw, page))
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

		if (rw->done[page] || !is_stored(rw, page))
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

/** Of a diff: what its bases have stays there. */
static int keep_base(struct rewrite *rw)
{
	uint32_t end = (uint32_t)rw->r->header.template_pages;
	int ret;

	if (rw->flat || !rw->r->base)
		return 0;
	ret = snapshot_writer_base(rw->w, rw->r->base, rw->r->base_name);
	for (uint32_t page = 0; ret >= 0 && page < end; page++) {
		uint32_t chunk = snapshot_reader_page_chunk(rw->r, page);

		if (chunk != SNAPSHOT_PAGE_ZERO && chunk >= rw->r->header.chunks)
			ret = snapshot_writer_same(rw->w, page, NULL);
	}
	return MIN(ret, 0);
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
		ret = writer_set_identity(rw->w, snapshot_reader_id(rw->r));
	if (!ret)
		ret = copy_sections(rw);
	if (!ret)
		ret = keep_base(rw);
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

/** @rw: with what is particular to one kind of copy. */
static int copy(struct rewrite *rw, const struct snapshot_reader *r,
		const struct snapshot_ws_entry *ws, size_t ws_count, int out_fd,
		struct snapshot_error *err)
{
	int ret = -ENOMEM;

	rw->r = r;
	rw->err = err;
	rw->source = page_source_new(r);
	if (rw->source)
		ret = rewrite_all(rw, ws, ws_count, out_fd);
	else
		write_fail(rw, ret);
	snapshot_writer_free(rw->w);
	free(rw->source);
	free(rw->done);
	free(rw->ws);
	return ret;
}

int snapshot_rewrite(const struct snapshot_reader *r, const struct snapshot_ws_entry *ws,
		     size_t ws_count, int out_fd, struct snapshot_error *err)
{
	struct rewrite *rw = calloc(1, sizeof(*rw));
	int ret;

	if (!rw)
		return format_fail(err, r->name, "copy", 0, -ENOMEM, "no memory");
	ret = copy(rw, r, ws, ws_count, out_fd, err);
	free(rw);
	return ret;
}

int snapshot_flatten(const struct snapshot_reader *r, int out_fd,
		     void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
		     struct snapshot_error *err)
{
	struct rewrite *rw = calloc(1, sizeof(*rw));
	int ret;

	if (!rw)
		return format_fail(err, r->name, "copy", 0, -ENOMEM, "no memory");
	rw->flat = true;
	rw->progress = progress;
	rw->progress_arg = arg;
	for (uint32_t page = 0; page < r->header.template_pages; page++)
		rw->pages_total += snapshot_reader_page_chunk(r, page) != SNAPSHOT_PAGE_ZERO;
	ret = copy(rw, r, r->working_set, r->working_set_count, out_fd, err);
	free(rw);
	return ret;
}
