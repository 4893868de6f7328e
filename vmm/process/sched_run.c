/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched_run.c - the run loop: whose turn it is, what the guest asks, when to look up
 *
 * Theory of operation
 *
 * One step is: run due timers, pick a task, bring it to ring 3 (its pending system call first, then
 * its signals), enter the guest, serve the event. The registers of a task stay on the vCPU until
 * another one really needs it: loading a context costs several ioctls, so a task whose call only
 * waits again is not loaded at all.
 *
 * Pre-emption is one POSIX timer of the host. It is armed only when somebody else could run or
 * something is due, for the earlier of the two, and left alone when it would fire early anyway: a
 * guest with a single busy task makes no timer calls. The timer's signal ends KVM_RUN. Tasks that
 * wait may wait for what the control socket brings: then a busy one is left now and then to look.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "vmm/process/clock.h"
#include "vmm/process/exception.h"
#include "vmm/process/proc.h"
#include "vmm/process/sched.h"
#include "vmm/process/signal.h"
#include "vmm/process/syscall.h"

enum {
	SLICE_NS = 4000000,
	/* A busy task must not keep others from the work that the control socket has for them. */
	CONTROL_NS = 10000000,
	/* Between slices the control socket is looked at; so it is in guests that never use one up.
	 */
	CONTROL_STEPS = 64,
};

/* ---- pre-emption ---- */

/* The one vCPU of this process, for the signal handler. */
static struct vm *volatile preempt_vm;
static volatile sig_atomic_t preempt_fired;
static timer_t preempt_timer;
static bool preempt_ready;
static uint64_t preempt_at_ns = WAIT_FOREVER;

static void on_preempt(int sig)
{
	struct vm *vm = preempt_vm;

	(void)sig;
	preempt_fired = 1;
	if (vm)
		vcpu_kick(vm);
}

int sched_process_init(void)
{
	struct sigaction action = {.sa_handler = on_preempt, .sa_flags = SA_RESTART};
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = SIGALRM,
	};

	if (preempt_ready)
		return 0;
	/* To the thread of the vCPU, past any helper threads. */
	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	if (sigaction(SIGALRM, &action, NULL) < 0 ||
	    timer_create(CLOCK_MONOTONIC, &event, &preempt_timer) < 0) {
		log_error("pre-emption timer: %s", strerror(errno));
		return -errno;
	}
	preempt_ready = true;
	return 0;
}

static bool preempt_is_armed(void)
{
	return preempt_at_ns != WAIT_FOREVER && !preempt_fired;
}

void preempt_arm(struct vm *vm, uint64_t at_ns)
{
	struct itimerspec spec = {
		.it_value = {(time_t)(at_ns / NSEC_PER_SEC), (long)(at_ns % NSEC_PER_SEC)},
	};

	preempt_vm = vm;
	if (preempt_fired) {
		preempt_fired = 0;
		preempt_at_ns = WAIT_FOREVER;
	}
	if (at_ns >= preempt_at_ns)
		return;
	if (!at_ns)
		spec.it_value.tv_nsec = 1;
	preempt_at_ns = at_ns;
	if (timer_settime(preempt_timer, TIMER_ABSTIME, &spec, NULL) < 0)
		log_error("pre-emption timer: %s", strerror(errno));
}

/* ---- timers ---- */

static void timers_recount(struct sched *s)
{
	s->timers_ns = WAIT_FOREVER;
	for (unsigned i = 0; i < s->timer_count; i++)
		s->timers_ns = MIN(s->timers_ns, s->timers[i].at_ns);
}

static int timer_add(struct sched *s, const struct sched_timer *timer)
{
	if (s->timer_count == s->timers_size) {
		unsigned size = s->timers_size ? s->timers_size * 2 : 16;
		struct sched_timer *grown = realloc(s->timers, size * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		s->timers = grown;
		s->timers_size = size;
	}
	s->timers[s->timer_count++] = *timer;
	return 0;
}

int sched_timer_set(struct proc *p, sched_timer_fn fn, void *arg, uint64_t at_ns)
{
	struct sched *s = p->sched;
	struct sched_timer timer = {.at_ns = at_ns, .fn = fn, .arg = arg};
	int ret = 0;

	for (unsigned i = 0; i < s->timer_count; i++) {
		if (s->timers[i].fn != fn || s->timers[i].arg != arg)
			continue;
		s->timers[i] = s->timers[--s->timer_count];
		break;
	}
	if (at_ns != WAIT_FOREVER)
		ret = timer_add(s, &timer);
	timers_recount(s);
	return ret;
}

/** One at a time: what a timer does may set or cancel others. */
static void run_due_timers(struct proc *p, uint64_t now_ns)
{
	struct sched *s = p->sched;

	while (s->timers_ns <= now_ns) {
		struct sched_timer due = {.at_ns = WAIT_FOREVER};

		for (unsigned i = 0; i < s->timer_count; i++)
			if (s->timers[i].at_ns < due.at_ns)
				due = s->timers[i];
		sched_timer_set(p, due.fn, due.arg, WAIT_FOREVER);
		if (due.fn)
			due.fn(p, due.arg);
	}
}

static void end_due_waits(struct proc *p, uint64_t now_ns)
{
	struct sched *s = p->sched;
	struct task *t = s->blocked.head, *next;

	s->blocked_ns = WAIT_FOREVER;
	for (; t; t = next) {
		next = t->queue_next;
		if (t->wait.deadline_ns <= now_ns)
			task_ready(p, t, WAIT_TIMEOUT);
		else
			s->blocked_ns = MIN(s->blocked_ns, t->wait.deadline_ns);
	}
}

uint64_t sched_next_ns(const struct sched *s)
{
	return MIN(s->timers_ns, s->blocked_ns);
}

void sched_expire(struct proc *p)
{
	struct sched *s = p->sched;
	uint64_t now_ns;

	if (sched_next_ns(s) == WAIT_FOREVER)
		return;
	now_ns = guest_mono_ns(p);
	if (s->timers_ns <= now_ns)
		run_due_timers(p, now_ns);
	if (s->blocked_ns <= now_ns)
		end_due_waits(p, now_ns);
}

/* ---- the control descriptor, and nothing to do ---- */

void sched_set_control(struct proc *p, int fd, sched_poll_fn fn)
{
	p->sched->control_fd = fd;
	p->sched->control_fn = fn;
}

/** @timeout: NULL: until something happens. */
static void poll_control(struct proc *p, const struct timespec *timeout)
{
	struct sched *s = p->sched;
	struct pollfd pfd = {.fd = s->control_fd, .events = POLLIN};
	int ret = ppoll(&pfd, 1, timeout, NULL);

	s->steps = 0;
	if (ret < 0 && errno != EINTR)
		proc_finish(p, PROC_BROKEN, 0, "poll: %s", strerror(errno));
	else if (ret > 0 && pfd.revents)
		s->control_fn(p, s->control_fd, pfd.revents);
}

static void idle(struct proc *p)
{
	uint64_t next_ns = sched_next_ns(p->sched), now_ns, left_ns;
	struct timespec timeout;

	if (next_ns == WAIT_FOREVER) {
		if (p->sched->control_fd >= 0)
			poll_control(p, NULL);
		else
			proc_finish(p, PROC_BROKEN, 0,
				    "deadlock: every task waits for something that cannot happen");
		return;
	}
	now_ns = guest_mono_ns(p);
	left_ns = next_ns > now_ns ? next_ns - now_ns : 0;
	timeout =
		(struct timespec){(time_t)(left_ns / NSEC_PER_SEC), (long)(left_ns % NSEC_PER_SEC)};
	poll_control(p, &timeout);
}

/* ---- one step ---- */

/** What the program sees of a call that ended, or nothing yet if it waits. */
static void finish_call(struct proc *p, struct task *t, int64_t result)
{
	bool for_signal = t->wait.outcome == WAIT_SIGNAL;

	if (result == SYS_BLOCKED)
		return;
	t->in_syscall = false;
	t->wait = (struct wait){.deadline_ns = WAIT_FOREVER};
	if (result == SYS_NO_RESULT)
		return;
	t->interrupted = for_signal && result == -EINTR;
	/* Only a call that a signal ended lets the handler run under the call's own mask. */
	if (t->signal_mask_restore && result != -EINTR) {
		t->signal_mask_restore = false;
		t->signal_mask = t->signal_mask_saved;
	}
	task_set_result(p, t, result);
}

static void call(struct proc *p, struct task *t)
{
	int64_t result = syscall_dispatch(p, t, t->nr, t->args);

	/* exit() frees the task; then it is not the current one any more, nor is one that waits. */
	if (result == SYS_BLOCKED || p->sched->current != t)
		return;
	finish_call(p, t, result);
}

static void on_syscall(struct proc *p, struct task *t)
{
	const struct kvm_regs *regs = vcpu_regs(p->vm);

	t->nr = regs->rax;
	t->args[0] = regs->rdi;
	t->args[1] = regs->rsi;
	t->args[2] = regs->rdx;
	t->args[3] = regs->r10;
	t->args[4] = regs->r8;
	t->args[5] = regs->r9;
	t->wait = (struct wait){.deadline_ns = WAIT_FOREVER};
	call(p, t);
}

static void run_again(struct proc *p, struct task *t)
{
	/* Somebody else took the signal: go on waiting. */
	if (t->wait.outcome == WAIT_SIGNAL && !signal_pending(p, t))
		t->wait.outcome = WAIT_NONE;
	call(p, t);
}

static void on_kick(struct proc *p)
{
	struct sched *s = p->sched;

	if (s->ready.count && s->slice_end_ns && clock_mono_ns() >= s->slice_end_ns) {
		task_queue_add(&s->ready, s->current);
		s->current = NULL;
	}
	s->steps = CONTROL_STEPS;
}

/** Host monotonic time by which the guest must be left again. */
static uint64_t stop_time(struct proc *p)
{
	struct sched *s = p->sched;
	uint64_t next_ns = sched_next_ns(s), stop_ns = WAIT_FOREVER;

	if (next_ns != WAIT_FOREVER)
		stop_ns = guest_mono_to_host_ns(p, next_ns);
	if (s->ready.count) {
		if (!s->slice_end_ns)
			s->slice_end_ns = clock_mono_ns() + SLICE_NS;
		stop_ns = MIN(stop_ns, s->slice_end_ns);
	} else if (s->control_fd >= 0 && s->blocked.count && !preempt_is_armed()) {
		stop_ns = MIN(stop_ns, clock_mono_ns() + CONTROL_NS);
	}
	return stop_ns;
}

static void enter(struct proc *p, struct task *t)
{
	uint64_t stop_ns = stop_time(p);
	struct vcpu_event event;

	if (stop_ns != WAIT_FOREVER)
		preempt_arm(p->vm, stop_ns);
	if (vcpu_run(p->vm, &event)) {
		proc_finish(p, PROC_BROKEN, 0, "the vCPU does not run");
		return;
	}
	switch (event.kind) {
	case VCPU_SYSCALL:
		on_syscall(p, t);
		break;
	case VCPU_EXCEPTION:
		exception_serve(p, t, &event);
		break;
	case VCPU_KICK:
		on_kick(p);
		break;
	case VCPU_FATAL:
		fault_report(p, PROC_BROKEN, 0, "kvm: %s", event.text);
		break;
	}
}

static void step(struct proc *p, struct task *t)
{
	if (t->in_syscall) {
		run_again(p, t);
		return;
	}
	if (sched_load_task(p, t))
		return;
	if (t->interrupted || t->signal_mask_restore || signal_pending(p, t)) {
		signal_deliver(p, t);
		if (p->end || p->sched->current != t)
			return;
	}
	enter(p, t);
}

static struct task *pick(struct sched *s)
{
	if (!s->current && s->ready.head) {
		s->current = s->ready.head;
		task_queue_remove(s->current);
		s->slice_end_ns = 0;
	}
	return s->current;
}

void sched_run(struct proc *p, bool (*until)(struct proc *p))
{
	static const struct timespec at_once;
	struct sched *s = p->sched;

	while (!p->end && !(until && until(p))) {
		struct task *t;

		sched_expire(p);
		if (s->control_fd >= 0 && ++s->steps > CONTROL_STEPS)
			poll_control(p, &at_once);
		if (p->end)
			break;
		t = pick(s);
		if (t)
			step(p, t);
		else
			idle(p);
	}
}
