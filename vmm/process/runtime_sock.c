/* SPDX-License-Identifier: Apache-2.0 */
/* runtime_sock.c - the Runtime API on the loopback of a process guest */
#include "vmm/process/proc.h"
#include "vmm/process/runtime_api.h"
#include "vmm/process/runtime_http.h"
#include "vmm/process/sock.h"

/* ---- from the guest ---- */

static int on_accept(struct proc *p, struct sock *sock)
{
	return runtime_http_accept(p->api, sock);
}

static void on_data(struct proc *p, struct sock *sock, const void *data, size_t n)
{
	runtime_http_data(p->api, sock, data, n);
}

static void on_ended(struct proc *p, struct sock *sock)
{
	runtime_http_ended(p->api, sock);
}

static void on_closed(struct proc *p, struct sock *sock)
{
	runtime_http_closed(p->api, sock);
}

static const struct sock_service service = {
	.port = RUNTIME_API_PORT,
	.accept = on_accept,
	.data = on_data,
	.ended = on_ended,
	.closed = on_closed,
};

/* ---- to the guest ---- */

static int send_stream(void *arg, void *stream, const void *data, size_t n)
{
	return service_send(arg, stream, data, n);
}

static void close_stream(void *arg, void *stream)
{
	service_close(arg, stream);
}

static void set_priv(void *stream, void *priv)
{
	service_set_priv(stream, priv);
}

static void *get_priv(const void *stream)
{
	return service_priv(stream);
}

static uint32_t stream_id(const void *stream)
{
	return sock_id(stream);
}

static void *stream_by_id(void *arg, uint32_t id)
{
	struct sock *sock = sock_by_id(arg, id);

	return sock && service_port(sock) == RUNTIME_API_PORT ? sock : NULL;
}

static bool stream_ended(const void *stream)
{
	return service_ended(stream);
}

/* One guest per process. */
static struct runtime_wire wire = {
	.send = send_stream,
	.close = close_stream,
	.set_priv = set_priv,
	.priv = get_priv,
	.id = stream_id,
	.by_id = stream_by_id,
	.ended = stream_ended,
};

int runtime_sock_new(struct proc *p, const struct runtime_api_events *events)
{
	int ret;

	wire.arg = p;
	ret = runtime_api_new(&wire, events, p, &p->api);
	return ret ? ret : sock_service_register(p, &service);
}
