/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_api.c - the requests of AWS Lambda's Runtime API and their life from /next to /response
 *
 * Theory of operation
 *
 * The runtime in the guest connects to 127.0.0.1:9001 and sends HTTP requests; runtime_http.c turns
 * the bytes into requests and calls runtime_api_request(). A request is answered at once, but for
 * GET /next and GET /restore/next: these park their connection until there is work.
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
#include "vmm/process/proc.h"
#include "vmm/process/runtime_http.h"
#include "vmm/process/sock.h"

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

static void answer(struct proc *p, struct runtime_conn *conn, int status, const char *reason,
		   const char *body)
{
	char text[512];
	int n = snprintf(
		text, sizeof(text),
		"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
		status, reason, strlen(body), body);

	runtime_conn_send(p, conn, text, (size_t)n);
}

static void answer_error(struct proc *p, struct runtime_conn *conn, int status, const char *reason,
			 const char *type, const char *message)
{
	char body[256];

	snprintf(body, sizeof(body), "{\"errorMessage\":\"%s\",\"errorType\":\"%s\"}", message,
		 type);
	answer(p, conn, status, reason, body);
}

static void answer_accepted(struct proc *p, struct runtime_conn *conn)
{
	answer(p, conn, 202, "Accepted", "{\"status\":\"OK\"}");
}

/* ---- parking and handing out work ---- */

static void hand_out(struct proc *p)
{
	struct runtime_api *api = p->api;
	struct current *c = &api->current;
	struct runtime_conn *conn = api->parked;

	api->parked = NULL;
	api->parked_in = PARKED_NONE;
	c->given = true;
	api->reported = true; /* who gets work need not be told that it is asked for */
	runtime_conn_cork(conn);
	runtime_conn_send(p, conn, c->head, c->head_bytes);
	runtime_conn_send(p, conn, c->payload, c->payload_bytes);
	runtime_conn_uncork(p, conn);
	runtime_conn_resume(p, conn);
}

static void park(struct proc *p, struct runtime_conn *conn, enum parked_in in)
{
	struct runtime_api *api = p->api;

	if (api->parked) {
		answer_error(p, conn, 409, "Conflict", "Runtime.AlreadyParked",
			     "another connection already waits for work");
		return;
	}
	api->parked = conn;
	api->parked_in = in;
	if (in == PARKED_NEXT && api->current.present && !api->current.given) {
		hand_out(p);
		return;
	}
	runtime_conn_pause(conn);
	if (!api->reported) {
		api->reported = true;
		api->events->parked(p, in == PARKED_RESTORE);
	}
}

bool runtime_api_parked(const struct proc *p)
{
	return p->api->parked != NULL;
}

void runtime_api_continue_restore(struct proc *p)
{
	struct runtime_api *api = p->api;
	struct runtime_conn *conn = api->parked;

	if (!conn || api->parked_in != PARKED_RESTORE)
		return;
	api->reported = false;
	api->parked = NULL;
	api->parked_in = PARKED_NONE;
	answer(p, conn, 200, "OK", "");
	runtime_conn_resume(p, conn);
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

int runtime_api_invoke(struct proc *p, const struct invocation *inv)
{
	struct runtime_api *api = p->api;
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
		hand_out(p);
	return 0;
}

/* ---- requests ---- */

static void deliver(struct proc *p, enum proto_result_kind kind, const void *payload, size_t n)
{
	current_clear(&p->api->current);
	p->api->streaming = NULL;
	p->api->events->result(p, kind, payload, n);
}

/** It failed on its way: what its trailers say, or what we know. */
static void deliver_stream_error(struct proc *p, const char *type, const char *body)
{
	size_t type_bytes = strlen(type) + 1, body_bytes = strlen(body) + 1;
	CLEANUP_FREE char *text = malloc(type_bytes + body_bytes);

	if (text) {
		memcpy(text, type, type_bytes);
		memcpy(text + type_bytes, body, body_bytes);
	}
	deliver(p, PROTO_RESULT_STREAM_ERROR, text, text ? type_bytes + body_bytes : 0);
}

static void finish_invocation(struct proc *p, struct runtime_conn *conn,
			      const struct runtime_request *req, enum proto_result_kind kind)
{
	if (req->too_large) {
		answer_error(p, conn, 413, "Request Entity Too Large", "RequestEntityTooLarge",
			     "the response is too large");
		deliver(p, PROTO_RESULT_TOO_LARGE, "", 0);
		return;
	}
	answer_accepted(p, conn);
	if (kind == PROTO_RESULT_OK && req->error_type)
		deliver_stream_error(p, req->error_type, req->error_body);
	else
		deliver(p, kind, req->body, req->body_bytes);
}

/** Is `ID/verb` about the invocation that was handed out? */
static bool is_current(const struct current *c, const char *rest, const char *verb)
{
	return c->given && verb && strlen(c->request_id) == (size_t)(verb - rest) &&
	       !memcmp(c->request_id, rest, (size_t)(verb - rest));
}

bool runtime_api_stream_begin(struct proc *p, struct runtime_conn *conn, const char *path)
{
	static const char prefix[] = API_PREFIX "invocation/";
	struct runtime_api *api = p->api;
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

bool runtime_api_stream(struct proc *p, struct runtime_conn *conn, const void *data, size_t n)
{
	struct runtime_api *api = p->api;

	if (api->streaming != conn)
		return true; /* another connection has ended this invocation meanwhile */
	api->streamed_bytes += n;
	if (api->streamed_bytes > PROTO_STREAM_MAX)
		return false;
	api->events->part(p, data, n);
	return true;
}

static void on_invocation(struct proc *p, struct runtime_conn *conn,
			  const struct runtime_request *req, const char *rest)
{
	const struct current *c = &p->api->current;
	const char *verb = strchr(rest, '/');

	if (!strcmp(rest, "next") && !req->post) {
		if (c->given)
			answer_error(p, conn, 403, "Forbidden", "InvalidStateTransition",
				     "the last invocation has no response yet");
		else
			park(p, conn, PARKED_NEXT);
		return;
	}
	if (!verb || !req->post || (strcmp(verb, "/response") && strcmp(verb, "/error"))) {
		answer_error(p, conn, 404, "Not Found", "NotFound", "no such Runtime API path");
		return;
	}
	if (!is_current(c, rest, verb)) {
		answer_error(p, conn, 400, "Bad Request", "InvalidRequestID",
			     "this request id is not the current invocation");
		return;
	}
	finish_invocation(p, conn, req,
			  strcmp(verb, "/error") ? PROTO_RESULT_OK : PROTO_RESULT_ERROR);
}

void runtime_api_request(struct proc *p, struct runtime_conn *conn,
			 const struct runtime_request *req)
{
	const char *path = req->path;

	if (strncmp(path, API_PREFIX, strlen(API_PREFIX))) {
		answer_error(p, conn, 404, "Not Found", "NotFound", "no such Runtime API path");
		return;
	}
	path += strlen(API_PREFIX);
	if (!strncmp(path, "invocation/", 11)) {
		on_invocation(p, conn, req, path + 11);
	} else if (!strcmp(path, "restore/next") && !req->post) {
		park(p, conn, PARKED_RESTORE);
	} else if (!strcmp(path, "init/error") && req->post) {
		answer_accepted(p, conn);
		p->api->events->failed(p, PROTO_FAILED_INIT, req->body, req->body_bytes);
	} else if (!strcmp(path, "restore/error") && req->post) {
		answer_accepted(p, conn);
		p->api->events->failed(p, PROTO_FAILED_RESTORE, req->body, req->body_bytes);
	} else {
		answer_error(p, conn, 404, "Not Found", "NotFound", "no such Runtime API path");
	}
}

void runtime_api_conn_closed(struct proc *p, struct runtime_conn *conn)
{
	if (p->api->streaming == conn)
		deliver_stream_error(p, "Runtime.TruncatedResponse", "");
	if (p->api->parked == conn) {
		p->api->parked = NULL;
		p->api->parked_in = PARKED_NONE;
	}
}

/* ---- life ---- */

int runtime_api_new(struct proc *p, const struct runtime_api_events *events)
{
	p->api = calloc(1, sizeof(*p->api));
	if (!p->api)
		return -ENOMEM;
	p->api->events = events;
	return runtime_http_register(p);
}

void runtime_api_free(struct proc *p)
{
	if (!p->api)
		return;
	p->api->streaming = NULL; /* nobody is to be told */
	runtime_http_free(p);
	current_clear(&p->api->current);
	free(p->api);
	p->api = NULL;
}

/* A capture happens while the guest is parked, so there is never an invocation to save. */
int runtime_api_save(struct proc *p, struct state_writer *w)
{
	struct runtime_api *api = p->api;

	if (api->current.present)
		return -EBUSY;
	state_put_u8(w, (uint8_t)api->parked_in);
	state_put_u32(w, api->parked ? runtime_conn_id(api->parked) : 0);
	return runtime_http_save(p, w);
}

int runtime_api_load(struct proc *p, struct state_reader *r)
{
	struct runtime_api *api = p->api;
	uint8_t in = state_get_u8(r);
	uint32_t id = state_get_u32(r);
	int ret = runtime_http_load(p, r);

	if (ret)
		return ret;
	if (in > PARKED_RESTORE)
		return -EBADMSG;
	if (in == PARKED_NONE)
		return 0;
	api->parked = runtime_conn_by_id(p, id);
	if (!api->parked)
		return -EBADMSG;
	api->parked_in = in;
	api->reported = true;
	runtime_conn_pause(api->parked);
	return 0;
}
