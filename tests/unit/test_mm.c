/* SPDX-License-Identifier: Apache-2.0 */
/* test_mm.c - faults, limits, user memory and hostile page tables of an address space */
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "tests/unit/mm_fixture.h"

#define AT 0x20000000ull

enum { PF_READ = 4, PF_WRITE = 6, PF_FETCH = 0x14 }; /* error codes of ring 3 */

static int setup(void **state)
{
	struct fixture *fx = fixture_new(MIB(16));

	assert_int_equal(mm_new(&fx->p), 0);
	*state = fx;
	return 0;
}

static int teardown(void **state)
{
	fixture_free(*state);
	return 0;
}

/** A fault as the CPU would report it. Return: what mm_fault() returns. */
static int touch(struct proc *p, uint64_t at, uint64_t error_code, int *sig, int *code)
{
	*sig = *code = 0;
	return mm_fault(p, (struct gva){at}, error_code, sig, code);
}

static void expect_signal(struct proc *p, uint64_t at, uint64_t error_code, int sig, int code)
{
	int got_sig, got_code;

	assert_int_equal(touch(p, at, error_code, &got_sig, &got_code), 1);
	assert_int_equal(got_sig, sig);
	assert_int_equal(got_code, code);
}

static void expect_resolved(struct proc *p, uint64_t at, uint64_t error_code)
{
	int sig, code;

	assert_int_equal(touch(p, at, error_code, &sig, &code), 0);
	assert_true(mm_is_present(p, at));
}

static void test_fault_signals(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;

	map_anonymous(p, AT, 4);
	assert_int_equal(mm_protect(p, AT + PAGE_BYTES, PAGE_BYTES, PROT_READ), 0);
	assert_int_equal(mm_protect(p, AT + 2ull * PAGE_BYTES, PAGE_BYTES, PROT_NONE), 0);
	expect_resolved(p, AT, PF_WRITE);
	expect_resolved(p, AT + PAGE_BYTES, PF_READ);
	expect_signal(p, AT, PF_FETCH, SIGSEGV, SEGV_ACCERR);
	expect_signal(p, AT + PAGE_BYTES, PF_WRITE, SIGSEGV, SEGV_ACCERR);
	expect_signal(p, AT + 2ull * PAGE_BYTES, PF_READ, SIGSEGV, SEGV_ACCERR);
	expect_signal(p, AT - PAGE_BYTES, PF_READ, SIGSEGV, SEGV_MAPERR);
	expect_signal(p, 0, PF_READ, SIGSEGV, SEGV_MAPERR);
	expect_signal(p, GUEST_SYSTEM_GVA, PF_READ, SIGSEGV, SEGV_MAPERR);
	expect_signal(p, UINT64_MAX, PF_WRITE, SIGSEGV, SEGV_MAPERR);
	/* Found wrong once more although nothing is: no signal, and no endless allocation. */
	expect_resolved(p, AT, PF_WRITE | 1);
}

/* The contents of a page survive its time as PROT_NONE. */
static void test_protect_keeps_contents(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;

	map_anonymous(p, AT, 2);
	assert_int_equal(poke(p, AT, 42), 0);
	assert_int_equal(mm_protect(p, AT, PAGE_BYTES, PROT_NONE), 0);
	assert_int_equal(peek(p, AT), -1);
	assert_int_equal(*pt_find(p, AT) & PTE_PRESENT, 0);
	assert_int_equal(mm_protect(p, AT, PAGE_BYTES, PROT_READ | PROT_EXEC), 0);
	assert_int_equal(peek(p, AT), 42);
	assert_int_equal(poke(p, AT, 1), -EFAULT);
	assert_true(!(*pt_find(p, AT) & PTE_NX));
}

static void test_file_pages(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	struct mem_file m = {.bytes = 20 * PAGE_BYTES + 10};
	struct file *f = file_new(p, &mem_private_ops, O_RDONLY, &m);
	int64_t at;

	m.data = malloc(m.bytes);
	assert_non_null(m.data);
	memset(m.data, 7, m.bytes);
	assert_non_null(f);
	at = mm_map(p, AT, 24 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, f, 0);
	assert_int_equal(at, AT);
	expect_resolved(p, AT + 3ull * PAGE_BYTES, PF_READ);
	assert_true(m.reads > 0 && m.reads <= 2); /* many pages, one read */
	assert_true(mm_is_present(p, AT));
	assert_false(mm_is_present(p, AT + 20ull * PAGE_BYTES));
	/* The last page is zero after the end of the file; the next one is a bus error. */
	assert_int_equal(peek(p, AT + 20ull * PAGE_BYTES + 9), 7);
	assert_int_equal(peek(p, AT + 20ull * PAGE_BYTES + 10), 0);
	expect_signal(p, AT + 21ull * PAGE_BYTES, PF_READ, SIGBUS, BUS_ADRERR);
	assert_int_equal(peek(p, AT + 22ull * PAGE_BYTES), -1);
	/* Writes stay private. */
	assert_int_equal(poke(p, AT, 9), 0);
	assert_int_equal(m.data[0], 7);
	m.error = -EIO;
	assert_int_equal(mm_advise(p, AT, PAGE_BYTES, MADV_DONTNEED), 0);
	expect_signal(p, AT, PF_READ, SIGBUS, BUS_ADRERR);
	m.error = 0;
	assert_int_equal(peek(p, AT), 7);
	file_put(p, f);
	free(m.data);
}

static void test_map_errors(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	struct mem_file m = {.bytes = PAGE_BYTES};
	struct file *ro = file_new(p, &mem_shared_ops, O_RDONLY, &m);
	struct file *wo = file_new(p, &mem_shared_ops, O_WRONLY, &m);
	const int anon = MAP_PRIVATE | MAP_ANONYMOUS, rw = PROT_READ | PROT_WRITE;

	assert_int_equal(mm_map(p, 0, 0, rw, anon, NULL, 0), -EINVAL);
	assert_int_equal(mm_map(p, 0, UINT64_MAX, rw, anon, NULL, 0), -ENOMEM);
	assert_int_equal(mm_map(p, 0, 1ull << 47, rw, anon, NULL, 0), -ENOMEM);
	assert_int_equal(mm_map(p, 0, 4096, rw, MAP_ANONYMOUS, NULL, 0), -EINVAL);
	assert_int_equal(mm_map(p, AT + 1, 4096, rw, anon | MAP_FIXED, NULL, 0), -EINVAL);
	assert_int_equal(mm_map(p, 4096, 4096, rw, anon | MAP_FIXED, NULL, 0), -EPERM);
	assert_int_equal(mm_map(p, GUEST_USER_GVA_MAX, 4096, rw, anon | MAP_FIXED, NULL, 0),
			 -ENOMEM);
	assert_int_equal(mm_map(p, GUEST_SYSTEM_GVA, 4096, rw, anon | MAP_FIXED, NULL, 0), -ENOMEM);
	assert_int_equal(mm_map(p, 0, 4096, rw, anon | MAP_HUGETLB, NULL, 0), -ENOMEM);
	assert_int_equal(mm_map(p, 0, 4096, rw, MAP_SHARED, ro, 0), -EACCES);
	assert_int_equal(mm_map(p, 0, 4096, PROT_READ, MAP_PRIVATE, wo, 0), -EACCES);
	assert_int_equal(mm_map(p, 0, 4096, PROT_READ, MAP_PRIVATE, ro, 5), -EINVAL);
	assert_int_equal(mm_map(p, 0, 4096, PROT_READ, MAP_PRIVATE, ro, 0x7ffffffffffff000),
			 -EOVERFLOW);
	assert_int_equal(mm_map(p, AT, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, ro, 0), AT);
	assert_int_equal(mm_protect(p, AT, 4096, rw), -EACCES);
	assert_int_equal(mm_map(p, AT, 4096, rw, anon | MAP_FIXED_NOREPLACE, NULL, 0), -EEXIST);
	assert_int_equal(mm_unmap(p, AT + 1, 4096), -EINVAL);
	assert_int_equal(mm_unmap(p, AT, 0), -EINVAL);
	assert_int_equal(mm_unmap(p, AT + 65536, 4096), 0);
	assert_int_equal(mm_advise(p, AT, 4096, 99), -EINVAL);
	assert_int_equal(mm_advise(p, AT, 8192, MADV_DONTNEED), -ENOMEM);
	assert_int_equal(mm_advise(p, AT, UINT64_MAX, MADV_DONTNEED), -EINVAL);
	file_put(p, ro);
	file_put(p, wo);
}

/* Reservations of many GiB cost nothing: no frames, and no time either. */
static void test_huge_reservation(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint64_t before = mm_resident_pages(p), bytes = 64ull << 40;
	struct timespec start, end;
	int64_t at;

	clock_gettime(CLOCK_MONOTONIC, &start);
	at = mm_map(p, 0, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, NULL, 0);
	assert_true(at > 0);
	assert_int_equal(
		mm_protect(p, (uint64_t)at + (32ull << 40), GIB(8), PROT_READ | PROT_WRITE), 0);
	assert_int_equal(mm_resident_pages(p), before);
	assert_int_equal(poke(p, (uint64_t)at + (32ull << 40) + 5, 1), 0);
	assert_true(mm_resident_pages(p) - before < 32);
	assert_int_equal(mm_unmap(p, (uint64_t)at, bytes), 0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	assert_true(end.tv_sec - start.tv_sec < 3);
	assert_int_equal(p->mm->program_pages, p->mm->paging.tables);
}

static void test_limit(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint64_t pages = 0, i;
	int sig, code;

	p->memory_bytes = MIB(4);
	map_anonymous(p, AT, 4096);
	/* Zero pages that were only mapped ahead are no reason to end a guest. */
	for (i = 0; i < 64; i++)
		expect_resolved(p, AT + i * 64 * PAGE_BYTES, PF_WRITE);
	assert_int_equal(mm_unmap(p, AT, 4096ull * PAGE_BYTES), 0);
	map_anonymous(p, AT, 4096);
	while (!touch(p, AT + pages * PAGE_BYTES, PF_WRITE, &sig, &code)) {
		assert_int_equal(poke(p, AT + pages * PAGE_BYTES, 1), 0);
		pages++;
	}
	assert_int_equal(touch(p, AT + pages * PAGE_BYTES, PF_WRITE, &sig, &code), -ENOMEM);
	assert_true(pages > 1024 - 40 && pages <= 1024);
	assert_int_equal(p->mm->program_pages, 1024);
	/* A system call that needs a page ends the guest too. */
	assert_int_equal(p->end, PROC_RUNS);
	assert_int_equal(poke(p, AT + pages * PAGE_BYTES, 1), -EFAULT);
	assert_int_equal(p->end, PROC_OUT_OF_MEMORY);
	/* What is given back can be used again. */
	assert_int_equal(mm_advise(p, AT, 10 * PAGE_BYTES, MADV_DONTNEED), 0);
	expect_resolved(p, AT + pages * PAGE_BYTES, PF_WRITE);
}

static void test_trim(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;

	map_anonymous(p, AT, 64);
	expect_resolved(p, AT, PF_WRITE);
	assert_int_equal(poke(p, AT + 2ull * PAGE_BYTES, 3), 0);
	assert_true(mm_is_present(p, AT + PAGE_BYTES));
	assert_true(mm_trim(p) >= 15);
	assert_false(mm_is_present(p, AT + PAGE_BYTES));
	assert_int_equal(peek(p, AT + 2ull * PAGE_BYTES), 3);
	assert_int_equal(peek(p, AT + PAGE_BYTES), 0);
}

/* More than there is: it ends at the limit, and does not take back what it has just brought in. */
static void test_populate_more_than_there_is(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint64_t bytes = MIB(64);

	p->memory_bytes = MIB(4);
	map_anonymous(p, AT, bytes / PAGE_BYTES);
	assert_int_equal(mm_advise(p, AT, bytes, MADV_POPULATE_WRITE), -ENOMEM);
	assert_true(mm_is_present(p, AT));
	assert_int_equal(p->end, PROC_RUNS);
	/* Later touches find room among what is still zero. */
	assert_int_equal(poke(p, AT + bytes - PAGE_BYTES, 1), 0);
}

/* File pages that came in around a fault go if nobody touched them, by CPU or system call. */
static void test_trim_mapped_ahead(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	struct mem_file m = {.bytes = 16 * PAGE_BYTES};
	struct file *f = file_new(p, &mem_private_ops, O_RDONLY, &m);

	m.data = calloc(1, m.bytes);
	assert_non_null(m.data);
	assert_int_equal(mm_map(p, AT, 16 * PAGE_BYTES, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_FIXED, f, 0),
			 AT);
	expect_resolved(p, AT + 5ull * PAGE_BYTES, PF_READ);
	assert_true(mm_is_present(p, AT + 6ull * PAGE_BYTES));
	assert_int_equal(poke(p, AT + 7ull * PAGE_BYTES, 77), 0);
	*pt_find(p, AT + 8ull * PAGE_BYTES) |= PTE_ACCESSED; /* as the CPU does */
	assert_int_equal(mm_protect(p, AT, 16 * PAGE_BYTES, PROT_READ), 0);
	assert_int_equal(mm_trim(p), 13);
	assert_true(mm_is_present(p, AT + 5ull * PAGE_BYTES));
	assert_false(mm_is_present(p, AT + 6ull * PAGE_BYTES));
	assert_true(mm_is_present(p, AT + 7ull * PAGE_BYTES));
	assert_true(mm_is_present(p, AT + 8ull * PAGE_BYTES));
	assert_int_equal(peek(p, AT + 7ull * PAGE_BYTES), 77);
	file_put(p, f);
	free(m.data);
}

static void test_stack(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint64_t top = AT + MIB(64), bottom = top - 4 * PAGE_BYTES;

	assert_int_equal(mm_map(p, bottom, 4 * PAGE_BYTES, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, NULL, 0),
			 bottom);
	expect_resolved(p, bottom - 100 * PAGE_BYTES, PF_WRITE);
	expect_resolved(p, top - MIB(8), PF_WRITE);
	expect_signal(p, top - MIB(8) - 1, PF_WRITE, SIGSEGV, SEGV_MAPERR);
	/* A guard gap is kept to what lies below. */
	assert_int_equal(mm_unmap(p, top - MIB(8), MIB(8) - 4 * PAGE_BYTES), 0);
	map_anonymous(p, top - MIB(4), 1);
	expect_resolved(p, top - MIB(3) + PAGE_BYTES, PF_WRITE);
	expect_signal(p, top - MIB(3) - PAGE_BYTES, PF_WRITE, SIGSEGV, SEGV_MAPERR);
	assert_true(vma_check(&p->mm->vmas));
}

static void test_brk(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;

	mm_set_brk(p, AT);
	assert_int_equal(mm_brk(p, 0), AT);
	assert_int_equal(mm_brk(p, AT + 100), AT + 100);
	assert_int_equal(poke(p, AT + 4095, 1), 0);
	assert_int_equal(peek(p, AT + 4096), -1);
	assert_int_equal(mm_brk(p, AT + 3 * PAGE_BYTES + 1), AT + 3 * PAGE_BYTES + 1);
	assert_int_equal(p->mm->vmas.count, 1);
	assert_int_equal(poke(p, AT + 3ull * PAGE_BYTES, 2), 0);
	map_anonymous(p, AT + 8ull * PAGE_BYTES, 1);
	assert_int_equal(mm_brk(p, AT + 8 * PAGE_BYTES), AT + 3 * PAGE_BYTES + 1);
	assert_int_equal(mm_brk(p, AT + 7 * PAGE_BYTES), AT + 7 * PAGE_BYTES);
	assert_int_equal(mm_brk(p, AT + 1), AT + 1);
	assert_int_equal(peek(p, AT + PAGE_BYTES), -1);
	assert_int_equal(peek(p, AT + 4095), 1);
	assert_int_equal(mm_brk(p, AT - 1), AT + 1);
	assert_int_equal(mm_brk(p, UINT64_MAX), AT + 1);
}

/* Two mappings of one file see each other's writes, keep frames alive, and have one key. */
static void test_shared_file(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	struct mem_file m = {.bytes = 3 * PAGE_BYTES};
	struct file *f = file_new(p, &mem_shared_ops, O_RDWR, &m);
	uint64_t other = AT + MIB(1), before = mm_resident_pages(p);

	assert_int_equal(
		mm_map(p, AT, 4 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, f, 0),
		AT);
	assert_int_equal(
		mm_map(p, other, PAGE_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, f, PAGE_BYTES),
		other);
	assert_int_equal(poke(p, AT + PAGE_BYTES + 8, 0x44), 0);
	assert_int_equal(peek(p, other + 8), 0x44);
	assert_int_equal(mm_user_key(p, AT + PAGE_BYTES + 8), mm_user_key(p, other + 8));
	assert_int_not_equal(mm_user_key(p, AT + 8), mm_user_key(p, other + 8));
	expect_signal(p, AT + 3ull * PAGE_BYTES, PF_READ, SIGBUS, BUS_ADRERR);
	/* DONTNEED and munmap drop the mapping, not the file's page. */
	assert_int_equal(mm_advise(p, AT, 4 * PAGE_BYTES, MADV_DONTNEED), 0);
	assert_int_equal(mm_unmap(p, other, PAGE_BYTES), 0);
	assert_int_equal(peek(p, AT + PAGE_BYTES + 8), 0x44);
	/* A second mapping out of the first (old size 0). */
	other = (uint64_t)mm_remap(p, AT, 0, 2 * PAGE_BYTES, MREMAP_MAYMOVE, 0);
	assert_int_equal(peek(p, other + PAGE_BYTES + 8), 0x44);
	/* Truncated away under the mapping. */
	m.bytes = PAGE_BYTES;
	mm_zap_file(p, &m, PAGE_BYTES, UINT64_MAX);
	expect_signal(p, AT + PAGE_BYTES, PF_READ, SIGBUS, BUS_ADRERR);
	assert_int_equal(mm_unmap(p, AT, 4 * PAGE_BYTES), 0);
	assert_int_equal(mm_unmap(p, other, 2 * PAGE_BYTES), 0);
	assert_int_equal(f->refs, 1);
	assert_int_equal(p->mm->program_pages, p->mm->paging.tables);
	for (size_t i = 0; i < ARRAY_SIZE(m.frames); i++)
		if (m.frames[i])
			frame_put(p, m.frames[i]);
	assert_int_equal(mm_resident_pages(p) - before, p->mm->paging.tables - before);
	file_put(p, f);
}

static void test_user_iov(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	struct iovec iov[4];
	uint32_t *word;
	char text[8];
	int count;

	map_anonymous(p, AT, 8);
	assert_int_equal(mm_user_iov(p, AT + 10, 3 * PAGE_BYTES, true, iov, 4, &count),
			 3 * PAGE_BYTES);
	assert_int_equal(count, 1); /* neighbours were mapped ahead in order */
	/* Cut at the end of the mapping. */
	assert_int_equal(
		mm_user_iov(p, AT + 7ull * PAGE_BYTES, 2 * PAGE_BYTES, false, iov, 4, &count),
		PAGE_BYTES);
	assert_int_equal(mm_user_iov(p, AT + 8ull * PAGE_BYTES, 1, false, iov, 4, &count), -EFAULT);
	assert_int_equal(mm_user_iov(p, AT, 0, false, iov, 4, &count), 0);
	assert_int_equal(mm_user_iov(p, UINT64_MAX, 4, false, iov, 4, &count), -EFAULT);
	/* Pages far apart in RAM need an entry each. */
	assert_int_equal(mm_advise(p, AT + PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED), 0);
	map_anonymous(p, AT + MIB(4), 1);
	assert_int_equal(poke(p, AT + MIB(4), 1), 0);
	assert_int_equal(mm_user_iov(p, AT, 3 * PAGE_BYTES, true, iov, 1, &count), PAGE_BYTES);
	assert_int_equal(count, 1);

	word = mm_user_u32(p, AT + 4, true);
	assert_non_null(word);
	*word = 0x64636261;
	assert_null(mm_user_u32(p, AT + 5, true));
	assert_null(mm_user_u32(p, AT + 8ull * PAGE_BYTES, false));
	assert_int_equal(mm_copy_in_str(p, text, AT + 4, sizeof(text)), 4);
	assert_string_equal(text, "abcd");
	assert_int_equal(mm_copy_in_str(p, text, AT + 4, 4), -ENAMETOOLONG);
	assert_int_equal(mm_copy_in_str(p, text, AT + 8ull * PAGE_BYTES, 4), -EFAULT);
	assert_int_equal(poke(p, AT + 8ull * PAGE_BYTES - 1, 'x'), 0);
	assert_int_equal(mm_copy_in_str(p, text, AT + 8ull * PAGE_BYTES - 1, 4), -EFAULT);
	assert_int_equal(mm_copy_in(p, text, UINT64_MAX - 2, 8), -EFAULT);
	assert_int_equal(mm_copy_out(p, GUEST_SYSTEM_GVA, text, 8), -EFAULT);
}

static void test_vma_limit(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint64_t pages = 2 * VMA_MAX + 10, i;

	/* Every other page gets other rights, until there are too many mappings. */
	map_anonymous(p, AT, pages);
	for (i = 1; i < pages; i += 2)
		if (mm_protect(p, AT + i * PAGE_BYTES, PAGE_BYTES, PROT_READ))
			break;
	assert_true(p->mm->vmas.count >= VMA_MAX - 2 && p->mm->vmas.count <= VMA_MAX);
	assert_int_equal(mm_protect(p, AT + i * PAGE_BYTES, PAGE_BYTES, PROT_READ), -ENOMEM);
	for (i = 0; i < 3; i++)
		mm_map(p, AT - (2 * i + 2) * PAGE_BYTES, PAGE_BYTES, PROT_EXEC,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0);
	assert_int_equal(p->mm->vmas.count, VMA_MAX);
	assert_int_equal(mm_map(p, 0, PAGE_BYTES, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, NULL, 0),
			 -ENOMEM);
	assert_true(vma_check(&p->mm->vmas));
	assert_int_equal(mm_unmap(p, AT - 8ull * PAGE_BYTES, (pages + 8) * PAGE_BYTES), 0);
	assert_int_equal(p->mm->vmas.count, 0);
}

static void test_gaps(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint64_t a = map_anonymous(p, 0, 16), b = map_anonymous(p, 0, 16), c;

	assert_int_equal(a, MMAP_TOP - 16ull * PAGE_BYTES);
	assert_int_equal(b, a - 16ull * PAGE_BYTES); /* downwards, and merged */
	assert_int_equal(p->mm->vmas.count, 1);
	assert_int_equal(mm_unmap(p, a + PAGE_BYTES, 2 * PAGE_BYTES), 0);
	c = map_anonymous(p, 0, 3);
	assert_int_equal(c, b - 3ull * PAGE_BYTES); /* the hole is too small */
	c = map_anonymous(p, 0, 2);
	assert_int_equal(c, a + PAGE_BYTES);
	/* A hint is taken when it is free. */
	assert_int_equal(mm_map(p, AT + 5, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, NULL, 0),
			 AT);
	assert_int_not_equal(mm_map(p, AT, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, NULL, 0),
			     AT);
	c = (uint64_t)mm_map(p, 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, NULL,
			     0);
	assert_true(c >= 0x40000000 && c < 0x80000000);
}

/* ---- hostile page tables -------------------------------------------------------------------- */

static uint64_t *table_at(struct proc *p, uint64_t entry)
{
	return guest_mem_ptr(&p->vm->mem, (struct gpa){entry & PTE_ADDR}, PAGE_BYTES);
}

static const uint64_t hostile_entries[] = {
	PTE_TABLE,			       /* the system slot */
	PTE_TABLE | GUEST_SYSTEM_BYTES,	       /* between the slots */
	PTE_TABLE | (GUEST_RAM_GPA + MIB(16)), /* right after RAM */
	PTE_TABLE | PTE_ADDR,		       /* the highest address */
	PTE_TABLE | GUEST_RAM_GPA | 1 << 7,    /* a large page */
	PTE_PRESENT,
	~0ull,
};

/* Wherever a table points out of RAM, nothing is reached, and the vmm goes on. */
static void test_hostile_upper_levels(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;

	map_anonymous(p, AT, 64);
	for (int level = 4; level > 1; level--) {
		for (size_t i = 0; i < ARRAY_SIZE(hostile_entries); i++) {
			uint64_t *table = guest_page_ptr(&p->vm->mem, p->mm->paging.pml4);
			uint64_t *entry;

			assert_int_equal(poke(p, AT, 1), 0);
			for (int l = 4; l > level; l--)
				table = table_at(p, table[AT >> (12 + 9 * (l - 1)) & 511]);
			entry = &table[AT >> (12 + 9 * (level - 1)) & 511];
			*entry = hostile_entries[i];
			memset(p->mm->paging.cache, 0xff, sizeof(p->mm->paging.cache));
			assert_null(pt_find(p, AT));
			assert_false(mm_is_present(p, AT));
			/* A touch builds new tables over it. */
			assert_int_equal(peek(p, AT), 0);
			assert_int_equal(mm_advise(p, AT, 64ull * PAGE_BYTES, MADV_DONTNEED), 0);
		}
	}
}

static void test_hostile_leaves(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;

	map_anonymous(p, AT, 64);
	for (size_t i = 0; i < ARRAY_SIZE(hostile_entries); i++) {
		for (int held = 0; held < 2; held++) {
			uint64_t entry = hostile_entries[i] | (held ? PTE_HELD : 0);

			assert_int_equal(poke(p, AT, 1), 0);
			if ((entry & PTE_ADDR) == GUEST_RAM_GPA)
				continue; /* a frame of RAM is reachable, and is RAM */
			*pt_find(p, AT) = entry;
			assert_int_equal(peek(p, AT), 0);
			*pt_find(p, AT) = entry;
			assert_int_equal(mm_protect(p, AT, PAGE_BYTES, PROT_READ), 0);
			assert_int_equal(mm_protect(p, AT, PAGE_BYTES, PROT_READ | PROT_WRITE), 0);
			*pt_find(p, AT) = entry;
			assert_int_equal(mm_remap(p, AT, PAGE_BYTES, PAGE_BYTES,
						  MREMAP_MAYMOVE | MREMAP_FIXED, AT + MIB(32)),
					 AT + MIB(32));
			assert_int_equal(mm_unmap(p, AT + MIB(32), PAGE_BYTES), 0);
			map_anonymous(p, AT, 1);
			*pt_find(p, AT) = entry;
			assert_int_equal(mm_advise(p, AT, PAGE_BYTES, MADV_DONTNEED), 0);
			assert_int_equal(*pt_find(p, AT), 0);
		}
	}
}

/* Tables that lead back to themselves: a walk ends after four levels. */
static void test_hostile_loop(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	uint64_t *root = guest_page_ptr(&p->vm->mem, p->mm->paging.pml4);

	map_anonymous(p, AT, 4);
	root[0] = guest_page_gpa(p->mm->paging.pml4).v | PTE_TABLE;
	memset(p->mm->paging.cache, 0xff, sizeof(p->mm->paging.cache));
	peek(p, AT);
	poke(p, AT, 1);
	mm_unmap(p, AT, 4 * PAGE_BYTES);
}

/* Random bytes as saved state: refused, and nothing is left behind. */
static void test_hostile_saved_state(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	struct state_writer w = {0};

	map_anonymous(p, AT, 4);
	map_anonymous(p, AT + MIB(1), 4);
	assert_int_equal(poke(p, AT, 1), 0);
	assert_int_equal(mm_save(p, &w), 0);
	mm_free(p);
	for (size_t i = 0; i < w.used; i++) {
		for (int bit = 0; bit < 8; bit++) {
			struct state_reader r = {w.data, w.used, 0};

			w.data[i] ^= (uint8_t)(1 << bit);
			if (!mm_load(p, &r)) {
				peek(p, AT);
				poke(p, AT + MIB(1), 3);
				mm_unmap(p, AT, MIB(2));
				mm_free(p);
			}
			assert_null(p->mm);
			w.data[i] ^= (uint8_t)(1 << bit);
		}
	}
	for (size_t n = 0; n < w.used; n++) {
		struct state_reader r = {w.data, n, 0};

		assert_int_equal(mm_load(p, &r), -EBADMSG);
	}
	state_writer_free(&w);
}

static void test_reports(void **state)
{
	struct fixture *fx = *state;
	struct proc *p = &fx->p;
	struct mem_file m = {.bytes = PAGE_BYTES};
	struct file *f = file_new(p, &mem_private_ops, O_RDONLY, &m);
	char text[1024], small[40];

	f->path = strdup("/usr/lib/libm.so");
	mm_set_brk(p, AT + MIB(1));
	mm_brk(p, AT + MIB(1) + PAGE_BYTES);
	mm_map(p, AT, PAGE_BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, f, 0);
	mm_print_maps(p, text, sizeof(text));
	assert_string_equal(text, "20000000-20001000 r-xp 00000000 00:00 0 "
				  "                                 /usr/lib/libm.so\n"
				  "20100000-20101000 rw-p 00000000 00:00 0 "
				  "                                 [heap]\n");
	assert_true(mm_print_maps(p, small, sizeof(small)) < sizeof(small));
	mm_describe(p, (struct gva){AT - 1}, text, sizeof(text));
	assert_string_equal(text, "unmapped");
	file_put(p, f);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_fault_signals),
		TEST(test_protect_keeps_contents),
		TEST(test_file_pages),
		TEST(test_map_errors),
		TEST(test_huge_reservation),
		TEST(test_limit),
		TEST(test_trim),
		TEST(test_trim_mapped_ahead),
		TEST(test_populate_more_than_there_is),
		TEST(test_stack),
		TEST(test_brk),
		TEST(test_shared_file),
		TEST(test_user_iov),
		TEST(test_vma_limit),
		TEST(test_gaps),
		TEST(test_hostile_upper_levels),
		TEST(test_hostile_leaves),
		TEST(test_hostile_loop),
		TEST(test_hostile_saved_state),
		TEST(test_reports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
