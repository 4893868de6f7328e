/* SPDX-License-Identifier: Apache-2.0 */
/* machine_loop.c - the thread that serves a machine's devices: what comes from outside */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "common/clock.h"
#include "common/log.h"
#include "vmm/kernel/machine.h"

/* How long a console's reader that takes nothing is left alone, and the longest wait at all. */
enum { CONSOLE_RETRY_MS = 20, WAIT_MAX_MS = 60000, EVENTS_MAX = 16 };

void machine_wake(struct machine *m)
{
	if (m->wake_fd >= 0 && eventfd_write(m->wake_fd, 1))
		log_debug("machine: the loop is awake already");
}

int machine_watch(struct machine *m, int fd, uint32_t events,
		  void (*event)(void *arg, int fd, uint32_t events), void *arg)
{
	for (uint32_t i = 0; i < MACHINE_WATCHES_MAX; i++) {
		struct epoll_event e = {.events = events, .data.u32 = i};

		if (m->watches[i].fd >= 0)
			continue;
		if (epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, fd, &e))
			return -errno;
		m->watches[i] = (struct machine_watch){.fd = fd, .event = event, .arg = arg};
		return 0;
	}
	return -ENOSPC;
}

static int wait_ms(const struct machine *m, uint64_t deadline_ns)
{
	uint64_t now = clock_mono_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
	uint64_t ms =
		MIN(left / NSEC_PER_MSEC + (left % NSEC_PER_MSEC != 0), (uint64_t)WAIT_MAX_MS);

	if (serial_out_waits(&m->serial_out))
		ms = MIN(ms, (uint64_t)CONSOLE_RETRY_MS);
	return (int)ms;
}

/** The lock is held. A watch lives as long as the machine. */
static void dispatch(struct machine *m, const struct epoll_event *events, int count)
{
	for (int i = 0; i < count; i++) {
		uint32_t slot = events[i].data.u32;
		eventfd_t ignored;

		if (slot == MACHINE_WATCHES_MAX)
			(void)eventfd_read(m->wake_fd, &ignored);
		else
			m->watches[slot].event(m->watches[slot].arg, m->watches[slot].fd,
					       events[i].events);
	}
	serial_out_flush(&m->serial_out);
}

int machine_run(struct machine *m, bool (*until)(struct machine *m), uint64_t deadline_ns)
{
	struct epoll_event events[EVENTS_MAX];
	int ret = 0;

	pthread_mutex_lock(&m->lock);
	dispatch(m, NULL, 0);
	while (!m->end && !(until && until(m))) {
		int timeout_ms = wait_ms(m, deadline_ns), count;

		if (clock_mono_ns() >= deadline_ns) {
			ret = -ETIMEDOUT;
			break;
		}
		pthread_mutex_unlock(&m->lock);
		count = epoll_wait(m->epoll_fd, events, EVENTS_MAX, timeout_ms);
		pthread_mutex_lock(&m->lock);
		dispatch(m, events, MAX(count, 0));
	}
	serial_out_flush(&m->serial_out);
	pthread_mutex_unlock(&m->lock);
	return ret;
}
