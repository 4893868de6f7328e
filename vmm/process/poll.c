/* SPDX-License-Identifier: Apache-2.0 */
/* poll.c - poll and select: look at files, wait for any event, look again */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "vmm/process/epoll.h"
#include "vmm/process/file.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/syscall.h"
#include "vmm/process/task.h"
#include "vmm/process/timer.h"

enum { POLL_MAX = 4096, POLL_ON_STACK = 16, SET_WORDS = FILES_MAX / 64 };

/** Files without a poll operation are always ready: select(2), regular files. */
static short file_ready(struct proc *p, struct file *f)
{
	return f->ops->poll ? f->ops->poll(p, f) : POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
}

/**
 * What a call does when nothing is ready.
 * @key: WAIT_KEY_ANY, or that of the only file concerned
 */
static int64_t nothing_ready(struct proc *p, struct task *t, uint64_t key, uint64_t timeout_ns)
{
	if (!timeout_ns || t->wait.outcome == WAIT_TIMEOUT)
		return 0;
	if (t->wait.outcome == WAIT_SIGNAL)
		return -EINTR;
	task_wait(p, t, key, deadline_after(p, timeout_ns));
	return SYS_BLOCKED;
}

static int64_t scan(struct proc *p, struct pollfd *fds, uint64_t count)
{
	int64_t ready = 0;

	for (uint64_t i = 0; i < count; i++) {
		struct file *f = fd_get(p, fds[i].fd);

		fds[i].revents = 0;
		if (fds[i].fd < 0)
			continue;
		if (!f)
			fds[i].revents = POLLNVAL;
		else
			fds[i].revents =
				(short)(file_ready(p, f) & (fds[i].events | POLLERR | POLLHUP));
		ready += fds[i].revents != 0;
	}
	return ready;
}

int64_t poll_call(struct proc *p, struct task *t, uint64_t addr, uint64_t count,
		  uint64_t timeout_ns)
{
	struct pollfd few[POLL_ON_STACK], *fds = few;
	CLEANUP_FREE struct pollfd *many = NULL;
	uint64_t key = WAIT_KEY_ANY;
	const struct file *f;
	int64_t ready;

	if (count > POLL_MAX)
		return -EINVAL;
	if (count > POLL_ON_STACK) {
		many = malloc(count * sizeof(*many));
		if (!many)
			return -ENOMEM;
		fds = many;
	}
	if (count && mm_copy_in(p, fds, addr, count * sizeof(*fds)))
		return -EFAULT;
	ready = scan(p, fds, count);
	if (!ready) {
		f = count == 1 ? fd_get(p, fds[0].fd) : NULL;
		if (f && f->ops->type != FILE_EPOLL)
			key = f->wait_key;
		ready = nothing_ready(p, t, key, timeout_ns);
		if (ready)
			return ready;
	}
	if (count && mm_copy_out(p, addr, fds, count * sizeof(*fds)))
		return -EFAULT;
	return ready;
}

/* What each of select's sets means: Linux fs/select.c. */
static const short set_events[3] = {
	POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR,
	POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR,
	POLLPRI,
};

int64_t select_call(struct proc *p, struct task *t, int count, const uint64_t sets[3],
		    uint64_t timeout_ns)
{
	uint64_t wanted[3][SET_WORDS] = {{0}}, found[3][SET_WORDS] = {{0}};
	size_t bytes;
	int64_t ready = 0;

	if (count < 0)
		return -EINVAL;
	count = MIN(count, (int)FILES_MAX);
	bytes = (size_t)(count + 63) / 64 * 8;
	for (int s = 0; s < 3; s++)
		if (sets[s] && mm_copy_in(p, wanted[s], sets[s], bytes))
			return -EFAULT;
	for (int fd = 0; fd < count; fd++) {
		uint64_t bit = 1ull << (fd % 64);
		struct file *f;
		short events;

		if (!((wanted[0][fd / 64] | wanted[1][fd / 64] | wanted[2][fd / 64]) & bit))
			continue;
		f = fd_get(p, fd);
		if (!f)
			return -EBADF;
		events = file_ready(p, f);
		for (int s = 0; s < 3; s++) {
			if (!(wanted[s][fd / 64] & bit) || !(events & set_events[s]))
				continue;
			found[s][fd / 64] |= bit;
			ready++;
		}
	}
	if (!ready) {
		ready = nothing_ready(p, t, WAIT_KEY_ANY, timeout_ns);
		if (ready)
			return ready;
	}
	for (int s = 0; s < 3; s++)
		if (sets[s] && mm_copy_out(p, sets[s], found[s], bytes))
			return -EFAULT;
	return ready;
}
