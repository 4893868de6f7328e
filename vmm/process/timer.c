/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timer.c - times in system calls, interval timers (setitimer) and POSIX timers (timer_create)
 *
 * A timer is due at a time of its clock. The scheduler knows one clock, guest monotonic: wall time
 * and CPU time are translated when a timer is armed, and looked at again when it fires, since wall
 * time jumps over a restore and CPU time stands still while the guest waits.
 */
#include "vmm/process/timer.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

#include "common/clock.h"
#include "common/util.h"
#include "vmm/process/clock.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/sched.h"
#include "vmm/process/signal_internal.h"

enum { POSIX_TIMERS_MAX = 128, ITIMERS = 3, CPU_RECHECK_NS = 1000000, INTERVAL_MIN_NS = 100000 };

/* Far enough for everybody, and sums of two still fit. */
#define NS_MAX ((uint64_t)INT64_MAX / 2)

/* ---- times ---- */

int guest_clock_ns(struct proc *p, int clock, uint64_t *ret_ns)
{
	switch (clock) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_REALTIME_ALARM:
	case CLOCK_TAI:
		*ret_ns = guest_real_ns(p);
		return 0;
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_BOOTTIME:
	case CLOCK_BOOTTIME_ALARM:
		*ret_ns = guest_mono_ns(p);
		return 0;
	case CLOCK_PROCESS_CPUTIME_ID:
	case CLOCK_THREAD_CPUTIME_ID:
		*ret_ns = guest_cpu_ns(p);
		return 0;
	}
	/* Clocks of a process or a thread: ~pid << 3 | type (Linux include/linux/posix-timers.h).
	 */
	if (clock < 0 && (clock & 3) != 3) {
		*ret_ns = guest_cpu_ns(p);
		return 0;
	}
	return -EINVAL;
}

int timespec_to_ns(const struct guest_timespec *ts, uint64_t *ret_ns)
{
	if (ts->sec < 0 || ts->frac < 0 || ts->frac >= (int64_t)NSEC_PER_SEC)
		return -EINVAL;
	if ((uint64_t)ts->sec >= NS_MAX / NSEC_PER_SEC)
		*ret_ns = NS_MAX;
	else
		*ret_ns = (uint64_t)ts->sec * NSEC_PER_SEC + (uint64_t)ts->frac;
	return 0;
}

struct guest_timespec ns_to_timespec(uint64_t ns)
{
	return (struct guest_timespec){(int64_t)(ns / NSEC_PER_SEC), (int64_t)(ns % NSEC_PER_SEC)};
}

int user_timespec_get(struct proc *p, uint64_t addr, uint64_t *ret_ns)
{
	struct guest_timespec ts;

	*ret_ns = WAIT_FOREVER;
	if (!addr)
		return 0;
	if (mm_copy_in(p, &ts, addr, sizeof(ts)))
		return -EFAULT;
	return timespec_to_ns(&ts, ret_ns);
}

int user_timespec_put(struct proc *p, uint64_t addr, uint64_t ns)
{
	struct guest_timespec ts = ns_to_timespec(ns);

	return mm_copy_out(p, addr, &ts, sizeof(ts));
}

uint64_t deadline_after(struct proc *p, uint64_t timeout_ns)
{
	if (timeout_ns == WAIT_FOREVER)
		return WAIT_FOREVER;
	return guest_mono_ns(p) + MIN(timeout_ns, NS_MAX);
}

static bool clock_is_cpu(int clock)
{
	return clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
}

uint64_t deadline_of(struct proc *p, int clock, uint64_t at_ns)
{
	uint64_t now_ns, left_ns;

	if (at_ns == WAIT_FOREVER || guest_clock_ns(p, clock, &now_ns))
		return WAIT_FOREVER;
	left_ns = at_ns > now_ns ? at_ns - now_ns : 0;
	/* Other threads can use CPU time only while this one does not: do not trust it for long. */
	if (clock_is_cpu(clock) && left_ns)
		left_ns = MAX(left_ns, (uint64_t)CPU_RECHECK_NS);
	return deadline_after(p, left_ns);
}

int timer_clock(int clock, bool absolute)
{
	bool wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM || clock == CLOCK_TAI;

	return wall && !absolute ? CLOCK_MONOTONIC : clock;
}

/* Clocks of wall time have small numbers. */
#define CLOCK_BIT_RELATIVE 0x100u

uint32_t timer_clock_pack(int clock, int at_clock)
{
	return (uint32_t)clock | (at_clock != clock ? CLOCK_BIT_RELATIVE : 0);
}

void timer_clock_unpack(uint32_t packed, int *ret_clock, int *ret_at_clock)
{
	bool relative = (int)packed >= 0 && packed & CLOCK_BIT_RELATIVE;

	*ret_clock = (int)(relative ? packed & ~CLOCK_BIT_RELATIVE : packed);
	*ret_at_clock = timer_clock(*ret_clock, !relative);
}

uint64_t timer_advance(uint64_t now_ns, uint64_t interval_ns, uint64_t *at_ns)
{
	uint64_t expirations = 1;

	if (!interval_ns) {
		*at_ns = 0;
		return 1;
	}
	expirations += (now_ns - *at_ns) / interval_ns;
	*at_ns += expirations * interval_ns;
	if (interval_ns < INTERVAL_MIN_NS)
		*at_ns = MAX(*at_ns, now_ns + INTERVAL_MIN_NS);
	return expirations;
}

/* ---- one timer ---- */

/**
 * struct guest_timer - an interval timer or a POSIX timer.
 * @at_clock: that of @at_ns (timer_clock())
 * @at_ns: 0: not armed
 */
struct guest_timer {
	bool used;
	int clock, at_clock;
	uint64_t at_ns, interval_ns;
	int notify; /**< SIGEV_* */
	int sig;
	int code;
	int tid; /**< for SIGEV_THREAD_ID */
	int id;	 /**< of a POSIX timer; -1: an interval timer */
	uint64_t value;
	uint32_t overrun;      /**< expirations since the signal was sent */
	uint32_t overrun_last; /**< what timer_getoverrun() says */
	bool sent;	       /**< the signal is pending */
};

struct posix_timers {
	struct guest_timer itimers[ITIMERS];
	struct guest_timer timers[POSIX_TIMERS_MAX];
};

static void on_timer(struct proc *p, void *arg);

static int timer_arm(struct proc *p, struct guest_timer *gt)
{
	return sched_timer_set(p, on_timer, gt,
			       gt->at_ns ? deadline_of(p, gt->at_clock, gt->at_ns) : WAIT_FOREVER);
}

static void timer_signal(struct proc *p, struct guest_timer *gt, uint32_t expirations)
{
	struct task *t = gt->tid ? task_by_tid(p, gt->tid) : NULL;
	struct signal_info info = {
		.sig = gt->sig,
		.code = gt->code,
		.fields = {(uint32_t)gt->id, gt->value},
	};

	if (gt->id < 0)
		info.fields[0] = info.fields[1] = 0;
	if (gt->notify == SIGEV_NONE || (gt->tid && !t))
		return;
	if (gt->sent) {
		gt->overrun += expirations;
		return;
	}
	gt->overrun = expirations - 1;
	gt->sent = gt->id >= 0 && !signal_is_ignored(p, gt->sig);
	signal_queue(p, t, &info);
}

static void on_timer(struct proc *p, void *arg)
{
	struct guest_timer *gt = arg;
	uint64_t now_ns, expirations;

	if (!gt->at_ns || guest_clock_ns(p, gt->at_clock, &now_ns))
		return;
	if (now_ns < gt->at_ns) {
		timer_arm(p, gt);
		return;
	}
	expirations = timer_advance(now_ns, gt->interval_ns, &gt->at_ns);
	timer_arm(p, gt);
	timer_signal(p, gt, (uint32_t)MIN(expirations, (uint64_t)INT32_MAX));
}

int posix_timer_delivered(struct proc *p, int id)
{
	struct guest_timer *gt;

	if (id < 0 || id >= POSIX_TIMERS_MAX || !p->signals->timers->timers[id].used)
		return 0;
	gt = &p->signals->timers->timers[id];
	gt->sent = false;
	gt->overrun_last = gt->overrun;
	return (int)gt->overrun_last;
}

/** What is left, and the interval. */
static void timer_read(struct proc *p, const struct guest_timer *gt, uint64_t *ret_left_ns,
		       uint64_t *ret_interval_ns)
{
	uint64_t now_ns = 0;

	*ret_interval_ns = gt->interval_ns;
	*ret_left_ns = 0;
	if (!gt->at_ns || guest_clock_ns(p, gt->at_clock, &now_ns))
		return;
	/* An armed timer never reads as disarmed. */
	*ret_left_ns = gt->at_ns > now_ns ? gt->at_ns - now_ns : 1;
}

static int timer_write(struct proc *p, struct guest_timer *gt, uint64_t value_ns,
		       uint64_t interval_ns, bool absolute)
{
	uint64_t now_ns = 0;

	gt->at_clock = timer_clock(gt->clock, absolute);
	if (!absolute && guest_clock_ns(p, gt->at_clock, &now_ns))
		return -EINVAL;
	gt->interval_ns = value_ns ? interval_ns : 0;
	gt->at_ns = value_ns ? now_ns + value_ns : 0;
	return timer_arm(p, gt);
}

/* ---- setitimer ---- */

static int timeval_to_ns(const struct guest_timespec *tv, uint64_t *ret_ns)
{
	struct guest_timespec ts = {tv->sec, tv->frac * 1000};

	return tv->frac < 0 || tv->frac >= 1000000 ? -EINVAL : timespec_to_ns(&ts, ret_ns);
}

static struct guest_timespec ns_to_timeval(uint64_t ns)
{
	struct guest_timespec ts = ns_to_timespec(ns + 999);

	ts.frac /= 1000;
	return ts;
}

int64_t itimer_get_call(struct proc *p, int which, uint64_t addr)
{
	struct guest_itimerspec spec;
	uint64_t left_ns, interval_ns;

	if (which < 0 || which >= ITIMERS)
		return -EINVAL;
	timer_read(p, &p->signals->timers->itimers[which], &left_ns, &interval_ns);
	spec.value = ns_to_timeval(left_ns);
	spec.interval = ns_to_timeval(interval_ns);
	return mm_copy_out(p, addr, &spec, sizeof(spec));
}

int64_t itimer_set_call(struct proc *p, int which, uint64_t new_addr, uint64_t old_addr)
{
	struct guest_itimerspec spec = {0};
	uint64_t value_ns, interval_ns;

	if (which < 0 || which >= ITIMERS)
		return -EINVAL;
	if (new_addr && mm_copy_in(p, &spec, new_addr, sizeof(spec)))
		return -EFAULT;
	if (timeval_to_ns(&spec.value, &value_ns) || timeval_to_ns(&spec.interval, &interval_ns))
		return -EINVAL;
	if (old_addr && itimer_get_call(p, which, old_addr))
		return -EFAULT;
	return timer_write(p, &p->signals->timers->itimers[which], value_ns, interval_ns, false);
}

int64_t alarm_call(struct proc *p, uint64_t seconds)
{
	struct guest_timer *gt = &p->signals->timers->itimers[ITIMER_REAL];
	uint64_t left_ns, interval_ns;
	int ret;

	timer_read(p, gt, &left_ns, &interval_ns);
	ret = timer_write(p, gt, (uint32_t)seconds * NSEC_PER_SEC, 0, false);
	return ret ? ret : (int64_t)((left_ns + NSEC_PER_SEC - 1) / NSEC_PER_SEC);
}

/* ---- timer_create ---- */

/** struct guest_sigevent - the part of sigevent that x86-64 Linux reads. */
struct guest_sigevent {
	uint64_t value;
	int32_t signo;
	int32_t notify;
	int32_t tid;
	int32_t pad[11];
};

static struct guest_timer *timer_get(struct proc *p, int id)
{
	struct posix_timers *ts = p->signals->timers;

	return id >= 0 && id < POSIX_TIMERS_MAX && ts->timers[id].used ? &ts->timers[id] : NULL;
}

static int timer_notify(struct proc *p, struct task *t, const struct guest_sigevent *event,
			struct guest_timer *gt)
{
	switch (event->notify) {
	case SIGEV_NONE:
		break;
	case SIGEV_THREAD_ID:
		if (!task_by_tid(p, event->tid))
			return -EINVAL;
		gt->tid = event->tid;
		/* fall through */
	case SIGEV_SIGNAL:
	case SIGEV_THREAD: /* the library's business: it asks for a signal */
		if (event->signo < 1 || event->signo > SIGNALS_MAX)
			return -EINVAL;
		break;
	default:
		return -EINVAL;
	}
	(void)t;
	gt->notify = event->notify;
	gt->sig = event->signo;
	gt->value = event->value;
	return 0;
}

int64_t timer_create_call(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct posix_timers *ts = p->signals->timers;
	struct guest_sigevent event = {.signo = SIGALRM, .notify = SIGEV_SIGNAL};
	struct guest_timer gt = {
		.used = true, .clock = (int)a[0], .at_clock = (int)a[0], .code = SI_TIMER};
	uint64_t now_ns;
	int32_t id = 0;
	int ret;

	if (guest_clock_ns(p, gt.clock, &now_ns))
		return -EINVAL;
	while (id < POSIX_TIMERS_MAX && ts->timers[id].used)
		id++;
	if (id == POSIX_TIMERS_MAX)
		return -EAGAIN;
	event.value = (uint64_t)id;
	if (a[1] && mm_copy_in(p, &event, a[1], sizeof(event)))
		return -EFAULT;
	ret = timer_notify(p, t, &event, &gt);
	if (ret)
		return ret;
	gt.id = id;
	if (mm_copy_out(p, a[2], &id, sizeof(id)))
		return -EFAULT;
	ts->timers[id] = gt;
	return 0;
}

int64_t timer_gettime_call(struct proc *p, const uint64_t a[6])
{
	const struct guest_timer *gt = timer_get(p, (int)a[0]);
	struct guest_itimerspec spec;
	uint64_t left_ns, interval_ns;

	if (!gt)
		return -EINVAL;
	timer_read(p, gt, &left_ns, &interval_ns);
	spec.value = ns_to_timespec(left_ns);
	spec.interval = ns_to_timespec(interval_ns);
	return mm_copy_out(p, a[1], &spec, sizeof(spec));
}

int64_t timer_settime_call(struct proc *p, const uint64_t a[6])
{
	struct guest_timer *gt = timer_get(p, (int)a[0]);
	const uint64_t get[6] = {a[0], a[3]};
	struct guest_itimerspec spec;
	uint64_t value_ns, interval_ns;

	if (!gt)
		return -EINVAL;
	if (mm_copy_in(p, &spec, a[2], sizeof(spec)))
		return -EFAULT;
	if (timespec_to_ns(&spec.value, &value_ns) || timespec_to_ns(&spec.interval, &interval_ns))
		return -EINVAL;
	if (a[3] && timer_gettime_call(p, get))
		return -EFAULT;
	gt->sent = false;
	gt->overrun_last = 0;
	return timer_write(p, gt, value_ns, interval_ns, a[1] & TIMER_ABSTIME);
}

int64_t timer_getoverrun_call(struct proc *p, int id)
{
	const struct guest_timer *gt = timer_get(p, id);

	return gt ? (int64_t)gt->overrun_last : -EINVAL;
}

int64_t timer_delete_call(struct proc *p, int id)
{
	struct guest_timer *gt = timer_get(p, id);

	if (!gt)
		return -EINVAL;
	sched_timer_set(p, on_timer, gt, WAIT_FOREVER);
	*gt = (struct guest_timer){0};
	return 0;
}

/* ---- life, saved state ---- */

int posix_timers_new(struct proc *p)
{
	static const struct guest_timer kinds[ITIMERS] = {
		[ITIMER_REAL] = {.clock = CLOCK_MONOTONIC, .sig = SIGALRM},
		[ITIMER_VIRTUAL] = {.clock = CLOCK_PROCESS_CPUTIME_ID, .sig = SIGVTALRM},
		[ITIMER_PROF] = {.clock = CLOCK_PROCESS_CPUTIME_ID, .sig = SIGPROF},
	};
	struct posix_timers *ts = calloc(1, sizeof(*ts));

	if (!ts)
		return -ENOMEM;
	for (int i = 0; i < ITIMERS; i++) {
		ts->itimers[i] = kinds[i];
		ts->itimers[i].at_clock = kinds[i].clock;
		ts->itimers[i].used = true;
		ts->itimers[i].notify = SIGEV_SIGNAL;
		ts->itimers[i].code = SI_KERNEL;
		ts->itimers[i].id = -1;
	}
	p->signals->timers = ts;
	return 0;
}

void posix_timers_free(struct proc *p)
{
	free(p->signals->timers);
	p->signals->timers = NULL;
}

static void timer_save(const struct guest_timer *gt, struct state_writer *w)
{
	state_put_u32(w, timer_clock_pack(gt->clock, gt->at_clock));
	state_put_u64(w, gt->at_ns);
	state_put_u64(w, gt->interval_ns);
	state_put_u32(w, (uint32_t)gt->notify);
	state_put_u32(w, (uint32_t)gt->sig);
	state_put_u32(w, (uint32_t)gt->tid);
	state_put_u64(w, gt->value);
	state_put_u32(w, gt->overrun);
	state_put_u32(w, gt->overrun_last);
	state_put_u8(w, gt->sent);
}

/** Three interval timers, then u32 count of POSIX timers, each after its u32 id. */
int posix_timers_save(struct proc *p, struct state_writer *w)
{
	const struct posix_timers *ts = p->signals->timers;
	uint32_t count = 0;

	for (int i = 0; i < ITIMERS; i++)
		timer_save(&ts->itimers[i], w);
	for (int i = 0; i < POSIX_TIMERS_MAX; i++)
		count += ts->timers[i].used;
	state_put_u32(w, count);
	for (int i = 0; i < POSIX_TIMERS_MAX; i++) {
		if (!ts->timers[i].used)
			continue;
		state_put_u32(w, (uint32_t)i);
		timer_save(&ts->timers[i], w);
	}
	return w->err;
}

static int timer_load(struct proc *p, struct guest_timer *gt, struct state_reader *r)
{
	uint64_t now_ns;

	timer_clock_unpack(state_get_u32(r), &gt->clock, &gt->at_clock);
	gt->at_ns = state_get_u64(r);
	gt->interval_ns = state_get_u64(r);
	gt->notify = (int)state_get_u32(r);
	gt->sig = (int)state_get_u32(r);
	gt->tid = (int)state_get_u32(r);
	gt->value = state_get_u64(r);
	gt->overrun = state_get_u32(r);
	gt->overrun_last = state_get_u32(r);
	gt->sent = state_get_u8(r);
	gt->used = true;
	if (r->err)
		return r->err;
	if (guest_clock_ns(p, gt->clock, &now_ns) || gt->at_ns > 2 * NS_MAX ||
	    gt->interval_ns > NS_MAX ||
	    (gt->notify != SIGEV_NONE && (gt->sig < 1 || gt->sig > SIGNALS_MAX)))
		return -EBADMSG;
	return gt->at_ns ? timer_arm(p, gt) : 0;
}

int posix_timers_load(struct proc *p, struct state_reader *r)
{
	struct posix_timers *ts = p->signals->timers;
	uint32_t count;
	int ret = 0;

	for (int i = 0; i < ITIMERS && !ret; i++)
		ret = timer_load(p, &ts->itimers[i], r);
	count = state_get_count(r, 4 + 53);
	for (uint32_t i = 0; i < count && !ret; i++) {
		uint32_t id = state_get_u32(r);

		if (r->err || id >= POSIX_TIMERS_MAX || ts->timers[id].used)
			return -EBADMSG;
		ts->timers[id].id = (int)id;
		ts->timers[id].code = SI_TIMER;
		ret = timer_load(p, &ts->timers[id], r);
	}
	return ret ? ret : r->err;
}
