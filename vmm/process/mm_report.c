/* SPDX-License-Identifier: Apache-2.0 */
/* mm_report.c - the address space as text: /proc/self/maps and lines of fatal reports */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "common/util.h"
#include "vmm/process/mm_internal.h"

/** Column where names start in /proc/PID/maps. */
enum { MAPS_NAME_COLUMN = 73 };

/** What Linux calls a mapping without a file. */
static const char *anonymous_name(const struct mm *mm, const struct vma *v)
{
	if (v->start < align_up(mm->brk, PAGE_BYTES) && v->end > mm->brk_start)
		return "[heap]";
	if (mm->exec.arg_start >= v->start && mm->exec.arg_start < v->end)
		return "[stack]";
	if (mm->exec.vdso >= v->start && mm->exec.vdso < v->end)
		return "[vdso]";
	return "";
}

/** One line of /proc/PID/maps without its end. Return: its length, below @n. */
static size_t print_vma(struct proc *p, const struct vma *v, char *buf, size_t n)
{
	const char *name = v->file ? v->file->path : anonymous_name(p->mm, v);
	struct stat st = {0};
	int used;

	if (v->file && v->file->ops->stat && v->file->ops->stat(p, v->file, &st))
		memset(&st, 0, sizeof(st));
	used = snprintf(buf, n, "%08llx-%08llx %c%c%c%c %08llx %02x:%02x %llu ",
			(unsigned long long)v->start, (unsigned long long)v->end,
			v->prot & PROT_READ ? 'r' : '-', v->prot & PROT_WRITE ? 'w' : '-',
			v->prot & PROT_EXEC ? 'x' : '-', v->flags & VMA_SHARED ? 's' : 'p',
			(unsigned long long)v->offset, major(st.st_dev), minor(st.st_dev),
			(unsigned long long)st.st_ino);
	if (used < 0)
		return 0;
	if (name && *name && (size_t)used < n)
		used += snprintf(buf + used, n - (size_t)used, "%*s%s",
				 used < MAPS_NAME_COLUMN ? MAPS_NAME_COLUMN - used : 0, "", name);
	return MIN((size_t)used, n - 1);
}

size_t mm_print_maps(struct proc *p, char *buf, size_t n)
{
	const struct vma_set *s = &p->mm->vmas;
	size_t used = 0;

	for (uint32_t i = 0; i < s->count && used + 2 < n; i++) {
		used += print_vma(p, &s->v[i], buf + used, n - used - 1);
		buf[used++] = '\n';
	}
	if (n)
		buf[MIN(used, n - 1)] = '\0';
	return used;
}

void mm_describe(struct proc *p, struct gva at, char *buf, size_t n)
{
	const struct vma *v = vma_at(&p->mm->vmas, at.v);

	if (v)
		print_vma(p, v, buf, n);
	else
		snprintf(buf, n, "unmapped");
}

void mm_totals(struct proc *p, uint64_t *ret_mapped, uint64_t *ret_resident)
{
	*ret_mapped = p->mm->vmas.bytes;
	*ret_resident = p->mm->program_pages * PAGE_BYTES;
}

/** struct page_lister - one run of mm_print_pages(). */
struct page_lister {
	struct proc *p;
	FILE *out;
	const struct vma *vma;
};

static void print_page(void *arg, uint64_t va, uint64_t *pte)
{
	struct page_lister *l = arg;
	const char *name;
	uint32_t page;

	if (!pte_page(&l->p->mm->frames, *pte, &page))
		return;
	name = l->vma->file ? l->vma->file->path : anonymous_name(l->p->mm, l->vma);
	fprintf(l->out, "%u %llx %c%c%c %s\n", page, (unsigned long long)va,
		l->vma->prot & PROT_READ ? 'r' : '-', l->vma->prot & PROT_WRITE ? 'w' : '-',
		l->vma->prot & PROT_EXEC ? 'x' : '-', name && *name ? name : "[anonymous]");
}

void mm_print_pages(struct proc *p, FILE *out)
{
	const struct vma_set *s = &p->mm->vmas;

	for (uint32_t i = 0; i < s->count; i++) {
		struct page_lister l = {.p = p, .out = out, .vma = &s->v[i]};

		pt_for_each(p, s->v[i].start, s->v[i].end, print_page, &l);
	}
}
