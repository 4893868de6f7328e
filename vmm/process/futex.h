/* SPDX-License-Identifier: Apache-2.0 */
/* futex.h - fast user-space locks: the part that waits */
#ifndef QUICKTHAW_PROCESS_FUTEX_H
#define QUICKTHAW_PROCESS_FUTEX_H

#include <stdint.h>

struct proc;
struct task;

/** futex_call() - futex(2), restartable. Return: its value, -errno or SYS_BLOCKED. */
int64_t futex_call(struct proc *p, struct task *t, const uint64_t a[6]);
/** futex_wake_addr() - FUTEX_WAKE of a shared futex, as the kernel does at a thread's end. */
void futex_wake_addr(struct proc *p, uint64_t addr, unsigned max);
/** futex_task_exit() - robust list and clear_child_tid of a task that ends. */
void futex_task_exit(struct proc *p, struct task *t);

#endif
