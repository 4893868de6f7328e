/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.h - the only public header of the snapshot file format
 *
 * One file holds one snapshot: a header, checksummed sections (machine state, metadata, working
 * set), a page index, and chunks of up to 64 KiB of guest memory, compressed and checksummed one by
 * one. docs/snapshot-format.md is the specification; format.h is the layout in C.
 *
 * "Page" is a 4 KiB page of the guest's RAM, numbered from 0. All functions return 0 or -errno
 * unless they say otherwise; when a file is at fault they return -EBADMSG (damaged), -ENOTSUP (too
 * new, other architecture or unknown incompatible feature) or -EINVAL (not a snapshot) and fill a
 * struct snapshot_error that names file, section and offset.
 */
#ifndef QUICKTHAW_SNAPSHOT_H
#define QUICKTHAW_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SNAPSHOT_CHUNK_PAGES 16u
#define SNAPSHOT_CHUNK_BYTES (SNAPSHOT_CHUNK_PAGES * 4096u)
/** Limits that a reader enforces before it allocates anything. */
#define SNAPSHOT_PAGES_MAX	   (16ull << 18) /* 16 GiB of guest memory */
#define SNAPSHOT_SECTION_BYTES_MAX (64u << 20)

/** struct snapshot_error - what is wrong with a file, ready to print. */
struct snapshot_error {
	char text[256]; /**< "file: section at offset N: what is wrong" */
};

/** Sections that a writer supplies and a reader returns; numbers are on disk and never reused. */
enum snapshot_section {
	SNAPSHOT_SECTION_STATE = 1, /**< device states: records of the vmm's device table */
	SNAPSHOT_SECTION_METADATA =
		2, /**< JSON for people and tools: function, runtime, host, times */
	SNAPSHOT_SECTION_WORKING_SET = 3, /**< pages by first touch; see struct snapshot_ws_entry */
	SNAPSHOT_SECTION_CHUNKS = 4,	  /**< chunk table (written by the library) */
	SNAPSHOT_SECTION_PAGE_INDEX = 5,  /**< page index (written by the library) */
};

/** Flags of a working set entry. */
#define SNAPSHOT_WS_WRITTEN 1u

/** struct snapshot_ws_entry - one page of the working set, in order of first touch. */
struct snapshot_ws_entry {
	uint32_t page;
	uint32_t flags; /**< SNAPSHOT_WS_* */
};

/** struct snapshot_params - what the header says about the machine. */
struct snapshot_params {
	uint64_t ram_pages;	  /**< size of guest RAM */
	uint64_t template_pages;  /**< pages from here on were never touched: not in the file */
	uint64_t cpu_features[8]; /**< required CPU features; meaning in include/guest_abi.h */
	uint32_t guest_kind;	  /**< 1 process, 2 kernel */
	uint64_t created_ns;	  /**< CLOCK_REALTIME of the capture */
};

/** The version of the format that is written. */
#define SNAPSHOT_FORMAT_VERSION 1u

/* ---- writing ------------------------------------------------------------------------------- */

struct snapshot_writer;

/**
 * snapshot_writer_new() - start a snapshot.
 * @fd: an empty regular file, opened for writing; stays the caller's
 * Sections and pages may then be added in any order; nothing is valid before
 * snapshot_writer_finish() returns 0.
 */
int snapshot_writer_new(int fd, const struct snapshot_params *params,
			struct snapshot_writer **ret_writer);

/** snapshot_writer_section() - add STATE, METADATA or WORKING_SET; @data is copied. Once each. */
int snapshot_writer_section(struct snapshot_writer *w, enum snapshot_section kind, const void *data,
			    size_t n);

/**
 * snapshot_writer_chunk() - add up to SNAPSHOT_CHUNK_PAGES pages as one chunk.
 * @pages: their page numbers, no page twice in a file; @count of them
 * @data: @count pages, each 4 KiB, in the same order
 * @hot: true puts the chunk into the hot region; all hot chunks come before the first cold one
 * Zero pages may be given and are dropped. Compresses (LZ4HC; raw where that is not smaller).
 * Return: 0, -EINVAL (order, duplicate or range), or what write returned (-ENOSPC, ...).
 */
int snapshot_writer_chunk(struct snapshot_writer *w, const uint32_t *pages, unsigned count,
			  const void *data, bool hot);

/** snapshot_writer_finish() - write tables and header, then fdatasync. */
int snapshot_writer_finish(struct snapshot_writer *w);

/** snapshot_writer_stored_bytes() - bytes of chunk data so far, for progress. */
uint64_t snapshot_writer_stored_bytes(const struct snapshot_writer *w);

/** snapshot_writer_free() - legal on NULL and at any time. */
void snapshot_writer_free(struct snapshot_writer *w);

/**
 * snapshot_file_install() - give a finished temporary file its name: fsync, rename, fsync of the
 * directory.
 * @dirfd: directory of both names
 * On error the old @name is untouched and @tmp_name is removed.
 */
int snapshot_file_install(int dirfd, int fd, const char *tmp_name, const char *name);

/* ---- reading ------------------------------------------------------------------------------- */

struct snapshot_reader;

/** Where a chunk lies in the file, and how to check it. */
struct snapshot_chunk {
	uint64_t offset;       /**< in the file, in bytes */
	uint32_t stored_bytes; /**< as stored */
	uint8_t page_count;    /**< 1 to SNAPSHOT_CHUNK_PAGES */
	bool raw;	       /**< stored uncompressed */
	bool hot;
	uint64_t xxh3;	       /**< XXH3-64 of the stored bytes */
	const uint32_t *pages; /**< its page numbers, ascending; owned by the reader */
};

/**
 * snapshot_reader_open() - check and load all metadata; chunk data is not touched.
 * @fd: stays the caller's and must stay open while the reader lives
 * @name: how to name the file in errors
 * Reads header, tables and sections with few large reads, verifies every checksum and every
 * cross reference: after 0, chunk offsets lie inside the file, page numbers inside
 * template_pages, and no page is in two chunks.
 */
int snapshot_reader_open(int fd, const char *name, struct snapshot_reader **ret_reader,
			 struct snapshot_error *err);
void snapshot_reader_free(struct snapshot_reader *r);

const struct snapshot_params *snapshot_reader_params(const struct snapshot_reader *r);
/** snapshot_reader_section() - NULL when the file has none; owned by the reader. */
const void *snapshot_reader_section(const struct snapshot_reader *r, enum snapshot_section kind,
				    size_t *ret_n);
/** snapshot_reader_working_set() - entries in order of first touch; owned by the reader. */
const struct snapshot_ws_entry *snapshot_reader_working_set(const struct snapshot_reader *r,
							    size_t *ret_count);
uint32_t snapshot_reader_chunk_count(const struct snapshot_reader *r);
const struct snapshot_chunk *snapshot_reader_chunk(const struct snapshot_reader *r, uint32_t chunk);
/** snapshot_reader_hot_extent() - byte range of the file that holds all hot chunks; 0 bytes if
 * none. */
void snapshot_reader_hot_extent(const struct snapshot_reader *r, uint64_t *ret_offset,
				uint64_t *ret_bytes, uint32_t *ret_first_chunk,
				uint32_t *ret_chunk_count);

#define SNAPSHOT_PAGE_ZERO UINT32_MAX
/** snapshot_reader_page_chunk() - the chunk that holds @page, or SNAPSHOT_PAGE_ZERO. O(1). */
uint32_t snapshot_reader_page_chunk(const struct snapshot_reader *r, uint32_t page);

/**
 * snapshot_chunk_decode() - verify and decompress one chunk that the caller has read.
 * @stored: chunk->stored_bytes bytes as they are in the file
 * @out: SNAPSHOT_CHUNK_BYTES of room; receives page_count pages in the order of chunk->pages
 * Never allocates, never blocks. Return: 0 or -EBADMSG with @err filled.
 */
int snapshot_chunk_decode(const struct snapshot_reader *r, uint32_t chunk, const void *stored,
			  void *out, struct snapshot_error *err);

/** snapshot_reader_read_chunk() - pread, verify, decode: for tools and tests, not for the fault
 * path. */
int snapshot_reader_read_chunk(const struct snapshot_reader *r, uint32_t chunk, void *out,
			       struct snapshot_error *err);

/* ---- rewriting ------------------------------------------------------------------------------ */

/**
 * snapshot_rewrite() - copy a snapshot with another working set: the pages of @ws become the hot
 * chunks (chunk by chunk in first-touch order, 16 pages each, sorted by page inside a chunk), all
 * others the cold ones in address order.
 * @out_fd: as for snapshot_writer_new(). Blocks; for a worker, never for an event loop.
 */
int snapshot_rewrite(const struct snapshot_reader *r, const struct snapshot_ws_entry *ws,
		     size_t ws_count, int out_fd, struct snapshot_error *err);

#endif
