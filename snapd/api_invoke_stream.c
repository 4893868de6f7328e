/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_invoke_stream.c - InvokeWithResponseStream over HTTP
 *
 * Each part of the response that the instance sends goes to the client as a PayloadChunk at once,
 * and InvokeComplete ends the stream, with the error if there was one. A response that comes as a
 * whole is one chunk.
 *
 * A client that reads more slowly than the function writes holds up the function: past HIGH_BYTES
 * that wait to be sent, the instance is held, and goes on below LOW_BYTES. A client that goes away
 * holds up nothing: the function runs to its end, for nobody.
 *
 * A stream is there as long as its request or its invocation is; whichever ends last frees it.
 */
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/api_invoke.h"
#include "snapd/eventstream.h"

enum { HIGH_BYTES = 256 << 10, LOW_BYTES = 64 << 10 };

/**
 * struct stream - @http: NULL: the client has gone
 * @inv: NULL: it is done
 * @begun: the reply's head is on its way
 */
struct stream {
	struct http_request *http;
	struct invocation *inv;
	struct invoke_call call;
	bool begun;
};

static void stream_free(struct stream *s)
{
	api_invoke_free(&s->call);
	free(s);
}

/* ---- the client ------------------------------------------------------------------------------ */

static void on_read(void *arg, size_t unread)
{
	struct stream *s = arg;

	if (s->inv && unread < LOW_BYTES)
		invocation_hold(s->inv, false);
}

static void on_closed(void *arg)
{
	struct stream *s = arg;

	s->http = NULL;
	if (s->inv)
		invocation_hold(s->inv, false);
	else
		stream_free(s);
}

static const struct http_stream_events client_events = {.read = on_read, .closed = on_closed};

/** The reply's head. Return: false when there is none, and nobody to send it to. */
static bool begin(struct stream *s)
{
	if (s->begun || !s->http)
		return s->http;
	if (http_stream_begin(s->http, "application/vnd.amazon.eventstream", &client_events, s)) {
		http_reply(s->http, 500, "text/plain", "", 0);
		s->http = NULL;
		return false;
	}
	s->begun = true;
	api_invoke_headers(s->http, s->inv, s->call.request.version);
	http_reply_end(s->http, 200);
	return true;
}

static void send_event(struct stream *s, const char *type, const char *content_type,
		       const void *payload, size_t n)
{
	struct eventstream_frame frame;

	eventstream_frame_make(&frame, type, content_type, payload, n);
	if (http_stream_write(s->http, frame.head, frame.head_bytes) ||
	    http_stream_write(s->http, payload, n) ||
	    http_stream_write(s->http, frame.tail, sizeof(frame.tail)))
		log_warn("invoke: no memory for a stream to a client");
}

/* ---- the function ---------------------------------------------------------------------------- */

static void on_part(struct invocation *inv, const void *data, size_t n)
{
	struct stream *s = invocation_arg(inv);

	s->inv = inv;
	if (!n || !begin(s))
		return;
	send_event(s, "PayloadChunk", "application/octet-stream", data, n);
	if (http_stream_unread(s->http) > HIGH_BYTES)
		invocation_hold(inv, true);
}

static void complete(struct stream *s, const struct invocation_outcome *out)
{
	CLEANUP_FREE char *tail =
		s->call.tail ? api_invoke_log_tail(s->inv, s->call.request.version) : NULL;
	json_t *root = json_object();
	CLEANUP_FREE char *text = NULL;

	if (root && (out->function_error || out->status != 200)) {
		json_object_set_new(root, "ErrorCode",
				    json_string(out->error_type ? out->error_type : "Unhandled"));
		json_object_set_new(root, "ErrorDetails",
				    json_stringn(out->payload, out->payload_bytes));
	}
	if (root && tail)
		json_object_set_new(root, "LogResult", json_string(tail));
	text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	if (text)
		send_event(s, "InvokeComplete", "application/json", text, strlen(text));
	http_stream_end(s->http);
}

static void on_done(struct invocation *inv, const struct invocation_outcome *out)
{
	struct stream *s = invocation_arg(inv);

	s->inv = inv;
	if (s->http && !s->begun && out->status != 200) {
		api_invoke_outcome(s->http, inv, &s->call, out);
		s->http = NULL;
	} else if (begin(s)) {
		if (!out->function_error && out->status == 200 && out->payload_bytes)
			send_event(s, "PayloadChunk", "application/octet-stream", out->payload,
				   out->payload_bytes);
		complete(s, out);
	}
	s->inv = NULL;
	if (!s->http)
		stream_free(s);
}

void api_invoke_stream(const struct api_call *call)
{
	struct http_request *r = call->http;
	struct stream *s = calloc(1, sizeof(*s));

	if (!s) {
		api_no_memory(r);
		return;
	}
	if (!api_invoke_parse(r, call->function, call->qualifier, &s->call)) {
		free(s);
		return;
	}
	if (strcmp(s->call.type, "RequestResponse")) {
		if (!strcmp(s->call.type, "DryRun"))
			http_reply(r, 204, "application/json", "", 0);
		else
			http_reply_error(r, 400, "InvalidParameterValueException",
					 "X-Amz-Invocation-Type: RequestResponse or DryRun");
		stream_free(s);
		return;
	}
	s->http = r;
	s->call.request.part = on_part;
	s->call.request.done = on_done;
	s->call.request.arg = s;
	if (scheduler_invoke(&s->call.request)) {
		stream_free(s);
		api_invoke_busy(r);
	}
}
