/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task.h - the threads of a process guest
 *
 * Tasks are register contexts that take turns on the vCPU: switched when one blocks and, while more
 * than one can run, by a timer. Waiting is by key: a task waits for a pointer-sized key (a pipe, a
 * socket, a futex word) or for any event (poll, epoll, select), with an optional deadline; whoever
 * changes an object wakes its key. A woken task runs its system call again from the start, so that
 * nothing but {call, arguments, deadline} needs to be saved for a blocked task.
 */
#ifndef QUICKTHAW_PROCESS_TASK_H
#define QUICKTHAW_PROCESS_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/state.h"
#include "vmm/vm.h"

struct proc;

enum { TASKS_MAX = 512 };

/**
 * The process id, which is also the tid of the first task: 1, as in every container. The parent, as
 * there, is nobody.
 */
enum { GUEST_PID = 1, GUEST_PPID = 0 };

enum task_state { TASK_FREE, TASK_RUNNABLE, TASK_BLOCKED };

/** Why a blocked call runs again. */
enum wait_outcome {
	WAIT_NONE,    /**< the call runs for the first time, or again after a restore */
	WAIT_WOKEN,   /**< its key was woken */
	WAIT_TIMEOUT, /**< its deadline passed */
	WAIT_SIGNAL,  /**< a signal is to be delivered: return -EINTR (or a partial result) */
};

/** Wait for any readiness change of any object. */
#define WAIT_KEY_ANY 0ull
#define WAIT_FOREVER UINT64_MAX

struct wait {
	uint64_t key; /**< what it waits for; meaningful while blocked */
	uint64_t
		deadline_ns; /**< guest monotonic; kept from the first run of the call to its end */
	enum wait_outcome outcome;
	uint64_t cookie; /**< free for the handler between runs of one call; 0 at the first */
};

struct task {
	int tid;
	enum task_state state;
	struct user_state user; /**< valid while the task is not on the vCPU */
	bool in_syscall;	/**< blocked inside the call below */
	uint64_t nr;
	uint64_t args[6];
	struct wait wait;

	uint64_t signal_mask;
	uint64_t signal_pending;
	uint64_t signal_mask_saved; /**< restored after sigsuspend, ppoll, pselect, epoll_pwait */
	bool signal_mask_restore;
	uint64_t altstack_base, altstack_bytes;
	uint32_t altstack_flags;
	uint64_t clear_child_tid; /**< user address, 0 for none */
	uint64_t robust_list;
	char name[16];

	/* The scheduler's own. */
	bool interrupted;	  /**< the call that just ended returned -EINTR for a signal */
	struct task *next, *prev; /**< all live tasks, oldest first */
	struct task_queue *queue; /**< the ready or the blocked ones, or NULL */
	struct task *queue_next, *queue_prev;
};

/**
 * sched_process_init() - what the scheduler needs of the process: the handler and the timer of its
 * pre-emption. Call it before the jail is closed; later calls do nothing. Return: 0 or -errno.
 */
int sched_process_init(void);

int sched_new(struct proc *p);
void sched_free(struct proc *p);
int sched_save(struct proc *p, struct state_writer *w);
int sched_load(struct proc *p, struct state_reader *r);

/** task_new() - a runnable task with a copy of @user; the first one's tid is GUEST_PID. Return:
 * NULL when full. */
struct task *task_new(struct proc *p, const struct user_state *user);
/** task_current() - the task on the vCPU, or NULL. */
struct task *task_current(struct proc *p);
struct task *task_by_tid(struct proc *p, int tid);
/** task_next() - iterate all live tasks: start with NULL. */
struct task *task_next(struct proc *p, const struct task *after);
/** task_exit() - end one task (clear_child_tid, robust futexes); the last one ends the guest. */
void task_exit(struct proc *p, struct task *t, int status);

/**
 * task_wait() - block the calling task; the handler returns SYS_BLOCKED right after.
 * @key: what it waits for, or WAIT_KEY_ANY
 * @deadline_ns: guest monotonic time, or WAIT_FOREVER. Only the first task_wait() of a call sets
 *	it: later runs of the same call keep the first deadline. A call whose time is one of
 *	another clock says task_wait_anew() before, since wall time jumps over a restore.
 */
void task_wait(struct proc *p, struct task *t, uint64_t key, uint64_t deadline_ns);

/** task_wait_anew() - the next task_wait() sets the deadline, as if it were the first one. */
static inline void task_wait_anew(struct task *t)
{
	t->in_syscall = false;
}

/** wait_key() - the key of an object in the vmm. */
static inline uint64_t wait_key(const void *object)
{
	return (uint64_t)(uintptr_t)object;
}

/** task_wake() - wake up to @max tasks that wait for @key, and all that wait for any event.
 * Return: how many were waiting for @key itself. */
unsigned task_wake(struct proc *p, uint64_t key, unsigned max);
/** task_wake_all() - shorthand: the object changed. */
static inline void task_wake_all(struct proc *p, uint64_t key)
{
	task_wake(p, key, UINT32_MAX);
}
/** task_interrupt() - a signal is pending for @t: a blocked call runs again with WAIT_SIGNAL. */
void task_interrupt(struct proc *p, struct task *t);

/**
 * sched_poll_fn - the vmm's own descriptor (the control socket): polled while no task can run and
 * between time slices.
 */
typedef void (*sched_poll_fn)(struct proc *p, int fd, short revents);
void sched_set_control(struct proc *p, int fd, sched_poll_fn fn);

/** sched_timer_fn - @fn(p, arg) is called in the run loop once guest monotonic time reaches @at_ns.
 */
typedef void (*sched_timer_fn)(struct proc *p, void *arg);
/** sched_timer_set() - one timer per (@fn, @arg); @at_ns of WAIT_FOREVER cancels. Used by timerfd,
 * setitimer, timer_create. Timers are re-armed by their owners at load. */
int sched_timer_set(struct proc *p, sched_timer_fn fn, void *arg, uint64_t at_ns);

/**
 * sched_run() - the run loop: pick a task, enter the guest, serve what it asks, until p->end is set
 * or @until(p) is true while no task is on the vCPU in mid-call (all tasks parked).
 * @until: may be NULL; used to stop at the first /next for a capture.
 */
void sched_run(struct proc *p, bool (*until)(struct proc *p));

/** sched_park() - save the current task's registers so that every task is in its struct user_state:
 * the precondition of a capture. */
int sched_park(struct proc *p);

#endif
