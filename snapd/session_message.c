/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_message.c - what snapd and an instance's vmm say to each other
 *
 * One function for each message of include/snapd_proto.h. What comes in is checked against its
 * kind and the instance's state first; what does not fit ends the instance (session.c, invariant
 * 1). The states and what they allow are session.c's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/event_loop.h"
#include "snapd/host_memory.h"
#include "snapd/kernel_guests.h"
#include "snapd/session_internal.h"

enum { MESSAGES_PER_TURN = 16 };
enum { CAPTURE_TIMEOUT_S = 120, TRACE_TIMEOUT_S = 20, PROGRAM_IOV_MAX = 256 };

/** struct message - what came: a header, its bytes, its descriptors. */
struct message {
	union {
		struct proto_header h;
		struct proto_hello hello;
		struct proto_ready ready;
		struct proto_captured captured;
		struct proto_result result;
		struct proto_result_part part;
		struct proto_log log;
		struct proto_working_set working_set;
		struct proto_failed failed;
		uint8_t bytes[PROTO_MESSAGE_MAX];
	} u;
	size_t n;
	int fds[FDPASS_FDS_MAX];
	int fd_count;
};

static struct {
	int root_fd, runtime_fd;
	int empty_fd; /* /opt of functions without layers */
	bool unread;  /* one or more have more messages than a turn's share */
	struct message message;
} messages;

static void on_control(const struct loop_event *event);

int session_message_init(int root_fd, int runtime_fd)
{
	messages.root_fd = root_fd;
	messages.runtime_fd = runtime_fd;
	messages.empty_fd = openat(root_fd, "opt", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (messages.empty_fd < 0)
		return -errno;
	event_loop_handle(LOOP_CONTROL, on_control);
	return 0;
}

/* ---- what comes in --------------------------------------------------------------------------- */

static void on_hello(struct instance *inst, struct message *m)
{
	const struct proto_hello *h = &m->u.hello;

	if (m->n != sizeof(*h) || m->fd_count != 1 || h->version != PROTO_VERSION ||
	    h->guest_kind != (uint32_t)inst->kind || inst->state != INSTANCE_SPAWNING ||
	    h->ram_base % PAGE_BYTES) {
		session_breach(inst,
			       "HELLO is not what this snapd expects (is vmm of the same build?)");
		return;
	}
	inst->uffd = steal_fd(&m->fds[0]);
	if (fcntl(inst->uffd, F_SETFL, O_NONBLOCK)) {
		session_breach(inst, "its userfaultfd cannot be made non-blocking");
		return;
	}
	inst->ram_base = h->ram_base;
	memcpy(inst->cpu_features, h->cpu_features, sizeof(inst->cpu_features));
	inst->state_version = h->state_version;
	page_in_attach(inst->slot, inst->uffd, inst->ram_base);
	session_is_shell(inst);
}

static void on_ready(struct instance *inst, const struct message *m)
{
	uint64_t deadline_ns = inst->deadline_ns;

	if (m->n != sizeof(m->u.ready)) {
		session_breach(inst, "READY has another length");
	} else if (inst->state == INSTANCE_RESTORING) {
		session_enter(inst, INSTANCE_INVOKING);
		session_set_deadline(inst, deadline_ns);
	} else if (inst->state == INSTANCE_BOOTING && inst->events && inst->events->ready) {
		session_enter(inst, INSTANCE_READY);
		inst->events->ready(inst, &m->u.ready);
	} else if (inst->state != INSTANCE_INVOKING && inst->state != INSTANCE_IDLE &&
		   inst->state != INSTANCE_TRACING) {
		/* There: /restore/next was answered by an INVOKE, and now it is in /next. */
		session_breach(inst, "READY at the wrong time");
	}
}

static void on_captured(struct instance *inst, const struct message *m)
{
	if (m->n != sizeof(m->u.captured) || inst->state != INSTANCE_CAPTURING) {
		session_breach(inst, "CAPTURED does not fit");
		return;
	}
	session_enter(inst, INSTANCE_READY);
	inst->events->captured(inst, &m->u.captured);
}

/** A payload in a memfd of the other side: it must be sealed, or it could change under us. */
static const void *map_payload(int fd, size_t n)
{
	const int seals = F_SEAL_WRITE | F_SEAL_SHRINK;
	struct stat st;
	void *map;

	int has = fcntl(fd, F_GET_SEALS); /* -1: it is no memfd at all */

	if (has < 0 || (has & seals) != seals || !n || fstat(fd, &st) || (uint64_t)st.st_size < n)
		return NULL;
	map = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
	return map == MAP_FAILED ? NULL : map;
}

static void on_result(struct instance *inst, const struct message *m)
{
	const struct proto_result *r = &m->u.result;
	struct session_result result = {
		.kind = r->kind,
		.payload = m->u.bytes + sizeof(*r),
		.payload_bytes = r->payload_bytes,
		.run_ns = r->run_ns,
		.restore_ns = r->restore_ns,
		.resident_pages = r->resident_pages,
		.exits = r->exits,
	};
	void *map = NULL;

	if (m->n < sizeof(*r) || r->kind > PROTO_RESULT_STREAM_ERROR ||
	    r->payload_bytes > PROTO_PAYLOAD_MAX || r->payload_fd != (unsigned)m->fd_count ||
	    (!r->payload_fd && m->n != sizeof(*r) + r->payload_bytes) ||
	    r->serial != inst->call_serial ||
	    (inst->state != INSTANCE_INVOKING && inst->state != INSTANCE_RESTORING)) {
		session_breach(inst, "RESULT does not fit");
		return;
	}
	if (r->payload_fd) {
		result.payload = map_payload(m->fds[0], r->payload_bytes);
		map = (void *)(uintptr_t)result.payload;
		if (!map) {
			session_breach(inst, "RESULT's payload cannot be mapped");
			return;
		}
	}
	/* What a kernel does with its memory only its pages tell. */
	if (inst->kind == GUEST_KIND_KERNEL &&
	    host_memory_of_process(inst->child.pid, &result.resident_pages, &result.own_pages))
		result.resident_pages = result.own_pages = 0;
	session_enter(inst, INSTANCE_IDLE);
	inst->invocations++;
	inst->events->result(inst, &result);
	if (map)
		munmap(map, result.payload_bytes);
}

static void on_result_part(struct instance *inst, const struct message *m)
{
	if (m->n < sizeof(m->u.part) || m->u.part.serial != inst->call_serial ||
	    (inst->state != INSTANCE_INVOKING && inst->state != INSTANCE_RESTORING)) {
		session_breach(inst, "RESULT_PART does not fit");
		return;
	}
	/* Nobody: whoever asked was a client of the snapd before this one. */
	if (inst->events && inst->events->part)
		inst->events->part(inst, m->u.bytes + sizeof(m->u.part), m->n - sizeof(m->u.part));
}

static void on_log(struct instance *inst, const struct message *m)
{
	const char *tag = inst->request_id[0] ? inst->request_id : "init";

	if (m->n < sizeof(m->u.log) || !inst->function) {
		session_breach(inst, "LOG does not fit");
		return;
	}
	log_ring_add(function_log(inst->function), tag, (const char *)m->u.bytes + sizeof(m->u.log),
		     m->n - sizeof(m->u.log));
}

static void on_working_set(struct instance *inst, const struct message *m)
{
	if (m->n != sizeof(m->u.working_set) || m->fd_count != 1 ||
	    inst->state != INSTANCE_TRACING || !inst->template ||
	    m->u.working_set.template_pages != inst->template->pages) {
		session_breach(inst, "WORKING_SET does not fit");
		return;
	}
	session_enter(inst, INSTANCE_IDLE);
	inst->events->working_set(inst, m->fds[0], m->u.working_set.template_pages);
}

static void on_failed(struct instance *inst, const struct message *m)
{
	struct session_failure failure = {
		.kind = (int)m->u.failed.reason,
		.code = m->u.failed.code,
		.text = (const char *)m->u.bytes + sizeof(m->u.failed),
		.text_bytes = m->n - sizeof(m->u.failed),
	};
	char text[1024]; /* a template's name and a report */

	if (m->n < sizeof(m->u.failed) || m->u.failed.reason < PROTO_FAILED_EXIT ||
	    m->u.failed.reason > PROTO_FAILED_KERNEL) {
		session_breach(inst, "FAILED does not fit");
		return;
	}
	if (failure.kind == PROTO_FAILED_VMM && inst->state == INSTANCE_RESTORING) {
		failure.text_bytes =
			(size_t)snprintf(text, sizeof(text), "%s: %.*s", inst->template->name,
					 (int)MIN(failure.text_bytes, (size_t)800), failure.text);
		failure.text = text;
	}
	session_fail(inst, &failure);
}

static void dispatch(struct instance *inst, struct message *m)
{
	switch (m->u.h.type) {
	case PROTO_HELLO:
		on_hello(inst, m);
		break;
	case PROTO_READY:
		on_ready(inst, m);
		break;
	case PROTO_CAPTURED:
		on_captured(inst, m);
		break;
	case PROTO_RESULT:
		on_result(inst, m);
		break;
	case PROTO_RESULT_PART:
		on_result_part(inst, m);
		break;
	case PROTO_LOG:
		on_log(inst, m);
		break;
	case PROTO_WORKING_SET:
		on_working_set(inst, m);
		break;
	case PROTO_FAILED:
		on_failed(inst, m);
		break;
	default:
		session_breach(inst, "a message of unknown type");
	}
}

/** Act on what fdpass_recv() has returned. */
static void on_received(struct instance *inst, struct message *m, ssize_t n)
{
	/* A message of no bytes looks like the end, and is none of ours either. */
	if (n == 0 || n == -ECONNRESET) {
		session_lost(inst);
	} else if (n < (ssize_t)sizeof(m->u.h) || m->u.h.bytes != (uint32_t)n) {
		session_breach(inst, "a message of the wrong length");
	} else {
		m->n = (size_t)n;
		dispatch(inst, m);
	}
}

/** Receive and act on one message. Return: false when there is none, or the instance has ended. */
bool session_receive_one(struct instance *inst)
{
	struct message *m = &messages.message;
	ssize_t n = fdpass_recv(inst->control, m->u.bytes, sizeof(m->u.bytes), m->fds, &m->fd_count,
				MSG_DONTWAIT);

	if (n == -EAGAIN)
		return false;
	on_received(inst, m, n);
	/* Whatever it was: descriptors that nobody took came with a message of any length. */
	for (int i = 0; i < FDPASS_FDS_MAX; i++)
		cleanup_fd(&m->fds[i]);
	return inst->control >= 0;
}

/** The poll is edge-triggered: receive until there is nothing, or later go on (session_work()). */
static void receive(struct instance *inst)
{
	unsigned left = MESSAGES_PER_TURN;

	while (left && !inst->held && session_receive_one(inst))
		left--;
	inst->unread = !left || inst->held;
	messages.unread |= inst->unread && !inst->held;
}

void session_hold(struct instance *inst, bool hold)
{
	if (inst->held == hold)
		return;
	inst->held = hold;
	/* What has come meanwhile was told by an edge that is gone. */
	if (!hold)
		messages.unread = inst->unread = true;
}

bool session_work(void)
{
	if (!messages.unread)
		return false;
	messages.unread = false;
	for (uint32_t i = 0; i < INSTANCES_MAX; i++)
		if (session_instance(i)->unread && !session_instance(i)->held &&
		    session_instance(i)->control >= 0)
			receive(session_instance(i));
	return messages.unread;
}

static void on_control(const struct loop_event *event)
{
	struct instance *inst = session_instance(event->slot);

	if (inst->generation != event->generation || inst->control < 0)
		return;
	receive(inst);
	if (!event->more && inst->generation == event->generation && inst->control >= 0)
		event_loop_poll(LOOP_CONTROL, inst->slot, inst->generation, inst->control);
}

/* ---- what goes out --------------------------------------------------------------------------- */

static int send_message(struct instance *inst, struct proto_header *h, uint32_t type,
			struct iovec *iov, int iov_count, const int *fds, int fd_count)
{
	size_t bytes = 0;
	int ret;

	for (int i = 0; i < iov_count; i++)
		bytes += iov[i].iov_len;
	h->type = type;
	h->bytes = (uint32_t)bytes;
	ret = fdpass_send(inst->control, iov, iov_count, fds, fd_count);
	if (ret) {
		/* A full socket too: the vmm does not read, so it will not serve. */
		log_about(LOG_LEVEL_WARN, inst->id, inst->request_id, "send: %s", strerror(-ret));
		session_end(inst);
	}
	return ret;
}

static struct iovec iov_of(const void *p, size_t n)
{
	return (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = n};
}

static struct iovec iov_str(const char *s)
{
	return iov_of(s, strlen(s) + 1);
}

/** Disks of a kernel guest, and what boots it. Return: how many are disks. */
static int put_images(const struct version *v, int fds[FDPASS_FDS_MAX])
{
	struct kernel_images images = {-1, -1, -1, -1};

	if (!kernel_guests_images(&v->settings, &images))
		return -ENOTSUP;
	fds[PROTO_DISK_ROOT] = images.root_fd;
	fds[PROTO_DISK_TASK] = v->code_fd;
	fds[PROTO_DISK_OPT] = v->opt_fd >= 0 ? v->opt_fd : images.empty_fd;
	fds[PROTO_DISK_COUNT] = images.kernel_fd;
	fds[PROTO_DISK_COUNT + 1] = images.initrd_fd;
	return PROTO_DISK_COUNT;
}

/** What a base has: no code, and no layers. Return: how many, or -errno. */
static int put_base_images(const struct version *v, int fds[FDPASS_FDS_MAX])
{
	struct kernel_images images = {-1, -1, -1, -1};
	int n = 0;

	if (v->settings.guest_kind != GUEST_KIND_KERNEL ||
	    !kernel_guests_images(&v->settings, &images))
		return -ENOTSUP;
	fds[n++] = images.root_fd;
	fds[n++] = images.kernel_fd;
	fds[n++] = images.initrd_fd;
	return n;
}

/** What the guest sees of the host. Return: how many, or -errno. */
static int put_files(const struct version *v, int fds[FDPASS_FDS_MAX])
{
	if (v->settings.guest_kind == GUEST_KIND_KERNEL)
		return put_images(v, fds);
	fds[PROTO_DIR_ROOT] = messages.root_fd;
	fds[PROTO_DIR_TASK] = v->code_fd;
	fds[PROTO_DIR_RUNTIME] = messages.runtime_fd;
	fds[PROTO_DIR_OPT] = v->opt_fd >= 0 ? v->opt_fd : messages.empty_fd;
	return PROTO_DIR_COUNT;
}

/** Add strings up to the NULL. Return: how many; -E2BIG: there are more. */
static int put_strings(struct iovec *iov, int *n, const char *const *list)
{
	int count = 0;

	for (; list[count]; count++) {
		if (*n == PROGRAM_IOV_MAX)
			return -E2BIG;
		iov[(*n)++] = iov_str(list[count]);
	}
	return count;
}

/** Behind the body, which is the first one. Return: how many there are, or -E2BIG. */
static int put_program(struct iovec iov[PROGRAM_IOV_MAX], const char *const *argv,
		       const char *const *envp, uint32_t *ret_argc, uint32_t *ret_envc)
{
	int n = 1, argc = put_strings(iov, &n, argv), envc = put_strings(iov, &n, envp);

	*ret_argc = (uint32_t)argc;
	*ret_envc = (uint32_t)envc;
	return argc < 0 || envc < 0 ? -E2BIG : n;
}

static void enter_booting(struct instance *inst, uint64_t timeout_ns)
{
	session_enter(inst, INSTANCE_BOOTING);
	session_set_deadline(inst, clock_mono_ns() + timeout_ns);
}

int session_boot(struct instance *inst, const char *const *argv, const char *const *envp,
		 uint64_t memory_bytes, uint64_t tmp_bytes, uint64_t timeout_ns)
{
	struct proto_boot body = {.memory_bytes = memory_bytes, .tmp_bytes = tmp_bytes};
	int fds[FDPASS_FDS_MAX], fd_count = put_files(inst->version, fds);
	struct iovec iov[PROGRAM_IOV_MAX] = {iov_of(&body, sizeof(body))};
	int n = put_program(iov, argv, envp, &body.argc, &body.envc), ret;

	if (fd_count < 0 || n < 0) {
		session_end(inst);
		return MIN(fd_count, n);
	}
	if (inst->version->settings.guest_kind == GUEST_KIND_KERNEL)
		fd_count += 2; /* kernel and initramfs */
	ret = send_message(inst, &body.h, PROTO_BOOT, iov, n, fds, fd_count);
	if (!ret)
		enter_booting(inst, timeout_ns);
	return ret;
}

int session_boot_base(struct instance *inst, uint64_t timeout_ns)
{
	struct proto_boot body = {.memory_bytes = MIB(inst->ram_mib)};
	int fds[FDPASS_FDS_MAX], fd_count = put_base_images(inst->version, fds), ret;
	struct iovec iov = iov_of(&body, sizeof(body));

	if (fd_count < 0) {
		session_end(inst);
		return fd_count;
	}
	ret = send_message(inst, &body.h, PROTO_BOOT, &iov, 1, fds, fd_count);
	if (!ret)
		enter_booting(inst, timeout_ns);
	return ret;
}

/** From here on it has this call. Before the vmm knows: should snapd be killed in between, the next
 * one waits for an answer that does not come, and ends it. The other way round it would take the
 * answer for one to its own call. */
static void begin_call(struct instance *inst, enum instance_state state,
		       const struct session_call *call)
{
	snprintf(inst->request_id, sizeof(inst->request_id), "%s", call->request_id);
	inst->call_serial++;
	session_enter(inst, state);
	session_set_deadline(inst, clock_mono_ns() + call->timeout_ns);
}

static int send_invoke(struct instance *inst, const struct session_call *call)
{
	struct proto_invoke body = {
		.deadline_real_ms = (clock_real_ns() + call->timeout_ns) / 1000000,
		.payload_bytes = (uint32_t)call->payload_bytes,
		.stream = call->stream,
		.serial = inst->call_serial,
	};
	struct iovec iov[] = {
		iov_of(&body, sizeof(body)),
		iov_str(call->request_id),
		iov_str(call->arn),
		iov_str(call->trace_id),
		iov_str(call->client_context),
		iov_of(call->payload, call->payload_bytes),
	};
	int count = ARRAY_SIZE(iov);
	CLEANUP_FD int fd = -1;

	if (call->payload_bytes > PROTO_INLINE_MAX) {
		fd = memfd_from_buffer("quickthaw-payload", call->payload, call->payload_bytes);
		if (fd < 0) {
			int err = fd;

			session_end(inst);
			return err;
		}
		body.payload_fd = 1;
		count--;
	}
	return send_message(inst, &body.h, PROTO_INVOKE, iov, count, &fd, fd >= 0);
}

/**
 * How much of the working set the vmm is to bring in, or map, ahead of the guest. A kernel guest
 * waits for it also where it is still to be read: a touch of a missing page costs it far more than
 * waiting does, and leaves a copy of its own (record.c says why).
 */
static uint32_t populate_count(const struct instance *inst)
{
	return inst->kind == GUEST_KIND_KERNEL ? inst->template->file->populate_count
					       : template_populate_count(inst->template);
}

/** Before it enters a state, which is to tell of it. */
static void use_template(struct instance *inst, struct template *t)
{
	inst->template = template_get(t);
	page_in_use(inst->slot, t);
}

static int send_restore(struct instance *inst)
{
	const struct template *t = inst->template;
	struct proto_restore body = {
		.template_pages = t->pages,
		.state_bytes = t->file->state_bytes,
		.populate_count = populate_count(inst),
	};
	int fds[FDPASS_FDS_MAX], fd_count = put_files(inst->version, fds);
	struct iovec iov = iov_of(&body, sizeof(body));

	if (fd_count < 0) {
		session_end(inst);
		return fd_count;
	}
	fds[fd_count++] = t->view_fd;
	fds[fd_count++] = t->file->state_fd;
	return send_message(inst, &body.h, PROTO_RESTORE, &iov, 1, fds, fd_count);
}

int session_restore(struct instance *inst, struct template *t, const struct session_call *call)
{
	int ret;

	use_template(inst, t);
	if (call)
		begin_call(inst, INSTANCE_RESTORING, call);
	else
		session_enter(inst, INSTANCE_IDLE);
	ret = send_restore(inst);
	if (!ret && call)
		ret = send_invoke(inst, call);
	return ret;
}

int session_start(struct instance *inst, struct template *base, const char *const *argv,
		  const char *const *envp, uint64_t timeout_ns)
{
	struct proto_start body = {.argc = 0};
	struct iovec iov[PROGRAM_IOV_MAX] = {iov_of(&body, sizeof(body))};
	int n = put_program(iov, argv, envp, &body.argc, &body.envc), ret;

	if (n < 0) {
		session_end(inst);
		return n;
	}
	use_template(inst, base);
	enter_booting(inst, timeout_ns);
	ret = send_restore(inst);
	return ret ? ret : send_message(inst, &body.h, PROTO_START, iov, n, NULL, 0);
}

int session_invoke(struct instance *inst, const struct session_call *call)
{
	begin_call(inst, INSTANCE_INVOKING, call);
	return send_invoke(inst, call);
}

/** What the jail does not show a vmm of itself. Return: descriptor or -errno. */
static int open_pagemap(const struct instance *inst)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)inst->child.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int session_capture(struct instance *inst, int fd, const char *metadata, const char *base_name)
{
	size_t name_bytes = base_name ? strlen(base_name) + 1 : 0;
	struct proto_capture body = {.base_name_bytes = (uint32_t)name_bytes};
	struct iovec iov[] = {iov_of(&body, sizeof(body)), iov_of(base_name, name_bytes),
			      iov_of(metadata, strlen(metadata))};
	CLEANUP_FD int pagemap_fd = open_pagemap(inst);
	const int fds[] = {fd, pagemap_fd, base_name ? inst->template->file->fd : -1};
	int ret = pagemap_fd;

	if (ret < 0)
		session_end(inst);
	else
		ret = send_message(inst, &body.h, PROTO_CAPTURE, iov, ARRAY_SIZE(iov), fds,
				   base_name ? 3 : 2);
	if (ret)
		return ret;
	session_enter(inst, INSTANCE_CAPTURING);
	session_set_deadline(inst, clock_mono_ns() + SECONDS(CAPTURE_TIMEOUT_S));
	return 0;
}

int session_trace(struct instance *inst)
{
	struct proto_trace_working_set body = {0};
	struct iovec iov = iov_of(&body, sizeof(body));
	CLEANUP_FD int fd = open_pagemap(inst);

	if (fd < 0)
		return fd;
	session_enter(inst, INSTANCE_TRACING);
	session_set_deadline(inst, clock_mono_ns() + SECONDS(TRACE_TIMEOUT_S));
	return send_message(inst, &body.h, PROTO_TRACE_WORKING_SET, &iov, 1, &fd, 1);
}
