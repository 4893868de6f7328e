/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lifeline.c - end with the last holder of the control socket's other end
 *
 * The thread of the vCPU finds a closed socket when it next reads from it. It does not come to that
 * while it sits in a page fault that nobody serves any more, which is where it is when snapd dies
 * at a bad moment. So a thread of its own waits for the hang-up and ends the process: the kernel
 * kills also those that wait for a page.
 *
 * A hang-up means that every copy of the other end is closed. A snapd that has its descriptors kept
 * (systemd's store, or the snapd that takes over) may end, and the instance lives on.
 */
#include "vmm/lifeline.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

enum { STACK_BYTES = 65536 };

static int lifeline = -1;

static void *thread_main(void *arg)
{
	struct pollfd fd = {.fd = lifeline}; /* of hang-up and error poll always tells */

	(void)arg;
	while (poll(&fd, 1, -1) < 0 && errno == EINTR)
		;
	_exit(0);
}

int lifeline_init(int sock)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int ret;

	lifeline = sock;
	/* Signals are for the vCPU's thread. */
	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = -pthread_create(&thread, &attr, thread_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return ret;
}
