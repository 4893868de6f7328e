/* SPDX-License-Identifier: Apache-2.0 */
/* pagemap.c - entries of /proc/PID/pagemap */
#include "vmm/pagemap.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "vmm/guest_mem.h"

void pagemap_open(struct pagemap *p, const struct guest_mem *mem, int fd)
{
	p->mem = mem;
	p->first = p->count = 0;
	p->owned_fd = fd < 0 ? open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) : -1;
	p->fd = fd < 0 ? p->owned_fd : fd;
}

void pagemap_close(struct pagemap *p)
{
	cleanup_fd(&p->owned_fd);
	p->fd = p->owned_fd = -1;
}

bool pagemap_entry(struct pagemap *p, uint64_t page, uint64_t *ret)
{
	uint64_t ram = (uint64_t)(uintptr_t)p->mem->ram / PAGE_BYTES;

	if (page - p->first >= p->count) {
		uint64_t count =
			MIN((uint64_t)PAGEMAP_BATCH, p->mem->ram_bytes / PAGE_BYTES - page);
		ssize_t bytes = (ssize_t)(count * sizeof(p->entries[0]));

		p->count = 0;
		if (p->fd < 0 || pread_full(p->fd, p->entries, (size_t)bytes,
					    (ram + page) * sizeof(p->entries[0])) != bytes)
			return false;
		p->first = page;
		p->count = count;
	}
	*ret = p->entries[page - p->first];
	return true;
}
