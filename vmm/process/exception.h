/* SPDX-License-Identifier: Apache-2.0 */
/* exception.h - what the CPU could not do: demand paging, signals, and the report when all is lost
 */
#ifndef QUICKTHAW_PROCESS_EXCEPTION_H
#define QUICKTHAW_PROCESS_EXCEPTION_H

#include "vmm/process/proc.h"

struct task;

/** exception_serve() - an exception of the current task: resolve it or make it a signal. */
void exception_serve(struct proc *p, struct task *t, const struct vcpu_event *event);

/**
 * fault_report() - end the guest with a report: the text, registers, the mapping of rip, and as
 * much of the memory map as fits. The whole map goes to the log. Call it while vcpu_regs() are
 * those of the current task.
 */
void fault_report(struct proc *p, enum proc_end end, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
