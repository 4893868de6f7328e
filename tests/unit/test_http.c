/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_http.c - the HTTP server with real sockets and clients that are slow, many, or hostile
 *
 * A thread runs the event loop and a router that knows a few paths; the tests are its clients.
 * `test_http --serve` prints its port and serves until its input ends, for clients that somebody
 * else wrote.
 */
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

static void release_all(void)
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

static void stream_more(void)
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

static void on_stream_read(void *arg, size_t unread)
{
	(void)arg;
	(void)unread;
}

static void on_stream_closed(void *arg)
{
	(void)arg;
	stream.request = NULL;
	stream.closed++;
}

static void begin_stream(struct http_request *r, size_t wanted)
{
	static const struct http_stream_events events = {on_stream_read, on_stream_closed};

	assert_int_equal(http_stream_begin(r, "text/plain", &events, NULL), 0);
	stream.request = r;
	stream.written = 0;
	stream.wanted = wanted;
	stream.most = 0;
	http_reply_end(r, 200);
}

static void route(struct http_request *r)
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
	} else if (!strcmp(r->path, "/release")) {
		release_all();
		http_reply(r, 200, "text/plain", "ok", 2);
	} else {
		http_reply(r, 200, "text/plain", r->body ? r->body : "none",
			   r->body ? r->body_bytes : 4);
	}
}

static void count_used(struct http_connection *c, void *arg)
{
	*(unsigned *)arg += c->phase != HTTP_FREE;
}

static void turn(void)
{
	unsigned used = 0;

	stream_more();
	http_turn();
	http_for_each_connection(count_used, &used);
	server.used = used;
	if (server.stop)
		event_loop_stop();
}

static uint64_t wait_ns(void)
{
	return MIN(http_wait_ns(), (uint64_t)5000000);
}

static size_t body_max(const char *method, const char *path)
{
	(void)method;
	return !strcmp(path, "/upload") ? HTTP_UPLOAD_MAX : 1u << 20;
}

static void *serve(void *arg)
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

static int start(void **state)
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

static int stop(void **state)
{
	(void)state;
	server.stop = true;
	pthread_join(server.thread, NULL);
	unlink(server.keys_path);
	free(server.big);
	return 0;
}

/* ---- clients --------------------------------------------------------------------------------- */

static void limit_waits(int fd)
{
	struct timeval tv = {.tv_sec = PATIENCE_S};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

static int dial_unix(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", server.socket_path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	limit_waits(fd);
	return fd;
}

static int dial_tcp(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server.port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	limit_waits(fd);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/** The server may have given up on us: that is what the test wants to see. */
static bool try_say(int fd, const char *text, size_t n)
{
	return send(fd, text, n, MSG_NOSIGNAL) == (ssize_t)n;
}

/** Everything until the connection ends, or until a reply whose length is known is here. */
static const char *hear(int fd)
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

static const char *hear_head(int fd)
{
	static char text[1 << 12];
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void assert_ends(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, 0);

	if (n > 0 || (n < 0 && errno == EAGAIN))
		fail_msg("the connection is still open");
	close(fd);
}

static void assert_status(const char *reply, const char *status)
{
	if (strncmp(reply, "HTTP/1.1 ", 9) || strncmp(reply + 9, status, strlen(status)))
		fail_msg("wanted status %s, got: %.200s", status, reply);
}

static void assert_has(const char *reply, const char *text)
{
	if (!strcasestr(reply, text))
		fail_msg("no %s in: %.400s", text, reply);
}

static void wait_for_used(unsigned count)
{
	for (int i = 0; i < PATIENCE_S * 200 && server.used != count; i++)
		usleep(5000);
	assert_int_equal(server.used, count);
}

static int setup(void **state)
{
	(void)state;
	wait_for_used(0);
	return 0;
}

/* ---- a signature, made in another way than it is verified --------------------------------------
 */

static void hmac(const void *key, size_t n, const char *text, uint8_t *ret)
{
	struct hmac_sha256_ctx ctx;

	hmac_sha256_set_key(&ctx, n, key);
	hmac_sha256_update(&ctx, strlen(text), (const uint8_t *)text);
	hmac_sha256_digest(&ctx, 32, ret);
}

static void sha256_hex(const char *text, char *ret)
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
static const char *signed_request(const char *key, const char *secret, const char *method,
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

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_requests_one_after_the_other(void **state)
{
	int fd = dial_unix();
	const char *reply;

	(void)state;
	for (int i = 0; i < 3; i++) {
		say(fd, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
		reply = hear(fd);
		assert_status(reply, "200");
		assert_has(reply, "\r\n\r\nhello");
	}
	close(fd);
}

static void test_socket_mode(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(stat(server.socket_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
}

static void test_unsigned(void **state)
{
	int fd = dial_tcp();
	const char *reply;

	(void)state;
	say(fd, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
	reply = hear(fd);
	assert_status(reply, "403");
	assert_has(reply, "x-amzn-ErrorType: MissingAuthenticationTokenException");
	close(fd);

	fd = dial_tcp();
	say(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_status(hear(fd), "200");
	close(fd);

	/* Reading only; and the state of the service was not opened. */
	fd = dial_tcp();
	say(fd, "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
	assert_status(hear(fd), "403");
	close(fd);
	fd = dial_tcp();
	say(fd, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_status(hear(fd), "403");
	close(fd);
}

static void test_strangers_send_no_body(void **state)
{
	int fd = dial_tcp();

	(void)state;
	say(fd, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
	assert_status(hear(fd), "403"); /* though the body has not come */
	assert_ends(fd);
}

static void test_signed(void **state)
{
	int fd = dial_tcp();
	const char *reply;

	(void)state;
	/* One connection, and a key that is kept from one to the next. */
	for (int i = 0; i < 3; i++) {
		say(fd, signed_request(KEY, SECRET, "POST", "/x", "{\"a\": 1}", ""));
		reply = hear(fd);
		assert_status(reply, "200");
		assert_has(reply, "\r\n\r\n{\"a\": 1}");
	}
	close(fd);
}

static void test_wrongly_signed(void **state)
{
	static const struct {
		const char *key, *secret, *extra, *type;
	} cases[] = {
		{KEY, SECRET "x", "", "InvalidSignatureException"},
		{"AKIAOTHER", SECRET, "", "UnrecognizedClientException"},
		{KEY, SECRET, "X-Amz-Security-Token: t\r\n", "UnrecognizedClientException"},
		{KEY, SECRET, "X-Amz-Invocation-Type: Event\r\n", "InvalidSignatureException"},
		{KEY, SECRET, "X-Amz-Content-SHA256: 00\r\n", "InvalidSignatureException"},
		{READER, SECRET, "", "AccessDeniedException"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = dial_tcp();
		const char *reply;

		say(fd, signed_request(cases[i].key, cases[i].secret, "POST", "/x", "body",
				       cases[i].extra));
		reply = hear(fd);
		assert_status(reply, "403");
		assert_has(reply, cases[i].type);
		close(fd);
	}
}

static void test_another_body_than_signed(void **state)
{
	int fd = dial_tcp();
	char *request = strdup(signed_request(KEY, SECRET, "POST", "/x", "body", ""));

	(void)state;
	strcpy(strstr(request, "\r\n\r\nbody") + 4, "bodX");
	say(fd, request);
	assert_status(hear(fd), "403");
	close(fd);
	free(request);
}

static void test_reader_may_read(void **state)
{
	int fd = dial_tcp();

	(void)state;
	say(fd, signed_request(READER, SECRET, "GET", "/x", "", ""));
	assert_status(hear(fd), "200");
	close(fd);
}

/** Send @text byte by byte, slower than allowed. Return: false when the server has given up. */
static bool trickle(int fd, const char *text, unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		if (!try_say(fd, text, 1) || poll(&p, 1, 100) > 0)
			return false;
	}
	return true;
}

static void test_slow_header(void **state)
{
	int fd = dial_unix(), other;
	const char *reply;

	(void)state;
	say(fd, "GET /x HTTP/1.1\r\nX-Slow: ");
	assert_false(trickle(fd, "a", PATIENCE_S * 10));
	reply = hear(fd);
	assert_status(reply, "408");
	assert_has(reply, "RequestTimeoutException");
	assert_ends(fd);

	/* Who says nothing at all is not kept either, and nobody else has to wait. */
	fd = dial_unix();
	other = dial_unix();
	say(other, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_status(hear(other), "200");
	close(other);
	assert_status(hear(fd), "408");
	assert_ends(fd);
}

static void test_slow_header_of_second_request(void **state)
{
	int fd = dial_tcp();

	(void)state;
	say(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_status(hear(fd), "200");
	say(fd, "GET /healthz HTTP/1.1\r\nX-Slow: ");
	assert_false(trickle(fd, "a", PATIENCE_S * 10));
	assert_status(hear(fd), "408");
	assert_ends(fd);
}

static void test_slow_body(void **state)
{
	int fd = dial_unix();

	(void)state;
	say(fd, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
	assert_false(trickle(fd, "a", PATIENCE_S * 10));
	assert_status(hear(fd), "408");
	assert_ends(fd);
}

/* Longer than the timeout as a whole, but never slower than the rate. */
static void test_steady_body(void **state)
{
	int fd = dial_unix();
	char part[1024];

	(void)state;
	memset(part, 'a', sizeof(part));
	say(fd, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 12288\r\n\r\n");
	for (int i = 0; i < 12; i++) {
		assert_true(try_say(fd, part, sizeof(part)));
		usleep(250000);
	}
	assert_status(hear(fd), "200");
	close(fd);
}

static void test_reply_that_nobody_reads(void **state)
{
	int fd = dial_tcp(), other;

	(void)state;
	say(fd, signed_request(KEY, SECRET, "GET", "/big", "", ""));
	wait_for_used(1);
	other = dial_unix();
	say(other, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_status(hear(other), "200");
	close(other);
	wait_for_used(0); /* given up on, though it is still there */
	close(fd);
}

/* Longer than the timeout as a whole, but never slower than the rate. */
static void test_reply_that_is_read_steadily(void **state)
{
	static char part[1 << 20];
	int fd = dial_tcp();
	size_t got = 0;

	(void)state;
	say(fd, signed_request(KEY, SECRET, "GET", "/big", "", ""));
	while (got < BIG) {
		ssize_t n = recv(fd, part, sizeof(part), MSG_WAITALL);

		if (n <= 0)
			fail_msg("cut off after %zu bytes", got);
		got += (size_t)n;
		usleep(100000);
	}
	close(fd);
}

static void test_clients_that_go_away(void **state)
{
	int held[4], fd;

	(void)state;
	for (int i = 0; i < 4; i++) {
		held[i] = dial_unix();
		say(held[i], "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
	}
	while (server.held_count != 4)
		usleep(1000);
	for (int i = 0; i < 3; i++)
		close(held[i]);
	fd = dial_unix();
	say(fd, "GET /release HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_status(hear(fd), "200");
	close(fd);
	assert_has(hear(held[3]), "released");
	close(held[3]);
	wait_for_used(0);
}

/** Everything until the connection ends. Return: bytes. */
static size_t hear_all(int fd)
{
	static char part[1 << 16];
	size_t n = 0;
	ssize_t got;

	while ((got = recv(fd, part, sizeof(part), 0)) > 0)
		n += (size_t)got;
	assert_false(got < 0 && errno == EAGAIN);
	return n;
}

static void test_stream(void **state)
{
	int fd = dial_unix();
	size_t n;

	(void)state;
	say(fd, "GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
	n = hear_all(fd);
	assert_true(n > STREAM_BYTES && n < STREAM_BYTES + (64 << 10)); /* with chunks' heads */
	close(fd);
	wait_for_used(0);
	assert_null(stream.request);
}

/* Its buffer does not grow, it is cut off, and whoever writes is told. */
static void test_stream_that_nobody_reads(void **state)
{
	unsigned before = stream.closed;
	int fd = dial_tcp();

	(void)state;
	say(fd, signed_request(KEY, SECRET, "GET", "/endless", "", ""));
	while (stream.closed == before)
		usleep(5000);
	wait_for_used(0);
	assert_true(stream.most <= STREAM_HIGH + 4096);
	close(fd);
}

static void test_stream_whose_client_goes_away(void **state)
{
	unsigned before = stream.closed;
	int fd = dial_tcp();
	char part[1000];

	(void)state;
	say(fd, signed_request(KEY, SECRET, "GET", "/endless", "", ""));
	assert_int_equal(recv(fd, part, sizeof(part), MSG_WAITALL), sizeof(part));
	close(fd);
	wait_for_used(0);
	assert_int_equal(stream.closed, before + 1);
}

/* As long as nothing is written, the client is not slow: it may wait longer than its timeout. */
static void test_stream_that_says_nothing(void **state)
{
	struct pollfd p = {.fd = dial_unix(), .events = POLLIN};

	(void)state;
	say(p.fd, "GET /silent HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_int_equal(poll(&p, 1, PATIENCE_S * 1000), 1); /* the head */
	assert_has(hear_head(p.fd), "Transfer-Encoding: chunked");
	assert_int_equal(poll(&p, 1, 4000), 0);
	stream.written = 0; /* endless from now on */
	assert_int_equal(poll(&p, 1, PATIENCE_S * 1000), 1);
	close(p.fd);
	wait_for_used(0);
}

static void test_header_too_large(void **state)
{
	int fd = dial_unix();
	char part[1024];

	(void)state;
	memset(part, 'a', sizeof(part));
	say(fd, "GET /x HTTP/1.1\r\nX-Long: ");
	for (int i = 0; i < 64 && try_say(fd, part, sizeof(part)); i++)
		usleep(1000);
	assert_status(hear(fd), "431");
	close(fd);
}

static void test_body_too_large(void **state)
{
	char *part = calloc(1, 1 << 20);
	int fd = dial_unix();

	(void)state;
	say(fd, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2097152\r\n\r\n");
	assert_true(try_say(fd, part, 1 << 20));
	assert_true(try_say(fd, part, 1 << 20));
	assert_status(hear(fd), "413");
	/* Whoever has read its answer may go on. */
	say(fd, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_status(hear(fd), "200");
	close(fd);
	free(part);
}

static void test_garbage(void **state)
{
	static const char *const texts[] = {
		"\r\n\r\n\r\n\r\n",
		"GET\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"GET / HTTP/9.9\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	};
	const char *reply;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		int fd = dial_unix();

		say(fd, texts[i]);
		reply = hear(fd); /* an error, or nothing but the end */
		if (*reply && strncmp(reply, "HTTP/1.1 4", 10) && strncmp(reply, "HTTP/1.1 5", 10))
			fail_msg("%zu was answered: %.100s", i, reply);
		close(fd);
	}
}

static void test_too_many_connections(void **state)
{
	int fds[CONNECTIONS], fd;

	(void)state;
	for (int i = 0; i < CONNECTIONS; i++) {
		fds[i] = dial_unix();
		say(fds[i], "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
		assert_status(hear(fds[i]), "200");
	}
	fd = dial_unix();
	assert_status(hear(fd), "503");
	close(fd);
	for (int i = 0; i < CONNECTIONS; i++)
		close(fds[i]);
	wait_for_used(0);
	fd = dial_unix();
	say(fd, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_status(hear(fd), "200");
	close(fd);
}

/* Somebody who opens connections for ever holds up nobody: not even its own are kept. */
static void test_refused_clients_do_not_stay(void **state)
{
	int fds[CONNECTIONS + HTTP_CONNECTIONS_SPARE];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = dial_unix();
	for (size_t i = CONNECTIONS; i < ARRAY_SIZE(fds); i++) {
		assert_status(hear(fds[i]), "503");
		assert_ends(fds[i]);
	}
	for (int i = 0; i < CONNECTIONS; i++)
		close(fds[i]);
	wait_for_used(0);
	fds[0] = dial_unix();
	say(fds[0], "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_status(hear(fds[0]), "200");
	close(fds[0]);
}

static void test_too_many_of_a_peer(void **state)
{
	int fds[PEER_CONNECTIONS], fd;

	(void)state;
	for (int i = 0; i < PEER_CONNECTIONS; i++) {
		fds[i] = dial_tcp();
		say(fds[i], "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
		assert_status(hear(fds[i]), "200");
	}
	fd = dial_tcp();
	assert_status(hear(fd), "503");
	close(fd);
	fd = dial_unix(); /* another door */
	say(fd, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_status(hear(fd), "200");
	close(fd);
	for (int i = 0; i < PEER_CONNECTIONS; i++)
		close(fds[i]);
	wait_for_used(0);
	fd = dial_tcp();
	say(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_status(hear(fd), "200");
	close(fd);
}

static void test_addresses(void **state)
{
	static const char *const bad[] = {"",	 "8080",   ":8080", "localhost", "host:",
					  "h:x", "::1:80", "[]:80", "h:123456",	 "h:-1"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(http_listen_tcp(bad[i], false, route, NULL), -EINVAL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_requests_one_after_the_other, setup),
		cmocka_unit_test_setup(test_socket_mode, setup),
		cmocka_unit_test_setup(test_unsigned, setup),
		cmocka_unit_test_setup(test_strangers_send_no_body, setup),
		cmocka_unit_test_setup(test_signed, setup),
		cmocka_unit_test_setup(test_wrongly_signed, setup),
		cmocka_unit_test_setup(test_another_body_than_signed, setup),
		cmocka_unit_test_setup(test_reader_may_read, setup),
		cmocka_unit_test_setup(test_slow_header, setup),
		cmocka_unit_test_setup(test_slow_header_of_second_request, setup),
		cmocka_unit_test_setup(test_slow_body, setup),
		cmocka_unit_test_setup(test_steady_body, setup),
		cmocka_unit_test_setup(test_reply_that_nobody_reads, setup),
		cmocka_unit_test_setup(test_reply_that_is_read_steadily, setup),
		cmocka_unit_test_setup(test_clients_that_go_away, setup),
		cmocka_unit_test_setup(test_stream, setup),
		cmocka_unit_test_setup(test_stream_that_nobody_reads, setup),
		cmocka_unit_test_setup(test_stream_whose_client_goes_away, setup),
		cmocka_unit_test_setup(test_stream_that_says_nothing, setup),
		cmocka_unit_test_setup(test_header_too_large, setup),
		cmocka_unit_test_setup(test_body_too_large, setup),
		cmocka_unit_test_setup(test_garbage, setup),
		cmocka_unit_test_setup(test_too_many_connections, setup),
		cmocka_unit_test_setup(test_refused_clients_do_not_stay, setup),
		cmocka_unit_test_setup(test_too_many_of_a_peer, setup),
		cmocka_unit_test_setup(test_addresses, setup),
	};

	if (argc == 2 && !strcmp(argv[1], "--serve")) {
		start(NULL);
		printf("%u\n", server.port);
		fflush(stdout);
		getchar();
		return stop(NULL);
	}
	return cmocka_run_group_tests(tests, start, stop);
}
