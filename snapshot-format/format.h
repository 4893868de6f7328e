/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.h - the layout of a snapshot file, version 1
 *
 *   snapshot    := header region*
 *   region      := tables | hot | cold            each starts at a multiple of 4096; no overlaps
 *   header      := 4096 bytes, struct format_header, sealed by its own XXH3-128
 *   tables      := section (pad8 section)*        in the order of the header's section table
 *   section     := bytes, sealed by the XXH3-128 in the header's section table
 *   hot         := chunk{hot_chunks}              the working set, chunks in order of first touch
 *   cold        := chunk{chunks - hot_chunks}     all other pages, in order of address
 *   chunk       := an LZ4 block | raw pages       sealed by the XXH3-64 in the chunk table
 *
 *   CHUNKS      := format_chunk{chunks}           hot ones first; offsets follow from the lengths
 *   PAGE_INDEX  := chunk_pages{chunks}
 *   chunk_pages := first run_rest (gap run_rest)* until the chunk's page_count is reached
 *   first       := varint: zigzag(first page - (last page of the chunk before + 1, or 0))
 *   gap         := varint: pages left out since the run before, at least 1
 *   run_rest    := varint: pages of the run - 1
 *   WORKING_SET := varint*: zigzag(page - (page before + 1, or 0)) << 1 | written
 *   BASE        := format_base name               of a diff
 *   ZERO_PAGES  := (gap run_rest)*                of a diff; the first gap counts from page 0
 *   IDENTITY    := format_hash128                 of a copy
 *   STATE, METADATA are bytes to this library
 *
 * Integers are little-endian. A varint is LEB128: seven bits a byte, low ones first, the top bit
 * set on all bytes but the last, no more bytes than needed. zigzag(n) is 2n for n >= 0, else -2n
 * - 1. Pages that no chunk holds are zero; in a diff they are as in its base, but for those in
 * ZERO_PAGES. docs/snapshot-format.md says the same for other programs.
 */
#ifndef QUICKTHAW_SNAPSHOT_FORMAT_H
#define QUICKTHAW_SNAPSHOT_FORMAT_H

#include <assert.h>
#include <endian.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot-format/snapshot.h"

#define FORMAT_MAGIC_BYTES    8
#define FORMAT_MAGIC	      "\x89QTS\r\n\x1a\n"
#define FORMAT_VERSION	      SNAPSHOT_FORMAT_VERSION
#define FORMAT_HEADER_BYTES   4096u
#define FORMAT_ALIGN	      4096u
#define FORMAT_SECTION_ALIGN  8u
#define FORMAT_SECTIONS_MAX   16u
#define FORMAT_TABLES_MAX     (256ull << 20)
#define FORMAT_FILE_BYTES_MAX (1ull << 36)
#define FORMAT_ARCH_X86_64    62u /* EM_X86_64 */

/** Incompatible feature bit: the file is a diff; it has a section BASE. */
#define FORMAT_INCOMPATIBLE_BASE 1ull
/** Incompatible feature bits that this version knows. Compatible ones are ignored. */
#define FORMAT_INCOMPATIBLE_KNOWN FORMAT_INCOMPATIBLE_BASE
#define FORMAT_DEPTH_MAX	  (SNAPSHOT_FILES_MAX - 1)
#define FORMAT_NAME_MAX		  255u

/** Section flag: a reader that does not know this section must refuse the file. */
#define FORMAT_SECTION_REQUIRED 1u

/** Chunk flag: stored as it is, not compressed. */
#define FORMAT_CHUNK_RAW 1u

/** struct format_hash128 - an XXH3-128, seed 0. */
struct format_hash128 {
	uint64_t low;
	uint64_t high;
} __attribute__((packed));

/** struct format_section - one entry of the section table. */
struct format_section {
	uint32_t kind;	 /**< enum snapshot_section; 0 is never used */
	uint32_t flags;	 /**< FORMAT_SECTION_* */
	uint64_t offset; /**< in the file */
	uint64_t bytes;
	struct format_hash128 hash;
} __attribute__((packed));

/** struct format_header - the first 4096 bytes. */
struct format_header {
	uint8_t magic[FORMAT_MAGIC_BYTES];
	uint32_t version;
	uint32_t header_bytes; /**< 4096 */
	uint64_t incompatible; /**< a reader refuses bits that it does not know */
	uint64_t compatible;   /**< a reader ignores bits that it does not know */
	uint64_t file_bytes;   /**< size of the whole file */
	uint64_t created_ns;   /**< CLOCK_REALTIME of the capture */
	uint64_t ram_pages;
	uint64_t template_pages;
	uint32_t architecture;
	uint32_t guest_kind;
	uint32_t page_bytes;  /**< 4096 */
	uint32_t chunk_pages; /**< most pages of one chunk: 16 */
	uint64_t cpu_features[8];
	uint64_t hot_offset;
	uint64_t hot_bytes; /**< sum of its chunks, without padding */
	uint64_t cold_offset;
	uint64_t cold_bytes;
	uint32_t chunks; /**< hot and cold */
	uint32_t hot_chunks;
	uint64_t tables_offset;
	uint64_t tables_bytes;
	uint32_t section_count;
	uint32_t reserved_zero;
	struct format_section sections[FORMAT_SECTIONS_MAX]; /**< unused ones are zero */
	uint8_t zero[3232];
	struct format_hash128 hash; /**< of all bytes before it */
} __attribute__((packed));

static_assert(sizeof(struct format_header) == FORMAT_HEADER_BYTES, "header is one block");
static_assert(offsetof(struct format_header, version) == 8, "version");
static_assert(offsetof(struct format_header, incompatible) == 16, "incompatible");
static_assert(offsetof(struct format_header, file_bytes) == 32, "file_bytes");
static_assert(offsetof(struct format_header, ram_pages) == 48, "ram_pages");
static_assert(offsetof(struct format_header, architecture) == 64, "architecture");
static_assert(offsetof(struct format_header, page_bytes) == 72, "page_bytes");
static_assert(offsetof(struct format_header, cpu_features) == 80, "cpu_features");
static_assert(offsetof(struct format_header, hot_offset) == 144, "hot_offset");
static_assert(offsetof(struct format_header, chunks) == 176, "chunks");
static_assert(offsetof(struct format_header, tables_offset) == 184, "tables_offset");
static_assert(offsetof(struct format_header, section_count) == 200, "section_count");
static_assert(offsetof(struct format_header, sections) == 208, "sections");
static_assert(offsetof(struct format_header, zero) == 848, "zero");
static_assert(offsetof(struct format_header, hash) == 4080, "hash");
static_assert(sizeof(struct format_section) == 40, "section entry");

/** struct format_chunk - one entry of the chunk table. */
struct format_chunk {
	uint64_t xxh3;	       /**< XXH3-64, seed 0, of the stored bytes */
	uint32_t stored_bytes; /**< raw: page_count * 4096; else less than that */
	uint8_t page_count;    /**< 1 to 16 */
	uint8_t flags;	       /**< FORMAT_CHUNK_* */
	uint16_t reserved_zero;
} __attribute__((packed));

static_assert(sizeof(struct format_chunk) == 16, "chunk entry");
/**
 * struct format_base - what a diff needs to be the same in its base; behind it the base's file
 * name.
 * @depth: files below this one when it was written, 1 to 7. That of a base is less, so chains end
 */
struct format_base {
	struct format_hash128 identity;
	uint64_t ram_pages;
	uint64_t template_pages; /**< of the base */
	uint32_t architecture;
	uint32_t guest_kind;
	uint32_t depth;
	uint32_t name_bytes; /**< 1 to 255; the name has no NUL behind it */
} __attribute__((packed));

static_assert(sizeof(struct format_base) == 48, "base");

static_assert(SNAPSHOT_PAGES_MAX * sizeof(struct format_chunk) <= SNAPSHOT_SECTION_BYTES_MAX,
	      "a chunk table of single pages fits a section");
static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "structs are used as they are on disk");

#endif
