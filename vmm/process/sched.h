/* SPDX-License-Identifier: Apache-2.0 */
/* sched.h - what the files of the scheduler share; everybody else uses task.h */
#ifndef QUICKTHAW_PROCESS_SCHED_H
#define QUICKTHAW_PROCESS_SCHED_H

#include "vmm/process/task.h"

struct epoll;

/** struct task_queue - tasks by queue_next and queue_prev. A task is in one queue or in none. */
struct task_queue {
	struct task *head, *tail;
	unsigned count;
};

/** struct sched_timer - one call of sched_timer_set(). */
struct sched_timer {
	uint64_t at_ns;
	sched_timer_fn fn;
	void *arg;
};

/**
 * struct sched - all tasks and what they wait for.
 * @current: the task whose turn it is; in no queue. NULL: pick one.
 * @loaded: the task whose registers are on the vCPU; it may be blocked by now. Its struct
 *	user_state is stale.
 * @blocked_ns: no blocked task has an earlier deadline (guest monotonic)
 * @timers_ns: the same for timers
 * @slice_end_ns: host monotonic; 0: the current task has the vCPU to itself
 */
struct sched {
	struct task *first, *last;
	unsigned count;
	int next_tid;
	struct task_queue ready, blocked;
	struct task *current, *loaded;
	uint64_t blocked_ns, timers_ns;
	uint64_t slice_end_ns;
	unsigned steps;
	int control_fd;
	sched_poll_fn control_fn;
	struct sched_timer *timers;
	unsigned timer_count, timers_size;
	struct epoll *epolls; /**< all epoll sets */
};

/** task_queue_add() - at the end of @q; leaves the queue that it was in. */
void task_queue_add(struct task_queue *q, struct task *t);
/** task_queue_remove() - out of its queue, if it is in one. */
void task_queue_remove(struct task *t);

/** task_ready() - a blocked task's call runs again because of @outcome. */
void task_ready(struct proc *p, struct task *t, enum wait_outcome outcome);
/** task_set_result() - what the program of @t finds in rax. */
void task_set_result(struct proc *p, struct task *t, int64_t result);
/** sched_load_task() - put the registers of @t on the vCPU. Return: 0; else the guest is over. */
int sched_load_task(struct proc *p, struct task *t);

/** sched_expire() - run timers and end waits whose time has come. */
void sched_expire(struct proc *p);
/** sched_next_ns() - guest monotonic time of the next deadline or timer; may be early. */
uint64_t sched_next_ns(const struct sched *s);

/** preempt_arm() - have vcpu_run() end at host monotonic time @at_ns, or earlier. */
void preempt_arm(struct vm *vm, uint64_t at_ns);

/** user_state_check() - make a context from a snapshot or from user memory one that KVM takes.
 * Return: 0, or -EBADMSG when a segment base is not in user space. */
int user_state_check(struct user_state *u);
/** user_state_init_fpu() - x87 and SSE as at program start. */
void user_state_init_fpu(struct user_state *u);

#endif
