/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - the vmm's side of the conversation with snapd
 *
 * Theory of operation
 *
 * The first message, BOOT or RESTORE, turns the shell into a guest; START makes a function of a
 * restored base. From then on the run loop of its kind owns the thread and calls control_read()
 * whenever the socket has a message and the guest does not use its Runtime API, so every handler
 * finds one that stands still. Sends block: snapd always reads, but for the parts of a response,
 * whose client may be slow: then the guest stands still until it has read.
 *
 * What differs between process guests and kernel guests is behind struct control_ops.
 *
 * Invariants
 *  1. A message that breaks the protocol ends this instance and nothing else.
 *  2. Descriptors that came with a message are closed unless its handler took them.
 *  3. FAILED is the last message.
 *  4. Once a guest lives, snapd alone holds the userfaultfd: should it end, every thread that waits
 *     for a page goes on, those of the kernel's own too, which no signal reaches (KVM's
 *     asynchronous page faults; closing a VM waits for them).
 */
#include "vmm/control_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"

/** struct message - what came: a header, its bytes, its descriptors. */
struct message {
	union {
		struct proto_header h;
		uint8_t bytes[PROTO_MESSAGE_MAX];
	} u;
	size_t n;
	int fds[FDPASS_FDS_MAX];
	int fd_count;
};

/* One control socket per process; 128 KiB is too much for a stack that runs once per restore. */
static struct message message;
static struct control *the_control;

/* ---- sending ---- */

static void send_message(struct control *c, struct proto_header *h, uint32_t type,
			 size_t body_bytes, const void *tail, size_t tail_bytes, int fd)
{
	struct iovec iov[2] = {
		{.iov_base = h, .iov_len = body_bytes},
		{.iov_base = (void *)(uintptr_t)tail, .iov_len = tail_bytes},
	};
	int ret;

	h->type = type;
	h->bytes = (uint32_t)(body_bytes + tail_bytes);
	ret = fdpass_send(c->sock, iov, tail_bytes ? 2 : 1, &fd, fd >= 0);
	if (ret && !c->over) {
		log_error("control: send: %s", strerror(-ret));
		c->over = true;
	}
}

static void send_failed(struct control *c, enum proto_failure reason, int code, const void *text,
			size_t n)
{
	struct proto_failed m = {.reason = reason, .code = code};

	if (c->over)
		return;
	send_message(c, &m.h, PROTO_FAILED, sizeof(m), text, MIN(n, (size_t)PROTO_INLINE_MAX), -1);
	c->over = true;
}

void control_breach(struct control *c, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_error("control: %s", text);
	send_failed(c, PROTO_FAILED_VMM, 0, text, strlen(text));
	c->ops->stop(c, text);
}

void control_log(struct control *c, int stream, const void *data, size_t n)
{
	const uint8_t *bytes = data;

	while (n && !c->over) {
		struct proto_log m = {.stream = (uint32_t)stream};
		size_t part = MIN(n, (size_t)PROTO_INLINE_MAX);

		send_message(c, &m.h, PROTO_LOG, sizeof(m), bytes, part, -1);
		bytes += part;
		n -= part;
	}
}

/* ---- events of the Runtime API ---- */

void control_ready(struct control *c, bool waits_restore)
{
	struct proto_ready m = {
		.init_ns = clock_mono_ns() - c->started_ns,
		.resident_pages = c->ops->resident_pages(c),
		.waits_restore = waits_restore,
	};

	c->waits_restore = waits_restore;
	send_message(c, &m.h, PROTO_READY, sizeof(m), NULL, 0, -1);
}

static void on_parked(void *guest, bool restore)
{
	(void)guest;
	control_ready(the_control, restore);
}

static void on_result(void *guest, enum proto_result_kind kind, const void *payload, size_t n)
{
	struct control *c = the_control;
	struct proto_result m = {
		.kind = kind,
		.payload_bytes = (uint32_t)n,
		.serial = c->serial,
		.run_ns = clock_mono_ns() - c->invoked_ns,
		.restore_ns = c->restore_ns,
		.resident_pages = c->ops->resident_pages(c),
		.exits = c->ops->take_exits(c),
	};
	CLEANUP_FD int fd = -1;

	(void)guest;
	c->restore_ns = 0;
	if (n > PROTO_INLINE_MAX) {
		fd = memfd_from_buffer("result", payload, n);
		if (fd < 0) {
			control_breach(c, "result memfd: %s", strerror(-fd));
			return;
		}
		m.payload_fd = 1;
	}
	send_message(c, &m.h, PROTO_RESULT, sizeof(m), payload, fd >= 0 ? 0 : n, fd);
}

static void on_part(void *guest, const void *data, size_t n)
{
	struct control *c = the_control;
	const uint8_t *bytes = data;

	(void)guest;
	while (n && !c->over) {
		struct proto_result_part m = {.serial = c->serial};
		size_t part = MIN(n, (size_t)PROTO_INLINE_MAX);

		send_message(c, &m.h, PROTO_RESULT_PART, sizeof(m), bytes, part, -1);
		bytes += part;
		n -= part;
	}
}

static void on_failed(void *guest, enum proto_failure kind, const void *json, size_t n)
{
	struct control *c = the_control;

	(void)guest;
	send_failed(c, kind, 0, json, n);
	c->ops->stop(c, "the runtime reported an error");
}

const struct runtime_api_events control_api_events = {
	.parked = on_parked,
	.result = on_result,
	.failed = on_failed,
	.part = on_part,
};

/* ---- messages to a running guest ---- */

/** Cut one NUL-terminated string off the front of [*at, end). Return: NULL when there is none. */
static const char *take_string(const uint8_t **at, const uint8_t *end)
{
	const char *s = (const char *)*at;
	const uint8_t *nul = memchr(*at, 0, (size_t)(end - *at));

	if (!nul)
		return NULL;
	*at = nul + 1;
	return s;
}

static int invoke_with_payload(struct control *c, struct invocation *inv, struct message *m,
			       const uint8_t *at)
{
	const struct proto_invoke *body = (const struct proto_invoke *)(const void *)m->u.bytes;
	size_t inline_bytes = (size_t)(m->u.bytes + m->n - at);
	const void *map = NULL;
	int ret = 0;

	inv->payload_bytes = body->payload_bytes;
	inv->payload = at;
	if (body->payload_bytes > PROTO_PAYLOAD_MAX)
		return -EMSGSIZE;
	if (body->payload_fd) {
		if (m->fd_count != 1)
			return -EBADF;
		ret = memfd_map_sealed(m->fds[0], inv->payload_bytes, 0, &map);
		inv->payload = map;
	} else if (inline_bytes != body->payload_bytes) {
		return -EBADMSG;
	}
	if (!ret)
		ret = runtime_api_invoke(c->api, inv);
	if (map)
		munmap((void *)(uintptr_t)map, inv->payload_bytes);
	return ret;
}

static void on_invoke(struct control *c, struct message *m)
{
	const struct proto_invoke *body = (const struct proto_invoke *)(const void *)m->u.bytes;
	const uint8_t *at = m->u.bytes + sizeof(*body), *end = m->u.bytes + m->n;
	struct invocation inv = {0};
	int ret;

	if (m->n < sizeof(*body)) {
		control_breach(c, "INVOKE is too short");
		return;
	}
	c->serial = body->serial;
	inv.stream = body->stream;
	inv.deadline_real_ms = body->deadline_real_ms;
	inv.request_id = take_string(&at, end);
	inv.function_arn = inv.request_id ? take_string(&at, end) : NULL;
	inv.trace_id = inv.function_arn ? take_string(&at, end) : NULL;
	inv.client_context = inv.trace_id ? take_string(&at, end) : NULL;
	if (!inv.client_context) {
		control_breach(c, "INVOKE lacks a string");
		return;
	}
	c->invoked_ns = clock_mono_ns();
	ret = invoke_with_payload(c, &inv, m, at);
	if (ret) {
		control_breach(c, "INVOKE: %s", strerror(-ret));
		return;
	}
	if (c->waits_restore) {
		c->waits_restore = false;
		runtime_api_continue_restore(c->api);
	}
}

static void on_capture(struct control *c, struct message *m)
{
	const struct proto_capture *body = (const struct proto_capture *)(const void *)m->u.bytes;
	const uint8_t *at = m->u.bytes + sizeof(*body), *end = m->u.bytes + m->n;
	struct control_capture capture = {.file_fd = &m->fds[0], .pagemap_fd = &m->fds[1]};
	const uint8_t *name = at;

	if (m->n >= sizeof(*body) && body->base_name_bytes) {
		capture.base_fd = &m->fds[2];
		capture.base_name = take_string(&at, end);
	}
	if (m->n < sizeof(*body) || (uint64_t)(at - name) != body->base_name_bytes ||
	    m->fd_count != (capture.base_fd ? 3 : 2)) {
		control_breach(c, "CAPTURE without a file and a page map, or half of a base");
		return;
	}
	capture.metadata = at;
	capture.metadata_bytes = (size_t)(end - at);
	if (!c->is_base && !runtime_api_parked(c->api))
		control_captured(c, -EBUSY, NULL);
	else
		c->ops->capture(c, &capture);
}

/** Split @count strings off into @ret, NULL-terminated. Return: false when they are not there. */
static bool take_strings(const uint8_t **at, const uint8_t *end, uint32_t count, char **ret)
{
	for (uint32_t i = 0; i < count; i++) {
		const char *s = take_string(at, end);

		if (!s)
			return false;
		ret[i] = (char *)(uintptr_t)s;
	}
	ret[count] = NULL;
	return true;
}

/** What is behind the body of a BOOT or START. Return: false when it is not as the counts say. */
static bool take_program(const struct message *m, size_t body_bytes, uint32_t argc, uint32_t envc,
			 struct control_program *ret)
{
	static char *argv[CONTROL_ARGS_MAX + 1], *envp[CONTROL_ARGS_MAX + 1];
	const uint8_t *at = m->u.bytes + body_bytes, *end = m->u.bytes + m->n;

	*ret = (struct control_program){argv, envp, argc, envc};
	return argc <= CONTROL_ARGS_MAX && envc <= CONTROL_ARGS_MAX &&
	       take_strings(&at, end, argc, argv) && take_strings(&at, end, envc, envp);
}

static void on_start(struct control *c, const struct message *m)
{
	const struct proto_start *body = (const struct proto_start *)(const void *)m->u.bytes;
	struct control_program program;
	int ret;

	if (m->n < sizeof(*body) || !body->argc ||
	    !take_program(m, sizeof(*body), body->argc, body->envc, &program))
		ret = -EBADMSG;
	else if (c->is_base || runtime_api_parked(c->api))
		ret = -EBUSY;
	else
		ret = c->ops->start ? c->ops->start(c, &program) : -ENOTSUP;
	c->waits_restore = false;
	if (ret)
		control_breach(c, "START: %s", strerror(-ret));
}

void control_captured(struct control *c, int err, const struct capture_stats *stats)
{
	struct proto_captured reply = {.error = err};

	if (stats) {
		reply.capture_ns = stats->capture_ns;
		reply.resident_pages = stats->resident_pages;
		reply.stored_pages = stats->stored_pages;
		reply.file_bytes = stats->file_bytes;
	}
	memcpy(reply.cpu_features, c->cpu_features, sizeof(reply.cpu_features));
	send_message(c, &reply.h, PROTO_CAPTURED, sizeof(reply), NULL, 0, -1);
}

/** One byte a template page, in a memfd. Return: descriptor or -errno. */
static int trace(struct control *c, int pagemap_fd)
{
	uint64_t pages = c->mem->template_pages;
	CLEANUP_FREE uint8_t *marks = calloc(1, pages ? pages : 1);
	int ret = marks ? c->ops->trace(c, pagemap_fd, marks) : -ENOMEM;

	return ret ? ret : memfd_from_buffer("working-set", marks, pages);
}

static void on_trace(struct control *c, struct message *m)
{
	struct proto_working_set reply = {.template_pages = c->mem->template_pages};
	CLEANUP_FD int fd = m->fd_count == 1 ? trace(c, m->fds[0]) : -EBADF;

	if (fd < 0) {
		control_breach(c, "working set: %s", strerror(-fd));
		return;
	}
	send_message(c, &reply.h, PROTO_WORKING_SET, sizeof(reply), NULL, 0, fd);
}

/** Receive one message. Return: 1 got one, 0 none or over. Breaks are reported. */
static int receive(struct control *c, struct message *m, int flags)
{
	ssize_t n =
		fdpass_recv(c->sock, m->u.bytes, sizeof(m->u.bytes), m->fds, &m->fd_count, flags);

	if (n == -EAGAIN)
		return 0;
	if (n == 0) {
		c->over = true; /* snapd is done with us */
		return 0;
	}
	if (n < (ssize_t)sizeof(m->u.h) || m->u.h.bytes != (uint32_t)n) {
		control_breach(c, "bad message from snapd: %s",
			       n < 0 ? strerror((int)-n) : "length");
		return 0;
	}
	m->n = (size_t)n;
	return 1;
}

static void message_close_fds(struct message *m)
{
	for (int i = 0; i < m->fd_count; i++)
		cleanup_fd(&m->fds[i]);
	m->fd_count = 0;
}

static void dispatch(struct control *c, struct message *m)
{
	switch (m->u.h.type) {
	case PROTO_INVOKE:
		on_invoke(c, m);
		break;
	case PROTO_START:
		on_start(c, m);
		break;
	case PROTO_CAPTURE:
		on_capture(c, m);
		break;
	case PROTO_TRACE_WORKING_SET:
		on_trace(c, m);
		break;
	default:
		control_breach(c, "message type %u does not fit here", m->u.h.type);
	}
	message_close_fds(m);
}

void control_read(struct control *c)
{
	while (!c->over && receive(c, &message, MSG_DONTWAIT))
		dispatch(c, &message);
	if (c->over)
		c->ops->stop(c, "snapd closed the control socket");
}

/* ---- becoming a guest ---- */

static int become_booted(struct control *c, struct message *m)
{
	const struct proto_boot *body = (const struct proto_boot *)(const void *)m->u.bytes;
	struct control_program program;

	if (m->n < sizeof(*body) ||
	    m->fd_count != (body->argc ? c->ops->boot_fd_count : c->ops->base_fd_count) ||
	    !take_program(m, sizeof(*body), body->argc, body->envc, &program))
		return -EBADMSG;
	c->is_base = !body->argc;
	return c->ops->boot(c, body, &program, m->fds);
}

static int become_restored(struct control *c, struct message *m)
{
	const struct proto_restore *body = (const struct proto_restore *)(const void *)m->u.bytes;
	struct guest_image image = {.memfd = -1};
	uint64_t populate_at, populate_bytes, map_bytes;
	int files = c->ops->file_count, ret;
	const void *map;

	if (m->n != sizeof(*body) || m->fd_count != files + 2)
		return -EBADMSG;
	populate_at = align_up(body->state_bytes, sizeof(struct proto_populate));
	populate_bytes = body->populate_count * sizeof(struct proto_populate);
	if (populate_at < body->state_bytes ||
	    !checked_add(populate_at, populate_bytes, &map_bytes))
		return -EBADMSG;
	ret = memfd_map_sealed(m->fds[files + 1], map_bytes, MAP_POPULATE, &map);
	if (ret)
		return ret;
	image.memfd = m->fds[files];
	image.template_pages = body->template_pages;
	image.uffd = c->uffd;
	image.state = map;
	image.state_bytes = body->state_bytes;
	image.populate = (const void *)((const uint8_t *)map + populate_at);
	image.populate_count = body->populate_count;
	ret = c->ops->restore(c, &image, m->fds);
	c->waits_restore = true;
	return ret;
}

static void send_end(struct control *c)
{
	struct control_end end;

	c->ops->end(c, &end);
	send_failed(c, end.reason, end.code, end.text, strlen(end.text));
}

/** Why it did not come to life: in its own words, if it has any. */
static void send_not_alive(struct control *c, const char *what, int err)
{
	struct control_end end;
	char text[100];

	c->ops->end(c, &end);
	snprintf(text, sizeof(text), "%s failed: %s", what, strerror(-err));
	if (!*end.text)
		end.text = text;
	send_failed(c, PROTO_FAILED_VMM, err, end.text, strlen(end.text));
}

static void become_guest(struct control *c, struct message *m)
{
	bool restore = m->u.h.type == PROTO_RESTORE;
	int ret = -EPROTO;

	c->started_ns = clock_mono_ns();
	c->invoked_ns = c->started_ns;
	if (restore)
		ret = become_restored(c, m);
	else if (m->u.h.type == PROTO_BOOT)
		ret = become_booted(c, m);
	message_close_fds(m);
	cleanup_fd(&c->uffd);
	c->uffd = -1;
	if (restore)
		c->restore_ns = clock_mono_ns() - c->started_ns;
	if (ret)
		send_not_alive(c, restore ? "restore" : "boot", ret);
}

int control_serve(struct control *c, int sock, int uffd)
{
	struct proto_hello hello = {.version = PROTO_VERSION};
	struct control_end end;

	the_control = c;
	c->sock = sock;
	c->uffd = uffd;
	c->ops->hello(c, &hello);
	send_message(c, &hello.h, PROTO_HELLO, sizeof(hello), NULL, 0, uffd);
	if (c->over || !receive(c, &message, 0))
		return c->over ? 0 : 1;
	become_guest(c, &message);
	if (!c->over) {
		c->ops->run(c);
		send_end(c);
	}
	c->ops->end(c, &end);
	/* The kernel releases everything at once and faster than one by one. */
	return end.reason == PROTO_FAILED_VMM;
}
