/* SPDX-License-Identifier: Apache-2.0 */
/* http_client.h - requests to snapd over its unix socket (libcurl) */
#ifndef QUICKTHAW_COMMON_HTTP_CLIENT_H
#define QUICKTHAW_COMMON_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

struct http_client;

enum { HTTP_HEADERS_MAX = 32 };

/** struct http_header - one header of a reply; names are lower case. */
struct http_header {
	char name[64];
	char value[192];
};

/** struct http_reply - an answer. Zero it before the first use; reuse keeps its buffer. */
struct http_reply {
	long status;
	char *body; /**< NUL-terminated (the NUL is not counted) */
	size_t body_bytes;
	size_t body_size;
	struct http_header headers[HTTP_HEADERS_MAX];
	int header_count;
};

void http_reply_free(struct http_reply *r);
/** http_reply_header() - value of a header by its lower-case name, or NULL. */
const char *http_reply_header(const struct http_reply *r, const char *name);

/**
 * http_client_new() - a client of one server; its connection is kept between requests.
 * @socket_path: unix socket
 * Return: NULL when out of memory.
 */
struct http_client *http_client_new(const char *socket_path);
void http_client_free(struct http_client *c);

/** http_client_on_wait() - @fn(arg) is called several times a second while an answer is awaited. */
void http_client_on_wait(struct http_client *c, void (*fn)(void *arg), void *arg);

/**
 * http_client_request() - send one request and wait for its answer.
 * @body: may be NULL; @body_bytes of it
 * @headers: "Name: value" strings, NULL-terminated; may be NULL
 * Return: 0 with @reply filled (whatever the status), or -errno: -ECONNREFUSED when nobody listens,
 * -EIO when the connection broke. http_client_error() says more.
 */
int http_client_request(struct http_client *c, const char *method, const char *path,
			const void *body, size_t body_bytes, const char *const *headers,
			struct http_reply *reply);
const char *http_client_error(const struct http_client *c);

#endif
