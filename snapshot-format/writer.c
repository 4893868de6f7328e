/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer.c - pages and sections into a snapshot file
 *
 * Chunks go to the file as they come, in large writes; the tables need to know all of them. They
 * are put in front of the chunks all the same, so that one read at the start of the file has the
 * header, the tables and perhaps the first hot chunks: room is left for them when the first chunk
 * comes (a hole in the file costs nothing). Where that room turns out too small, the tables go
 * behind the chunks; the header says where they are.
 *
 * The header is written last. Before that the file opens as nothing.
 */
#include <lz4hc.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "snapshot-format/internal.h"

enum {
	WRITE_BYTES = 1 << 20, /* one write to the file */
	SECTIONS = SNAPSHOT_SECTION_IDENTITY + 1,
	/* On interpreter memory 10 to 12 take two to five times as long and save 0.2 %. */
	LZ4_LEVEL = 9,
};

struct snapshot_writer {
	int fd;		      /* borrowed */
	int err;	      /* sticky: what write returned */
	bool placed;	      /* the chunk regions have their place: tables_room is final */
	bool finished;	      /* nothing can be added any more */
	bool any_cold;	      /* the cold region was begun */
	uint32_t next;	      /* for the page index */
	uint64_t front_bytes; /* room for header and tables before the chunks */
	uint64_t offset;      /* in the file: where @buffer goes */
	size_t buffered;
	uint64_t stored_bytes;
	struct format_header header;
	struct state_writer sections[SECTIONS];
	bool has_section[SECTIONS];
	uint64_t *seen;			    /* by page: was given */
	const struct snapshot_reader *base; /* of a diff; the caller's */
	struct page_source *base_pages;
	uint64_t *kept; /* of a diff, by page: stored, or as in the base */
	void *lz4_state;
	uint8_t gather[SNAPSHOT_CHUNK_BYTES];
	uint8_t buffer[WRITE_BYTES + SNAPSHOT_CHUNK_BYTES];
};

static bool bit_get(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static void bit_set(uint64_t *bits, uint32_t i)
{
	bits[i / 64] |= 1ull << (i % 64);
}

static int params_check(const struct snapshot_params *p)
{
	if (p->ram_pages > SNAPSHOT_PAGES_MAX || p->template_pages > p->ram_pages)
		return -EINVAL;
	return p->guest_kind ? 0 : -EINVAL;
}

static void header_init(struct format_header *h, const struct snapshot_params *p)
{
	memcpy(h->magic, FORMAT_MAGIC, FORMAT_MAGIC_BYTES);
	h->version = FORMAT_VERSION;
	h->header_bytes = FORMAT_HEADER_BYTES;
	h->created_ns = p->created_ns;
	h->ram_pages = p->ram_pages;
	h->template_pages = p->template_pages;
	h->architecture = FORMAT_ARCH_X86_64;
	h->guest_kind = p->guest_kind;
	h->page_bytes = PAGE_BYTES;
	h->chunk_pages = SNAPSHOT_CHUNK_PAGES;
	memcpy(h->cpu_features, p->cpu_features, sizeof(h->cpu_features));
}

int snapshot_writer_new(int fd, const struct snapshot_params *params,
			struct snapshot_writer **ret_writer)
{
	struct snapshot_writer *w;
	struct stat st;

	*ret_writer = NULL;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size != 0 || params_check(params))
		return -EINVAL;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->fd = fd;
	header_init(&w->header, params);
	w->lz4_state = malloc((size_t)LZ4_sizeofStateHC());
	w->seen = calloc(params->template_pages / 64 + 1, sizeof(*w->seen));
	if (!w->lz4_state || !w->seen) {
		snapshot_writer_free(w);
		return -ENOMEM;
	}
	*ret_writer = w;
	return 0;
}

void snapshot_writer_free(struct snapshot_writer *w)
{
	if (!w)
		return;
	for (unsigned i = 0; i < SECTIONS; i++)
		state_writer_free(&w->sections[i]);
	free(w->lz4_state);
	free(w->seen);
	free(w->base_pages);
	free(w->kept);
	free(w);
}

uint64_t snapshot_writer_stored_bytes(const struct snapshot_writer *w)
{
	return w->stored_bytes;
}

int snapshot_writer_section(struct snapshot_writer *w, enum snapshot_section kind, const void *data,
			    size_t n)
{
	struct state_writer *s;
	int ret = 0;

	if (w->finished || kind < SNAPSHOT_SECTION_STATE || kind > SNAPSHOT_SECTION_WORKING_SET ||
	    w->has_section[kind] || n > SNAPSHOT_SECTION_BYTES_MAX)
		return -EINVAL;
	s = &w->sections[kind];
	if (kind == SNAPSHOT_SECTION_WORKING_SET) {
		const struct snapshot_ws_entry *ws = data;

		if (n % sizeof(*ws))
			return -EINVAL;
		ret = working_set_check(ws, n / sizeof(*ws), w->header.template_pages);
		if (!ret)
			working_set_put(s, ws, n / sizeof(*ws));
	} else {
		state_put(s, data, n);
	}
	ret = ret ? ret : s->err;
	if (ret)
		state_writer_free(s);
	else
		w->has_section[kind] = true;
	return ret;
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static int flush(struct snapshot_writer *w)
{
	if (!w->err && w->buffered)
		w->err = pwrite_full(w->fd, w->buffer, w->buffered, w->offset);
	w->offset += w->buffered;
	w->buffered = 0;
	return w->err;
}

static uint64_t position(const struct snapshot_writer *w)
{
	return w->offset + w->buffered;
}

/** Leave room for the tables: what is known of them, and a guess at the rest. */
static void place_chunks(struct snapshot_writer *w)
{
	/* A diff is small, and so is to be the room that it may not need. */
	uint64_t pages = w->base ? w->header.template_pages / 8 : w->header.template_pages;
	uint64_t chunks = pages / (SNAPSHOT_CHUNK_PAGES / 2) + 8;
	uint64_t bytes = FORMAT_HEADER_BYTES + chunks * (sizeof(struct format_chunk) + 6);

	for (unsigned i = 0; i < SECTIONS; i++)
		bytes += align_up(w->sections[i].used, FORMAT_SECTION_ALIGN);
	w->front_bytes = align_up(bytes, FORMAT_ALIGN);
	w->offset = w->front_bytes;
	w->header.hot_offset = w->offset;
	w->placed = true;
}

/** End the hot region and begin the cold one on a block of its own. */
static int begin_cold(struct snapshot_writer *w)
{
	if (w->any_cold)
		return 0;
	w->any_cold = true;
	w->header.hot_bytes = position(w) - w->header.hot_offset;
	if (flush(w))
		return w->err;
	w->offset = align_up(w->offset, FORMAT_ALIGN);
	w->header.cold_offset = w->offset;
	return 0;
}

/** struct page_order - the pages of a chunk, without zero pages, ascending. */
struct page_order {
	uint32_t pages[SNAPSHOT_CHUNK_PAGES];
	uint8_t source[SNAPSHOT_CHUNK_PAGES]; /* position in the caller's data */
	unsigned count;
};

/** Sort and check the pages of a call. Return: 0, or -EINVAL with nothing changed. */
static int order_pages(struct snapshot_writer *w, const uint32_t *pages, unsigned count,
		       struct page_order *o)
{
	o->count = 0;
	for (unsigned i = 0; i < count; i++) {
		unsigned k = o->count++;

		if (pages[i] >= w->header.template_pages || bit_get(w->seen, pages[i]))
			return -EINVAL;
		for (; k > 0 && o->pages[k - 1] > pages[i]; k--) {
			o->pages[k] = o->pages[k - 1];
			o->source[k] = o->source[k - 1];
		}
		if (k > 0 && o->pages[k - 1] == pages[i])
			return -EINVAL;
		o->pages[k] = pages[i];
		o->source[k] = (uint8_t)i;
	}
	for (unsigned i = 0; i < count; i++)
		bit_set(w->seen, pages[i]);
	return 0;
}

/** Copy the pages that are not zero into w->gather, in order. */
static void gather_pages(struct snapshot_writer *w, const uint8_t *data, struct page_order *o)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < o->count; i++) {
		const uint8_t *page = data + (size_t)o->source[i] * PAGE_BYTES;

		if (mem_is_zero(page, PAGE_BYTES))
			continue;
		memcpy(w->gather + (size_t)kept * PAGE_BYTES, page, PAGE_BYTES);
		o->pages[kept++] = o->pages[i];
	}
	o->count = kept;
}

/** Compress w->gather behind what is buffered, and note the chunk in the tables. */
static int put_chunk(struct snapshot_writer *w, const struct page_order *o)
{
	struct state_writer *index = &w->sections[SNAPSHOT_SECTION_PAGE_INDEX];
	struct state_writer *table = &w->sections[SNAPSHOT_SECTION_CHUNKS];
	struct format_chunk entry = {.page_count = (uint8_t)o->count};
	int bytes = (int)(o->count * PAGE_BYTES);
	uint8_t *out = w->buffer + w->buffered;
	/* One byte less than the pages take: 0 means that it is not smaller. */
	int stored = LZ4_compress_HC_extStateHC(w->lz4_state, (const char *)w->gather, (char *)out,
						bytes, bytes - 1, LZ4_LEVEL);

	if (stored <= 0) {
		memcpy(out, w->gather, (size_t)bytes);
		stored = bytes;
		entry.flags = FORMAT_CHUNK_RAW;
	}
	for (unsigned i = 0; w->kept && i < o->count; i++)
		bit_set(w->kept, o->pages[i]);
	entry.stored_bytes = (uint32_t)stored;
	entry.xxh3 = XXH3_64bits(out, (size_t)stored);
	state_put(table, &entry, sizeof(entry));
	page_index_put(index, o->pages, o->count, &w->next);
	w->buffered += (size_t)stored;
	w->stored_bytes += (uint64_t)stored;
	w->err = table->err ? table->err : index->err;
	if (!w->err && w->buffered >= WRITE_BYTES)
		flush(w);
	return w->err;
}

int snapshot_writer_chunk(struct snapshot_writer *w, const uint32_t *pages, unsigned count,
			  const void *data, bool hot)
{
	struct page_order order;
	int ret;

	if (w->err)
		return w->err;
	if (w->finished || count == 0 || count > SNAPSHOT_CHUNK_PAGES || (hot && w->any_cold))
		return -EINVAL;
	ret = order_pages(w, pages, count, &order);
	if (ret)
		return ret;
	if (!w->placed)
		place_chunks(w);
	if (!hot && begin_cold(w))
		return w->err;
	gather_pages(w, data, &order);
	if (!order.count)
		return 0;
	w->header.chunks++;
	w->header.hot_chunks += hot;
	return put_chunk(w, &order);
}

/* ---- a diff ---------------------------------------------------------------------------------- */

static void put_base(struct snapshot_writer *w, const struct snapshot_reader *base,
		     const char *name)
{
	const struct format_base entry = {
		.identity = base->identity,
		.ram_pages = base->header.ram_pages,
		.template_pages = base->header.template_pages,
		.architecture = base->header.architecture,
		.guest_kind = base->header.guest_kind,
		.depth = base->need.depth + 1,
		.name_bytes = (uint32_t)strlen(name),
	};
	struct state_writer *s = &w->sections[SNAPSHOT_SECTION_BASE];

	state_put(s, &entry, sizeof(entry));
	state_put(s, name, entry.name_bytes);
	w->has_section[SNAPSHOT_SECTION_BASE] = true;
	w->header.incompatible |= FORMAT_INCOMPATIBLE_BASE;
}

int snapshot_writer_base(struct snapshot_writer *w, const struct snapshot_reader *base,
			 const char *name)
{
	if (w->base || w->placed || w->finished || !base_name_ok(name, strlen(name)) ||
	    base->header.guest_kind != w->header.guest_kind)
		return -EINVAL;
	if (!snapshot_reader_may_be_base(base))
		return -EMLINK;
	w->base_pages = page_source_new(base);
	w->kept = calloc(w->header.template_pages / 64 + 1, sizeof(*w->kept));
	if (!w->base_pages || !w->kept)
		return w->err = -ENOMEM;
	w->base = base;
	put_base(w, base, name);
	return 0;
}

int snapshot_writer_same(struct snapshot_writer *w, uint32_t page, const void *data)
{
	const uint8_t *old;
	int ret;

	if (!w->base || w->finished || page >= w->header.template_pages || bit_get(w->seen, page))
		return -EINVAL;
	if (data) {
		ret = page_source_get(w->base_pages, page, &old, NULL);
		if (ret)
			return ret;
		if (memcmp(old, data, PAGE_BYTES))
			return 0;
	}
	bit_set(w->seen, page);
	bit_set(w->kept, page);
	return 1;
}

/** Pages that have contents in the base and have none now. */
static void put_zero_pages(struct snapshot_writer *w)
{
	struct state_writer *s = &w->sections[SNAPSHOT_SECTION_ZERO_PAGES];
	uint32_t end = (uint32_t)w->header.template_pages, next = 0, count;

	for (uint32_t page = 0; page < end; page += count + 1) {
		count = 0;
		while (page + count < end && !bit_get(w->kept, page + count) &&
		       snapshot_reader_page_chunk(w->base, page + count) != SNAPSHOT_PAGE_ZERO)
			count++;
		if (count)
			zero_pages_put(s, page, count, &next);
	}
	w->has_section[SNAPSHOT_SECTION_ZERO_PAGES] = s->used > 0;
	w->err = w->err ? w->err : s->err;
}

int writer_set_identity(struct snapshot_writer *w, struct snapshot_id id)
{
	struct state_writer *s = &w->sections[SNAPSHOT_SECTION_IDENTITY];
	const struct format_hash128 hash = {.low = id.low, .high = id.high};

	if (w->finished || s->used)
		return -EINVAL;
	state_put(s, &hash, sizeof(hash));
	w->has_section[SNAPSHOT_SECTION_IDENTITY] = true;
	return s->err;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/** Where the tables go: into the room in front, or behind the chunks. */
static uint64_t place_tables(const struct snapshot_writer *w, uint64_t tables_bytes,
			     uint64_t chunks_end)
{
	if (tables_bytes <= w->front_bytes - FORMAT_HEADER_BYTES)
		return FORMAT_HEADER_BYTES;
	return align_up(chunks_end, FORMAT_ALIGN);
}

static uint64_t tables_size(const struct snapshot_writer *w)
{
	uint64_t bytes = 0;

	for (unsigned kind = 1; kind < SECTIONS; kind++)
		if (w->has_section[kind])
			bytes = align_up(bytes, FORMAT_SECTION_ALIGN) + w->sections[kind].used;
	return bytes;
}

/** Lay the sections out in @tables and describe them in the header. */
static void put_tables(struct snapshot_writer *w, uint8_t *tables)
{
	struct format_header *h = &w->header;
	uint64_t at = 0;

	for (uint32_t kind = 1; kind < SECTIONS; kind++) {
		const struct state_writer *s = &w->sections[kind];
		bool required = kind != SNAPSHOT_SECTION_METADATA &&
				kind != SNAPSHOT_SECTION_WORKING_SET &&
				kind != SNAPSHOT_SECTION_IDENTITY;

		if (!w->has_section[kind])
			continue;
		at = align_up(at, FORMAT_SECTION_ALIGN);
		if (s->used)
			memcpy(tables + at, s->data, s->used);
		h->sections[h->section_count++] = (struct format_section){
			.kind = kind,
			.flags = required ? FORMAT_SECTION_REQUIRED : 0,
			.offset = h->tables_offset + at,
			.bytes = s->used,
			.hash = format_hash(tables + at, s->used),
		};
		at += s->used;
	}
}

static int write_tables(struct snapshot_writer *w, uint64_t chunks_end)
{
	struct format_header *h = &w->header;
	CLEANUP_FREE uint8_t *tables = NULL;
	uint64_t end;
	int ret;

	h->tables_bytes = tables_size(w);
	if (h->tables_bytes > FORMAT_TABLES_MAX)
		return -EFBIG;
	tables = calloc(1, h->tables_bytes + 1);
	if (!tables)
		return -ENOMEM;
	h->tables_offset = place_tables(w, h->tables_bytes, chunks_end);
	put_tables(w, tables);
	end = MAX(chunks_end, h->tables_offset + h->tables_bytes);
	h->file_bytes = align_up(end, FORMAT_ALIGN);
	ret = pwrite_full(w->fd, tables, h->tables_bytes, h->tables_offset);
	if (!ret && ftruncate(w->fd, (off_t)h->file_bytes) < 0)
		ret = -errno;
	return ret;
}

int snapshot_writer_finish(struct snapshot_writer *w)
{
	struct format_header *h = &w->header;

	if (w->finished)
		return -EINVAL;
	w->finished = true;
	if (!w->placed)
		place_chunks(w);
	if (!w->err)
		begin_cold(w);
	if (flush(w))
		return w->err;
	h->cold_bytes = w->offset - h->cold_offset;
	if (w->base)
		put_zero_pages(w);
	w->has_section[SNAPSHOT_SECTION_CHUNKS] = true;
	w->has_section[SNAPSHOT_SECTION_PAGE_INDEX] = true;
	if (!w->err)
		w->err = write_tables(w, w->offset);
	if (w->err)
		return w->err;
	h->hash = format_hash(h, offsetof(struct format_header, hash));
	w->err = pwrite_full(w->fd, h, sizeof(*h), 0);
	if (!w->err && fdatasync(w->fd) < 0)
		w->err = -errno;
	return w->err;
}
