/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.h - the only public header of the snapshot file format
 *
 * One file holds one snapshot: a header, checksummed sections (machine state, metadata, working
 * set), a page index, and chunks of up to 64 KiB of guest memory, compressed and checksummed one by
 * one. docs/snapshot-format.md is the specification; format.h is the layout in C.
 *
 * A file may be a diff: it holds what differs from its base, a snapshot file in the same directory,
 * which may be a diff itself. A reader opens all files of such a chain and makes one index of them:
 * chunks of the file itself come first, then those of its base, and so on.
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
/** Files that make one snapshot: a diff, its base, the base of that, ... */
#define SNAPSHOT_FILES_MAX 8u

/** struct snapshot_error - what is wrong with a file, ready to print. */
struct snapshot_error {
	char text[512]; /**< "file: section at offset N: what is wrong" */
};

/** Sections that a writer supplies and a reader returns; numbers are on disk and never reused. */
enum snapshot_section {
	SNAPSHOT_SECTION_STATE = 1, /**< device states: records of the vmm's device table */
	SNAPSHOT_SECTION_METADATA =
		2, /**< JSON for people and tools: function, runtime, host, times */
	SNAPSHOT_SECTION_WORKING_SET = 3, /**< pages by first touch; see struct snapshot_ws_entry */
	SNAPSHOT_SECTION_CHUNKS = 4,	  /**< chunk table (written by the library) */
	SNAPSHOT_SECTION_PAGE_INDEX = 5,  /**< page index (written by the library) */
	SNAPSHOT_SECTION_BASE = 6,	  /**< which file a diff is based on (by the library) */
	SNAPSHOT_SECTION_ZERO_PAGES = 7,  /**< of a diff: zero, unlike in the base (likewise) */
	SNAPSHOT_SECTION_IDENTITY = 8,	  /**< the identity of what it is a copy of (likewise) */
};

/** Flags of a working set entry. */
#define SNAPSHOT_WS_WRITTEN 1u

/** struct snapshot_ws_entry - one page of the working set, in order of first touch. */
struct snapshot_ws_entry {
	uint32_t page;
	uint32_t flags; /**< SNAPSHOT_WS_* */
};

/**
 * struct snapshot_id - which snapshot it is, whatever the order of its chunks and however many
 * files it takes: a copy that snapshot_rewrite() or snapshot_flatten() makes has the same.
 */
struct snapshot_id {
	uint64_t low, high;
};

static inline bool snapshot_id_equal(struct snapshot_id a, struct snapshot_id b)
{
	return a.low == b.low && a.high == b.high;
}

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

struct snapshot_reader;

/**
 * snapshot_writer_base() - make it a diff: pages as in @base are left out. Before any page.
 * @base: must live until the writer is freed; of the same kind of guest
 * @name: of the base's file, which is in the directory that the new file will be in
 * A page is as in the base only after snapshot_writer_same() said so: whatever was given to neither
 * that nor snapshot_writer_chunk() is zero, as in any snapshot.
 * Return: 0, -EINVAL (order, @name has a slash or is empty, another kind), -EMLINK (the base has
 * as many files as a snapshot may have: flatten it first) or -ENOMEM.
 */
int snapshot_writer_base(struct snapshot_writer *w, const struct snapshot_reader *base,
			 const char *name);

/**
 * snapshot_writer_same() - of a diff: is @page as in the base? Then it is done with.
 * @data: its 4 KiB, to be compared with the base's; NULL: the caller knows
 * Return: 1 for yes, 0 for no, -EINVAL (no base, range, given before), -EBADMSG or an error of
 * read.
 */
int snapshot_writer_same(struct snapshot_writer *w, uint32_t page, const void *data);

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
/**
 * snapshot_file_make() - a file under its name, whole or not at all: a temporary one beside it is
 * filled and installed.
 * @fill: writes into the empty file @fd, which stays the caller's. Return: 0 or -errno
 * Return: 0, or -errno: nothing of it is left, and @path is untouched.
 */
int snapshot_file_make(const char *path, int (*fill)(void *arg, int fd), void *arg);

/* ---- reading ------------------------------------------------------------------------------- */

/**
 * struct snapshot_chunk - where a chunk lies in its file, and how to check it.
 * @live: bit i: the snapshot has @pages[i] from here. Of others the chunk has older contents: a
 *	file further up the chain has newer ones, or says that they are zero
 */
struct snapshot_chunk {
	uint64_t offset;       /**< in its file, in bytes */
	uint32_t stored_bytes; /**< as stored */
	uint8_t page_count;    /**< 1 to SNAPSHOT_CHUNK_PAGES */
	uint8_t file;	       /**< of the chain: 0 is the file itself, 1 its base, ... */
	bool raw;	       /**< stored uncompressed */
	bool hot;	       /**< in its file */
	uint16_t live;
	uint64_t xxh3;	       /**< XXH3-64 of the stored bytes */
	const uint32_t *pages; /**< its page numbers, ascending; owned by the reader */
};

static inline bool snapshot_chunk_has(const struct snapshot_chunk *c, unsigned i)
{
	return c->live >> i & 1;
}

/**
 * snapshot_reader_open() - check and load all metadata; chunk data is not touched.
 * @dirfd, @path: the file; bases are opened in the directory that @path is in
 * @name: how to name the file in errors
 * Reads header, tables and sections with few large reads, verifies every checksum and every
 * cross reference: after 0, chunk offsets lie inside their files, @live page numbers inside
 * template_pages, and every page is live in one chunk at most. Every base is the snapshot that the
 * diff was made on, else -ESTALE.
 */
int snapshot_reader_open(int dirfd, const char *path, const char *name,
			 struct snapshot_reader **ret_reader, struct snapshot_error *err);
/**
 * snapshot_reader_open_alone() - the same for one file, whatever it is based on: for its sections.
 * Of a diff, pages are SNAPSHOT_PAGE_ZERO where they are not its own.
 * @fd: stays the caller's and must stay open while the reader lives
 */
int snapshot_reader_open_alone(int fd, const char *name, struct snapshot_reader **ret_reader,
			       struct snapshot_error *err);
void snapshot_reader_free(struct snapshot_reader *r);

/** snapshot_reader_file_count() - files of the chain; 1 for what is no diff. */
unsigned snapshot_reader_file_count(const struct snapshot_reader *r);
/** snapshot_reader_file() - one of them, with all that is below it; 0 is @r. Owned by @r. */
const struct snapshot_reader *snapshot_reader_file(const struct snapshot_reader *r, unsigned file);
/** snapshot_reader_is_of() - is the file at @path one of the chain's? */
bool snapshot_reader_is_of(const struct snapshot_reader *r, const char *path);
/** snapshot_reader_may_be_base() - else it is of as many files as can be: flatten it first. */
bool snapshot_reader_may_be_base(const struct snapshot_reader *r);
/** snapshot_reader_fd() - of the file; the reader's. */
int snapshot_reader_fd(const struct snapshot_reader *r);
const char *snapshot_reader_name(const struct snapshot_reader *r);
struct snapshot_id snapshot_reader_id(const struct snapshot_reader *r);

const struct snapshot_params *snapshot_reader_params(const struct snapshot_reader *r);
/** snapshot_reader_section() - NULL when the file has none; owned by the reader. */
const void *snapshot_reader_section(const struct snapshot_reader *r, enum snapshot_section kind,
				    size_t *ret_n);
/** snapshot_reader_working_set() - entries in order of first touch; owned by the reader. */
const struct snapshot_ws_entry *snapshot_reader_working_set(const struct snapshot_reader *r,
							    size_t *ret_count);
/** snapshot_reader_chunk_count() - of all files. */
uint32_t snapshot_reader_chunk_count(const struct snapshot_reader *r);
const struct snapshot_chunk *snapshot_reader_chunk(const struct snapshot_reader *r, uint32_t chunk);
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
 * others the cold ones in address order. A diff stays one: pages of its bases stay where they are.
 * @out_fd: as for snapshot_writer_new(). Blocks; for a worker, never for an event loop.
 */
int snapshot_rewrite(const struct snapshot_reader *r, const struct snapshot_ws_entry *ws,
		     size_t ws_count, int out_fd, struct snapshot_error *err);

/**
 * snapshot_flatten() - copy a chain into one file without a base; working set and all else stay.
 * @out_fd: as for snapshot_writer_new(). Blocks.
 * @progress: called now and then with pages done and pages to do; or NULL
 */
int snapshot_flatten(const struct snapshot_reader *r, int out_fd,
		     void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
		     struct snapshot_error *err);

#endif
