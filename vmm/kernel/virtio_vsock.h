/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_vsock.h - stream sockets between the guest and its host (virtio 1.2, 5.10)
 *
 * The host's end of a connection is one of two things:
 *
 * - a service in this process, registered for a port. Its connections are saved and go on after a
 *   restore.
 * - a unix socket in Firecracker's convention. PATH listens: who connects and sends "CONNECT P\n"
 *   gets to the guest's port P, and "OK Q\n" back once that has accepted. A guest that connects to
 *   port P gets to the listener at PATH_P. A snapshot cannot hold these connections: a clone's
 *   guest finds them reset.
 *
 * That a guest reads or writes slowly costs at most VSOCK_WINDOW_BYTES for each connection in one
 * direction, and VSOCK_SEND_BYTES_MAX for all in the other.
 */
#ifndef QUICKTHAW_KERNEL_VIRTIO_VSOCK_H
#define QUICKTHAW_KERNEL_VIRTIO_VSOCK_H

#include "vmm/kernel/virtio_mmio.h"

enum {
	VSOCK_HOST_CID = 2,
	VSOCK_CONNECTIONS_MAX = 128,
	VSOCK_SERVICES_MAX = 4,
	VSOCK_WINDOW_BYTES = 256 << 10, /**< what the guest may send before the host has taken it */
	VSOCK_SEND_BYTES_MAX = 32 << 20, /**< what services may have under way to the guest */
};

/** struct virtio_vsock_options - @guest_cid: 3 or above. @path: of the unix socket, at most 96
 * bytes; NULL: services only. */
struct virtio_vsock_options {
	uint64_t guest_cid;
	const char *path;
};

/**
 * virtio_vsock_new() - takes @w->irq_fd, also on error. @o->path is bound; the file is removed with
 * the device.
 * Return: 0 with *@ret, or -errno; with a log line where the path is to blame (-EADDRINUSE: it
 * exists, -ENAMETOOLONG, ...).
 */
int virtio_vsock_new(const struct virtio_wiring *w, const struct virtio_vsock_options *o,
		     struct virtio_device **ret);

struct vsock_conn;

/**
 * struct vsock_service - the host's end of connections to one port. Callbacks come with the
 * machine's lock held, and may call vsock_send() and vsock_close().
 * @accept: a guest connects. Return: 0, or -errno to refuse
 * @data: @n bytes that the guest sent; take all of them
 * @ended: the guest sends no more, but still receives: the service answers what it has to, when it
 *	can, and then calls vsock_close(). NULL: @closed is called instead
 * @closed: the guest neither sends nor receives any more, or the connection was reset; without
 *	@ended, the guest sends no more, and bytes under way to it are still delivered. @c must not
 *	be used after the call. Not called after vsock_close(), nor when the device is freed
 */
struct vsock_service {
	uint32_t port;
	void *arg;
	int (*accept)(void *arg, struct vsock_conn *c);
	void (*data)(void *arg, struct vsock_conn *c, const void *data, size_t n);
	void (*ended)(void *arg, struct vsock_conn *c);
	void (*closed)(void *arg, struct vsock_conn *c);
};

/** vsock_listen_local() - register a service (copied) before the guest runs, or before the device's
 * load. @d: a vsock device. Return: 0, -EADDRINUSE, or -ENOSPC. */
int vsock_listen_local(struct virtio_device *d, const struct vsock_service *service);

/** vsock_send() - queue @n bytes for the guest. Return: 0, -EPIPE when it does not receive any
 * more, -ENOBUFS when it does not take what it has, or -ENOMEM; nothing is queued then. */
int vsock_send(struct vsock_conn *c, const void *data, size_t n);
/** vsock_close() - end the connection once all is sent. @c must not be used any more. */
void vsock_close(struct vsock_conn *c);

void vsock_set_priv(struct vsock_conn *c, void *priv);
void *vsock_priv(const struct vsock_conn *c);
/** vsock_conn_id() / vsock_conn_by_id() - stable over save and load: how a service saves its
 * connections. NULL when there is none with this id. */
uint32_t vsock_conn_id(const struct vsock_conn *c);
struct vsock_conn *vsock_conn_by_id(struct virtio_device *d, uint32_t id);
/** vsock_conn_port() - of the service. */
uint32_t vsock_conn_port(const struct vsock_conn *c);
/** vsock_conn_ended() - does the guest send no more? True from @ended on, also after a load. */
bool vsock_conn_ended(const struct vsock_conn *c);

#endif
