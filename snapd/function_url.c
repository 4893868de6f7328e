/* SPDX-License-Identifier: Apache-2.0 */
/*
 * function_url.c - functions as HTTP endpoints
 *
 * A URL is told by the host that a request is for, ID.lambda-url.ANYTHING, or, where names cannot
 * be had, by the first part of its path: /ID/what/the/function/sees. The request becomes an event,
 * the function's result the reply (url_event.c). A function that streams for a URL in the mode
 * RESPONSE_STREAM is passed on as it comes, as the body of a 200.
 */
#include "snapd/function_url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/access_keys.h"
#include "snapd/api_invoke.h"
#include "snapd/function.h"
#include "snapd/url_event.h"
#include "snapd/uuid.h"

enum { HIGH_BYTES = 256 << 10, LOW_BYTES = 64 << 10 };

/**
 * struct visit - a request at a URL, until its reply is sent or its invocation done, whatever is
 * last.
 * @http: NULL: the client has gone, or has its reply
 * @inv: NULL: it is done
 * @from_page: of another origin, which may
 * @begun: the reply is streamed, and its head is on its way
 */
struct visit {
	struct http_request *http;
	struct invocation *inv;
	char *event;
	char request_id[REQUEST_ID_CHARS + 1];
	struct url_cors cors;
	bool from_page, begun;
};

static void visit_free(struct visit *v)
{
	url_cors_free(&v->cors);
	free(v->event);
	free(v);
}

/* ---- whose URL ------------------------------------------------------------------------------- */

/** Return: NULL: there is none of that id. */
static struct url_config *find_url(const char *id, size_t n, struct function **ret_function)
{
	if (n != URL_ID_CHARS)
		return NULL;
	for (struct function *f = functions_first(); f; f = f->next)
		for (struct qualified *q = f->control.urls; q; q = q->next) {
			struct url_config *c = container_of(q, struct url_config, entry);

			if (strncasecmp(c->id, id, n))
				continue;
			*ret_function = f;
			return c;
		}
	return NULL;
}

/** By host or by path. @ret_uri: what is left for the function to see. */
static struct url_config *locate(struct http_request *r, struct function **ret_function,
				 const char **ret_uri)
{
	static const char suffix[] = ".lambda-url.";
	const char *host = http_header(r, "Host"), *dot = host ? strchr(host, '.') : NULL;
	struct url_config *c;
	size_t n;

	*ret_uri = r->uri;
	if (dot && !strncasecmp(dot, suffix, strlen(suffix)))
		return find_url(host, (size_t)(dot - host), ret_function);
	if (*r->uri != '/')
		return NULL;
	n = strcspn(r->uri + 1, "/?");
	c = find_url(r->uri + 1, n, ret_function);
	if (c)
		*ret_uri = r->uri + 1 + n;
	return c;
}

/* ---- the reply ------------------------------------------------------------------------------- */

static void add(struct http_request *r, const char *name, const char *value)
{
	if (value)
		http_reply_header(r, name, value);
}

static void add_cors(struct http_request *r, const struct url_cors *cors)
{
	add(r, "Access-Control-Allow-Origin", cors->allow_origin);
	add(r, "Access-Control-Expose-Headers", cors->expose_headers);
	add(r, "Access-Control-Allow-Credentials", cors->allow_credentials ? "true" : NULL);
	add(r, "Vary", "Origin");
}

/** The browser asks first whether a page may: nothing of the function's. */
static void reply_preflight(struct http_request *r, const struct url_cors *cors)
{
	if (http_reply_begin(r, "text/plain", "", 0)) {
		http_reply(r, 500, "text/plain", "", 0);
		return;
	}
	add_cors(r, cors);
	add(r, "Access-Control-Allow-Methods", cors->allow_methods);
	add(r, "Access-Control-Allow-Headers", cors->allow_headers);
	add(r, "Access-Control-Max-Age", cors->max_age);
	http_reply_end(r, 200);
}

static bool is_ours_to_set(const char *name)
{
	static const char *const names[] = {"content-length", "transfer-encoding",
					    "connection",     "content-type",
					    "date",	      "x-amzn-requestid"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcasecmp(names[i], name))
			return true;
	return false;
}

static const char *content_type(const struct url_reply *reply)
{
	const char *key, *type = "application/json";
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)reply->headers, key,
			    value) if (!strcasecmp(key, "content-type")) type =
		json_string_value(value);
	return type;
}

static void send_reply(struct visit *v, const struct url_reply *reply)
{
	struct http_request *r = v->http;
	json_t *value;
	const char *key;

	if (http_reply_begin(r, content_type(reply), reply->body, reply->body_bytes)) {
		http_reply(r, 500, "text/plain", "", 0);
		return;
	}
	http_reply_request_id(r, v->request_id);
	json_object_foreach((json_t *)(uintptr_t)reply->headers, key,
			    value) if (!is_ours_to_set(key))
		http_reply_header(r, key, json_string_value(value));
	for (size_t i = 0; i < json_array_size(reply->cookies); i++)
		http_reply_header(r, "Set-Cookie",
				  json_string_value(json_array_get(reply->cookies, i)));
	if (v->from_page)
		add_cors(r, &v->cors);
	http_reply_end(r, reply->status);
}

/** Of the service's own: the function gave none, or none that can be sent. */
static void reply_failure(struct visit *v, unsigned status, const char *type)
{
	static const char bad_gateway[] = "Internal Server Error", other[] = "{\"Message\":null}";
	const char *text = status == 502 ? bad_gateway : other;

	if (http_reply_begin(v->http, status == 502 ? "text/plain" : "application/json", text,
			     strlen(text))) {
		http_reply(v->http, 500, "text/plain", "", 0);
		return;
	}
	http_reply_request_id(v->http, v->request_id);
	add(v->http, "x-amzn-ErrorType", type);
	if (v->from_page)
		add_cors(v->http, &v->cors);
	http_reply_end(v->http, status);
}

static void reply_outcome(struct visit *v, const struct invocation_outcome *out)
{
	struct url_reply reply;

	if (out->function_error || out->status == 413) {
		reply_failure(v, 502, NULL);
		return;
	}
	if (out->status != 200) {
		reply_failure(v, out->status, out->error_type);
		return;
	}
	if (url_reply_parse(out->payload, out->payload_bytes, &reply))
		reply_failure(v, 502, NULL);
	else
		send_reply(v, &reply);
	url_reply_free(&reply);
}

/* ---- a reply that is streamed ---------------------------------------------------------------- */

static void on_read(void *arg, size_t unread)
{
	struct visit *v = arg;

	if (v->inv && unread < LOW_BYTES)
		invocation_hold(v->inv, false);
}

static void on_closed(void *arg)
{
	struct visit *v = arg;

	v->http = NULL;
	if (v->inv)
		invocation_hold(v->inv, false);
	else
		visit_free(v);
}

static bool begin_stream(struct visit *v)
{
	static const struct http_stream_events events = {.read = on_read, .closed = on_closed};

	if (v->begun || !v->http)
		return v->http;
	if (http_stream_begin(v->http, "application/octet-stream", &events, v)) {
		http_reply(v->http, 500, "text/plain", "", 0);
		v->http = NULL;
		return false;
	}
	v->begun = true;
	http_reply_request_id(v->http, v->request_id);
	if (v->from_page)
		add_cors(v->http, &v->cors);
	http_reply_end(v->http, 200);
	return true;
}

static void on_part(struct invocation *inv, const void *data, size_t n)
{
	struct visit *v = invocation_arg(inv);

	v->inv = inv;
	if (!begin_stream(v))
		return;
	if (http_stream_write(v->http, data, n))
		log_warn("function url: no memory for a stream to a client");
	if (http_stream_unread(v->http) > HIGH_BYTES)
		invocation_hold(inv, true);
}

/* ---- the request ----------------------------------------------------------------------------- */

static void on_done(struct invocation *inv, const struct invocation_outcome *out)
{
	struct visit *v = invocation_arg(inv);

	(void)inv;
	if (v->begun) {
		v->inv = NULL;
		if (!v->http)
			visit_free(v);
		else if (out->function_error || out->status != 200)
			http_stream_break(v->http);
		else
			http_stream_end(v->http);
		return;
	}
	if (v->http)
		reply_outcome(v, out);
	visit_free(v);
}

static void collect_header(void *arg, const char *name, const char *value)
{
	struct url_request *request = arg;

	if (request->header_count == URL_HEADERS_MAX)
		return;
	request->headers[request->header_count].name = name;
	request->headers[request->header_count++].value = value;
}

static char *make_event(struct http_request *r, const struct visit *v, const struct url_config *c,
			const char *uri)
{
	char ip[64], domain[256];
	const char *host = http_header(r, "Host");
	struct url_request request = {
		.method = r->method,
		.uri = *uri == '/' ? uri : "/",
		.protocol = "HTTP/1.1",
		.domain = domain,
		.id = c->id,
		.source_ip = http_peer(r, ip, sizeof(ip)),
		.request_id = v->request_id,
		.access_key = c->iam ? http_access_key(r) : NULL,
		.time_ns = clock_real_ns(),
		.body = r->body,
		.body_bytes = r->body_bytes,
	};
	CLEANUP_FREE char *rooted = NULL;

	snprintf(domain, sizeof(domain), "%.*s", (int)strcspn(host ? host : "", ":"),
		 host ? host : "");
	if (*uri == '?' && asprintf(&rooted, "/%s", uri) > 0)
		request.uri = rooted;
	http_header_each(r, collect_header, &request);
	return url_event_make(&request);
}

static void invoke(struct visit *v, const struct url_config *c, struct function *f)
{
	bool is_latest = !strcmp(c->entry.qualifier, "$LATEST");
	const struct invocation_request request = {
		.version = is_latest ? function_newest(f) : function_route(f, c->entry.qualifier),
		.payload = v->event,
		.payload_bytes = strlen(v->event),
		.client_context = "",
		.trace_id = "",
		.request_id = v->request_id,
		.part = c->stream ? on_part : NULL,
		.done = on_done,
		.arg = v,
	};
	struct http_request *r = v->http;

	if (!request.version || request.version->state != VERSION_ACTIVE) {
		reply_failure(v, 502, "ResourceConflictException");
		visit_free(v);
	} else if (request.payload_bytes > HTTP_BODY_MAX) {
		reply_failure(v, 413, "RequestTooLargeException");
		visit_free(v);
	} else if (scheduler_invoke(&request)) {
		visit_free(v);
		api_invoke_busy(r);
	}
}

/** Signed by who may invoke, where it has to be. Return: false after a reply. */
static bool may_invoke(struct http_request *r, const struct url_config *c)
{
	if (!c->iam)
		return true;
	if (!http_verify(r))
		return false;
	if (!(r->rights & ACCESS_INVOKE))
		http_reply_error(r, 403, "AccessDeniedException", "Forbidden");
	return r->rights & ACCESS_INVOKE;
}

static void visit(struct http_request *r, const struct url_config *c, struct function *f,
		  const char *uri)
{
	struct visit *v = calloc(1, sizeof(*v));

	if (!v) {
		api_no_memory(r);
		return;
	}
	v->http = r;
	v->from_page = url_cors_make(c->cors, http_header(r, "Origin"), &v->cors);
	if (v->from_page && !strcmp(r->method, "OPTIONS") &&
	    http_header(r, "Access-Control-Request-Method")) {
		reply_preflight(r, &v->cors);
		visit_free(v);
		return;
	}
	if (!may_invoke(r, c)) {
		visit_free(v);
		return;
	}
	uuid_make(v->request_id);
	v->event = make_event(r, v, c, uri);
	if (!v->event) {
		http_reply_error(r, 400, "InvalidRequestContentException",
				 "the request cannot be told in JSON");
		visit_free(v);
		return;
	}
	invoke(v, c, f);
}

void function_url_route(struct http_request *r)
{
	struct function *f = NULL;
	const char *uri = NULL;
	struct url_config *c = r->uri ? locate(r, &f, &uri) : NULL;

	if (r->too_large)
		http_reply_error(r, 413, "RequestTooLargeException",
				 "Request must be smaller than %zu bytes", r->body_max);
	else if (r->too_many)
		http_reply_error(r, 503, "ServiceException", "too many requests with bodies");
	else if (!c)
		http_reply_error(r, 403, "AccessDeniedException", "Forbidden");
	else
		visit(r, c, f, uri);
}
