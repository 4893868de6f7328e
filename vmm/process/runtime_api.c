/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_api.c - the requests of AWS Lambda's Runtime API and their life from /next to /response
 *
 * Theory of operation
 *
 * The runtime in the guest connects to 127.0.0.1:9001 and sends HTTP requests, which arrive here by
 * a struct runtime_wire; runtime_http.c turns the bytes into requests and calls
 * runtime_api_request(). A request is answered at once, but for GET /next and GET /restore/next:
 * these park their connection until there is work.
 *
 * Invariants
 *  1. At most one connection is parked (api->parked); a second /next is answered with 409.
 *  2. At most one invocation is handed out (api->current.given), one may wait for /next.
 *  3. A response or error is accepted only for the invocation that was handed out.
 *  4. At most one connection streams a response (api->streaming), that of the invocation that was
 *     handed out. Its end, however it comes, is the invocation's result.
 *  5. Parked means saved: everything a parked guest needs to go on is in runtime_api_save().
 *
 * Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
 */
#include "vmm/process/runtime_api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "vmm/process/runtime_http.h"

#define API_PREFIX "/2018-06-01/runtime/"

enum { REQUEST_ID_MAX = 127, RESPONSE_HEAD_MAX = 8192 };

enum parked_in { PARKED_NONE, PARKED_NEXT, PARKED_RESTORE };

/** struct current - the one invocation that is waiting for /next or handed out. */
struct current {
	bool present;
	bool given;
	char request_id[REQUEST_ID_MAX + 1];
	char *head; /**< the HTTP response head, ready to send */
	size_t head_bytes;
	void *payload;
	size_t payload_bytes;
	bool stream;
};

struct runtime_api {
	const struct runtime_wire *wire;
	void *guest; /**< what the events are told */
	const struct runtime_api_events *events;
	struct runtime_conn *parked, *streaming;
	uint64_t streamed_bytes;
	enum parked_in parked_in;
	bool reported; /**< events->parked was called for this kind of parking */
	struct current current;
};

static void current_clear(struct current *c)
{
	free(c->head);
	free(c->payload);
	memset(c, 0, sizeof(*c));
}

/* ---- answers ---- */

static void answer(struct runtime_api *api, struct runtime_conn *conn, int status,
		   const char *reason, const char *body)
{
	char text[512];
	int n = snprintf(
		text, sizeof(text),
		"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
		status, reason, strlen(body), body);

	runtime_conn_send(api, conn, text, (size_t)n);
}

static void answer_error(struct runtime_api *api, struct runtime_conn *conn, int status,
			 const char *reason, const char *type, const char *message)
{
	char body[256];

	snprintf(body, sizeof(body), "{\"errorMessage\":\"%s\",\"errorType\":\"%s\"}", message,
		 type);
	answer(api, conn, status, reason, body);
}

static void answer_accepted(struct runtime_api *api, struct runtime_conn *conn)
{
	answer(api, conn, 202, "Accepted", "{\"status\":\"OK\"}");
}

/* ---- parking and handing out work ---- */

static void hand_out(struct runtime_api *api)
{
	struct current *c = &api->current;
	struct runtime_conn *conn = api->parked;

	api->parked = NULL;
	api->parked_in = PARKED_NONE;
	c->given = true;
	api->reported = true; /* who gets work need not be told that it is asked for */
	runtime_conn_cork(conn);
	runtime_conn_send(api, conn, c->head, c->head_bytes);
	runtime_conn_send(api, conn, c->payload, c->payload_bytes);
	runtime_conn_uncork(api, conn);
	runtime_conn_resume(api, conn);
}

static void park(struct runtime_api *api, struct runtime_conn *conn, enum parked_in in)
{
	/* One that has ended may be of a runtime that is gone, and this the next one's. */
	if (api->parked && runtime_conn_ended(api->parked))
		runtime_conn_end(api, api->parked);
	if (api->parked) {
		answer_error(api, conn, 409, "Conflict", "Runtime.AlreadyParked",
			     "another connection already waits for work");
		return;
	}
	api->parked = conn;
	api->parked_in = in;
	if (in == PARKED_NEXT && api->current.present && !api->current.given) {
		hand_out(api);
		return;
	}
	runtime_conn_pause(conn);
	if (!api->reported) {
		api->reported = true;
		api->events->parked(api->guest, in == PARKED_RESTORE);
	}
}

bool runtime_api_parked(const struct runtime_api *api)
{
	return api->parked != NULL;
}

void runtime_api_continue_restore(struct runtime_api *api)
{
	struct runtime_conn *conn = api->parked;

	if (!conn || api->parked_in != PARKED_RESTORE)
		return;
	api->reported = false;
	api->parked = NULL;
	api->parked_in = PARKED_NONE;
	answer(api, conn, 200, "OK", "");
	runtime_conn_resume(api, conn);
}

/** Header values come from the network: a line break in one would add headers of the caller's. */
static bool header_safe(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

static int build_head(struct current *c, const struct invocation *inv)
{
	char head[RESPONSE_HEAD_MAX];
	int n = snprintf(
		head, sizeof(head),
		"HTTP/1.1 200 OK\r\n"
		"Content-Type: application/json\r\n"
		"Lambda-Runtime-Aws-Request-Id: %s\r\n"
		"Lambda-Runtime-Deadline-Ms: %llu\r\n"
		"Lambda-Runtime-Invoked-Function-Arn: %s\r\n"
		"Lambda-Runtime-Trace-Id: %s\r\n"
		"%s%s%s"
		"Content-Length: %zu\r\n\r\n",
		inv->request_id, (unsigned long long)inv->deadline_real_ms, inv->function_arn,
		inv->trace_id, inv->client_context[0] ? "Lambda-Runtime-Client-Context: " : "",
		inv->client_context, inv->client_context[0] ? "\r\n" : "", inv->payload_bytes);

	if (n >= (int)sizeof(head))
		return -E2BIG;
	c->head = malloc((size_t)n);
	if (!c->head)
		return -ENOMEM;
	memcpy(c->head, head, (size_t)n);
	c->head_bytes = (size_t)n;
	return 0;
}

int runtime_api_invoke(struct runtime_api *api, const struct invocation *inv)
{
	struct current *c = &api->current;
	int ret;

	if (c->present)
		return -EBUSY;
	if (strlen(inv->request_id) > REQUEST_ID_MAX || !header_safe(inv->request_id) ||
	    !header_safe(inv->function_arn) || !header_safe(inv->trace_id) ||
	    !header_safe(inv->client_context))
		return -EINVAL;
	ret = build_head(c, inv);
	if (ret)
		return ret;
	c->payload = malloc(inv->payload_bytes ? inv->payload_bytes : 1);
	if (!c->payload) {
		current_clear(c);
		return -ENOMEM;
	}
	memcpy(c->payload, inv->payload, inv->payload_bytes);
	c->payload_bytes = inv->payload_bytes;
	c->stream = inv->stream;
	snprintf(c->request_id, sizeof(c->request_id), "%s", inv->request_id);
	c->present = true;
	if (api->parked_in == PARKED_NEXT)
		hand_out(api);
	return 0;
}

/* ---- requests ---- */

static void deliver(struct runtime_api *api, enum proto_result_kind kind, const void *payload,
		    size_t n)
{
	current_clear(&api->current);
	api->streaming = NULL;
	api->events->result(api->guest, kind, payload, n);
}

/** It failed on its way: what its trailers say, or what we know. */
static void deliver_stream_error(struct runtime_api *api, const char *type, const char *body)
{
	size_t type_bytes = strlen(type) + 1, body_bytes = strlen(body) + 1;
	CLEANUP_FREE char *text = malloc(type_bytes + body_bytes);

	if (text) {
		memcpy(text, type, type_bytes);
		memcpy(text + type_bytes, body, body_bytes);
	}
	deliver(api, PROTO_RESULT_STREAM_ERROR, text, text ? type_bytes + body_bytes : 0);
}

static void finish_invocation(struct runtime_api *api, struct runtime_conn *conn,
			      const struct runtime_request *req, enum proto_result_kind kind)
{
	if (req->too_large) {
		answer_error(api, conn, 413, "Request Entity Too Large", "RequestEntityTooLarge",
			     "the response is too large");
		deliver(api, PROTO_RESULT_TOO_LARGE, "", 0);
		return;
	}
	answer_accepted(api, conn);
	if (kind == PROTO_RESULT_OK && req->error_type)
		deliver_stream_error(api, req->error_type, req->error_body);
	else
		deliver(api, kind, req->body, req->body_bytes);
}

/** Is `ID/verb` about the invocation that was handed out? */
static bool is_current(const struct current *c, const char *rest, const char *verb)
{
	return c->given && verb && strlen(c->request_id) == (size_t)(verb - rest) &&
	       !memcmp(c->request_id, rest, (size_t)(verb - rest));
}

bool runtime_api_stream_begin(struct runtime_api *api, struct runtime_conn *conn, const char *path)
{
	static const char prefix[] = API_PREFIX "invocation/";
	const char *rest = path + strlen(prefix), *verb;

	if (!api->current.stream || api->streaming || strncmp(path, prefix, strlen(prefix)))
		return false;
	verb = strchr(rest, '/');
	if (!is_current(&api->current, rest, verb) || strcmp(verb, "/response"))
		return false;
	api->streaming = conn;
	api->streamed_bytes = 0;
	return true;
}

bool runtime_api_stream(struct runtime_api *api, struct runtime_conn *conn, const void *data,
			size_t n)
{

	if (api->streaming != conn)
		return true; /* another connection has ended this invocation meanwhile */
	api->streamed_bytes += n;
	if (api->streamed_bytes > PROTO_STREAM_MAX)
		return false;
	api->events->part(api->guest, data, n);
	return true;
}

static void on_invocation(struct runtime_api *api, struct runtime_conn *conn,
			  const struct runtime_request *req, const char *rest)
{
	const struct current *c = &api->current;
	const char *verb = strchr(rest, '/');

	if (!strcmp(rest, "next") && !req->post) {
		if (c->given)
			answer_error(api, conn, 403, "Forbidden", "InvalidStateTransition",
				     "the last invocation has no response yet");
		else
			park(api, conn, PARKED_NEXT);
		return;
	}
	if (!verb || !req->post || (strcmp(verb, "/response") && strcmp(verb, "/error"))) {
		answer_error(api, conn, 404, "Not Found", "NotFound", "no such Runtime API path");
		return;
	}
	if (!is_current(c, rest, verb)) {
		answer_error(api, conn, 400, "Bad Request", "InvalidRequestID",
			     "this request id is not the current invocation");
		return;
	}
	finish_invocation(api, conn, req,
			  strcmp(verb, "/error") ? PROTO_RESULT_OK : PROTO_RESULT_ERROR);
}

void runtime_api_request(struct runtime_api *api, struct runtime_conn *conn,
			 const struct runtime_request *req)
{
	const char *path = req->path;

	if (strncmp(path, API_PREFIX, strlen(API_PREFIX))) {
		answer_error(api, conn, 404, "Not Found", "NotFound", "no such Runtime API path");
		return;
	}
	path += strlen(API_PREFIX);
	if (!strncmp(path, "invocation/", 11)) {
		on_invocation(api, conn, req, path + 11);
	} else if (!strcmp(path, "restore/next") && !req->post) {
		park(api, conn, PARKED_RESTORE);
	} else if (!strcmp(path, "init/error") && req->post) {
		answer_accepted(api, conn);
		api->events->failed(api->guest, PROTO_FAILED_INIT, req->body, req->body_bytes);
	} else if (!strcmp(path, "restore/error") && req->post) {
		answer_accepted(api, conn);
		api->events->failed(api->guest, PROTO_FAILED_RESTORE, req->body, req->body_bytes);
	} else {
		answer_error(api, conn, 404, "Not Found", "NotFound", "no such Runtime API path");
	}
}

void runtime_api_conn_closed(struct runtime_api *api, struct runtime_conn *conn)
{
	if (api->streaming == conn)
		deliver_stream_error(api, "Runtime.TruncatedResponse", "");
	if (api->parked == conn) {
		api->parked = NULL;
		api->parked_in = PARKED_NONE;
	}
}

/* ---- life ---- */

int runtime_api_new(const struct runtime_wire *wire, const struct runtime_api_events *events,
		    void *guest, struct runtime_api **ret)
{
	struct runtime_api *api = calloc(1, sizeof(*api));

	*ret = api;
	if (!api)
		return -ENOMEM;
	api->wire = wire;
	api->events = events;
	api->guest = guest;
	return 0;
}

void runtime_api_free(struct runtime_api *api)
{
	if (!api)
		return;
	api->streaming = NULL; /* nobody is to be told */
	runtime_http_free(api);
	current_clear(&api->current);
	free(api);
}

const struct runtime_wire *runtime_api_wire(const struct runtime_api *api)
{
	return api->wire;
}

/* A capture happens while the guest is parked, so there is never an invocation to save. */
int runtime_api_save(struct runtime_api *api, struct state_writer *w)
{

	if (api->current.present)
		return -EBUSY;
	state_put_u8(w, (uint8_t)api->parked_in);
	state_put_u32(w, api->parked ? runtime_conn_id(api->parked) : 0);
	return runtime_http_save(api, w);
}

int runtime_api_load(struct runtime_api *api, struct state_reader *r)
{
	uint8_t in = state_get_u8(r);
	uint32_t id = state_get_u32(r);
	int ret = runtime_http_load(api, r);

	if (ret)
		return ret;
	if (in > PARKED_RESTORE)
		return -EBADMSG;
	if (in == PARKED_NONE)
		return 0;
	api->parked = runtime_conn_by_id(api, id);
	if (!api->parked)
		return -EBADMSG;
	api->parked_in = in;
	api->reported = true;
	runtime_conn_pause(api->parked);
	return 0;
}
