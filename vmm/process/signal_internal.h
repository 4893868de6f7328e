/* SPDX-License-Identifier: Apache-2.0 */
/* signal_internal.h - what the files of signals and timers share; everybody else uses signal.h */
#ifndef QUICKTHAW_PROCESS_SIGNAL_INTERNAL_H
#define QUICKTHAW_PROCESS_SIGNAL_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/process/signal.h"

struct user_state;

enum { SIGNALS_MAX = 64, SIGNALS_RT_MIN = 32, SIGNAL_QUEUE_MAX = 1024 };

/** SIGKILL (9) and SIGSTOP (19) cannot be blocked, caught or ignored. */
#define SIGNAL_BIT(sig)	    (1ull << ((sig)-1))
#define SIGNAL_UNBLOCKABLE  (SIGNAL_BIT(9) | SIGNAL_BIT(19))
#define SIGNAL_MASK_ALLOWED (~SIGNAL_UNBLOCKABLE)

#define SIGNAL_ALTSTACK_DISABLED 2u		   /* SS_DISABLE */
#define SIGNAL_ALTSTACK_FLAGS	 (2u | (1u << 31)) /* SS_DISABLE, SS_AUTODISARM */

/**
 * struct signal_info - what a siginfo_t carries: the words from its offset 16 on.
 * Source: Linux include/uapi/asm-generic/siginfo.h.
 */
struct signal_info {
	int sig;
	int err;
	int code;
	uint64_t fields[4];
};

/** struct signal_trap - what the CPU said about a fault, for the frame's sigcontext. */
struct signal_trap {
	uint64_t trapno, err, cr2;
};

/** struct signal_action - as rt_sigaction(2) has it. Handlers 0 and 1 are SIG_DFL and SIG_IGN. */
struct signal_action {
	uint64_t handler, flags, restorer, mask;
};

/** struct signal_entry - one queued signal. */
struct signal_entry {
	int tid; /**< 0: for the process */
	struct signal_info info;
};

/**
 * struct signals - of one guest.
 * @queue: oldest first. A signal whose bit is pending without an entry has no details: the queue
 *	was full.
 */
struct signals {
	struct signal_action actions[SIGNALS_MAX + 1];
	uint64_t pending;
	struct signal_entry *queue;
	unsigned queue_count, queue_size;
	struct signal_trap trap;
	struct posix_timers *timers;
};

/** signal_queue() - signal_send() with all details. Return: 0 or -EAGAIN: no room for a real-time
 * signal. */
int signal_queue(struct proc *p, struct task *t, const struct signal_info *info);
/** signal_dequeue() - take the first pending one of @mask. Return: false: there is none. */
bool signal_dequeue(struct proc *p, struct task *t, uint64_t mask, struct signal_info *ret);
/** signal_set_mask() - change the mask and look for what it blocked. */
void signal_set_mask(struct proc *p, struct task *t, uint64_t mask);
/** signal_temp_mask() - the mask of one call (ppoll, sigsuspend): legal again when it is re-run. */
void signal_temp_mask(struct proc *p, struct task *t, uint64_t mask);
/** signal_info_pack() - as the 128 bytes of a siginfo_t, and back. */
void signal_info_pack(const struct signal_info *info, uint8_t ret[128]);
void signal_info_unpack(const uint8_t siginfo[128], struct signal_info *ret);
/** signal_discard() - forget pending ones of @mask: they became ignored. */
void signal_discard(struct proc *p, uint64_t mask);
/** signal_is_ignored() - would delivery do nothing? */
bool signal_is_ignored(const struct proc *p, int sig);

/** signals_task_exit() - drop what is pending for a task that ends. */
void signals_task_exit(struct proc *p, struct task *t);
/** signals_tasks_loaded() - tasks came after signals in the saved state: give them their bits. */
void signals_tasks_loaded(struct proc *p);

/* ---- frames (signal_frame.c) ---- */

/**
 * signal_frame_push() - make @u one that runs the handler of @info.
 * @mask: the mask to go back to
 * Return: 0 or -EFAULT: the stack is not writable.
 */
int signal_frame_push(struct proc *p, struct task *t, struct user_state *u,
		      const struct signal_action *action, const struct signal_info *info,
		      uint64_t mask);
/** signal_frame_pop() - rt_sigreturn. Return: 0 or -EFAULT: the frame is not one. */
int signal_frame_pop(struct proc *p, struct task *t, struct user_state *u);
/** signal_on_altstack() - is @sp on the alternate stack of @t? */
bool signal_on_altstack(const struct task *t, uint64_t sp);

/* ---- timers (timer.c) ---- */

int posix_timers_new(struct proc *p);
void posix_timers_free(struct proc *p);
/** Saved with the tasks, since timers may name one. */
int posix_timers_save(struct proc *p, struct state_writer *w);
int posix_timers_load(struct proc *p, struct state_reader *r);
/** posix_timer_delivered() - the signal of a timer is taken: its overrun count starts anew. */
int posix_timer_delivered(struct proc *p, int id);

#endif
