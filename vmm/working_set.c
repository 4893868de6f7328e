/* SPDX-License-Identifier: Apache-2.0 */
/* working_set.c - which template pages has this instance touched, and which has it written */
#include "vmm/working_set.h"

#include <errno.h>
#include <sys/mman.h>

#include "common/io.h"
#include "vmm/guest_mem.h"

#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_FILE	(1ull << 61)

enum { BATCH_PAGES = 512 };

static uint8_t classify(uint64_t entry)
{
	if (!(entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)))
		return 0;
	return entry & PAGEMAP_FILE ? WORKING_SET_TOUCHED
				    : WORKING_SET_TOUCHED | WORKING_SET_WRITTEN;
}

int working_set_read(const struct guest_mem *m, int pagemap_fd, uint8_t *ret_marks)
{
	uint64_t first = (uint64_t)(uintptr_t)m->ram / PAGE_BYTES;
	uint64_t entries[BATCH_PAGES];

	for (uint64_t page = 0; page < m->template_pages; page += BATCH_PAGES) {
		uint64_t count = MIN((uint64_t)BATCH_PAGES, m->template_pages - page);
		ssize_t n = pread_full(pagemap_fd, entries, count * sizeof(entries[0]),
				       (first + page) * sizeof(entries[0]));

		if (n != (ssize_t)(count * sizeof(entries[0])))
			return n < 0 ? (int)n : -EIO;
		for (uint64_t i = 0; i < count; i++)
			ret_marks[page + i] = classify(entries[i]);
	}
	return 0;
}
