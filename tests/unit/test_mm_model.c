/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mm_model.c - random operations on an address space against a plain model of it
 *
 * The model is one record per page of a small window. After every operation the set of VMAs must
 * hold its invariants, and every page must read as the model says.
 */
#include <stdio.h>

#include "tests/unit/mm_fixture.h"
#include "vmm/process/file_table.h"

enum { WINDOW_PAGES = 96, FILE_PAGES = 40, STEPS = 4000 };
#define WINDOW 0x10000000ull

/** struct model_page - what Linux would say about one page. */
struct model_page {
	bool mapped;
	int prot;
	bool file;
	uint64_t offset; /**< of the file */
	bool written;
	uint8_t value; /**< first byte, if written */
};

struct model {
	struct fixture *fx;
	struct file *file;
	struct mem_file contents;
	struct model_page pages[WINDOW_PAGES];
};

static uint64_t at_page(unsigned i)
{
	return WINDOW + (uint64_t)i * PAGE_BYTES;
}

/** First byte of a page, or -1. */
static int expected(const struct model *m, unsigned i)
{
	const struct model_page *page = &m->pages[i];

	if (!page->mapped || !page->prot)
		return -1;
	if (page->written)
		return page->value;
	if (!page->file)
		return 0;
	return page->offset < m->contents.bytes ? m->contents.data[page->offset] : -1;
}

/** Entries that hold frames, all with the rights of their VMA. */
static void count_pte(void *arg, uint64_t va, uint64_t *pte)
{
	struct model *m = arg;
	const struct vma *v = vma_at(&m->fx->p.mm->vmas, va);
	uint32_t page = 0;

	assert_non_null(v);
	assert_true(pte_page(&m->fx->p.mm->frames, *pte, &page));
	assert_true((*pte | PTE_ACCESSED) == pte_make(page, v->prot));
	assert_int_equal(m->fx->p.mm->frames.refs[page], 1);
	m->contents.frames[0]++; /* not used otherwise here */
}

static void check(struct model *m)
{
	struct mm *mm = m->fx->p.mm;
	uint64_t mapped = 0;

	assert_true(vma_check(&mm->vmas));
	m->contents.frames[0] = 0;
	pt_for_each(&m->fx->p, WINDOW, at_page(WINDOW_PAGES), count_pte, m);
	assert_int_equal(mm->program_pages, m->contents.frames[0] + mm->paging.tables);
	assert_int_equal(mm->program_pages, mm->frames.used);
	for (unsigned i = 0; i < WINDOW_PAGES; i++) {
		const struct vma *v = vma_at(&mm->vmas, at_page(i));

		assert_int_equal(v != NULL, m->pages[i].mapped);
		mapped += m->pages[i].mapped;
		if (!v)
			continue;
		assert_int_equal(v->prot, m->pages[i].prot);
		assert_int_equal(v->file != NULL, m->pages[i].file);
		if (v->file)
			assert_int_equal(v->offset + (at_page(i) - v->start), m->pages[i].offset);
	}
	assert_int_equal(mm->vmas.bytes, mapped * PAGE_BYTES);
}

static void check_contents(struct model *m)
{
	for (unsigned i = 0; i < WINDOW_PAGES; i++)
		assert_int_equal(peek(&m->fx->p, at_page(i)), expected(m, i));
}

static int random_prot(void)
{
	static const int prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE,
				    PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC};

	return prots[(size_t)random() % ARRAY_SIZE(prots)];
}

static void random_range(unsigned *first, unsigned *n)
{
	*first = (unsigned)random() % WINDOW_PAGES;
	*n = 1 + (unsigned)random() % MIN(WINDOW_PAGES - *first, 12u);
}

static void do_map(struct model *m)
{
	bool file = random() % 2;
	int prot = random_prot();
	uint64_t offset = (uint64_t)((unsigned)random() % FILE_PAGES) * PAGE_BYTES;
	unsigned first, n;
	int64_t ret;

	random_range(&first, &n);
	ret = mm_map(&m->fx->p, at_page(first), (uint64_t)n * PAGE_BYTES, prot,
		     MAP_PRIVATE | MAP_FIXED | (file ? 0 : MAP_ANONYMOUS), file ? m->file : NULL,
		     file ? offset : 0);
	assert_int_equal(ret, at_page(first));
	for (unsigned i = 0; i < n; i++)
		m->pages[first + i] = (struct model_page){
			.mapped = true,
			.prot = prot,
			.file = file,
			.offset = offset + (uint64_t)i * PAGE_BYTES,
		};
}

static void do_unmap(struct model *m)
{
	unsigned first, n;

	random_range(&first, &n);
	assert_int_equal(mm_unmap(&m->fx->p, at_page(first), (uint64_t)n * PAGE_BYTES), 0);
	memset(&m->pages[first], 0, n * sizeof(m->pages[0]));
}

static void do_protect(struct model *m)
{
	int prot = random_prot();
	unsigned first, n, i;
	int ret;

	random_range(&first, &n);
	ret = mm_protect(&m->fx->p, at_page(first), (uint64_t)n * PAGE_BYTES, prot);
	for (i = 0; i < n && m->pages[first + i].mapped; i++)
		m->pages[first + i].prot = prot;
	assert_int_equal(ret, i < n ? -ENOMEM : 0);
}

static void do_write(struct model *m)
{
	unsigned i = (unsigned)random() % WINDOW_PAGES;
	struct model_page *page = &m->pages[i];
	uint8_t value = (uint8_t)random();
	bool past_end = page->file && !page->written && page->offset >= m->contents.bytes;
	int ret = poke(&m->fx->p, at_page(i), value);

	if (!page->mapped || !(page->prot & PROT_WRITE) || past_end) {
		assert_int_equal(ret, -EFAULT);
		return;
	}
	assert_int_equal(ret, 0);
	page->written = true;
	page->value = value;
}

static void do_advise(struct model *m)
{
	unsigned first, n;
	bool gap = false;
	int ret;

	random_range(&first, &n);
	ret = mm_advise(&m->fx->p, at_page(first), (uint64_t)n * PAGE_BYTES, MADV_DONTNEED);
	for (unsigned i = first; i < first + n; i++) {
		gap |= !m->pages[i].mapped;
		m->pages[i].written = false;
	}
	assert_int_equal(ret, gap ? -ENOMEM : 0);
}

/** Is [first, first + n) one VMA's in Linux' eyes: the same mapping all along? */
static bool one_mapping(const struct model *m, unsigned first, unsigned n)
{
	const struct vma *v = vma_at(&m->fx->p.mm->vmas, at_page(first));

	return v && v->end >= at_page(first + n);
}

static void do_remap(struct model *m)
{
	struct model_page moved[WINDOW_PAGES];
	unsigned from, to, n, new_n;
	bool overlap, one;
	int64_t ret;

	random_range(&from, &n);
	random_range(&to, &new_n);
	overlap = from < to + new_n && to < from + n;
	one = one_mapping(m, from, n);
	ret = mm_remap(&m->fx->p, at_page(from), (uint64_t)n * PAGE_BYTES,
		       (uint64_t)new_n * PAGE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, at_page(to));
	if (overlap || !one) {
		assert_int_equal(ret, overlap ? -EINVAL : -EFAULT);
		return;
	}
	assert_int_equal(ret, at_page(to));
	memcpy(moved, &m->pages[from], n * sizeof(moved[0]));
	memset(&m->pages[from], 0, n * sizeof(moved[0]));
	for (unsigned i = 0; i < new_n; i++) {
		m->pages[to + i] = moved[MIN(i, n - 1)];
		if (i < n)
			continue;
		m->pages[to + i].written = false;
		m->pages[to + i].offset += (uint64_t)(i - n + 1) * PAGE_BYTES;
	}
}

/** In place: shrink, or grow into a gap. */
static void do_resize(struct model *m)
{
	unsigned first, n, new_n, i;
	bool free_after = true, ends;
	const struct vma *v;
	int64_t ret;

	random_range(&first, &n);
	new_n = 1 + (unsigned)random() % MIN(WINDOW_PAGES - first, 12u);
	v = vma_at(&m->fx->p.mm->vmas, at_page(first));
	ends = v && v->end == at_page(first + n);
	for (i = n; i < new_n; i++)
		free_after &= !m->pages[first + i].mapped;
	ret = mm_remap(&m->fx->p, at_page(first), (uint64_t)n * PAGE_BYTES,
		       (uint64_t)new_n * PAGE_BYTES, 0, 0);
	if (!v) {
		assert_int_equal(ret, -EFAULT);
	} else if (new_n <= n) {
		assert_int_equal(ret, at_page(first));
		memset(&m->pages[first + new_n], 0, (n - new_n) * sizeof(m->pages[0]));
	} else if (!ends || !free_after) {
		assert_true(ret == -ENOMEM || ret == -EFAULT);
	} else {
		assert_int_equal(ret, at_page(first));
		for (i = n; i < new_n; i++) {
			m->pages[first + i] = m->pages[first + n - 1];
			m->pages[first + i].written = false;
			m->pages[first + i].offset += (uint64_t)(i - n + 1) * PAGE_BYTES;
		}
	}
}

/** Saved and loaded into the same memory, everything is as it was. */
static void do_save_load(struct model *m)
{
	struct proc *p = &m->fx->p;
	struct state_writer w = {0};
	struct state_reader r;

	m->file->id = 0;
	p->files->by_id = calloc(1, sizeof(struct file *));
	assert_non_null(p->files->by_id);
	p->files->by_id[0] = m->file;
	p->files->by_id_count = 1;
	assert_int_equal(mm_save(p, &w), 0);
	mm_free(p);
	r = (struct state_reader){w.data, w.used, 0};
	assert_int_equal(mm_load(p, &r), 0);
	assert_int_equal(r.left, 0);
	state_writer_free(&w);
	free(p->files->by_id);
	p->files->by_id = NULL;
	p->files->by_id_count = 0;
}

static void run_model(unsigned seed)
{
	static void (*const operations[])(struct model *) = {
		do_map,	  do_map,   do_unmap, do_protect, do_protect, do_write,
		do_write, do_write, do_write, do_advise,  do_remap,   do_resize,
	};
	struct model m = {.fx = fixture_new(MIB(8))};

	srandom(seed);
	assert_int_equal(mm_new(&m.fx->p), 0);
	m.contents.bytes = 30 * PAGE_BYTES + 100;
	m.contents.data = malloc(m.contents.bytes);
	assert_non_null(m.contents.data);
	for (size_t i = 0; i < m.contents.bytes; i++)
		m.contents.data[i] = (uint8_t)(i / PAGE_BYTES + 1);
	m.file = file_new(&m.fx->p, &mem_private_ops, O_RDONLY, &m.contents);
	assert_non_null(m.file);
	for (int step = 0; step < STEPS; step++) {
		operations[(size_t)random() % ARRAY_SIZE(operations)](&m);
		check(&m);
		if (step % 16 == 0)
			check_contents(&m);
		if (step % 512 == 511)
			do_save_load(&m);
	}
	check_contents(&m);
	/* Every reference was dropped when its VMA went. */
	assert_int_equal(mm_unmap(&m.fx->p, WINDOW, (uint64_t)WINDOW_PAGES * PAGE_BYTES), 0);
	assert_int_equal(m.file->refs, 1);
	assert_int_equal(m.fx->p.mm->vmas.count, 0);
	file_put(&m.fx->p, m.file);
	fixture_free(m.fx);
	free(m.contents.data);
}

static void test_random_operations(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 5; seed++)
		run_model(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_operations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
