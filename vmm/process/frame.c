/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.c - hand out the pages of RAM and count their holders
 *
 * Lowest first, so that what is in use stays together at the start of RAM and templates are
 * compact. RAM has two parts. Above the template a free page reads as zero: it was never touched,
 * or its memory went back to the host. It is handed out untouched and costs nothing until the
 * program writes to it. Inside the template giving memory back would bring the template's contents
 * back, so a page is cleared when it is handed out; these pages come second, since touching them
 * may also mean a page-in.
 *
 * Freed pages wait in one run of neighbours, so that an munmap of many pages is few madvise calls.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/log.h"
#include "vmm/process/mm_internal.h"
#include "vmm/ram_slots.h"

int frames_new(struct frames *f, uint64_t ram_pages, uint64_t template_pages)
{
	memset(f, 0, sizeof(*f));
	if (ram_pages > UINT32_MAX - 64 || template_pages > ram_pages)
		return -EINVAL;
	f->total = (uint32_t)ram_pages;
	f->first_fresh = (uint32_t)template_pages;
	f->hint_fresh = f->first_fresh;
	/* Both come from fresh mappings: what is not used is not touched. */
	f->refs = calloc(f->total, sizeof(f->refs[0]));
	f->busy = calloc(f->total / 64 + 1, sizeof(f->busy[0]));
	if (f->refs && f->busy)
		return 0;
	frames_free(f);
	return -ENOMEM;
}

void frames_free(struct frames *f)
{
	free(f->refs);
	free(f->busy);
	memset(f, 0, sizeof(*f));
}

static void busy_set(struct frames *f, uint32_t page)
{
	f->busy[page / 64] |= 1ull << (page % 64);
}

static void busy_clear(struct frames *f, uint32_t page)
{
	f->busy[page / 64] &= ~(1ull << (page % 64));
	if (page >= f->first_fresh)
		f->hint_fresh = MIN(f->hint_fresh, page);
	else
		f->hint_template = MIN(f->hint_template, page);
}

/** Lowest free page in [from, to), or @to. */
static uint32_t find_free(const struct frames *f, uint32_t from, uint32_t to)
{
	uint32_t page = from;

	while (page < to) {
		uint64_t free_bits = ~f->busy[page / 64] & (~0ull << (page % 64));

		if (free_bits) {
			page = page / 64 * 64 + (uint32_t)__builtin_ctzll(free_bits);
			return MIN(page, to);
		}
		page = (page / 64 + 1) * 64;
	}
	return to;
}

void frames_give_back(struct proc *p)
{
	struct frames *f = &p->mm->frames;

	if (!f->run_count)
		return;
	if (madvise(guest_page_ptr(&p->vm->mem, f->run_first), (size_t)f->run_count * PAGE_BYTES,
		    MADV_DONTNEED)) {
		/* Cannot happen on memory of our own; if it does, these pages stay busy for ever,
		 * which is safe. */
		log_warn("mm: cannot give %u pages back: %s", f->run_count, strerror(errno));
		f->run_count = 0;
		return;
	}
	for (uint32_t i = 0; i < f->run_count; i++)
		busy_clear(f, f->run_first + i);
	f->run_count = 0;
}

int frame_alloc(struct proc *p, uint32_t *ret_page)
{
	struct frames *f = &p->mm->frames;
	uint32_t page;

	frames_give_back(p);
	page = find_free(f, f->hint_fresh, f->total);
	f->hint_fresh = page;
	if (page == f->total) {
		page = find_free(f, f->hint_template, f->first_fresh);
		f->hint_template = page;
		if (page == f->first_fresh)
			return -ENOMEM;
		memset(guest_page_ptr(&p->vm->mem, page), 0, PAGE_BYTES);
	}
	if (ram_slots_need(p->vm, page) && ram_slots_cover(p->vm, page))
		return -ENOMEM;
	busy_set(f, page);
	f->refs[page] = 1;
	f->used++;
	*ret_page = page;
	return 0;
}

void frame_ref(struct proc *p, uint32_t page)
{
	struct frames *f = &p->mm->frames;

	if (page >= f->total || !f->refs[page]) /* a hostile snapshot named it */
		return;
	if (f->refs[page] < UINT16_MAX)
		f->refs[page]++;
}

void frame_put(struct proc *p, uint32_t page)
{
	struct frames *f;

	if (!p->mm) /* the guest is being taken apart */
		return;
	f = &p->mm->frames;
	if (page >= f->total || !f->refs[page] || f->refs[page] == UINT16_MAX)
		return;
	if (--f->refs[page])
		return;
	f->used--;
	if (f->run_count && page == f->run_first + f->run_count) {
		f->run_count++;
	} else if (f->run_count && page + 1 == f->run_first) {
		f->run_first = page;
		f->run_count++;
	} else {
		frames_give_back(p);
		f->run_first = page;
		f->run_count = 1;
	}
}

uint64_t mm_resident_pages(const struct proc *p)
{
	return p->mm->frames.used;
}

int mm_for_each_frame(struct proc *p, int (*fn)(void *arg, uint32_t page), void *arg)
{
	const struct frames *f = &p->mm->frames;

	for (uint32_t word = 0; word <= f->total / 64; word++) {
		for (uint64_t bits = f->busy[word]; bits; bits &= bits - 1) {
			uint32_t page = word * 64 + (uint32_t)__builtin_ctzll(bits);
			int ret = f->refs[page] ? fn(arg, page) : 0;

			if (ret)
				return ret;
		}
	}
	return 0;
}

uint64_t mm_template_pages(const struct proc *p)
{
	const struct frames *f = &p->mm->frames;

	for (uint32_t page = f->total; page > 0; page--) {
		if (!f->busy[(page - 1) / 64]) {
			page = (page - 1) / 64 * 64 + 1;
			continue;
		}
		if (f->refs[page - 1])
			return page;
	}
	return 0;
}

/* ---- runs of flushes ------------------------------------------------------------------------- */

void flush_end(struct flush_run *run)
{
	int ret;

	if (!run->count)
		return;
	ret = guest_mem_flush(&run->p->vm->mem, run->first, run->count);
	if (ret)
		proc_finish(run->p, PROC_BROKEN, 0, "cannot flush %u pages of guest memory: %s",
			    run->count, strerror(-ret));
	run->count = 0;
}

void flush_add(struct flush_run *run, uint32_t page)
{
	if (run->count && page == run->first + run->count) {
		run->count++;
		return;
	}
	flush_end(run);
	run->first = page;
	run->count = 1;
}

/* ---- saved state ---------------------------------------------------------------------------- */

/* Runs of {first page, pages, holders of each}, ascending, ended by a run of no pages. */
int frames_save(const struct frames *f, struct state_writer *w)
{
	uint32_t page = 0;

	while (page < f->total) {
		uint32_t end = page + 1;

		if (!f->busy[page / 64]) {
			page = (page / 64 + 1) * 64;
			continue;
		}
		if (!f->refs[page]) {
			page++;
			continue;
		}
		while (end < f->total && f->refs[end] == f->refs[page])
			end++;
		state_put_u32(w, page);
		state_put_u32(w, end - page);
		state_put_u32(w, f->refs[page]);
		page = end;
	}
	for (int i = 0; i < 3; i++)
		state_put_u32(w, 0);
	return w->err;
}

int frames_load(struct frames *f, struct state_reader *r)
{
	uint32_t next = 0;

	for (;;) {
		uint32_t first = state_get_u32(r);
		uint32_t count = state_get_u32(r);
		uint32_t refs = state_get_u32(r);

		if (r->err)
			return r->err;
		if (!count)
			return first || refs ? -EBADMSG : 0;
		if (first < next || first >= f->total || count > f->total - first || !refs ||
		    refs > UINT16_MAX)
			return -EBADMSG;
		for (uint32_t page = first; page < first + count; page++) {
			f->refs[page] = (uint16_t)refs;
			busy_set(f, page);
		}
		f->used += count;
		next = first + count;
	}
}
