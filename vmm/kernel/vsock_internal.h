/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_internal.h - what the files of the vsock device share
 *
 *   virtio_vsock.c   the device: packets from the guest, and to it
 *   vsock_conn.c     connections: the table, credit, bytes for either side, services
 *   vsock_unix.c     the host's unix sockets
 *   vsock_state.c    save and load
 */
#ifndef QUICKTHAW_KERNEL_VSOCK_INTERNAL_H
#define QUICKTHAW_KERNEL_VSOCK_INTERNAL_H

#include <linux/virtio_vsock.h>

#include "vmm/kernel/virtio_vsock.h"

enum {
	VSOCK_RX,
	VSOCK_TX,
	VSOCK_EVENT,
	VSOCK_QUEUES,
	VSOCK_HEADER_BYTES = sizeof(struct virtio_vsock_hdr),
	VSOCK_REPLIES_MAX = 64,
	VSOCK_PATH_BYTES = 97,
	VSOCK_TAG_LISTENER = VSOCK_CONNECTIONS_MAX, /**< others: a slot, and above it a number */
	VSOCK_TAG_SLOT_BITS = 8,
	VSOCK_SHUTDOWN_BOTH = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND,
};

/**
 * enum vsock_state - of a connection.
 *
 *   unix socket ──► HELLO ── CONNECT ──► CONNECTING ── RESPONSE ──► OPEN
 *   REQUEST of the guest ─────────────────────────────────────────► OPEN
 *   any ──► DEAD ── RST sent ──► FREE       RST received: any ──► FREE
 *   OPEN ── the guest closed, its last bytes wait ──► LINGERING ── written ──► FREE
 *
 * DEAD has no host's end any more: the guest is yet to be told. LINGERING has no guest's end any
 * more, and as HELLO is none of its connections.
 */
enum vsock_state {
	VSOCK_FREE,
	VSOCK_HELLO,
	VSOCK_LINGERING,
	VSOCK_CONNECTING,
	VSOCK_OPEN,
	VSOCK_DEAD,
};

/** Packets without payload that a connection has to send. */
enum {
	VSOCK_OWES_REQUEST = 1,
	VSOCK_OWES_RESPONSE = 2,
	VSOCK_OWES_CREDIT = 4,
	VSOCK_OWES_CREDIT_REQUEST = 8,
	VSOCK_OWES_SHUTDOWN = 16,
	VSOCK_OWES_BITS = 31,
};

/** struct vsock_bytes - bytes that wait. They begin at @head. */
struct vsock_bytes {
	uint8_t *data;
	size_t head, used, size;
};

/** vsock_bytes_at() - the first of them; NULL when there is none. */
static inline uint8_t *vsock_bytes_at(const struct vsock_bytes *b)
{
	return b->data ? b->data + b->head : NULL;
}

/**
 * struct vsock_conn - one connection. Counters of bytes are modulo 2^32, as in packets (5.10.6.3).
 * @owes: packets to send
 * @shutdown_sent, @shutdown_got: VIRTIO_VSOCK_SHUTDOWN_ bits
 * @peer_alloc, @peer_fwd: the guest's buffer, and how much of ours it has taken out of it
 * @sent: bytes sent to the guest
 * @got, @fwd, @fwd_told: bytes from the guest: received, handed on, and what it knows of that
 * @credit_asked: it has been asked for credit since it had none
 * @to_host: bytes that the unix socket does not take yet
 * @to_guest: bytes that a service has sent
 * @local: the host's end is a service, or was one
 * @service: NULL once it is not to be called any more
 * @closing: shut down when @to_guest is empty
 * @tag: of @fd's events; those that were meant for the slot's connection before have another
 * @readable: the unix socket may have something; @host_eof: it has come to its end; @hung_up: its
 *	peer is gone
 */
struct vsock_conn {
	struct vsock *v;
	enum vsock_state state;
	uint32_t guest_port, host_port;
	uint32_t owes, shutdown_sent, shutdown_got;
	uint32_t peer_alloc, peer_fwd, sent;
	uint32_t got, fwd, fwd_told;
	bool credit_asked;
	struct vsock_bytes to_host, to_guest;
	bool local, closing;
	const struct vsock_service *service;
	void *priv;
	int fd;
	uint32_t tag;
	bool readable, host_eof, hung_up;
};

/** struct vsock_reply - a reset for a connection that there is not. */
struct vsock_reply {
	uint64_t host_cid;
	uint32_t guest_port, host_port;
};

/**
 * struct vsock
 * @replies: a ring; while it is full no packets of the guest are taken (@tx_waits)
 * @cursor: the slot whose turn it is to send
 * @busy: packets are being handled; what services send waits for the end of that
 * @to_guest_bytes: of all services
 * @watch_count: of unix sockets, for their tags
 * @unix_logged: the host's sockets are out of slots, and that was said
 */
struct vsock {
	struct virtio_device device;
	struct virtio_vsock_config config;
	struct vsock_conn conns[VSOCK_CONNECTIONS_MAX];
	struct vsock_service services[VSOCK_SERVICES_MAX];
	unsigned service_count;
	struct vsock_reply replies[VSOCK_REPLIES_MAX];
	unsigned reply_head, reply_count;
	unsigned cursor;
	bool busy, tx_waits, unix_logged;
	size_t to_guest_bytes;
	int listen_fd;
	char path[VSOCK_PATH_BYTES];
	uint32_t next_port, watch_count;
	struct virtq_chain rx, tx;
};

static inline struct vsock *vsock_of(struct virtio_device *d)
{
	return container_of(d, struct vsock, device);
}

/* ---- vsock_conn.c ---- */

/** vsock_bytes_put() - at the end. Return: 0, or -ENOMEM with nothing changed. */
int vsock_bytes_put(struct vsock_bytes *b, const void *data, size_t n);
/** vsock_bytes_drop() - from the start; the last byte frees the memory. */
void vsock_bytes_drop(struct vsock_bytes *b, size_t n);

struct vsock_conn *conn_find(struct vsock *v, uint32_t guest_port, uint32_t host_port);
/** conn_new() - a slot in state @state. Return: NULL when all are taken. */
struct vsock_conn *conn_new(struct vsock *v, enum vsock_state state, uint32_t guest_port,
			    uint32_t host_port);
/** conn_free() - release the slot without a word to the guest; a service hears of it. */
void conn_free(struct vsock_conn *c);
/** conn_reset() - release the host's end; the guest is told, and the slot free then. */
void conn_reset(struct vsock_conn *c);
/** conn_credit() - how many bytes the guest's buffer has room for. */
uint32_t conn_credit(const struct vsock_conn *c);
/** conn_forwarded() - @n more bytes of the guest are where they should go; tell it in time. */
void conn_forwarded(struct vsock_conn *c, uint32_t n);
/** conn_shutdown() - tell the guest that we send (or receive) no more. */
void conn_shutdown(struct vsock_conn *c, uint32_t flags);
/** conn_service() - the service of a port, or NULL. */
const struct vsock_service *conn_service(const struct vsock *v, uint32_t port);
/** conn_end_service() - the service hears that the connection is over. */
void conn_end_service(struct vsock_conn *c);

/* ---- vsock_unix.c ---- */

int unix_listen(struct vsock *v, const char *path);
void unix_unlisten(struct vsock *v);
/** unix_connect() - the guest wants the listener at PATH_port. Return: 0, or -errno. */
int unix_connect(struct vsock_conn *c);
/** unix_accepted() - the guest accepted what came by CONNECT. */
void unix_accepted(struct vsock_conn *c);
/** unix_send() - bytes [@offset, @offset + @n) of @chain for the unix socket. They are within the
 * window. Return: 0, or -ENOMEM: the connection is to be reset. */
int unix_send(struct vsock_conn *c, const struct virtq_chain *chain, uint32_t offset, uint32_t n);
/** unix_receive() - up to @n bytes from it to @offset of @chain. Return: bytes, 0: nothing now. */
uint32_t unix_receive(struct vsock_conn *c, const struct virtq_chain *chain, uint32_t offset,
		      uint32_t n);
/** unix_guest_shutdown() - the guest sends or receives no more (@c->shutdown_got), and nothing
 * waits to be written. */
void unix_guest_shutdown(struct vsock_conn *c);
void unix_event(struct vsock *v, uint32_t tag, uint32_t events);

/* ---- virtio_vsock.c ---- */

/** vsock_fill() - send to the guest what there is and it has buffers for. */
void vsock_fill(struct vsock *v);

/* ---- vsock_state.c ---- */

int vsock_save(const struct virtio_device *d, struct state_writer *w);
int vsock_load(struct virtio_device *d, struct state_reader *r);

#endif
