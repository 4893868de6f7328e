/* SPDX-License-Identifier: Apache-2.0 */
/* template.h - the memory of one snapshot on this host: a memfd that page_in fills */
#ifndef QUICKTHAW_SNAPD_TEMPLATE_H
#define QUICKTHAW_SNAPD_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/util.h"
#include "snapshot-format/snapshot.h"

/** A chunk that is not being read; else entries of template.chunk_read are a read's number. */
#define TEMPLATE_NO_READ UINT8_MAX

/**
 * struct template_file - the file behind a template, or of a diff the chain of files: goes away as
 * one, when it is replaced.
 * @serial: no two have the same in the life of this process
 * @load_order: chunks that have pages of the snapshot, in the order in which they are worth having:
 *	hot ones, then those of bases that the working set is in, too (@working_set_chunks so far),
 *	then all others in file order
 */
struct template_file {
	uint64_t serial;
	int fd;				   /**< through the page cache; the reader's */
	int direct_fd[SNAPSHOT_FILES_MAX]; /**< by file: past the page cache, or -1 where the file
					      system cannot */
	struct snapshot_reader *reader;
	uint8_t *chunk_read; /**< by chunk: the read in flight which covers it */
	uint32_t *load_order;
	uint32_t load_count, working_set_chunks;
	int state_fd; /**< memfd: STATE section, then populate runs (RESTORE) */
	uint64_t state_bytes;
	uint32_t populate_count;
	bool knows_written; /**< the working set says of some pages that they are written */
};

/**
 * struct template - memory and file of one version's snapshot.
 * @function, @number: the version whose snapshot it is of, as far as they are known
 * @current: new instances of the version start from it
 * @serial: no two have the same, over all snapds that hand over to each other
 * @memfd: the pages; @view_fd: the same, read-only: what instances get
 * @refs: the version's, one per instance and one per read in flight; the loop's thread counts
 * @resident: one bit a page: the memfd has its contents. It lives in a memfd, @resident_fd: whoever
 *	gets the template gets what is known of it
 * @prefetch_first, @prefetch_end: part of the file's load order; @prefetch_next: the first of it
 *	which is still to be asked for
 * @prefetch_zero: entries of the working set before it are there, if they are zeros
 * @prefetch_client: the instance that set the prefetch off, for its account
 * @age_link, @listed, @used_ns: in the list of all templates, the least recently used one first
 * @evict_zero, @evict_chunk: where eviction goes on: pages before the first, and chunks of the load
 *	order from the second on, have been looked at
 * @recording: write down in which order pages are asked for; bring in nothing else
 * @order: pages as they were asked for, while recording
 */
struct template
{
	char name[160];
	char function[65];
	uint32_t number;
	bool current;
	bool stored; /**< handover.c's */
	bool shared; /**< another snapd fills it, too: it must not be evicted (takeover.c) */
	uint64_t serial;
	unsigned refs;
	int memfd, view_fd, resident_fd;
	uint64_t pages;
	uint64_t *resident;
	uint64_t resident_pages;
	bool working_set_resident;
	struct template_file *file;
	struct template_file *next_file; /**< to take over when no read is in flight */
	unsigned reads;			 /**< in flight */
	uint32_t prefetch_first, prefetch_next, prefetch_end;
	size_t prefetch_zero;
	uint32_t prefetch_client;
	TAILQ_ENTRY(template) age_link;
	bool listed;
	uint64_t used_ns;
	uint32_t evict_zero, evict_chunk;
	bool recording;
	uint32_t *order;
	uint32_t order_count;
	uint64_t bytes_read;
	uint64_t chunks_decoded;
};

/**
 * template_file_open() - open and check a snapshot, prepare what a restore hands over. Blocks.
 * @dirfd, @path: the file; @name: how errors name it
 * @drop_cache: throw the file out of the page cache first (a cold start, on demand)
 * Return: 0 or -errno with @err filled.
 */
int template_file_open(int dirfd, const char *path, const char *name, bool drop_cache,
		       struct template_file **ret_file, struct snapshot_error *err);
void template_file_free(struct template_file *file);

/**
 * template_new() - an empty template for a snapshot. Blocks.
 * @file: becomes the template's
 * @ret: with one reference
 */
int template_new(const char *name, struct template_file *file, struct template **ret);

/**
 * template_revive() - a template of which a snapd before this one has filled a part. Blocks.
 * @memfd, @resident_fd: as it left them; become the template's, also on error
 * @serial: as it was
 * Return: 0, -EBADMSG when they do not fit the snapshot, or -errno; @file is the template's.
 */
int template_revive(const char *name, struct template_file *file, int memfd, int resident_fd,
		    uint64_t serial, struct template **ret);

/**
 * struct template_hooks - for whoever has to know of all templates.
 * @changed: whose it is (template_is_of()), its file, or whether it records
 * @gone: nobody uses it any more; it is about to be freed
 */
struct template_hooks {
	void (*changed)(struct template *t);
	void (*gone)(struct template *t);
};
/** template_set_hooks() - NULL: none. */
void template_set_hooks(const struct template_hooks *hooks);
/** template_is_of() - it is the template of this version now, whose reference the caller's is. */
void template_is_of(struct template *t, const char *function, uint32_t number);
/** template_retire() - and no longer: drops that reference. NULL is legal. */
void template_retire(struct template *t);

struct template *template_get(struct template *t);
/** template_put() - NULL is legal. The last reference frees it. */
void template_put(struct template *t);

static inline bool template_has_page(const struct template *t, uint64_t page)
{
	return t->resident[page / 64] >> (page % 64) & 1;
}

/**
 * template_fill() - give pages their contents. The kernel shows a page to instances whole or not at
 * all. Return: 0 or -errno.
 */
int template_fill(struct template *t, uint32_t page, uint32_t count, const void *data);
/** template_fill_zero() - the same for pages of zeros; @count at most SNAPSHOT_CHUNK_PAGES. */
int template_fill_zero(struct template *t, uint32_t page, uint32_t count);

/** template_used() - it serves an instance now: the last to be evicted. To be called from the
 * loop's thread, and once at the beginning. */
void template_used(struct template *t, uint64_t now_ns);
/** template_oldest() - the least recently used one; template_next_oldest() - the one after @t. */
struct template *template_oldest(void);
struct template *template_next_oldest(struct template *t);
/** template_all_bytes() - resident pages of all templates. */
uint64_t template_all_bytes(void);

/**
 * template_evict() - give back at most @chunks chunks of a template's memory. First pages of zeros,
 * for nothing has to be read to have them again; then chunks from the end of the load order to its
 * beginning, so that the working set goes last, and of that what is touched first goes last.
 * Not while it records, or a read of it is in flight. See template.c for what makes it safe.
 * Return: pages given back; 0 when there are none; or -errno.
 */
int template_evict(struct template *t, unsigned chunks);

/** template_populate_count() - runs a new instance may populate: all or, until their pages are
 * resident, none. */
uint32_t template_populate_count(struct template *t);

/** template_has_working_set() - does the file say which pages come first? */
bool template_has_working_set(const struct template *t);

/** template_record() - start or end recording. Return: 0 or -ENOMEM. */
int template_record(struct template *t, bool on);

/**
 * template_replace_file() - the same memory in a new order: take over @file as soon as no read of
 * the old one is in flight. The file becomes the template's.
 */
void template_replace_file(struct template *t, struct template_file *file);
/** template_settle() - called when a read has ended: do what had to wait for it. */
void template_settle(struct template *t);

#endif
