/* SPDX-License-Identifier: Apache-2.0 */
/* syscall_signal.c - system calls of signals */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "common/util.h"
#include "vmm/process/clock.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/sched.h"
#include "vmm/process/signal_internal.h"
#include "vmm/process/syscall.h"
#include "vmm/process/timer.h"

enum { SIGSET_BYTES = 8, ALTSTACK_MIN_BYTES = 2048 };

static int mask_get(struct proc *p, uint64_t addr, uint64_t bytes, uint64_t *ret)
{
	if (bytes != SIGSET_BYTES)
		return -EINVAL;
	return mm_copy_in(p, ret, addr, sizeof(*ret));
}

/** The kernel's order: handler, flags, restorer, mask. */
static int64_t sys_rt_sigaction(struct proc *p, struct task *t, const uint64_t a[6])
{
	int sig = (int)a[0];
	struct signal_action fresh, *action;

	(void)t;
	if (a[3] != SIGSET_BYTES || sig < 1 || sig > SIGNALS_MAX)
		return -EINVAL;
	action = &p->signals->actions[sig];
	if (a[1] && (SIGNAL_BIT(sig) & SIGNAL_UNBLOCKABLE))
		return -EINVAL;
	if (a[1] && mm_copy_in(p, &fresh, a[1], sizeof(fresh)))
		return -EFAULT;
	if (a[2] && mm_copy_out(p, a[2], action, sizeof(*action)))
		return -EFAULT;
	if (!a[1])
		return 0;
	fresh.mask &= SIGNAL_MASK_ALLOWED;
	*action = fresh;
	if (signal_is_ignored(p, sig))
		signal_discard(p, SIGNAL_BIT(sig));
	return 0;
}

static int64_t sys_rt_sigprocmask(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t old = t->signal_mask, set = 0;

	if (a[3] != SIGSET_BYTES)
		return -EINVAL;
	if (a[1] && mm_copy_in(p, &set, a[1], sizeof(set)))
		return -EFAULT;
	if (a[2] && mm_copy_out(p, a[2], &old, sizeof(old)))
		return -EFAULT;
	if (!a[1])
		return 0;
	switch ((int)a[0]) {
	case SIG_BLOCK:
		set |= old;
		break;
	case SIG_UNBLOCK:
		set = old & ~set;
		break;
	case SIG_SETMASK:
		break;
	default:
		return -EINVAL;
	}
	signal_set_mask(p, t, set);
	return 0;
}

static int64_t sys_rt_sigpending(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t set = (t->signal_pending | p->signals->pending) & t->signal_mask;

	if (a[1] > SIGSET_BYTES)
		return -EINVAL;
	return mm_copy_out(p, a[0], &set, a[1]);
}

static int64_t sys_rt_sigreturn(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct user_state *u = &t->user;

	(void)a;
	if (sched_park(p)) {
		proc_finish(p, PROC_BROKEN, 0, "the vCPU's state cannot be read");
		return SYS_NO_RESULT;
	}
	if (signal_frame_pop(p, t, u)) {
		signal_fault(p, t, SIGSEGV, SI_KERNEL, u->regs.rsp, "bad signal frame");
		return SYS_NO_RESULT;
	}
	if (vcpu_load_user(p->vm, u))
		signal_fault(p, t, SIGSEGV, SI_KERNEL, u->regs.rsp, "bad signal frame");
	return SYS_NO_RESULT;
}

static int64_t sys_sigaltstack(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct {
		uint64_t sp;
		uint32_t flags, pad;
		uint64_t size;
	} fresh, old = {t->altstack_base, t->altstack_flags, 0, t->altstack_bytes};
	bool on = signal_on_altstack(t, vcpu_regs(p->vm)->rsp);

	if (on)
		old.flags = SS_ONSTACK;
	if (a[0] && mm_copy_in(p, &fresh, a[0], sizeof(fresh)))
		return -EFAULT;
	if (a[0] && on)
		return -EPERM;
	if (a[0]) {
		uint32_t mode = fresh.flags & ~(1u << 31);

		if (mode != 0 && mode != SS_ONSTACK && mode != SS_DISABLE)
			return -EINVAL;
		if (mode == SS_DISABLE)
			fresh.sp = fresh.size = 0;
		else if (fresh.size < ALTSTACK_MIN_BYTES)
			return -ENOMEM;
		t->altstack_base = fresh.sp;
		t->altstack_bytes = fresh.size;
		t->altstack_flags = fresh.flags & SIGNAL_ALTSTACK_FLAGS;
	}
	return a[1] ? mm_copy_out(p, a[1], &old, sizeof(old)) : 0;
}

/* ---- waiting for signals ---- */

static int64_t sys_rt_sigsuspend(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t mask;
	int ret = mask_get(p, a[0], a[1], &mask);

	if (ret)
		return ret;
	signal_temp_mask(p, t, mask);
	if (t->wait.outcome == WAIT_SIGNAL)
		return -EINTR;
	task_wait(p, t, wait_key(t), WAIT_FOREVER);
	return SYS_BLOCKED;
}

static int64_t sys_pause(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)a;
	if (t->wait.outcome == WAIT_SIGNAL)
		return -EINTR;
	task_wait(p, t, wait_key(t), WAIT_FOREVER);
	return SYS_BLOCKED;
}

static int64_t sys_rt_sigtimedwait(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct signal_info info;
	uint8_t siginfo[128];
	uint64_t mask, timeout_ns;
	int ret = mask_get(p, a[0], a[3], &mask);

	if (!ret)
		ret = user_timespec_get(p, a[2], &timeout_ns);
	if (ret)
		return ret;
	if (signal_dequeue(p, t, mask & SIGNAL_MASK_ALLOWED, &info)) {
		signal_info_pack(&info, siginfo);
		if (a[1] && mm_copy_out(p, a[1], siginfo, sizeof(siginfo)))
			return -EFAULT;
		return info.sig;
	}
	if (t->wait.outcome == WAIT_TIMEOUT || !timeout_ns)
		return -EAGAIN;
	if (t->wait.outcome == WAIT_SIGNAL)
		return -EINTR;
	task_wait(p, t, wait_key(p->signals), deadline_after(p, timeout_ns));
	return SYS_BLOCKED;
}

/* ---- sending: there is one process, and nobody else ---- */

static int64_t send_to(struct proc *p, struct task *t, int sig, int code)
{
	const struct signal_info info = {.sig = sig, .code = code, .fields = {GUEST_PID}};

	if (sig < 0 || sig > SIGNALS_MAX)
		return -EINVAL;
	return sig ? signal_queue(p, t, &info) : 0;
}

static int64_t sys_kill(struct proc *p, struct task *t, const uint64_t a[6])
{
	int pid = (int)a[0];

	(void)t;
	/* -1 means everybody but oneself, and so it is not the negative of this group here. */
	if (pid != 0 && pid != GUEST_PID)
		return -ESRCH;
	return send_to(p, NULL, (int)a[1], SI_USER);
}

static int64_t send_to_thread(struct proc *p, int tid, int sig)
{
	struct task *to = task_by_tid(p, tid);

	if (tid <= 0)
		return -EINVAL;
	return to ? send_to(p, to, sig, SI_TKILL) : -ESRCH;
}

static int64_t sys_tkill(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return send_to_thread(p, (int)a[0], (int)a[1]);
}

static int64_t sys_tgkill(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	if ((int)a[0] <= 0)
		return -EINVAL;
	return (int)a[0] == GUEST_PID ? send_to_thread(p, (int)a[1], (int)a[2]) : -ESRCH;
}

static int64_t send_info(struct proc *p, struct task *to, int sig, uint64_t addr)
{
	uint8_t siginfo[128];
	struct signal_info info;

	if (sig < 0 || sig > SIGNALS_MAX)
		return -EINVAL;
	if (mm_copy_in(p, siginfo, addr, sizeof(siginfo)))
		return -EFAULT;
	signal_info_unpack(siginfo, &info);
	info.sig = sig;
	/* To itself a process may claim anything, but our timers are not to be mistaken. */
	if (info.code == SI_TIMER)
		info.code = SI_QUEUE;
	return sig ? signal_queue(p, to, &info) : 0;
}

static int64_t sys_rt_sigqueueinfo(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return (int)a[0] == GUEST_PID ? send_info(p, NULL, (int)a[1], a[2]) : -ESRCH;
}

static int64_t sys_rt_tgsigqueueinfo(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct task *to = task_by_tid(p, (int)a[1]);

	(void)t;
	return (int)a[0] == GUEST_PID && to ? send_info(p, to, (int)a[2], a[3]) : -ESRCH;
}

const struct syscall_entry syscalls_signal[] = {
	SYSCALL_ENTRY(rt_sigaction, sys_rt_sigaction),
	SYSCALL_ENTRY(rt_sigprocmask, sys_rt_sigprocmask),
	SYSCALL_ENTRY(rt_sigpending, sys_rt_sigpending),
	SYSCALL_ENTRY(rt_sigreturn, sys_rt_sigreturn),
	SYSCALL_ENTRY(sigaltstack, sys_sigaltstack),
	SYSCALL_ENTRY(rt_sigsuspend, sys_rt_sigsuspend),
	SYSCALL_ENTRY(pause, sys_pause),
	SYSCALL_ENTRY(rt_sigtimedwait, sys_rt_sigtimedwait),
	SYSCALL_ENTRY(kill, sys_kill),
	SYSCALL_ENTRY(tkill, sys_tkill),
	SYSCALL_ENTRY(tgkill, sys_tgkill),
	SYSCALL_ENTRY(rt_sigqueueinfo, sys_rt_sigqueueinfo),
	SYSCALL_ENTRY(rt_tgsigqueueinfo, sys_rt_tgsigqueueinfo),
	{0},
};
