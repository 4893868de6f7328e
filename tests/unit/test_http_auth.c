/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_auth.c - who may ask an HTTP server for what: unsigned, signed, wrongly signed */
#include "tests/unit/http_fixture.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_unsigned, setup),
		cmocka_unit_test_setup(test_strangers_send_no_body, setup),
		cmocka_unit_test_setup(test_signed, setup),
		cmocka_unit_test_setup(test_wrongly_signed, setup),
		cmocka_unit_test_setup(test_another_body_than_signed, setup),
		cmocka_unit_test_setup(test_reader_may_read, setup),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
