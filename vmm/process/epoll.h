/* SPDX-License-Identifier: Apache-2.0 */
/* epoll.h - sets of files to wait for, and the descriptors that are only events */
#ifndef QUICKTHAW_PROCESS_EPOLL_H
#define QUICKTHAW_PROCESS_EPOLL_H

#include <stdint.h>

struct proc;
struct task;
struct file;

/** epoll_edge() - something happened to the object of @key: edge-triggered entries fire again. */
void epoll_edge(struct proc *p, uint64_t key);
/**
 * epoll_forget() - @f is about to be released: take it out of all sets. Sets hold no references,
 * as on Linux: closing the last descriptor ends the watch.
 */
void epoll_forget(struct proc *p, const struct file *f);

/* Bodies of the system calls. All are restartable where they block. */
int64_t epoll_create_call(struct proc *p, int flags);
int64_t epoll_ctl_call(struct proc *p, const uint64_t a[6]);
/** @timeout_ns: relative, WAIT_FOREVER for none. The signal mask is the caller's business. */
int64_t epoll_wait_call(struct proc *p, struct task *t, int epfd, uint64_t events, int max,
			uint64_t timeout_ns);

int64_t timerfd_create_call(struct proc *p, int clock, int flags);
int64_t timerfd_settime_call(struct proc *p, const uint64_t a[6]);
int64_t timerfd_gettime_call(struct proc *p, const uint64_t a[6]);

/** signalfd_call() - make one (@fd -1) or give @fd another mask. */
int64_t signalfd_call(struct proc *p, int fd, uint64_t mask, int flags);

/** poll_call() - poll(2) on user memory. */
int64_t poll_call(struct proc *p, struct task *t, uint64_t fds, uint64_t count,
		  uint64_t timeout_ns);
/** select_call() - select(2); @sets: readable, writable, exceptional; 0 for none. */
int64_t select_call(struct proc *p, struct task *t, int count, const uint64_t sets[3],
		    uint64_t timeout_ns);

#endif
