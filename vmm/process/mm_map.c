/* SPDX-License-Identifier: Apache-2.0 */
/* mm_map.c - map, unmap, protect, move and advise: ranges of addresses as Linux treats them */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "common/util.h"
#include "vmm/process/mm_internal.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/** Where MAP_32BIT maps (Linux: find_start_end). */
#define MAP_32BIT_LOW  0x40000000ull
#define MAP_32BIT_HIGH 0x80000000ull

enum { PROT_ALL = PROT_READ | PROT_WRITE | PROT_EXEC };

/** How many VMAs splitting at both ends of a range adds. */
static uint32_t splits_of(const struct vma_set *s, uint64_t start, uint64_t end)
{
	const struct vma *first = vma_at(s, start);
	const struct vma *last = vma_at(s, end);

	return (first && first->start < start) + (last && last->start < end);
}

/** Unmap [start, end); room for the splits was reserved. */
static void unmap_range(struct proc *p, uint64_t start, uint64_t end)
{
	struct vma_set *s = &p->mm->vmas;

	vma_split(s, start);
	vma_split(s, end);
	for (uint32_t i = vma_lower(s, start); i < s->count && s->v[i].start < end; i++)
		mm_zap(p, &s->v[i], s->v[i].start, s->v[i].end);
	vma_remove(p, s, start, end);
}

static bool overlaps(const struct vma_set *s, uint64_t start, uint64_t end)
{
	uint32_t i = vma_lower(s, start);

	return i < s->count && s->v[i].start < end;
}

/* ---- mmap ----------------------------------------------------------------------------------- */

static int64_t pick_address(struct proc *p, uint64_t hint, uint64_t bytes, int flags)
{
	const struct vma_set *s = &p->mm->vmas;
	uint64_t at;

	if (flags & MAP_32BIT) {
		at = vma_gap(s, MAP_32BIT_LOW, MAP_32BIT_HIGH, bytes, false);
		return at ? (int64_t)at : -ENOMEM;
	}
	hint = MAX(align_down(hint, PAGE_BYTES), GUEST_USER_GVA_MIN);
	if (hint > GUEST_USER_GVA_MIN && hint <= GUEST_USER_GVA_MAX - bytes &&
	    !overlaps(s, hint, hint + bytes))
		return (int64_t)hint;
	at = vma_gap(s, GUEST_USER_GVA_MIN, MMAP_TOP, bytes, true);
	return at ? (int64_t)at : -ENOMEM;
}

static int64_t fixed_address(struct proc *p, uint64_t addr, uint64_t bytes, int flags)
{
	if (addr % PAGE_BYTES)
		return -EINVAL;
	if (addr > GUEST_USER_GVA_MAX - bytes)
		return -ENOMEM;
	if (addr < GUEST_USER_GVA_MIN) /* vm.mmap_min_addr */
		return -EPERM;
	if (flags & MAP_FIXED_NOREPLACE && overlaps(&p->mm->vmas, addr, addr + bytes))
		return -EEXIST;
	return (int64_t)addr;
}

/** Can @file be mapped like this? Linux: do_mmap(). */
static int check_file(struct proc *p, struct file *file, int prot, int flags)
{
	struct stat st;

	if (flags & MAP_GROWSDOWN)
		return -EINVAL;
	if ((file->flags & O_ACCMODE) == O_WRONLY || file->flags & O_PATH)
		return file->flags & O_PATH ? -EBADF : -EACCES;
	if ((flags & MAP_TYPE) != MAP_PRIVATE && prot & PROT_WRITE &&
	    (file->flags & O_ACCMODE) != O_RDWR)
		return -EACCES;
	if (!file->ops->fill_page && !file->ops->shared_page)
		return -ENODEV;
	if (file->ops->stat && !file->ops->stat(p, file, &st) && S_ISDIR(st.st_mode))
		return -ENODEV;
	/* Written pages would have nowhere to go. */
	if ((flags & MAP_TYPE) != MAP_PRIVATE && prot & PROT_WRITE && !file->ops->shared_page)
		return -ENODEV;
	return 0;
}

static int check_map(struct proc *p, uint64_t bytes, int prot, int flags, struct file *file,
		     uint64_t offset)
{
	int type = flags & MAP_TYPE;

	if (type != MAP_SHARED && type != MAP_PRIVATE && type != MAP_SHARED_VALIDATE)
		return -EINVAL;
	if (type == MAP_SHARED_VALIDATE && (!file || flags & MAP_SYNC))
		return file ? -EOPNOTSUPP : -EINVAL;
	if (offset % PAGE_BYTES)
		return -EINVAL;
	if (offset > INT64_MAX - bytes)
		return -EOVERFLOW;
	if (file)
		return check_file(p, file, prot, flags);
	if (flags & MAP_HUGETLB) /* a machine without reserved huge pages */
		return -ENOMEM;
	return type != MAP_PRIVATE && flags & MAP_GROWSDOWN ? -EINVAL : 0;
}

int64_t mm_map(struct proc *p, uint64_t addr, uint64_t bytes, int prot, int flags,
	       struct file *file, uint64_t offset)
{
	struct vma_set *s = &p->mm->vmas;
	bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
	struct vma v = {.prot = (uint32_t)(prot & PROT_ALL)};
	int64_t at;
	int ret;

	if (!bytes)
		return -EINVAL;
	if (bytes > GUEST_USER_GVA_MAX)
		return -ENOMEM;
	bytes = align_up(bytes, PAGE_BYTES);
	ret = check_map(p, bytes, prot, flags, file, offset);
	if (ret)
		return ret;
	if (bytes > GUEST_USER_GVA_MAX - GUEST_USER_GVA_MIN)
		return -ENOMEM;
	at = fixed ? fixed_address(p, addr, bytes, flags) : pick_address(p, addr, bytes, flags);
	if (at < 0)
		return at;
	v.start = (uint64_t)at;
	v.end = v.start + bytes;
	ret = vma_reserve(s, 1 + splits_of(s, v.start, v.end));
	if (ret)
		return ret;
	if (fixed)
		unmap_range(p, v.start, v.end);
	if ((flags & MAP_TYPE) != MAP_PRIVATE)
		v.flags |= VMA_SHARED;
	if (flags & MAP_GROWSDOWN)
		v.flags |= VMA_GROWSDOWN;
	if (file) {
		v.file = file_ref(file);
		v.offset = offset;
	}
	vma_insert(p, s, &v);
	if ((flags & MAP_LOCKED || (flags & MAP_POPULATE && !(flags & MAP_NONBLOCK))) && v.prot)
		fault_populate(p, v.start, v.end, v.prot & PROT_WRITE ? FAULT_WRITE : FAULT_READ);
	return at;
}

/* ---- munmap, mprotect ----------------------------------------------------------------------- */

int mm_unmap(struct proc *p, uint64_t addr, uint64_t bytes)
{
	struct vma_set *s = &p->mm->vmas;
	int ret;

	if (addr % PAGE_BYTES || !bytes || bytes > GUEST_USER_GVA_MAX ||
	    addr > GUEST_USER_GVA_MAX - align_up(bytes, PAGE_BYTES))
		return -EINVAL;
	bytes = align_up(bytes, PAGE_BYTES);
	ret = vma_reserve(s, splits_of(s, addr, addr + bytes));
	if (ret)
		return ret;
	unmap_range(p, addr, addr + bytes);
	return 0;
}

struct protect {
	struct proc *p;
	uint32_t prot;
	struct flush_run lost;
};

static void protect_pte(void *arg, uint64_t va, uint64_t *pte)
{
	struct protect *pr = arg;
	uint64_t old = *pte;
	uint32_t page;

	(void)va;
	*pte = 0;
	if (!pte_page(&pr->p->mm->frames, old, &page))
		return;
	*pte = pte_make_ahead(page, pr->prot) | (old & PTE_ACCESSED);
	if (old & PTE_PRESENT &&
	    (old & ~*pte & (PTE_PRESENT | PTE_WRITABLE) || ~old & *pte & PTE_NX))
		flush_add(&pr->lost, page);
}

/** May every VMA of the range have @prot? A shared mapping cannot have more than its file. */
static int check_protect(const struct vma_set *s, uint64_t start, uint64_t end, int prot)
{
	for (uint32_t i = vma_lower(s, start); i < s->count && s->v[i].start < end; i++) {
		const struct vma *v = &s->v[i];

		if (prot & PROT_WRITE && v->flags & VMA_SHARED && v->file &&
		    ((v->file->flags & O_ACCMODE) != O_RDWR || !v->file->ops->shared_page))
			return -EACCES;
	}
	return 0;
}

int mm_protect(struct proc *p, uint64_t addr, uint64_t bytes, int prot)
{
	struct vma_set *s = &p->mm->vmas;
	struct protect pr = {.p = p, .prot = (uint32_t)prot & PROT_ALL, .lost = {.p = p}};
	uint64_t end, stop = addr;
	uint32_t i;
	int ret;

	if (addr % PAGE_BYTES || prot & ~PROT_ALL)
		return -EINVAL;
	if (!bytes)
		return 0;
	if (bytes > GUEST_USER_GVA_MAX || addr > GUEST_USER_GVA_MAX - bytes)
		return -ENOMEM;
	end = addr + align_up(bytes, PAGE_BYTES);
	/* As Linux does: up to the first gap it takes effect, even though the result is ENOMEM. */
	for (i = vma_lower(s, addr); i < s->count && s->v[i].start <= stop && stop < end; i++)
		stop = MIN(s->v[i].end, end);
	if (stop == addr)
		return -ENOMEM;
	ret = check_protect(s, addr, stop, prot);
	if (!ret)
		ret = vma_reserve(s, splits_of(s, addr, stop));
	if (ret)
		return ret;
	vma_split(s, addr);
	vma_split(s, stop);
	for (i = vma_lower(s, addr); i < s->count && s->v[i].start < stop; i++) {
		if (s->v[i].prot == pr.prot)
			continue;
		s->v[i].prot = pr.prot;
		pt_for_each(p, s->v[i].start, s->v[i].end, protect_pte, &pr);
	}
	flush_end(&pr.lost);
	vma_merge(p, s, addr, stop);
	return stop < end ? -ENOMEM : 0;
}

/* ---- mremap --------------------------------------------------------------------------------- */

struct move {
	struct proc *p;
	uint64_t from, to;
	int err;
	struct flush_run moved;
};

/* First pass: all tables that the second one needs, so that it cannot fail. */
static void move_prepare(void *arg, uint64_t va, uint64_t *pte)
{
	struct move *mv = arg;
	uint64_t at = mv->to + (va - mv->from);
	uint64_t *unused;

	(void)pte;
	if (!mv->err && !pt_find(mv->p, at))
		mv->err = pt_make(mv->p, at, &unused);
}

static void move_pte(void *arg, uint64_t va, uint64_t *pte)
{
	struct move *mv = arg;
	uint64_t *to = pt_find(mv->p, mv->to + (va - mv->from));
	uint64_t old = *pte;
	uint32_t page;

	*pte = 0;
	if (!pte_page(&mv->p->mm->frames, old, &page))
		return;
	if (old & PTE_PRESENT)
		flush_add(&mv->moved, page);
	if (to)
		*to = old;
	else /* a hostile table was in two places */
		frame_put(mv->p, page);
}

/** Move [old, old + old_bytes) to the free range at @to, which becomes @new_bytes long. */
static int64_t move_range(struct proc *p, uint64_t old, uint64_t old_bytes, uint64_t new_bytes,
			  uint64_t to, bool keep_old)
{
	struct vma_set *s = &p->mm->vmas;
	struct move mv = {.p = p, .from = old, .to = to, .moved = {.p = p}};
	uint64_t bytes = MIN(old_bytes, new_bytes);
	struct vma v;
	int ret = vma_reserve(s, 1 + splits_of(s, old, old + old_bytes));

	if (ret)
		return ret;
	pt_for_each(p, old, old + bytes, move_prepare, &mv);
	if (mv.err)
		return mv.err;
	v = *vma_at(s, old);
	v.offset += v.file ? old - v.start : 0;
	v.start = to;
	v.end = to + new_bytes;
	v.flags &= ~(uint32_t)VMA_GROWSDOWN;
	if (v.file)
		file_ref(v.file);
	vma_insert(p, s, &v);
	pt_for_each(p, old, old + bytes, move_pte, &mv);
	flush_end(&mv.moved);
	if (!keep_old && old_bytes)
		unmap_range(p, old, old + old_bytes);
	return (int64_t)to;
}

/** MREMAP_FIXED: @to takes the place of what is there. Linux: mremap_to(). */
static int64_t remap_to(struct proc *p, uint64_t old, uint64_t old_bytes, uint64_t new_bytes,
			int flags, uint64_t to)
{
	struct vma_set *s = &p->mm->vmas;
	const struct vma *v;
	int ret;

	if (to % PAGE_BYTES || new_bytes > GUEST_USER_GVA_MAX ||
	    to > GUEST_USER_GVA_MAX - new_bytes)
		return -EINVAL;
	if (old + old_bytes > to && to + new_bytes > old)
		return -EINVAL;
	if (to < GUEST_USER_GVA_MIN)
		return -EPERM;
	v = vma_at(s, old);
	if (!v || old_bytes > v->end - old)
		return -EFAULT;
	if (!old_bytes && !(v->flags & VMA_SHARED && v->file))
		return -EINVAL;
	ret = mm_unmap(p, to, new_bytes);
	if (ret)
		return ret;
	return move_range(p, old, old_bytes, new_bytes, to, flags & MREMAP_DONTUNMAP);
}

/** Can the VMA that ends at @end grow to @new_end where it is? */
static bool grow_in_place(struct proc *p, uint64_t old, uint64_t end, uint64_t new_end)
{
	struct vma_set *s = &p->mm->vmas;
	struct vma *v = vma_at(s, old);

	if (v->end != end || new_end > GUEST_USER_GVA_MAX || new_end < end ||
	    overlaps(s, end, new_end))
		return false;
	v->end = new_end;
	s->bytes += new_end - end;
	vma_merge(p, s, old, new_end);
	return true;
}

int64_t mm_remap(struct proc *p, uint64_t old, uint64_t old_bytes, uint64_t new_bytes, int flags,
		 uint64_t to)
{
	struct vma_set *s = &p->mm->vmas;
	const struct vma *v;
	int64_t at;

	if (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) || old % PAGE_BYTES)
		return -EINVAL;
	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) && !(flags & MREMAP_MAYMOVE))
		return -EINVAL;
	if (!new_bytes || old_bytes > GUEST_USER_GVA_MAX || new_bytes > GUEST_USER_GVA_MAX)
		return new_bytes ? -ENOMEM : -EINVAL;
	old_bytes = align_up(old_bytes, PAGE_BYTES);
	new_bytes = align_up(new_bytes, PAGE_BYTES);
	if (flags & MREMAP_DONTUNMAP && old_bytes != new_bytes)
		return -EINVAL;
	if (old > GUEST_USER_GVA_MAX - old_bytes)
		return -EFAULT;
	if (flags & MREMAP_FIXED)
		return remap_to(p, old, old_bytes, new_bytes, flags, to);
	v = vma_at(s, old);
	if (!v)
		return -EFAULT;
	if (old_bytes >= new_bytes && !(flags & MREMAP_DONTUNMAP)) {
		int ret = old_bytes > new_bytes
				  ? mm_unmap(p, old + new_bytes, old_bytes - new_bytes)
				  : 0;

		return ret ? ret : (int64_t)old;
	}
	/* Nothing to take from: a second mapping of a shared file, as Linux has it. */
	if (!old_bytes && !(v->flags & VMA_SHARED && v->file))
		return -EINVAL;
	if (old_bytes > v->end - old)
		return -EFAULT;
	if (v->file && v->offset + (old - v->start) > INT64_MAX - new_bytes)
		return -EINVAL;
	if (old_bytes && !(flags & MREMAP_DONTUNMAP) &&
	    grow_in_place(p, old, old + old_bytes, old + new_bytes))
		return (int64_t)old;
	if (!(flags & MREMAP_MAYMOVE))
		return -ENOMEM;
	at = pick_address(p, 0, new_bytes, 0);
	if (at < 0)
		return at;
	return move_range(p, old, old_bytes, new_bytes, (uint64_t)at, flags & MREMAP_DONTUNMAP);
}

/* ---- brk ------------------------------------------------------------------------------------ */

void mm_set_brk(struct proc *p, uint64_t start)
{
	p->mm->brk_start = p->mm->brk = start;
}

uint64_t mm_brk(struct proc *p, uint64_t addr)
{
	struct mm *mm = p->mm;
	uint64_t old = align_up(mm->brk, PAGE_BYTES), new;

	if (addr < mm->brk_start || addr > MMAP_TOP)
		return mm->brk;
	new = align_up(addr, PAGE_BYTES);
	if (new < old && mm_unmap(p, new, old - new))
		return mm->brk;
	if (new > old) {
		struct vma v = {.start = old, .end = new, .prot = PROT_READ | PROT_WRITE};

		/* One page is left to what lies above, as Linux does. */
		if (overlaps(&mm->vmas, old, new + PAGE_BYTES) || vma_reserve(&mm->vmas, 1))
			return mm->brk;
		vma_insert(p, &mm->vmas, &v);
	}
	mm->brk = addr;
	return addr;
}

/* ---- madvise -------------------------------------------------------------------------------- */

/** What madvise does to one VMA's part [start, end). */
static int advise_part(struct proc *p, const struct vma *v, uint64_t start, uint64_t end,
		       int advice)
{
	bool write = advice == MADV_POPULATE_WRITE;

	switch (advice) {
	case MADV_FREE:
		if (v->file || v->flags & VMA_SHARED)
			return -EINVAL;
		/* Free at once is allowed, and keeps what is free out of snapshots. */
		__attribute__((fallthrough));
	case MADV_DONTNEED:
		/* Anonymous shared memory lives in its pages; nobody else holds them. */
		if (v->file || !(v->flags & VMA_SHARED))
			mm_zap(p, v, start, end);
		return 0;
	case MADV_POPULATE_READ:
	case MADV_POPULATE_WRITE:
		if (!(v->prot & (write ? PROT_WRITE : PROT_ALL)))
			return -EINVAL;
		return fault_populate(p, start, end, write ? FAULT_WRITE : FAULT_READ);
	case MADV_WIPEONFORK:
		return v->file || v->flags & VMA_SHARED ? -EINVAL : 0;
	default:
		return 0;
	}
}

/** Advice that Linux takes; what has no meaning here is accepted and ignored. */
static bool advice_known(int advice)
{
	switch (advice) {
	case MADV_NORMAL:
	case MADV_RANDOM:
	case MADV_SEQUENTIAL:
	case MADV_WILLNEED:
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_DONTFORK:
	case MADV_DOFORK:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_DONTDUMP:
	case MADV_DODUMP:
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
	case MADV_COLD:
	case MADV_PAGEOUT:
	case MADV_POPULATE_READ:
	case MADV_POPULATE_WRITE:
		return true;
	default:
		return false;
	}
}

int mm_advise(struct proc *p, uint64_t addr, uint64_t bytes, int advice)
{
	const struct vma_set *s = &p->mm->vmas;
	uint64_t end, at = addr;
	bool gap = false;

	if (!advice_known(advice) || addr % PAGE_BYTES)
		return -EINVAL;
	if (!bytes)
		return 0;
	if (bytes > UINT64_MAX - addr || !align_up(bytes, PAGE_BYTES) ||
	    align_up(bytes, PAGE_BYTES) > UINT64_MAX - addr)
		return -EINVAL;
	end = addr + align_up(bytes, PAGE_BYTES);
	for (uint32_t i = vma_lower(s, addr); i < s->count && at < end; i++) {
		const struct vma *v = &s->v[i];
		int ret;

		if (v->start >= end)
			break;
		gap |= v->start > at;
		ret = advise_part(p, v, MAX(v->start, addr), MIN(v->end, end), advice);
		if (ret)
			return ret;
		at = v->end;
	}
	return gap || at < end ? -ENOMEM : 0;
}

bool mm_mapped(struct proc *p, uint64_t addr, uint64_t bytes)
{
	uint64_t start = align_down(addr, PAGE_BYTES);

	if (bytes > GUEST_USER_GVA_MAX || addr > GUEST_USER_GVA_MAX - bytes)
		return false;
	return vma_covered(&p->mm->vmas, start, align_up(addr + bytes, PAGE_BYTES));
}
