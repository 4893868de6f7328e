/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c - one instance from its jail's start to its end, over the control socket
 *
 * Theory of operation
 *
 * An instance is an entry of a fixed table: one jailed vmm process, its control socket, its
 * userfaultfd. What it may do next is its state; enter() is the one place that changes it, and
 * `allowed` the one place that says which changes there are.
 *
 *   FREE ──session_new()──> SPAWNING ──HELLO──> SHELL
 *   SHELL ──session_boot()──> BOOTING ──READY──> READY <──CAPTURED── CAPTURING
 *                                                  │ └──session_capture()──┘
 *   SHELL ──session_restore()──> RESTORING         │ session_invoke()
 *                                 │READY │RESULT   v
 *                                 └──────┼──────> INVOKING ──RESULT──> IDLE
 *                                        └───────────────────────────> IDLE
 *   IDLE ──session_invoke()──> INVOKING;  IDLE ──session_trace()──> TRACING ──WORKING_SET──> IDLE
 *   any ──end──> ENDING ──pidfd readable, reaped by the worker──> FREE
 *
 * RESTORE and INVOKE are sent one after the other without waiting: the vmm finds the second when it
 * has done the first. READY comes in between when the snapshot was taken in /restore/next and the
 * function's hooks had to run.
 *
 * Ending comes first and cleaning up later: the socket and the userfaultfd are closed and the
 * process is killed at once, but that its memory is given back takes milliseconds, so the process
 * is reaped when its pidfd says so.
 *
 * Invariants
 *  1. A message which does not fit the state, the length or the descriptors of its kind ends this
 *     instance and no other.
 *  2. From SPAWNING until FREE a slot belongs to one process; events carry the slot's generation.
 *  3. In ENDING there is no socket, no userfaultfd, no template, no function and no owner.
 *  4. Only BOOTING, CAPTURING, RESTORING, INVOKING and TRACING have work: failing there is told to
 * the owner, once; elsewhere it is only logged.
 *  5. Every state but SHELL, READY and FREE has a deadline. (An IDLE one is ended by it, ENDING is
 *     killed again until its process is gone.)
 *  6. No instance is served for longer than MESSAGES_PER_TURN messages while others wait.
 */
#include "snapd/session.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
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

#define SECONDS(n) ((uint64_t)(n)*NSEC_PER_SEC)

enum { MESSAGES_PER_TURN = 16 };
enum { SPAWN_TIMEOUT_S = 30, CAPTURE_TIMEOUT_S = 120, TRACE_TIMEOUT_S = 20, END_TIMEOUT_S = 10 };

const char *const instance_state_names[] = {
	[INSTANCE_FREE] = "free",	    [INSTANCE_SPAWNING] = "spawning",
	[INSTANCE_SHELL] = "shell",	    [INSTANCE_BOOTING] = "booting",
	[INSTANCE_READY] = "ready",	    [INSTANCE_CAPTURING] = "capturing",
	[INSTANCE_RESTORING] = "restoring", [INSTANCE_INVOKING] = "invoking",
	[INSTANCE_TRACING] = "tracing",	    [INSTANCE_IDLE] = "idle",
	[INSTANCE_ENDING] = "ending",
};
static_assert(ARRAY_SIZE(instance_state_names) == INSTANCE_STATE_COUNT, "a name for each state");

#define TO(state) (1u << INSTANCE_##state)

static const unsigned allowed[] = {
	[INSTANCE_FREE] = TO(SPAWNING),
	[INSTANCE_SPAWNING] = TO(SHELL) | TO(ENDING) | TO(FREE),
	[INSTANCE_SHELL] = TO(BOOTING) | TO(RESTORING) | TO(ENDING),
	[INSTANCE_BOOTING] = TO(READY) | TO(ENDING),
	[INSTANCE_READY] = TO(CAPTURING) | TO(INVOKING) | TO(ENDING),
	[INSTANCE_CAPTURING] = TO(READY) | TO(ENDING),
	[INSTANCE_RESTORING] = TO(INVOKING) | TO(IDLE) | TO(ENDING),
	[INSTANCE_INVOKING] = TO(IDLE) | TO(ENDING),
	[INSTANCE_TRACING] = TO(IDLE) | TO(ENDING),
	[INSTANCE_IDLE] = TO(INVOKING) | TO(TRACING) | TO(ENDING),
	[INSTANCE_ENDING] = TO(FREE),
};
static_assert(ARRAY_SIZE(allowed) == INSTANCE_STATE_COUNT, "a rule for each state");

#define HAS_WORK (TO(BOOTING) | TO(CAPTURING) | TO(RESTORING) | TO(INVOKING) | TO(TRACING))

/** struct message - what came: a header, its bytes, its descriptors. */
struct message {
	union {
		struct proto_header h;
		struct proto_hello hello;
		struct proto_ready ready;
		struct proto_captured captured;
		struct proto_result result;
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
	struct instance table[INSTANCES_MAX];
	const struct session_hooks *hooks;
	int root_fd, runtime_fd;
	uint64_t next_deadline_ns;
	uint64_t serial;
	unsigned counts[INSTANCE_STATE_COUNT];
	bool unread; /* one or more have more messages than a turn's share */
	struct message message;
} session;

static bool receive_one(struct instance *inst);
static void on_control(const struct loop_event *event);
static void on_exited(const struct loop_event *event);
static void on_page_in_failed(uint32_t client, const char *text);

/* ---- the table ------------------------------------------------------------------------------- */

static void enter(struct instance *inst, enum instance_state state)
{
	assert(allowed[inst->state] & 1u << state);
	log_debug("instance %s: %s -> %s", inst->id, instance_state_names[inst->state],
		  instance_state_names[state]);
	session.counts[inst->state]--;
	session.counts[state]++;
	inst->state = state;
	inst->changed_ns = clock_mono_ns();
	inst->deadline_ns = UINT64_MAX;
}

static void set_deadline(struct instance *inst, uint64_t at_ns)
{
	inst->deadline_ns = at_ns;
	session.next_deadline_ns = MIN(session.next_deadline_ns, at_ns);
}

static bool has_work(const struct instance *inst)
{
	return HAS_WORK & 1u << inst->state;
}

int session_init(const struct session_hooks *hooks, int root_fd, int runtime_fd)
{
	session.hooks = hooks;
	session.root_fd = root_fd;
	session.runtime_fd = runtime_fd;
	session.next_deadline_ns = UINT64_MAX;
	session.counts[INSTANCE_FREE] = INSTANCES_MAX;
	event_loop_handle(LOOP_CONTROL, on_control);
	event_loop_handle(LOOP_EXITED, on_exited);
	return page_in_init(on_page_in_failed);
}

struct instance *session_instance(uint32_t slot)
{
	return &session.table[slot];
}

unsigned session_count(enum instance_state state)
{
	return session.counts[state];
}

struct instance *session_new(void)
{
	for (uint32_t i = 0; i < INSTANCES_MAX; i++) {
		struct instance *inst = &session.table[i];

		if (inst->state != INSTANCE_FREE)
			continue;
		*inst = (struct instance){
			.slot = i,
			.generation = inst->generation,
			.control = -1,
			.uffd = -1,
			.child_end = -1,
			.child = SANDBOX_CHILD_INIT,
		};
		snprintf(inst->id, sizeof(inst->id), "i%llu", (unsigned long long)++session.serial);
		enter(inst, INSTANCE_SPAWNING);
		set_deadline(inst, clock_mono_ns() + SECONDS(SPAWN_TIMEOUT_S));
		return inst;
	}
	return NULL;
}

static void free_slot(struct instance *inst)
{
	enter(inst, INSTANCE_FREE);
	inst->generation = (inst->generation + 1) & LOOP_GENERATION_MASK;
	session.hooks->gone();
}

void session_spawned(struct instance *inst, int control)
{
	inst->child = inst->job.child;
	inst->control = control;
	inst->spawned_ns = clock_mono_ns();
	event_loop_poll(LOOP_CONTROL, inst->slot, inst->generation, control);
	event_loop_poll_once(LOOP_EXITED, inst->slot, inst->generation, inst->child.pidfd);
}

void session_spawn_failed(struct instance *inst)
{
	free_slot(inst);
}

/* ---- the end --------------------------------------------------------------------------------- */

static void reap_run(struct work *work)
{
	struct instance *inst = container_of(work, struct instance, reap);

	sandbox_reap(&inst->child, NULL);
}

static void reap_done(struct work *work)
{
	free_slot(container_of(work, struct instance, reap));
}

static void on_exited(const struct loop_event *event)
{
	struct instance *inst = &session.table[event->slot];

	if (inst->generation != event->generation || inst->state == INSTANCE_FREE)
		return;
	if (event->res == -ECANCELED)
		return;
	if (inst->state != INSTANCE_ENDING) {
		/* What it had to say may still be in the socket, and its end will be seen there. It
		 * says no more, so this ends. */
		while (inst->control >= 0 && receive_one(inst))
			;
		if (inst->state != INSTANCE_ENDING)
			session_stop(inst);
	}
	/* From here on its pidfd is the worker's to close: no deadline may use it. */
	inst->deadline_ns = UINT64_MAX;
	inst->reap = (struct work){.run = reap_run, .done = reap_done};
	worker_queue(&inst->reap);
}

void session_end(struct instance *inst)
{
	assert(inst->state != INSTANCE_FREE && inst->state != INSTANCE_ENDING);
	page_in_detach(inst->slot);
	if (inst->control >= 0)
		event_loop_cancel(LOOP_CONTROL, inst->slot, inst->generation);
	cleanup_fd(&inst->control);
	cleanup_fd(&inst->uffd);
	inst->control = inst->uffd = -1;
	template_put(inst->template);
	function_put(inst->function);
	inst->template = NULL;
	inst->function = NULL;
	inst->version = NULL;
	inst->owner = NULL;
	inst->events = NULL;
	enter(inst, INSTANCE_ENDING);
	set_deadline(inst, clock_mono_ns() + SECONDS(END_TIMEOUT_S));
	sandbox_kill(&inst->child);
	session.hooks->gone();
}

/** End it; tell its owner when that one waits for something. */
static void fail(struct instance *inst, const struct session_failure *failure)
{
	const struct session_events *events = inst->events;
	bool tell = has_work(inst) && events && events->failed;

	log_warn("instance %s: %s: %.*s", inst->id, instance_state_names[inst->state],
		 (int)MIN(failure->text_bytes, (size_t)400), failure->text);
	if (tell)
		events->failed(inst, failure); /* the owner still sees all of it */
	if (inst->state != INSTANCE_ENDING && inst->state != INSTANCE_FREE)
		session_end(inst);
}

static void fail_text(struct instance *inst, int kind, const char *text)
{
	struct session_failure failure = {.kind = kind, .text = text, .text_bytes = strlen(text)};

	fail(inst, &failure);
}

static void breach(struct instance *inst, const char *text)
{
	fail_text(inst, SESSION_FAILED_LOST, text);
}

void session_stop(struct instance *inst)
{
	if (!has_work(inst))
		session_end(inst);
	else
		fail_text(inst, SESSION_FAILED_STOPPED, "stopped");
}

static void on_page_in_failed(uint32_t client, const char *text)
{
	struct instance *inst = &session.table[client];

	if (inst->state != INSTANCE_ENDING && inst->state != INSTANCE_FREE)
		breach(inst, text);
}

/** The socket was closed without a word: why? */
static void on_lost(struct instance *inst)
{
	if (sandbox_oom_killed(&inst->child))
		fail_text(inst, PROTO_FAILED_MEMORY, "the jail's memory limit was reached");
	else
		breach(inst, "the vmm ended without a word (its log says more)");
}

/* ---- what comes in --------------------------------------------------------------------------- */

static void on_hello(struct instance *inst, struct message *m)
{
	const struct proto_hello *h = &m->u.hello;

	if (m->n != sizeof(*h) || m->fd_count != 1 || h->version != PROTO_VERSION ||
	    inst->state != INSTANCE_SPAWNING || h->ram_base % PAGE_BYTES) {
		breach(inst, "HELLO is not what this snapd expects (is vmm of the same build?)");
		return;
	}
	inst->uffd = steal_fd(&m->fds[0]);
	if (fcntl(inst->uffd, F_SETFL, O_NONBLOCK)) {
		breach(inst, "its userfaultfd cannot be made non-blocking");
		return;
	}
	inst->ram_base = h->ram_base;
	memcpy(inst->cpu_features, h->cpu_features, sizeof(inst->cpu_features));
	page_in_attach(inst->slot, inst->uffd, inst->ram_base);
	enter(inst, INSTANCE_SHELL);
	session.hooks->shell(inst);
}

static void on_ready(struct instance *inst, const struct message *m)
{
	uint64_t deadline_ns = inst->deadline_ns;

	if (m->n != sizeof(m->u.ready)) {
		breach(inst, "READY has another length");
	} else if (inst->state == INSTANCE_RESTORING) {
		enter(inst, INSTANCE_INVOKING);
		set_deadline(inst, deadline_ns);
	} else if (inst->state == INSTANCE_BOOTING && inst->events && inst->events->ready) {
		enter(inst, INSTANCE_READY);
		inst->events->ready(inst, &m->u.ready);
	} else if (inst->state != INSTANCE_INVOKING && inst->state != INSTANCE_IDLE &&
		   inst->state != INSTANCE_TRACING) {
		/* There: /restore/next was answered by an INVOKE, and now it is in /next. */
		breach(inst, "READY at the wrong time");
	}
}

static void on_captured(struct instance *inst, const struct message *m)
{
	if (m->n != sizeof(m->u.captured) || inst->state != INSTANCE_CAPTURING) {
		breach(inst, "CAPTURED does not fit");
		return;
	}
	enter(inst, INSTANCE_READY);
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

	if (m->n < sizeof(*r) || r->kind > PROTO_RESULT_TOO_LARGE ||
	    r->payload_bytes > PROTO_PAYLOAD_MAX || r->payload_fd != (unsigned)m->fd_count ||
	    (!r->payload_fd && m->n != sizeof(*r) + r->payload_bytes) ||
	    (inst->state != INSTANCE_INVOKING && inst->state != INSTANCE_RESTORING)) {
		breach(inst, "RESULT does not fit");
		return;
	}
	if (r->payload_fd) {
		result.payload = map_payload(m->fds[0], r->payload_bytes);
		map = (void *)(uintptr_t)result.payload;
		if (!map) {
			breach(inst, "RESULT's payload cannot be mapped");
			return;
		}
	}
	enter(inst, INSTANCE_IDLE);
	inst->invocations++;
	inst->events->result(inst, &result);
	if (map)
		munmap(map, result.payload_bytes);
}

static void on_log(struct instance *inst, const struct message *m)
{
	const char *tag = inst->request_id[0] ? inst->request_id : "init";

	if (m->n < sizeof(m->u.log) || !inst->function) {
		breach(inst, "LOG does not fit");
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
		breach(inst, "WORKING_SET does not fit");
		return;
	}
	enter(inst, INSTANCE_IDLE);
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
	    m->u.failed.reason > PROTO_FAILED_VMM) {
		breach(inst, "FAILED does not fit");
		return;
	}
	if (failure.kind == PROTO_FAILED_VMM && inst->state == INSTANCE_RESTORING) {
		failure.text_bytes =
			(size_t)snprintf(text, sizeof(text), "%s: %.*s", inst->template->name,
					 (int)MIN(failure.text_bytes, (size_t)800), failure.text);
		failure.text = text;
	}
	fail(inst, &failure);
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
		breach(inst, "a message of unknown type");
	}
}

/** Act on what fdpass_recv() has returned. */
static void on_received(struct instance *inst, struct message *m, ssize_t n)
{
	/* A message of no bytes looks like the end, and is none of ours either. */
	if (n == 0 || n == -ECONNRESET) {
		on_lost(inst);
	} else if (n < (ssize_t)sizeof(m->u.h) || m->u.h.bytes != (uint32_t)n) {
		breach(inst, "a message of the wrong length");
	} else {
		m->n = (size_t)n;
		dispatch(inst, m);
	}
}

/** Receive and act on one message. Return: false when there is none, or the instance has ended. */
static bool receive_one(struct instance *inst)
{
	struct message *m = &session.message;
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

	while (left && receive_one(inst))
		left--;
	inst->unread = !left;
	session.unread |= inst->unread;
}

bool session_work(void)
{
	if (!session.unread)
		return false;
	session.unread = false;
	for (uint32_t i = 0; i < INSTANCES_MAX; i++)
		if (session.table[i].unread && session.table[i].control >= 0)
			receive(&session.table[i]);
	return session.unread;
}

static void on_control(const struct loop_event *event)
{
	struct instance *inst = &session.table[event->slot];

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
		log_warn("instance %s: send: %s", inst->id, strerror(-ret));
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

void session_adopt(struct instance *inst, struct version *v, void *owner,
		   const struct session_events *events)
{
	if (!inst->function)
		inst->function = function_get(v->function);
	inst->version = v;
	inst->owner = owner;
	inst->events = events;
}

int session_boot(struct instance *inst, const char *const *argv, const char *const *envp,
		 uint64_t memory_bytes, uint64_t tmp_bytes, uint64_t timeout_ns)
{
	struct proto_boot body = {.memory_bytes = memory_bytes, .tmp_bytes = tmp_bytes};
	int fds[PROTO_DIR_COUNT] = {session.root_fd, inst->version->code_fd, session.runtime_fd};
	struct iovec iov[256];
	int n = 0, ret;

	iov[n++] = iov_of(&body, sizeof(body));
	for (; argv[body.argc] && n < (int)ARRAY_SIZE(iov); body.argc++)
		iov[n++] = iov_str(argv[body.argc]);
	for (; envp[body.envc] && n < (int)ARRAY_SIZE(iov); body.envc++)
		iov[n++] = iov_str(envp[body.envc]);
	if (argv[body.argc] || envp[body.envc]) {
		session_end(inst);
		return -E2BIG;
	}
	ret = send_message(inst, &body.h, PROTO_BOOT, iov, n, fds, PROTO_DIR_COUNT);
	if (ret)
		return ret;
	enter(inst, INSTANCE_BOOTING);
	set_deadline(inst, clock_mono_ns() + timeout_ns);
	return 0;
}

void session_limit_memory(const struct instance *inst)
{
	const struct function_settings *s = &inst->version->settings;
	uint64_t mib = (uint64_t)s->memory_mib + s->tmp_mib + SESSION_EXTRA_MIB;
	int ret = sandbox_set_memory(&inst->child, MIB(mib));

	if (ret && ret != -ENOTSUP)
		log_warn("instance %s: memory limit: %s", inst->id, strerror(-ret));
}

static int send_invoke(struct instance *inst, const struct session_call *call)
{
	struct proto_invoke body = {
		.deadline_real_ms = (clock_real_ns() + call->timeout_ns) / 1000000,
		.payload_bytes = (uint32_t)call->payload_bytes,
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
	snprintf(inst->request_id, sizeof(inst->request_id), "%s", call->request_id);
	return send_message(inst, &body.h, PROTO_INVOKE, iov, count, &fd, fd >= 0);
}

int session_restore(struct instance *inst, struct template *t, const struct session_call *call)
{
	struct proto_restore body = {
		.template_pages = t->pages,
		.state_bytes = t->file->state_bytes,
		.populate_count = template_populate_count(t),
	};
	int fds[] = {session.root_fd, inst->version->code_fd, session.runtime_fd, t->memfd,
		     t->file->state_fd};
	struct iovec iov = iov_of(&body, sizeof(body));
	int ret;

	inst->template = template_get(t);
	page_in_use(inst->slot, t);
	ret = send_message(inst, &body.h, PROTO_RESTORE, &iov, 1, fds, ARRAY_SIZE(fds));
	if (!ret)
		ret = send_invoke(inst, call);
	if (ret)
		return ret;
	enter(inst, INSTANCE_RESTORING);
	set_deadline(inst, clock_mono_ns() + call->timeout_ns);
	return 0;
}

int session_invoke(struct instance *inst, const struct session_call *call)
{
	int ret = send_invoke(inst, call);

	if (ret)
		return ret;
	enter(inst, INSTANCE_INVOKING);
	set_deadline(inst, clock_mono_ns() + call->timeout_ns);
	return 0;
}

int session_capture(struct instance *inst, int fd, const char *metadata)
{
	struct proto_capture body = {0};
	struct iovec iov[] = {iov_of(&body, sizeof(body)), iov_of(metadata, strlen(metadata))};
	int ret = send_message(inst, &body.h, PROTO_CAPTURE, iov, 2, &fd, 1);

	if (ret)
		return ret;
	enter(inst, INSTANCE_CAPTURING);
	set_deadline(inst, clock_mono_ns() + SECONDS(CAPTURE_TIMEOUT_S));
	return 0;
}

int session_trace(struct instance *inst)
{
	struct proto_trace_working_set body = {0};
	struct iovec iov = iov_of(&body, sizeof(body));
	CLEANUP_FD int fd = -1;
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)inst->child.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = send_message(inst, &body.h, PROTO_TRACE_WORKING_SET, &iov, 1, &fd, 1);
	if (ret)
		return ret;
	enter(inst, INSTANCE_TRACING);
	set_deadline(inst, clock_mono_ns() + SECONDS(TRACE_TIMEOUT_S));
	return 0;
}

/* ---- deadlines ------------------------------------------------------------------------------- */

void session_idle_until(struct instance *inst, uint64_t deadline_ns)
{
	assert(inst->state == INSTANCE_IDLE);
	set_deadline(inst, deadline_ns);
}

uint64_t session_next_deadline_ns(void)
{
	return session.next_deadline_ns;
}

static void on_deadline(struct instance *inst)
{
	switch (inst->state) {
	case INSTANCE_IDLE:
		session_end(inst);
		break;
	case INSTANCE_ENDING:
		sandbox_kill(&inst->child);
		set_deadline(inst, clock_mono_ns() + SECONDS(END_TIMEOUT_S));
		break;
	case INSTANCE_SPAWNING:
		/* The job may still be in the spawner's hands; only one that runs can be ended. */
		if (inst->child.pid > 0)
			breach(inst, "no HELLO: it did not start in time");
		else
			set_deadline(inst, clock_mono_ns() + SECONDS(SPAWN_TIMEOUT_S));
		break;
	default:
		fail_text(inst, SESSION_FAILED_TIMEOUT, "its time is over");
	}
}

void session_check_deadlines(uint64_t now_ns)
{
	if (now_ns < session.next_deadline_ns)
		return;
	session.next_deadline_ns = UINT64_MAX;
	for (uint32_t i = 0; i < INSTANCES_MAX; i++) {
		struct instance *inst = &session.table[i];

		if (inst->state == INSTANCE_FREE)
			continue;
		if (inst->deadline_ns <= now_ns)
			on_deadline(inst);
		if (inst->state != INSTANCE_FREE)
			session.next_deadline_ns = MIN(session.next_deadline_ns, inst->deadline_ns);
	}
}

void session_finish(void)
{
	for (uint32_t i = 0; i < INSTANCES_MAX; i++)
		if (session.table[i].state > INSTANCE_SPAWNING &&
		    session.table[i].state != INSTANCE_ENDING)
			session_end(&session.table[i]);
	for (uint32_t i = 0; i < INSTANCES_MAX; i++)
		if (session.table[i].child.pid > 0)
			sandbox_reap(&session.table[i].child, NULL);
}
