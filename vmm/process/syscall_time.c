/* SPDX-License-Identifier: Apache-2.0 */
/* syscall_time.c - system calls of clocks, sleeping and timers */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/util.h"
#include "vmm/process/clock.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/syscall.h"
#include "vmm/process/task.h"
#include "vmm/process/timer.h"

static int64_t sys_clock_gettime(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t ns;
	int ret = guest_clock_ns(p, (int)a[0], &ns);

	(void)t;
	return ret ? ret : user_timespec_put(p, a[1], ns);
}

static int64_t sys_clock_getres(struct proc *p, struct task *t, const uint64_t a[6])
{
	bool coarse = a[0] == CLOCK_REALTIME_COARSE || a[0] == CLOCK_MONOTONIC_COARSE;
	uint64_t ns;
	int ret = guest_clock_ns(p, (int)a[0], &ns);

	(void)t;
	if (ret || !a[1])
		return ret;
	return user_timespec_put(p, a[1], coarse ? 4000000 : 1);
}

static int64_t sys_clock_settime(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	return -EPERM;
}

static int64_t sys_gettimeofday(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t ns = guest_real_ns(p);
	struct guest_timespec tv = ns_to_timespec(ns);
	static const int32_t zone[2];

	(void)t;
	tv.frac /= 1000;
	if (a[0] && mm_copy_out(p, a[0], &tv, sizeof(tv)))
		return -EFAULT;
	return a[1] ? mm_copy_out(p, a[1], zone, sizeof(zone)) : 0;
}

static int64_t sys_time(struct proc *p, struct task *t, const uint64_t a[6])
{
	int64_t now = (int64_t)(guest_real_ns(p) / NSEC_PER_SEC);

	(void)t;
	if (a[0] && mm_copy_out(p, a[0], &now, sizeof(now)))
		return -EFAULT;
	return now;
}

/* ---- sleeping ---- */

/**
 * Sleep to the deadline that the first run of the call set.
 * @left_addr: where an interrupted sleep says what is left, or 0
 */
static int64_t sleep_to(struct proc *p, struct task *t, uint64_t deadline_ns, uint64_t left_addr)
{
	uint64_t now_ns;

	if (t->in_syscall)
		deadline_ns = t->wait.deadline_ns;
	now_ns = guest_mono_ns(p);
	if (now_ns >= deadline_ns)
		return 0;
	if (t->wait.outcome == WAIT_SIGNAL) {
		if (left_addr && user_timespec_put(p, left_addr, deadline_ns - now_ns))
			return -EFAULT;
		return -EINTR;
	}
	/* Nobody wakes this key: it is the task's own. */
	task_wait(p, t, wait_key(t), deadline_ns);
	return SYS_BLOCKED;
}

static int64_t sys_nanosleep(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t ns;
	int ret;

	if (!a[0])
		return -EFAULT;
	ret = user_timespec_get(p, a[0], &ns);
	return ret ? ret : sleep_to(p, t, deadline_after(p, ns), a[1]);
}

static int64_t sys_clock_nanosleep(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t ns, now_ns;
	int ret;

	if ((int)a[0] == CLOCK_THREAD_CPUTIME_ID || guest_clock_ns(p, (int)a[0], &now_ns))
		return -EINVAL;
	if (!a[2])
		return -EFAULT;
	ret = user_timespec_get(p, a[2], &ns);
	if (ret)
		return ret;
	if (a[1] & TIMER_ABSTIME) {
		task_wait_anew(t);
		return sleep_to(p, t, deadline_of(p, (int)a[0], ns), 0);
	}
	return sleep_to(p, t, deadline_after(p, ns), a[3]);
}

/* ---- timers ---- */

static int64_t sys_setitimer(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return itimer_set_call(p, (int)a[0], a[1], a[2]);
}

static int64_t sys_getitimer(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return itimer_get_call(p, (int)a[0], a[1]);
}

static int64_t sys_alarm(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return alarm_call(p, a[0]);
}

static int64_t sys_timer_settime(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return timer_settime_call(p, a);
}

static int64_t sys_timer_gettime(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return timer_gettime_call(p, a);
}

static int64_t sys_timer_getoverrun(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return timer_getoverrun_call(p, (int)a[0]);
}

static int64_t sys_timer_delete(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return timer_delete_call(p, (int)a[0]);
}

/* ---- used CPU time ---- */

static int64_t sys_times(struct proc *p, struct task *t, const uint64_t a[6])
{
	/* USER_HZ is 100. */
	const int64_t ticks[4] = {(int64_t)(guest_cpu_ns(p) / 10000000)};

	(void)t;
	if (a[0] && mm_copy_out(p, a[0], ticks, sizeof(ticks)))
		return -EFAULT;
	return (int64_t)(guest_mono_ns(p) / 10000000);
}

const struct syscall_entry syscalls_time[] = {
	SYSCALL_ENTRY(clock_gettime, sys_clock_gettime),
	SYSCALL_ENTRY(clock_getres, sys_clock_getres),
	SYSCALL_ENTRY(clock_settime, sys_clock_settime),
	SYSCALL_ENTRY(settimeofday, sys_clock_settime),
	SYSCALL_ENTRY(gettimeofday, sys_gettimeofday),
	SYSCALL_ENTRY(time, sys_time),
	SYSCALL_ENTRY(nanosleep, sys_nanosleep),
	SYSCALL_ENTRY(clock_nanosleep, sys_clock_nanosleep),
	SYSCALL_ENTRY(setitimer, sys_setitimer),
	SYSCALL_ENTRY(getitimer, sys_getitimer),
	SYSCALL_ENTRY(alarm, sys_alarm),
	SYSCALL_ENTRY(timer_create, timer_create_call),
	SYSCALL_ENTRY(timer_settime, sys_timer_settime),
	SYSCALL_ENTRY(timer_gettime, sys_timer_gettime),
	SYSCALL_ENTRY(timer_getoverrun, sys_timer_getoverrun),
	SYSCALL_ENTRY(timer_delete, sys_timer_delete),
	SYSCALL_ENTRY(times, sys_times),
	{0},
};
