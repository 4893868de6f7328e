/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - what the files of the snapshot library share */
#ifndef QUICKTHAW_SNAPSHOT_INTERNAL_H
#define QUICKTHAW_SNAPSHOT_INTERNAL_H

#include <errno.h>
#include <stdarg.h>

#include "common/state.h"
#include "common/util.h"
#include "snapshot-format/format.h"

/** format_section_name() - "state", "chunk table", ...; "unknown section" for other numbers. */
const char *format_section_name(uint32_t kind);

/** format_hash() - XXH3-128 of @n bytes. */
struct format_hash128 format_hash(const void *data, size_t n);

/** format_fail() - fill @err (may be NULL) with "file: where at offset N: what". Return: @code. */
int format_fail(struct snapshot_error *err, const char *file, const char *where, uint64_t offset,
		int code, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/** format_put_varint() - append @v. Errors stick in @w. */
void format_put_varint(struct state_writer *w, uint64_t v);
/** format_get_varint() - 0 and @r->err = -EBADMSG at the end of input or on an overlong number. */
uint64_t format_get_varint(struct state_reader *r);

static inline uint64_t zigzag_encode(int64_t n)
{
	return ((uint64_t)n << 1) ^ (n < 0 ? UINT64_MAX : 0);
}

static inline int64_t zigzag_decode(uint64_t v)
{
	return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

/**
 * page_index_put() - append the pages of the next chunk.
 * @pages: @count of them, ascending
 * @next: page after the last one of the chunk before; updated
 */
void page_index_put(struct state_writer *w, const uint32_t *pages, unsigned count, uint32_t *next);

/**
 * page_index_get() - read the pages of the next chunk from hostile bytes.
 * @limit: all page numbers must lie below it
 * @next: as in page_index_put()
 * Return: 0 or -EBADMSG; @ret_pages holds @count ascending page numbers after 0.
 */
int page_index_get(struct state_reader *r, uint32_t limit, unsigned count, uint32_t *next,
		   uint32_t *ret_pages);

/**
 * zero_pages_put() - append the run of @count pages from @first on.
 * @next: page after the run before, 0 at first; updated
 */
void zero_pages_put(struct state_writer *w, uint32_t first, uint32_t count, uint32_t *next);
/** zero_pages_get() - read the next run from hostile bytes; all below @limit. Return: 0 or
 * -EBADMSG.
 */
int zero_pages_get(struct state_reader *r, uint32_t limit, uint32_t *next, uint32_t *ret_first,
		   uint32_t *ret_count);

/** working_set_check() - -EINVAL where a page is out of range or twice in @ws, or a flag unknown.
 */
int working_set_check(const struct snapshot_ws_entry *ws, size_t count, uint64_t template_pages);
void working_set_put(struct state_writer *w, const struct snapshot_ws_entry *ws, size_t count);
/**
 * working_set_get() - decode a whole section of hostile bytes.
 * @ret_ws: malloc'ed, NULL when empty
 * Return: 0, -EBADMSG or -ENOMEM.
 */
int working_set_get(struct state_reader *r, uint64_t template_pages,
		    struct snapshot_ws_entry **ret_ws, size_t *ret_count);

/**
 * struct snapshot_reader - all metadata of an open file, and of those that it is based on.
 * @files: the chain, from the file itself down
 * @chunks: its own, then those of its base, and so on
 */
struct snapshot_reader {
	int fd;	      /**< borrowed, or @owned_fd */
	int owned_fd; /**< or -1 */
	char *name;
	struct format_header header;
	struct snapshot_params params;
	struct format_hash128 identity;
	struct format_base need; /**< of a diff: what its base has to be */
	char base_name[FORMAT_NAME_MAX + 1];
	uint8_t *buffer;       /**< first read, or the tables where they were not in it */
	const uint8_t *tables; /**< inside @buffer: header.tables_bytes bytes */
	struct snapshot_ws_entry *working_set;
	size_t working_set_count;
	uint32_t chunk_count;
	struct snapshot_chunk *chunks;
	uint32_t *pages;      /**< of its own chunks, one after the other */
	uint32_t *page_chunk; /**< by page: its chunk + 1, or 0 */
	struct snapshot_reader *base;
	unsigned file_count;
	const struct snapshot_reader *files[SNAPSHOT_FILES_MAX];
};

/** reader_section() - where a section is, or NULL. */
const struct format_section *reader_section(const struct snapshot_reader *r, uint32_t kind);
/** reader_section_data() - its bytes. */
const uint8_t *reader_section_data(const struct snapshot_reader *r, const struct format_section *s);
static inline bool reader_is_diff(const struct snapshot_reader *r)
{
	return r->header.incompatible & FORMAT_INCOMPATIBLE_BASE;
}

/** file_open_parent() - the directory that the file of this name is in. @flags: O_PATH, or
 * O_RDONLY to sync it. Return: a descriptor or -errno. */
int file_open_parent(int dirfd, const char *name, int flags);

/** base_load() - check the sections BASE, ZERO_PAGES and IDENTITY of a file. Return: 0 or -errno.
 */
int base_load(struct snapshot_reader *r, struct snapshot_error *err);
/** base_name_ok() - may a base have this name: is it a plain one? */
bool base_name_ok(const char *name, size_t n);

/** writer_set_identity() - the new file is a copy of this snapshot. Before finish. */
int writer_set_identity(struct snapshot_writer *w, struct snapshot_id id);

enum { PAGE_SOURCE_CHUNKS = 32 };

/** struct page_source - pages of a snapshot in any order; the last chunks stay decoded: 2 MiB. */
struct page_source {
	const struct snapshot_reader *r;
	uint32_t cached[PAGE_SOURCE_CHUNKS]; /**< chunk + 1, or 0 */
	uint8_t cache[PAGE_SOURCE_CHUNKS][SNAPSHOT_CHUNK_BYTES];
};

/** page_source_new() - free() it. Return: NULL without memory. */
struct page_source *page_source_new(const struct snapshot_reader *r);
/** page_source_get() - the 4 KiB of a page, good until the next call. Return: 0, or as
 * snapshot_reader_read_chunk(). */
int page_source_get(struct page_source *s, uint32_t page, const uint8_t **ret_data,
		    struct snapshot_error *err);

#endif
