/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user_mem.c - the vmm reads and writes the program's memory
 *
 * Every pointer in a system call is translated by the guest's page tables; what is absent or lacks
 * rights goes through the same fault path as a touch by the program. The vCPU never runs
 * meanwhile, so what was checked stays true until the call returns. The leaf-table cache of
 * pt_find() makes the common case one comparison and one load.
 */
#include <errno.h>
#include <string.h>

#include "common/util.h"
#include "vmm/process/mm_internal.h"

/** Set in keys, so that no key is the address of an object in the vmm. */
#define KEY_FUTEX  (1ull << 63)
#define KEY_SHARED (1ull << 62)

/** Host pointer to what @pte maps if that may be read (or written), else NULL. */
static uint8_t *pte_access(const struct proc *p, uint64_t *pte, bool write)
{
	uint64_t need = PTE_PRESENT | PTE_USER | (write ? PTE_WRITABLE : 0);
	uint32_t page;

	if (!pte || (*pte & need) != need || !pte_page(&p->mm->frames, *pte, &page))
		return NULL;
	*pte |= PTE_ACCESSED;
	return guest_page_ptr(&p->vm->mem, page);
}

/**
 * Host pointer to the byte at @va; valid to the end of its page.
 * @reclaim: as for fault_in()
 */
static uint8_t *user_ptr(struct proc *p, uint64_t va, bool write, bool reclaim)
{
	uint8_t *page = pte_access(p, pt_find(p, va), write);

	if (!page) {
		int ret = fault_in(p, va, write ? FAULT_WRITE : FAULT_READ, reclaim);

		if (ret == -ENOMEM && reclaim)
			proc_finish(p, PROC_OUT_OF_MEMORY, 0,
				    "out of memory: a system call needs a page and the limit of "
				    "%llu MiB is reached",
				    (unsigned long long)(p->memory_bytes >> 20));
		if (ret)
			return NULL;
		page = pte_access(p, pt_find(p, va), write);
	}
	return page ? page + va % PAGE_BYTES : NULL;
}

static bool range_is_user(uint64_t addr, size_t n)
{
	return addr < GUEST_USER_GVA_MAX && n <= GUEST_USER_GVA_MAX - addr;
}

int mm_copy_in(struct proc *p, void *dst, uint64_t src, size_t n)
{
	uint8_t *to = dst;

	if (n && !range_is_user(src, n))
		return -EFAULT;
	while (n > 0) {
		size_t part = MIN(n, (size_t)(PAGE_BYTES - src % PAGE_BYTES));
		const uint8_t *from = user_ptr(p, src, false, true);

		if (!from)
			return -EFAULT;
		memcpy(to, from, part);
		to += part;
		src += part;
		n -= part;
	}
	return 0;
}

int mm_copy_out(struct proc *p, uint64_t dst, const void *src, size_t n)
{
	const uint8_t *from = src;

	if (n && !range_is_user(dst, n))
		return -EFAULT;
	while (n > 0) {
		size_t part = MIN(n, (size_t)(PAGE_BYTES - dst % PAGE_BYTES));
		uint8_t *to = user_ptr(p, dst, true, true);

		if (!to)
			return -EFAULT;
		memcpy(to, from, part);
		from += part;
		dst += part;
		n -= part;
	}
	return 0;
}

int mm_copy_in_str(struct proc *p, char *dst, uint64_t src, size_t size)
{
	size_t used = 0;

	while (used < size) {
		size_t part = MIN(size - used, (size_t)(PAGE_BYTES - src % PAGE_BYTES));
		const uint8_t *from = range_is_user(src, 1) ? user_ptr(p, src, false, true) : NULL;
		const uint8_t *end;

		if (!from)
			return -EFAULT;
		end = memchr(from, 0, part);
		if (end) {
			memcpy(dst + used, from, (size_t)(end - from) + 1);
			return (int)(used + (size_t)(end - from));
		}
		memcpy(dst + used, from, part);
		used += part;
		src += part;
	}
	return -ENAMETOOLONG;
}

ssize_t mm_user_iov(struct proc *p, uint64_t addr, size_t n, bool write, struct iovec *iov, int max,
		    int *ret_count)
{
	size_t done = 0;
	int count = 0;

	*ret_count = 0;
	if (n && addr >= GUEST_USER_GVA_MAX)
		return -EFAULT;
	n = MIN(n, (size_t)(GUEST_USER_GVA_MAX - addr));
	while (done < n) {
		size_t part = MIN(n - done, (size_t)(PAGE_BYTES - addr % PAGE_BYTES));
		/* From the second page on there are pointers to lose. */
		uint8_t *at = user_ptr(p, addr, write, done == 0);

		if (!at)
			break;
		if (count > 0 &&
		    (uint8_t *)iov[count - 1].iov_base + iov[count - 1].iov_len == at) {
			iov[count - 1].iov_len += part;
		} else {
			if (count == max)
				break;
			iov[count].iov_base = at;
			iov[count++].iov_len = part;
		}
		done += part;
		addr += part;
	}
	*ret_count = count;
	return done || !n ? (ssize_t)done : -EFAULT;
}

uint32_t *mm_user_u32(struct proc *p, uint64_t addr, bool write)
{
	if (addr % sizeof(uint32_t) || !range_is_user(addr, sizeof(uint32_t)))
		return NULL;
	return (uint32_t *)(void *)user_ptr(p, addr, write, true);
}

uint64_t mm_user_key(struct proc *p, uint64_t addr)
{
	const struct vma *v = vma_at(&p->mm->vmas, addr);
	uint32_t page;
	const uint64_t *pte;

	if (!v)
		return 0;
	/* A private page may be trimmed and come back in another frame: its name is its address. */
	if (!vma_has_shared_frames(v))
		return KEY_FUTEX | addr;
	if (!user_ptr(p, addr, false, true))
		return 0;
	pte = pt_find(p, addr);
	if (!pte || !pte_page(&p->mm->frames, *pte, &page))
		return 0;
	return KEY_FUTEX | KEY_SHARED | (uint64_t)page * PAGE_BYTES | addr % PAGE_BYTES;
}

bool mm_is_present(struct proc *p, uint64_t addr)
{
	uint32_t page;
	const uint64_t *pte = pt_find(p, addr);

	return pte && pte_page(&p->mm->frames, *pte, &page);
}
