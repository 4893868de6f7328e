/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_http.c - the HTTP server's requests, streams, and clients that go away or send garbage
 *
 * `test_http --serve` prints its port and serves until its input ends, for clients that somebody
 * else wrote.
 */
#include "tests/unit/http_fixture.h"

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

/** Each is refused, and holds up the next: none of them is forgotten. */
static void test_refusals_hold_newcomers_up_for_a_while(void **state)
{
	int fds[4], held = dial_unix(), release = dial_unix();

	(void)state;
	say(held, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = dial_unix();
	for (int round = 0; round < 50; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
			say(fds[i], "GET /busy HTTP/1.1\r\nHost: a\r\n\r\n");
		for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
			assert_status(hear(fds[i]), "429");
	}
	say(fds[0], "GET /busy HTTP/1.1\r\nHost: a\r\n\r\n");
	say(release, "GET /release HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_has(hear(held), "released");
	assert_status(hear(release), "200");
	assert_status(hear(fds[0]), "429");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	close(held);
	close(release);
}

static void test_socket_mode(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(stat(server.socket_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
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
		cmocka_unit_test_setup(test_refusals_hold_newcomers_up_for_a_while, setup),
		cmocka_unit_test_setup(test_socket_mode, setup),
		cmocka_unit_test_setup(test_clients_that_go_away, setup),
		cmocka_unit_test_setup(test_stream, setup),
		cmocka_unit_test_setup(test_stream_that_nobody_reads, setup),
		cmocka_unit_test_setup(test_stream_whose_client_goes_away, setup),
		cmocka_unit_test_setup(test_stream_that_says_nothing, setup),
		cmocka_unit_test_setup(test_garbage, setup),
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
