/* SPDX-License-Identifier: Apache-2.0 */
/* net.c - all sockets of a guest, the vmm's services, and both in a saved state */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "vmm/process/proc.h"
#include "vmm/process/sock_internal.h"
#include "vmm/process/task.h"

enum { PORT_FIRST = 32768, PORT_END = 61000 };

int net_new(struct proc *p)
{
	p->net = calloc(1, sizeof(*p->net));
	if (!p->net)
		return -ENOMEM;
	p->net->next_id = 1;
	p->net->next_port = PORT_FIRST;
	return 0;
}

void net_free(struct proc *p)
{
	while (p->net && p->net->first)
		sock_free(p, p->net->first);
	free(p->net);
	p->net = NULL;
}

static struct sock *sock_alloc(struct net *net, uint32_t id)
{
	struct sock *s;

	if (net->count >= SOCKS_MAX)
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->id = id;
	s->net = net;
	s->prev = net->last;
	if (net->last)
		net->last->next = s;
	else
		net->first = s;
	net->last = s;
	net->count++;
	return s;
}

struct sock *sock_new(struct proc *p, int domain, int type, int protocol)
{
	struct sock *s = sock_alloc(p->net, p->net->next_id);

	if (!s)
		return NULL;
	p->net->next_id++;
	s->domain = domain;
	s->type = type;
	s->protocol = protocol;
	s->read_timeout_ns = s->write_timeout_ns = WAIT_FOREVER;
	return s;
}

void sock_free(struct proc *p, struct sock *s)
{
	struct net *net = p->net;

	if (s->prev)
		s->prev->next = s->next;
	else
		net->first = s->next;
	if (s->next)
		s->next->prev = s->prev;
	else
		net->last = s->prev;
	net->count--;
	while (s->messages) {
		struct sock_message *m = s->messages;

		s->messages = m->next;
		free(m);
	}
	net->bytes -= s->held_bytes;
	free(s->rx);
	free(s);
}

uint32_t sock_id(const struct sock *conn)
{
	return conn->id;
}

struct sock *sock_by_id(struct proc *p, uint32_t id)
{
	struct sock *s = p->net->first;

	while (s && s->id != id)
		s = s->next;
	return s;
}

/* ---- services ---- */

int sock_service_register(struct proc *p, const struct sock_service *service)
{
	struct net *net = p->net;

	if (service_by_port(p, service->port))
		return -EADDRINUSE;
	if (net->service_count == SERVICES_MAX)
		return -ENOSPC;
	net->services[net->service_count++] = *service;
	return 0;
}

const struct sock_service *service_by_port(const struct proc *p, uint16_t port)
{
	for (unsigned i = 0; i < p->net->service_count; i++)
		if (p->net->services[i].port == port)
			return &p->net->services[i];
	return NULL;
}

int service_send(struct proc *p, struct sock *conn, const void *data, size_t n)
{
	struct sock *guest = conn->peer;
	int ret;

	if (!guest)
		return -EPIPE;
	/* The largest answer fits behind what is below the limit. */
	if (guest->rx_used > SOCK_BUFFER_MAX_BYTES)
		return -ENOBUFS;
	ret = sock_append(guest, data, n);
	if (!ret)
		sock_wake(p, guest);
	return ret;
}

void service_close(struct proc *p, struct sock *conn)
{
	struct sock *guest = conn->peer;

	if (guest) {
		guest->peer = NULL;
		guest->peer_done = true;
		sock_wake(p, guest);
	}
	sock_free(p, conn);
}

bool service_ended(const struct sock *conn)
{
	return !conn->peer || conn->peer->write_shut;
}

uint16_t service_port(const struct sock *conn)
{
	return conn->service ? conn->service->port : 0;
}

void service_set_priv(struct sock *conn, void *priv)
{
	conn->priv = priv;
}

void *service_priv(const struct sock *conn)
{
	return conn->priv;
}

/* ---- saved state ---- */

enum {
	BIT_BOUND = 1,
	BIT_READ_SHUT = 2,
	BIT_WRITE_SHUT = 4,
	BIT_PEER_DONE = 8,
	BITS_KNOWN = 15,
	SOCK_RECORD_MIN = 80
};

static void addr_save(const struct sock_addr *a, struct state_writer *w)
{
	state_put_u32(w, a->family);
	if (a->family == AF_INET6) {
		state_put_u32(w, a->port);
		state_put(w, a->ip, sizeof(a->ip));
	} else if (a->family == AF_UNIX) {
		state_put_bytes(w, a->path, a->path_bytes);
	}
}

static int addr_load(struct sock_addr *a, struct state_reader *r)
{
	uint32_t family = state_get_u32(r);
	const void *path;
	size_t n;

	memset(a, 0, sizeof(*a));
	a->family = (uint16_t)family;
	if (family == AF_INET6) {
		a->port = (uint16_t)state_get_u32(r);
		state_get(r, a->ip, sizeof(a->ip));
	} else if (family == AF_UNIX) {
		path = state_get_bytes(r, sizeof(a->path), &n);
		if (path)
			memcpy(a->path, path, n);
		a->path_bytes = (uint8_t)n;
	} else if (family != AF_UNSPEC) {
		return -EBADMSG;
	}
	return r->err;
}

static uint32_t id_of(const struct sock *s)
{
	return s ? s->id : 0;
}

static void sock_save(const struct sock *s, struct state_writer *w)
{
	state_put_u32(w, s->id);
	state_put_u32(w, (uint32_t)s->domain);
	state_put_u32(w, (uint32_t)s->type);
	state_put_u32(w, (uint32_t)s->protocol);
	state_put_u32(w, s->state);
	state_put_u32(w, (s->bound ? BIT_BOUND : 0) | (s->read_shut ? BIT_READ_SHUT : 0) |
				 (s->write_shut ? BIT_WRITE_SHUT : 0) |
				 (s->peer_done ? BIT_PEER_DONE : 0));
	addr_save(&s->local, w);
	addr_save(&s->remote, w);
	state_put_u64(w, s->inode);
	state_put_u32(w, id_of(s->peer));
	state_put_u32(w, s->service ? s->service->port : 0);
	state_put_u32(w, s->backlog);
	state_put_u32(w, (uint32_t)s->error);
	state_put_u64(w, s->read_timeout_ns);
	state_put_u64(w, s->write_timeout_ns);
	state_put_bytes(w, s->rx ? s->rx + s->rx_head : NULL, s->rx ? s->rx_used : 0);
	state_put_u32(w, s->message_count);
	for (const struct sock_message *m = s->messages; m; m = m->next) {
		addr_save(&m->from, w);
		state_put_bytes(w, m->data, m->bytes);
	}
	state_put_u32(w, s->option_count);
	for (unsigned i = 0; i < s->option_count; i++)
		state_put(w, &s->options[i], sizeof(s->options[i]));
	state_put_u32(w, s->pending_count);
	for (const struct sock *q = s->pending; q; q = q->pending_next)
		state_put_u32(w, q->id);
}

int net_save(struct proc *p, struct state_writer *w)
{
	const struct net *net = p->net;

	state_put_u32(w, net->next_id);
	state_put_u32(w, net->next_port);
	state_put_u32(w, net->count);
	for (const struct sock *s = net->first; s; s = s->next)
		sock_save(s, w);
	return w->err;
}

/** struct links - what can be resolved only when all sockets are there. */
struct links {
	struct sock *sock;
	uint32_t peer;
	uint32_t *pending;
	uint32_t pending_count;
};

static int messages_load(struct sock *s, struct state_reader *r)
{
	uint32_t count = state_get_count(r, 8);

	if (r->err || count > SOCK_MESSAGES_MAX)
		return -EBADMSG;
	while (count--) {
		struct sock_message *m;
		struct sock_addr from;
		const void *data;
		size_t n;
		int ret = addr_load(&from, r);

		data = state_get_bytes(r, SOCK_MESSAGE_MAX_BYTES, &n);
		if (ret || r->err)
			return -EBADMSG;
		ret = sock_message_add(s, &from, n, &m);
		if (ret)
			return ret;
		memcpy(m->data, data, n);
	}
	return 0;
}

static bool sock_kind_is_known(const struct sock *s)
{
	bool unix_kind = s->domain == AF_UNIX && (s->type == SOCK_STREAM || s->type == SOCK_DGRAM ||
						  s->type == SOCK_SEQPACKET);
	bool inet_kind = (s->domain == AF_INET || s->domain == AF_INET6) &&
			 (s->type == SOCK_STREAM || s->type == SOCK_DGRAM);

	return unix_kind || inet_kind;
}

static int sock_load_head(struct proc *p, struct sock *s, struct links *l, struct state_reader *r)
{
	uint32_t state, bits, port;

	s->domain = (int)state_get_u32(r);
	s->type = (int)state_get_u32(r);
	s->protocol = (int)state_get_u32(r);
	state = state_get_u32(r);
	bits = state_get_u32(r);
	if (r->err || state > SOCK_CONNECTED || bits & ~(uint32_t)BITS_KNOWN ||
	    !sock_kind_is_known(s) || addr_load(&s->local, r) || addr_load(&s->remote, r))
		return -EBADMSG;
	s->state = state;
	s->bound = bits & BIT_BOUND;
	s->read_shut = bits & BIT_READ_SHUT;
	s->write_shut = bits & BIT_WRITE_SHUT;
	s->peer_done = bits & BIT_PEER_DONE;
	s->inode = state_get_u64(r);
	l->peer = state_get_u32(r);
	port = state_get_u32(r);
	if (port) {
		s->service = service_by_port(p, (uint16_t)port);
		if (!s->service)
			return -EBADMSG;
	}
	s->backlog = state_get_u32(r);
	s->error = (int)state_get_u32(r) & 0xfff;
	s->read_timeout_ns = state_get_u64(r);
	s->write_timeout_ns = state_get_u64(r);
	return s->backlog > SOCK_BACKLOG_MAX ? -EBADMSG : r->err;
}

static int sock_load(struct proc *p, struct links *l, struct state_reader *r)
{
	uint32_t id = state_get_u32(r);
	struct sock *s;
	const void *rx;
	size_t n;
	int ret;

	if (r->err || !id || id >= p->net->next_id || sock_by_id(p, id))
		return -EBADMSG;
	s = l->sock = sock_alloc(p->net, id);
	if (!s)
		return -ENOMEM;
	ret = sock_load_head(p, s, l, r);
	if (ret)
		return ret;
	rx = state_get_bytes(r, UINT32_MAX, &n);
	if (r->err)
		return r->err;
	ret = sock_append(s, rx, n);
	if (!ret)
		ret = messages_load(s, r);
	if (ret)
		return ret;
	s->option_count = state_get_count(r, sizeof(s->options[0]));
	if (s->option_count > SOCK_OPTIONS_MAX)
		return -EBADMSG;
	for (unsigned i = 0; i < s->option_count; i++)
		state_get(r, &s->options[i], sizeof(s->options[i]));
	l->pending_count = state_get_count(r, 4);
	if (l->pending_count > SOCK_BACKLOG_MAX || (l->pending_count && s->state != SOCK_LISTENING))
		return -EBADMSG;
	l->pending = l->pending_count ? calloc(l->pending_count, 4) : NULL;
	if (l->pending_count && !l->pending)
		return -ENOMEM;
	for (uint32_t i = 0; i < l->pending_count; i++)
		l->pending[i] = state_get_u32(r);
	return r->err;
}

static int resolve_pending(struct proc *p, const struct links *l)
{
	struct sock **tail = &l->sock->pending;

	for (uint32_t i = 0; i < l->pending_count; i++) {
		struct sock *q = sock_by_id(p, l->pending[i]);

		if (!q || q->listener || q->service || q == l->sock || q->pending_count ||
		    q->state != SOCK_CONNECTED || q->type != l->sock->type)
			return -EBADMSG;
		q->listener = l->sock;
		*tail = q;
		tail = &q->pending_next;
		l->sock->pending_count++;
	}
	return 0;
}

static int resolve(struct proc *p, const struct links *l, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		int ret = resolve_pending(p, &l[i]);

		if (ret)
			return ret;
		l[i].sock->peer = l[i].peer ? sock_by_id(p, l[i].peer) : NULL;
		if (l[i].peer && !l[i].sock->peer)
			return -EBADMSG;
	}
	for (uint32_t i = 0; i < count; i++) {
		const struct sock *s = l[i].sock, *peer = s->peer;

		if (s->service && (!peer || peer->service || !sock_is_stream(s)))
			return -EBADMSG;
		if (!peer)
			continue;
		if (peer == s && sock_has_ends(s))
			return -EBADMSG;
		if (peer->type != s->type || (sock_has_ends(s) && peer->peer != s))
			return -EBADMSG;
	}
	return 0;
}

int net_load(struct proc *p, struct state_reader *r)
{
	struct net *net = p->net;
	struct links *links = NULL;
	uint32_t count;
	int ret = 0;

	net->next_id = state_get_u32(r);
	net->next_port = (uint16_t)state_get_u32(r);
	count = state_get_count(r, SOCK_RECORD_MIN);
	if (r->err || count > SOCKS_MAX || net->first || !net->next_id ||
	    net->next_port < PORT_FIRST || net->next_port >= PORT_END)
		return -EBADMSG;
	links = calloc(count ? count : 1, sizeof(*links));
	if (!links)
		return -ENOMEM;
	for (uint32_t i = 0; i < count && !ret; i++)
		ret = sock_load(p, &links[i], r);
	if (!ret)
		ret = resolve(p, links, count);
	for (uint32_t i = 0; i < count; i++)
		free(links[i].pending);
	free(links);
	return ret;
}
