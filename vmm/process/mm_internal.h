/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mm_internal.h - what the files of the address space share: frames, page tables, VMAs
 *
 * Theory of operation
 *
 *   frame.c      which pages of RAM are in use, and by how many holders
 *   paging.c     the guest's page tables: find, make, walk; what a page table entry means
 *   vma.c        the sorted set of mappings: split, merge, search
 *   mm_map.c     mmap, munmap, mprotect, mremap, brk, madvise on top of these three
 *   page_fault.c an absent page becomes present, and neighbours with it
 *   user_mem.c   the vmm reads and writes the program's memory
 *   mm.c         life cycle, saved state
 *   mm_report.c  /proc/self/maps and other texts
 *
 * Invariants
 *
 *   1. A VMA is page-aligned, not empty, inside [GUEST_USER_GVA_MIN, GUEST_USER_GVA_MAX); VMAs are
 *      sorted and do not overlap; neighbours that could be one are one.
 *   2. A leaf entry outside of every VMA is 0. One with a frame (pte_page) holds one reference on
 *      it. Its rights are those of the VMA (pte_make): present pages need no second look.
 *   3. There is no copy-on-write inside a guest: there is no fork, and a page of a private file
 *      mapping is the program's own copy from the first touch on. A frame has several holders only
 *      if it is a page of a tmpfs file.
 *   4. Page tables are never given back and never move while the guest lives: KVM's shadow pages
 *      keep links that it believes to be in step with the guest's tables (it traps the guest's
 *      writes to them, not the vmm's), so an upper entry may go from absent to present only.
 *      A table costs one page in 512 that were ever touched, and counts as the program's memory.
 *   5. After rights were taken away the frames concerned are flushed (flush_add, or by being freed)
 *      before the guest runs again and before such a frame is handed out again.
 *   6. Page tables and saved state are hostile after a restore. Every step of a walk is checked to
 *      stay in RAM; what fails the check counts as absent. Reference counts that do not match what
 *      is mapped can make the guest's own memory inconsistent, and nothing else.
 */
#ifndef QUICKTHAW_PROCESS_MM_INTERNAL_H
#define QUICKTHAW_PROCESS_MM_INTERNAL_H

#include <limits.h>

#include "vmm/process/file.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/system_slot.h"

/* ---- frames ---------------------------------------------------------------------------------- */

/**
 * struct frames - the pages of RAM.
 * @refs: holders of each page; 0: free. UINT16_MAX sticks: such a frame is never freed
 * @busy: one bit per page: in use, or in the run that is still to be given back
 * @used: pages with refs > 0
 * @first_fresh: start of the part that reads as zero when free (the end of the template)
 * @hint_fresh, @hint_template: no free page lies between the start of that part and here
 * @run_first, @run_count: freed pages whose memory the host still has
 */
struct frames {
	uint16_t *refs;
	uint64_t *busy;
	uint32_t total;
	uint32_t used;
	uint32_t first_fresh;
	uint32_t hint_fresh, hint_template;
	uint32_t run_first, run_count;
};

int frames_new(struct frames *f, uint64_t ram_pages, uint64_t template_pages);
void frames_free(struct frames *f);
/** frames_give_back() - end the run of freed pages: DONTNEED, which also makes KVM forget them. */
void frames_give_back(struct proc *p);
int frames_save(const struct frames *f, struct state_writer *w);
int frames_load(struct frames *f, struct state_reader *r);

/** struct flush_run - frames that keep their contents but lost rights, joined into runs. */
struct flush_run {
	struct proc *p;
	uint32_t first, count;
};
void flush_add(struct flush_run *run, uint32_t page);
void flush_end(struct flush_run *run);

/* ---- VMAs ------------------------------------------------------------------------------------ */

enum { VMA_MAX = 65530 }; /* vm.max_map_count */

enum vma_flags {
	VMA_SHARED = 1,
	VMA_GROWSDOWN = 2,
	VMA_FLAGS_ALL = 3,
};

/**
 * struct vma - one mapping.
 * @file: a reference, or NULL for anonymous memory
 * @offset: file offset of @start
 */
struct vma {
	uint64_t start, end;
	uint64_t offset;
	struct file *file;
	uint32_t prot;
	uint32_t flags;
};

/** struct vma_set - sorted array: searches are binary, and moving 65530 entries costs 200 us. */
struct vma_set {
	struct vma *v;
	uint32_t count, size;
	uint64_t bytes; /**< sum of all lengths */
};

void vma_set_free(struct proc *p, struct vma_set *s);
/** vma_reserve() - make sure that @n more VMAs fit. Return: 0 or -ENOMEM. */
int vma_reserve(struct vma_set *s, uint32_t n);
/** vma_lower() - index of the first VMA that ends after @addr; s->count if none. */
uint32_t vma_lower(const struct vma_set *s, uint64_t addr);
/** vma_at() - the VMA that holds @addr, or NULL. Valid until the set changes. */
struct vma *vma_at(const struct vma_set *s, uint64_t addr);
/** vma_covered() - is every address of [start, end) mapped? */
bool vma_covered(const struct vma_set *s, uint64_t start, uint64_t end);
/** vma_split() - no VMA crosses @addr afterwards. Room was reserved. */
void vma_split(struct vma_set *s, uint64_t addr);
/** vma_insert() - put @v, whose file reference is taken over, into a gap, and merge. */
void vma_insert(struct proc *p, struct vma_set *s, const struct vma *v);
/** vma_remove() - drop all VMAs inside [start, end); they were split at both. */
void vma_remove(struct proc *p, struct vma_set *s, uint64_t start, uint64_t end);
/** vma_merge() - join neighbours that touch inside [start, end] or at its ends. */
void vma_merge(struct proc *p, struct vma_set *s, uint64_t start, uint64_t end);
/** vma_gap() - the highest (or lowest) free range of @bytes inside [low, high). Return: 0 if none.
 */
uint64_t vma_gap(const struct vma_set *s, uint64_t low, uint64_t high, uint64_t bytes,
		 bool highest);
/** vma_check() - invariant 1, for tests and for loaded state. */
bool vma_check(const struct vma_set *s);
int vmas_save(const struct vma_set *s, struct state_writer *w);
int vmas_load(struct proc *p, struct vma_set *s, struct state_reader *r);

/** vma_has_shared_frames() - are its pages those of the file itself (tmpfs)? */
static inline bool vma_has_shared_frames(const struct vma *v)
{
	return v->flags & VMA_SHARED && v->file && v->file->ops->shared_page;
}

/* ---- page tables ---------------------------------------------------------------------------- */

/** A frame is kept, but the program may not touch it (PROT_NONE). Ignored by the CPU. */
#define PTE_HELD  (1ull << 9)
#define PTE_ADDR  0x000ffffffffff000ull
#define PTE_TABLE (PTE_PRESENT | PTE_WRITABLE | PTE_USER | PTE_ACCESSED | PTE_DIRTY)

enum {
	PT_ENTRIES = 512,
	PT_SPAN_SHIFT = 21, /* what one table of leaf entries covers */
	PT_CACHE = 8
};

/**
 * struct paging - the root, and where leaf tables were found lately.
 * The cache needs no invalidation: tables do not move (invariant 4), and entries are read anew.
 */
struct paging {
	uint32_t pml4;
	uint32_t tables; /**< frames that are page tables */
	struct {
		uint64_t span; /**< address >> PT_SPAN_SHIFT, or UINT64_MAX */
		uint64_t *table;
	} cache[PT_CACHE];
};

int paging_new(struct proc *p);
/** paging_load() - take over the tables at @pml4, which was checked to be in RAM. */
int paging_load(struct proc *p, uint32_t pml4);
/** pt_find() - the leaf entry for @va. Return: NULL if there is no table for it. */
uint64_t *pt_find(struct proc *p, uint64_t va);
/** pt_make() - the same, with tables added and upper entries set right. Return: 0 or -ENOMEM. */
int pt_make(struct proc *p, uint64_t va, uint64_t **ret);
/** pt_for_each() - call @fn for every entry that is not 0 in [start, end). @fn may clear it. */
void pt_for_each(struct proc *p, uint64_t start, uint64_t end,
		 void (*fn)(void *arg, uint64_t va, uint64_t *pte), void *arg);

/**
 * pte_make() - the entry for @page in a VMA with @prot.
 * A and D are set: KVM maps ahead only what is marked accessed, and a walk that has nothing to mark
 * leaves page tables clean. Only a file page that came in around a fault starts without A
 * (pte_make_ahead), so that a capture can tell whether the program ever touched it.
 */
static inline uint64_t pte_make(uint32_t page, uint32_t prot)
{
	uint64_t pte = guest_page_gpa(page).v | PTE_ACCESSED | PTE_DIRTY | PTE_HELD;

	if (prot)
		pte |= PTE_PRESENT | PTE_USER;
	if (prot & 2) /* PROT_WRITE */
		pte |= PTE_WRITABLE;
	if (!(prot & 4)) /* PROT_EXEC */
		pte |= PTE_NX;
	return pte;
}

static inline uint64_t pte_make_ahead(uint32_t page, uint32_t prot)
{
	return pte_make(page, prot) & ~PTE_ACCESSED;
}

/** pte_page() - the frame behind an entry. Return: false if it has none in RAM. */
static inline bool pte_page(const struct frames *f, uint64_t pte, uint32_t *ret_page)
{
	uint64_t page = ((pte & PTE_ADDR) - GUEST_RAM_GPA) / PAGE_BYTES;

	if (!(pte & PTE_HELD) || (pte & PTE_ADDR) < GUEST_RAM_GPA || page >= f->total)
		return false;
	*ret_page = (uint32_t)page;
	return true;
}

/* ---- the address space ---------------------------------------------------------------------- */

#define STACK_LIMIT MIB(8) /* RLIMIT_STACK */
#define STACK_GUARD MIB(1) /* Linux: stack_guard_gap */
#define STACK_TOP   GUEST_USER_GVA_MAX
#define MMAP_GAP    MIB(128) /* Linux: the least distance of mmap_base from the stack's top */
#define MMAP_TOP    (STACK_TOP - MMAP_GAP)

/**
 * struct mm - one address space.
 * @program_pages: frames of private pages and page tables, which p->memory_bytes limits
 * @brk_start, @brk: the heap
 * @ahead_next, @ahead_pages: where the last anonymous fault mapped up to, and how much
 */
struct mm {
	struct frames frames;
	struct paging paging;
	struct vma_set vmas;
	uint64_t program_pages;
	uint64_t brk_start, brk;
	uint64_t ahead_next;
	uint32_t ahead_pages;
	struct mm_exec exec;
};

/* mm.c */
/** mm_room() - how many more pages the program may have. */
uint64_t mm_room(const struct proc *p);
/** mm_page_alloc() - a zeroed frame that counts for the program. Return: 0 or -ENOMEM. */
int mm_page_alloc(struct proc *p, uint32_t *ret_page);
void mm_page_put(struct proc *p, uint32_t page);
/** mm_file_bytes() - size of a regular file; UINT64_MAX for what has none. */
uint64_t mm_file_bytes(struct proc *p, struct file *f);
/** mm_zap() - drop all pages of [start, end), which lies in one VMA @v, and flush. */
void mm_zap(struct proc *p, const struct vma *v, uint64_t start, uint64_t end);

/* page_fault.c */
enum fault_access { FAULT_READ, FAULT_WRITE, FAULT_EXEC };
/**
 * fault_in() - make @va accessible as a touch would.
 * @reclaim: pages that are all zero may be taken from the program to stay below its limit: not
 *	while the caller holds pointers to guest memory
 * Return: 0; -EFAULT nothing mapped, -EACCES wrong rights, -EIO no such page in the file, -ENOMEM.
 */
int fault_in(struct proc *p, uint64_t va, enum fault_access access, bool reclaim);
/** fault_populate() - bring in [start, end) as MAP_POPULATE does: as far as it goes. */
int fault_populate(struct proc *p, uint64_t start, uint64_t end, enum fault_access access);

#endif
