/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c - one instance from its jail's start to its end, over the control socket
 *
 * Theory of operation
 *
 * An instance is an entry of a fixed table: one jailed vmm process, its control socket, its
 * userfaultfd. What it may do next is its state; session_session_enter() is the one place that
 * changes it, and `allowed` the one place that says which changes there are.
 *
 *   FREE ──session_new()──> SPAWNING ──HELLO──> SHELL
 *   SHELL ──session_boot(), session_start()──> BOOTING
 *                               BOOTING ──READY──> READY <──CAPTURED── CAPTURING
 *                                                  │ └──session_capture()──┘
 *   SHELL ──session_restore()──> RESTORING         │ session_invoke()
 *                                 │READY │RESULT   v
 *                                 └──────┼──────> INVOKING ──RESULT──> IDLE
 *                                        └───────────────────────────> IDLE
 *   SHELL ──session_restore() without a call──> IDLE
 *   IDLE ──session_invoke()──> INVOKING;  IDLE ──session_trace()──> TRACING ──WORKING_SET──> IDLE
 *   any ──end──> ENDING ──pidfd readable, reaped by the worker──> FREE
 *
 * RESTORE and INVOKE are sent one after the other without waiting: the vmm finds the second when it
 * has done the first. READY comes in between when the snapshot was taken in /restore/next and the
 * function's hooks had to run.
 *
 * Ending comes first and cleaning up later: the process is killed and the socket closed at once,
 * but that its memory is given back takes milliseconds, so the process is reaped when its pidfd
 * says so. Until then its userfaultfd is read (page_in_end()).
 *
 * Invariants
 *  1. A message which does not fit the state, the length or the descriptors of its kind ends this
 *     instance and no other.
 *  2. From SPAWNING until FREE a slot belongs to one process; events carry the slot's generation.
 *  3. In ENDING there is no socket, no template, no function and no owner. The userfaultfd is
 *     closed when the process is gone.
 *  4. Only BOOTING, CAPTURING, RESTORING, INVOKING and TRACING have work: failing there is told to
 *     the owner, once; elsewhere it is only logged.
 *  5. Every state but SHELL, READY and FREE has a deadline. (An IDLE one is ended by it, unless it
 *     is provisioned; ENDING is killed again until its process is gone.)
 *  6. No instance is served for longer than MESSAGES_PER_TURN messages while others wait.
 *
 * What is said over the socket is in session_message.c.
 */
#include "snapd/session_internal.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/event_loop.h"

enum { SPAWN_TIMEOUT_S = 30, END_TIMEOUT_S = 10 };

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
	/* The others: session_revive(). */
	[INSTANCE_FREE] =
		TO(SPAWNING) | TO(SHELL) | TO(RESTORING) | TO(INVOKING) | TO(TRACING) | TO(IDLE),
	[INSTANCE_SPAWNING] = TO(SHELL) | TO(ENDING) | TO(FREE),
	[INSTANCE_SHELL] = TO(BOOTING) | TO(RESTORING) | TO(IDLE) | TO(ENDING),
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

static const struct session_hooks no_hooks, *session_hooks = &no_hooks;

static struct {
	struct instance table[INSTANCES_MAX];
	uint64_t next_deadline_ns;
	uint64_t serial;
	unsigned counts[INSTANCE_STATE_COUNT];
} session;

static void on_exited(const struct loop_event *event);
static void on_page_in_failed(uint32_t client, const char *text);

/* ---- the table ------------------------------------------------------------------------------- */

void session_enter(struct instance *inst, enum instance_state state)
{
	enum instance_state from = inst->state;

	assert(allowed[inst->state] & 1u << state);
	log_about(LOG_LEVEL_DEBUG, inst->id, inst->request_id, "%s -> %s",
		  instance_state_names[inst->state], instance_state_names[state]);
	session.counts[inst->state]--;
	session.counts[state]++;
	inst->state = state;
	inst->changed_ns = clock_mono_ns();
	inst->deadline_ns = UINT64_MAX;
	if (session_hooks->moved)
		session_hooks->moved(inst, from);
	if (session_hooks->changed)
		session_hooks->changed(inst);
}

void session_set_deadline(struct instance *inst, uint64_t at_ns)
{
	inst->deadline_ns = at_ns;
	session.next_deadline_ns = MIN(session.next_deadline_ns, at_ns);
	if (session_hooks->changed)
		session_hooks->changed(inst);
}

static bool has_work(const struct instance *inst)
{
	return HAS_WORK & 1u << inst->state;
}

int session_init(const struct session_hooks *hooks, int root_fd, int runtime_fd)
{
	int ret;

	session_hooks = hooks;
	session.next_deadline_ns = UINT64_MAX;
	session.counts[INSTANCE_FREE] = INSTANCES_MAX;
	event_loop_handle(LOOP_EXITED, on_exited);
	ret = session_message_init(root_fd, runtime_fd);
	return ret ? ret : page_in_init(on_page_in_failed);
}

struct instance *session_instance(uint32_t slot)
{
	return &session.table[slot];
}

unsigned session_count(enum instance_state state)
{
	return session.counts[state];
}

/** An empty entry, still FREE. */
static struct instance *free_entry(void)
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
		return inst;
	}
	return NULL;
}

struct instance *session_new(void)
{
	struct instance *inst = free_entry();

	if (!inst)
		return NULL;
	snprintf(inst->id, sizeof(inst->id), "i%llu", (unsigned long long)++session.serial);
	session_enter(inst, INSTANCE_SPAWNING);
	inst->requested_ns = inst->changed_ns;
	session_set_deadline(inst, clock_mono_ns() + SECONDS(SPAWN_TIMEOUT_S));
	return inst;
}

void session_is_shell(struct instance *inst)
{
	session_enter(inst, INSTANCE_SHELL);
	session_hooks->shell(inst);
}

static void free_slot(struct instance *inst)
{
	session_enter(inst, INSTANCE_FREE);
	inst->generation = (inst->generation + 1) & LOOP_GENERATION_MASK;
	session_hooks->gone();
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
	int status = 0;

	sandbox_reap(&inst->child, &status);
	/* SIGKILL is snapd's own, or the kernel's for want of memory, which is told elsewhere. */
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		log_about(LOG_LEVEL_ERROR, inst->id, "", "its vmm was killed by signal %d (SIG%s)",
			  WTERMSIG(status), sigabbrev_np(WTERMSIG(status)) ?: "?");
}

static void reap_done(struct work *work)
{
	free_slot(container_of(work, struct instance, reap));
}

/** Its process has exited, or does not for want of a page that nobody can answer. */
static void close_uffd(struct instance *inst)
{
	page_in_detach(inst->slot);
	cleanup_fd(&inst->uffd);
	inst->uffd = -1;
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
		while (inst->control >= 0 && session_receive_one(inst))
			;
		if (inst->state != INSTANCE_ENDING)
			session_stop(inst);
	}
	close_uffd(inst);
	/* From here on its pidfd is the worker's to close: no deadline may use it. */
	inst->deadline_ns = UINT64_MAX;
	inst->reap = (struct work){.run = reap_run, .done = reap_done};
	worker_queue(&inst->reap);
}

void session_end(struct instance *inst)
{
	assert(inst->state != INSTANCE_FREE && inst->state != INSTANCE_ENDING);
	/* First: who has it in a list of its version takes it out. */
	session_enter(inst, INSTANCE_ENDING);
	sandbox_kill(&inst->child);
	page_in_end(inst->slot);
	if (inst->control >= 0)
		event_loop_cancel(LOOP_CONTROL, inst->slot, inst->generation);
	cleanup_fd(&inst->control);
	inst->control = -1;
	template_put(inst->template);
	function_put(inst->function);
	inst->template = NULL;
	inst->function = NULL;
	inst->version = NULL;
	inst->owner = NULL;
	inst->events = NULL;
	session_set_deadline(inst, clock_mono_ns() + SECONDS(END_TIMEOUT_S));
	session_hooks->gone();
}

/** End it; tell its owner when that one waits for something. */
void session_fail(struct instance *inst, const struct session_failure *failure)
{
	const struct session_events *events = inst->events;
	bool tell = has_work(inst) && events && events->failed;

	log_about(LOG_LEVEL_WARN, inst->id, inst->request_id, "%s: %.*s",
		  instance_state_names[inst->state], (int)MIN(failure->text_bytes, (size_t)400),
		  failure->text);
	if (tell)
		events->failed(inst, failure); /* the owner still sees all of it */
	if (inst->state != INSTANCE_ENDING && inst->state != INSTANCE_FREE)
		session_end(inst);
}

static void fail_text(struct instance *inst, int kind, const char *text)
{
	struct session_failure failure = {.kind = kind, .text = text, .text_bytes = strlen(text)};

	session_fail(inst, &failure);
}

void session_breach(struct instance *inst, const char *text)
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
		session_breach(inst, text);
}

/** The socket was closed without a word: why? */
void session_lost(struct instance *inst)
{
	if (sandbox_oom_killed(&inst->child))
		fail_text(inst, PROTO_FAILED_MEMORY, "the jail's memory limit was reached");
	else
		session_breach(inst, "the vmm ended without a word (its log says more)");
}

/* ---- from one snapd to the next ---------------------------------------------------------------
 */

static const uint32_t handover_states[INSTANCE_STATE_COUNT] = {
	[INSTANCE_SHELL] = HANDOVER_SHELL,	 [INSTANCE_RESTORING] = HANDOVER_RESTORING,
	[INSTANCE_INVOKING] = HANDOVER_INVOKING, [INSTANCE_TRACING] = HANDOVER_TRACING,
	[INSTANCE_IDLE] = HANDOVER_IDLE,
};

void session_describe(const struct instance *inst, struct handover_instance *ret)
{
	*ret = (struct handover_instance){
		.state = handover_states[inst->state],
		.proto_version = PROTO_VERSION,
		.pid = inst->child.pid,
		.guest_kind = inst->kind,
		.ram_mib = inst->ram_mib,
		.ram_base = inst->ram_base,
		.spawned_ns = inst->spawned_ns,
		.changed_ns = inst->changed_ns,
		.deadline_ns = inst->deadline_ns,
		.invocations = inst->invocations,
		.template_serial = inst->template ? inst->template->serial : 0,
		.number = inst->version ? inst->version->number : 0,
		.call_serial = inst->call_serial,
		.flags = inst->single_use ? HANDOVER_SINGLE_USE : 0,
	};
	memcpy(ret->cpu_features, inst->cpu_features, sizeof(ret->cpu_features));
	ret->state_version = inst->state_version;
	memcpy(ret->id, inst->id, strlen(inst->id) + 1);
	memcpy(ret->request_id, inst->request_id, strlen(inst->request_id) + 1);
	if (inst->function)
		memcpy(ret->function, inst->function->name, strlen(inst->function->name) + 1);
}

static enum instance_state revived_state(uint32_t state)
{
	for (int i = 0; i < INSTANCE_STATE_COUNT; i++)
		if (handover_states[i] == state)
			return (enum instance_state)i;
	return INSTANCE_FREE;
}

static void revive_guest(struct instance *inst, const struct session_revival *from)
{
	inst->function = function_get(from->version->function);
	inst->version = from->version;
	inst->events = from->events;
	if (!from->template)
		return;
	inst->template = template_get(from->template);
	page_in_use(inst->slot, inst->template);
	page_in_recover(inst->slot);
}

struct instance *session_revive(const struct session_revival *from)
{
	const struct handover_instance *e = from->entry;
	struct instance *inst = free_entry();

	if (!inst)
		return NULL;
	memcpy(inst->id, e->id, strlen(e->id) + 1);
	session.serial = MAX(session.serial, strtoull(inst->id + 1, NULL, 10));
	memcpy(inst->child.id, e->id, strlen(e->id) + 1);
	inst->child.pid = e->pid;
	inst->child.pidfd = from->pidfd;
	inst->child.adopted = true;
	inst->kind = (enum guest_kind)e->guest_kind;
	inst->ram_mib = e->ram_mib;
	inst->ram_base = e->ram_base;
	inst->control = from->control;
	inst->uffd = from->uffd;
	memcpy(inst->cpu_features, e->cpu_features, sizeof(inst->cpu_features));
	inst->state_version = e->state_version;
	snprintf(inst->request_id, sizeof(inst->request_id), "%.47s", e->request_id);
	inst->call_serial = e->call_serial;
	inst->invocations = e->invocations;
	inst->single_use = e->flags & HANDOVER_SINGLE_USE;
	inst->spawned_ns = e->spawned_ns;
	inst->stored = true; /* where it was left */
	event_loop_poll(LOOP_CONTROL, inst->slot, inst->generation, inst->control);
	event_loop_poll_once(LOOP_EXITED, inst->slot, inst->generation, inst->child.pidfd);
	page_in_attach(inst->slot, inst->uffd, inst->ram_base);
	if (from->version)
		revive_guest(inst, from);
	session_enter(inst, revived_state(e->state));
	inst->changed_ns = e->changed_ns;
	session_set_deadline(inst, e->deadline_ns);
	return inst;
}

void session_give(struct instance *inst)
{
	assert(inst->state == INSTANCE_SHELL || inst->state == INSTANCE_IDLE);
	if (session_hooks->moved)
		session_hooks->moved(inst, inst->state);
	inst->deadline_ns = UINT64_MAX;
}

void session_forget(struct instance *inst)
{
	close_uffd(inst);
	event_loop_cancel(LOOP_CONTROL, inst->slot, inst->generation);
	event_loop_cancel(LOOP_EXITED, inst->slot, inst->generation);
	cleanup_fd(&inst->control);
	cleanup_fd(&inst->child.pidfd);
	inst->control = -1;
	inst->child = (struct sandbox_child)SANDBOX_CHILD_INIT;
	template_put(inst->template);
	function_put(inst->function);
	inst->template = NULL;
	inst->function = NULL;
	inst->version = NULL;
	/* session_give() has taken it out of every list: nobody is told. */
	session.counts[inst->state]--;
	session.counts[INSTANCE_FREE]++;
	inst->state = INSTANCE_FREE;
	inst->generation = (inst->generation + 1) & LOOP_GENERATION_MASK;
}

/* ---- what it belongs to --------------------------------------------------------------------- */

void session_adopt(struct instance *inst, struct version *v, void *owner,
		   const struct session_events *events)
{
	if (!inst->function)
		inst->function = function_get(v->function);
	inst->version = v;
	inst->owner = owner;
	inst->events = events;
}

void session_limit_memory(const struct instance *inst)
{
	const struct function_settings *s = &inst->version->settings;
	uint64_t mib = (uint64_t)s->memory_mib + s->tmp_mib + SESSION_EXTRA_MIB;
	int ret;

	/* A kernel guest takes /tmp from its memory, and fills that with files that it has read. */
	if (inst->kind == GUEST_KIND_KERNEL)
		mib = inst->ram_mib + SESSION_EXTRA_MIB;
	ret = sandbox_set_memory(&inst->child, MIB(mib));
	if (ret && ret != -ENOTSUP)
		log_about(LOG_LEVEL_WARN, inst->id, inst->request_id, "memory limit: %s",
			  strerror(-ret));
}

/* ---- deadlines ------------------------------------------------------------------------------- */

void session_idle_until(struct instance *inst, uint64_t deadline_ns)
{
	assert(inst->state == INSTANCE_IDLE);
	session_set_deadline(inst, deadline_ns);
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
		close_uffd(inst);
		session_set_deadline(inst, clock_mono_ns() + SECONDS(END_TIMEOUT_S));
		break;
	case INSTANCE_SPAWNING:
		/* The job may still be in the spawner's hands; only one that runs can be ended. */
		if (inst->child.pid > 0)
			session_breach(inst, "no HELLO: it did not start in time");
		else
			session_set_deadline(inst, clock_mono_ns() + SECONDS(SPAWN_TIMEOUT_S));
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

/** The loop is over: answer its last faults here. */
static void await_exit(struct instance *inst)
{
	struct pollfd fds[] = {{.fd = inst->child.pidfd, .events = POLLIN},
			       {.fd = inst->uffd, .events = POLLIN}};
	uint64_t now_ns = clock_mono_ns(), end_ns = now_ns + SECONDS(END_TIMEOUT_S);

	while (now_ns < end_ns && !fds[0].revents) {
		if (poll(fds, ARRAY_SIZE(fds), (int)((end_ns - now_ns) / NSEC_PER_MSEC) + 1) > 0 &&
		    fds[1].revents)
			page_in_read(inst->slot);
		now_ns = clock_mono_ns();
	}
	close_uffd(inst);
}

void session_finish(void)
{
	for (uint32_t i = 0; i < INSTANCES_MAX; i++)
		if (session.table[i].child.pid > 0 && session.table[i].state != INSTANCE_ENDING)
			session_end(&session.table[i]);
	for (uint32_t i = 0; i < INSTANCES_MAX; i++)
		if (session.table[i].child.pid > 0) {
			await_exit(&session.table[i]);
			sandbox_reap(&session.table[i].child, NULL);
		}
}
