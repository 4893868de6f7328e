/* SPDX-License-Identifier: Apache-2.0 */
/* thread.h - threads that leave signals to those that were there before */
#ifndef QUICKTHAW_COMMON_THREAD_H
#define QUICKTHAW_COMMON_THREAD_H

#include <pthread.h>
#include <signal.h>

/** thread_start() - pthread_create() with all signals blocked in the new thread but SIGSYS: a
 * system call that its filter does not know is to be told of. Return: 0 or -errno. */
static inline int thread_start(pthread_t *ret, const pthread_attr_t *attr, void *(*main)(void *arg),
			       void *arg)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = -pthread_create(ret, attr, main, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

/** thread_start_small() - the same for one that nobody waits for, with a stack of @stack_bytes. */
static inline int thread_start_small(size_t stack_bytes, void *(*main)(void *arg), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack_bytes);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = thread_start(&thread, &attr, main, arg);
	pthread_attr_destroy(&attr);
	return err;
}

#endif
