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
#include <unistd.h>

#include "common/thread.h"

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
	lifeline = sock;
	return thread_start_small(STACK_BYTES, thread_main, NULL);
}
