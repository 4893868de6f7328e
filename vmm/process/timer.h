/* SPDX-License-Identifier: Apache-2.0 */
/* timer.h - times in system calls, interval timers and POSIX timers */
#ifndef QUICKTHAW_PROCESS_TIMER_H
#define QUICKTHAW_PROCESS_TIMER_H

#include <stdbool.h>
#include <stdint.h>

struct proc;
struct task;

/** struct guest_timespec - as user memory holds timespec and timeval. */
struct guest_timespec {
	int64_t sec;
	int64_t frac; /**< ns or us */
};

/** struct guest_itimerspec - itimerspec and itimerval. */
struct guest_itimerspec {
	struct guest_timespec interval, value;
};

/** guest_clock_ns() - clock_gettime for any clock id a program may name. Return: 0 or -EINVAL. */
int guest_clock_ns(struct proc *p, int clock, uint64_t *ret_ns);
/** timespec_to_ns() - Return: 0, or -EINVAL when not normalised. Far times are cut to fit. */
int timespec_to_ns(const struct guest_timespec *ts, uint64_t *ret_ns);
struct guest_timespec ns_to_timespec(uint64_t ns);
/** user_timespec_get() - from user memory. @addr 0: WAIT_FOREVER. Return: 0, -EFAULT or -EINVAL. */
int user_timespec_get(struct proc *p, uint64_t addr, uint64_t *ret_ns);
int user_timespec_put(struct proc *p, uint64_t addr, uint64_t ns);
/**
 * timer_advance() - a timer on @now_ns's clock has expired: when is it due next?
 * @at_ns: in: when it was due; out: 0 for a timer without an interval. Intervals that are too short
 *	to be kept are stretched: a guest must not spend all its time on its timers.
 * Return: expirations so far.
 */
uint64_t timer_advance(uint64_t now_ns, uint64_t interval_ns, uint64_t *at_ns);
/**
 * timer_clock() - the clock that counts for a timer of @clock. The setting of wall time, and so a
 * restore, moves times of day; it does not move "in ten seconds" (Linux: relative hrtimers).
 */
int timer_clock(int clock, bool absolute);
/** timer_clock_pack() / timer_clock_unpack() - a timer's clock and the one that counts, saved as
 * one number. */
uint32_t timer_clock_pack(int clock, int at_clock);
void timer_clock_unpack(uint32_t packed, int *ret_clock, int *ret_at_clock);
/** deadline_after() - guest monotonic time in @timeout_ns from now; WAIT_FOREVER stays. */
uint64_t deadline_after(struct proc *p, uint64_t timeout_ns);
/** deadline_of() - guest monotonic time at which @clock reaches @at_ns. */
uint64_t deadline_of(struct proc *p, int clock, uint64_t at_ns);

int64_t itimer_set_call(struct proc *p, int which, uint64_t new_addr, uint64_t old_addr);
int64_t itimer_get_call(struct proc *p, int which, uint64_t addr);
int64_t alarm_call(struct proc *p, uint64_t seconds);
int64_t timer_create_call(struct proc *p, struct task *t, const uint64_t a[6]);
int64_t timer_settime_call(struct proc *p, const uint64_t a[6]);
int64_t timer_gettime_call(struct proc *p, const uint64_t a[6]);
int64_t timer_getoverrun_call(struct proc *p, int id);
int64_t timer_delete_call(struct proc *p, int id);

#endif
