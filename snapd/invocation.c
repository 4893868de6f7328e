/* SPDX-License-Identifier: Apache-2.0 */
/* invocation.c - one invocation from its instance to its answer */
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/admission.h"
#include "snapd/base64.h"
#include "snapd/budget.h"
#include "snapd/outcome.h"
#include "snapd/page_in.h"
#include "snapd/record.h"
#include "snapd/report.h"
#include "snapd/runtime.h"
#include "snapd/scheduler_internal.h"

enum { ARN_MAX = 192 };

/* ---- the end --------------------------------------------------------------------------------- */

void invocation_refuse(struct invocation *inv, unsigned status, const char *type, const char *text)
{
	struct invocation_outcome out = {0};
	char buf[OUTCOME_TEXT_MAX];

	scheduler_leave_queue(inv);
	outcome_of_error(status, type, text, buf, &out);
	scheduler_deliver(inv, &out);
}

static void log_end(struct invocation *inv, const struct invocation_outcome *out,
		    uint64_t resident_pages)
{
	const struct report report = {
		.request_id = inv->request_id,
		.start = inv->start,
		.serve_ns = clock_mono_ns() - inv->started_ns,
		.init_ns = inv->init_ns,
		.restore_ns = inv->start == START_WARM ? 0 : out->restore_ns,
		.memory_mib = inv->request.version->settings.memory_mib,
		.used_bytes = resident_pages * PAGE_BYTES,
	};
	struct log_ring *ring = function_log(inv->function);
	char line[REPORT_MAX];

	log_ring_printf(ring, inv->request_id, "END RequestId: %s", inv->request_id);
	log_ring_printf(ring, inv->request_id, "%s", report_line(&report, line));
}

/** What it took, for admission, capacity and the budget. */
static void learn(const struct invocation *inv, const struct session_result *result)
{
	struct version *v = inv->request.version;
	uint64_t served_ns = clock_mono_ns() - inv->started_ns;

	if (inv->start == START_WARM)
		average_add(&v->load.warm_ns, served_ns);
	else if (inv->start == START_RESIDENT)
		average_add(&v->load.resident_ns, served_ns);
	else if (inv->start == START_BOOT)
		average_add(&v->load.boot_ns, inv->init_ns);
	if (inv->start == START_RESIDENT)
		average_add(&scheduler_stats.resident_ns, served_ns);
	scheduler_learn_memory(inv->inst, result->resident_pages * PAGE_BYTES,
			       result->own_pages * PAGE_BYTES);
}

static void on_part(struct instance *inst, const void *data, size_t n)
{
	struct invocation *inv = inst->owner;

	if (inv && inv->request.part)
		inv->request.part(inv, data, n);
}

void invocation_hold(struct invocation *inv, bool hold)
{
	if (inv->inst)
		session_hold(inv->inst, hold);
}

/**
 * The function failed while its response was on the way: what its runtime's trailers say, which is
 * an error type and an error in JSON as base64. Return: as JSON, or NULL without memory.
 */
static char *stream_error(const char *text, size_t n)
{
	const char *nul = memchr(text, 0, n), *body = nul ? nul + 1 : text + n;
	CLEANUP_FREE char *json = NULL;
	char *ret = NULL;
	json_t *root = NULL;
	size_t bytes;

	if (nul && memchr(body, 0, (size_t)(text + n - body)) && *body &&
	    !base64_decode(body, &json, &bytes))
		root = json_loadb(json, bytes, 0, NULL);
	if (!json_is_object(root)) {
		json_decref(root);
		root = json_pack("{s:s, s:s}", "errorType", nul ? text : "Runtime.StreamError",
				 "errorMessage", "the response ended with an error");
	}
	if (root)
		ret = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return ret;
}

static void on_result(struct instance *inst, const struct session_result *result)
{
	static const char too_large[] =
		"{\"errorMessage\":\"Response payload size exceeded maximum allowed payload size "
		"(6291556 bytes).\",\"errorType\":\"Function.ResponseSizeTooLarge\"}";
	CLEANUP_FREE char *error = NULL;
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

	if (result->kind == PROTO_RESULT_TOO_LARGE) {
		out.status = 413;
		out.error_type = "Function.ResponseSizeTooLarge";
		out.failure = INVOCATION_FAILED_RESPONSE;
		out.payload = too_large;
		out.payload_bytes = sizeof(too_large) - 1;
	}
	if (result->kind == PROTO_RESULT_STREAM_ERROR) {
		error = stream_error(result->payload, result->payload_bytes);
		out.payload = error ? error : "{}";
		out.payload_bytes = strlen(out.payload);
	}
	log_end(inv, &out, result->resident_pages);
	inst->request_id[0] = '\0';
	learn(inv, result);
	scheduler_deliver(inv, &out);
	inst->single_use = !keep;
	if (!recorder || session_trace(inst)) {
		scheduler_release(inst);
		if (recorder)
			record_abort(v);
	}
	scheduler_pump();
}

static void on_working_set(struct instance *inst, int fd, uint64_t template_pages)
{
	struct version *v = inst->version;

	(void)template_pages;
	if (v->recording && v->template == inst->template)
		record_finish(v, fd);
	scheduler_release(inst);
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
	scheduler_deliver(inv, &out);
}

static void start_failed(struct invocation *inv)
{
	struct invocation_outcome out = {0};
	char buf[OUTCOME_TEXT_MAX];

	inv->inst = NULL; /* it has ended */
	outcome_of_error(500, "ServiceException", "an instance could not be started", buf, &out);
	scheduler_deliver(inv, &out);
}

/* ---- the start ------------------------------------------------------------------------------- */

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
		.stream = inv->request.part,
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

const struct session_events invocation_events = {
	.ready = on_ready,
	.result = on_result,
	.part = on_part,
	.working_set = on_working_set,
	.failed = on_failed,
};

static void bind(struct invocation *inv, struct instance *inst, enum start_kind start)
{
	scheduler_bound(inv, inst, start);
	session_adopt(inst, inv->request.version, inv, &invocation_events);
}

void invocation_start_warm(struct invocation *inv, struct instance *inst)
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

void invocation_start_boot(struct invocation *inv, struct instance *inst, uint64_t timeout_ns)
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
				   MIB(s->memory_mib), MIB(s->tmp_mib), timeout_ns);
	runtime_command_free(&command);
	if (ret)
		start_failed(inv);
	else
		session_limit_memory(inst);
}

bool invocation_is_resident(const struct version *v)
{
	struct template *t = v->template;

	return t && t->resident_pages &&
	       (!template_has_working_set(t) || template_populate_count(t));
}

void invocation_start_restore(struct invocation *inv, struct instance *inst)
{
	struct version *v = inv->request.version;
	struct template *t = v->template;
	bool resident = invocation_is_resident(v);
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
