/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_vsock.c - stream sockets between the guest and its host: the device and its packets
 *
 * Theory of operation. Packets of the guest are handled as they come (take()); none of that blocks
 * or needs a buffer of the guest. What the guest is to get is not kept as packets: a connection
 * knows what it owes (enum in vsock_internal.h), and a packet is made when the guest has a buffer
 * for it, turn by turn among the connections (vsock_fill()). So nothing here grows with what a
 * guest does: resets for connections that do not exist are the only packets that queue, in a ring,
 * and while it is full the guest's packets wait in theirs.
 *
 * The event queue stays unused. Its only event, the transport reset (5.10.6.7), ends all
 * connections of the guest; after a restore those to services go on, and only the others get their
 * RST.
 */
#include "vmm/kernel/virtio_vsock.h"

#include <errno.h>
#include <string.h>

#include "common/util.h"
#include "vmm/kernel/vsock_internal.h"

/* TURN_BYTES_MAX: of the guest's packets; a service handles them with the machine's lock held. */
enum { QUEUE_SIZE = 256, BOUNCE_BYTES = 16384, TURN_BYTES_MAX = 1 << 20 };

/* ---- to the guest ---- */

static struct virtio_vsock_hdr header_for(const struct vsock *v, uint64_t host_cid,
					  uint32_t host_port, uint32_t guest_port, uint16_t op)
{
	return (struct virtio_vsock_hdr){
		.src_cid = host_cid,
		.dst_cid = v->config.guest_cid,
		.src_port = host_port,
		.dst_port = guest_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
	};
}

/** Each packet of a connection carries its credit. */
static uint32_t put_packet(struct vsock_conn *c, uint16_t op, uint32_t flags, uint32_t payload)
{
	struct vsock *v = c->v;
	struct virtio_vsock_hdr h = header_for(v, VSOCK_HOST_CID, c->host_port, c->guest_port, op);

	h.len = payload;
	h.flags = flags;
	h.buf_alloc = VSOCK_WINDOW_BYTES;
	h.fwd_cnt = c->fwd;
	c->fwd_told = c->fwd;
	c->owes &= ~(uint32_t)VSOCK_OWES_CREDIT;
	virtq_chain_write(&v->rx, 0, &h, sizeof(h));
	return VSOCK_HEADER_BYTES + payload;
}

static uint32_t put_reply(struct vsock *v)
{
	const struct vsock_reply *r = &v->replies[v->reply_head];
	struct virtio_vsock_hdr h =
		header_for(v, r->host_cid, r->host_port, r->guest_port, VIRTIO_VSOCK_OP_RST);

	v->reply_head = (v->reply_head + 1) % VSOCK_REPLIES_MAX;
	v->reply_count--;
	virtq_chain_write(&v->rx, 0, &h, sizeof(h));
	return VSOCK_HEADER_BYTES;
}

/** Is there a payload that the guest would take? */
static bool has_data(const struct vsock_conn *c)
{
	if (c->state != VSOCK_OPEN || (c->shutdown_got & VIRTIO_VSOCK_SHUTDOWN_RCV))
		return false;
	return c->local ? c->to_guest.used > 0 : c->readable && !c->host_eof;
}

/** Payload into v->rx. Return: bytes of the packet, 0 when there was nothing after all. */
static uint32_t put_data(struct vsock_conn *c)
{
	struct vsock *v = c->v;
	uint32_t n = MIN(conn_credit(c), v->rx.write_bytes - VSOCK_HEADER_BYTES);

	if (c->local) {
		n = (uint32_t)MIN((size_t)n, c->to_guest.used);
		virtq_chain_write(&v->rx, VSOCK_HEADER_BYTES, vsock_bytes_at(&c->to_guest), n);
		vsock_bytes_drop(&c->to_guest, n);
		v->to_guest_bytes -= n;
	} else {
		n = unix_receive(c, &v->rx, VSOCK_HEADER_BYTES, n);
	}
	c->sent += n;
	return n ? put_packet(c, VIRTIO_VSOCK_OP_RW, 0, n) : 0;
}

/** The guest has to say that it took something before it gets more. */
static void ask_for_credit(struct vsock_conn *c)
{
	if (!c->credit_asked)
		c->owes |= VSOCK_OWES_CREDIT_REQUEST;
	c->credit_asked = true;
}

static uint32_t put_owed(struct vsock_conn *c)
{
	/* A shutdown comes after the data, and so is the last. */
	static const struct {
		uint32_t owes;
		uint16_t op;
	} packets[] = {
		{VSOCK_OWES_REQUEST, VIRTIO_VSOCK_OP_REQUEST},
		{VSOCK_OWES_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE},
		{VSOCK_OWES_CREDIT_REQUEST, VIRTIO_VSOCK_OP_CREDIT_REQUEST},
		{VSOCK_OWES_CREDIT, VIRTIO_VSOCK_OP_CREDIT_UPDATE},
		{VSOCK_OWES_SHUTDOWN, VIRTIO_VSOCK_OP_SHUTDOWN},
	};

	for (size_t i = 0; i < ARRAY_SIZE(packets); i++) {
		if (!(c->owes & packets[i].owes))
			continue;
		c->owes &= ~packets[i].owes;
		return put_packet(c, packets[i].op,
				  packets[i].op == VIRTIO_VSOCK_OP_SHUTDOWN ? c->shutdown_sent : 0,
				  0);
	}
	return 0;
}

/** The next packet of a connection into v->rx. Return: its bytes, 0: none. */
static uint32_t put_next(struct vsock_conn *c)
{
	uint32_t n = 0;

	if (c->state == VSOCK_DEAD) {
		n = put_packet(c, VIRTIO_VSOCK_OP_RST, 0, 0);
		conn_free(c);
		return n;
	}
	if (c->state != VSOCK_CONNECTING && c->state != VSOCK_OPEN)
		return 0;
	if (!(c->owes & (VSOCK_OWES_REQUEST | VSOCK_OWES_RESPONSE)) && has_data(c)) {
		if (!conn_credit(c))
			ask_for_credit(c);
		else if (c->v->rx.write_bytes > VSOCK_HEADER_BYTES)
			n = put_data(c);
	}
	if (!n && c->closing && !c->to_guest.used)
		conn_shutdown(c, VSOCK_SHUTDOWN_BOTH);
	return n ? n : put_owed(c);
}

/** One packet, for whoever's turn it is. Return: its bytes, 0: nobody has one. */
static uint32_t put_any(struct vsock *v)
{
	if (v->reply_count)
		return put_reply(v);
	for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++) {
		unsigned slot = (v->cursor + i) % VSOCK_CONNECTIONS_MAX;
		uint32_t n = put_next(&v->conns[slot]);

		if (n) {
			v->cursor = slot + 1;
			return n;
		}
	}
	return 0;
}

void vsock_fill(struct vsock *v)
{
	struct virtio_device *d = &v->device;
	unsigned count = 0;

	if (v->busy)
		return; /* take() does it at its end */
	for (; count < VIRTIO_BUDGET && virtio_device_pop(d, VSOCK_RX, &v->rx); count++) {
		uint32_t n;

		if (v->rx.write_bytes < VSOCK_HEADER_BYTES) {
			virtio_device_fail(d, "receive buffer without room for a header");
			return;
		}
		n = put_any(v);
		if (!n) {
			virtq_unpop(&d->queues[VSOCK_RX], 1);
			break;
		}
		virtq_push(&d->queues[VSOCK_RX], v->rx.head, n);
	}
	virtio_device_flush(d, VSOCK_RX);
	if (count == VIRTIO_BUDGET)
		virtio_device_again(d, VSOCK_RX);
	if (v->tx_waits && v->reply_count < VSOCK_REPLIES_MAX)
		virtio_device_again(d, VSOCK_TX);
}

/* ---- from the guest ---- */

static void reply_reset(struct vsock *v, const struct virtio_vsock_hdr *h)
{
	unsigned at = (v->reply_head + v->reply_count) % VSOCK_REPLIES_MAX;

	v->replies[at] = (struct vsock_reply){h->dst_cid, h->src_port, h->dst_port};
	v->reply_count++;
}

/** The guest connects: to a service, or else to a unix socket. */
static void take_request(struct vsock *v, const struct virtio_vsock_hdr *h)
{
	const struct vsock_service *service = conn_service(v, h->dst_port);
	struct vsock_conn *c = conn_new(v, VSOCK_OPEN, h->src_port, h->dst_port);
	int ret;

	if (!c) {
		reply_reset(v, h);
		return;
	}
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	c->owes = VSOCK_OWES_RESPONSE;
	c->local = service;
	c->service = service;
	ret = service ? service->accept(service->arg, c) : unix_connect(c);
	if (ret) {
		c->service = NULL;
		conn_reset(c);
	}
}

/** Payload for a service: from a copy, since the guest could change it under the service's eyes. */
static void give_to_service(struct vsock_conn *c, uint32_t n)
{
	const struct vsock_service *service = c->service;
	uint8_t bytes[BOUNCE_BYTES];

	for (uint32_t done = 0; done < n && c->service == service && service;) {
		size_t part = virtq_chain_read(&c->v->tx, VSOCK_HEADER_BYTES + done, bytes,
					       MIN(n - done, (uint32_t)sizeof(bytes)));

		service->data(service->arg, c, bytes, part);
		done += (uint32_t)part;
	}
	conn_forwarded(c, n);
}

static void take_data(struct vsock_conn *c, const struct virtio_vsock_hdr *h)
{
	if (c->state != VSOCK_OPEN || (c->shutdown_got & VIRTIO_VSOCK_SHUTDOWN_SEND) ||
	    h->len > VSOCK_WINDOW_BYTES - (c->got - c->fwd)) {
		conn_reset(c); /* it sends more than it may */
		return;
	}
	c->got += h->len;
	if (c->local)
		give_to_service(c, h->len);
	else if (unix_send(c, &c->v->tx, VSOCK_HEADER_BYTES, h->len))
		conn_reset(c);
}

/** The guest closed: it waits for its reset. What a unix socket does not take yet goes on without
 * it. */
static void take_close(struct vsock_conn *c, const struct virtio_vsock_hdr *h)
{
	if (!c->to_host.used) {
		conn_reset(c);
		return;
	}
	reply_reset(c->v, h);
	c->state = VSOCK_LINGERING;
}

/** The guest sends no more: a service that can still answers. */
static void end_for_service(struct vsock_conn *c)
{
	const struct vsock_service *service = c->service;

	if (service && service->ended) {
		service->ended(service->arg, c);
	} else {
		conn_end_service(c);
		c->closing = true;
	}
}

static void take_shutdown(struct vsock_conn *c, const struct virtio_vsock_hdr *h)
{
	bool had_ended = vsock_conn_ended(c);

	if (c->state != VSOCK_OPEN)
		return;
	c->shutdown_got |= h->flags & VSOCK_SHUTDOWN_BOTH;
	if (c->local && vsock_conn_ended(c) && !had_ended && c->shutdown_got != VSOCK_SHUTDOWN_BOTH)
		end_for_service(c);
	if (c->shutdown_got == VSOCK_SHUTDOWN_BOTH)
		take_close(c, h);
	else if (!c->local && !c->to_host.used)
		unix_guest_shutdown(c);
}

static void take_for(struct vsock_conn *c, const struct virtio_vsock_hdr *h)
{
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	c->credit_asked = false;
	switch (h->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		if (c->state == VSOCK_CONNECTING && !(c->owes & VSOCK_OWES_REQUEST))
			unix_accepted(c);
		else
			conn_reset(c);
		break;
	case VIRTIO_VSOCK_OP_RW:
		take_data(c, h);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		take_shutdown(c, h);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		c->owes |= VSOCK_OWES_CREDIT;
		break;
	default: /* also a request for a connection that there is */
		conn_reset(c);
	}
}

/** One packet in v->tx. Return: false when it is none. */
static bool take_packet(struct vsock *v)
{
	struct virtio_vsock_hdr h;
	struct vsock_conn *c;

	if (virtq_chain_read(&v->tx, 0, &h, sizeof(h)) < sizeof(h) ||
	    h.len > v->tx.read_bytes - VSOCK_HEADER_BYTES)
		return false;
	c = conn_find(v, h.src_port, h.dst_port);
	if (h.src_cid != v->config.guest_cid)
		return true; /* in nobody's name */
	if (h.dst_cid != VSOCK_HOST_CID || h.type != VIRTIO_VSOCK_TYPE_STREAM)
		c = NULL;
	if (h.op == VIRTIO_VSOCK_OP_RST) {
		if (c)
			conn_free(c);
	} else if (c && c->state != VSOCK_DEAD) {
		take_for(c, &h);
	} else if (!c && h.op == VIRTIO_VSOCK_OP_REQUEST && h.dst_cid == VSOCK_HOST_CID &&
		   h.type == VIRTIO_VSOCK_TYPE_STREAM) {
		take_request(v, &h);
	} else if (!c) {
		reply_reset(v, &h);
	}
	return true;
}

/** Handle the guest's packets, as long as a reset for each would find room. */
static void take(struct vsock *v)
{
	struct virtio_device *d = &v->device;
	uint64_t bytes = 0;

	v->busy = true;
	while (bytes < TURN_BYTES_MAX && v->reply_count < VSOCK_REPLIES_MAX) {
		if (!virtio_device_pop(d, VSOCK_TX, &v->tx))
			break;
		bytes += (uint64_t)v->tx.read_bytes + TURN_BYTES_MAX / VIRTIO_BUDGET;
		if (!take_packet(v)) {
			virtio_device_fail(d, "packet without a header, or longer than its buffer");
			break;
		}
		virtq_push(&d->queues[VSOCK_TX], v->tx.head, 0);
	}
	v->busy = false;
	v->tx_waits = v->reply_count == VSOCK_REPLIES_MAX;
	virtio_device_flush(d, VSOCK_TX);
	if (bytes >= TURN_BYTES_MAX)
		virtio_device_again(d, VSOCK_TX);
}

/* ---- the device ---- */

static void vsock_notify(struct virtio_device *d, unsigned queue)
{
	struct vsock *v = vsock_of(d);

	if (queue == VSOCK_TX)
		take(v);
	vsock_fill(v);
}

static void vsock_event(struct virtio_device *d, uint32_t tag, uint32_t events)
{
	unix_event(vsock_of(d), tag, events);
	vsock_fill(vsock_of(d));
}

static void free_all(struct vsock *v)
{
	for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++)
		if (v->conns[i].state != VSOCK_FREE)
			conn_free(&v->conns[i]);
	v->reply_count = 0;
}

static void vsock_reset(struct virtio_device *d)
{
	struct vsock *v = vsock_of(d);

	v->busy = true; /* what services say to that does not get out */
	free_all(v);
	v->busy = false;
}

static void vsock_free(struct virtio_device *d)
{
	struct vsock *v = vsock_of(d);

	/* The machine is over: services have nothing left to hear. */
	v->service_count = 0;
	for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++)
		v->conns[i].service = NULL;
	free_all(v);
	unix_unlisten(v);
}

static const struct virtio_class vsock_class = {
	.id = VIRTIO_ID_VSOCK,
	.name = "virtio-vsock",
	.queue_count = VSOCK_QUEUES,
	.queue_size = QUEUE_SIZE,
	.notify = vsock_notify,
	.reset = vsock_reset,
	.event = vsock_event,
	.save = vsock_save,
	.load = vsock_load,
	.free = vsock_free,
};

int virtio_vsock_new(const struct virtio_wiring *w, const struct virtio_vsock_options *o,
		     struct virtio_device **ret)
{
	struct virtio_device *d;
	struct vsock *v;
	int err = virtio_device_new(&vsock_class, sizeof(*v), w, &d);

	if (err)
		return err;
	v = vsock_of(d);
	v->listen_fd = -1;
	v->config.guest_cid = o->guest_cid;
	d->config = &v->config;
	d->config_bytes = sizeof(v->config);
	err = o->guest_cid <= VSOCK_HOST_CID || o->guest_cid >= UINT32_MAX ? -EINVAL : 0;
	if (!err && o->path)
		err = unix_listen(v, o->path);
	if (err) {
		virtio_device_free(d);
		return err;
	}
	*ret = d;
	return 0;
}
