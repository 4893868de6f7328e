/* SPDX-License-Identifier: Apache-2.0 */
/* agent_link.c - the vmm's end of what the agent in a kernel guest says, and its Runtime API */
#include "vmm/kernel/agent_link.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/util.h"
#include "vmm/kernel/machine.h"
#include "vmm/kernel/virtio_vsock.h"

/* Linux reports free pages every two seconds (mm/page_reporting.c). */
enum { REPORT_MS = 2500 };
/* In a snapshot. 0 is a connection: the first one, which the agent's is as a rule. */
#define NO_CONNECTION UINT32_MAX

/* How far behind a restored guest's clock may be, and how often it is set. */
enum { CLOCK_BEHIND_MS_MAX = 5, CLOCK_SETS_MAX = 4 };

enum { COMPLAINTS_MAX = 8 };

static void complain(struct agent_link *a, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** What a guest can bring about as often as it likes is told a few times: the log is the host's. */
static void complain(struct agent_link *a, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	if (a->complaints == COMPLAINTS_MAX)
		return;
	a->complaints++;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_warn("agent: %s%s", text,
		 a->complaints == COMPLAINTS_MAX ? " (and no more of this guest's is told)" : "");
}

static void send_message(struct agent_link *a, const void *message, size_t n)
{
	int ret = a->conn ? vsock_send(a->conn, message, n) : -ENOTCONN;

	if (ret)
		complain(a, "it does not take a message: %s", strerror(-ret));
}

/** Strings of a list, one behind the other. Return: how many, or -E2BIG. */
static int put_strings(uint8_t *at, size_t *used, char *const *list)
{
	int count = 0;

	for (; list && list[count]; count++) {
		size_t n = strlen(list[count]) + 1;

		if (*used + n > AGENT_MESSAGE_MAX || count == AGENT_STRINGS_MAX)
			return -E2BIG;
		memcpy(at + *used, list[count], n);
		*used += n;
	}
	return count;
}

static void send_start(struct agent_link *a)
{
	static uint8_t bytes[AGENT_MESSAGE_MAX];
	size_t used = sizeof(struct agent_start);
	int argc = put_strings(bytes, &used, a->argv), envc = put_strings(bytes, &used, a->envp);
	struct agent_start start = {
		.h = {AGENT_START, (uint32_t)used}, .argc = (uint32_t)argc, .envc = (uint32_t)envc};

	if (argc < 0 || envc < 0 || argc + envc > (int)AGENT_STRINGS_MAX) {
		machine_finish(a->machine, MACHINE_BROKEN,
			       "the program's arguments and environment are too long");
		return;
	}
	memcpy(bytes, &start, sizeof(start));
	send_message(a, bytes, used);
}

static void put_identity(const struct agent_identity *who, struct agent_resumed *ret)
{
	if (who->hostname) {
		/* Checked where it was given; the rest of the field is zero already. */
		memcpy(ret->hostname, who->hostname,
		       MIN(strlen(who->hostname), sizeof(ret->hostname) - 1));
		ret->flags |= AGENT_RESUMED_HOSTNAME;
	}
	if (who->has_mac) {
		memcpy(ret->mac, who->mac, sizeof(ret->mac));
		ret->flags |= AGENT_RESUMED_MAC;
	}
	if (who->has_ip) {
		memcpy(ret->ip, who->ip, sizeof(ret->ip));
		memcpy(ret->gateway, who->gateway, sizeof(ret->gateway));
		ret->prefix = who->prefix;
		ret->flags |= AGENT_RESUMED_IP;
	}
}

static int send_resumed(struct agent_link *a, const struct agent_identity *who)
{
	struct agent_resumed resumed = {.h = {AGENT_RESUMED, sizeof(resumed)},
					.wall_ns = clock_real_ns()};

	if (getrandom(resumed.random, sizeof(resumed.random), 0) != sizeof(resumed.random)) {
		log_error("agent: no random numbers for it: %s", strerror(errno));
		return -EIO;
	}
	put_identity(who, &resumed);
	send_message(a, &resumed, sizeof(resumed));
	return 0;
}

int agent_link_resume(struct agent_link *a)
{
	a->resuming = true;
	a->clock_sets = 1;
	return a->ready ? send_resumed(a, &a->identity) : -ENOTCONN;
}

/**
 * Free memory is written once, with zeros, which nobody stores. Not that of a restored guest: there
 * nearly all of it is as in the template, and each page would have to be brought in for it, and
 * copied. What it has used since and given back in whole blocks its balloon reports as free.
 */
static uint32_t prepare_flags(const struct agent_link *a)
{
	return a->machine->mem.template_pages ? 0 : AGENT_PREPARE_ZERO_FREE;
}

int agent_link_prepare(struct agent_link *a)
{
	const struct agent_prepare prepare = {.h = {AGENT_PREPARE, sizeof(prepare)},
					      .flags = prepare_flags(a),
					      .report_ms = REPORT_MS};

	a->preparing = true;
	if (!a->ready)
		return -ENOTCONN;
	send_message(a, &prepare, sizeof(prepare));
	return 0;
}

bool agent_identity_empty(const struct agent_identity *who)
{
	return !who->hostname && !who->has_mac && !who->has_ip;
}

/* ---- what the agent says ---- */

static void on_ready(struct agent_link *a, const struct agent_ready *ready)
{
	bool runs = ready->flags & AGENT_READY_RUNNING;

	if (ready->version != AGENT_PROTO_VERSION) {
		machine_finish(a->machine, MACHINE_BROKEN,
			       "the guest's agent speaks version %u of its protocol, this vmm %u: "
			       "build the initramfs again",
			       ready->version, AGENT_PROTO_VERSION);
		return;
	}
	a->ready = true;
	if (!runs && !a->announced) {
		log_info("the guest's agent is ready, %llu ms after its kernel began",
			 (unsigned long long)(ready->boot_ns / NSEC_PER_MSEC));
		a->announced = true;
	}
	/* The agent does one thing after the other: this is done when the program starts, or when a
	 * runtime that was captured is given work. */
	if (a->resuming || (!runs && !agent_identity_empty(&a->identity)))
		agent_link_resume(a);
	if (!runs && a->argv)
		send_start(a);
	if (a->preparing)
		agent_link_prepare(a);
	machine_wake(a->machine);
}

static void on_log(const struct agent_link *a, const struct agent_log *log)
{
	size_t n = log->h.bytes - sizeof(*log);
	int stream = log->stream == AGENT_STDOUT ? 1 : 2;

	if (a->log)
		a->log(a->log_arg, stream, log + 1, n);
	else if (write_full(stream, log + 1, n))
		log_debug("agent: nobody reads what the guest's program writes");
}

static void on_exited(struct agent_link *a, const struct agent_exited *e)
{
	struct machine *m = a->machine;

	m->end_code = e->signal ? 128 + (e->signal & 0x7f) : e->code & 0xff;
	if (e->error) {
		m->end_code = 1;
		machine_finish(m, MACHINE_EXITED, "the guest's program could not be started: %s",
			       strerror(-e->error));
	} else if (e->signal) {
		m->end_signal = e->signal & 0x7f;
		machine_finish(m, MACHINE_EXITED, "the guest's program was ended by signal %d",
			       e->signal);
	} else {
		machine_finish(m, MACHINE_EXITED, "the guest's program exited with status %d",
			       e->code);
	}
}

/**
 * A time that was on its way for long is old when it is set: a guest that has just been restored
 * brings in much of its memory before it gets so far. The way is short the next time.
 */
static bool set_clock_again(struct agent_link *a, const struct agent_resumed_done *done)
{
	static const struct agent_identity same;
	uint64_t now_ns = clock_real_ns();

	if (done->error || a->clock_sets >= CLOCK_SETS_MAX || done->wall_ns > now_ns ||
	    now_ns - done->wall_ns <= CLOCK_BEHIND_MS_MAX * NSEC_PER_MSEC)
		return false;
	a->clock_sets++;
	return !send_resumed(a, &same);
}

static void on_resumed(struct agent_link *a, const struct agent_resumed_done *done)
{
	if (!a->ready || !a->resuming || set_clock_again(a, done))
		return; /* on this connection it was not asked for, or it is again */
	if (done->error && !agent_identity_empty(&a->identity))
		machine_finish(a->machine, MACHINE_BROKEN,
			       "the guest could not take the name or the addresses that it was "
			       "given: %s%s",
			       strerror(-done->error),
			       done->error == -ENODEV ? ": it has no network card eth0" : "");
	else if (done->error)
		complain(a, "not everything could be set after the restore: %s",
			 strerror(-done->error));
	a->resuming = false;
	machine_wake(a->machine);
}

static void on_prepared(struct agent_link *a)
{
	if (!a->ready)
		return;
	a->preparing = false;
	machine_wake(a->machine);
}

/** Return: false for a message that an agent does not send. */
static bool on_message(struct agent_link *a, const struct agent_header *h)
{
	const void *message = h;

	switch (h->type) {
	case AGENT_READY:
		on_ready(a, message);
		return true;
	case AGENT_LOG:
		on_log(a, message);
		return true;
	case AGENT_EXITED:
		on_exited(a, message);
		return true;
	case AGENT_PREPARED:
		on_prepared(a);
		return true;
	case AGENT_RESUMED_DONE:
		on_resumed(a, message);
		return true;
	}
	return false;
}

static void disconnect(struct agent_link *a)
{
	a->conn = NULL;
	a->ready = false;
	a->in_bytes = 0;
}

/** Take what is whole out of the buffer. Return: false where the protocol is broken. */
static bool take_messages(struct agent_link *a)
{
	while (a->in_bytes >= sizeof(struct agent_header)) {
		const struct agent_header *h = (const void *)a->in;
		uint32_t bytes = h->bytes;

		if (!agent_message_ok(h))
			return false;
		if (bytes > a->in_bytes)
			return true;
		if (!on_message(a, h))
			return false;
		a->in_bytes -= bytes;
		memmove(a->in, a->in + bytes, a->in_bytes);
	}
	return true;
}

static int on_accept(void *arg, struct vsock_conn *c)
{
	struct agent_link *a = arg;

	if (a->conn)
		return -ECONNREFUSED;
	a->conn = c;
	return 0;
}

static void on_data(void *arg, struct vsock_conn *c, const void *data, size_t n)
{
	struct agent_link *a = arg;
	const uint8_t *next = data;

	while (n && a->conn == c) {
		size_t part = MIN(n, sizeof(a->in) - a->in_bytes);

		memcpy(a->in + a->in_bytes, next, part);
		a->in_bytes += (uint32_t)part;
		next += part;
		n -= part;
		if (take_messages(a))
			continue;
		complain(a, "it breaks the protocol: its connection ends");
		disconnect(a);
		vsock_close(c);
	}
}

static void on_closed(void *arg, struct vsock_conn *c)
{
	struct agent_link *a = arg;

	if (a->conn == c)
		disconnect(a);
}

/* ---- the Runtime API's streams ---- */

static int api_accept(void *arg, struct vsock_conn *c)
{
	struct agent_link *a = arg;

	return runtime_http_accept(a->api, c);
}

static void api_data(void *arg, struct vsock_conn *c, const void *data, size_t n)
{
	struct agent_link *a = arg;

	runtime_http_data(a->api, c, data, n);
}

static void api_ended(void *arg, struct vsock_conn *c)
{
	struct agent_link *a = arg;

	runtime_http_ended(a->api, c);
}

static void api_closed(void *arg, struct vsock_conn *c)
{
	struct agent_link *a = arg;

	runtime_http_closed(a->api, c);
}

static int wire_send(void *arg, void *stream, const void *data, size_t n)
{
	(void)arg;
	return vsock_send(stream, data, n);
}

static void wire_close(void *arg, void *stream)
{
	(void)arg;
	vsock_close(stream);
}

static void wire_set_priv(void *stream, void *priv)
{
	vsock_set_priv(stream, priv);
}

static void *wire_priv(const void *stream)
{
	return vsock_priv(stream);
}

static uint32_t wire_id(const void *stream)
{
	return vsock_conn_id(stream);
}

static void *wire_by_id(void *arg, uint32_t id)
{
	struct vsock_conn *c = vsock_conn_by_id(arg, id);

	return c && vsock_conn_port(c) == AGENT_API_PORT ? c : NULL;
}

static bool wire_ended(const void *stream)
{
	return vsock_conn_ended(stream);
}

/* ---- what the agent is told ---- */

void agent_link_start(struct agent_link *a, char *const *argv, char *const *envp)
{
	a->argv = argv;
	a->envp = envp;
	if (a->ready && argv)
		send_start(a);
}

/* ---- life ---- */

int agent_link_new(struct agent_link *a, struct machine *m, struct virtio_device *vsock,
		   const struct runtime_api_events *events, void *guest)
{
	const struct vsock_service control = {.port = AGENT_CONTROL_PORT,
					      .arg = a,
					      .accept = on_accept,
					      .data = on_data,
					      .closed = on_closed};
	const struct vsock_service api = {.port = AGENT_API_PORT,
					  .arg = a,
					  .accept = api_accept,
					  .data = api_data,
					  .ended = api_ended,
					  .closed = api_closed};
	int ret;

	*a = (struct agent_link){.machine = m, .vsock = vsock};
	a->wire = (struct runtime_wire){.arg = vsock,
					.send = wire_send,
					.close = wire_close,
					.set_priv = wire_set_priv,
					.priv = wire_priv,
					.id = wire_id,
					.by_id = wire_by_id,
					.ended = wire_ended};
	ret = runtime_api_new(&a->wire, events, guest, &a->api);
	if (!ret)
		ret = vsock_listen_local(vsock, &control);
	if (!ret)
		ret = vsock_listen_local(vsock, &api);
	if (ret)
		log_error("agent: its services: %s", strerror(-ret));
	m->agent = a;
	return ret;
}

void agent_link_free(struct agent_link *a)
{
	runtime_api_free(a->api);
	a->api = NULL;
	a->conn = NULL;
}

int agent_link_save(struct agent_link *a, struct state_writer *w)
{
	state_put_u32(w, a->conn ? vsock_conn_id(a->conn) : NO_CONNECTION);
	state_put_u8(w, a->ready);
	state_put_bytes(w, a->in, a->in_bytes);
	return runtime_api_save(a->api, w);
}

int agent_link_load(struct agent_link *a, struct state_reader *r)
{
	uint32_t id = state_get_u32(r);
	bool ready = state_get_u8(r) & 1;
	size_t n;
	const void *in = state_get_bytes(r, sizeof(a->in), &n);

	if (r->err)
		return r->err;
	a->conn = id != NO_CONNECTION ? vsock_conn_by_id(a->vsock, id) : NULL;
	if (id != NO_CONNECTION && (!a->conn || vsock_conn_port(a->conn) != AGENT_CONTROL_PORT))
		return -EBADMSG;
	a->ready = ready && a->conn;
	if (n)
		memcpy(a->in, in, n);
	a->in_bytes = (uint32_t)n;
	return runtime_api_load(a->api, r);
}
