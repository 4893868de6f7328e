/* SPDX-License-Identifier: Apache-2.0 */
/* sock.c - bytes and messages between two ends, and how the ends find each other */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/signal.h"
#include "vmm/process/sock_internal.h"
#include "vmm/process/task.h"

enum { SERVICE_CHUNK_BYTES = 256 * 1024, RX_KEEP_BYTES = 64 * 1024 };

void sock_wake(struct proc *p, const struct sock *s)
{
	if (s->file)
		task_wake_all(p, s->file->wait_key);
}

/* ---- copying ---- */

static int io_copy(struct proc *p, const struct sock_io *io, size_t at, uint8_t *data, size_t n,
		   bool put)
{
	for (int i = 0; i < io->count && n; i++) {
		const struct iovec *v = &io->iov[i];
		uint8_t *base;
		size_t part;
		int ret = 0;

		if (at >= v->iov_len) {
			at -= v->iov_len;
			continue;
		}
		part = MIN(v->iov_len - at, n);
		base = (uint8_t *)v->iov_base + at;
		if (!io->user)
			memcpy(put ? base : data, put ? data : base, part);
		else if (put)
			ret = mm_copy_out(p, (uint64_t)(uintptr_t)base, data, part);
		else
			ret = mm_copy_in(p, data, (uint64_t)(uintptr_t)base, part);
		if (ret)
			return ret;
		data += part;
		n -= part;
		at = 0;
	}
	return 0;
}

int sock_io_get(struct proc *p, const struct sock_io *io, size_t at, void *dst, size_t n)
{
	return io_copy(p, io, at, dst, n, false);
}

int sock_io_put(struct proc *p, const struct sock_io *io, size_t at, const void *src, size_t n)
{
	return io_copy(p, io, at, (uint8_t *)(uintptr_t)src, n, true);
}

static void account(struct sock *s, ssize_t bytes)
{
	s->held_bytes += (size_t)bytes;
	s->net->bytes += (size_t)bytes;
}

/** Room for @n more bytes behind the buffered ones. */
static int rx_reserve(struct sock *s, size_t n)
{
	size_t size = s->rx_size ? s->rx_size : 4096;
	uint8_t *grown;

	if (s->rx_size - s->rx_head - s->rx_used >= n)
		return 0;
	if (s->rx_head) {
		memmove(s->rx, s->rx + s->rx_head, s->rx_used);
		s->rx_head = 0;
	}
	if (s->rx_size - s->rx_used >= n)
		return 0;
	while (size - s->rx_used < n)
		size *= 2;
	grown = realloc(s->rx, size);
	if (!grown)
		return -ENOMEM;
	account(s, (ssize_t)(size - s->rx_size));
	s->rx = grown;
	s->rx_size = size;
	return 0;
}

int sock_append(struct sock *s, const void *data, size_t n)
{
	int ret = rx_reserve(s, n);

	if (ret || !n)
		return ret;
	memcpy(s->rx + s->rx_head + s->rx_used, data, n);
	s->rx_used += n;
	return 0;
}

static void rx_consume(struct sock *s, size_t n)
{
	s->rx_head += n;
	s->rx_used -= n;
	if (s->rx_used)
		return;
	s->rx_head = 0;
	/* One big payload must not stay in memory, nor in a snapshot's process. */
	if (s->rx_size > RX_KEEP_BYTES) {
		account(s, -(ssize_t)s->rx_size);
		free(s->rx);
		s->rx = NULL;
		s->rx_size = 0;
	}
}

int sock_message_add(struct sock *s, const struct sock_addr *from, size_t n,
		     struct sock_message **ret)
{
	struct sock_message *m = malloc(sizeof(*m) + n);

	if (!m)
		return -ENOMEM;
	m->next = NULL;
	m->from = *from;
	m->bytes = m->room = n;
	if (s->messages)
		s->messages_tail->next = m;
	else
		s->messages = m;
	s->messages_tail = m;
	s->message_count++;
	account(s, (ssize_t)(sizeof(*m) + n));
	*ret = m;
	return 0;
}

/* ---- sending ---- */

static int64_t send_to_service(struct proc *p, struct sock *s, const struct sock_io *io)
{
	struct sock *conn = s->peer;
	size_t room = MIN(io->bytes, (size_t)SERVICE_CHUNK_BYTES), done = 0;
	CLEANUP_FREE uint8_t *chunk = malloc(room ? room : 1);

	if (!chunk)
		return -ENOMEM;
	while (done < io->bytes) {
		size_t part = MIN(room, io->bytes - done);

		if (sock_io_get(p, io, done, chunk, part))
			return done ? (int64_t)done : -EFAULT;
		conn->service->data(p, conn, chunk, part);
		done += part;
		/* The service may have closed the connection because of what came. */
		if (s->peer != conn)
			break;
	}
	return (int64_t)done;
}

/** A blocking sender is let over the limit once: then no send is ever cut short. */
static int64_t send_stream(struct proc *p, struct sock *s, const struct sock_io *io, int flags)
{
	struct sock *peer = s->peer;
	bool waits = !(flags & MSG_DONTWAIT) && !(s->file && (s->file->flags & O_NONBLOCK));
	size_t n, room;

	if (s->state != SOCK_CONNECTED && !s->write_shut)
		return -ENOTCONN;
	if (s->error) {
		int err = s->error;

		s->error = 0;
		return -err;
	}
	if (s->write_shut || !peer || peer->read_shut)
		return -EPIPE;
	if (peer->service)
		return send_to_service(p, s, io);
	if (peer->rx_used >= SOCK_BUFFER_BYTES)
		return -EAGAIN;
	room = (waits ? SOCK_BUFFER_MAX_BYTES : SOCK_BUFFER_BYTES) - peer->rx_used;
	n = MIN(io->bytes, room);
	if (s->net->bytes > SOCK_BYTES_MAX || n > SOCK_BYTES_MAX - s->net->bytes)
		return -ENOBUFS;
	if (rx_reserve(peer, n))
		return -ENOMEM;
	if (sock_io_get(p, io, 0, peer->rx + peer->rx_head + peer->rx_used, n))
		return -EFAULT;
	peer->rx_used += n;
	if (n)
		sock_wake(p, peer);
	return (int64_t)n;
}

static int message_target(struct proc *p, struct sock *s, const struct sock_addr *to,
			  struct sock **ret)
{
	*ret = NULL;
	if (s->write_shut)
		return -EPIPE;
	if (sock_has_ends(s)) {
		if (s->state != SOCK_CONNECTED)
			return -ENOTCONN;
		if (!s->peer || s->peer->read_shut)
			return -EPIPE;
		*ret = s->peer;
		return 0;
	}
	if (!to && s->domain == AF_UNIX) {
		*ret = s->peer;
		if (!s->peer)
			return s->state == SOCK_CONNECTED ? -ECONNREFUSED : -ENOTCONN;
		return 0;
	}
	if (!to && s->state != SOCK_CONNECTED)
		return -EDESTADDRREQ;
	to = to ? to : &s->remote;
	if (!sock_addr_is_local(to))
		return -ENETUNREACH;
	/* Nobody there: a UNIX name must exist, a UDP packet just vanishes. */
	return sock_find(p, s, to, ret);
}

static int64_t send_message(struct proc *p, struct sock *s, const struct sock_io *io,
			    const struct sock_addr *to)
{
	size_t max = s->domain == AF_UNIX ? (size_t)SOCK_MESSAGE_MAX_BYTES
					  : (size_t)SOCK_INET_MESSAGE_MAX_BYTES;
	struct sock_message *m;
	struct sock *target;
	int ret = message_target(p, s, to, &target);

	if (ret)
		return ret;
	if (io->bytes > max)
		return -EMSGSIZE;
	ret = sock_autobind(p, s, to ? to : &s->remote);
	if (ret || !target)
		return ret ? ret : (int64_t)io->bytes;
	if (target->message_count >= SOCK_MESSAGES_MAX)
		return s->domain == AF_UNIX ? -EAGAIN : (int64_t)io->bytes;
	if (s->net->bytes > SOCK_BYTES_MAX)
		return -ENOBUFS;
	ret = sock_message_add(target, &s->local, io->bytes, &m);
	if (ret)
		return ret;
	if (sock_io_get(p, io, 0, m->data, io->bytes)) {
		m->bytes = 0;
		return -EFAULT;
	}
	sock_wake(p, target);
	return (int64_t)io->bytes;
}

int64_t sock_send(struct proc *p, struct sock *s, const struct sock_io *io, int flags,
		  const struct sock_addr *to)
{
	int64_t ret = sock_is_stream(s) ? send_stream(p, s, io, flags) : send_message(p, s, io, to);

	if (ret == -EPIPE && !(flags & MSG_NOSIGNAL))
		signal_send(p, task_current(p), SIGPIPE, SI_USER, 0);
	return ret;
}

/* ---- receiving ---- */

static bool at_end(const struct sock *s)
{
	return s->read_shut || s->peer_done || (s->state == SOCK_CONNECTED && !s->peer);
}

static int64_t nothing_to_read(struct sock *s)
{
	int err = s->error;

	if (err) {
		s->error = 0;
		return -err;
	}
	if (sock_has_ends(s) && s->state != SOCK_CONNECTED && !s->read_shut)
		return -ENOTCONN;
	return (sock_has_ends(s) || s->read_shut) && at_end(s) ? 0 : -EAGAIN;
}

static int64_t recv_stream(struct proc *p, struct sock *s, const struct sock_io *io, size_t at,
			   int flags)
{
	size_t n = MIN(s->rx_used, io->bytes - at);
	bool was_full = s->rx_used >= SOCK_BUFFER_BYTES;

	if (!s->rx_used)
		return nothing_to_read(s);
	if (flags & MSG_TRUNC)
		; /* TCP: discard instead of copying */
	else if (sock_io_put(p, io, at, s->rx + s->rx_head, n))
		return -EFAULT;
	if (flags & MSG_PEEK)
		return (int64_t)n;
	rx_consume(s, n);
	if (was_full && s->peer)
		sock_wake(p, s->peer);
	return (int64_t)n;
}

static int64_t recv_message(struct proc *p, struct sock *s, const struct sock_io *io, int flags,
			    struct sock_addr *ret_from, int *ret_flags)
{
	struct sock_message *m = s->messages;
	bool was_full = s->message_count >= SOCK_MESSAGES_MAX;
	size_t n;

	if (!m)
		return nothing_to_read(s);
	n = MIN(m->bytes, io->bytes);
	if (sock_io_put(p, io, 0, m->data, n))
		return -EFAULT;
	if (ret_from)
		*ret_from = m->from;
	if (m->bytes > n)
		*ret_flags |= MSG_TRUNC;
	if (flags & MSG_TRUNC)
		n = m->bytes;
	if (flags & MSG_PEEK)
		return (int64_t)n;
	s->messages = m->next;
	s->message_count--;
	account(s, -(ssize_t)(sizeof(*m) + m->room));
	free(m);
	/* Whoever waits to send does so for itself: all of them look again. */
	if (was_full)
		for (struct sock *q = p->net->first; q; q = q->next)
			if (q->peer == s)
				sock_wake(p, q);
	return (int64_t)n;
}

int64_t sock_recv(struct proc *p, struct sock *s, const struct sock_io *io, size_t at, int flags,
		  struct sock_addr *ret_from, int *ret_flags)
{
	*ret_flags = 0;
	if (ret_from)
		ret_from->family = AF_UNSPEC;
	if (at > io->bytes)
		return -EINVAL;
	if (sock_is_stream(s))
		return recv_stream(p, s, io, at, flags);
	return recv_message(p, s, io, flags, ret_from, ret_flags);
}

size_t sock_readable_bytes(const struct sock *s)
{
	if (sock_is_stream(s))
		return s->rx_used;
	return s->messages ? s->messages->bytes : 0;
}

/* ---- readiness ---- */

static bool has_room(const struct sock *s)
{
	const struct sock *peer = s->peer;

	if (!peer || peer->service)
		return true;
	if (sock_is_stream(s))
		return peer->rx_used < SOCK_BUFFER_BYTES;
	return s->domain != AF_UNIX || peer->message_count < SOCK_MESSAGES_MAX;
}

short sock_poll(const struct sock *s)
{
	short ready = s->error ? POLLERR : 0;

	if (s->state == SOCK_LISTENING)
		return (short)(ready | (s->pending ? POLLIN | POLLRDNORM : 0));
	if (sock_readable_bytes(s) || s->messages)
		ready |= POLLIN | POLLRDNORM;
	if (!sock_has_ends(s)) {
		if (s->read_shut)
			ready |= POLLIN | POLLRDNORM | POLLRDHUP;
		return (short)(ready | (has_room(s) ? POLLOUT | POLLWRNORM : 0));
	}
	if (s->state != SOCK_CONNECTED)
		return (short)(ready | POLLOUT | POLLWRNORM | POLLHUP);
	if (at_end(s))
		ready |= POLLIN | POLLRDNORM | POLLRDHUP;
	if (!s->peer || (s->write_shut && at_end(s)))
		ready |= POLLHUP;
	if (s->error || s->write_shut || has_room(s))
		ready |= POLLOUT | POLLWRNORM;
	return ready;
}

/* ---- connections ---- */

void sock_pair(struct sock *a, struct sock *b)
{
	a->peer = b;
	b->peer = a;
	a->state = b->state = SOCK_CONNECTED;
}

int sock_listen(struct sock *s, int backlog)
{
	if (!sock_has_ends(s))
		return -EOPNOTSUPP;
	if (s->state == SOCK_CONNECTED)
		return -EINVAL;
	s->state = SOCK_LISTENING;
	s->backlog = (unsigned)MIN(MAX(backlog, 16), (int)SOCK_BACKLOG_MAX);
	return 0;
}

struct sock *sock_accept(struct sock *s)
{
	struct sock *q = s->pending;

	if (!q)
		return NULL;
	s->pending = q->pending_next;
	s->pending_count--;
	q->pending_next = q->listener = NULL;
	return q;
}

static int connect_service(struct proc *p, struct sock *s, const struct sock_addr *to,
			   const struct sock_service *service)
{
	struct sock *conn = sock_new(p, s->domain, s->type, s->protocol);
	int ret;

	if (!conn)
		return -ENOMEM;
	conn->service = service;
	conn->local = *to;
	conn->remote = s->local;
	s->remote = *to;
	sock_pair(s, conn);
	ret = service->accept(p, conn);
	if (ret) {
		s->peer = NULL;
		s->state = SOCK_UNCONNECTED;
		sock_free(p, conn);
	}
	return ret;
}

static int connect_listener(struct proc *p, struct sock *s, const struct sock_addr *to,
			    struct sock *listener)
{
	struct sock *q, **tail = &listener->pending;

	if (listener->pending_count > listener->backlog)
		return -EAGAIN;
	q = sock_new(p, listener->domain, listener->type, listener->protocol);
	if (!q)
		return -ENOMEM;
	q->local = s->domain == AF_UNIX ? listener->local : *to;
	q->remote = s->local;
	q->listener = listener;
	s->remote = q->local;
	sock_pair(s, q);
	while (*tail)
		tail = &(*tail)->pending_next;
	*tail = q;
	listener->pending_count++;
	sock_wake(p, listener);
	return 0;
}

static int connect_ends(struct proc *p, struct sock *s, const struct sock_addr *to)
{
	const struct sock_service *service = NULL;
	struct sock *listener;
	int ret;

	if (s->state == SOCK_CONNECTED)
		return -EISCONN;
	if (s->state == SOCK_LISTENING)
		return -EINVAL;
	ret = sock_find(p, s, to, &listener);
	if (ret)
		return ret;
	if (s->domain != AF_UNIX && sock_is_stream(s))
		service = service_by_port(p, to->port);
	if (!service && (!listener || listener->state != SOCK_LISTENING))
		return -ECONNREFUSED;
	ret = sock_autobind(p, s, to);
	if (ret)
		return ret;
	return service ? connect_service(p, s, to, service) : connect_listener(p, s, to, listener);
}

int sock_connect(struct proc *p, struct sock *s, const struct sock_addr *to)
{
	struct sock *target;
	int ret;

	if (to->family != AF_UNSPEC && !sock_addr_is_local(to))
		return -ENETUNREACH;
	if (sock_has_ends(s))
		return to->family == AF_UNSPEC ? -EINVAL : connect_ends(p, s, to);
	if (to->family == AF_UNSPEC) {
		s->state = SOCK_UNCONNECTED;
		s->peer = NULL;
		s->remote = *to;
		return 0;
	}
	ret = sock_find(p, s, to, &target);
	if (!ret)
		ret = sock_autobind(p, s, to);
	if (ret)
		return ret;
	s->peer = s->domain == AF_UNIX ? target : NULL;
	s->remote = *to;
	s->state = SOCK_CONNECTED;
	return 0;
}

int sock_shutdown(struct proc *p, struct sock *s, int how)
{
	if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
		return -EINVAL;
	if (s->state == SOCK_LISTENING && how != SHUT_WR) {
		s->state = SOCK_UNCONNECTED;
		sock_wake(p, s);
		return 0;
	}
	if (s->state != SOCK_CONNECTED)
		return -ENOTCONN;
	if (how != SHUT_WR)
		s->read_shut = true;
	if (how != SHUT_RD && !s->write_shut) {
		s->write_shut = true;
		if (s->peer && s->peer->service) {
			s->peer->service->ended(p, s->peer);
		} else if (s->peer && sock_has_ends(s)) {
			s->peer->peer_done = true;
			sock_wake(p, s->peer);
		}
	}
	if (s->peer)
		sock_wake(p, s->peer);
	sock_wake(p, s);
	return 0;
}

static void leave_peer(struct proc *p, struct sock *s)
{
	struct sock *peer = s->peer;

	if (peer->service) {
		peer->service->closed(p, peer);
		if (s->peer == peer)
			service_close(p, peer);
		return;
	}
	peer->peer = NULL;
	peer->peer_done = true;
	/* What nobody read is lost: the sender learns it. */
	if (s->rx_used || s->messages)
		peer->error = ECONNRESET;
	sock_wake(p, peer);
}

void sock_close(struct proc *p, struct sock *s)
{
	struct sock *q;

	s->file = NULL;
	while ((q = sock_accept(s))) {
		if (q->peer)
			q->peer->error = ECONNRESET;
		sock_close(p, q);
	}
	if (s->peer && sock_has_ends(s))
		leave_peer(p, s);
	else
		for (q = p->net->first; q; q = q->next)
			if (q->peer == s) {
				q->peer = NULL;
				sock_wake(p, q);
			}
	sock_free(p, s);
}
