/* SPDX-License-Identifier: Apache-2.0 */
/* syscall_event.c - system calls that wait for files: poll, select, epoll, timerfd, signalfd */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/clock.h"
#include "common/util.h"
#include "vmm/process/epoll.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/signal_internal.h"
#include "vmm/process/syscall.h"
#include "vmm/process/task.h"
#include "vmm/process/timer.h"

enum { SIGSET_BYTES = 8 };

static uint64_t timeout_of_ms(int ms)
{
	return ms < 0 ? WAIT_FOREVER : (uint64_t)ms * 1000000;
}

/** The mask of a ppoll-like call; @addr 0: none. */
static int temp_mask(struct proc *p, struct task *t, uint64_t addr, uint64_t bytes)
{
	uint64_t mask;

	if (!addr)
		return 0;
	if (bytes != SIGSET_BYTES)
		return -EINVAL;
	if (mm_copy_in(p, &mask, addr, sizeof(mask)))
		return -EFAULT;
	signal_temp_mask(p, t, mask);
	return 0;
}

static int64_t sys_poll(struct proc *p, struct task *t, const uint64_t a[6])
{
	return poll_call(p, t, a[0], a[1], timeout_of_ms((int)a[2]));
}

static int64_t sys_ppoll(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t timeout_ns;
	int ret = user_timespec_get(p, a[2], &timeout_ns);

	if (!ret)
		ret = temp_mask(p, t, a[3], a[4]);
	return ret ? ret : poll_call(p, t, a[0], a[1], timeout_ns);
}

static int64_t sys_select(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct guest_timespec tv;
	uint64_t timeout_ns = WAIT_FOREVER;

	if (a[4]) {
		if (mm_copy_in(p, &tv, a[4], sizeof(tv)))
			return -EFAULT;
		if (tv.sec < 0 || tv.frac < 0)
			return -EINVAL;
		/* Microseconds over a million are carried, as Linux does. */
		tv.sec += tv.frac / 1000000;
		tv.frac = tv.frac % 1000000 * 1000;
		if (timespec_to_ns(&tv, &timeout_ns))
			return -EINVAL;
	}
	return select_call(p, t, (int)a[0], a + 1, timeout_ns);
}

static int64_t sys_pselect6(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t timeout_ns, mask[2] = {0};
	int ret = user_timespec_get(p, a[4], &timeout_ns);

	if (!ret && a[5] && mm_copy_in(p, mask, a[5], sizeof(mask)))
		ret = -EFAULT;
	if (!ret)
		ret = temp_mask(p, t, mask[0], mask[1]);
	return ret ? ret : select_call(p, t, (int)a[0], a + 1, timeout_ns);
}

/* ---- epoll ---- */

static int64_t sys_epoll_create(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return (int)a[0] > 0 ? epoll_create_call(p, 0) : -EINVAL;
}

static int64_t sys_epoll_create1(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return epoll_create_call(p, (int)a[0]);
}

static int64_t sys_epoll_ctl(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return epoll_ctl_call(p, a);
}

static int64_t sys_epoll_wait(struct proc *p, struct task *t, const uint64_t a[6])
{
	return epoll_wait_call(p, t, (int)a[0], a[1], (int)a[2], timeout_of_ms((int)a[3]));
}

static int64_t sys_epoll_pwait(struct proc *p, struct task *t, const uint64_t a[6])
{
	int ret = temp_mask(p, t, a[4], a[5]);

	return ret ? ret : sys_epoll_wait(p, t, a);
}

static int64_t sys_epoll_pwait2(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t timeout_ns;
	int ret = user_timespec_get(p, a[3], &timeout_ns);

	if (!ret)
		ret = temp_mask(p, t, a[4], a[5]);
	return ret ? ret : epoll_wait_call(p, t, (int)a[0], a[1], (int)a[2], timeout_ns);
}

/* ---- timerfd, signalfd ---- */

static int64_t sys_timerfd_create(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return timerfd_create_call(p, (int)a[0], (int)a[1]);
}

static int64_t sys_timerfd_settime(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return timerfd_settime_call(p, a);
}

static int64_t sys_timerfd_gettime(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return timerfd_gettime_call(p, a);
}

static int64_t sys_signalfd4(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t mask;

	(void)t;
	if (a[2] != SIGSET_BYTES)
		return -EINVAL;
	if (mm_copy_in(p, &mask, a[1], sizeof(mask)))
		return -EFAULT;
	return signalfd_call(p, (int)a[0], mask, t->nr == SYS_signalfd ? 0 : (int)a[3]);
}

const struct syscall_entry syscalls_event[] = {
	SYSCALL_ENTRY(poll, sys_poll),
	SYSCALL_ENTRY(ppoll, sys_ppoll),
	SYSCALL_ENTRY(select, sys_select),
	SYSCALL_ENTRY(pselect6, sys_pselect6),
	SYSCALL_ENTRY(epoll_create, sys_epoll_create),
	SYSCALL_ENTRY(epoll_create1, sys_epoll_create1),
	SYSCALL_ENTRY(epoll_ctl, sys_epoll_ctl),
	SYSCALL_ENTRY(epoll_wait, sys_epoll_wait),
	SYSCALL_ENTRY(epoll_pwait, sys_epoll_pwait),
	SYSCALL_ENTRY(epoll_pwait2, sys_epoll_pwait2),
	SYSCALL_ENTRY(timerfd_create, sys_timerfd_create),
	SYSCALL_ENTRY(timerfd_settime, sys_timerfd_settime),
	SYSCALL_ENTRY(timerfd_gettime, sys_timerfd_gettime),
	SYSCALL_ENTRY(signalfd, sys_signalfd4),
	SYSCALL_ENTRY(signalfd4, sys_signalfd4),
	{0},
};
