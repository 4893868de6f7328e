/* SPDX-License-Identifier: Apache-2.0 */
/* http_api.h - the HTTP server: requests come whole, replies may come later */
#ifndef QUICKTHAW_SNAPD_HTTP_API_H
#define QUICKTHAW_SNAPD_HTTP_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_BODY_MAX	(6u << 20) /* Lambda's limit of a synchronous payload */
#define HTTP_UPLOAD_MAX 69905067u  /* of a request with a zip of 50 MiB by value, as Lambda has it \
				    */
#define HTTP_UPLOADS_MAX 4u	   /* bodies over HTTP_BODY_MAX in memory at once */

struct MHD_Connection;
struct MHD_Response;

/**
 * struct http_request - one request, complete with its body.
 * @body: NUL-terminated, NULL when there is none; malloc'ed, may be taken (set it to NULL)
 * @body_max: what it may be long, by its route
 * @too_large: the body was longer than that and is not here
 * @too_many: it is not here, because HTTP_UPLOADS_MAX others of that size are
 */
struct http_request {
	struct MHD_Connection *connection;
	const char *method;
	char path[512];
	char *body;
	size_t body_bytes, body_size, body_max;
	bool too_large, too_many;
	bool upload; /* counts as one of HTTP_UPLOADS_MAX */
	bool routed, suspended;
	unsigned status;
	struct MHD_Response *response;
};

/** typedef http_router - called once per request; replies at once or later. */
typedef void (*http_router)(struct http_request *r);

/**
 * http_init() - serve on a unix socket.
 * Removes a socket that nobody listens on. Return: 0, -EADDRINUSE (somebody does) or -errno.
 */
int http_init(const char *socket_path, http_router router);
/** http_limit_bodies() - how long a body may be, by method and path; without it HTTP_BODY_MAX. */
void http_limit_bodies(size_t (*body_max)(const char *method, const char *path));
/** http_finish() - send what is answered, close, remove the socket. */
void http_finish(void);

/** http_turn() - once per turn of the loop. */
void http_turn(void);
/** http_wait_ns() - how long until http_turn() has to run though nothing happens. */
uint64_t http_wait_ns(void);

/** http_header() - of the request; NULL: not there. http_query() - of its query string. */
const char *http_header(struct http_request *r, const char *name);
const char *http_query(struct http_request *r, const char *name);

/** http_query_each() - every value of a parameter that may be repeated. Return: how many. */
unsigned http_query_each(struct http_request *r, const char *name,
			 void (*each)(void *arg, const char *value), void *arg);

/** http_reply() - answer with a copy of @body; headers are added with http_reply_header() before.
 */
void http_reply(struct http_request *r, unsigned status, const char *type, const void *body,
		size_t body_bytes);
/** http_reply_begin(), http_reply_header(), http_reply_end(): the same, with headers. */
int http_reply_begin(struct http_request *r, const char *type, const void *body, size_t body_bytes);
void http_reply_header(struct http_request *r, const char *name, const char *value);
void http_reply_header_u64(struct http_request *r, const char *name, uint64_t value);
void http_reply_end(struct http_request *r, unsigned status);
/** http_reply_json() - takes over a reference to @root; NULL: out of memory. */
void http_reply_json(struct http_request *r, unsigned status, json_t *root);
/** http_reply_error() - in the shape of the Lambda API. */
void http_reply_error(struct http_request *r, unsigned status, const char *type, const char *fmt,
		      ...) __attribute__((format(printf, 4, 5)));

#endif
