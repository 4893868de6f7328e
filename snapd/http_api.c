/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_api.c - the HTTP server: requests come whole, replies may come later
 *
 * libmicrohttpd runs without a thread: its epoll descriptor is one more thing that the loop polls
 * (http_listener.c). A request whose answer takes time has its connection suspended; the reply
 * resumes it, and the next http_turn(), which is the same turn of the loop, sends it.
 */
#include "snapd/http_api.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/http_internal.h"
#include "snapd/metrics.h"
#include "snapd/uuid.h"

static unsigned uploads;    /* bodies over HTTP_BODY_MAX */
static uint64_t all_bodies; /* bytes that they may take */
static unsigned downloads;  /* under way, by http_reply_fd() */

/* ---- requests -------------------------------------------------------------------------------- */

static struct http_request *request_new(struct http_door *door, struct MHD_Connection *connection)
{
	struct http_request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->connection = connection;
	r->door = door;
	r->client = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
			    ->socket_context;
	return r;
}

static void request_free(struct http_request *r)
{
	http_stream_free(r);
	if (r->response)
		MHD_destroy_response(r->response);
	uploads -= r->upload;
	all_bodies -= r->body_counted;
	http_auth_free(r->auth);
	free(r->uri);
	downloads -= r->download;
	free(r->body);
	free(r);
}

static void drop_body(struct http_request *r)
{
	free(r->body);
	r->body = NULL;
	r->body_bytes = r->body_size = 0;
	all_bodies -= r->body_counted;
	r->body_counted = 0;
}

/** A body becomes an upload: few of them have room in memory at a time. */
static bool may_upload(struct http_request *r)
{
	if (!r->upload && uploads < HTTP_UPLOADS_MAX) {
		r->upload = true;
		uploads++;
	}
	return r->upload;
}

/** Room for @n bytes and a NUL. Return: 0, -EAGAIN when all bodies have too much, -ENOMEM. */
static int grow_body(struct http_request *r, size_t n)
{
	size_t size = r->body_size ? r->body_size : 4096;
	char *body;

	while (size < r->body_bytes + n + 1)
		size *= 2;
	if (size == r->body_size)
		return 0;
	if (all_bodies + size - r->body_counted > HTTP_BODIES_MAX)
		return -EAGAIN;
	body = realloc(r->body, size);
	if (!body)
		return -ENOMEM;
	all_bodies += size - r->body_counted;
	r->body_counted = size;
	r->body = body;
	r->body_size = size;
	return 0;
}

/** Return: false without memory. */
static bool append_body(struct http_request *r, const char *data, size_t n)
{
	int ret = 0;

	r->too_large |= n > r->body_max - r->body_bytes;
	if (!r->too_large && n + r->body_bytes > HTTP_BODY_MAX)
		r->too_many |= !may_upload(r);
	if (!r->too_large && !r->too_many)
		ret = grow_body(r, n);
	r->too_many |= ret == -EAGAIN;
	if (r->too_large || r->too_many)
		drop_body(r);
	if (ret || !r->body)
		return ret != -ENOMEM;
	memcpy(r->body + r->body_bytes, data, n);
	r->body_bytes += n;
	r->body[r->body_bytes] = '\0';
	return true;
}

/** The request line is here, the header is not. */
void *http_on_uri(void *cls, const char *uri, struct MHD_Connection *connection)
{
	struct http_request *r = request_new(cls, connection);

	if (r)
		r->uri = strdup(uri);
	if (r && r->client && r->client->phase == HTTP_IDLE)
		http_connection_enter(r->client, HTTP_OPENED, 0);
	return r;
}

/** Return: false when the connection is to be closed. */
static bool begin(struct http_request *r, const char *url, const char *method)
{
	if (!r->client || r->client->phase == HTTP_REFUSED)
		return false;
	r->method = method;
	if (snprintf(r->path, sizeof(r->path), "%s", url) >= (int)sizeof(r->path))
		r->path[0] = '\0'; /* no route */
	r->body_max = HTTP_BODY_MAX;
	if (http_params.body_max && !r->door->url)
		r->body_max = http_params.body_max(method, r->path);
	http_connection_enter(r->client, HTTP_BODY, 0);
	/* Who is not known need not send a body: its answer is on the way. */
	return http_auth_begin(r) || r->response;
}

static bool more_body(struct http_request *r, const char *data, size_t n)
{
	r->client->bytes += n;
	http_auth_body(r, data, n);
	return append_body(r, data, n);
}

static void serve(struct http_request *r)
{
	http_connection_enter(r->client, HTTP_ANSWERING, 0);
	if (http_auth_end(r))
		r->door->router(r);
}

static enum MHD_Result answer_or_wait(struct http_request *r)
{
	if (r->response)
		return MHD_queue_response(r->connection, r->status, r->response);
	r->suspended = true;
	r->door->suspended++;
	MHD_suspend_connection(r->connection);
	return MHD_YES;
}

enum MHD_Result http_on_request(void *cls, struct MHD_Connection *connection, const char *url,
				const char *method, const char *version, const char *upload_data,
				size_t *upload_data_size, void **con_cls)
{
	struct http_request *r = *con_cls;

	(void)version;
	if (!r)
		*con_cls = r = request_new(cls, connection);
	if (!r)
		return MHD_NO;
	if (!r->method) {
		if (!begin(r, url, method))
			return MHD_NO;
		return r->response ? answer_or_wait(r) : MHD_YES;
	}
	if (*upload_data_size) {
		bool ok = more_body(r, upload_data, *upload_data_size);

		*upload_data_size = 0;
		return ok ? MHD_YES : MHD_NO;
	}
	if (!r->routed) {
		r->routed = true;
		serve(r);
	}
	return answer_or_wait(r);
}

void http_on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
		       enum MHD_RequestTerminationCode why)
{
	struct http_request *r = *con_cls;

	(void)cls;
	(void)connection;
	(void)why;
	*con_cls = NULL;
	if (!r)
		return;
	if (r->client)
		http_connection_enter(r->client, HTTP_IDLE, 0);
	request_free(r);
}

const char *http_header(struct http_request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

const char *http_query(struct http_request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
}

struct each_header {
	void (*each)(void *arg, const char *name, const char *value);
	void *arg;
};

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *key,
				 const char *value)
{
	const struct each_header *h = cls;

	(void)kind;
	h->each(h->arg, key, value ? value : "");
	return MHD_YES;
}

void http_header_each(struct http_request *r,
		      void (*each)(void *arg, const char *name, const char *value), void *arg)
{
	struct each_header h = {.each = each, .arg = arg};

	MHD_get_connection_values(r->connection, MHD_HEADER_KIND, on_header, &h);
}

const char *http_peer(struct http_request *r, char *buf, size_t size)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

	if (!r->door->tcp || !info ||
	    getnameinfo(info->client_addr,
			info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
								 : sizeof(struct sockaddr_in),
			buf, (socklen_t)size, NULL, 0, NI_NUMERICHOST))
		snprintf(buf, size, "unix");
	return buf;
}

struct each_query {
	const char *name;
	void (*each)(void *arg, const char *value);
	void *arg;
	unsigned count;
};

static enum MHD_Result on_query(void *cls, enum MHD_ValueKind kind, const char *key,
				const char *value)
{
	struct each_query *q = cls;

	(void)kind;
	if (!strcmp(key, q->name)) {
		q->each(q->arg, value ? value : "");
		q->count++;
	}
	return MHD_YES;
}

unsigned http_query_each(struct http_request *r, const char *name,
			 void (*each)(void *arg, const char *value), void *arg)
{
	struct each_query q = {.name = name, .each = each, .arg = arg};

	MHD_get_connection_values(r->connection, MHD_GET_ARGUMENT_KIND, on_query, &q);
	return q.count;
}

/* ---- replies --------------------------------------------------------------------------------- */

int http_reply_begin(struct http_request *r, const char *type, const void *body, size_t body_bytes)
{
	r->response = MHD_create_response_from_buffer(body_bytes, (void *)(uintptr_t)body,
						      MHD_RESPMEM_MUST_COPY);
	if (!r->response) {
		log_error("http: no memory for a reply of %zu bytes", body_bytes);
		return -ENOMEM;
	}
	r->reply_bytes = body_bytes;
	http_reply_header(r, "Content-Type", type);
	return 0;
}

void http_reply_header(struct http_request *r, const char *name, const char *value)
{
	MHD_add_response_header(r->response, name, value);
}

void http_reply_header_u64(struct http_request *r, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	http_reply_header(r, name, text);
}

void http_reply_request_id(struct http_request *r, const char *id)
{
	http_reply_header(r, "X-Amzn-RequestId", id);
	r->identified = true;
}

void http_reply_end(struct http_request *r, unsigned status)
{
	char id[UUID_CHARS + 1];

	if (!r->identified) {
		uuid_make(id);
		http_reply_request_id(r, id);
	}
	r->status = status;
	metrics_http(status);
	http_connection_enter(r->client, r->stream ? HTTP_STREAM : HTTP_REPLY, r->reply_bytes);
	if (!r->suspended)
		return;
	r->suspended = false;
	r->door->suspended--;
	r->door->due = r->door->answers = true;
	MHD_resume_connection(r->connection);
}

void http_reply(struct http_request *r, unsigned status, const char *type, const void *body,
		size_t body_bytes)
{
	static const char none[] = "";

	/* Without memory for the body: an empty reply needs the least. */
	if (http_reply_begin(r, type, body, body_bytes)) {
		status = 500;
		r->response = MHD_create_response_from_buffer(0, (void *)(uintptr_t)none,
							      MHD_RESPMEM_PERSISTENT);
	}
	http_reply_end(r, status);
}

bool http_may_download(struct http_request *r)
{
	if (!r->download && downloads < HTTP_DOWNLOADS_MAX) {
		r->download = true;
		downloads++;
	}
	return r->download;
}

void http_reply_fd(struct http_request *r, unsigned status, const char *type, int fd)
{
	struct stat st;

	r->response = fstat(fd, &st) ? NULL : MHD_create_response_from_fd((uint64_t)st.st_size, fd);
	if (!r->response) {
		close(fd);
		http_reply_error(r, 500, "ServiceException", "out of memory");
		return;
	}
	http_reply_header(r, "Content-Type", type);
	http_reply_end(r, status);
}

void http_reply_json(struct http_request *r, unsigned status, json_t *root)
{
	CLEANUP_FREE char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

	json_decref(root);
	if (text)
		http_reply(r, status, "application/json", text, strlen(text));
	else
		http_reply_error(r, 500, "ServiceException", "out of memory");
}

/** What a client sent, or what was cut, may be no UTF-8: then it is no JSON either. */
static void keep_utf8(char *text)
{
	json_t *s = json_string(text);

	for (; !s && *text; text++)
		if (*text & 0x80)
			*text = '?';
	json_decref(s);
}

void http_reply_error(struct http_request *r, unsigned status, const char *type, const char *fmt,
		      ...)
{
	CLEANUP_FREE char *text = NULL;
	char message[1024];
	json_t *root;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	keep_utf8(message);
	root = json_pack("{s:s, s:s}", "Type", status < 500 ? "User" : "Service", "Message",
			 message);
	text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	if (http_reply_begin(r, "application/json", text ? text : "{}", text ? strlen(text) : 2)) {
		http_reply(r, 500, "text/plain", "", 0);
		return;
	}
	http_reply_header(r, "x-amzn-ErrorType", type);
	http_reply_end(r, status);
}
