/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signal.c - dispositions, pending signals, delivery
 *
 * Invariants
 *  1. A bit in signals->pending or task->signal_pending means the signal is pending; entries of the
 *     queue carry details. A standard signal has at most one entry for each target.
 *  2. What is ignored and not blocked is never pending.
 *  3. Handlers run in the order in which Linux would take the signals: faults first, then by their
 *     numbers.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/process/exception.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/sched.h"
#include "vmm/process/signal_internal.h"
#include "vmm/process/syscall.h"

enum { HANDLER_DEFAULT = 0, HANDLER_IGNORE = 1 };

#define SIGNALS_IGNORED_BY_DEFAULT                                                                 \
	(SIGNAL_BIT(SIGCHLD) | SIGNAL_BIT(SIGCONT) | SIGNAL_BIT(SIGURG) | SIGNAL_BIT(SIGWINCH))
#define SIGNALS_STOP                                                                               \
	(SIGNAL_BIT(SIGSTOP) | SIGNAL_BIT(SIGTSTP) | SIGNAL_BIT(SIGTTIN) | SIGNAL_BIT(SIGTTOU))
#define SIGNALS_SYNCHRONOUS                                                                        \
	(SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGTRAP) |     \
	 SIGNAL_BIT(SIGFPE) | SIGNAL_BIT(SIGSYS))

/* ---- life ---- */

int signals_new(struct proc *p)
{
	p->signals = calloc(1, sizeof(*p->signals));
	if (!p->signals)
		return -ENOMEM;
	return posix_timers_new(p);
}

void signals_free(struct proc *p)
{
	if (!p->signals)
		return;
	posix_timers_free(p);
	free(p->signals->queue);
	free(p->signals);
	p->signals = NULL;
}

static void queue_remove(struct signals *s, unsigned i)
{
	s->queue_count--;
	memmove(&s->queue[i], &s->queue[i + 1], (s->queue_count - i) * sizeof(s->queue[0]));
}

static int queue_add(struct signals *s, int tid, const struct signal_info *info)
{
	if (s->queue_count >= SIGNAL_QUEUE_MAX)
		return -EAGAIN;
	if (s->queue_count == s->queue_size) {
		unsigned size = s->queue_size ? s->queue_size * 2 : 16;
		struct signal_entry *grown = realloc(s->queue, size * sizeof(*grown));

		if (!grown)
			return -EAGAIN;
		s->queue = grown;
		s->queue_size = size;
	}
	s->queue[s->queue_count++] = (struct signal_entry){.tid = tid, .info = *info};
	return 0;
}

void signals_task_exit(struct proc *p, struct task *t)
{
	struct signals *s = p->signals;

	for (unsigned i = s->queue_count; i-- > 0;)
		if (s->queue[i].tid == t->tid)
			queue_remove(s, i);
}

/* ---- sending ---- */

bool signal_is_ignored(const struct proc *p, int sig)
{
	uint64_t handler = p->signals->actions[sig].handler;

	return handler == HANDLER_IGNORE ||
	       (handler == HANDLER_DEFAULT && (SIGNAL_BIT(sig) & SIGNALS_IGNORED_BY_DEFAULT));
}

/** The task that will take a signal of the process: one that does not block it, the oldest first.
 */
static struct task *choose_task(struct proc *p, int sig)
{
	struct task *t = task_current(p);

	if (t && !(t->signal_mask & SIGNAL_BIT(sig)))
		return t;
	for (t = task_next(p, NULL); t; t = task_next(p, t))
		if (!(t->signal_mask & SIGNAL_BIT(sig)))
			return t;
	return NULL;
}

int signal_queue(struct proc *p, struct task *t, const struct signal_info *info)
{
	struct signals *s = p->signals;
	uint64_t bit = SIGNAL_BIT(info->sig);
	uint64_t *pending = t ? &t->signal_pending : &s->pending;
	struct task *taker = t && (t->signal_mask & bit) ? NULL : t ? t : choose_task(p, info->sig);
	int ret;

	if (taker && signal_is_ignored(p, info->sig))
		return 0;
	if (info->sig < SIGNALS_RT_MIN && (*pending & bit))
		return 0;
	ret = queue_add(s, t ? t->tid : 0, info);
	if (ret && info->sig >= SIGNALS_RT_MIN)
		return ret;
	*pending |= bit;
	if (taker)
		task_interrupt(p, taker);
	/* signalfd, sigtimedwait */
	task_wake_all(p, wait_key(s));
	return 0;
}

void signal_send(struct proc *p, struct task *t, int sig, int code, uint64_t value)
{
	struct signal_info info = {
		.sig = sig,
		.code = code,
		.fields = {GUEST_PID, value},
	};

	if (sig < 1 || sig > SIGNALS_MAX)
		return;
	signal_queue(p, t, &info);
}

bool signal_pending(struct proc *p, const struct task *t)
{
	return (t->signal_pending | p->signals->pending) & ~t->signal_mask;
}

void signal_set_mask(struct proc *p, struct task *t, uint64_t mask)
{
	uint64_t unheard = p->signals->pending & mask & ~t->signal_mask;

	t->signal_mask = mask & SIGNAL_MASK_ALLOWED;
	/* This task may have been the one that was woken for a signal of the process. */
	while (unheard) {
		int sig = __builtin_ctzll(unheard) + 1;
		struct task *other = choose_task(p, sig);

		unheard &= unheard - 1;
		if (other)
			task_interrupt(p, other);
	}
}

void signal_temp_mask(struct proc *p, struct task *t, uint64_t mask)
{
	if (!t->signal_mask_restore) {
		t->signal_mask_saved = t->signal_mask;
		t->signal_mask_restore = true;
	}
	signal_set_mask(p, t, mask);
}

/* ---- taking ---- */

static int first_signal(uint64_t set)
{
	if (set & SIGNALS_SYNCHRONOUS)
		set &= SIGNALS_SYNCHRONOUS;
	return set ? __builtin_ctzll(set) + 1 : 0;
}

/** Take the oldest entry of @sig; the bit stays while there are more. */
static void take_entry(struct proc *p, int tid, uint64_t *pending, int sig, struct signal_info *ret)
{
	struct signals *s = p->signals;
	bool found = false, more = false;

	*ret = (struct signal_info){.sig = sig, .code = SI_USER};
	for (unsigned i = 0; i < s->queue_count && !more; i++) {
		if (s->queue[i].tid != tid || s->queue[i].info.sig != sig)
			continue;
		if (found) {
			more = true;
			break;
		}
		*ret = s->queue[i].info;
		found = true;
		queue_remove(s, i--);
	}
	if (!more)
		*pending &= ~SIGNAL_BIT(sig);
	if (ret->code == SI_TIMER)
		ret->fields[0] = (uint32_t)ret->fields[0] |
				 (uint64_t)posix_timer_delivered(p, (int)ret->fields[0]) << 32;
}

bool signal_dequeue(struct proc *p, struct task *t, uint64_t mask, struct signal_info *ret)
{
	uint64_t own = t->signal_pending & mask, shared = p->signals->pending & mask;
	int sig = first_signal(own);

	if (sig) {
		take_entry(p, t->tid, &t->signal_pending, sig, ret);
		return true;
	}
	sig = first_signal(shared);
	if (sig)
		take_entry(p, 0, &p->signals->pending, sig, ret);
	return sig != 0;
}

int signal_take(struct proc *p, struct task *t, uint64_t mask, int *ret_code, uint64_t *ret_value)
{
	struct signal_info info;

	if (!signal_dequeue(p, t, mask, &info))
		return 0;
	*ret_code = info.code;
	*ret_value = info.fields[1];
	return info.sig;
}

void signal_discard(struct proc *p, uint64_t mask)
{
	struct signals *s = p->signals;

	s->pending &= ~mask;
	for (struct task *t = task_next(p, NULL); t; t = task_next(p, t))
		t->signal_pending &= ~mask;
	for (unsigned i = s->queue_count; i-- > 0;)
		if (SIGNAL_BIT(s->queue[i].info.sig) & mask)
			queue_remove(s, i);
}

/* siginfo_t: si_signo, si_errno, si_code, padding, then the fields of each kind. */
void signal_info_pack(const struct signal_info *info, uint8_t ret[128])
{
	const int32_t head[3] = {info->sig, info->err, info->code};

	memset(ret, 0, 128);
	memcpy(ret, head, sizeof(head));
	memcpy(ret + 16, info->fields, sizeof(info->fields));
}

void signal_info_unpack(const uint8_t siginfo[128], struct signal_info *ret)
{
	int32_t head[3];

	memcpy(head, siginfo, sizeof(head));
	ret->sig = head[0];
	ret->err = head[1];
	ret->code = head[2];
	memcpy(ret->fields, siginfo + 16, sizeof(ret->fields));
}

/* ---- delivery ---- */

/**
 * Calls that end with EINTR even for handlers with SA_RESTART: signal(7), "Interruption of system
 * calls and library functions by signal handlers".
 */
static bool never_restarts(const struct task *t)
{
	switch (t->nr) {
	case SYS_poll:
	case SYS_ppoll:
	case SYS_select:
	case SYS_pselect6:
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
	case SYS_nanosleep:
	case SYS_clock_nanosleep:
	case SYS_pause:
	case SYS_rt_sigsuspend:
	case SYS_rt_sigtimedwait:
		return true;
	case SYS_futex:
		return t->args[3] != 0; /* waits with a timeout */
	}
	return false;
}

/** The SYSCALL instruction runs again: it is two bytes long. */
static void restart_call(struct proc *p, const struct task *t)
{
	struct kvm_regs *regs = vcpu_regs(p->vm);

	regs->rip -= 2;
	regs->rax = t->nr;
	vcpu_regs_changed(p->vm);
}

static const char *signal_name(int sig)
{
	const char *name = sigabbrev_np(sig);

	return name ? name : "real-time";
}

static void kill_by(struct proc *p, int sig)
{
	proc_finish(p, PROC_SIGNALED, sig, "killed by signal %d (%s)", sig, signal_name(sig));
}

static void run_handler(struct proc *p, struct task *t, const struct signal_info *info)
{
	struct signal_action *action = &p->signals->actions[info->sig];
	const struct signal_action now = *action;
	uint64_t mask = t->signal_mask_restore ? t->signal_mask_saved : t->signal_mask;
	int ret = vcpu_save_user(p->vm, &t->user);

	if (!ret)
		ret = signal_frame_push(p, t, &t->user, &now, info, mask);
	if (ret == -EFAULT && info->sig != SIGSEGV) {
		signal_fault(p, t, SIGSEGV, SI_KERNEL, 0, "no stack for a signal handler");
		return;
	}
	if (ret == -EFAULT) {
		fault_report(p, PROC_SIGNALED, SIGSEGV,
			     "killed by signal 11 (SEGV): no stack for its handler");
		return;
	}
	if (!ret)
		ret = vcpu_load_user(p->vm, &t->user);
	if (ret) {
		proc_finish(p, PROC_BROKEN, 0, "signal handler: %s", strerror(-ret));
		return;
	}
	if (now.flags & SA_RESETHAND)
		action->handler = HANDLER_DEFAULT;
	t->signal_mask_restore = false;
	signal_set_mask(p, t,
			t->signal_mask | now.mask |
				(now.flags & SA_NODEFER ? 0 : SIGNAL_BIT(info->sig)));
}

/** Return: did a handler start? */
static bool take_action(struct proc *p, struct task *t, const struct signal_info *info,
			bool restart)
{
	const struct signal_action *action = &p->signals->actions[info->sig];
	static bool stop_told;

	if (signal_is_ignored(p, info->sig))
		return false;
	if (action->handler != HANDLER_DEFAULT) {
		if (restart && (action->flags & SA_RESTART) && !never_restarts(t))
			restart_call(p, t);
		run_handler(p, t, info);
		return true;
	}
	if (SIGNAL_BIT(info->sig) & SIGNALS_STOP) {
		if (!stop_told)
			log_warn("guest: %s ignored: there is no job control",
				 signal_name(info->sig));
		stop_told = true;
		return false;
	}
	kill_by(p, info->sig);
	return false;
}

void signal_deliver(struct proc *p, struct task *t)
{
	bool restart = t->interrupted;
	struct signal_info info;

	t->interrupted = false;
	while (!p->end && p->sched->current == t && signal_dequeue(p, t, ~t->signal_mask, &info))
		if (take_action(p, t, &info, restart))
			restart = false;
	if (p->end)
		return;
	if (restart) {
		restart_call(p, t);
	} else if (t->signal_mask_restore) {
		t->signal_mask_restore = false;
		signal_set_mask(p, t, t->signal_mask_saved);
	}
}

void signal_fault(struct proc *p, struct task *t, int sig, int code, uint64_t addr,
		  const char *what)
{
	const struct signal_action *action = &p->signals->actions[sig];
	struct signal_info info = {.sig = sig, .code = code, .fields = {addr}};
	bool blocked = t->signal_mask & SIGNAL_BIT(sig);
	char where[256];

	if (!blocked && action->handler > HANDLER_IGNORE) {
		run_handler(p, t, &info);
		return;
	}
	mm_describe(p, (struct gva){addr}, where, sizeof(where));
	fault_report(p, PROC_SIGNALED, sig, "killed by signal %d (%s): %s at 0x%llx (%s)%s", sig,
		     signal_name(sig), what, (unsigned long long)addr, where,
		     blocked ? ", the signal was blocked" : "");
}

/* ---- saved state ---- */

static void info_save(const struct signal_info *info, struct state_writer *w)
{
	uint8_t bytes[128];

	signal_info_pack(info, bytes);
	state_put(w, bytes, 48);
}

/*
 * u64 pending; u32 count of actions that are not the default, each {u32 signal, u64 handler, flags,
 * restorer, mask}; u32 count of queued signals, each {u32 tid, first 48 bytes of siginfo_t}
 */
int signals_save(struct proc *p, struct state_writer *w)
{
	struct signals *s = p->signals;
	static const struct signal_action unset;
	uint32_t count = 0;

	state_put_u64(w, s->pending);
	for (int sig = 1; sig <= SIGNALS_MAX; sig++)
		count += memcmp(&s->actions[sig], &unset, sizeof(unset)) != 0;
	state_put_u32(w, count);
	for (int sig = 1; sig <= SIGNALS_MAX; sig++) {
		const struct signal_action *a = &s->actions[sig];

		if (!memcmp(a, &unset, sizeof(unset)))
			continue;
		state_put_u32(w, (uint32_t)sig);
		state_put_u64(w, a->handler);
		state_put_u64(w, a->flags);
		state_put_u64(w, a->restorer);
		state_put_u64(w, a->mask);
	}
	state_put_u32(w, s->queue_count);
	for (unsigned i = 0; i < s->queue_count; i++) {
		state_put_u32(w, (uint32_t)s->queue[i].tid);
		info_save(&s->queue[i].info, w);
	}
	return w->err;
}

static int queue_load(struct signals *s, struct state_reader *r)
{
	uint32_t count = state_get_count(r, 52);

	for (uint32_t i = 0; i < count; i++) {
		int tid = (int)state_get_u32(r);
		uint8_t bytes[128] = {0};
		struct signal_info info;

		state_get(r, bytes, 48);
		signal_info_unpack(bytes, &info);
		if (r->err || info.sig < 1 || info.sig > SIGNALS_MAX || queue_add(s, tid, &info))
			return -EBADMSG;
	}
	return r->err;
}

int signals_load(struct proc *p, struct state_reader *r)
{
	struct signals *s = p->signals;
	uint32_t count;

	s->pending = state_get_u64(r);
	count = state_get_count(r, 36);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t sig = state_get_u32(r);
		struct signal_action a;

		a.handler = state_get_u64(r);
		a.flags = state_get_u64(r);
		a.restorer = state_get_u64(r);
		a.mask = state_get_u64(r) & SIGNAL_MASK_ALLOWED;
		if (r->err || sig < 1 || sig > SIGNALS_MAX ||
		    (SIGNAL_BIT(sig) & SIGNAL_UNBLOCKABLE))
			return -EBADMSG;
		s->actions[sig] = a;
	}
	return r->err ? r->err : queue_load(s, r);
}

void signals_tasks_loaded(struct proc *p)
{
	struct signals *s = p->signals;

	/* Entries for nobody would never be taken. */
	for (unsigned i = s->queue_count; i-- > 0;)
		if (s->queue[i].tid && !task_by_tid(p, s->queue[i].tid))
			queue_remove(s, i);
}
