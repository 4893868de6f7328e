/* SPDX-License-Identifier: Apache-2.0 */
/* http_internal.h - what the files of the HTTP server share */
#ifndef QUICKTHAW_SNAPD_HTTP_INTERNAL_H
#define QUICKTHAW_SNAPD_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "snapd/http_api.h"

enum { HTTP_DOORS_MAX = 16 };

/** What a connection is at; each has its time, see http_limits.c. */
enum http_phase {
	HTTP_FREE,
	HTTP_OPENED,	/**< the header of a request is awaited */
	HTTP_BODY,	/**< its body */
	HTTP_ANSWERING, /**< we are at it */
	HTTP_REPLY,	/**< the client reads the reply */
	HTTP_STREAM,	/**< the client reads a reply that is still being made */
	HTTP_IDLE,	/**< kept for another request */
	HTTP_REFUSED,	/**< told that there are too many; its end is awaited */
	HTTP_CUT,	/**< shut down by us */
	HTTP_PHASE_COUNT
};

struct http_door;

/**
 * struct http_connection - a client. An entry of its door's table.
 * @peer: who it is, to be counted; of IPv6 the network's half
 * @since_ns, @bytes: when the phase began, and what has moved since then
 * @read_bytes: what the client had read when that was last asked; UINT64_MAX: never
 * @deadline_ns: when that was too slow; UINT64_MAX: never
 */
struct http_connection {
	enum http_phase phase;
	struct http_door *door;
	struct http_connection *next_free;
	int fd;
	struct in6_addr peer;
	uint64_t since_ns, bytes, read_bytes, deadline_ns;
};

/**
 * struct http_door - one listening socket with its own libmicrohttpd.
 * @tcp: peers are counted, and what they ask has to be signed
 * @url: function URLs: nothing has to be signed, but may be
 * @due: MHD_run() has something to do
 * @answers: and that is a reply
 * @held_ns: until then it is run for replies only, see http_hold()
 * @armed: the poll of its epoll descriptor is under way
 * @suspended: connections whose answers are awaited
 * @used: entries of the table
 */
struct http_door {
	struct MHD_Daemon *daemon;
	http_router router;
	bool tcp, url;
	bool due, answers, armed;
	uint64_t held_ns;
	int epoll_fd;
	unsigned suspended;
	struct http_connection *table, *first_free;
	unsigned used;
	unsigned port;
	int left_fd; /**< http_leave(): its listening socket; else -1 */
	struct sockaddr_un unix_address;
};

extern struct http_params http_params;

/* http_limits.c */

/** http_connections_init() - the table of a door. Return: 0 or -ENOMEM. */
int http_connections_init(struct http_door *door);
/** http_connection_open() - an accepted socket. Return: its entry, refused or not; NULL: none. */
struct http_connection *http_connection_open(struct http_door *door, int fd,
					     const struct sockaddr *peer);
void http_connection_close(struct http_connection *c);
/** http_connection_enter() - its next phase; @bytes: of the reply. */
void http_connection_enter(struct http_connection *c, enum http_phase phase, uint64_t bytes);
/** http_limits_check() - cut those whose time is over. http_limits_next_ns(): when to call it. */
void http_limits_check(uint64_t now_ns);
uint64_t http_limits_next_ns(void);

/* http_listener.c */

/** http_for_each_connection() - every entry of every door. */
void http_for_each_connection(void (*visit)(struct http_connection *c, void *arg), void *arg);

/* http_api.c: callbacks of libmicrohttpd. */
enum MHD_Result http_on_request(void *cls, struct MHD_Connection *connection, const char *url,
				const char *method, const char *version, const char *upload_data,
				size_t *upload_data_size, void **con_cls);
void *http_on_uri(void *cls, const char *uri, struct MHD_Connection *connection);
void http_on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
		       enum MHD_RequestTerminationCode why);

/* http_stream.c */

/** http_stream_free() - of a request that ends. */
void http_stream_free(struct http_request *r);

/* http_auth.c */

struct http_auth;

/**
 * http_auth_begin() - the header is here: who does the client say it is?
 * Return: false after a reply.
 */
bool http_auth_begin(struct http_request *r);
/** http_auth_body() - a part of the body. */
void http_auth_body(struct http_request *r, const void *data, size_t n);
/** http_auth_end() - all is here: is it so, and may it do this? Return: false after a reply. */
bool http_auth_end(struct http_request *r);
void http_auth_free(struct http_auth *auth);

#endif
