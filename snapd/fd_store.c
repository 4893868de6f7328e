/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fd_store.c - descriptors in the care of the service manager, where it keeps them over a restart
 *
 * The protocol is sd_notify(3)'s: datagrams of lines to $NOTIFY_SOCKET, descriptors by SCM_RIGHTS;
 * sd_listen_fds(3) brings them back. libsystemd's functions for sending open a socket each time and
 * wait for the service manager when its queue is full. Here a message is one system call on a
 * socket that does not block, and what does not fit waits in a ring of fixed size.
 *
 * Invariant: messages of one name are sent in the order in which they were asked for.
 */
#include "snapd/fd_store.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/util.h"

enum { PENDING_MAX = 1024, RETRY_MS = 5, ANSWER_MS = 2000 };

/** struct pending - a message that did not fit. @fd_count: 0: drop; -1: taken back. */
struct pending {
	char name[FD_STORE_NAME_MAX + 1];
	int fds[FD_STORE_FDS_MAX];
	int fd_count;
};

static struct {
	int sock;
	struct pending ring[PENDING_MAX];
	unsigned first, count;
	uint64_t retry_ns;
} store = {.sock = -1};

/* ---- sending --------------------------------------------------------------------------------- */

static int send_text(const char *text, const int *fds, int count)
{
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};

	return fdpass_send(store.sock, &iov, 1, fds, count);
}

/** Return: 0, -EAGAIN or another -errno. */
static int send_one(const char *name, const int *fds, int count)
{
	char text[FD_STORE_NAME_MAX + 64];

	/* Not polled: a hang-up of one of them says nothing about the others of its name. */
	snprintf(text, sizeof(text),
		 count ? "FDSTORE=1\nFDPOLL=0\nFDNAME=%s" : "FDSTOREREMOVE=1\nFDNAME=%s", name);
	return send_text(text, fds, count);
}

static void push(const char *name, const int *fds, int count)
{
	struct pending *p;

	if (store.count == PENDING_MAX) {
		/* What is not kept ends with us; what is not dropped, the next snapd drops. */
		log_warn("fd store: the service manager does not read: %s is forgotten", name);
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
	if (store.sock >= 0)
		send_or_push(name, fds, count);
}

void fd_store_drop(const char *name)
{
	if (store.sock < 0)
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
	}
	store.retry_ns = now_ns + RETRY_MS * 1000000ull;
}

uint64_t fd_store_next_ns(void)
{
	return store.count ? store.retry_ns : UINT64_MAX;
}

/* ---- is there one? --------------------------------------------------------------------------- */

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t n = strlen(path);
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (n < 2 || n >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
		return -EINVAL;
	memcpy(address.sun_path, path, n);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	if (connect(fd, (struct sockaddr *)&address,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)))
		return -errno;
	return steal_fd(&fd);
}

/** Wait until the service manager has acted on all that was sent. */
static int barrier(void)
{
	struct pollfd ours = {.fd = -1};
	int ends[2], ret;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	ret = send_text("BARRIER=1", &ends[1], 1);
	close(ends[1]);
	ours.fd = ends[0];
	/* It closes its copy then. */
	if (!ret && poll(&ours, 1, ANSWER_MS) != 1)
		ret = -ETIMEDOUT;
	close(ends[0]);
	return ret;
}

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
		kept = !barrier() && poll(&ours, 1, 0) == 0;
		send_one("probe", NULL, 0);
	} else {
		close(ends[1]);
	}
	close(ends[0]);
	return kept;
}

bool fd_store_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	int fd = path ? connect_to(path) : -ENOENT;

	if (path && fd < 0)
		log_warn("fd store: %s: %s", path, strerror(-fd));
	if (fd < 0)
		return false;
	store.sock = fd;
	if (!keeps_descriptors())
		fd_store_close();
	return store.sock >= 0;
}

bool fd_store_is_open(void)
{
	return store.sock >= 0;
}

void fd_store_close(void)
{
	cleanup_fd(&store.sock);
	store.sock = -1;
	store.first = store.count = 0;
}
