/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_conn.c - vsock connections: the table, credit, and services in this process */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/util.h"
#include "vmm/kernel/vsock_internal.h"

enum { BYTES_SIZE_MIN = 4096 };

/* ---- bytes that wait ---- */

int vsock_bytes_put(struct vsock_bytes *b, const void *data, size_t n)
{
	size_t size = MAX(b->size, (size_t)BYTES_SIZE_MIN);

	if (n > b->size - b->head - b->used && b->head) {
		memmove(b->data, b->data + b->head, b->used);
		b->head = 0;
	}
	if (n > b->size - b->head - b->used) {
		uint8_t *p;

		while (size - b->used < n)
			size *= 2;
		p = realloc(b->data, size);
		if (!p)
			return -ENOMEM;
		b->data = p;
		b->size = size;
	}
	if (n)
		memcpy(b->data + b->head + b->used, data, n);
	b->used += n;
	return 0;
}

void vsock_bytes_drop(struct vsock_bytes *b, size_t n)
{
	b->head += n;
	b->used -= n;
	if (!b->used) {
		free(b->data);
		*b = (struct vsock_bytes){0};
	}
}

/* ---- the table ---- */

struct vsock_conn *conn_find(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++) {
		struct vsock_conn *c = &v->conns[i];

		if (c->state >= VSOCK_CONNECTING && c->guest_port == guest_port &&
		    c->host_port == host_port)
			return c;
	}
	return NULL;
}

struct vsock_conn *conn_new(struct vsock *v, enum vsock_state state, uint32_t guest_port,
			    uint32_t host_port)
{
	for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++) {
		struct vsock_conn *c = &v->conns[i];

		if (c->state != VSOCK_FREE)
			continue;
		*c = (struct vsock_conn){.v = v,
					 .state = state,
					 .guest_port = guest_port,
					 .host_port = host_port,
					 .fd = -1};
		return c;
	}
	return NULL;
}

void conn_end_service(struct vsock_conn *c)
{
	const struct vsock_service *service = c->service;

	c->service = NULL;
	if (service)
		service->closed(service->arg, c);
}

/** Whatever the host's end has; nothing goes either way any more. */
static void release(struct vsock_conn *c)
{
	conn_end_service(c);
	c->v->to_guest_bytes -= c->to_guest.used;
	vsock_bytes_drop(&c->to_guest, c->to_guest.used);
	vsock_bytes_drop(&c->to_host, c->to_host.used);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

void conn_free(struct vsock_conn *c)
{
	release(c);
	c->state = VSOCK_FREE;
}

void conn_reset(struct vsock_conn *c)
{
	release(c);
	c->owes = 0;
	c->state = VSOCK_DEAD;
}

/* ---- credit (5.10.6.3) ---- */

uint32_t conn_credit(const struct vsock_conn *c)
{
	uint32_t under_way = c->sent - c->peer_fwd;

	/* A guest that takes back what it has promised gets nothing. */
	return under_way < c->peer_alloc ? c->peer_alloc - under_way : 0;
}

void conn_forwarded(struct vsock_conn *c, uint32_t n)
{
	c->fwd += n;
	if (c->fwd - c->fwd_told >= VSOCK_WINDOW_BYTES / 4)
		c->owes |= VSOCK_OWES_CREDIT;
}

void conn_shutdown(struct vsock_conn *c, uint32_t flags)
{
	if ((c->shutdown_sent | flags) == c->shutdown_sent)
		return;
	c->shutdown_sent |= flags;
	c->owes |= VSOCK_OWES_SHUTDOWN;
}

/* ---- services ---- */

const struct vsock_service *conn_service(const struct vsock *v, uint32_t port)
{
	for (unsigned i = 0; i < v->service_count; i++)
		if (v->services[i].port == port)
			return &v->services[i];
	return NULL;
}

int vsock_listen_local(struct virtio_device *d, const struct vsock_service *service)
{
	struct vsock *v = vsock_of(d);

	if (conn_service(v, service->port))
		return -EADDRINUSE;
	if (v->service_count == VSOCK_SERVICES_MAX)
		return -ENOSPC;
	v->services[v->service_count++] = *service;
	return 0;
}

int vsock_send(struct vsock_conn *c, const void *data, size_t n)
{
	struct vsock *v = c->v;
	int ret;

	if (c->state != VSOCK_OPEN || c->closing || (c->shutdown_got & VIRTIO_VSOCK_SHUTDOWN_RCV))
		return -EPIPE;
	if (n > VSOCK_SEND_BYTES_MAX - v->to_guest_bytes)
		return -ENOBUFS;
	ret = vsock_bytes_put(&c->to_guest, data, n);
	if (ret)
		return ret;
	v->to_guest_bytes += n;
	vsock_fill(v);
	return 0;
}

void vsock_close(struct vsock_conn *c)
{
	c->service = NULL;
	c->closing = true;
	vsock_fill(c->v);
}

void vsock_set_priv(struct vsock_conn *c, void *priv)
{
	c->priv = priv;
}

void *vsock_priv(const struct vsock_conn *c)
{
	return c->priv;
}

uint32_t vsock_conn_id(const struct vsock_conn *c)
{
	return (uint32_t)(c - c->v->conns);
}

struct vsock_conn *vsock_conn_by_id(struct virtio_device *d, uint32_t id)
{
	struct vsock *v = vsock_of(d);

	return id < VSOCK_CONNECTIONS_MAX && v->conns[id].service ? &v->conns[id] : NULL;
}

uint32_t vsock_conn_port(const struct vsock_conn *c)
{
	return c->host_port;
}

bool vsock_conn_ended(const struct vsock_conn *c)
{
	return c->shutdown_got & VIRTIO_VSOCK_SHUTDOWN_SEND;
}
