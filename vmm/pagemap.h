/* SPDX-License-Identifier: Apache-2.0 */
/* pagemap.h - entries of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst) */
#ifndef QUICKTHAW_VMM_PAGEMAP_H
#define QUICKTHAW_VMM_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/util.h"

#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_FILE	(1ull << 61) /**< of a file; in a private mapping: not a copy */

enum { PAGEMAP_BATCH = 512 };

struct guest_mem;

/** struct pagemap - of this process's guest RAM; read in batches, so ask in ascending order. */
struct pagemap {
	const struct guest_mem *mem;
	int fd, owned_fd;
	uint64_t first; /**< page of @entries[0] */
	uint64_t count;
	uint64_t entries[PAGEMAP_BATCH];
};

/**
 * pagemap_open() - begin to read it.
 * @fd: /proc/PID/pagemap of this process, which stays the caller's, for in a jail there is no
 * /proc; or -1: open it. Where that fails, nothing is known of any page
 */
void pagemap_open(struct pagemap *p, const struct guest_mem *mem, int fd);
void pagemap_close(struct pagemap *p);
/** pagemap_entry() - of a page of RAM. Return: false where nothing is known. */
bool pagemap_entry(struct pagemap *p, uint64_t page, uint64_t *ret);

/** pagemap_in_use() - is it in memory, or in swap? */
static inline bool pagemap_in_use(uint64_t entry)
{
	return entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED);
}

/** pagemap_is_private() - does it have contents of its own, not those of a mapped file? */
static inline bool pagemap_is_private(uint64_t entry)
{
	return pagemap_in_use(entry) && !(entry & PAGEMAP_FILE);
}

#endif
