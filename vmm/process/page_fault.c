/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_fault.c - an absent page becomes present, and its neighbours with it
 *
 * An exit to the vmm costs 25 us on a PVM host, so one fault brings in more than one page.
 *
 * Anonymous memory: the aligned window of AHEAD_PAGES around the fault, twice as much each time
 * faults go on where the last window ended, up to AHEAD_PAGES_MAX. The frames are not touched: the
 * host pays for none before the program uses it. They do count as the program's memory, so "max
 * memory used" can be up to a window per touched place too high (Linux with transparent huge pages
 * rounds 8 to 32 times coarser). What is still zero is taken back before it would matter: when the
 * limit is near only the page itself is mapped; at the limit mm_trim() runs before the guest is
 * out of memory; and at capture.
 *
 * File pages: up to FILE_PAGES in an aligned window, by one read into the frames.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/process/mm_internal.h"

enum { AHEAD_PAGES = 16, AHEAD_PAGES_MAX = 64, FILE_PAGES = 16 };
/** With less room than this the window is one page. */
enum { ROOM_PAGES_LOW = 1024 };
/** A trim that yields less is not tried again: the guest is out of memory. */
enum { TRIM_PAGES_MIN = 16 };

/* Error code of a page fault (SDM vol. 3, 4.7). */
enum { PF_WRITE = 2, PF_FETCH = 16 };

static bool allowed(uint32_t prot, enum fault_access access)
{
	switch (access) {
	case FAULT_WRITE:
		return prot & PROT_WRITE;
	case FAULT_EXEC:
		return prot & PROT_EXEC;
	default:
		return prot;
	}
}

/** Does @pte hold a frame already? */
static bool is_taken(const struct proc *p, uint64_t pte)
{
	uint32_t page;

	return pte_page(&p->mm->frames, pte, &page);
}

/**
 * Part of the aligned window of @pages around @va that lies in @v. Never leaves one leaf table,
 * since windows are aligned and smaller.
 */
static void window_around(const struct vma *v, uint64_t va, uint32_t pages, uint64_t *ret_start,
			  uint64_t *ret_end)
{
	uint64_t bytes = (uint64_t)pages * PAGE_BYTES;

	*ret_start = MAX(align_down(va, bytes), v->start);
	*ret_end = MIN(align_down(va, bytes) + bytes, v->end);
}

static int fault_anonymous(struct proc *p, const struct vma *v, uint64_t va, uint64_t *pte)
{
	struct mm *mm = p->mm;
	uint64_t start, end;
	uint32_t pages = AHEAD_PAGES;
	const uint64_t *own = pte;
	int ret = 0;

	if (mm->ahead_pages && va >= mm->ahead_next &&
	    va < mm->ahead_next + (uint64_t)mm->ahead_pages * PAGE_BYTES)
		pages = MIN(2 * mm->ahead_pages, (uint32_t)AHEAD_PAGES_MAX);
	if (mm_room(p) < ROOM_PAGES_LOW)
		pages = 1;
	window_around(v, va, pages, &start, &end);
	pte -= (va - start) / PAGE_BYTES;
	for (uint64_t at = start; at < end && !ret; at += PAGE_BYTES, pte++) {
		uint32_t page;

		if (is_taken(p, *pte))
			continue;
		ret = mm_page_alloc(p, &page);
		if (!ret)
			*pte = pte_make(page, v->prot);
	}
	mm->ahead_next = end;
	mm->ahead_pages = MAX(pages, (uint32_t)AHEAD_PAGES);
	/* What matters is whether the page itself has come in. */
	return ret && !is_taken(p, *own) ? ret : 0;
}

static int fault_shared(struct proc *p, const struct vma *v, uint64_t va, uint64_t *pte)
{
	uint64_t offset = v->offset + (va - v->start);
	uint32_t page;
	int ret;

	if (offset >= mm_file_bytes(p, v->file))
		return -EIO;
	ret = v->file->ops->shared_page(p, v->file, offset, &page);
	if (ret)
		return ret == -ENOMEM && !mm_room(p) ? -ENOMEM : -EIO;
	*pte = pte_make(page, v->prot);
	return 0;
}

/** Read file contents into @n frames. Return: 0 or -errno; what lies past the end stays zero. */
static int read_pages(struct proc *p, struct file *f, uint64_t offset, const uint32_t *pages,
		      unsigned n)
{
	struct iovec iov[FILE_PAGES];
	struct iovec *at = iov;
	int count = 0;

	for (unsigned i = 0; i < n; i++) {
		if (i > 0 && pages[i] == pages[i - 1] + 1) {
			iov[count - 1].iov_len += PAGE_BYTES;
			continue;
		}
		iov[count].iov_base = guest_page_ptr(&p->vm->mem, pages[i]);
		iov[count++].iov_len = PAGE_BYTES;
	}
	while (count > 0) {
		int64_t got = f->ops->read(p, f, at, count, (int64_t)offset);

		if (got <= 0)
			return (int)got;
		offset += (uint64_t)got;
		while (count > 0 && (uint64_t)got >= at->iov_len) {
			got -= (int64_t)at->iov_len;
			at++;
			count--;
		}
		if (count > 0) {
			at->iov_base = (char *)at->iov_base + got;
			at->iov_len -= (size_t)got;
		}
	}
	return 0;
}

static int fill_pages(struct proc *p, struct file *f, uint64_t offset, const uint32_t *pages,
		      unsigned n)
{
	int ret = 0;

	/* Only plain files read the same at an offset as they map. */
	if (f->ops->read && (f->ops->type == FILE_HOST || f->ops->type == FILE_TMPFS))
		return read_pages(p, f, offset, pages, n);
	if (!f->ops->fill_page)
		return -EIO;
	for (unsigned i = 0; i < n && ret >= 0; i++)
		ret = f->ops->fill_page(p, f, offset + (uint64_t)i * PAGE_BYTES,
					guest_page_ptr(&p->vm->mem, pages[i]));
	return MIN(ret, 0);
}

/** The run of absent pages around @va that one read brings in. */
static void file_window(struct proc *p, const struct vma *v, uint64_t va, const uint64_t *pte,
			uint64_t file_bytes, uint64_t *ret_start, uint64_t *ret_end)
{
	uint64_t start, end, low = va, high = va + PAGE_BYTES;

	window_around(v, va, mm_room(p) < ROOM_PAGES_LOW ? 1 : FILE_PAGES, &start, &end);
	while (low > start && !is_taken(p, pte[-(int64_t)((va - low) / PAGE_BYTES + 1)]))
		low -= PAGE_BYTES;
	while (high < end && v->offset + (high - v->start) < file_bytes &&
	       !is_taken(p, pte[(high - va) / PAGE_BYTES]))
		high += PAGE_BYTES;
	*ret_start = low;
	*ret_end = high;
}

static int fault_file(struct proc *p, const struct vma *v, uint64_t va, uint64_t *pte)
{
	uint64_t file_bytes = mm_file_bytes(p, v->file);
	uint32_t pages[FILE_PAGES];
	uint64_t start, end;
	unsigned n = 0;
	int ret = 0;

	if (v->offset + (va - v->start) >= file_bytes)
		return -EIO;
	file_window(p, v, va, pte, file_bytes, &start, &end);
	for (uint64_t at = start; at < end && !ret; at += PAGE_BYTES) {
		ret = mm_page_alloc(p, &pages[n]);
		n += !ret;
	}
	if (!ret && fill_pages(p, v->file, v->offset + (start - v->start), pages, n))
		ret = -EIO;
	if (ret) {
		while (n > 0)
			mm_page_put(p, pages[--n]);
		return ret;
	}
	/* Only now: nobody sees a page before its contents are there. */
	pte -= (va - start) / PAGE_BYTES;
	for (unsigned i = 0; i < n; i++)
		pte[i] = pte_make_ahead(pages[i], v->prot);
	pte[(va - start) / PAGE_BYTES] |= PTE_ACCESSED;
	return 0;
}

/** A stack grows down to @va if its limit and the guard below it allow that. */
static struct vma *grow_stack(struct proc *p, uint64_t va)
{
	struct vma_set *s = &p->mm->vmas;
	uint32_t i = vma_lower(s, va);
	struct vma *v = &s->v[i];

	if (i == s->count || !(v->flags & VMA_GROWSDOWN) || v->start <= va)
		return NULL;
	if (v->end - va > STACK_LIMIT || va < GUEST_USER_GVA_MIN)
		return NULL;
	if (i > 0 && v[-1].prot && !(v[-1].flags & VMA_GROWSDOWN) && va - v[-1].end < STACK_GUARD)
		return NULL;
	s->bytes += v->start - va;
	v->start = va;
	return v;
}

/** The page is there already: does its entry say what the VMA says? */
static void fault_present(struct proc *p, const struct vma *v, uint64_t *pte, uint32_t page)
{
	uint64_t want = pte_make(page, v->prot);
	struct flush_run stale = {.p = p};

	if (*pte != want) {
		*pte = want;
		return;
	}
	/* The CPU saw something older than the page tables: make KVM look again. */
	flush_add(&stale, page);
	flush_end(&stale);
}

static int fault_once(struct proc *p, uint64_t va, enum fault_access access)
{
	struct vma *v;
	uint64_t *pte;
	uint32_t page;
	int ret;

	if (va < GUEST_USER_GVA_MIN || va >= GUEST_USER_GVA_MAX)
		return -EFAULT;
	v = vma_at(&p->mm->vmas, va);
	if (!v)
		v = grow_stack(p, va);
	if (!v)
		return -EFAULT;
	if (!allowed(v->prot, access))
		return -EACCES;
	ret = pt_make(p, va, &pte);
	if (ret)
		return ret;
	if (pte_page(&p->mm->frames, *pte, &page)) {
		fault_present(p, v, pte, page);
		return 0;
	}
	if (vma_has_shared_frames(v))
		return fault_shared(p, v, va, pte);
	return v->file ? fault_file(p, v, va, pte) : fault_anonymous(p, v, va, pte);
}

int fault_in(struct proc *p, uint64_t va, enum fault_access access, bool reclaim)
{
	int ret;

	va = align_down(va, PAGE_BYTES);
	/* As Linux: a fetch brings an absent page in like a read, which may be a bus error; only
	 * then the lack of PROT_EXEC shows. */
	if (access == FAULT_EXEC && !mm_is_present(p, va)) {
		const struct vma *v;

		ret = fault_in(p, va, FAULT_READ, reclaim);
		v = ret ? NULL : vma_at(&p->mm->vmas, va);
		return v && !allowed(v->prot, FAULT_EXEC) ? -EACCES : ret;
	}
	ret = fault_once(p, va, access);
	if (ret == -ENOMEM && reclaim && mm_trim(p) >= TRIM_PAGES_MIN)
		ret = fault_once(p, va, access);
	return ret;
}

int fault_populate(struct proc *p, uint64_t start, uint64_t end, enum fault_access access)
{
	/* Once, and not on the way: what was just brought in is zero, too, and would be taken for
	 * ever. */
	if (mm_room(p) < (end - start) / PAGE_BYTES)
		mm_trim(p);
	for (uint64_t va = start; va < end; va += PAGE_BYTES) {
		const uint64_t *pte = pt_find(p, va);
		int ret = pte && is_taken(p, *pte) ? 0 : fault_in(p, va, access, false);

		if (ret)
			return ret == -EIO ? -EFAULT : ret;
	}
	return 0;
}

int mm_fault(struct proc *p, struct gva at, uint64_t error_code, int *ret_signal, int *ret_code)
{
	enum fault_access access = error_code & PF_WRITE   ? FAULT_WRITE
				   : error_code & PF_FETCH ? FAULT_EXEC
							   : FAULT_READ;

	switch (fault_in(p, at.v, access, true)) {
	case 0:
		return 0;
	case -ENOMEM:
		return -ENOMEM;
	case -EIO:
		*ret_signal = SIGBUS;
		*ret_code = BUS_ADRERR;
		return 1;
	case -EACCES:
		*ret_signal = SIGSEGV;
		*ret_code = SEGV_ACCERR;
		return 1;
	default:
		*ret_signal = SIGSEGV;
		*ret_code = SEGV_MAPERR;
		return 1;
	}
}
