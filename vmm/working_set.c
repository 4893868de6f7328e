/* SPDX-License-Identifier: Apache-2.0 */
/* working_set.c - which template pages has this instance touched, and which has it written */
#include "vmm/working_set.h"

#include <errno.h>
#include <sys/mman.h>

#include "common/io.h"
#include "vmm/guest_mem.h"
#include "vmm/pagemap.h"

static uint8_t classify(uint64_t entry)
{
	if (!pagemap_in_use(entry))
		return 0;
	return pagemap_is_private(entry) ? WORKING_SET_TOUCHED | WORKING_SET_WRITTEN
					 : WORKING_SET_TOUCHED;
}

int working_set_read(const struct guest_mem *m, int pagemap_fd, uint8_t *ret_marks)
{
	uint64_t first = (uint64_t)(uintptr_t)m->ram / PAGE_BYTES;
	uint64_t entries[PAGEMAP_BATCH];

	for (uint64_t page = 0; page < m->template_pages; page += PAGEMAP_BATCH) {
		uint64_t count = MIN((uint64_t)PAGEMAP_BATCH, m->template_pages - page);
		ssize_t n = pread_full(pagemap_fd, entries, count * sizeof(entries[0]),
				       (first + page) * sizeof(entries[0]));

		if (n != (ssize_t)(count * sizeof(entries[0])))
			return n < 0 ? (int)n : -EIO;
		for (uint64_t i = 0; i < count; i++)
			ret_marks[page + i] = classify(entries[i]);
	}
	return 0;
}
