/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_api.c - the HTTP server: requests come whole, replies may come later
 *
 * libmicrohttpd runs without a thread: its epoll descriptor is one more thing that the loop polls.
 * A request whose answer takes time has its connection suspended; the reply resumes it, and the
 * next http_turn(), which is the same turn of the loop, sends it.
 */
#include "snapd/http_api.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/event_loop.h"
#include "snapd/metrics.h"

enum { BACKLOG = 512, CONNECTIONS_MAX = 1024, CONNECTION_MEMORY = 16 << 10, IDLE_TIMEOUT_S = 120 };

static struct {
	struct MHD_Daemon *daemon;
	http_router router;
	size_t (*body_max)(const char *method, const char *path);
	unsigned uploads;
	struct sockaddr_un address;
	int epoll_fd;
	bool due;   /* MHD_run() has something to do */
	bool armed; /* the poll is under way */
	unsigned suspended;
} http = {.epoll_fd = -1};

/* ---- requests -------------------------------------------------------------------------------- */

static struct http_request *request_new(struct MHD_Connection *connection, const char *url,
					const char *method)
{
	struct http_request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->connection = connection;
	r->method = method;
	if (snprintf(r->path, sizeof(r->path), "%s", url) >= (int)sizeof(r->path))
		r->path[0] = '\0'; /* no route */
	r->body_max = http.body_max ? http.body_max(method, r->path) : HTTP_BODY_MAX;
	return r;
}

static void request_free(struct http_request *r)
{
	if (r->response)
		MHD_destroy_response(r->response);
	http.uploads -= r->upload;
	free(r->body);
	free(r);
}

static void drop_body(struct http_request *r)
{
	free(r->body);
	r->body = NULL;
	r->body_bytes = r->body_size = 0;
}

/** A body becomes an upload: few of them have room in memory at a time. */
static bool may_upload(struct http_request *r)
{
	if (!r->upload && http.uploads < HTTP_UPLOADS_MAX) {
		r->upload = true;
		http.uploads++;
	}
	return r->upload;
}

/** Return: false without memory. */
static bool append_body(struct http_request *r, const char *data, size_t n)
{
	size_t size = r->body_size ? r->body_size : 4096;
	char *body;

	r->too_large |= n > r->body_max - r->body_bytes;
	if (!r->too_large && n + r->body_bytes > HTTP_BODY_MAX)
		r->too_many |= !may_upload(r);
	if (r->too_large || r->too_many) {
		drop_body(r);
		return true;
	}
	while (size < r->body_bytes + n + 1)
		size *= 2;
	if (size > r->body_size) {
		body = realloc(r->body, size);
		if (!body)
			return false;
		r->body = body;
		r->body_size = size;
	}
	memcpy(r->body + r->body_bytes, data, n);
	r->body_bytes += n;
	r->body[r->body_bytes] = '\0';
	return true;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *upload_data,
				  size_t *upload_data_size, void **con_cls)
{
	struct http_request *r = *con_cls;

	(void)cls;
	(void)version;
	if (!r) {
		*con_cls = request_new(connection, url, method);
		return *con_cls ? MHD_YES : MHD_NO;
	}
	if (*upload_data_size) {
		bool ok = append_body(r, upload_data, *upload_data_size);

		*upload_data_size = 0;
		return ok ? MHD_YES : MHD_NO;
	}
	if (!r->routed) {
		r->routed = true;
		http.router(r);
	}
	if (r->response)
		return MHD_queue_response(connection, r->status, r->response);
	r->suspended = true;
	http.suspended++;
	MHD_suspend_connection(connection);
	return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
			 enum MHD_RequestTerminationCode why)
{
	(void)cls;
	(void)connection;
	(void)why;
	if (*con_cls)
		request_free(*con_cls);
	*con_cls = NULL;
}

const char *http_header(struct http_request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

const char *http_query(struct http_request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
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

void http_reply_end(struct http_request *r, unsigned status)
{
	r->status = status;
	metrics_http(status);
	if (!r->suspended)
		return;
	r->suspended = false;
	http.suspended--;
	http.due = true;
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

void http_reply_json(struct http_request *r, unsigned status, json_t *root)
{
	CLEANUP_FREE char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

	json_decref(root);
	if (text)
		http_reply(r, status, "application/json", text, strlen(text));
	else
		http_reply_error(r, 500, "ServiceException", "out of memory");
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

/* ---- the server ------------------------------------------------------------------------------ */

static void on_epoll(const struct loop_event *event)
{
	(void)event;
	http.due = true;
	http.armed = false;
}

/** Is somebody there? A socket file without a listener is what a killed snapd leaves. */
static bool somebody_listens(void)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && !connect(fd, (struct sockaddr *)&http.address, sizeof(http.address));
}

static int make_socket(const char *path)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t mask;
	int ret;

	if (fd < 0)
		return -errno;
	http.address.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(http.address.sun_path))
		return -ENAMETOOLONG;
	memcpy(http.address.sun_path, path, strlen(path) + 1);
	if (somebody_listens())
		return -EADDRINUSE;
	unlink(path);
	mask = umask(0177);
	ret = bind(fd, (struct sockaddr *)&http.address, sizeof(http.address));
	umask(mask);
	if (ret || listen(fd, BACKLOG))
		return -errno;
	return steal_fd(&fd);
}

static void on_mhd_error(void *cls, const char *fmt, va_list ap)
{
	char text[256];
	int n = vsnprintf(text, sizeof(text), fmt, ap);

	(void)cls;
	while (n > 0 && n < (int)sizeof(text) && text[n - 1] == '\n')
		text[--n] = '\0';
	log_debug("http: %s", text);
}

void http_limit_bodies(size_t (*body_max)(const char *method, const char *path))
{
	http.body_max = body_max;
}

int http_init(const char *socket_path, http_router router)
{
	const union MHD_DaemonInfo *info;
	int fd = make_socket(socket_path);

	if (fd < 0)
		return fd;
	http.router = router;
	http.daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
		on_request, NULL, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_error, NULL,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S, MHD_OPTION_END);
	if (!http.daemon) {
		close(fd);
		return -ENOMEM;
	}
	info = MHD_get_daemon_info(http.daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info)
		return -ENOTSUP;
	http.epoll_fd = info->epoll_fd;
	event_loop_handle(LOOP_HTTP, on_epoll);
	http.due = true;
	return 0;
}

void http_turn(void)
{
	if (!http.due)
		return;
	http.due = false;
	MHD_run(http.daemon);
	/* One event at a time: when connections are still waiting, this fires at once. */
	if (!http.armed)
		event_loop_poll_once(LOOP_HTTP, 0, 0, http.epoll_fd);
	http.armed = true;
}

uint64_t http_wait_ns(void)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (http.due)
		return 0;
	if (MHD_get_timeout(http.daemon, &ms) != MHD_YES)
		return UINT64_MAX;
	if (!ms)
		http.due = true;
	return ms * 1000000ull;
}

void http_finish(void)
{
	if (!http.daemon)
		return;
	MHD_run(http.daemon);
	/* A connection that is still suspended cannot be closed; the end of the process does it. */
	if (!http.suspended)
		MHD_stop_daemon(http.daemon);
	unlink(http.address.sun_path);
	http.daemon = NULL;
}
