/* SPDX-License-Identifier: Apache-2.0 */
/* api_invoke.c - Invoke over HTTP */
#include <nettle/base64.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/api_invoke.h"
#include "snapd/base64.h"
#include "snapd/outcome.h"

/* What Lambda gives of the log. */
enum { LOG_TAIL_BYTES = 4096 };

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

/* ---- what is wanted -------------------------------------------------------------------------- */

static bool parse_log_type(struct http_request *r, bool *ret)
{
	const char *type = http_header(r, "X-Amz-Log-Type");

	*ret = type && !strcmp(type, "Tail");
	if (!type || *ret || !strcmp(type, "None"))
		return true;
	http_reply_error(r, 400, "InvalidParameterValueException", "X-Amz-Log-Type: None or Tail");
	return false;
}

bool api_invoke_parse(struct http_request *r, struct function *f, const char *qualifier,
		      struct invoke_call *ret)
{
	struct version *v = api_version(r, f, qualifier, function_newest(f));
	const char *type = http_header(r, "X-Amz-Invocation-Type");
	const char *trace = http_header(r, "X-Amzn-Trace-Id");
	const char *keep = http_header(r, "X-Quickthaw-Keep");

	*ret = (struct invoke_call){
		.type = type ? type : "RequestResponse",
		.request = {.version = v,
			    .payload = r->body_bytes ? r->body : "{}",
			    .payload_bytes = r->body_bytes ? r->body_bytes : 2,
			    .client_context = "",
			    .trace_id = trace ? trace : "",
			    .keep = keep && !strcmp(keep, "1")},
	};
	if (!v || !parse_start(r, &ret->request.force) || !parse_log_type(r, &ret->tail))
		return false;
	if (v->state != VERSION_ACTIVE) {
		http_reply_error(r, 409, "ResourceConflictException",
				 "version %u of %s is in state %s%s%s", v->number, f->name,
				 version_state_names[v->state], *v->stage ? ": " : "", v->stage);
		return false;
	}
	if (!parse_client_context(r, &ret->client_context))
		return false;
	if (ret->client_context)
		ret->request.client_context = ret->client_context;
	return true;
}

void api_invoke_free(struct invoke_call *call)
{
	free(call->client_context);
	call->client_context = NULL;
}

/* ---- what is answered ------------------------------------------------------------------------ */

void api_invoke_headers(struct http_request *r, const struct invocation *inv,
			const struct version *v)
{
	const char *trace = http_header(r, "X-Amzn-Trace-Id");
	char number[16];

	http_reply_request_id(r, invocation_request_id(inv));
	http_reply_header(r, "X-Amz-Executed-Version", version_name(v, number));
	if (trace)
		http_reply_header(r, "X-Amzn-Trace-Id", trace);
}

char *api_invoke_log_tail(const struct invocation *inv, struct version *v)
{
	CLEANUP_FREE char *text = NULL;
	char *base64 = NULL;
	size_t n;

	if (log_ring_tail(function_log(v->function), invocation_request_id(inv), LOG_TAIL_BYTES,
			  &text, &n))
		return NULL;
	base64 = malloc(BASE64_ENCODE_RAW_LENGTH(n) + 1);
	if (!base64)
		return NULL;
	base64_encode_raw(base64, n, (const uint8_t *)text);
	base64[BASE64_ENCODE_RAW_LENGTH(n)] = '\0';
	return base64;
}

void api_invoke_outcome(struct http_request *r, const struct invocation *inv,
			const struct invoke_call *call, const struct invocation_outcome *out)
{
	CLEANUP_FREE char *tail =
		call->tail ? api_invoke_log_tail(inv, call->request.version) : NULL;

	if (http_reply_begin(r, "application/json", out->payload, out->payload_bytes)) {
		http_reply(r, 500, "text/plain", "", 0);
		return;
	}
	api_invoke_headers(r, inv, call->request.version);
	if (out->function_error)
		http_reply_header(r, "X-Amz-Function-Error", "Unhandled");
	if (tail)
		http_reply_header(r, "X-Amz-Log-Result", tail);
	if (out->error_type)
		http_reply_header(r, "x-amzn-ErrorType", out->error_type);
	if (out->retry_after_s)
		http_reply_header_u64(r, "Retry-After", out->retry_after_s);
	add_figures(r, out);
	http_reply_end(r, out->status);
}

void api_invoke_busy(struct http_request *r)
{
	struct invocation_outcome out = {0};
	char buf[OUTCOME_TEXT_MAX];

	if (scheduler_refusal()->overload)
		http_hold(r);
	outcome_of_refusal(scheduler_refusal(), buf, &out);
	if (http_reply_begin(r, "application/json", out.payload, out.payload_bytes)) {
		http_reply(r, 500, "text/plain", "", 0);
		return;
	}
	http_reply_header(r, "x-amzn-ErrorType", out.error_type);
	http_reply_header_u64(r, "Retry-After", out.retry_after_s);
	http_reply_end(r, out.status);
}

/* ---- RequestResponse ------------------------------------------------------------------------- */

/* The version stays valid: its invocation holds it until on_done() has returned. */
struct pending {
	struct http_request *http;
	struct invoke_call call;
};

static void pending_free(struct pending *pending)
{
	api_invoke_free(&pending->call);
	free(pending);
}

static void on_done(struct invocation *inv, const struct invocation_outcome *out)
{
	struct pending *pending = invocation_arg(inv);

	api_invoke_outcome(pending->http, inv, &pending->call, out);
	pending_free(pending);
}

static void invoke_and_wait(struct http_request *r, struct invoke_call *call)
{
	struct pending *pending = malloc(sizeof(*pending));

	if (!pending) {
		api_invoke_free(call);
		api_no_memory(r);
		return;
	}
	*pending = (struct pending){r, *call};
	pending->call.request.done = on_done;
	pending->call.request.arg = pending;
	if (scheduler_invoke(&pending->call.request)) {
		pending_free(pending);
		api_invoke_busy(r);
	}
}

void api_invoke(struct http_request *r, struct function *f, const char *qualifier)
{
	struct invoke_call call;

	if (!api_invoke_parse(r, f, qualifier, &call))
		return;
	if (!strcmp(call.type, "RequestResponse")) {
		invoke_and_wait(r, &call);
		return;
	}
	if (!strcmp(call.type, "DryRun"))
		http_reply(r, 204, "application/json", "", 0);
	else if (!strcmp(call.type, "Event"))
		api_event_invoke(r, f, qualifier);
	else
		http_reply_error(r, 400, "InvalidParameterValueException",
				 "X-Amz-Invocation-Type: RequestResponse, Event or DryRun");
	api_invoke_free(&call);
}
