/* SPDX-License-Identifier: Apache-2.0 */
/* tool_pages.c - `snapshot pages` and `snapshot diff`: guest memory, drawn and compared */
#include <stdio.h>

#include "common/cleanup.h"
#include "snapshot-format/tool.h"

enum { MAP_COLUMNS = 64, MAP_ROWS_MAX = 32 };

/* ---- pages ----------------------------------------------------------------------------------- */

/** Of a base's chunk, the pages that were not replaced. */
static json_t *chunk_json(const struct snapshot_chunk *c)
{
	json_t *pages = json_array();

	for (unsigned i = 0; i < c->page_count; i++)
		if (snapshot_chunk_has(c, i))
			json_array_append_new(pages, json_integer(c->pages[i]));
	return json_pack("{s:i, s:I, s:I, s:b, s:b, s:o}", "file", (int)c->file, "offset",
			 (json_int_t)c->offset, "stored_bytes", (json_int_t)c->stored_bytes, "hot",
			 (int)c->hot, "raw", (int)c->raw, "pages", pages);
}

static int pages_json(const struct tool_file *f)
{
	json_t *chunks = json_array(), *ws = json_array();
	size_t n;
	const struct snapshot_ws_entry *entries = snapshot_reader_working_set(f->reader, &n);

	for (uint32_t i = 0; i < snapshot_reader_chunk_count(f->reader); i++)
		json_array_append_new(chunks, chunk_json(snapshot_reader_chunk(f->reader, i)));
	for (size_t i = 0; i < n; i++)
		json_array_append_new(ws, json_pack("{s:I, s:b}", "page",
						    (json_int_t)entries[i].page, "written",
						    (int)(entries[i].flags & SNAPSHOT_WS_WRITTEN)));
	return tool_print_json(
		json_pack("{s:s, s:o, s:o}", "file", f->path, "chunks", chunks, "working_set", ws));
}

/** Pages [first, first + count) as one character: what most of them are. */
static char map_cell(const struct snapshot_reader *r, uint64_t first, uint64_t count)
{
	uint64_t hot = 0, cold = 0, base = 0;

	for (uint64_t page = first; page < first + count; page++) {
		uint32_t chunk = snapshot_reader_page_chunk(r, (uint32_t)page);

		if (chunk == SNAPSHOT_PAGE_ZERO)
			continue;
		if (snapshot_reader_chunk(r, chunk)->file)
			base++;
		else if (snapshot_reader_chunk(r, chunk)->hot)
			hot++;
		else
			cold++;
	}
	if (!hot && !cold)
		return base * 2 > count ? '=' : base ? ':' : ' ';
	if (hot * 2 > count)
		return '#';
	if (hot)
		return '+';
	return cold * 2 > count ? '-' : '.';
}

static void print_map(const struct snapshot_reader *r)
{
	uint64_t pages = r->params.template_pages, per_cell = 1;

	while (pages > per_cell * MAP_COLUMNS * MAP_ROWS_MAX)
		per_cell *= 2;
	printf("one character is %llu page%s: # hot  + some hot  - cold  . some cold  %s(blank) "
	       "zero\n",
	       (unsigned long long)per_cell, per_cell == 1 ? "" : "s",
	       r->file_count > 1 ? "= base  : some base  " : "");
	for (uint64_t row = 0; row < pages; row += per_cell * MAP_COLUMNS) {
		printf("%9llu |", (unsigned long long)row);
		for (unsigned i = 0; i < MAP_COLUMNS; i++) {
			uint64_t first = row + i * per_cell;

			if (first < pages)
				putchar(map_cell(r, first, MIN(per_cell, pages - first)));
		}
		puts("|");
	}
}

int tool_pages(const struct tool_file *f, bool json)
{
	const struct format_header *h = &f->reader->header;
	struct tool_pages pages = tool_count_pages(f->reader);
	uint64_t hot = 0;

	if (json)
		return pages_json(f);
	for (uint32_t i = 0; i < h->hot_chunks; i++)
		hot += snapshot_reader_chunk(f->reader, i)->page_count;
	printf("%s: %llu pages: %llu hot, %llu cold, ", f->path,
	       (unsigned long long)h->template_pages, (unsigned long long)hot,
	       (unsigned long long)(pages.own - hot));
	if (f->reader->file_count > 1)
		printf("%llu in its bases, ", (unsigned long long)pages.base);
	printf("%llu zero\n", (unsigned long long)pages.zero);
	print_map(f->reader);
	return TOOL_OK;
}

/* ---- diff ------------------------------------------------------------------------------------ */

/** struct difference - what diff has found. */
struct difference {
	uint64_t same, changed, only_a, only_b;
	json_t *pages; /* numbers of all that differ */
};

static int compare_page(struct page_source *a, struct page_source *b, uint32_t page,
			struct difference *d)
{
	bool in_a = snapshot_reader_page_chunk(a->r, page) != SNAPSHOT_PAGE_ZERO;
	bool in_b = snapshot_reader_page_chunk(b->r, page) != SNAPSHOT_PAGE_ZERO;
	struct snapshot_error err = {""};
	const uint8_t *pa, *pb;

	if (!in_a && !in_b)
		return TOOL_OK;
	if (page_source_get(a, page, &pa, &err) || page_source_get(b, page, &pb, &err)) {
		fprintf(stderr, "snapshot: %s\n", err.text);
		return TOOL_BAD;
	}
	if (!memcmp(pa, pb, PAGE_BYTES)) {
		d->same++;
		return TOOL_OK;
	}
	d->changed += in_a && in_b;
	d->only_a += !in_b;
	d->only_b += !in_a;
	json_array_append_new(d->pages, json_integer(page));
	return TOOL_OK;
}

static bool section_equal(const struct snapshot_reader *a, const struct snapshot_reader *b,
			  enum snapshot_section kind)
{
	size_t na, nb;
	const void *pa = snapshot_reader_section(a, kind, &na);
	const void *pb = snapshot_reader_section(b, kind, &nb);

	return na == nb && (na == 0 || !memcmp(pa, pb, na));
}

static int print_difference(const struct tool_file *a, const struct tool_file *b,
			    const struct difference *d, bool json)
{
	bool state = section_equal(a->reader, b->reader, SNAPSHOT_SECTION_STATE);
	bool metadata = section_equal(a->reader, b->reader, SNAPSHOT_SECTION_METADATA);
	bool ws = section_equal(a->reader, b->reader, SNAPSHOT_SECTION_WORKING_SET);
	bool same = state && !d->changed && !d->only_a && !d->only_b;

	if (json) {
		int ret = tool_print_json(json_pack(
			"{s:b, s:I, s:I, s:I, s:I, s:b, s:b, s:b, s:O}", "same", (int)same,
			"pages_same", (json_int_t)d->same, "pages_changed", (json_int_t)d->changed,
			"pages_only_first", (json_int_t)d->only_a, "pages_only_second",
			(json_int_t)d->only_b, "state_same", (int)state, "metadata_same",
			(int)metadata, "working_set_same", (int)ws, "pages", d->pages));

		return ret ? ret : same ? TOOL_OK : TOOL_BAD;
	}
	printf("pages         %llu same, %llu changed, %llu only in %s, %llu only in %s\n",
	       (unsigned long long)d->same, (unsigned long long)d->changed,
	       (unsigned long long)d->only_a, a->path, (unsigned long long)d->only_b, b->path);
	printf("state         %s\n", state ? "same" : "different");
	printf("metadata      %s\n", metadata ? "same" : "different");
	printf("working set   %s\n", ws ? "same" : "different");
	return same ? TOOL_OK : TOOL_BAD;
}

int tool_diff(const struct tool_file *a, const struct tool_file *b, bool json)
{
	CLEANUP_FREE struct page_source *pa = page_source_new(a->reader);
	CLEANUP_FREE struct page_source *pb = page_source_new(b->reader);
	uint64_t end = MAX(a->reader->params.template_pages, b->reader->params.template_pages);
	struct difference d = {.pages = json_array()};
	int ret = pa && pb ? TOOL_OK : TOOL_USAGE;

	if (ret)
		fputs("snapshot: no memory\n", stderr);
	for (uint64_t page = 0; !ret && page < end; page++)
		ret = compare_page(pa, pb, (uint32_t)page, &d);
	if (!ret)
		ret = print_difference(a, b, &d, json);
	json_decref(d.pages);
	return ret;
}
