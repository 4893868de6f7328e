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

/** struct snapshot_reader - all metadata of an open file. */
struct snapshot_reader {
	int fd; /**< borrowed */
	char *name;
	struct format_header header;
	struct snapshot_params params;
	uint8_t *buffer;       /**< first read, or the tables where they were not in it */
	const uint8_t *tables; /**< inside @buffer: header.tables_bytes bytes */
	struct snapshot_ws_entry *working_set;
	size_t working_set_count;
	struct snapshot_chunk *chunks;
	uint32_t *pages;      /**< of all chunks, one after the other */
	uint32_t *page_chunk; /**< by page: its chunk + 1, or 0 */
};

#endif
