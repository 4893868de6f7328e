/* SPDX-License-Identifier: Apache-2.0 */
/* signal.h - dispositions, pending signals and the frames that handlers run on */
#ifndef QUICKTHAW_PROCESS_SIGNAL_H
#define QUICKTHAW_PROCESS_SIGNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/state.h"

struct proc;
struct task;

int signals_new(struct proc *p);
void signals_free(struct proc *p);
int signals_save(struct proc *p, struct state_writer *w);
int signals_load(struct proc *p, struct state_reader *r);

/** signal_send() - to @t, or to the process when @t is NULL. @value: si_value of timers and
 * sigqueue. */
void signal_send(struct proc *p, struct task *t, int sig, int code, uint64_t value);
/** signal_fault() - a synchronous fault of the current task; a blocked or ignored one kills the
 * guest with a report: registers, mapping, memory map. */
void signal_fault(struct proc *p, struct task *t, int sig, int code, uint64_t addr,
		  const char *what);
/** signal_deliver() - before the current task returns to ring 3: build a handler frame or apply the
 * default action for what is pending. vcpu_regs() are current. */
void signal_deliver(struct proc *p, struct task *t);
/** signal_pending() - is there anything that @t does not block? */
bool signal_pending(struct proc *p, const struct task *t);
/** signal_take() - dequeue one pending signal of @mask for sigtimedwait and signalfd. Return: 0:
 * none */
int signal_take(struct proc *p, struct task *t, uint64_t mask, int *ret_code, uint64_t *ret_value);

#endif
