/* SPDX-License-Identifier: Apache-2.0 */
/* syscall.h - system calls as table entries by topic */
#ifndef QUICKTHAW_PROCESS_SYSCALL_H
#define QUICKTHAW_PROCESS_SYSCALL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

struct proc;
struct task;

/** The call waits: task_wait() was called, and the same call runs again once the task is woken. */
#define SYS_BLOCKED INT64_MIN
/** The handler has set the registers itself (rt_sigreturn, exit): rax is left alone. */
#define SYS_NO_RESULT (INT64_MIN + 1)

/**
 * A handler gets the raw arguments and returns what the program finds in rax: a value or -errno.
 * A blocking call must be restartable: look at t->wait.outcome first (task.h).
 */
typedef int64_t (*syscall_fn)(struct proc *p, struct task *t, const uint64_t a[6]);

struct syscall_entry {
	uint16_t nr;
	const char *name;
	syscall_fn fn;
};

#define SYSCALL_ENTRY(n, f)                                                                        \
	{                                                                                          \
		SYS_##n, #n, f                                                                     \
	}

/** One table per topic, ended by an entry without fn. */
extern const struct syscall_entry syscalls_mem[]; /* syscall_mem.c: mmap, mprotect, brk, ... */
extern const struct syscall_entry
	syscalls_file[]; /* syscall_file.c: read, write, lseek, dup, ... */
extern const struct syscall_entry syscalls_path[]; /* syscall_path.c: open, stat, getdents, ... */
extern const struct syscall_entry
	syscalls_event[]; /* syscall_event.c: poll, epoll, eventfd, pipe, ... */
extern const struct syscall_entry syscalls_task[];   /* syscall_task.c: clone, futex, exit, ... */
extern const struct syscall_entry syscalls_signal[]; /* syscall_signal.c */
extern const struct syscall_entry syscalls_time[];   /* syscall_time.c */
extern const struct syscall_entry syscalls_socket[]; /* syscall_socket.c */
extern const struct syscall_entry
	syscalls_system[]; /* syscall_system.c: uname, getrandom, rlimits, ids */

/** syscall_init() - index the topic tables by number; two entries for one number abort at start. */
void syscall_init(void);
/** syscall_dispatch() - run one call; an unknown one returns -ENOSYS, is counted, and logged once.
 */
int64_t syscall_dispatch(struct proc *p, struct task *t, uint64_t nr, const uint64_t a[6]);
/** syscall_unknown_count() - how often the call @nr, which has no entry, was made. */
uint64_t syscall_unknown_count(uint64_t nr);
/** syscall_name() - Linux's name of @nr, or "unknown". */
const char *syscall_name(uint64_t nr);

#endif
