/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_limits.c - the HTTP server's clients that are slow, many, or send too much */
#include "tests/unit/http_fixture.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_slow_header, setup),
		cmocka_unit_test_setup(test_slow_header_of_second_request, setup),
		cmocka_unit_test_setup(test_slow_body, setup),
		cmocka_unit_test_setup(test_steady_body, setup),
		cmocka_unit_test_setup(test_reply_that_nobody_reads, setup),
		cmocka_unit_test_setup(test_reply_that_is_read_steadily, setup),
		cmocka_unit_test_setup(test_header_too_large, setup),
		cmocka_unit_test_setup(test_body_too_large, setup),
		cmocka_unit_test_setup(test_too_many_connections, setup),
		cmocka_unit_test_setup(test_refused_clients_do_not_stay, setup),
		cmocka_unit_test_setup(test_too_many_of_a_peer, setup),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
