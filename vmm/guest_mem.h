/* SPDX-License-Identifier: Apache-2.0 */
/* guest_mem.h - guest-physical memory: the system slot and RAM, reached only by checked accessors
 */
#ifndef QUICKTHAW_VMM_GUEST_MEM_H
#define QUICKTHAW_VMM_GUEST_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "common/util.h"
#include "include/guest_abi.h"

/** Addresses of the guest: physical and virtual. One-field structs, so that they never mix. */
struct gpa {
	uint64_t v;
};
struct gva {
	uint64_t v;
};

/**
 * struct guest_mem - the slots as mapped into this process.
 * @ram: one reserved range; pages [0, template_pages) are a private mapping of the template memfd,
 *	the rest is anonymous and zero until touched
 * @ram_gpa: where the guest sees it
 * @system: a process guest's system slot, at GUEST_SYSTEM_GPA; a kernel guest has none
 */
struct guest_mem {
	uint8_t *ram;
	uint64_t ram_bytes;
	uint64_t ram_gpa;
	uint64_t template_pages;
	uint8_t *system;
	uint64_t system_bytes;
};

/**
 * guest_mem_init() - reserve and map both slots of a process guest (no page is touched).
 * @ram_bytes: multiple of 4 KiB
 * Return: 0 or -errno.
 */
int guest_mem_init(struct guest_mem *m, uint64_t ram_bytes);
/** guest_mem_init_kernel() - the same for a kernel guest: RAM begins at 0, and is all there is. */
int guest_mem_init_kernel(struct guest_mem *m, uint64_t ram_bytes);
void guest_mem_free(struct guest_mem *m);

/**
 * guest_mem_map_template() - put a template under the start of RAM (MAP_PRIVATE | MAP_FIXED).
 * @uffd: registered MISSING on the range, or -1 when the template is complete
 */
int guest_mem_map_template(struct guest_mem *m, int memfd, uint64_t template_pages, int uffd);

/**
 * guest_mem_flush() - make KVM forget its mappings of RAM pages [@page, @page + @count).
 * Needed after the vmm took rights away in the guest's page tables (unmapped, made read-only): pass
 * the frames that were mapped, not the page-table frames. KVM learns of it through its MMU
 * notifier, drops its shadow or nested entries of those frames and flushes the TLB; contents stay.
 * Granting rights needs no flush, and neither does a frame whose memory is given back to the host.
 * The vCPU must not be running. Costs two mprotect calls: join neighbours.
 * Return: 0 or -errno (-ENOMEM: too many mappings in this process).
 */
int guest_mem_flush(const struct guest_mem *m, uint32_t page, uint32_t count);

/** guest_mem_ptr() - host pointer to @n bytes at @at. Return: NULL unless all lie in one slot. */
static inline void *guest_mem_ptr(const struct guest_mem *m, struct gpa at, uint64_t n)
{
	uint64_t off = at.v - m->ram_gpa;

	if (at.v >= m->ram_gpa && off <= m->ram_bytes && n <= m->ram_bytes - off)
		return m->ram + off;
	if (at.v < m->system_bytes && n <= m->system_bytes - at.v)
		return m->system + at.v;
	return NULL;
}

/** guest_page_ptr() - host pointer to RAM page @page, which the caller has checked to be in RAM. */
static inline void *guest_page_ptr(const struct guest_mem *m, uint32_t page)
{
	return m->ram + (uint64_t)page * PAGE_BYTES;
}

/** guest_page_gpa() - where a process guest's RAM page is. */
static inline struct gpa guest_page_gpa(uint32_t page)
{
	return (struct gpa){GUEST_RAM_GPA + (uint64_t)page * PAGE_BYTES};
}

#endif
