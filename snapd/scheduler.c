/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scheduler.c - which instance serves an invocation, and how it is started
 *
 * Theory of operation
 *
 * An invocation waits in one queue until it has an instance. scheduler_pump() walks the queue in
 * order of arrival and tries each: an idle instance of its version (warm), else a shell which is
 * restored from the version's template, resident or cold, else, for $LATEST, a shell which boots.
 * What it lacks (an open template, a shell) is asked for at the first try; whoever brings it calls
 * scheduler_pump() again. An instance serves one invocation at a time, so as many run at once as
 * there are invocations.
 *
 * A request may force the kind of start, for measuring. Such an instance ends after its answer,
 * unless it is to be kept, and a cold start gets a template of its own from an uncached file.
 *
 * Invariants
 *  1. An invocation is either QUEUED or has an instance whose owner it is.
 *  2. Its done() is called exactly once; its entry is free from then on.
 *  3. It holds a reference to its function, so its version lives as long.
 */
#include "snapd/scheduler.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/cpu_feature.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/failure_log.h"
#include "snapd/metrics.h"
#include "snapd/outcome.h"
#include "snapd/page_in.h"
#include "snapd/record.h"
#include "snapd/runtime.h"
#include "snapd/session.h"
#include "snapd/shell_pool.h"
#include "snapd/uuid.h"
#include "snapd/version_open.h"

enum { QUEUE_TIMEOUT_S = 60, BUSY_MS = 20, ARN_MAX = 192, RAM_EXTRA_MIB = 64 };

const char *const start_kind_names[] = {
	[START_ANY] = "none",
	[START_WARM] = "warm",
	[START_RESIDENT] = "resident-restore",
	[START_COLD] = "cold-restore",
	[START_BOOT] = "cold-boot",
};
static_assert(ARRAY_SIZE(start_kind_names) == START_KIND_COUNT, "a name for each kind");

const char *const invocation_failure_names[] = {
	[INVOCATION_SUCCEEDED] = "none",
	[INVOCATION_FAILED_HANDLER] = "handler",
	[INVOCATION_FAILED_EXIT] = "exit",
	[INVOCATION_FAILED_MEMORY] = "memory",
	[INVOCATION_FAILED_INIT] = "init",
	[INVOCATION_FAILED_RESTORE] = "restore",
	[INVOCATION_FAILED_TIMEOUT] = "timeout",
	[INVOCATION_FAILED_RESPONSE] = "response",
	[INVOCATION_FAILED_REQUEST] = "request",
	[INVOCATION_FAILED_SERVICE] = "service",
};
static_assert(ARRAY_SIZE(invocation_failure_names) == INVOCATION_FAILURE_COUNT, "a name for each");

enum invocation_state { INVOCATION_FREE, INVOCATION_QUEUED, INVOCATION_RUNNING };

/**
 * struct invocation - one request on its way.
 * @asked_open: opening was tried for it: a second failure is final
 * @recorder: its instance records the working set
 */
struct invocation {
	enum invocation_state state;
	struct invocation *next;
	struct invocation_request request;
	struct function *function;
	char request_id[REQUEST_ID_CHARS + 1];
	char trace_id[TRACE_ID_MAX + 1];
	struct instance *inst;
	enum start_kind start;
	bool cold_done;
	bool recorder;
	uint64_t created_ns, started_ns;
	uint64_t init_ns;
};

struct scheduler_stats scheduler_stats;

static struct {
	struct scheduler_params params;
	struct invocation table[INVOCATIONS_MAX];
	struct invocation *first, **last;
	uint64_t last_start_ns;
	bool pumping, pump_again;
} scheduler;

int scheduler_init(const struct scheduler_params *params)
{
	scheduler.params = *params;
	scheduler.last = &scheduler.first;
	return 0;
}

const char *invocation_request_id(const struct invocation *inv)
{
	return inv->request_id;
}

void *invocation_arg(const struct invocation *inv)
{
	return inv->request.arg;
}

int scheduler_ram_class(const struct function_settings *s)
{
	return shell_pool_class((uint64_t)s->memory_mib + s->tmp_mib + RAM_EXTRA_MIB);
}

void scheduler_make_request_id(char buf[REQUEST_ID_CHARS + 1])
{
	uuid_make(buf);
}

/* ---- the queue ------------------------------------------------------------------------------- */

static void queue_push(struct invocation *inv)
{
	inv->next = NULL;
	*scheduler.last = inv;
	scheduler.last = &inv->next;
	scheduler_stats.queued++;
}

static void queue_remove(struct invocation *inv)
{
	struct invocation **at = &scheduler.first;

	while (*at && *at != inv)
		at = &(*at)->next;
	assert(*at);
	*at = inv->next;
	if (scheduler.last == &inv->next)
		scheduler.last = at;
	scheduler_stats.queued--;
}

/* ---- the end of an invocation ---------------------------------------------------------------- */

static void deliver(struct invocation *inv, struct invocation_outcome *out)
{
	struct function *f = inv->function;

	out->total_ns = clock_mono_ns() - inv->created_ns;
	out->queue_ns = inv->started_ns ? inv->started_ns - inv->created_ns : out->total_ns;
	out->start = inv->start;
	out->init_ns = inv->init_ns;
	if (inv->inst) {
		struct page_in_account account = page_in_account(inv->inst->slot);

		out->pid = inv->inst->child.pid;
		if (inv->start != START_WARM) {
			out->faults = account.faults;
			out->bytes_read = account.bytes_read;
		}
		inv->inst->owner = NULL;
	}
	scheduler_stats.starts[inv->start]++;
	scheduler_stats.errors += out->function_error || out->status != 200;
	scheduler_stats.under_way--;
	inv->request.done(inv, out);
	metrics_invocation(out);
	if (out->failure)
		failure_log_add(inv->request.version, inv->request_id, out);
	inv->state = INVOCATION_FREE;
	inv->function = NULL;
	inv->inst = NULL;
	function_put(f);
}

static void fail_queued(struct invocation *inv, unsigned status, const char *type, const char *text)
{
	struct invocation_outcome out = {0};
	char buf[OUTCOME_TEXT_MAX];

	queue_remove(inv);
	outcome_of_error(status, type, text, buf, &out);
	deliver(inv, &out);
}

static void log_end(struct invocation *inv, const struct invocation_outcome *out,
		    uint64_t resident_pages)
{
	struct log_ring *ring = function_log(inv->function);
	double ms = (double)(clock_mono_ns() - inv->started_ns - inv->init_ns) / 1e6;
	char extra[96] = "";

	if (inv->start == START_BOOT)
		snprintf(extra, sizeof(extra), "\tInit Duration: %.2f ms",
			 (double)inv->init_ns / 1e6);
	else if (inv->start != START_WARM)
		snprintf(extra, sizeof(extra), "\tRestore Duration: %.2f ms",
			 (double)out->restore_ns / 1e6);
	log_ring_printf(ring, inv->request_id, "END RequestId: %s", inv->request_id);
	log_ring_printf(ring, inv->request_id,
			"REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %.0f ms\t"
			"Memory Size: %u MB\tMax Memory Used: %llu MB%s",
			inv->request_id, ms, ms + 0.999, inv->request.version->settings.memory_mib,
			(unsigned long long)(resident_pages * PAGE_BYTES >> 20), extra);
}

static void on_result(struct instance *inst, const struct session_result *result)
{
	static const char too_large[] =
		"{\"errorMessage\":\"Response payload size exceeded maximum allowed payload size "
		"(6291556 bytes).\",\"errorType\":\"Function.ResponseSizeTooLarge\"}";
	struct invocation *inv = inst->owner;
	struct version *v = inst->version;
	bool recorder = inv->recorder;
	bool keep = inv->request.force == START_ANY || inv->request.force == START_WARM ||
		    inv->request.keep;
	struct invocation_outcome out = {
		.status = 200,
		.function_error = result->kind != PROTO_RESULT_OK,
		.failure = result->kind == PROTO_RESULT_OK ? INVOCATION_SUCCEEDED
							   : INVOCATION_FAILED_HANDLER,
		.payload = result->payload,
		.payload_bytes = result->payload_bytes,
		.restore_ns = result->restore_ns,
		.run_ns = result->run_ns,
		.exits = result->exits,
	};
	uint64_t now;

	if (result->kind == PROTO_RESULT_TOO_LARGE) {
		out.status = 413;
		out.error_type = "Function.ResponseSizeTooLarge";
		out.failure = INVOCATION_FAILED_RESPONSE;
		out.payload = too_large;
		out.payload_bytes = sizeof(too_large) - 1;
	}
	log_end(inv, &out, result->resident_pages);
	inst->request_id[0] = '\0';
	deliver(inv, &out);
	now = clock_mono_ns();
	inst->single_use = !keep || v->function->deleted;
	/* Ending costs time that the answer must not wait for: it is done in a moment. */
	session_idle_until(inst, now + (inst->single_use ? 0 : scheduler.params.keep_warm_ns));
	if (recorder && session_trace(inst))
		record_abort(v);
	scheduler_pump();
}

static void on_working_set(struct instance *inst, int fd, uint64_t template_pages)
{
	struct version *v = inst->version;

	(void)template_pages;
	if (v->recording && v->template == inst->template)
		record_finish(v, fd);
	session_idle_until(inst, clock_mono_ns() +
					 (inst->single_use ? 0 : scheduler.params.keep_warm_ns));
	scheduler_pump();
}

static void on_failed(struct instance *inst, const struct session_failure *failure)
{
	struct invocation *inv = inst->owner;
	struct invocation_outcome out = {0};
	char buf[OUTCOME_TEXT_MAX];
	bool init = inst->state == INSTANCE_BOOTING;

	if (!inv) { /* it had answered, and failed at telling its working set */
		record_abort(inst->version);
		return;
	}
	if (inv->recorder)
		record_abort(inst->version);
	outcome_of_failure(failure, inv->request_id, inst->version->settings.timeout_s, init, buf,
			   &out);
	log_ring_printf(function_log(inv->function), inv->request_id, "%.*s",
			(int)MIN(failure->text_bytes, (size_t)900), failure->text);
	log_ring_add(function_log(inv->function), inv->request_id, out.payload, out.payload_bytes);
	log_end(inv, &out, 0);
	deliver(inv, &out);
}

static void start_failed(struct invocation *inv)
{
	struct invocation_outcome out = {0};
	char buf[OUTCOME_TEXT_MAX];

	inv->inst = NULL; /* it has ended */
	outcome_of_error(500, "ServiceException", "an instance could not be started", buf, &out);
	deliver(inv, &out);
}

/* ---- starting -------------------------------------------------------------------------------- */

static void make_call(const struct invocation *inv, char arn[ARN_MAX], struct session_call *call)
{
	const struct version *v = inv->request.version;
	char number[16];

	snprintf(arn, ARN_MAX, "arn:aws:lambda:local:000000000000:function:%s%s%s",
		 v->function->name, v->number ? ":" : "", v->number ? version_name(v, number) : "");
	*call = (struct session_call){
		.request_id = inv->request_id,
		.arn = arn,
		.trace_id = inv->trace_id,
		.client_context = inv->request.client_context,
		.payload = inv->request.payload,
		.payload_bytes = inv->request.payload_bytes,
		.timeout_ns = v->settings.timeout_s * NSEC_PER_SEC,
	};
}

static void log_start(const struct invocation *inv)
{
	char number[16];

	log_ring_printf(function_log(inv->function), inv->request_id,
			"START RequestId: %s Version: %s", inv->request_id,
			version_name(inv->request.version, number));
}

static void on_ready(struct instance *inst, const struct proto_ready *ready)
{
	struct invocation *inv = inst->owner;
	struct session_call call;
	char arn[ARN_MAX];

	inv->init_ns = ready->init_ns;
	make_call(inv, arn, &call);
	log_start(inv);
	if (session_invoke(inst, &call))
		start_failed(inv);
}

static const struct session_events invocation_events = {
	.ready = on_ready,
	.result = on_result,
	.working_set = on_working_set,
	.failed = on_failed,
};

/** From here on @inst serves @inv. */
static void bind(struct invocation *inv, struct instance *inst, enum start_kind start)
{
	queue_remove(inv);
	inv->state = INVOCATION_RUNNING;
	inv->inst = inst;
	inv->start = start;
	inv->started_ns = scheduler.last_start_ns = clock_mono_ns();
	session_adopt(inst, inv->request.version, inv, &invocation_events);
}

static struct instance *find_idle(const struct version *v)
{
	struct instance *found = NULL;

	for (uint32_t i = 0; session_count(INSTANCE_IDLE) && i < INSTANCES_MAX; i++) {
		struct instance *inst = session_instance(i);

		/* The one used last: the others grow old and end. */
		if (inst->state == INSTANCE_IDLE && inst->version == v && !inst->owner &&
		    inst->deadline_ns > clock_mono_ns() &&
		    (!found || inst->changed_ns > found->changed_ns))
			found = inst;
	}
	return found;
}

static void start_warm(struct invocation *inv, struct instance *inst)
{
	struct session_call call;
	char arn[ARN_MAX];

	bind(inv, inst, START_WARM);
	make_call(inv, arn, &call);
	if (session_invoke(inst, &call)) {
		start_failed(inv);
		return;
	}
	log_start(inv);
}

static void start_boot(struct invocation *inv, struct instance *inst)
{
	const struct function_settings *s = &inv->request.version->settings;
	struct runtime_command command;
	int ret;

	bind(inv, inst, START_BOOT);
	ret = runtime_command_make(inv->request.version, &command);
	if (ret)
		session_end(inst);
	else
		ret = session_boot(inst, command.argv, (const char *const *)command.envp,
				   MIB(s->memory_mib), MIB(s->tmp_mib),
				   scheduler.params.init_timeout_ns);
	runtime_command_free(&command);
	if (ret)
		start_failed(inv);
	else
		session_limit_memory(inst);
}

static void start_restore(struct invocation *inv, struct instance *inst)
{
	struct version *v = inv->request.version;
	struct template *t = v->template;
	bool resident =
		t->resident_pages && (!template_has_working_set(t) || template_populate_count(t));
	struct session_call call;
	char arn[ARN_MAX];

	if (record_wanted(v))
		inv->recorder = !record_begin(v);
	bind(inv, inst, resident ? START_RESIDENT : START_COLD);
	make_call(inv, arn, &call);
	if (session_restore(inst, t, &call)) {
		if (inv->recorder)
			record_abort(v);
		start_failed(inv);
		return;
	}
	if (!resident && !t->recording)
		page_in_prefetch(t, inst->slot);
	log_start(inv);
	session_limit_memory(inst);
}

/** Is everything there that the version's guest saw of its CPU? Its snapshot may come from
 * elsewhere. */
static bool cpu_fits(struct invocation *inv, const struct instance *inst)
{
	const struct version *v = inv->request.version;
	const struct snapshot_params *need = snapshot_reader_params(v->template->file->reader);
	char missing[256], text[OUTCOME_TEXT_MAX];

	if (!cpu_features_missing(need->cpu_features, inst->cpu_features, missing, sizeof(missing)))
		return true;
	snprintf(text, sizeof(text),
		 "%s: this host's CPU lacks %s, which the snapshot needs: publish on such a host, "
		 "or with snapd --cpu-baseline x86-64-v3",
		 v->template->name, missing);
	log_error("scheduler: %s", text);
	fail_queued(inv, 500, "ServiceException", text);
	return false;
}

/* ---- what an invocation needs ---------------------------------------------------------------- */

static void on_opened(struct version *v, const char *text)
{
	struct invocation *next;

	for (struct invocation *inv = scheduler.first; text && inv; inv = next) {
		next = inv->next;
		if (inv->request.version == v)
			fail_queued(inv, 500, "ServiceException", text);
	}
	if (text)
		log_error("scheduler: %s", text);
	scheduler_pump();
}

/** Is everything of the version open? Asks for it where not. */
static bool version_is_open(struct invocation *inv, bool boot)
{
	struct version *v = inv->request.version;
	bool cold = inv->request.force == START_COLD && !inv->cold_done;

	if (v->opening)
		return false;
	if (cold && v->number && !v->recording) {
		inv->cold_done = true;
		version_drop_template(v);
	} else if (v->code_fd >= 0 && (boot || v->template)) {
		return true;
	}
	if (version_open(v, cold, on_opened))
		fail_queued(inv, 500, "ServiceException", "out of memory");
	return false;
}

/** All slots are taken: end the instance that has been idle for longest. */
static void make_room(void)
{
	struct instance *oldest = NULL;

	for (uint32_t i = 0; !session_count(INSTANCE_FREE) && i < INSTANCES_MAX; i++) {
		struct instance *inst = session_instance(i);

		if (inst->state == INSTANCE_IDLE && !inst->owner &&
		    (!oldest || inst->changed_ns < oldest->changed_ns))
			oldest = inst;
	}
	if (oldest && !session_count(INSTANCE_ENDING))
		session_end(oldest);
}

static void try_start(struct invocation *inv)
{
	struct version *v = inv->request.version;
	enum start_kind force = inv->request.force;
	bool boot = !v->number || force == START_BOOT;
	struct instance *inst = NULL;

	if (v->function->deleted) {
		fail_queued(inv, 404, "ResourceNotFoundException", "the function was deleted");
		return;
	}
	if (force == START_ANY || force == START_WARM)
		inst = find_idle(v);
	if (inst) {
		start_warm(inv, inst);
		return;
	}
	if (!version_is_open(inv, boot))
		return;
	inst = shell_pool_take(scheduler_ram_class(&v->settings));
	if (!inst)
		make_room();
	else if (boot)
		start_boot(inv, inst);
	else if (cpu_fits(inv, inst))
		start_restore(inv, inst);
}

void scheduler_pump(void)
{
	struct invocation *next;

	/* Starting may fail, which ends in here again. */
	scheduler.pump_again = true;
	if (scheduler.pumping)
		return;
	scheduler.pumping = true;
	while (scheduler.pump_again) {
		scheduler.pump_again = false;
		for (struct invocation *inv = scheduler.first; inv; inv = next) {
			next = inv->next;
			try_start(inv);
			if (scheduler.pump_again)
				break;
		}
	}
	scheduler.pumping = false;
}

int scheduler_invoke(const struct invocation_request *request)
{
	for (int i = 0; i < INVOCATIONS_MAX; i++) {
		struct invocation *inv = &scheduler.table[i];

		if (inv->state != INVOCATION_FREE)
			continue;
		*inv = (struct invocation){
			.state = INVOCATION_QUEUED,
			.request = *request,
			.function = function_get(request->version->function),
			.created_ns = clock_mono_ns(),
		};
		if (request->request_id)
			snprintf(inv->request_id, sizeof(inv->request_id), "%s",
				 request->request_id);
		else
			scheduler_make_request_id(inv->request_id);
		snprintf(inv->trace_id, sizeof(inv->trace_id), "%s", request->trace_id);
		scheduler_stats.under_way++;
		queue_push(inv);
		scheduler_pump();
		return 0;
	}
	metrics_add(METRIC_THROTTLES_QUEUE, 1);
	return -EBUSY;
}

/* ---- time ------------------------------------------------------------------------------------ */

static uint64_t queue_deadline_ns(const struct invocation *inv)
{
	return inv->created_ns + QUEUE_TIMEOUT_S * NSEC_PER_SEC;
}

void scheduler_turn(uint64_t now_ns)
{
	while (scheduler.first && queue_deadline_ns(scheduler.first) <= now_ns)
		fail_queued(scheduler.first, 503, "ServiceException",
			    "no instance could be started in time");
}

uint64_t scheduler_next_ns(void)
{
	return scheduler.first ? queue_deadline_ns(scheduler.first) : UINT64_MAX;
}

bool scheduler_is_busy(uint64_t now_ns)
{
	return session_count(INSTANCE_RESTORING) + session_count(INSTANCE_INVOKING) > 0 &&
	       now_ns - scheduler.last_start_ns < BUSY_MS * 1000000ull;
}

void scheduler_end_instances(const struct function *f)
{
	for (uint32_t i = 0; i < INSTANCES_MAX; i++) {
		struct instance *inst = session_instance(i);

		if (inst->function == f && inst->state != INSTANCE_FREE)
			session_stop(inst);
	}
	scheduler_pump();
}
