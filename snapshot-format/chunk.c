/* SPDX-License-Identifier: Apache-2.0 */
/* chunk.c - verify and decompress one chunk */
#include <lz4.h>
#include <xxhash.h>

#include "common/io.h"
#include "snapshot-format/internal.h"

/** The number that a chunk has in its own file. */
static uint32_t chunk_number(const struct snapshot_reader *r, uint32_t chunk)
{
	unsigned file = r->chunks[chunk].file;

	for (unsigned i = 0; i < file; i++)
		chunk -= r->files[i]->header.chunks;
	return chunk;
}

int snapshot_chunk_decode(const struct snapshot_reader *r, uint32_t chunk, const void *stored,
			  void *out, struct snapshot_error *err)
{
	const struct snapshot_chunk *c = snapshot_reader_chunk(r, chunk);
	const char *name;
	int bytes, n;

	if (!c)
		return format_fail(err, r->name, "chunk table", 0, -EBADMSG, "no chunk %u", chunk);
	name = r->files[c->file]->name;
	if (XXH3_64bits(stored, c->stored_bytes) != c->xxh3)
		return format_fail(err, name, "chunk", c->offset, -EBADMSG,
				   "chunk %u: checksum does not match: the file is damaged, "
				   "publish again",
				   chunk_number(r, chunk));
	bytes = (int)(c->page_count * PAGE_BYTES);
	if (c->raw) {
		memcpy(out, stored, (size_t)bytes);
		return 0;
	}
	n = LZ4_decompress_safe(stored, out, (int)c->stored_bytes, bytes);
	if (n != bytes)
		return format_fail(err, name, "chunk", c->offset, -EBADMSG,
				   "chunk %u: does not decompress to %u pages",
				   chunk_number(r, chunk), c->page_count);
	return 0;
}

int snapshot_reader_read_chunk(const struct snapshot_reader *r, uint32_t chunk, void *out,
			       struct snapshot_error *err)
{
	/* Whole aligned blocks around the chunk, so that an O_DIRECT descriptor will do. */
	uint8_t block[SNAPSHOT_CHUNK_BYTES + 2 * FORMAT_ALIGN]
		__attribute__((aligned(FORMAT_ALIGN)));
	const struct snapshot_chunk *c = snapshot_reader_chunk(r, chunk);
	const struct snapshot_reader *file;
	uint64_t start, skip, length;
	ssize_t n;

	if (!c)
		return format_fail(err, r->name, "chunk table", 0, -EINVAL, "no chunk %u", chunk);
	file = r->files[c->file];
	start = align_down(c->offset, FORMAT_ALIGN);
	skip = c->offset - start;
	length = align_up(skip + c->stored_bytes, FORMAT_ALIGN);
	n = pread_full(file->fd, block, length, start);
	if (n < 0)
		return format_fail(err, file->name, "chunk", c->offset, (int)n, "read: %s",
				   strerror((int)-n));
	if ((uint64_t)n < skip + c->stored_bytes)
		return format_fail(err, file->name, "chunk", c->offset, -EBADMSG,
				   "chunk %u: the file was cut short", chunk_number(r, chunk));
	return snapshot_chunk_decode(r, chunk, block + skip, out, err);
}
