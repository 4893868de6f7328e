/* SPDX-License-Identifier: Apache-2.0 */
/* outcome.c - Lambda's words for how an invocation failed */
#include "snapd/outcome.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/util.h"

static void set_payload(struct invocation_outcome *out, const char *buf, int n)
{
	out->payload = buf;
	out->payload_bytes = MIN((size_t)(n > 0 ? n : 0), (size_t)OUTCOME_TEXT_MAX - 1);
}

/** {"errorType": ..., "errorMessage": ...} of simple ASCII strings. */
static void function_error(struct invocation_outcome *out, char *buf, enum invocation_failure why,
			   const char *type, const char *request_id, const char *message)
{
	json_t *root;
	char text[OUTCOME_TEXT_MAX / 2];
	size_t n;

	snprintf(text, sizeof(text), "RequestId: %s Error: %s", request_id, message);
	root = json_pack("{s:s, s:s}", "errorType", type, "errorMessage", text);
	n = root ? json_dumpb(root, buf, OUTCOME_TEXT_MAX, JSON_COMPACT) : 0;
	json_decref(root);
	out->status = 200;
	out->function_error = true;
	out->failure = why;
	set_payload(out, buf, n <= OUTCOME_TEXT_MAX ? (int)n : 0);
}

static void timed_out(struct invocation_outcome *out, char *buf, const char *request_id,
		      uint32_t timeout_s)
{
	uint64_t now = clock_real_ns();
	time_t seconds = (time_t)(now / NSEC_PER_SEC);
	struct tm tm;
	char when[32];

	gmtime_r(&seconds, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	out->status = 200;
	out->function_error = true;
	out->failure = INVOCATION_FAILED_TIMEOUT;
	set_payload(
		out, buf,
		snprintf(buf, OUTCOME_TEXT_MAX,
			 "{\"errorMessage\":\"%s.%03uZ %s Task timed out after %u.00 seconds\"}",
			 when, (unsigned)(now % NSEC_PER_SEC / 1000000), request_id, timeout_s));
}

/** As Go's os/signal names them, for that is what Lambda prints: "signal: segmentation fault". */
static void exited(struct invocation_outcome *out, char *buf, const char *request_id, int signal,
		   int status)
{
	const char *name = signal ? sigdescr_np(signal) : NULL;
	char message[128];

	if (signal)
		snprintf(message, sizeof(message), "Runtime exited with error: signal: %s",
			 name ? name : "unknown");
	else if (status)
		snprintf(message, sizeof(message), "Runtime exited with error: exit status %d",
			 status);
	else
		snprintf(message, sizeof(message), "Runtime exited without providing a reason");
	if (name) {
		char *first = message + strlen("Runtime exited with error: signal: ");

		*first = (char)tolower((unsigned char)*first);
	}
	function_error(out, buf, INVOCATION_FAILED_EXIT, "Runtime.ExitError", request_id, message);
}

/** The runtime's own report, if it is one. */
static void reported(struct invocation_outcome *out, char *buf, enum invocation_failure why,
		     const char *type, const char *request_id, const struct session_failure *f)
{
	json_t *root = json_loadb(f->text, f->text_bytes, 0, NULL);

	if (root && json_is_object(root)) {
		out->status = 200;
		out->function_error = true;
		out->failure = why;
		out->payload = f->text;
		out->payload_bytes = f->text_bytes;
	} else {
		char text[256];

		snprintf(text, sizeof(text), "%.*s", (int)MIN(f->text_bytes, sizeof(text) - 1),
			 f->text);
		function_error(out, buf, why, type, request_id, text);
	}
	json_decref(root);
}

void outcome_of_failure(const struct session_failure *f, const char *request_id, uint32_t timeout_s,
			bool init, char buf[OUTCOME_TEXT_MAX], struct invocation_outcome *ret)
{
	char text[256];

	switch (f->kind) {
	case PROTO_FAILED_EXIT:
		exited(ret, buf, request_id, 0, f->code);
		break;
	case PROTO_FAILED_SIGNAL:
		exited(ret, buf, request_id, f->code, 0);
		break;
	case PROTO_FAILED_KERNEL:
		snprintf(text, sizeof(text), "%.*s", (int)MIN(f->text_bytes, sizeof(text) - 1),
			 f->text);
		function_error(ret, buf, INVOCATION_FAILED_EXIT, "Runtime.ExitError", request_id,
			       text);
		break;
	case PROTO_FAILED_MEMORY:
		function_error(ret, buf, INVOCATION_FAILED_MEMORY, "Runtime.OutOfMemory",
			       request_id, "Runtime exited with error: signal: killed");
		break;
	case PROTO_FAILED_INIT:
		reported(ret, buf, INVOCATION_FAILED_INIT, "Runtime.InitError", request_id, f);
		break;
	case PROTO_FAILED_RESTORE:
		reported(ret, buf, INVOCATION_FAILED_RESTORE, "Runtime.RestoreError", request_id,
			 f);
		break;
	case SESSION_FAILED_TIMEOUT:
		if (init)
			function_error(ret, buf, INVOCATION_FAILED_TIMEOUT, "Sandbox.Timedout",
				       request_id, "initialisation took too long");
		else
			timed_out(ret, buf, request_id, timeout_s);
		break;
	default:
		snprintf(text, sizeof(text), "%.*s", (int)MIN(f->text_bytes, sizeof(text) - 1),
			 f->text);
		outcome_of_error(f->kind == SESSION_FAILED_STOPPED ? 503 : 500, "ServiceException",
				 text, buf, ret);
	}
}

void outcome_of_refusal(const struct scheduler_refusal *r, char buf[OUTCOME_TEXT_MAX],
			struct invocation_outcome *ret)
{
	int n = snprintf(buf, OUTCOME_TEXT_MAX,
			 "{\"Reason\":\"%s\",\"Type\":\"User\",\"message\":\"%s\"}", r->reason,
			 r->text);

	ret->status = 429;
	ret->error_type = "TooManyRequestsException";
	ret->retry_after_s = r->retry_after_s;
	ret->failure = INVOCATION_FAILED_REQUEST;
	set_payload(ret, buf, n);
}

void outcome_of_error(unsigned status, const char *type, const char *message,
		      char buf[OUTCOME_TEXT_MAX], struct invocation_outcome *ret)
{
	json_t *root = json_pack("{s:s, s:s}", "Type", status < 500 ? "User" : "Service", "Message",
				 message);
	size_t n = root ? json_dumpb(root, buf, OUTCOME_TEXT_MAX, JSON_COMPACT) : 0;

	json_decref(root);
	ret->status = status;
	ret->error_type = type;
	ret->failure = status < 500 ? INVOCATION_FAILED_REQUEST : INVOCATION_FAILED_SERVICE;
	set_payload(ret, buf, n <= OUTCOME_TEXT_MAX ? (int)n : 0);
}
