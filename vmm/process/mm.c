/* SPDX-License-Identifier: Apache-2.0 */
/* mm.c - the life of an address space: made, trimmed, saved, loaded, taken apart */
#include "vmm/process/mm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "vmm/process/mm_internal.h"
#include "vmm/ram_slots.h"

static int mm_make(struct proc *p)
{
	const struct guest_mem *m = &p->vm->mem;
	struct mm *mm = calloc(1, sizeof(*mm));
	int ret;

	if (!mm)
		return -ENOMEM;
	p->mm = mm;
	ret = frames_new(&mm->frames, m->ram_bytes / PAGE_BYTES, m->template_pages);
	if (ret)
		mm_free(p);
	return ret;
}

int mm_new(struct proc *p)
{
	int ret = mm_make(p);

	if (ret)
		return ret;
	ret = paging_new(p);
	if (ret)
		mm_free(p);
	return ret;
}

void mm_free(struct proc *p)
{
	struct mm *mm = p->mm;

	if (!mm)
		return;
	/* The vm takes RAM with it: nothing is given back page by page. */
	p->mm = NULL;
	vma_set_free(p, &mm->vmas);
	frames_free(&mm->frames);
	free(mm);
}

const struct mm_exec *mm_exec_info(const struct proc *p)
{
	return &p->mm->exec;
}

/* ---- pages of the program ------------------------------------------------------------------- */

uint64_t mm_room(const struct proc *p)
{
	const struct mm *mm = p->mm;
	uint64_t limit = p->memory_bytes ? p->memory_bytes / PAGE_BYTES : mm->frames.total;
	uint64_t left = mm->frames.total - mm->frames.used;

	return mm->program_pages < limit ? MIN(limit - mm->program_pages, left) : 0;
}

int mm_page_alloc(struct proc *p, uint32_t *ret_page)
{
	int ret = mm_room(p) ? frame_alloc(p, ret_page) : -ENOMEM;

	if (!ret)
		p->mm->program_pages++;
	return ret;
}

void mm_page_put(struct proc *p, uint32_t page)
{
	frame_put(p, page);
	if (p->mm->program_pages)
		p->mm->program_pages--;
}

struct zap {
	struct proc *p;
	bool shared;
	struct flush_run kept;
};

static void zap_pte(void *arg, uint64_t va, uint64_t *pte)
{
	struct zap *z = arg;
	const struct frames *f = &z->p->mm->frames;
	uint64_t old = *pte;
	uint32_t page;

	(void)va;
	*pte = 0;
	if (!pte_page(f, old, &page))
		return;
	/* A frame that goes is flushed when its memory is given back; one that stays is not. */
	if (old & PTE_PRESENT && f->refs[page] != 1)
		flush_add(&z->kept, page);
	if (z->shared)
		frame_put(z->p, page);
	else
		mm_page_put(z->p, page);
}

void mm_zap(struct proc *p, const struct vma *v, uint64_t start, uint64_t end)
{
	struct zap z = {.p = p, .shared = vma_has_shared_frames(v), .kept = {.p = p}};

	pt_for_each(p, start, end, zap_pte, &z);
	flush_end(&z.kept);
	frames_give_back(p);
}

void mm_zap_file(struct proc *p, const void *priv, uint64_t from, uint64_t to)
{
	const struct vma_set *s = &p->mm->vmas;

	for (uint32_t i = 0; i < s->count; i++) {
		const struct vma *v = &s->v[i];
		uint64_t last = v->offset + (v->end - v->start);

		if (!v->file || v->file->priv != priv || from >= last || to <= v->offset)
			continue;
		mm_zap(p, v, v->start + (from > v->offset ? from - v->offset : 0),
		       to < last ? v->start + (to - v->offset) : v->end);
	}
}

uint64_t mm_file_bytes(struct proc *p, struct file *f)
{
	struct stat st;

	if (!f->ops->stat || f->ops->stat(p, f, &st) || !S_ISREG(st.st_mode))
		return UINT64_MAX;
	return (uint64_t)st.st_size;
}

/* ---- trimming ------------------------------------------------------------------------------- */

/* Pages of the template are left alone: reading one could mean a page-in. */
static void trim_pte(void *arg, uint64_t va, uint64_t *pte)
{
	struct zap *z = arg;
	const struct frames *f = &z->p->mm->frames;
	uint32_t page;

	if (pte_page(f, *pte, &page) && page >= f->first_fresh && f->refs[page] == 1 &&
	    mem_is_zero(guest_page_ptr(&z->p->vm->mem, page), PAGE_BYTES))
		zap_pte(arg, va, pte);
}

/** A private file page that came in around a fault and was never touched: the file has it still. */
static void trim_ahead_pte(void *arg, uint64_t va, uint64_t *pte)
{
	struct zap *z = arg;
	uint32_t page;

	if (!(*pte & PTE_ACCESSED) && pte_page(&z->p->mm->frames, *pte, &page))
		zap_pte(arg, va, pte);
}

uint64_t mm_trim(struct proc *p)
{
	struct mm *mm = p->mm;
	struct zap z = {.p = p, .kept = {.p = p}};
	uint64_t before = mm->program_pages;

	for (uint32_t i = 0; i < mm->vmas.count; i++) {
		const struct vma *v = &mm->vmas.v[i];

		if (!vma_has_shared_frames(v))
			pt_for_each(p, v->start, v->end, v->file ? trim_ahead_pte : trim_pte, &z);
	}
	flush_end(&z.kept);
	frames_give_back(p);
	mm->ahead_pages = 0;
	return before - mm->program_pages;
}

/* ---- saved state ---------------------------------------------------------------------------- */

static void exec_save(const struct mm_exec *e, struct state_writer *w)
{
	state_put_str(w, e->path);
	state_put_u64(w, e->arg_start);
	state_put_u64(w, e->arg_end);
	state_put_u64(w, e->env_start);
	state_put_u64(w, e->env_end);
	state_put_u64(w, e->vdso);
	state_put_u32(w, e->auxv_words);
	for (uint32_t i = 0; i < e->auxv_words; i++)
		state_put_u64(w, e->auxv[i]);
}

static int exec_load_state(struct mm_exec *e, struct state_reader *r)
{
	state_get_str(r, e->path, sizeof(e->path));
	e->arg_start = state_get_u64(r);
	e->arg_end = state_get_u64(r);
	e->env_start = state_get_u64(r);
	e->env_end = state_get_u64(r);
	e->vdso = state_get_u64(r);
	e->auxv_words = state_get_u32(r);
	if (r->err || e->auxv_words > MM_AUXV_MAX || e->arg_start > e->arg_end ||
	    e->env_start > e->env_end)
		return -EBADMSG;
	for (uint32_t i = 0; i < e->auxv_words; i++)
		e->auxv[i] = state_get_u64(r);
	return r->err;
}

int mm_save(struct proc *p, struct state_writer *w)
{
	struct mm *mm = p->mm;

	/* What is zero need not be in a template: a hole there costs a page-in, an absent page is
	 * one fault for many. */
	mm_trim(p);
	state_put_u32(w, mm->paging.pml4);
	state_put_u32(w, mm->paging.tables);
	state_put_u64(w, mm->program_pages);
	state_put_u64(w, mm->brk_start);
	state_put_u64(w, mm->brk);
	exec_save(&mm->exec, w);
	frames_save(&mm->frames, w);
	return vmas_save(&mm->vmas, w);
}

static int load_fields(struct proc *p, struct state_reader *r)
{
	struct mm *mm = p->mm;
	uint32_t pml4 = state_get_u32(r);
	int ret;

	mm->paging.tables = state_get_u32(r);
	mm->program_pages = state_get_u64(r);
	mm->brk_start = state_get_u64(r);
	mm->brk = state_get_u64(r);
	ret = exec_load_state(&mm->exec, r);
	if (!ret)
		ret = frames_load(&mm->frames, r);
	if (!ret && ram_slots_need(p->vm, (uint32_t)mm_template_pages(p)))
		ret = ram_slots_cover(p->vm, (uint32_t)mm_template_pages(p));
	if (!ret)
		ret = vmas_load(p, &mm->vmas, r);
	if (ret)
		return ret;
	if (pml4 >= mm->frames.total || !mm->frames.refs[pml4] ||
	    mm->program_pages > mm->frames.used || mm->paging.tables > mm->program_pages ||
	    mm->brk < mm->brk_start || mm->brk > GUEST_USER_GVA_MAX)
		return -EBADMSG;
	return paging_load(p, pml4);
}

int mm_load(struct proc *p, struct state_reader *r)
{
	int ret = mm_make(p);

	if (ret)
		return ret;
	ret = load_fields(p, r);
	if (ret)
		mm_free(p);
	return ret;
}
