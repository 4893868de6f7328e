/* SPDX-License-Identifier: Apache-2.0 */
/* http_api.h - the HTTP server: requests come whole, replies may come later */
#ifndef QUICKTHAW_SNAPD_HTTP_API_H
#define QUICKTHAW_SNAPD_HTTP_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define HTTP_BODY_MAX (6u << 20) /* Lambda's limit of a synchronous payload */
#define HTTP_UPLOAD_MAX                                                                            \
	69905067u /* of a request with a zip of 50 MiB by value, as Lambda has it                  \
		   */
#define HTTP_SIGNED_PREFIX "/quickthaw/v1/code/" /* below it, URLs are their own credentials */
#define HTTP_DOWNLOADS_MAX 4u			 /* files of http_reply_fd() in memory at once */
#define HTTP_UPLOADS_MAX   4u			 /* bodies over HTTP_BODY_MAX in memory at once */
#define HTTP_BODIES_MAX	   (1u << 30)		 /* bytes of all bodies */

enum { HTTP_CONNECTIONS_SPARE = 64 };

struct MHD_Connection;
struct MHD_Response;
struct http_auth;
struct http_door;
struct http_stream;
struct http_connection;
struct access_keys;

/**
 * struct http_request - one request, complete with its body.
 * @body: NUL-terminated, NULL when there is none; malloc'ed, may be taken (set it to NULL)
 * @body_max: what it may be long, by its route
 * @too_large: the body was longer than that and is not here
 * @too_many: it is not here, because HTTP_UPLOADS_MAX others of that size are, or HTTP_BODIES_MAX
 * @uri: path and query as they were on the wire; NULL on a unix socket
 * @rights: bits of enum access_right: what who sent it may do
 */
struct http_request {
	struct MHD_Connection *connection;
	struct http_door *door;
	struct http_connection *client;
	struct http_auth *auth;
	char *uri;
	const char *method;
	unsigned rights;
	char path[512];
	char *body;
	size_t body_bytes, body_size, body_max;
	bool too_large, too_many;
	bool download;	     /* counts as one of HTTP_DOWNLOADS_MAX */
	bool upload;	     /* counts as one of HTTP_UPLOADS_MAX */
	size_t body_counted; /* bytes of HTTP_BODIES_MAX */
	bool routed, suspended;
	unsigned status;
	size_t reply_bytes;
	bool identified; /* the reply has a request id */
	struct http_stream *stream;
	struct MHD_Response *response;
};

/** typedef http_router - called once per request; replies at once or later. */
typedef void (*http_router)(struct http_request *r);

/**
 * struct http_params - limits of the server.
 * @connections_max: at each listening socket
 * @peer_connections_max: of one address, over TCP
 * @client_timeout_s: what a client may take to send a header, to begin with a body, and to begin to
 *	read a reply
 * @client_rate_bytes: a second, at least: slower bodies and readers are cut off
 * @body_max: how long a body may be, by method and path; NULL: HTTP_BODY_MAX
 * @unsigned_status: reading the service's state needs no signature
 */
struct http_params {
	unsigned connections_max, peer_connections_max;
	unsigned client_timeout_s, client_rate_bytes;
	size_t (*body_max)(const char *method, const char *path);
	bool unsigned_status;
};

/** http_init() - before anything is served. */
void http_init(const struct http_params *params);
/**
 * http_listen_unix() - serve on a unix socket; who may write to it may do everything.
 * Removes a socket that nobody listens on. @group: (gid_t)-1 leaves it.
 * Return: 0, -EADDRINUSE (somebody does) or -errno.
 */
int http_listen_unix(const char *path, mode_t mode, gid_t group, http_router router);
/** http_listen_fd() - the same on a unix socket that somebody else listens on and will remove;
 * takes
 * @fd. */
int http_listen_fd(int fd, http_router router);
/**
 * http_listen_tcp() - serve on HOST:PORT or [HOST]:PORT; requests have to be signed.
 * @url: function URLs: whether they have to be signed is the router's to say
 * @ret_port: which port it is, where 0 was asked for; or NULL
 * Return: 0, -EINVAL (not an address), -EADDRNOTAVAIL (no such host), or -errno.
 */
int http_listen_tcp(const char *address, bool url, http_router router, unsigned *ret_port);
/** http_set_keys() - the keys that requests over TCP are signed with. Takes them; frees the last.
 */
void http_set_keys(struct access_keys *keys);
/** http_verify() - of a function URL that wants it: is the request signed? Return: false after a
 * reply. */
bool http_verify(struct http_request *r);
/**
 * http_inherit() - a listening socket of a snapd that hands over: http_listen_unix() or
 * http_listen_tcp() of its address uses it instead of making one. Takes @fd.
 * http_inherit_end(): those that nobody asked for are closed.
 */
void http_inherit(int fd);
void http_inherit_end(void);
/**
 * http_leave() - accept no more connections; another snapd will, on the same sockets.
 * @ret_fds: they stay ours, for http_resume() (accept connections again; return: 0 or -errno), or
 *	http_let_go() (the other one does). Return: how many.
 */
unsigned http_leave(int *ret_fds, unsigned max);
int http_resume(void);
void http_let_go(void);
/** http_quiesce() - accept no more connections; those that are there are served. */
void http_quiesce(void);
/** http_waiting() - requests whose answer is still to come. */
unsigned http_waiting(void);
/** http_finish() - send what is answered, close, remove the socket. */
void http_finish(void);

/**
 * http_hold() - its answer is a refusal because the node has more to do than it can: let those that
 * come next to the same door wait for a moment, or until somebody has a reply, whichever is first.
 * What comes in that time is answered together, which costs both sides fewer wakeups; and the CPU
 * is left to those who are served.
 */
void http_hold(struct http_request *r);

/** http_turn() - once per turn of the loop. */
void http_turn(void);
/** http_wait_ns() - how long until http_turn() has to run though nothing happens. */
uint64_t http_wait_ns(void);

/** http_header() - of the request; NULL: not there. http_query() - of its query string. */
const char *http_header(struct http_request *r, const char *name);
const char *http_query(struct http_request *r, const char *name);

/** http_header_each() - every header, in order; of one name there may be several. */
void http_header_each(struct http_request *r,
		      void (*each)(void *arg, const char *name, const char *value), void *arg);
/** http_peer() - the client's address as text, into @buf; "unix" at a unix socket. Return: @buf. */
const char *http_peer(struct http_request *r, char *buf, size_t size);
/** http_access_key() - who has signed it, after http_verify(). */
const char *http_access_key(const struct http_request *r);

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
/** http_may_download() - may this request be answered by http_reply_fd()? Not when too many are. */
bool http_may_download(struct http_request *r);
/** http_reply_fd() - answer with all of a file that lies in memory; @fd is taken over. */
void http_reply_fd(struct http_request *r, unsigned status, const char *type, int fd);
void http_reply_end(struct http_request *r, unsigned status);
/** http_reply_request_id() - the reply's X-Amzn-RequestId; without it, it gets one that is random.
 */
void http_reply_request_id(struct http_request *r, const char *id);
/** http_reply_json() - takes over a reference to @root; NULL: out of memory. */
void http_reply_json(struct http_request *r, unsigned status, json_t *root);
/** http_reply_error() - in the shape of the Lambda API. */
void http_reply_error(struct http_request *r, unsigned status, const char *type, const char *fmt,
		      ...) __attribute__((format(printf, 4, 5)));

/* ---- replies that are sent while they are being made, http_stream.c ---- */

enum { HTTP_STREAM_MAX = 16 << 20 };

/**
 * struct http_stream_events - what the client does.
 * @read: @unread bytes are left; nothing may be written in here
 * @closed: it has gone, or has read all; the request is no more
 */
struct http_stream_events {
	void (*read)(void *arg, size_t unread);
	void (*closed)(void *arg);
};

/** http_stream_begin() - instead of http_reply_begin(): headers may follow, then http_reply_end().
 * Return: 0 or -ENOMEM. */
int http_stream_begin(struct http_request *r, const char *type,
		      const struct http_stream_events *events, void *arg);
/** http_stream_write() - a copy of @data. Return: 0, -ENOMEM, or -ENOBUFS over HTTP_STREAM_MAX; the
 * client sees the connection break then. */
int http_stream_write(struct http_request *r, const void *data, size_t n);
/** http_stream_unread() - bytes that wait to be sent. */
size_t http_stream_unread(const struct http_request *r);
/** http_stream_end() - that was all. */
void http_stream_end(struct http_request *r);
/** http_stream_break() - there will be no more, but that was not all: the connection breaks. */
void http_stream_break(struct http_request *r);

#endif
