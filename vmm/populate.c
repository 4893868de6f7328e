/* SPDX-License-Identifier: Apache-2.0 */
/*
 * populate.c - bring a working set in while the guest already runs
 *
 * Theory of operation
 *
 * A page that was only read is mapped from the template; one that was written is copied ahead. Both
 * spare the guest a fault that leaves the vCPU. A helper thread does it on another CPU while the
 * guest already runs, those that were written first: once a page is mapped for reading, copying it
 * means flushing it from the guest's CPU. Where the guest is faster, its own fault does the work.
 *
 * Where a fault of the guest costs a multiple of a copy (vm.h), the vCPU's thread takes part in the
 * copies before it enters the guest: such a flush is an exit there, as dear as a fault.
 *
 * A kernel guest's vCPU also waits for the copies, and then has KVM map all of the working set,
 * where KVM can: then no first touch leaves the guest. Pages that are still to be read it waits
 * for.
 *
 * The kernel maps what is there of the 64 KiB around a read fault in one go, so one read in each
 * such window is enough.
 *
 * Invariants
 *  1. Advice never changes what a page holds: it cannot race with the guest in a way that matters.
 *  2. Work is handed over once in a process's life, through a futex word: 0 none, 1 there.
 *  3. A run belongs to who counted @next past it; those that are only read to the helper thread.
 */
#include "vmm/populate.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/kvm_pre_fault.h"
#include "common/log.h"
#include "common/thread.h"
#include "common/util.h"
#include "vmm/guest_mem.h"

enum {
	WINDOW_PAGES = 16, /* fault_around_bytes */
	WINDOWS_MAX = 16384,
	STACK_BYTES = 65536,
};

/** struct job - what the thread works on. */
struct job {
	const struct guest_mem *mem;
	const struct proto_populate *runs;
	uint32_t count;
	uint32_t copies; /**< the first so many are to be copied */
	_Atomic uint32_t next;
};

static struct job job;
static _Atomic uint32_t work;

/** One bit for each window of the template that a read has mapped. Beyond its end: no shortcut. */
static uint8_t windows[WINDOWS_MAX / 8];

/** Note a read of @page. Return: false when its window was read before. */
static bool window_first(uint64_t page)
{
	uint64_t window = page / WINDOW_PAGES;
	uint8_t bit = (uint8_t)(1u << window % 8);

	if (window >= WINDOWS_MAX)
		return true;
	if (windows[window / 8] & bit)
		return false;
	windows[window / 8] |= bit;
	return true;
}

static void advise(const struct guest_mem *mem, uint64_t page, uint64_t count, int advice)
{
	if (madvise(guest_page_ptr(mem, (uint32_t)page), count * PAGE_BYTES, advice) < 0)
		log_debug("populate: %llu pages at %llu: %s", (unsigned long long)count,
			  (unsigned long long)page, strerror(errno));
}

static void run_one(const struct guest_mem *mem, const struct proto_populate *run)
{
	uint64_t count = run->count_flags & ~PROTO_POPULATE_WRITE, page = run->page;

	if (run->count_flags & PROTO_POPULATE_WRITE) {
		advise(mem, page, count, MADV_POPULATE_WRITE);
		return;
	}
	for (uint64_t end = page + count; page < end;
	     page = align_down(page, WINDOW_PAGES) + WINDOW_PAGES)
		if (window_first(page))
			advise(mem, page, 1, MADV_POPULATE_READ);
}

static int check(const struct guest_mem *mem, const struct proto_populate *runs, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t pages = runs[i].count_flags & ~PROTO_POPULATE_WRITE;

		if (runs[i].page > mem->template_pages ||
		    pages > mem->template_pages - runs[i].page)
			return -EBADMSG;
	}
	return 0;
}

int populate_start(const struct guest_mem *mem, const struct proto_populate *runs, uint32_t count)
{
	int ret = check(mem, runs, count);

	if (ret || !count)
		return ret;
	job.mem = mem;
	job.runs = runs;
	job.count = count;
	while (job.copies < count && runs[job.copies].count_flags & PROTO_POPULATE_WRITE)
		job.copies++;
	/* Pairs with the acquire in the thread: it sees the job. */
	atomic_store_explicit(&work, 1, memory_order_release);
	syscall(SYS_futex, &work, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	return 0;
}

/** Take runs below @end, one after the other, as the other thread does, too. */
static void work_on(uint32_t end)
{
	uint32_t i = atomic_load_explicit(&job.next, memory_order_relaxed);

	while (i < end) {
		if (!atomic_compare_exchange_weak_explicit(
			    &job.next, &i, i + 1, memory_order_relaxed, memory_order_relaxed))
			continue;
		run_one(job.mem, &job.runs[i]);
		i = atomic_load_explicit(&job.next, memory_order_relaxed);
	}
}

void populate_help(void)
{
	work_on(job.copies);
}

/** Return: false where there is no use in going on. */
static bool map_run(int vcpu_fd, const struct proto_populate *run)
{
	uint64_t count = run->count_flags & ~PROTO_POPULATE_WRITE;
	struct kvm_pre_fault_memory range = {
		.gpa = job.mem->ram_gpa + (uint64_t)run->page * PAGE_BYTES,
		.size = count * PAGE_BYTES,
	};

	while (range.size)
		if (ioctl(vcpu_fd, KVM_PRE_FAULT_MEMORY, &range))
			return false;
	return true;
}

void populate_map(int vcpu_fd)
{
	for (uint32_t i = 0; i < job.count && map_run(vcpu_fd, &job.runs[i]); i++)
		;
}

static void *thread_main(void *arg)
{
	(void)arg;
	while (!atomic_load_explicit(&work, memory_order_acquire))
		syscall(SYS_futex, &work, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	work_on(job.count);
	return NULL;
}

int populate_init(void)
{
	return thread_start_small(STACK_BYTES, thread_main, NULL);
}
