/* SPDX-License-Identifier: Apache-2.0 */
/* guest_mem.c - reserve, map and flush the memory behind both slots */
#include "vmm/guest_mem.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/log.h"

static void *map_anonymous(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int init(struct guest_mem *m, uint64_t ram_gpa, uint64_t ram_bytes, uint64_t system_bytes)
{
	memset(m, 0, sizeof(*m));
	if (!ram_bytes || ram_bytes % PAGE_BYTES || ram_bytes / PAGE_BYTES > UINT32_MAX)
		return -EINVAL;
	m->ram_gpa = ram_gpa;
	m->system_bytes = system_bytes;
	m->system = system_bytes ? map_anonymous(system_bytes) : NULL;
	m->ram = m->system || !system_bytes ? map_anonymous(ram_bytes) : NULL;
	if (!m->ram) {
		int err = -errno;

		log_error("cannot reserve %llu MiB of address space for guest memory: %s",
			  (unsigned long long)(ram_bytes >> 20), strerror(-err));
		guest_mem_free(m);
		return err;
	}
	m->ram_bytes = ram_bytes;
	/* Huge pages would make every instance pay for 2 MiB where it touches 4 KiB. Guest memory
	 * is no part of a core dump: it is large and the guest's. Neither can fail in a way that
	 * matters. */
	madvise(m->ram, ram_bytes, MADV_NOHUGEPAGE);
	madvise(m->ram, ram_bytes, MADV_DONTDUMP);
	return 0;
}

int guest_mem_init(struct guest_mem *m, uint64_t ram_bytes)
{
	return init(m, GUEST_RAM_GPA, ram_bytes, GUEST_SYSTEM_BYTES);
}

int guest_mem_init_kernel(struct guest_mem *m, uint64_t ram_bytes)
{
	return init(m, 0, ram_bytes, 0);
}

void guest_mem_free(struct guest_mem *m)
{
	if (m->ram)
		munmap(m->ram, m->ram_bytes);
	if (m->system)
		munmap(m->system, m->system_bytes);
	memset(m, 0, sizeof(*m));
}

int guest_mem_map_template(struct guest_mem *m, int memfd, uint64_t template_pages, int uffd)
{
	uint64_t bytes;
	struct stat st;
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};

	if (!checked_mul(template_pages, (uint64_t)PAGE_BYTES, &bytes) || bytes > m->ram_bytes)
		return -EINVAL;
	/* Pages behind the end of the file would be bus errors. */
	if (bytes && (fstat(memfd, &st) < 0 || bytes > (uint64_t)st.st_size))
		return -EBADMSG;
	m->template_pages = template_pages;
	if (!bytes)
		return 0;
	if (mmap(m->ram, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
		 memfd, 0) == MAP_FAILED)
		return -errno;
	madvise(m->ram, bytes, MADV_NOHUGEPAGE);
	madvise(m->ram, bytes, MADV_DONTDUMP);
	if (uffd < 0)
		return 0;
	reg.range.start = (uint64_t)(uintptr_t)m->ram;
	reg.range.len = bytes;
	return ioctl(uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

int guest_mem_flush(const struct guest_mem *m, uint32_t page, uint32_t count)
{
	uint8_t *at = guest_page_ptr(m, page);
	uint64_t bytes = (uint64_t)count * PAGE_BYTES;

	if (page + (uint64_t)count > m->ram_bytes / PAGE_BYTES)
		return -EINVAL;
	if (!count)
		return 0;
	if (mprotect(at, bytes, PROT_READ) || mprotect(at, bytes, PROT_READ | PROT_WRITE))
		return -errno;
	return 0;
}
