/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_state.c - save and load of vsock connections
 *
 * Connections to services are saved whole. Of those to unix sockets the guest is told that they
 * were reset, and who was still connecting is told nothing.
 */
#include <errno.h>

#include "common/util.h"
#include "vmm/kernel/vsock_internal.h"

enum { RECORD_END = VSOCK_CONNECTIONS_MAX, REPLY_BYTES = 16 };

static bool goes_on(const struct vsock_conn *c)
{
	return c->local && c->state == VSOCK_OPEN;
}

static void save_conn(const struct vsock_conn *c, struct state_writer *w)
{
	state_put_u32(w, c->guest_port);
	state_put_u32(w, c->host_port);
	state_put_u8(w, goes_on(c));
	if (!goes_on(c))
		return;
	state_put_u8(w, c->service != NULL);
	state_put_u8(w, c->closing);
	state_put_u32(w, c->owes);
	state_put_u32(w, c->shutdown_sent);
	state_put_u32(w, c->shutdown_got);
	state_put_u32(w, c->peer_alloc);
	state_put_u32(w, c->peer_fwd);
	state_put_u32(w, c->sent);
	state_put_u32(w, c->fwd);
	state_put_u32(w, c->fwd_told);
	state_put_bytes(w, vsock_bytes_at(&c->to_guest), c->to_guest.used);
}

int vsock_save(const struct virtio_device *d, struct state_writer *w)
{
	const struct vsock *v = (const void *)d; /* its first member */

	state_put_u64(w, v->config.guest_cid);
	state_put_u32(w, v->reply_count);
	for (unsigned i = 0; i < v->reply_count; i++) {
		const struct vsock_reply *r = &v->replies[(v->reply_head + i) % VSOCK_REPLIES_MAX];

		state_put_u64(w, r->host_cid);
		state_put_u32(w, r->guest_port);
		state_put_u32(w, r->host_port);
	}
	for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++) {
		if (v->conns[i].state < VSOCK_CONNECTING)
			continue;
		state_put_u32(w, i);
		save_conn(&v->conns[i], w);
	}
	state_put_u32(w, RECORD_END);
	return w->err;
}

static int load_service_conn(struct vsock_conn *c, struct state_reader *r)
{
	uint8_t served = state_get_u8(r), closing = state_get_u8(r);
	const void *bytes;
	size_t n;

	c->state = VSOCK_OPEN;
	c->local = true;
	c->closing = closing;
	c->owes = state_get_u32(r);
	c->shutdown_sent = state_get_u32(r);
	c->shutdown_got = state_get_u32(r);
	c->peer_alloc = state_get_u32(r);
	c->peer_fwd = state_get_u32(r);
	c->sent = state_get_u32(r);
	c->fwd = c->got = state_get_u32(r);
	c->fwd_told = state_get_u32(r);
	bytes = state_get_bytes(r, VSOCK_SEND_BYTES_MAX - c->v->to_guest_bytes, &n);
	if (r->err || served > 1 || closing > 1 || served == closing ||
	    (c->owes & ~(uint32_t)VSOCK_OWES_BITS) || (c->owes & VSOCK_OWES_REQUEST) ||
	    (c->shutdown_sent & ~(uint32_t)VSOCK_SHUTDOWN_BOTH) ||
	    (c->shutdown_got & ~(uint32_t)VSOCK_SHUTDOWN_BOTH))
		return -EBADMSG;
	if (n && vsock_bytes_put(&c->to_guest, bytes, n))
		return -ENOMEM;
	c->v->to_guest_bytes += n;
	if (!served)
		return 0;
	c->service = conn_service(c->v, c->host_port);
	if (!c->service)
		conn_reset(c); /* a vmm without that service */
	return 0;
}

static int load_conn(struct vsock *v, uint32_t slot, struct state_reader *r)
{
	uint32_t guest_port = state_get_u32(r), host_port = state_get_u32(r);
	uint8_t on = state_get_u8(r);
	struct vsock_conn *c = &v->conns[slot];

	if (r->err || on > 1 || conn_find(v, guest_port, host_port))
		return -EBADMSG;
	*c = (struct vsock_conn){.v = v,
				 .state = VSOCK_DEAD,
				 .guest_port = guest_port,
				 .host_port = host_port,
				 .fd = -1};
	return on ? load_service_conn(c, r) : 0;
}

int vsock_load(struct virtio_device *d, struct state_reader *r)
{
	struct vsock *v = vsock_of(d);
	uint32_t slot, from = 0;

	/* The guest has its address in its sockets. It is of no meaning on the host. */
	v->config.guest_cid = state_get_u64(r);
	if (v->config.guest_cid <= VSOCK_HOST_CID || v->config.guest_cid >= UINT32_MAX)
		return -EBADMSG;
	v->reply_count = state_get_count(r, REPLY_BYTES);
	if (v->reply_count > VSOCK_REPLIES_MAX) {
		v->reply_count = 0;
		return -EBADMSG;
	}
	for (unsigned i = 0; i < v->reply_count; i++) {
		v->replies[i].host_cid = state_get_u64(r);
		v->replies[i].guest_port = state_get_u32(r);
		v->replies[i].host_port = state_get_u32(r);
	}
	while ((slot = state_get_u32(r)) != RECORD_END) {
		int ret = r->err || slot < from || slot > RECORD_END ? -EBADMSG
								     : load_conn(v, slot, r);

		if (ret)
			return ret;
		from = slot + 1;
	}
	return r->err;
}
