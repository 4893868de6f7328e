/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - the vmm's side of the conversation with snapd
 *
 * Theory of operation
 *
 * The first message, BOOT or RESTORE, turns the shell into a guest. From then on the run loop owns
 * the thread and calls on_readable() whenever the socket has a message and no task is on the vCPU,
 * so every handler finds a guest that stands still. Sends block: snapd always reads, but for the
 * parts of a response, whose client may be slow: then the guest stands still until it has read.
 *
 * Invariants
 *  1. A message that breaks the protocol ends this instance and nothing else.
 *  2. Descriptors that came with a message are closed unless its handler took them.
 *  3. FAILED is the last message.
 */
#include "vmm/control.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "vmm/capture.h"
#include "vmm/cpu_features.h"
#include "vmm/device.h"
#include "vmm/guest.h"
#include "vmm/process/mm.h"
#include "vmm/process/neighbours.h"
#include "vmm/process/proc.h"
#include "vmm/process/task.h"
#include "vmm/vm.h"
#include "vmm/working_set.h"

enum { ARGS_MAX = 1024 };

/** struct control - this side of the socket. */
struct control {
	int sock;
	int uffd;
	struct vm *vm;
	struct proc *proc;
	uint64_t started_ns; /**< BOOT or RESTORE arrived */
	uint64_t restore_ns; /**< how long RESTORE took; told once, with the first result */
	uint64_t invoked_ns; /**< INVOKE arrived, or the restore before it ended */
	uint32_t serial;     /**< of the last INVOKE */
	bool waits_restore;  /**< parked in /restore/next: goes on with the first INVOKE */
	bool over;	     /**< FAILED was sent or the socket is closed */
};

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
static struct control control;

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

static void breach(struct control *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** The other side broke the protocol, or cannot be served: the end of this instance. */
static void breach(struct control *c, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_error("control: %s", text);
	send_failed(c, PROTO_FAILED_VMM, 0, text, strlen(text));
	if (c->proc)
		proc_finish(c->proc, PROC_BROKEN, 0, "%s", text);
}

static void on_stdio(struct proc *p, int stream, const void *data, size_t n)
{
	struct control *c = p->control;
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

static void on_parked(void *guest, bool restore)
{
	const struct proc *p = guest;
	struct control *c = p->control;
	struct proto_ready m = {
		.init_ns = clock_mono_ns() - c->started_ns,
		.resident_pages = mm_resident_pages(p),
		.waits_restore = restore,
	};

	c->waits_restore = restore;
	send_message(c, &m.h, PROTO_READY, sizeof(m), NULL, 0, -1);
}

static void on_result(void *guest, enum proto_result_kind kind, const void *payload, size_t n)
{
	const struct proc *p = guest;
	struct control *c = p->control;
	struct proto_result m = {
		.kind = kind,
		.payload_bytes = (uint32_t)n,
		.serial = c->serial,
		.run_ns = clock_mono_ns() - c->invoked_ns,
		.restore_ns = c->restore_ns,
		.resident_pages = mm_resident_pages(p),
		.exits = p->vm->vcpu.exits,
	};
	CLEANUP_FD int fd = -1;

	c->restore_ns = 0;
	p->vm->vcpu.exits = 0;
	if (n > PROTO_INLINE_MAX) {
		fd = memfd_from_buffer("result", payload, n);
		if (fd < 0) {
			breach(c, "result memfd: %s", strerror(-fd));
			return;
		}
		m.payload_fd = 1;
	}
	send_message(c, &m.h, PROTO_RESULT, sizeof(m), payload, fd >= 0 ? 0 : n, fd);
}

static void on_part(void *guest, const void *data, size_t n)
{
	struct control *c = ((struct proc *)guest)->control;
	const uint8_t *bytes = data;

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
	struct proc *p = guest;

	send_failed(p->control, kind, 0, json, n);
	proc_finish(p, PROC_EXITED, 1, "the runtime reported an error");
}

static const struct runtime_api_events api_events = {
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
		ret = runtime_api_invoke(c->proc->api, inv);
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
		breach(c, "INVOKE is too short");
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
		breach(c, "INVOKE lacks a string");
		return;
	}
	c->invoked_ns = clock_mono_ns();
	ret = invoke_with_payload(c, &inv, m, at);
	if (ret) {
		breach(c, "INVOKE: %s", strerror(-ret));
		return;
	}
	if (c->waits_restore) {
		c->waits_restore = false;
		runtime_api_continue_restore(c->proc->api);
	}
}

static void on_capture(struct control *c, struct message *m)
{
	struct proto_captured reply = {.error = -EBUSY};
	struct capture_stats stats = {0};

	if (m->fd_count != 1) {
		breach(c, "CAPTURE without a file");
		return;
	}
	if (runtime_api_parked(c->proc->api))
		reply.error =
			capture_write(c->proc, m->fds[0], m->u.bytes + sizeof(struct proto_capture),
				      m->n - sizeof(struct proto_capture), &stats);
	reply.capture_ns = stats.capture_ns;
	reply.resident_pages = stats.resident_pages;
	reply.stored_pages = stats.stored_pages;
	reply.file_bytes = stats.file_bytes;
	memcpy(reply.cpu_features, c->vm->cpu_features, sizeof(reply.cpu_features));
	send_message(c, &reply.h, PROTO_CAPTURED, sizeof(reply), NULL, 0, -1);
}

/** One byte a template page, in a memfd. Return: descriptor or -errno. */
static int trace(struct control *c, int pagemap_fd)
{
	uint64_t pages = c->vm->mem.template_pages;
	CLEANUP_FREE uint8_t *marks = calloc(1, pages ? pages : 1);
	int ret = marks ? working_set_read(&c->vm->mem, pagemap_fd, marks) : -ENOMEM;

	if (!ret && c->vm->faults_dear)
		ret = neighbours_mark(c->proc, marks, pages);
	return ret ? ret : memfd_from_buffer("working-set", marks, pages);
}

static void on_trace(struct control *c, struct message *m)
{
	struct proto_working_set reply = {.template_pages = c->vm->mem.template_pages};
	CLEANUP_FD int fd = m->fd_count == 1 ? trace(c, m->fds[0]) : -EBADF;

	if (fd < 0) {
		breach(c, "working set: %s", strerror(-fd));
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
		breach(c, "bad message from snapd: %s", n < 0 ? strerror((int)-n) : "length");
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
	case PROTO_CAPTURE:
		on_capture(c, m);
		break;
	case PROTO_TRACE_WORKING_SET:
		on_trace(c, m);
		break;
	default:
		breach(c, "message type %u does not fit here", m->u.h.type);
	}
	message_close_fds(m);
}

static void on_readable(struct proc *p, int fd, short revents)
{
	struct control *c = p->control;

	(void)fd;
	(void)revents;
	while (!c->over && receive(c, &message, MSG_DONTWAIT))
		dispatch(c, &message);
	if (c->over)
		proc_finish(p, PROC_BROKEN, 0, "snapd closed the control socket");
}

/* ---- becoming a guest ---- */

static void take_dirs(struct message *m, struct guest_wiring *wiring)
{
	for (int i = 0; i < PROTO_DIR_COUNT; i++)
		wiring->dirs[i] = steal_fd(&m->fds[i]);
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

static int become_booted(struct control *c, struct message *m, struct guest_wiring *wiring)
{
	const struct proto_boot *body = (const struct proto_boot *)(const void *)m->u.bytes;
	const uint8_t *at = m->u.bytes + sizeof(*body), *end = m->u.bytes + m->n;
	static char *argv[ARGS_MAX + 1], *envp[ARGS_MAX + 1];
	uint32_t envc = m->n >= sizeof(*body) ? body->envc : 0;

	if (m->n < sizeof(*body) || m->fd_count != PROTO_DIR_COUNT || !body->argc ||
	    body->argc > ARGS_MAX || body->envc > ARGS_MAX ||
	    !take_strings(&at, end, body->argc, argv) || !take_strings(&at, end, body->envc, envp))
		return -EBADMSG;
	for (char *const *extra = cpu_baseline_env(c->vm); *extra; extra++) {
		if (envc == ARGS_MAX)
			return -E2BIG;
		envp[envc++] = *extra;
	}
	envp[envc] = NULL;
	c->proc->memory_bytes = body->memory_bytes;
	c->proc->tmp_bytes = body->tmp_bytes;
	take_dirs(m, wiring);
	return guest_boot(c->proc, c->vm, wiring, argv, envp);
}

static int become_restored(struct control *c, struct message *m, struct guest_wiring *wiring)
{
	const struct proto_restore *body = (const struct proto_restore *)(const void *)m->u.bytes;
	struct guest_image image = {.memfd = -1};
	uint64_t populate_at, populate_bytes, map_bytes;
	const void *map;
	int ret;

	if (m->n != sizeof(*body) || m->fd_count != PROTO_DIR_COUNT + 2)
		return -EBADMSG;
	populate_at = align_up(body->state_bytes, sizeof(struct proto_populate));
	populate_bytes = body->populate_count * sizeof(struct proto_populate);
	if (populate_at < body->state_bytes ||
	    !checked_add(populate_at, populate_bytes, &map_bytes))
		return -EBADMSG;
	ret = memfd_map_sealed(m->fds[PROTO_DIR_COUNT + 1], map_bytes, MAP_POPULATE, &map);
	if (ret)
		return ret;
	image.memfd = m->fds[PROTO_DIR_COUNT];
	image.template_pages = body->template_pages;
	image.uffd = c->uffd;
	image.state = map;
	image.state_bytes = body->state_bytes;
	image.populate = (const void *)((const uint8_t *)map + populate_at);
	image.populate_count = body->populate_count;
	take_dirs(m, wiring);
	ret = guest_restore(c->proc, c->vm, wiring, &image);
	c->waits_restore = true;
	return ret;
}

static void become_guest(struct control *c, struct message *m)
{
	struct guest_wiring wiring = {.events = &api_events, .stdio = on_stdio};
	bool restore = m->u.h.type == PROTO_RESTORE;
	int ret = -EPROTO;

	c->started_ns = clock_mono_ns();
	c->invoked_ns = c->started_ns;
	for (int i = 0; i < PROTO_DIR_COUNT; i++)
		wiring.dirs[i] = -1;
	if (restore)
		ret = become_restored(c, m, &wiring);
	else if (m->u.h.type == PROTO_BOOT)
		ret = become_booted(c, m, &wiring);
	message_close_fds(m);
	if (restore)
		c->restore_ns = clock_mono_ns() - c->started_ns;
	if (ret && !*c->proc->end_text)
		snprintf(c->proc->end_text, sizeof(c->proc->end_text), "%s failed: %s",
			 restore ? "restore" : "boot", strerror(-ret));
	if (ret)
		send_failed(c, PROTO_FAILED_VMM, ret, c->proc->end_text, strlen(c->proc->end_text));
}

static void send_end(struct control *c, const struct proc *p)
{
	static const enum proto_failure reasons[] = {
		[PROC_RUNS] = PROTO_FAILED_VMM,	       [PROC_EXITED] = PROTO_FAILED_EXIT,
		[PROC_SIGNALED] = PROTO_FAILED_SIGNAL, [PROC_OUT_OF_MEMORY] = PROTO_FAILED_MEMORY,
		[PROC_BROKEN] = PROTO_FAILED_VMM,
	};

	send_failed(c, reasons[p->end], p->end_code, p->end_text, strlen(p->end_text));
}

int control_serve(struct vm *vm, int sock, int uffd)
{
	static struct proc proc;
	struct control *c = &control;
	struct proto_hello hello = {
		.version = PROTO_VERSION,
		.host_kind = vm->host_kind,
		.ram_base = (uint64_t)(uintptr_t)vm->mem.ram,
		.ram_bytes = vm->mem.ram_bytes,
		.state_version = devices_version(&process_devices),
	};

	memcpy(hello.cpu_features, vm->cpu_have, sizeof(hello.cpu_features));
	c->sock = sock;
	c->uffd = uffd;
	c->vm = vm;
	c->proc = &proc;
	proc.control = c;
	send_message(c, &hello.h, PROTO_HELLO, sizeof(hello), NULL, 0, uffd);
	if (c->over || !receive(c, &message, 0))
		return c->over ? 0 : 1;
	become_guest(c, &message);
	if (!c->over) {
		sched_set_control(&proc, sock, on_readable);
		sched_run(&proc, NULL);
		send_end(c, &proc);
	}
	/* The kernel releases everything at once and faster than one by one. */
	return proc.end == PROC_BROKEN;
}
