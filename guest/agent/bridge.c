/* SPDX-License-Identifier: Apache-2.0 */
/* bridge.c - connect TCP connections to a loopback port with streams to an endpoint outside */
#include "guest/agent/bridge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "guest/agent/note.h"

int bridge_init(struct bridge *b, uint16_t port, const struct endpoint *outside)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1;

	b->outside = *outside;
	b->listener = -1;
	for (int i = 0; i < BRIDGE_LINKS_MAX; i++)
		b->links[i].fds[0] = b->links[i].fds[1] = -1;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, BRIDGE_LINKS_MAX))
		return -errno;
	b->listener = steal_fd(&fd);
	return 0;
}

static bool buffer_has_data(const struct bridge_buffer *buf)
{
	return buf->start < buf->end;
}

static struct bridge_link *find_free(struct bridge *b)
{
	for (int i = 0; i < BRIDGE_LINKS_MAX; i++)
		if (b->links[i].fds[0] < 0)
			return &b->links[i];
	return NULL;
}

static bool has_free(const struct bridge *b)
{
	for (int i = 0; i < BRIDGE_LINKS_MAX; i++)
		if (b->links[i].fds[0] < 0)
			return true;
	return false;
}

void bridge_poll(const struct bridge *b, struct pollfd *ret)
{
	ret[0] = (struct pollfd){.fd = has_free(b) ? b->listener : -1, .events = POLLIN};
	for (int i = 0; i < BRIDGE_LINKS_MAX; i++) {
		const struct bridge_link *l = &b->links[i];

		for (int side = 0; side < 2; side++) {
			const struct bridge_buffer *in = &l->from[side], *out = &l->from[!side];
			struct pollfd *p = &ret[1 + 2 * i + side];
			bool connecting = side == 1 && l->connecting;
			short events = 0;

			if (!connecting && !in->eof && !buffer_has_data(in))
				events |= POLLIN;
			if (connecting || buffer_has_data(out))
				events |= POLLOUT;
			/* poll(2) would report a hang-up again and again where nothing is left to
			 * do. */
			*p = (struct pollfd){.fd = events ? l->fds[side] : -1, .events = events};
		}
	}
}

static void link_close(struct bridge_link *l)
{
	for (int side = 0; side < 2; side++) {
		cleanup_fd(&l->fds[side]);
		l->fds[side] = -1;
	}
}

static void accept_one(struct bridge *b)
{
	CLEANUP_FD int in = accept4(b->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct bridge_link *l = find_free(b);
	int out, one = 1;

	if (in < 0 || !l)
		return;
	out = endpoint_connect(&b->outside);
	if (out < 0) {
		note("no way to the Runtime API outside: error %d", -out);
		return;
	}
	setsockopt(in, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	l->fds[0] = steal_fd(&in);
	l->fds[1] = out;
	l->connecting = b->outside.kind != ENDPOINT_DEVICE;
	for (int side = 0; side < 2; side++) {
		l->from[side].start = l->from[side].end = 0;
		l->from[side].eof = l->from[side].closed = false;
	}
}

/** Take in what @side has sent. Return: 0 or -errno. */
static int link_read(struct bridge_link *l, int side)
{
	struct bridge_buffer *buf = &l->from[side];
	ssize_t n = read(l->fds[side], buf->data, sizeof(buf->data));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	buf->start = 0;
	buf->end = buf->closed ? 0 : (size_t)n;
	buf->eof = n == 0;
	return 0;
}

/** The other side takes no more of what @side sends: that is dropped, so that @side can finish. */
static void link_drop(struct bridge_link *l, int side)
{
	l->from[side].start = l->from[side].end = 0;
	l->from[side].closed = true;
}

/**
 * Pass on what @side has sent, and its end. An end that takes no more may have answered before: the
 * other direction goes on by itself.
 * Return: 0, or -errno when the whole link is over.
 */
static int link_write(struct bridge_link *l, int side)
{
	struct bridge_buffer *buf = &l->from[side];

	if (buffer_has_data(buf)) {
		ssize_t n = write(l->fds[!side], buf->data + buf->start, buf->end - buf->start);

		if (n >= 0)
			buf->start += (size_t)n;
		else if (errno != EAGAIN && errno != EINTR)
			link_drop(l, side);
	}
	if (buf->eof && !buffer_has_data(buf) && !buf->closed) {
		buf->closed = true;
		/* A device has no half-close: its stream ends with the descriptor. */
		if (shutdown(l->fds[!side], SHUT_WR) && errno != ENOTCONN)
			return -errno;
	}
	return 0;
}

/** Is the stream outside established? Return: 0 or -errno; it may still be under way after 0. */
static int link_connect(struct bridge_link *l, const struct pollfd *p)
{
	int err = 0;
	socklen_t n = sizeof(err);

	if (!p->revents)
		return 0;
	if (getsockopt(l->fds[1], SOL_SOCKET, SO_ERROR, &err, &n))
		return -errno;
	l->connecting = false;
	return -err;
}

static void link_handle(struct bridge_link *l, const struct pollfd polls[2])
{
	int err = l->connecting ? link_connect(l, &polls[1]) : 0;

	for (int side = 0; side < 2 && !err; side++) {
		if (polls[side].fd >= 0 && (polls[side].events & POLLIN) &&
		    (polls[side].revents & (POLLIN | POLLHUP | POLLERR)))
			err = link_read(l, side);
		/* At once, without asking whether it can be written: it nearly always can. */
		if (!err && !(side == 0 && l->connecting))
			err = link_write(l, side);
	}
	if (err || (l->from[0].closed && l->from[1].closed))
		link_close(l);
}

void bridge_handle(struct bridge *b, const struct pollfd *polls)
{
	for (int i = 0; i < BRIDGE_LINKS_MAX; i++)
		if (b->links[i].fds[0] >= 0)
			link_handle(&b->links[i], &polls[1 + 2 * i]);
	if (polls[0].revents & POLLIN)
		accept_one(b);
}
