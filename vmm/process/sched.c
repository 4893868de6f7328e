/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched.c - tasks: life, waiting and waking, saved state
 *
 * Invariants
 *  1. A task is in sched->ready, or in sched->blocked, or it is sched->current.
 *  2. TASK_BLOCKED tasks are in sched->blocked, in the order in which they began to wait.
 *  3. task->user is stale for sched->loaded alone.
 *  4. task->in_syscall: the call {nr, args} runs again when the task has its turn.
 */
#include "vmm/process/sched.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/process/epoll.h"
#include "vmm/process/futex.h"
#include "vmm/process/proc.h"
#include "vmm/process/signal.h"
#include "vmm/process/signal_internal.h"

/* ---- queues ---- */

void task_queue_add(struct task_queue *q, struct task *t)
{
	task_queue_remove(t);
	t->queue = q;
	t->queue_next = NULL;
	t->queue_prev = q->tail;
	if (q->tail)
		q->tail->queue_next = t;
	else
		q->head = t;
	q->tail = t;
	q->count++;
}

void task_queue_remove(struct task *t)
{
	struct task_queue *q = t->queue;

	if (!q)
		return;
	if (t->queue_prev)
		t->queue_prev->queue_next = t->queue_next;
	else
		q->head = t->queue_next;
	if (t->queue_next)
		t->queue_next->queue_prev = t->queue_prev;
	else
		q->tail = t->queue_prev;
	t->queue = NULL;
	t->queue_next = t->queue_prev = NULL;
	q->count--;
}

/* ---- life ---- */

int sched_new(struct proc *p)
{
	struct sched *s = calloc(1, sizeof(*s));
	int ret = sched_process_init();

	if (!s || ret) {
		free(s);
		return ret ? ret : -ENOMEM;
	}
	s->next_tid = GUEST_PID;
	s->blocked_ns = s->timers_ns = WAIT_FOREVER;
	s->control_fd = -1;
	p->sched = s;
	return 0;
}

void sched_free(struct proc *p)
{
	struct sched *s = p->sched;
	struct task *t = s ? s->first : NULL;

	while (t) {
		struct task *next = t->next;

		free(t);
		t = next;
	}
	if (s)
		free(s->timers);
	free(s);
	p->sched = NULL;
}

static struct task *task_alloc(struct sched *s, int tid)
{
	struct task *t;

	if (s->count >= TASKS_MAX)
		return NULL;
	t = aligned_alloc(_Alignof(struct task), sizeof(*t));
	if (!t)
		return NULL;
	memset(t, 0, sizeof(*t));
	t->tid = tid;
	t->state = TASK_RUNNABLE;
	t->prev = s->last;
	if (s->last)
		s->last->next = t;
	else
		s->first = t;
	s->last = t;
	s->count++;
	return t;
}

static void task_free(struct sched *s, struct task *t)
{
	if (t->prev)
		t->prev->next = t->next;
	else
		s->first = t->next;
	if (t->next)
		t->next->prev = t->prev;
	else
		s->last = t->prev;
	s->count--;
	free(t);
}

/** tids count up and start over, as Linux's do; those in use are left out. */
static int next_tid(struct proc *p)
{
	struct sched *s = p->sched;
	int tid;

	do {
		tid = s->next_tid++;
		if (s->next_tid >= 32768)
			s->next_tid = 300;
	} while (task_by_tid(p, tid));
	return tid;
}

struct task *task_new(struct proc *p, const struct user_state *user)
{
	struct sched *s = p->sched;
	struct task *t = task_alloc(s, next_tid(p));

	if (!t)
		return NULL;
	t->user = *user;
	t->altstack_flags = SIGNAL_ALTSTACK_DISABLED;
	task_queue_add(&s->ready, t);
	return t;
}

struct task *task_current(struct proc *p)
{
	return p->sched->current;
}

struct task *task_by_tid(struct proc *p, int tid)
{
	struct task *t = p->sched->first;

	while (t && t->tid != tid)
		t = t->next;
	return t;
}

struct task *task_next(struct proc *p, const struct task *after)
{
	return after ? after->next : p->sched->first;
}

void task_exit(struct proc *p, struct task *t, int status)
{
	struct sched *s = p->sched;

	futex_task_exit(p, t);
	signals_task_exit(p, t);
	if (s->current == t)
		s->current = NULL;
	task_queue_remove(t);
	if (s->loaded == t)
		s->loaded = NULL;
	task_free(s, t);
	if (!s->count)
		proc_finish(p, PROC_EXITED, status, "exit status %d", status);
}

void task_set_result(struct proc *p, struct task *t, int64_t result)
{
	if (p->sched->loaded == t) {
		vcpu_regs(p->vm)->rax = (uint64_t)result;
		vcpu_regs_changed(p->vm);
	} else {
		t->user.regs.rax = (uint64_t)result;
	}
}

/* ---- waiting and waking ---- */

void task_wait(struct proc *p, struct task *t, uint64_t key, uint64_t deadline_ns)
{
	struct sched *s = p->sched;

	if (!t->in_syscall)
		t->wait.deadline_ns = deadline_ns;
	t->in_syscall = true;
	t->wait.key = key;
	t->state = TASK_BLOCKED;
	if (s->current == t)
		s->current = NULL;
	task_queue_add(&s->blocked, t);
	s->blocked_ns = MIN(s->blocked_ns, t->wait.deadline_ns);
	/* A mask that the call itself changed may have made one deliverable. */
	if (signal_pending(p, t))
		task_interrupt(p, t);
}

void task_ready(struct proc *p, struct task *t, enum wait_outcome outcome)
{
	struct sched *s = p->sched;

	t->wait.outcome = outcome;
	t->state = TASK_RUNNABLE;
	task_queue_add(&s->ready, t);
}

unsigned task_wake(struct proc *p, uint64_t key, unsigned max)
{
	struct task *t = p->sched->blocked.head, *next;
	unsigned woken = 0;

	epoll_edge(p, key);
	for (; t; t = next) {
		next = t->queue_next;
		if (t->wait.key == WAIT_KEY_ANY) {
			task_ready(p, t, WAIT_WOKEN);
		} else if (t->wait.key == key && woken < max) {
			task_ready(p, t, WAIT_WOKEN);
			woken++;
		}
	}
	return woken;
}

void task_interrupt(struct proc *p, struct task *t)
{
	if (t->state == TASK_BLOCKED)
		task_ready(p, t, WAIT_SIGNAL);
}

/* ---- contexts ---- */

#define USER_END (1ull << 47)

enum {
	XSAVE_MXCSR = 24,
	XSAVE_HEADER = 512,
	XSAVE_HEADER_BYTES = 64,
	XSAVE_AVX_END = 832,
	MXCSR_INIT = 0x1f80
};

void user_state_init_fpu(struct user_state *u)
{
	uint32_t mxcsr = MXCSR_INIT;

	memset(u->xsave, 0, sizeof(u->xsave));
	u->xsave[0] = 0x7f; /* FCW 0x037f */
	u->xsave[1] = 0x03;
	memcpy(u->xsave + XSAVE_MXCSR, &mxcsr, sizeof(mxcsr));
}

int user_state_check(struct user_state *u)
{
	uint64_t components;
	uint32_t mxcsr;

	/* rip and rflags may be anything: vcpu_run() makes a signal or legal flags of them. */
	if (u->fs_base >= USER_END || u->gs_base >= USER_END)
		return -EBADMSG;
	memcpy(&mxcsr, u->xsave + XSAVE_MXCSR, sizeof(mxcsr));
	mxcsr &= 0xffff;
	memcpy(u->xsave + XSAVE_MXCSR, &mxcsr, sizeof(mxcsr));
	memcpy(&components, u->xsave + XSAVE_HEADER, sizeof(components));
	components &= VCPU_XCR0_MAX;
	memset(u->xsave + XSAVE_HEADER, 0, XSAVE_HEADER_BYTES);
	memcpy(u->xsave + XSAVE_HEADER, &components, sizeof(components));
	return 0;
}

int sched_load_task(struct proc *p, struct task *t)
{
	struct sched *s = p->sched;
	int ret = 0;

	if (s->loaded == t)
		return 0;
	if (s->loaded)
		ret = vcpu_save_user(p->vm, &s->loaded->user);
	s->loaded = NULL;
	if (!ret)
		ret = vcpu_load_user(p->vm, &t->user);
	if (ret)
		proc_finish(p, PROC_BROKEN, 0, "switch to task %d: %s", t->tid, strerror(-ret));
	else
		s->loaded = t;
	return ret;
}

int sched_park(struct proc *p)
{
	struct sched *s = p->sched;

	return s->loaded ? vcpu_save_user(p->vm, &s->loaded->user) : 0;
}

/* ---- saved state ---- */

static const size_t reg_offsets[] = {
	offsetof(struct kvm_regs, rax), offsetof(struct kvm_regs, rbx),
	offsetof(struct kvm_regs, rcx), offsetof(struct kvm_regs, rdx),
	offsetof(struct kvm_regs, rsi), offsetof(struct kvm_regs, rdi),
	offsetof(struct kvm_regs, rsp), offsetof(struct kvm_regs, rbp),
	offsetof(struct kvm_regs, r8),	offsetof(struct kvm_regs, r9),
	offsetof(struct kvm_regs, r10), offsetof(struct kvm_regs, r11),
	offsetof(struct kvm_regs, r12), offsetof(struct kvm_regs, r13),
	offsetof(struct kvm_regs, r14), offsetof(struct kvm_regs, r15),
	offsetof(struct kvm_regs, rip), offsetof(struct kvm_regs, rflags),
};

/** Without AVX-512 state the rest of the area is zero. */
static size_t xsave_used(const struct user_state *u)
{
	return u->xsave[XSAVE_HEADER] & ~VCPU_XCR0 ? sizeof(u->xsave) : XSAVE_AVX_END;
}

static void user_state_save(const struct user_state *u, struct state_writer *w)
{
	for (size_t i = 0; i < ARRAY_SIZE(reg_offsets); i++)
		state_put(w, (const char *)&u->regs + reg_offsets[i], sizeof(uint64_t));
	state_put_u64(w, u->fs_base);
	state_put_u64(w, u->gs_base);
	state_put_bytes(w, u->xsave, xsave_used(u));
}

static int user_state_load(struct user_state *u, struct state_reader *r)
{
	const void *xsave;
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(reg_offsets); i++)
		state_get(r, (char *)&u->regs + reg_offsets[i], sizeof(uint64_t));
	u->fs_base = state_get_u64(r);
	u->gs_base = state_get_u64(r);
	xsave = state_get_bytes(r, sizeof(u->xsave), &n);
	if (r->err)
		return r->err;
	memcpy(u->xsave, xsave, n);
	return user_state_check(u);
}

static void task_save(const struct task *t, struct state_writer *w)
{
	state_put_u32(w, (uint32_t)t->tid);
	user_state_save(&t->user, w);
	state_put_u8(w, t->in_syscall);
	state_put_u64(w, t->nr);
	for (size_t i = 0; i < ARRAY_SIZE(t->args); i++)
		state_put_u64(w, t->args[i]);
	state_put_u64(w, t->wait.deadline_ns);
	state_put_u64(w, t->wait.cookie);
	state_put_u64(w, t->signal_pending);
	state_put_u64(w, t->signal_mask);
	state_put_u64(w, t->signal_mask_saved);
	state_put_u8(w, t->signal_mask_restore);
	state_put_u64(w, t->altstack_base);
	state_put_u64(w, t->altstack_bytes);
	state_put_u32(w, t->altstack_flags);
	state_put_u64(w, t->clear_child_tid);
	state_put_u64(w, t->robust_list);
	state_put(w, t->name, sizeof(t->name));
	state_put_u8(w, t->interrupted);
}

int sched_save(struct proc *p, struct state_writer *w)
{
	struct sched *s = p->sched;

	state_put_u32(w, (uint32_t)s->next_tid);
	state_put_u32(w, s->count);
	for (const struct task *t = s->first; t; t = t->next)
		task_save(t, w);
	return posix_timers_save(p, w);
}

enum { TASK_RECORD_MIN = 4 + 20 * 8 + 4 + 17 * 8 };

/** Deadlines are guest time, which goes on where the capture stopped: they hold as they are. */
static int task_load(struct proc *p, struct state_reader *r)
{
	uint32_t tid = state_get_u32(r);
	struct task *t;
	int ret;

	if (r->err || !tid || tid >= 32768 || task_by_tid(p, (int)tid))
		return -EBADMSG;
	t = task_alloc(p->sched, (int)tid);
	if (!t)
		return -ENOMEM;
	task_queue_add(&p->sched->ready, t);
	ret = user_state_load(&t->user, r);
	if (ret)
		return ret;
	t->in_syscall = state_get_u8(r);
	t->nr = state_get_u64(r);
	for (size_t i = 0; i < ARRAY_SIZE(t->args); i++)
		t->args[i] = state_get_u64(r);
	t->wait.deadline_ns = state_get_u64(r);
	t->wait.cookie = state_get_u64(r);
	t->signal_pending = state_get_u64(r);
	t->signal_mask = state_get_u64(r) & SIGNAL_MASK_ALLOWED;
	t->signal_mask_saved = state_get_u64(r) & SIGNAL_MASK_ALLOWED;
	t->signal_mask_restore = state_get_u8(r);
	t->altstack_base = state_get_u64(r);
	t->altstack_bytes = state_get_u64(r);
	t->altstack_flags = state_get_u32(r) & SIGNAL_ALTSTACK_FLAGS;
	t->clear_child_tid = state_get_u64(r);
	t->robust_list = state_get_u64(r);
	state_get(r, t->name, sizeof(t->name));
	t->name[sizeof(t->name) - 1] = '\0';
	t->interrupted = state_get_u8(r);
	return r->err;
}

int sched_load(struct proc *p, struct state_reader *r)
{
	struct sched *s = p->sched;
	uint32_t tid = state_get_u32(r);
	uint32_t count = state_get_count(r, TASK_RECORD_MIN);

	if (r->err || s->count || !count || count > TASKS_MAX || !tid || tid >= 32768)
		return -EBADMSG;
	s->next_tid = (int)tid;
	for (uint32_t i = 0; i < count; i++) {
		int ret = task_load(p, r);

		if (ret)
			return ret;
	}
	signals_tasks_loaded(p);
	return posix_timers_load(p, r);
}
