/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_fixture.h - the HTTP server with real sockets, and its clients
 *
 * A thread runs the event loop and a router that knows a few paths; the tests are its clients.
 */
#ifndef QUICKTHAW_HTTP_FIXTURE_H
#define QUICKTHAW_HTTP_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <nettle/base16.h>
#include <nettle/hmac.h>
#include <nettle/sha2.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/util.h"
#include "snapd/access_keys.h"
#include "snapd/event_loop.h"
#include "snapd/http_internal.h"

enum { CONNECTIONS = 12, PEER_CONNECTIONS = 6, PATIENCE_S = 60, BIG = 32 << 20, HELD_MAX = 16 };
enum { STREAM_HIGH = 64 << 10, STREAM_BYTES = 1 << 20 };

#define KEY    "AKIATEST"
#define READER "AKIAREADER"
#define SECRET "secretsecretsecret"

static struct {
	pthread_t thread;
	char socket_path[64], keys_path[64];
	unsigned port;
	_Atomic bool ready, stop;
	_Atomic unsigned used; /* connections that are open, as of the last turn */
	struct http_request *held[HELD_MAX];
	_Atomic unsigned held_count;
	char *big;
} server;

/* ---- the server ------------------------------------------------------------------------------ */

static inline void release_all(void)
{
	for (unsigned i = 0; i < server.held_count; i++)
		http_reply(server.held[i], 200, "text/plain", "released", 8);
	server.held_count = 0;
}

/* ---- a reply that is made while it is sent: "tick" again and again, or one that never ends ----
 */

static struct {
	struct http_request *request;
	_Atomic unsigned closed;
	_Atomic size_t most; /* bytes that waited to be read */
	_Atomic size_t written;
	size_t wanted;
} stream;

static inline void stream_more(void)
{
	static const char part[4096] = "tick";

	while (stream.request && stream.written < stream.wanted &&
	       http_stream_unread(stream.request) < STREAM_HIGH) {
		stream.written += sizeof(part);
		assert_int_equal(http_stream_write(stream.request, part, sizeof(part)), 0);
		stream.most = MAX(stream.most, http_stream_unread(stream.request));
	}
	if (stream.request && stream.written == stream.wanted)
		http_stream_end(stream.request);
}

static inline void on_stream_read(void *arg, size_t unread)
{
	(void)arg;
	(void)unread;
}

static inline void on_stream_closed(void *arg)
{
	(void)arg;
	stream.request = NULL;
	stream.closed++;
}

static inline void begin_stream(struct http_request *r, size_t wanted)
{
	static const struct http_stream_events events = {on_stream_read, on_stream_closed};

	assert_int_equal(http_stream_begin(r, "text/plain", &events, NULL), 0);
	stream.request = r;
	stream.written = 0;
	stream.wanted = wanted;
	stream.most = 0;
	http_reply_end(r, 200);
}

static inline void route(struct http_request *r)
{
	if (r->too_large) {
		http_reply_error(r, 413, "RequestTooLargeException", "too large");
	} else if (!strcmp(r->path, "/big")) {
		http_reply(r, 200, "text/plain", server.big, BIG);
	} else if (!strcmp(r->path, "/stream")) {
		begin_stream(r, STREAM_BYTES);
	} else if (!strcmp(r->path, "/endless")) {
		begin_stream(r, SIZE_MAX);
	} else if (!strcmp(r->path, "/silent")) {
		begin_stream(r, SIZE_MAX - 1);
		stream.written = SIZE_MAX;
	} else if (!strcmp(r->path, "/hold")) {
		server.held[server.held_count++] = r;
	} else if (!strcmp(r->path, "/busy")) {
		http_hold(r);
		http_reply(r, 429, "text/plain", "busy", 4);
	} else if (!strcmp(r->path, "/release")) {
		release_all();
		http_reply(r, 200, "text/plain", "ok", 2);
	} else {
		http_reply(r, 200, "text/plain", r->body ? r->body : "none",
			   r->body ? r->body_bytes : 4);
	}
}

static inline void count_used(struct http_connection *c, void *arg)
{
	*(unsigned *)arg += c->phase != HTTP_FREE;
}

static inline void turn(void)
{
	unsigned used = 0;

	stream_more();
	http_turn();
	http_for_each_connection(count_used, &used);
	server.used = used;
	if (server.stop)
		event_loop_stop();
}

static inline uint64_t wait_ns(void)
{
	return MIN(http_wait_ns(), (uint64_t)5000000);
}

static inline size_t body_max(const char *method, const char *path)
{
	(void)method;
	return !strcmp(path, "/upload") ? HTTP_UPLOAD_MAX : 1u << 20;
}

static inline void *serve(void *arg)
{
	static const struct loop_hooks hooks = {.turn = turn, .wait_ns = wait_ns};
	char address[] = "127.0.0.1:0", error[ACCESS_KEYS_ERROR_MAX];
	const struct http_params params = {
		.connections_max = CONNECTIONS,
		.peer_connections_max = PEER_CONNECTIONS,
		.client_timeout_s = 2,
		.client_rate_bytes = 1024,
		.body_max = body_max,
	};

	(void)arg;
	assert_int_equal(event_loop_init(), 0);
	http_init(&params);
	http_set_keys(access_keys_read(server.keys_path, error));
	assert_int_equal(http_listen_unix(server.socket_path, 0640, (gid_t)-1, route), 0);
	assert_int_equal(http_listen_tcp(address, false, route, &server.port), 0);
	server.ready = true;
	event_loop_run(&hooks);
	release_all();
	http_finish();
	http_set_keys(NULL);
	event_loop_finish();
	return NULL;
}

static inline int start(void **state)
{
	FILE *f;

	(void)state;
	server.big = calloc(1, BIG);
	snprintf(server.socket_path, sizeof(server.socket_path), "/tmp/quickthaw-http.%d",
		 (int)getpid());
	snprintf(server.keys_path, sizeof(server.keys_path), "/tmp/quickthaw-http-keys.%d",
		 (int)getpid());
	f = fopen(server.keys_path, "w");
	fchmod(fileno(f), 0600);
	fprintf(f, KEY " " SECRET "\n" READER " " SECRET " read\n");
	fclose(f);
	pthread_create(&server.thread, NULL, serve, NULL);
	while (!server.ready)
		usleep(1000);
	return 0;
}

static inline int stop(void **state)
{
	(void)state;
	server.stop = true;
	pthread_join(server.thread, NULL);
	unlink(server.keys_path);
	free(server.big);
	return 0;
}

/* ---- clients --------------------------------------------------------------------------------- */

static inline void limit_waits(int fd)
{
	struct timeval tv = {.tv_sec = PATIENCE_S};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

static inline int dial_unix(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", server.socket_path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	limit_waits(fd);
	return fd;
}

static inline int dial_tcp(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server.port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	limit_waits(fd);
	return fd;
}

static inline void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/** The server may have given up on us: that is what the test wants to see. */
static inline bool try_say(int fd, const char *text, size_t n)
{
	return send(fd, text, n, MSG_NOSIGNAL) == (ssize_t)n;
}

/** Everything until the connection ends, or until a reply whose length is known is here. */
static inline const char *hear(int fd)
{
	static char text[1 << 16];
	size_t n = 0;

	for (;;) {
		ssize_t got = recv(fd, text + n, sizeof(text) - 1 - n, 0);
		const char *body, *length;

		assert_false(got < 0 && errno == EAGAIN); /* PATIENCE_S without a word */
		if (got <= 0)
			break;
		n += (size_t)got;
		text[n] = '\0';
		body = strstr(text, "\r\n\r\n");
		length = strcasestr(text, "content-length:");
		if (body && length &&
		    n >= (size_t)(body + 4 - text) + strtoul(length + 15, NULL, 10))
			break;
	}
	text[n] = '\0';
	return text;
}

static inline const char *hear_head(int fd)
{
	static char text[1 << 12];
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static inline void assert_ends(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, 0);

	if (n > 0 || (n < 0 && errno == EAGAIN))
		fail_msg("the connection is still open");
	close(fd);
}

static inline void assert_status(const char *reply, const char *status)
{
	if (strncmp(reply, "HTTP/1.1 ", 9) || strncmp(reply + 9, status, strlen(status)))
		fail_msg("wanted status %s, got: %.200s", status, reply);
}

static inline void assert_has(const char *reply, const char *text)
{
	if (!strcasestr(reply, text))
		fail_msg("no %s in: %.400s", text, reply);
}

static inline void wait_for_used(unsigned count)
{
	for (int i = 0; i < PATIENCE_S * 200 && server.used != count; i++)
		usleep(5000);
	assert_int_equal(server.used, count);
}

static inline int setup(void **state)
{
	(void)state;
	wait_for_used(0);
	return 0;
}

/* ---- a signature, made in another way than it is verified --------------------------------------
 */

static inline void hmac(const void *key, size_t n, const char *text, uint8_t *ret)
{
	struct hmac_sha256_ctx ctx;

	hmac_sha256_set_key(&ctx, n, key);
	hmac_sha256_update(&ctx, strlen(text), (const uint8_t *)text);
	hmac_sha256_digest(&ctx, 32, ret);
}

static inline void sha256_hex(const char *text, char *ret)
{
	struct sha256_ctx ctx;
	uint8_t digest[32];

	sha256_init(&ctx);
	sha256_update(&ctx, strlen(text), (const uint8_t *)text);
	sha256_digest(&ctx, 32, digest);
	base16_encode_update(ret, 32, digest);
	ret[64] = '\0';
}

/** A request with its signature; @extra: headers that are not signed. */
static inline const char *signed_request(const char *key, const char *secret, const char *method,
					 const char *path, const char *body, const char *extra)
{
	static char request[4096];
	char canonical[1024], hash[65], scope[64], date[17], text[512], first[128];
	uint8_t k[32];
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", &tm);
	snprintf(scope, sizeof(scope), "%.8s/us-east-1/lambda/aws4_request", date);
	sha256_hex(body, hash);
	snprintf(canonical, sizeof(canonical),
		 "%s\n%s\n\nhost:localhost\nx-amz-date:%s\n\nhost;x-amz-date\n%s", method, path,
		 date, hash);
	sha256_hex(canonical, hash);
	snprintf(text, sizeof(text), "AWS4-HMAC-SHA256\n%s\n%s\n%s", date, scope, hash);
	snprintf(first, sizeof(first), "AWS4%s", secret);
	snprintf(canonical, sizeof(canonical), "%.8s", date);
	hmac(first, strlen(first), canonical, k);
	hmac(k, 32, "us-east-1", k);
	hmac(k, 32, "lambda", k);
	hmac(k, 32, "aws4_request", k);
	hmac(k, 32, text, k);
	base16_encode_update(hash, 32, k);
	hash[64] = '\0';
	snprintf(request, sizeof(request),
		 "%s %s HTTP/1.1\r\nHost: localhost\r\nX-Amz-Date: %s\r\nContent-Length: %zu\r\n"
		 "Authorization: AWS4-HMAC-SHA256 Credential=%s/%s, "
		 "SignedHeaders=host;x-amz-date, Signature=%s\r\n%s\r\n%s",
		 method, path, date, strlen(body), key, scope, hash, extra, body);
	return request;
}

#endif
