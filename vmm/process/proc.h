/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc.h - a process guest: one Linux program in ring 3, and the vmm as its kernel
 *
 * struct proc ties the parts together. Each part owns its struct (opaque to the others), made by
 * X_new(p) and released by X_free(p), and has X_save / X_load in the device table (vmm/device.c):
 *
 *   mm       address space: frames, page tables, VMAs, demand paging       mm.h
 *   sched    tasks, the run loop, waiting and waking, futexes, timers      task.h
 *   signals  dispositions, delivery, frames                                signal.h
 *   files    descriptor table, open file descriptions                      file.h
 *   vfs      path names: root, /var/task, tmpfs on /tmp, /proc, /dev       vfs.h
 *   net      sockets that never leave the guest                            sock.h
 *   clock    guest time and the vDSO                                       clock.h
 *   api      the Lambda Runtime API                                        runtime_api.h
 */
#ifndef QUICKTHAW_PROCESS_PROC_H
#define QUICKTHAW_PROCESS_PROC_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/vm.h"

struct mm;
struct sched;
struct signals;
struct file_table;
struct vfs;
struct net;
struct guest_clock;
struct runtime_api;
struct control;

/** Why a guest is over; maps to enum proto_failure. */
enum proc_end {
	PROC_RUNS = 0,
	PROC_EXITED,	    /**< end_code = exit status */
	PROC_SIGNALED,	    /**< end_code = signal */
	PROC_OUT_OF_MEMORY, /**< over memory_bytes */
	PROC_BROKEN,	    /**< the vmm cannot go on */
};

struct proc {
	struct vm *vm;
	struct mm *mm;
	struct sched *sched;
	struct signals *signals;
	struct file_table *files;
	struct vfs *vfs;
	struct net *net;
	struct guest_clock *clock;
	struct runtime_api *api;
	struct control *control; /**< NULL when the guest runs from the command line */

	uint64_t memory_bytes; /**< the limit of the function's memory */
	uint64_t tmp_bytes;    /**< the limit of /tmp */

	enum proc_end end;
	int end_code;
	char end_text[2048]; /**< a report for people */
};

/** proc_finish() - the guest is over; the run loop returns after the current step. First call wins.
 */
void proc_finish(struct proc *p, enum proc_end end, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
