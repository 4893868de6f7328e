/* SPDX-License-Identifier: Apache-2.0 */
/* syscall_mem.c - system calls on the address space */
#include <errno.h>
#include <linux/membarrier.h>
#include <stddef.h>
#include <sys/mman.h>

#include "common/util.h"
#include "vmm/process/file.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/syscall.h"

static int64_t sys_mmap(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct file *file = NULL;
	int flags = (int)a[3];

	(void)t;
	if (a[5] % PAGE_BYTES)
		return -EINVAL;
	if (!(flags & MAP_ANONYMOUS)) {
		file = fd_get(p, (int)a[4]);
		if (!file)
			return -EBADF;
	}
	return mm_map(p, a[0], a[1], (int)a[2], flags, file, file ? a[5] : 0);
}

static int64_t sys_munmap(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return mm_unmap(p, a[0], a[1]);
}

static int64_t sys_mprotect(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	/* Only stacks take these; for a range that is given whole they change nothing. */
	return mm_protect(p, a[0], a[1], (int)a[2] & ~(PROT_GROWSDOWN | PROT_GROWSUP));
}

static int64_t sys_pkey_mprotect(struct proc *p, struct task *t, const uint64_t a[6])
{
	if ((int)a[3] != -1) /* there are no protection keys */
		return -EINVAL;
	return sys_mprotect(p, t, a);
}

static int64_t sys_brk(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return (int64_t)mm_brk(p, a[0]);
}

static int64_t sys_mremap(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return mm_remap(p, a[0], a[1], a[2], (int)a[3], a[4]);
}

static int64_t sys_madvise(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return mm_advise(p, a[0], a[1], (int)a[2]);
}

static int64_t sys_mincore(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t pages = pages_of(a[1]);

	(void)t;
	if (a[0] % PAGE_BYTES)
		return -EINVAL;
	if (!mm_mapped(p, a[0], a[1]))
		return -ENOMEM;
	for (uint64_t done = 0; done < pages;) {
		uint8_t vec[512];
		uint64_t part = MIN(pages - done, (uint64_t)sizeof(vec));

		for (uint64_t i = 0; i < part; i++)
			vec[i] = mm_is_present(p, a[0] + (done + i) * PAGE_BYTES);
		if (mm_copy_out(p, a[2] + done, vec, part))
			return -EFAULT;
		done += part;
	}
	return 0;
}

static int64_t sys_msync(struct proc *p, struct task *t, const uint64_t a[6])
{
	int flags = (int)a[2];

	(void)t;
	if (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) || a[0] % PAGE_BYTES ||
	    (flags & MS_ASYNC && flags & MS_SYNC))
		return -EINVAL;
	/* Shared pages are those of the file: there is nothing to write back. */
	return !a[1] || mm_mapped(p, a[0], a[1]) ? 0 : -ENOMEM;
}

/* Pages are never swapped by the vmm: all are as good as locked. */
static int64_t sys_mlock(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return !a[1] || mm_mapped(p, a[0], a[1]) ? 0 : -ENOMEM;
}

static int64_t sys_mlock2(struct proc *p, struct task *t, const uint64_t a[6])
{
	if (a[2] & ~1ull) /* MLOCK_ONFAULT */
		return -EINVAL;
	return sys_mlock(p, t, a);
}

static int64_t sys_mlockall(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t;
	return !a[0] || a[0] & ~7ull || a[0] == MCL_ONFAULT ? -EINVAL : 0;
}

static int64_t sys_munlockall(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	return 0;
}

/* All threads take turns on one vCPU, and a switch is a full barrier: nothing is left to do. */
static int64_t sys_membarrier(struct proc *p, struct task *t, const uint64_t a[6])
{
	static const int known = MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_GLOBAL_EXPEDITED |
				 MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED |
				 MEMBARRIER_CMD_PRIVATE_EXPEDITED |
				 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED |
				 MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE |
				 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE;
	int command = (int)a[0];

	(void)p, (void)t;
	if (a[1])
		return -EINVAL;
	if (command == MEMBARRIER_CMD_QUERY)
		return known;
	return command & known && !(command & (command - 1)) ? 0 : -EINVAL;
}

const struct syscall_entry syscalls_mem[] = {
	SYSCALL_ENTRY(mmap, sys_mmap),
	SYSCALL_ENTRY(munmap, sys_munmap),
	SYSCALL_ENTRY(mprotect, sys_mprotect),
	SYSCALL_ENTRY(pkey_mprotect, sys_pkey_mprotect),
	SYSCALL_ENTRY(brk, sys_brk),
	SYSCALL_ENTRY(mremap, sys_mremap),
	SYSCALL_ENTRY(madvise, sys_madvise),
	SYSCALL_ENTRY(mincore, sys_mincore),
	SYSCALL_ENTRY(msync, sys_msync),
	SYSCALL_ENTRY(mlock, sys_mlock),
	SYSCALL_ENTRY(mlock2, sys_mlock2),
	SYSCALL_ENTRY(munlock, sys_mlock),
	SYSCALL_ENTRY(mlockall, sys_mlockall),
	SYSCALL_ENTRY(munlockall, sys_munlockall),
	SYSCALL_ENTRY(membarrier, sys_membarrier),
	{0},
};
