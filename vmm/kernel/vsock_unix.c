/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_unix.c - the host's end of vsock connections as unix sockets, in Firecracker's convention
 *
 * Sockets are watched edge-triggered: an event says that there may be something to read, and it is
 * read when the guest has credit and a buffer, without a change of what is watched. Events are
 * taken many at a time, and what one of them leads to may give the slot of a later one to somebody
 * else: so each socket's tag is its own (watch()).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/util.h"
#include "vmm/kernel/vsock_internal.h"

/* Ports of the host's end where the guest is called: from 2^30 to 2^31 - 1. */
#define FIRST_PORT (1u << 30)

enum { BACKLOG = 64, ACCEPTS_MAX = 16, HELLO_BYTES = 32 };

static const uint32_t conn_events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

/* ---- the listener ---- */

static int unix_socket(struct sockaddr_un *addr, const char *path, uint32_t port, bool with_port)
{
	int n, fd;

	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	n = with_port ? snprintf(addr->sun_path, sizeof(addr->sun_path), "%s_%u", path, port)
		      : snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", path);
	if (n < 0 || (size_t)n >= sizeof(addr->sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
}

int unix_listen(struct vsock *v, const char *path)
{
	CLEANUP_FD int fd = -1;
	struct sockaddr_un addr;
	int err = 0;

	v->next_port = FIRST_PORT;
	if (strlen(path) >= sizeof(v->path)) {
		err = -ENAMETOOLONG;
	} else {
		fd = unix_socket(&addr, path, 0, false);
		if (fd < 0)
			err = fd;
		else if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)))
			err = -errno;
	}
	if (err) {
		log_error("vsock %s: %s%s", path, strerror(-err),
			  err == -EADDRINUSE ? ": it is another vmm's, or was left by one that was "
					       "killed: then remove it"
					     : "");
		return err;
	}
	snprintf(v->path, sizeof(v->path), "%s", path);
	if (listen(fd, BACKLOG))
		return -errno;
	v->listen_fd = steal_fd(&fd);
	return virtio_device_watch(&v->device, v->listen_fd, VSOCK_TAG_LISTENER, EPOLLIN);
}

void unix_unlisten(struct vsock *v)
{
	if (v->path[0])
		unlink(v->path);
	if (v->listen_fd >= 0)
		close(v->listen_fd);
}

static void hang_up_somebody(struct vsock *v)
{
	/* Who has not said what he wants leaves first: slots are not to be held by silence. */
	for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++) {
		if (v->conns[i].state == VSOCK_HELLO) {
			conn_free(&v->conns[i]);
			return;
		}
	}
	if (!v->unix_logged)
		log_warn("vsock %s: all %d connections are in use: more are refused", v->path,
			 VSOCK_CONNECTIONS_MAX);
	v->unix_logged = true;
}

static int watch(struct vsock_conn *c, int fd)
{
	uint32_t slot = (uint32_t)(c - c->v->conns);

	c->tag = c->v->watch_count++ << VSOCK_TAG_SLOT_BITS | slot;
	return virtio_device_watch(&c->v->device, fd, c->tag, conn_events);
}

static void accept_one(struct vsock *v, int fd)
{
	struct vsock_conn *c = conn_new(v, VSOCK_HELLO, 0, 0);

	if (!c) {
		hang_up_somebody(v);
		c = conn_new(v, VSOCK_HELLO, 0, 0);
	}
	if (!c) {
		close(fd);
		return;
	}
	c->fd = fd;
	if (watch(c, fd))
		conn_free(c);
}

static void accept_some(struct vsock *v)
{
	for (unsigned i = 0; i < ACCEPTS_MAX; i++) {
		int fd = accept4(v->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return;
		accept_one(v, fd);
	}
}

/* ---- connecting ---- */

int unix_connect(struct vsock_conn *c)
{
	CLEANUP_FD int fd = -1;
	struct sockaddr_un addr;
	int ret;

	if (!c->v->path[0])
		return -ECONNREFUSED;
	fd = unix_socket(&addr, c->v->path, c->host_port, true);
	if (fd < 0)
		return fd;
	/* At once or not at all: a full backlog is -EAGAIN. */
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)))
		return -errno;
	ret = watch(c, fd);
	if (!ret)
		c->fd = steal_fd(&fd);
	return ret;
}

/** "CONNECT P\n". Return: how many bytes of @text that is, 0 while it is incomplete, or -EBADMSG.
 */
static int parse_hello(const char *text, size_t n, uint32_t *ret_port)
{
	static const char word[] = "CONNECT ";
	const char *end = memchr(text, '\n', n);
	uint64_t port = 0;

	if (!end)
		return n < HELLO_BYTES ? 0 : -EBADMSG;
	if ((size_t)(end - text) < sizeof(word) || memcmp(text, word, sizeof(word) - 1))
		return -EBADMSG;
	for (const char *at = text + sizeof(word) - 1; at < end; at++) {
		if (*at < '0' || *at > '9')
			return -EBADMSG;
		port = port * 10 + (uint64_t)(*at - '0');
		if (port >= UINT32_MAX) /* VMADDR_PORT_ANY */
			return -EBADMSG;
	}
	*ret_port = (uint32_t)port;
	return (int)(end - text) + 1;
}

static uint32_t free_port(struct vsock *v, uint32_t guest_port)
{
	uint32_t port;

	do {
		port = v->next_port;
		v->next_port = FIRST_PORT | ((port + 1) & (FIRST_PORT - 1));
	} while (conn_find(v, guest_port, port));
	return port;
}

/** Only the line is taken from the socket: what comes behind it is for the guest. */
static void read_hello(struct vsock_conn *c)
{
	char text[HELLO_BYTES];
	ssize_t n = recv(c->fd, text, sizeof(text), MSG_PEEK | MSG_DONTWAIT);
	uint32_t port = 0;
	int used;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	used = n <= 0 ? -EBADMSG : parse_hello(text, (size_t)n, &port);
	if (used == 0)
		return;
	if (used < 0 || recv(c->fd, text, (size_t)used, MSG_DONTWAIT) != used) {
		conn_free(c);
		return;
	}
	c->host_port = free_port(c->v, port);
	c->guest_port = port;
	c->state = VSOCK_CONNECTING;
	c->owes = VSOCK_OWES_REQUEST;
	c->readable = true;
}

void unix_accepted(struct vsock_conn *c)
{
	char text[HELLO_BYTES];
	int n = snprintf(text, sizeof(text), "OK %u\n", c->host_port);

	c->state = VSOCK_OPEN;
	/* The first bytes of this direction: there is room, or nobody. */
	if (send(c->fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n)
		conn_reset(c);
}

/* ---- bytes ---- */

/** Return: bytes that the socket took, or -errno. */
static ssize_t send_some(struct vsock_conn *c, const struct iovec *iov, int count)
{
	struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count};
	ssize_t n;

	do
		n = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	return n;
}

/** What does not fit into the socket waits here. */
static int keep(struct vsock_conn *c, const struct iovec *iov, int count, size_t skip)
{
	for (int i = 0; i < count; i++) {
		size_t from = MIN(skip, iov[i].iov_len);
		int ret = vsock_bytes_put(&c->to_host, (uint8_t *)iov[i].iov_base + from,
					  iov[i].iov_len - from);

		if (ret)
			return ret;
		skip -= from;
	}
	return 0;
}

/** Nobody reads any more; what the socket still has to read goes to the guest. */
static void give_up_sending(struct vsock_conn *c)
{
	conn_forwarded(c, (uint32_t)c->to_host.used);
	vsock_bytes_drop(&c->to_host, c->to_host.used);
	conn_shutdown(c, VIRTIO_VSOCK_SHUTDOWN_RCV);
}

int unix_send(struct vsock_conn *c, const struct virtq_chain *chain, uint32_t offset, uint32_t n)
{
	struct iovec iov[VIRTQ_SEGMENTS_MAX];
	int count = iov_slice(virtq_chain_iov(chain, false), chain->read_count, offset, n, iov);
	ssize_t sent = 0;

	if (!c->to_host.used && !(c->shutdown_sent & VIRTIO_VSOCK_SHUTDOWN_RCV)) {
		sent = send_some(c, iov, count);
		if (sent < 0)
			give_up_sending(c);
	}
	if (c->shutdown_sent & VIRTIO_VSOCK_SHUTDOWN_RCV) {
		conn_forwarded(c, n);
		return 0;
	}
	conn_forwarded(c, (uint32_t)sent);
	return keep(c, iov, count, (size_t)sent);
}

/** Try again with what waits, and do what waits for its end. */
static void flush(struct vsock_conn *c)
{
	struct iovec iov = {vsock_bytes_at(&c->to_host), c->to_host.used};
	ssize_t sent;

	if (!c->to_host.used)
		return;
	sent = send_some(c, &iov, 1);
	if (sent < 0) {
		give_up_sending(c);
	} else {
		vsock_bytes_drop(&c->to_host, (size_t)sent);
		conn_forwarded(c, (uint32_t)sent);
	}
	if (c->to_host.used)
		return;
	if (c->state == VSOCK_LINGERING)
		conn_free(c);
	else if (c->shutdown_got)
		unix_guest_shutdown(c);
}

void unix_guest_shutdown(struct vsock_conn *c)
{
	if (c->shutdown_got & VIRTIO_VSOCK_SHUTDOWN_SEND)
		shutdown(c->fd, SHUT_WR);
	if (c->shutdown_got & VIRTIO_VSOCK_SHUTDOWN_RCV)
		shutdown(c->fd, SHUT_RD);
}

uint32_t unix_receive(struct vsock_conn *c, const struct virtq_chain *chain, uint32_t offset,
		      uint32_t n)
{
	struct iovec iov[VIRTQ_SEGMENTS_MAX];
	struct msghdr m = {.msg_iov = iov};
	ssize_t got;

	if (!c->readable || c->host_eof)
		return 0;
	m.msg_iovlen =
		(size_t)iov_slice(virtq_chain_iov(chain, true), chain->write_count, offset, n, iov);
	do
		got = recvmsg(c->fd, &m, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got > 0)
		return (uint32_t)got;
	c->readable = false;
	if (got < 0 && errno == EAGAIN)
		return 0;
	/* The end. A peer that only shut down its sending still reads. */
	c->host_eof = true;
	conn_shutdown(c, got < 0 || c->hung_up ? VSOCK_SHUTDOWN_BOTH : VIRTIO_VSOCK_SHUTDOWN_SEND);
	return 0;
}

/* ---- events ---- */

void unix_event(struct vsock *v, uint32_t tag, uint32_t events)
{
	uint32_t slot = tag & ((1u << VSOCK_TAG_SLOT_BITS) - 1);
	struct vsock_conn *c;

	if (tag == VSOCK_TAG_LISTENER) {
		accept_some(v);
		return;
	}
	if (slot >= VSOCK_CONNECTIONS_MAX)
		return;
	c = &v->conns[slot];
	if (c->fd < 0 || c->tag != tag)
		return; /* an event of one that was here before */
	if (events & (EPOLLHUP | EPOLLERR)) {
		c->hung_up = true;
		/* Else the end comes with what is read. */
		if (c->host_eof || (c->shutdown_got & VIRTIO_VSOCK_SHUTDOWN_RCV))
			conn_shutdown(c, VSOCK_SHUTDOWN_BOTH);
	}
	if (c->state == VSOCK_HELLO) {
		read_hello(c);
		return;
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->readable = true;
	if ((c->state == VSOCK_OPEN || c->state == VSOCK_LINGERING) &&
	    (events & (EPOLLOUT | EPOLLHUP)))
		flush(c);
}
