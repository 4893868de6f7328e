/* SPDX-License-Identifier: Apache-2.0 */
/* api_invoke.c - Invoke over HTTP */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/api.h"
#include "snapd/base64.h"
#include "snapd/outcome.h"
#include "snapd/scheduler.h"

static const struct {
	const char *name;
	enum start_kind kind;
} forced_starts[] = {
	{"warm", START_WARM},
	{"resident", START_RESIDENT},
	{"cold", START_COLD},
	{"boot", START_BOOT},
};

/** Return: false after a reply. */
static bool parse_start(struct http_request *r, enum start_kind *ret)
{
	const char *text = http_header(r, "X-Quickthaw-Start");

	*ret = START_ANY;
	if (!text)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(forced_starts); i++)
		if (!strcasecmp(text, forced_starts[i].name))
			*ret = forced_starts[i].kind;
	if (*ret == START_ANY)
		http_reply_error(r, 400, "InvalidParameterValueException",
				 "X-Quickthaw-Start: warm, resident, cold or boot");
	return *ret != START_ANY;
}

/** Base64 of JSON from the caller, JSON in one line to the runtime. False: after a reply. */
static bool parse_client_context(struct http_request *r, char **ret)
{
	const char *header = http_header(r, "X-Amz-Client-Context");
	CLEANUP_FREE char *text = NULL;
	json_t *root = NULL;
	size_t n;

	*ret = NULL;
	if (!header || !*header)
		return true;
	if (!base64_decode(header, &text, &n))
		root = json_loadb(text, n, 0, NULL);
	if (json_is_object(root))
		*ret = json_dumps(root, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(root);
	if (!*ret)
		http_reply_error(r, 400, "InvalidRequestContentException",
				 "Client context must be a valid Base64-encoded JSON object.");
	return *ret;
}

static void add_figures(struct http_request *r, const struct invocation_outcome *out)
{
	http_reply_header(r, "X-Quickthaw-Start", start_kind_names[out->start]);
	http_reply_header_u64(r, "X-Quickthaw-Faults", out->faults);
	http_reply_header_u64(r, "X-Quickthaw-Bytes-Read", out->bytes_read);
	http_reply_header_u64(r, "X-Quickthaw-Exits", out->exits);
	http_reply_header_u64(r, "X-Quickthaw-Queue-Us", out->queue_ns / 1000);
	http_reply_header_u64(r, "X-Quickthaw-Init-Us", out->init_ns / 1000);
	http_reply_header_u64(r, "X-Quickthaw-Restore-Us", out->restore_ns / 1000);
	http_reply_header_u64(r, "X-Quickthaw-Run-Us", out->run_ns / 1000);
	http_reply_header_u64(r, "X-Quickthaw-Total-Us", out->total_ns / 1000);
	http_reply_header_u64(r, "X-Quickthaw-Pid", (uint64_t)(out->pid > 0 ? out->pid : 0));
}

/* The version stays valid: its invocation holds it until this has returned. */
struct pending {
	struct http_request *request;
	struct version *version;
	char *client_context; /* decoded; or NULL */
};

static void pending_free(struct pending *pending)
{
	free(pending->client_context);
	free(pending);
}

static void on_done(struct invocation *inv, const struct invocation_outcome *out)
{
	struct pending *pending = invocation_arg(inv);
	struct http_request *r = pending->request;
	char number[16];

	if (http_reply_begin(r, "application/json", out->payload, out->payload_bytes)) {
		http_reply(r, 500, "text/plain", "", 0);
		pending_free(pending);
		return;
	}
	http_reply_header(r, "X-Amzn-RequestId", invocation_request_id(inv));
	http_reply_header(r, "X-Amz-Executed-Version", version_name(pending->version, number));
	if (out->function_error)
		http_reply_header(r, "X-Amz-Function-Error", "Unhandled");
	if (out->error_type)
		http_reply_header(r, "x-amzn-ErrorType", out->error_type);
	if (out->retry_after_s)
		http_reply_header_u64(r, "Retry-After", out->retry_after_s);
	add_figures(r, out);
	http_reply_end(r, out->status);
	pending_free(pending);
}

static void reply_busy(struct http_request *r)
{
	struct invocation_outcome out = {0};
	char buf[OUTCOME_TEXT_MAX];

	outcome_of_refusal(scheduler_refusal(), buf, &out);
	if (http_reply_begin(r, "application/json", out.payload, out.payload_bytes)) {
		http_reply(r, 500, "text/plain", "", 0);
		return;
	}
	http_reply_header(r, "x-amzn-ErrorType", out.error_type);
	http_reply_header_u64(r, "Retry-After", out.retry_after_s);
	http_reply_end(r, out.status);
}

static void invoke_and_wait(struct http_request *r, struct invocation_request *request)
{
	struct pending *pending;
	char *context;

	if (!parse_client_context(r, &context))
		return;
	pending = malloc(sizeof(*pending));
	if (!pending) {
		free(context);
		http_reply_error(r, 500, "ServiceException", "out of memory");
		return;
	}
	*pending = (struct pending){r, request->version, context};
	request->client_context = context ? context : "";
	request->done = on_done;
	request->arg = pending;
	if (scheduler_invoke(request)) {
		pending_free(pending);
		reply_busy(r);
	}
}

void api_invoke(struct http_request *r, struct function *f, const char *qualifier)
{
	struct version *v = api_version(r, f, qualifier, function_newest(f));
	const char *type = http_header(r, "X-Amz-Invocation-Type");
	const char *trace = http_header(r, "X-Amzn-Trace-Id");
	const char *keep = http_header(r, "X-Quickthaw-Keep");
	struct invocation_request request = {
		.version = v,
		.payload = r->body_bytes ? r->body : "{}",
		.payload_bytes = r->body_bytes ? r->body_bytes : 2,
		.client_context = "",
		.trace_id = trace ? trace : "",
		.keep = keep && !strcmp(keep, "1"),
	};

	if (!v || !parse_start(r, &request.force))
		return;
	if (v->state != VERSION_ACTIVE)
		http_reply_error(r, 409, "ResourceConflictException",
				 "version %u of %s is in state %s%s%s", v->number, f->name,
				 version_state_names[v->state], *v->stage ? ": " : "", v->stage);
	else if (type && !strcmp(type, "DryRun"))
		http_reply(r, 204, "application/json", "", 0);
	else if (type && !strcmp(type, "Event"))
		api_event_invoke(r, f, qualifier);
	else if (!type || !strcmp(type, "RequestResponse"))
		invoke_and_wait(r, &request);
	else
		http_reply_error(r, 400, "InvalidParameterValueException",
				 "X-Amz-Invocation-Type: RequestResponse, Event or DryRun");
}
