/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fd_store.c - descriptors in the care of the service manager, where it keeps them over a restart
 *
 * A message to the service manager is one system call that does not block; when its queue is full,
 * the message waits in a ring of fixed size.
 *
 * Invariant: messages of one name are sent in the order in which they were asked for.
 */
#include "snapd/fd_store.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "snapd/service_manager.h"

enum { PENDING_MAX = 1024, RETRY_MS = 5, ANSWER_MS = 2000 };

/** struct pending - a message that did not fit. @fd_count: 0: drop; -1: taken back. */
struct pending {
	char name[FD_STORE_NAME_MAX + 1];
	int fds[FD_STORE_FDS_MAX];
	int fd_count;
};

static struct {
	bool open, overrun;
	struct pending ring[PENDING_MAX];
	unsigned first, count;
	uint64_t retry_ns;
} store;

/* ---- sending --------------------------------------------------------------------------------- */

/** Return: 0, -EAGAIN or another -errno. */
static int send_one(const char *name, const int *fds, int count)
{
	return count ? service_manager_store_fds(name, fds, (unsigned)count)
		     : service_manager_drop_fds(name);
}

static void push(const char *name, const int *fds, int count)
{
	struct pending *p;

	if (store.count == PENDING_MAX) {
		/* What is not kept ends with us; what is not dropped, the next snapd drops. */
		if (!store.overrun)
			log_warn("fd store: the service manager does not read: %s and what "
				 "follows is forgotten",
				 name);
		store.overrun = true;
		return;
	}
	p = &store.ring[(store.first + store.count++) % PENDING_MAX];
	*p = (struct pending){.fd_count = count};
	snprintf(p->name, sizeof(p->name), "%s", name);
	if (count)
		memcpy(p->fds, fds, (size_t)count * sizeof(*fds));
	store.retry_ns = clock_mono_ns() + RETRY_MS * 1000000ull;
}

static void send_or_push(const char *name, const int *fds, int count)
{
	int ret = store.count ? -EAGAIN : send_one(name, fds, count);

	if (ret == -EAGAIN || ret == -ENOBUFS)
		push(name, fds, count);
	else if (ret)
		log_warn("fd store: %s: %s", name, strerror(-ret));
}

void fd_store_keep(const char *name, const int *fds, int count)
{
	if (store.open)
		send_or_push(name, fds, count);
}

void fd_store_drop(const char *name)
{
	if (!store.open)
		return;
	for (unsigned i = 0; i < store.count; i++) {
		struct pending *p = &store.ring[(store.first + i) % PENDING_MAX];

		/* It was never sent, and its descriptors are about to be closed. */
		if (p->fd_count > 0 && !strcmp(p->name, name)) {
			p->fd_count = -1;
			return;
		}
	}
	send_or_push(name, NULL, 0);
}

void fd_store_turn(uint64_t now_ns)
{
	if (!store.count || now_ns < store.retry_ns)
		return;
	while (store.count) {
		struct pending *p = &store.ring[store.first];

		if (p->fd_count >= 0 && send_one(p->name, p->fds, p->fd_count) == -EAGAIN)
			break;
		store.first = (store.first + 1) % PENDING_MAX;
		store.count--;
		store.overrun = false;
	}
	store.retry_ns = now_ns + RETRY_MS * 1000000ull;
}

uint64_t fd_store_next_ns(void)
{
	return store.count ? store.retry_ns : UINT64_MAX;
}

/* ---- is there one? --------------------------------------------------------------------------- */

/** Give it the end of a pipe: where descriptors are not kept, the other end is hung up. */
static bool keeps_descriptors(void)
{
	struct pollfd ours = {.fd = -1};
	bool kept = false;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return false;
	ours.fd = ends[0];
	if (!send_one("probe", &ends[1], 1)) {
		close(ends[1]);
		kept = !service_manager_barrier(ANSWER_MS) && poll(&ours, 1, 0) == 0;
		send_one("probe", NULL, 0);
	} else {
		close(ends[1]);
	}
	close(ends[0]);
	return kept;
}

bool fd_store_open(void)
{
	store.open = service_manager_stores_fds() && keeps_descriptors();
	return store.open;
}

bool fd_store_is_open(void)
{
	return store.open;
}

void fd_store_close(void)
{
	store.open = false;
	store.first = store.count = 0;
}
