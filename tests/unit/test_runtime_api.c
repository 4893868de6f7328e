/* SPDX-License-Identifier: Apache-2.0 */
/* test_runtime_api.c - the Runtime API against requests as a runtime sends them, whole and in
 * pieces */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/process/proc.h"
#include "vmm/process/runtime_api.h"
#include "vmm/process/sock.h"

/* ---- the guest's end of the connections: this file stands in for sock.c ---- */

struct sock {
	uint32_t id;
	void *priv;
	char got[8 << 20];
	size_t got_bytes;
	unsigned sends;
	uint16_t port;
	bool full, ended, closed;
};

static struct sock socks[3] = {{.id = 1}, {.id = 2}, {.id = 3}};
static const struct sock_service *service;

int sock_service_register(struct proc *p, const struct sock_service *s)
{
	(void)p;
	service = s;
	return 0;
}

int service_send(struct proc *p, struct sock *conn, const void *data, size_t n)
{
	(void)p;
	if (conn->full)
		return -ENOBUFS;
	assert_true(conn->got_bytes + n < sizeof(conn->got));
	memcpy(conn->got + conn->got_bytes, data, n);
	conn->got_bytes += n;
	conn->got[conn->got_bytes] = '\0';
	conn->sends++;
	return 0;
}

void service_close(struct proc *p, struct sock *conn)
{
	(void)p;
	conn->closed = true;
}

bool service_ended(const struct sock *conn)
{
	return conn->ended;
}

uint16_t service_port(const struct sock *conn)
{
	return conn->port;
}

void service_set_priv(struct sock *conn, void *priv)
{
	conn->priv = priv;
}

void *service_priv(const struct sock *conn)
{
	return conn->priv;
}

uint32_t sock_id(const struct sock *conn)
{
	return conn->id;
}

struct sock *sock_by_id(struct proc *p, uint32_t id)
{
	(void)p;
	return id >= 1 && id <= 3 ? &socks[id - 1] : NULL;
}

/* ---- what the api reports ---- */

static struct {
	unsigned parked, results, failed;
	bool restore;
	enum proto_result_kind kind;
	enum proto_failure failure;
	char payload[64];
	size_t payload_bytes;
	char parts[256]; /* of a streamed response, one after the other */
	unsigned part_count;
	uint64_t part_bytes;
} seen;

static void on_parked(void *guest, bool restore)
{
	(void)guest;
	seen.parked++;
	seen.restore = restore;
}

static void on_result(void *guest, enum proto_result_kind kind, const void *payload, size_t n)
{
	(void)guest;
	seen.results++;
	seen.kind = kind;
	seen.payload_bytes = n;
	memcpy(seen.payload, payload, n < sizeof(seen.payload) ? n : sizeof(seen.payload));
}

static void on_failed(void *guest, enum proto_failure kind, const void *json, size_t n)
{
	(void)guest;
	(void)json;
	(void)n;
	seen.failed++;
	seen.failure = kind;
}

static void on_part(void *guest, const void *data, size_t n)
{
	(void)guest;
	assert_int_equal(seen.results, 0); /* before it, not after */
	seen.part_count++;
	if (seen.part_bytes + n < sizeof(seen.parts))
		memcpy(seen.parts + seen.part_bytes, data, n);
	seen.part_bytes += n;
}

static const struct runtime_api_events events = {on_parked, on_result, on_failed, on_part};
static struct proc proc;
static bool wants_stream;

static int setup(void **state)
{
	(void)state;
	memset(&seen, 0, sizeof(seen));
	wants_stream = false;
	for (size_t i = 0; i < 3; i++) {
		socks[i].priv = NULL;
		socks[i].got_bytes = 0;
		socks[i].sends = 0;
		socks[i].port = RUNTIME_API_PORT;
		socks[i].full = socks[i].ended = socks[i].closed = false;
		socks[i].got[0] = '\0';
	}
	return runtime_sock_new(&proc, &events);
}

static int teardown(void **state)
{
	(void)state;
	runtime_api_free(proc.api);
	return 0;
}

#define NEXT	     "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"
#define RESTORE_NEXT "GET /2018-06-01/runtime/restore/next HTTP/1.1\r\nHost: x\r\n\r\n"

static void guest_sends(struct sock *s, const char *text)
{
	service->data(&proc, s, text, strlen(text));
}

static void connect_guest(struct sock *s)
{
	assert_int_equal(service->accept(&proc, s), 0);
}

static int invoke(const char *id, const char *payload)
{
	struct invocation inv = {
		.request_id = id,
		.function_arn = "arn:x",
		.trace_id = "Root=1",
		.client_context = "",
		.deadline_real_ms = 1234,
		.payload = payload,
		.payload_bytes = strlen(payload),
		.stream = wants_stream,
	};

	return runtime_api_invoke(proc.api, &inv);
}

static void respond(struct sock *s, const char *id, const char *verb, const char *body,
		    const char *then)
{
	char text[1024];

	snprintf(text, sizeof(text),
		 "POST /2018-06-01/runtime/invocation/%s/%s HTTP/1.1\r\nContent-Length: "
		 "%zu\r\n\r\n%s%s",
		 id, verb, strlen(body), body, then);
	guest_sends(s, text);
}

/* ---- tests ---- */

static void test_next_parks_then_hands_out(void **state)
{
	(void)state;
	connect_guest(&socks[0]);
	guest_sends(&socks[0], NEXT);
	assert_int_equal(seen.parked, 1);
	assert_true(runtime_api_parked(proc.api));
	assert_int_equal(socks[0].sends, 0);
	assert_int_equal(invoke("id-1", "{\"a\":1}"), 0);
	assert_false(runtime_api_parked(proc.api));
	assert_non_null(strstr(socks[0].got, "Lambda-Runtime-Aws-Request-Id: id-1\r\n"));
	assert_non_null(strstr(socks[0].got, "Lambda-Runtime-Deadline-Ms: 1234\r\n"));
	assert_non_null(strstr(socks[0].got, "\r\n\r\n{\"a\":1}"));
	respond(&socks[0], "id-1", "response", "42", "");
	assert_int_equal(seen.results, 1);
	assert_int_equal(seen.kind, PROTO_RESULT_OK);
	assert_memory_equal(seen.payload, "42", 2);
	assert_non_null(strstr(socks[0].got, "HTTP/1.1 202 Accepted"));
}

static void test_invocation_waits_for_next(void **state)
{
	(void)state;
	connect_guest(&socks[0]);
	assert_int_equal(invoke("id-1", "{}"), 0);
	assert_int_equal(invoke("id-2", "{}"), -EBUSY);
	guest_sends(&socks[0], NEXT);
	assert_non_null(strstr(socks[0].got, "id-1"));
	assert_int_equal(seen.parked, 0);
}

static void test_every_split_of_a_request(void **state)
{
	const char *text = "POST /2018-06-01/runtime/invocation/i/response HTTP/1.1\r\n"
			   "Content-Length: 5\r\n\r\nhello" NEXT;
	size_t n = strlen(text);

	(void)state;
	for (size_t cut = 1; cut < n; cut++) {
		teardown(NULL);
		setup(NULL);
		connect_guest(&socks[0]);
		guest_sends(&socks[0], NEXT);
		assert_int_equal(invoke("i", "{}"), 0);
		service->data(&proc, &socks[0], text, cut);
		service->data(&proc, &socks[0], text + cut, n - cut);
		assert_int_equal(seen.results, 1);
		assert_memory_equal(seen.payload, "hello", 5);
		assert_true(runtime_api_parked(proc.api));
	}
}

/* The response and the next /next in one write: one write brings both answers back. */
static void test_pipelined_answers_leave_together(void **state)
{
	unsigned sends;

	(void)state;
	connect_guest(&socks[0]);
	guest_sends(&socks[0], NEXT);
	invoke("a", "{}");
	sends = socks[0].sends;
	respond(&socks[0], "a", "response", "1", NEXT);
	assert_int_equal(seen.results, 1);
	assert_int_equal(socks[0].sends, sends);
	socks[0].got_bytes = 0;
	invoke("b", "{\"b\":2}");
	assert_int_equal(socks[0].sends, sends + 1);
	assert_non_null(strstr(socks[0].got, "202 Accepted"));
	assert_non_null(strstr(socks[0].got, "{\"b\":2}"));
}

static void test_wrong_requests(void **state)
{
	(void)state;
	connect_guest(&socks[0]);
	respond(&socks[0], "nobody", "response", "1", "");
	assert_non_null(strstr(socks[0].got, "400 Bad Request"));
	assert_non_null(strstr(socks[0].got, "InvalidRequestID"));
	guest_sends(&socks[0], "GET /elsewhere HTTP/1.1\r\n\r\n");
	assert_non_null(strstr(socks[0].got, "404 Not Found"));
	guest_sends(&socks[0], NEXT);
	connect_guest(&socks[1]);
	guest_sends(&socks[1], NEXT);
	assert_non_null(strstr(socks[1].got, "409 Conflict"));
	invoke("i", "{}");
	guest_sends(&socks[1], NEXT);
	assert_non_null(strstr(socks[1].got, "403 Forbidden"));
	guest_sends(&socks[1], "nonsense\r\n\r\n");
	assert_true(socks[1].closed);
	assert_int_equal(seen.results, 0);
}

static void test_headers_cannot_be_smuggled(void **state)
{
	(void)state;
	assert_int_equal(invoke("a\r\nX: y", "{}"), -EINVAL);
}

/** As `curl` never does, but netcat and shell scripts do: the request, then the end of writing. */
static void test_answer_after_the_end_of_writing(void **state)
{
	struct sock *s = &socks[0];

	(void)state;
	connect_guest(s);
	guest_sends(s, NEXT);
	s->ended = true;
	service->ended(&proc, s);
	assert_false(s->closed);
	assert_int_equal(invoke("one", "{}"), 0);
	assert_non_null(strstr(s->got, "Lambda-Runtime-Aws-Request-Id: one\r\n"));
	assert_true(s->closed);
	/* One that asked for nothing is over at once. */
	connect_guest(&socks[1]);
	socks[1].ended = true;
	service->ended(&proc, &socks[1]);
	assert_true(socks[1].closed);
}

static void test_error_and_init_error(void **state)
{
	(void)state;
	connect_guest(&socks[0]);
	guest_sends(&socks[0], NEXT);
	invoke("i", "{}");
	respond(&socks[0], "i", "error", "{\"errorMessage\":\"no\"}", "");
	assert_int_equal(seen.kind, PROTO_RESULT_ERROR);
	guest_sends(&socks[0], "POST /2018-06-01/runtime/init/error HTTP/1.1\r\n"
			       "Content-Length: 2\r\n\r\n{}");
	assert_int_equal(seen.failed, 1);
	assert_int_equal(seen.failure, PROTO_FAILED_INIT);
}

static void test_response_over_six_mib(void **state)
{
	size_t n = PROTO_PAYLOAD_MAX + 1;
	char *big = malloc(n);
	char head[128];

	(void)state;
	assert_non_null(big);
	memset(big, '1', n);
	connect_guest(&socks[0]);
	guest_sends(&socks[0], NEXT);
	invoke("i", "{}");
	snprintf(head, sizeof(head),
		 "POST /2018-06-01/runtime/invocation/i/response HTTP/1.1\r\nContent-Length: "
		 "%zu\r\n\r\n",
		 n);
	guest_sends(&socks[0], head);
	service->data(&proc, &socks[0], big, n / 2);
	service->data(&proc, &socks[0], big, n - n / 2);
	assert_int_equal(seen.results, 1);
	assert_int_equal(seen.kind, PROTO_RESULT_TOO_LARGE);
	assert_non_null(strstr(socks[0].got, "413 Request Entity Too Large"));
	socks[0].got_bytes = 0;
	guest_sends(&socks[0], NEXT);
	assert_true(runtime_api_parked(proc.api));
	invoke("j", "{}");
	snprintf(head, sizeof(head),
		 "POST /2018-06-01/runtime/invocation/j/response HTTP/1.1\r\nContent-Length: "
		 "%zu\r\n\r\n",
		 n - 1);
	guest_sends(&socks[0], head);
	service->data(&proc, &socks[0], big, n - 1);
	assert_int_equal(seen.results, 2);
	assert_int_equal(seen.kind, PROTO_RESULT_OK);
	assert_int_equal(seen.payload_bytes, PROTO_PAYLOAD_MAX);
	free(big);
}

static void reload(struct state_writer *w)
{
	struct state_reader r;

	assert_int_equal(runtime_api_save(proc.api, w), 0);
	teardown(NULL);
	setup(NULL);
	r = (struct state_reader){.data = w->data, .left = w->used};
	assert_int_equal(runtime_api_load(proc.api, &r), 0);
	assert_int_equal(r.left, 0);
	state_writer_free(w);
}

static void test_save_and_load_while_parked(void **state)
{
	struct state_writer w = {0};

	(void)state;
	connect_guest(&socks[0]);
	connect_guest(&socks[1]);
	guest_sends(&socks[1], "GET /2018-06-01/runt");
	guest_sends(&socks[0], RESTORE_NEXT);
	assert_true(seen.restore);
	reload(&w);
	assert_true(runtime_api_parked(proc.api));
	assert_int_equal(seen.parked, 0);
	assert_int_equal(invoke("i", "{}"), 0);
	runtime_api_continue_restore(proc.api);
	assert_non_null(strstr(socks[0].got, "200 OK"));
	guest_sends(&socks[0], NEXT);
	assert_non_null(strstr(socks[0].got, "Aws-Request-Id: i"));
	/* The half request of the other connection was saved, too. */
	guest_sends(&socks[1], "ime/none HTTP/1.1\r\n\r\n");
	assert_non_null(strstr(socks[1].got, "404 Not Found"));
}

static void test_hostile_state(void **state)
{
	struct state_writer w = {0};

	(void)state;
	connect_guest(&socks[0]);
	guest_sends(&socks[0], NEXT);
	assert_int_equal(runtime_api_save(proc.api, &w), 0);
	for (size_t n = 0; n < w.used; n++) {
		struct state_reader r = {.data = w.data, .left = n};

		teardown(NULL);
		setup(NULL);
		assert_true(runtime_api_load(proc.api, &r) < 0 || r.err);
	}
	for (size_t i = 0; i < w.used; i++) {
		struct state_reader r = {.data = w.data, .left = w.used};

		teardown(NULL);
		setup(NULL);
		w.data[i] ^= 0xff;
		(void)runtime_api_load(proc.api, &r); /* must not crash; sanitizers watch */
		w.data[i] ^= 0xff;
	}
	state_writer_free(&w);
}

/** A saved state of @count connections, by their ids, none of them parked. */
static int load_conns(const uint32_t *ids, uint32_t count)
{
	struct state_writer w = {0};
	struct state_reader r;
	int ret;

	state_put_u8(&w, 0);
	state_put_u32(&w, 0);
	state_put_u32(&w, count);
	for (uint32_t i = 0; i < count; i++) {
		state_put_u32(&w, ids[i]);
		state_put_bytes(&w, "GET", 3);
		state_put_bytes(&w, NULL, 0);
	}
	r = (struct state_reader){.data = w.data, .left = w.used};
	ret = runtime_api_load(proc.api, &r);
	state_writer_free(&w);
	return ret;
}

/* The guest's own sockets, and one of ours twice: both would be used after they are gone. */
static void test_state_names_foreign_sockets(void **state)
{
	(void)state;
	assert_int_equal(load_conns((const uint32_t[]){1, 2}, 2), 0);
	teardown(NULL);
	setup(NULL);
	assert_int_equal(load_conns((const uint32_t[]){1, 1}, 2), -EBADMSG);
	teardown(NULL);
	setup(NULL);
	socks[1].port = 0;
	assert_int_equal(load_conns((const uint32_t[]){1, 2}, 2), -EBADMSG);
}

static void test_answers_that_nobody_reads(void **state)
{
	static const char request[] = "GET /none HTTP/1.1\r\n\r\n";
	size_t count = 300000, n = count * (sizeof(request) - 1);
	char *many = malloc(n + 1);

	(void)state;
	connect_guest(&socks[0]);
	socks[0].full = true;
	guest_sends(&socks[0], request);
	assert_true(socks[0].closed);
	/* Many requests in one write, whose answers are larger: neither kept nor slow. */
	connect_guest(&socks[1]);
	for (size_t i = 0; i < count; i++)
		memcpy(many + i * (sizeof(request) - 1), request, sizeof(request));
	guest_sends(&socks[1], many);
	assert_true(socks[1].closed);
	free(many);
}

/* The first response of a snapshot that was taken in /next is no second arrival at it. */
static void test_parked_is_told_once(void **state)
{
	struct state_writer w = {0};

	(void)state;
	connect_guest(&socks[0]);
	guest_sends(&socks[0], NEXT);
	assert_int_equal(seen.parked, 1);
	reload(&w);
	seen.parked = 0;
	assert_int_equal(invoke("i", "{}"), 0);
	runtime_api_continue_restore(proc.api);
	respond(&socks[0], "i", "response", "42", NEXT);
	assert_int_equal(seen.results, 1);
	assert_true(runtime_api_parked(proc.api));
	assert_int_equal(seen.parked, 0);
}

/* ---- streamed responses ---- */

#define STREAM_HEAD(id)                                                                            \
	"POST /2018-06-01/runtime/invocation/" id "/response HTTP/1.1\r\n"                         \
	"Lambda-Runtime-Function-Response-Mode: streaming\r\n"                                     \
	"Transfer-Encoding: chunked\r\n"                                                           \
	"Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n"

static void begin_stream(void)
{
	wants_stream = true;
	connect_guest(&socks[0]);
	guest_sends(&socks[0], NEXT);
	assert_int_equal(invoke("i", "{}"), 0);
}

static void test_stream_in_parts(void **state)
{
	(void)state;
	begin_stream();
	guest_sends(&socks[0], STREAM_HEAD("i") "5\r\nhello\r\n");
	assert_string_equal(seen.parts, "hello"); /* though there is more to come */
	assert_int_equal(seen.results, 0);
	guest_sends(&socks[0], "7\r\n, world\r\n");
	assert_string_equal(seen.parts, "hello, world");
	assert_int_equal(seen.part_count, 2);
	guest_sends(&socks[0], "0\r\n\r\n" NEXT);
	assert_int_equal(seen.results, 1);
	assert_int_equal(seen.kind, PROTO_RESULT_OK);
	assert_int_equal(seen.payload_bytes, 0);
	assert_true(runtime_api_parked(proc.api));
	/* The next one is like any other. */
	wants_stream = false;
	seen.results = 0;
	assert_int_equal(invoke("j", "{}"), 0);
	respond(&socks[0], "j", "response", "42", "");
	assert_int_equal(seen.results, 1);
	assert_memory_equal(seen.payload, "42", 2);
	assert_int_equal(seen.part_count, 2);
}

static void test_stream_that_nobody_wants_is_collected(void **state)
{
	(void)state;
	connect_guest(&socks[0]);
	guest_sends(&socks[0], NEXT);
	assert_int_equal(invoke("i", "{}"), 0);
	guest_sends(&socks[0], STREAM_HEAD("i") "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n");
	assert_int_equal(seen.part_count, 0);
	assert_int_equal(seen.results, 1);
	assert_int_equal(seen.payload_bytes, 6);
	assert_memory_equal(seen.payload, "hello!", 6);
}

static void test_stream_with_every_split(void **state)
{
	const char *text = STREAM_HEAD("i") "3\r\nabc\r\n3\r\ndef\r\n0\r\n"
					    "Lambda-Runtime-Function-Error-Type: E.T\r\n"
					    "lambda-runtime-function-error-body: Ym9keQ==\r\n\r\n";
	size_t n = strlen(text);

	(void)state;
	for (size_t cut = 1; cut < n; cut++) {
		teardown(NULL);
		setup(NULL);
		begin_stream();
		service->data(&proc, &socks[0], text, cut);
		service->data(&proc, &socks[0], text + cut, n - cut);
		assert_string_equal(seen.parts, "abcdef");
		assert_int_equal(seen.results, 1);
		assert_int_equal(seen.kind, PROTO_RESULT_STREAM_ERROR);
		assert_int_equal(seen.payload_bytes, 13);
		assert_memory_equal(seen.payload, "E.T\0Ym9keQ==", 13);
	}
}

static void test_stream_that_ends_early(void **state)
{
	(void)state;
	begin_stream();
	guest_sends(&socks[0], STREAM_HEAD("i") "5\r\nhello\r\n");
	service->closed(&proc, &socks[0]);
	assert_int_equal(seen.results, 1);
	assert_int_equal(seen.kind, PROTO_RESULT_STREAM_ERROR);
	assert_string_equal(seen.payload, "Runtime.TruncatedResponse");
}

static void test_stream_of_another_invocation(void **state)
{
	(void)state;
	begin_stream();
	guest_sends(&socks[0], STREAM_HEAD("other") "5\r\nhello\r\n0\r\n\r\n");
	assert_int_equal(seen.part_count, 0);
	assert_int_equal(seen.results, 0);
	assert_non_null(strstr(socks[0].got, "InvalidRequestID"));
}

/* Two connections that answer the same invocation: one result, and no part after it. */
static void test_stream_that_another_connection_ends(void **state)
{
	(void)state;
	begin_stream();
	guest_sends(&socks[0], STREAM_HEAD("i") "5\r\nhello\r\n");
	connect_guest(&socks[1]);
	respond(&socks[1], "i", "response", "42", "");
	assert_int_equal(seen.results, 1);
	guest_sends(&socks[0], "5\r\nworld\r\n0\r\n\r\n");
	assert_int_equal(seen.results, 1);
	assert_string_equal(seen.parts, "hello");
	assert_non_null(strstr(socks[0].got, "InvalidRequestID"));
}

static void test_stream_too_long(void **state)
{
	static char chunk[(1 << 20) + 16];
	size_t n = (size_t)sprintf(chunk, "100000\r\n");

	(void)state;
	memset(chunk + n, 'a', 1 << 20);
	memcpy(chunk + n + (1 << 20), "\r\n", 2);
	n += (1 << 20) + 2;
	begin_stream();
	guest_sends(&socks[0], STREAM_HEAD("i"));
	for (unsigned i = 0; i < (PROTO_STREAM_MAX >> 20) + 4; i++)
		service->data(&proc, &socks[0], chunk, n);
	assert_true(seen.part_bytes <= PROTO_STREAM_MAX);
	guest_sends(&socks[0], "0\r\n\r\n");
	assert_int_equal(seen.results, 1);
	assert_int_equal(seen.kind, PROTO_RESULT_TOO_LARGE);
	assert_non_null(strstr(socks[0].got, "HTTP/1.1 413"));
}

static void test_long_headers_and_trailers(void **state)
{
	static char text[200000];
	size_t n = 0;

	(void)state;
	begin_stream();
	n += (size_t)sprintf(text + n, "%s",
			     STREAM_HEAD("i") "1\r\na\r\n0\r\n"
					      "Lambda-Runtime-Function-Error-Type: ");
	memset(text + n, 't', 5000);
	n += 5000;
	n += (size_t)sprintf(text + n, "\r\nLambda-Runtime-Function-Error-Body: ");
	memset(text + n, 'b', 60000);
	n += 60000;
	strcpy(text + n, "\r\n\r\n");
	guest_sends(&socks[0], text);
	assert_int_equal(seen.results, 1);
	assert_int_equal(seen.kind, PROTO_RESULT_STREAM_ERROR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_next_parks_then_hands_out, setup, teardown),
		cmocka_unit_test_setup_teardown(test_invocation_waits_for_next, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_split_of_a_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pipelined_answers_leave_together, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_wrong_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_headers_cannot_be_smuggled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answer_after_the_end_of_writing, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_error_and_init_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_response_over_six_mib, setup, teardown),
		cmocka_unit_test_setup_teardown(test_save_and_load_while_parked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_state, setup, teardown),
		cmocka_unit_test_setup_teardown(test_state_names_foreign_sockets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers_that_nobody_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parked_is_told_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream_in_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream_that_nobody_wants_is_collected, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_stream_with_every_split, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream_that_ends_early, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream_of_another_invocation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream_that_another_connection_ends, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_stream_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_headers_and_trailers, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
