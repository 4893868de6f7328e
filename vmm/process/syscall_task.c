/* SPDX-License-Identifier: Apache-2.0 */
/* syscall_task.c - system calls of threads: clone, exit, futex, scheduling */
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/process/futex.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/sched.h"
#include "vmm/process/signal_internal.h"
#include "vmm/process/syscall.h"

/* ARCH_* of asm/prctl.h, which clashes with libc's headers. */
enum { ARCH_SET_GS = 0x1001, ARCH_SET_FS, ARCH_GET_FS, ARCH_GET_GS };

#define USER_END (1ull << 47)

/* What makes a thread; a process of its own would lack some of them. */
#define CLONE_THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)

/** struct thread_spec - clone and clone3 have the same things in different places. */
struct thread_spec {
	uint64_t flags, stack_top, tls, parent_tid, child_tid;
};

static void refuse_process(const char *call)
{
	static bool told;

	if (!told)
		log_warn("guest: %s refused: a guest is one process, it can start threads but no "
			 "programs",
			 call);
	told = true;
}

static int64_t new_thread(struct proc *p, struct task *t, const struct thread_spec *spec)
{
	struct user_state *u = &t->user;
	struct task *child;
	uint32_t tid;

	if ((spec->flags & CLONE_THREAD_FLAGS) != CLONE_THREAD_FLAGS) {
		refuse_process("fork or clone");
		return -ENOSYS;
	}
	if ((spec->flags & CLONE_SETTLS) && spec->tls >= USER_END)
		return -EPERM;
	/* The child starts with the caller's registers, FPU included. */
	if (sched_park(p))
		return -EIO;
	child = task_new(p, u);
	if (!child)
		return -EAGAIN;
	tid = (uint32_t)child->tid;
	child->user.regs.rax = 0;
	if (spec->stack_top)
		child->user.regs.rsp = spec->stack_top;
	if (spec->flags & CLONE_SETTLS)
		child->user.fs_base = spec->tls;
	child->signal_mask = t->signal_mask;
	memcpy(child->name, t->name, sizeof(child->name));
	if (spec->flags & CLONE_CHILD_CLEARTID)
		child->clear_child_tid = spec->child_tid;
	if (spec->flags & CLONE_CHILD_SETTID)
		mm_copy_out(p, spec->child_tid, &tid, sizeof(tid));
	if (spec->flags & CLONE_PARENT_SETTID)
		mm_copy_out(p, spec->parent_tid, &tid, sizeof(tid));
	return tid;
}

static int64_t sys_clone(struct proc *p, struct task *t, const uint64_t a[6])
{
	const struct thread_spec spec = {
		.flags = a[0],
		.stack_top = a[1],
		.parent_tid = a[2],
		.child_tid = a[3],
		.tls = a[4],
	};

	return new_thread(p, t, &spec);
}

static int64_t sys_clone3(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct clone_args args = {0};
	struct thread_spec spec;

	if (a[1] < CLONE_ARGS_SIZE_VER0)
		return -EINVAL;
	if (a[1] > PAGE_BYTES)
		return -E2BIG;
	if (mm_copy_in(p, &args, a[0], MIN(a[1], sizeof(args))))
		return -EFAULT;
	if ((args.stack != 0) != (args.stack_size != 0))
		return -EINVAL;
	spec = (struct thread_spec){
		.flags = args.flags,
		.stack_top = args.stack + args.stack_size,
		.tls = args.tls,
		.parent_tid = args.parent_tid,
		.child_tid = args.child_tid,
	};
	return new_thread(p, t, &spec);
}

static int64_t sys_fork(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	refuse_process("fork");
	return -ENOSYS;
}

static int64_t sys_exec(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	refuse_process("exec");
	return -ENOSYS;
}

static int64_t sys_wait(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	return -ECHILD;
}

static int64_t sys_exit(struct proc *p, struct task *t, const uint64_t a[6])
{
	task_exit(p, t, (int)a[0] & 0xff);
	return SYS_NO_RESULT;
}

static int64_t sys_exit_group(struct proc *p, struct task *t, const uint64_t a[6])
{
	int status = (int)a[0] & 0xff;

	(void)t;
	proc_finish(p, PROC_EXITED, status, "exit status %d", status);
	return SYS_NO_RESULT;
}

static int64_t sys_gettid(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)a;
	return t->tid;
}

static int64_t sys_getpid(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	return GUEST_PID;
}

static int64_t sys_getppid(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	return GUEST_PPID;
}

/** getpgid, getsid: the guest leads its own group and session. */
static int64_t sys_getpgid(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return !a[0] || task_by_tid(p, (int)a[0]) ? GUEST_PID : -ESRCH;
}

static int64_t sys_setpgid(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t;
	return (!a[0] || a[0] == GUEST_PID) && (!a[1] || a[1] == GUEST_PID) ? 0 : -EPERM;
}

static int64_t sys_setsid(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	return -EPERM; /* a group leader cannot */
}

static int64_t sys_set_tid_address(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p;
	t->clear_child_tid = a[0];
	return t->tid;
}

static int64_t sys_set_robust_list(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p;
	if (a[1] != 24)
		return -EINVAL;
	t->robust_list = a[0];
	return 0;
}

static int64_t sys_get_robust_list(struct proc *p, struct task *t, const uint64_t a[6])
{
	const struct task *of = a[0] ? task_by_tid(p, (int)a[0]) : t;
	const uint64_t bytes = 24;

	if (!of)
		return -ESRCH;
	if (mm_copy_out(p, a[1], &of->robust_list, sizeof(of->robust_list)) ||
	    mm_copy_out(p, a[2], &bytes, sizeof(bytes)))
		return -EFAULT;
	return 0;
}

/* ---- scheduling: one processor, one class ---- */

static int64_t sys_sched_yield(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct sched *s = p->sched;

	(void)a;
	if (s->ready.count && s->current == t) {
		task_set_result(p, t, 0);
		s->current = NULL;
		task_queue_add(&s->ready, t);
	}
	return 0;
}

static int64_t sys_sched_getaffinity(struct proc *p, struct task *t, const uint64_t a[6])
{
	const uint64_t one = 1;

	(void)t;
	if (a[0] && !task_by_tid(p, (int)a[0]))
		return -ESRCH;
	if (a[1] < sizeof(one) || a[1] % sizeof(one))
		return -EINVAL;
	return mm_copy_out(p, a[2], &one, sizeof(one)) ? -EFAULT : (int64_t)sizeof(one);
}

static int64_t sys_sched_setaffinity(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t mask = 0;

	(void)t;
	if (a[0] && !task_by_tid(p, (int)a[0]))
		return -ESRCH;
	if (mm_copy_in(p, &mask, a[2], MIN(a[1], sizeof(mask))))
		return -EFAULT;
	return mask & 1 ? 0 : -EINVAL;
}

static int64_t sys_sched_getscheduler(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return a[0] && !task_by_tid(p, (int)a[0]) ? -ESRCH : SCHED_OTHER;
}

static int64_t sys_sched_setscheduler(struct proc *p, struct task *t, const uint64_t a[6])
{
	int policy = (int)a[1] & ~SCHED_RESET_ON_FORK;

	(void)t;
	if (a[0] && !task_by_tid(p, (int)a[0]))
		return -ESRCH;
	if (policy == SCHED_FIFO || policy == SCHED_RR || policy == SCHED_DEADLINE)
		return -EPERM;
	return policy == SCHED_OTHER || policy == SCHED_BATCH || policy == SCHED_IDLE ? 0 : -EINVAL;
}

static int64_t sys_sched_getparam(struct proc *p, struct task *t, const uint64_t a[6])
{
	const int32_t priority = 0;

	(void)t;
	if (a[0] && !task_by_tid(p, (int)a[0]))
		return -ESRCH;
	return mm_copy_out(p, a[1], &priority, sizeof(priority));
}

static int64_t sys_sched_setparam(struct proc *p, struct task *t, const uint64_t a[6])
{
	int32_t priority;

	(void)t;
	if (mm_copy_in(p, &priority, a[1], sizeof(priority)))
		return -EFAULT;
	return priority ? -EINVAL : 0;
}

static int64_t sys_sched_priority_range(struct proc *p, struct task *t, const uint64_t a[6])
{
	bool max = t->nr == SYS_sched_get_priority_max;

	(void)p;
	switch ((int)a[0]) {
	case SCHED_FIFO:
	case SCHED_RR:
		return max ? 99 : 1;
	case SCHED_OTHER:
	case SCHED_BATCH:
	case SCHED_IDLE:
		return 0;
	}
	return -EINVAL;
}

static int64_t sys_getpriority(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	return 20; /* nice 0, as the kernel encodes it */
}

static int64_t sys_accepted(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	return 0;
}

static int64_t sys_getcpu(struct proc *p, struct task *t, const uint64_t a[6])
{
	static const uint32_t zero;

	(void)t;
	if (a[0] && mm_copy_out(p, a[0], &zero, sizeof(zero)))
		return -EFAULT;
	return a[1] ? mm_copy_out(p, a[1], &zero, sizeof(zero)) : 0;
}

/* ---- arch_prctl, prctl ---- */

static int64_t sys_arch_prctl(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t base;

	switch (a[0]) {
	case ARCH_SET_FS:
	case ARCH_SET_GS:
		if (a[1] >= USER_END)
			return -EPERM;
		(a[0] == ARCH_SET_FS ? vcpu_set_fs_base : vcpu_set_gs_base)(p->vm, a[1]);
		return 0;
	case ARCH_GET_FS:
	case ARCH_GET_GS:
		if (sched_park(p))
			return -EIO;
		base = a[0] == ARCH_GET_FS ? t->user.fs_base : t->user.gs_base;
		return mm_copy_out(p, a[1], &base, sizeof(base));
	}
	return -EINVAL;
}

static int64_t prctl_set_name(struct proc *p, struct task *t, uint64_t addr)
{
	char name[sizeof(t->name)] = {0};
	int n = mm_copy_in_str(p, name, addr, sizeof(name));

	if (n == -EFAULT)
		return n;
	name[sizeof(name) - 1] = '\0'; /* longer ones are cut */
	memcpy(t->name, name, sizeof(name));
	return 0;
}

static int64_t sys_prctl(struct proc *p, struct task *t, const uint64_t a[6])
{
	const int32_t zero = 0;

	switch ((int)a[0]) {
	case PR_SET_NAME:
		return prctl_set_name(p, t, a[1]);
	case PR_GET_NAME:
		return mm_copy_out(p, a[1], t->name, sizeof(t->name));
	case PR_GET_PDEATHSIG:
		return mm_copy_out(p, a[1], &zero, sizeof(zero));
	case PR_GET_DUMPABLE:
	case PR_GET_NO_NEW_PRIVS:
		return 1;
	case PR_SET_DUMPABLE:
	case PR_SET_PDEATHSIG:
	case PR_SET_NO_NEW_PRIVS:
	case PR_SET_TIMERSLACK:
	case PR_SET_VMA:
	case PR_SET_PTRACER:
	case PR_SET_THP_DISABLE:
	case PR_SET_CHILD_SUBREAPER:
	case PR_CAPBSET_DROP:
		return 0;
	case PR_CAPBSET_READ:
	case PR_GET_KEEPCAPS:
	case PR_GET_SECCOMP:
	case PR_GET_THP_DISABLE:
		return 0;
	case PR_GET_TIMERSLACK:
		return 50000;
	}
	return -EINVAL;
}

const struct syscall_entry syscalls_task[] = {
	SYSCALL_ENTRY(clone, sys_clone),
	SYSCALL_ENTRY(clone3, sys_clone3),
	SYSCALL_ENTRY(fork, sys_fork),
	SYSCALL_ENTRY(vfork, sys_fork),
	SYSCALL_ENTRY(execve, sys_exec),
	SYSCALL_ENTRY(execveat, sys_exec),
	SYSCALL_ENTRY(wait4, sys_wait),
	SYSCALL_ENTRY(waitid, sys_wait),
	SYSCALL_ENTRY(exit, sys_exit),
	SYSCALL_ENTRY(exit_group, sys_exit_group),
	SYSCALL_ENTRY(futex, futex_call),
	SYSCALL_ENTRY(gettid, sys_gettid),
	SYSCALL_ENTRY(getpid, sys_getpid),
	SYSCALL_ENTRY(getppid, sys_getppid),
	SYSCALL_ENTRY(getpgid, sys_getpgid),
	SYSCALL_ENTRY(getsid, sys_getpgid),
	SYSCALL_ENTRY(getpgrp, sys_getpid),
	SYSCALL_ENTRY(setpgid, sys_setpgid),
	SYSCALL_ENTRY(setsid, sys_setsid),
	SYSCALL_ENTRY(set_tid_address, sys_set_tid_address),
	SYSCALL_ENTRY(set_robust_list, sys_set_robust_list),
	SYSCALL_ENTRY(get_robust_list, sys_get_robust_list),
	SYSCALL_ENTRY(sched_yield, sys_sched_yield),
	SYSCALL_ENTRY(sched_getaffinity, sys_sched_getaffinity),
	SYSCALL_ENTRY(sched_setaffinity, sys_sched_setaffinity),
	SYSCALL_ENTRY(sched_getscheduler, sys_sched_getscheduler),
	SYSCALL_ENTRY(sched_setscheduler, sys_sched_setscheduler),
	SYSCALL_ENTRY(sched_getparam, sys_sched_getparam),
	SYSCALL_ENTRY(sched_setparam, sys_sched_setparam),
	SYSCALL_ENTRY(sched_get_priority_max, sys_sched_priority_range),
	SYSCALL_ENTRY(sched_get_priority_min, sys_sched_priority_range),
	SYSCALL_ENTRY(getpriority, sys_getpriority),
	SYSCALL_ENTRY(setpriority, sys_accepted),
	SYSCALL_ENTRY(ioprio_set, sys_accepted),
	SYSCALL_ENTRY(ioprio_get, sys_accepted),
	SYSCALL_ENTRY(getcpu, sys_getcpu),
	SYSCALL_ENTRY(arch_prctl, sys_arch_prctl),
	SYSCALL_ENTRY(prctl, sys_prctl),
	{0},
};
