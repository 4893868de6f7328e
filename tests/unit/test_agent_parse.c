/* SPDX-License-Identifier: Apache-2.0 */
/* test_agent_parse.c - what the agent reads: messages in any pieces, hostile ones, and its options
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "guest/agent/command.h"
#include "guest/agent/console.h"
#include "guest/agent/control.h"
#include "guest/agent/net.h"
#include "guest/agent/options.h"
#include "guest/agent/prepare.h"
#include "guest/agent/resume.h"

static struct control control, other;

static int setup(void **state)
{
	int pair[2];

	(void)state;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		return -1;
	control_init(&control, pair[0]);
	control_init(&other, pair[1]);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	control_close(&control);
	control_close(&other);
	return 0;
}

static void test_message_in_pieces(void **state)
{
	struct agent_prepare msg = {{AGENT_PREPARE, sizeof(msg)}, AGENT_PREPARE_ZERO_FREE, 7};
	const struct agent_header *got = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(msg); i++) {
		assert_int_equal(control_next(&control, &got), 0);
		assert_int_equal(write(other.fd, (char *)&msg + i, 1), 1);
		assert_int_equal(control_receive(&control), 0);
	}
	assert_int_equal(control_next(&control, &got), 1);
	assert_memory_equal(got, &msg, sizeof(msg));
	control_consume(&control);
	assert_int_equal(control_next(&control, &got), 0);
}

static void test_messages_at_once(void **state)
{
	const struct agent_header *got;

	(void)state;
	for (uint32_t i = 0; i < 100; i++) {
		struct agent_prepare msg = {.report_ms = i};

		assert_int_equal(control_send(&other, AGENT_PREPARE, &msg, sizeof(msg), NULL, 0),
				 0);
	}
	assert_int_equal(control_flush(&other), 0);
	assert_int_equal(control_receive(&control), 0);
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(control_next(&control, &got), 1);
		assert_int_equal(((const struct agent_prepare *)got)->report_ms, i);
		control_consume(&control);
	}
	control_close(&other);
	assert_int_equal(control_receive(&control), -EPIPE);
}

static void test_largest_message(void **state)
{
	static struct {
		struct agent_start start;
		char strings[AGENT_MESSAGE_MAX - sizeof(struct agent_start)];
	} msg;
	const struct agent_header *got;
	int more;

	(void)state;
	assert_int_equal(control_send(&other, AGENT_START, &msg, sizeof(msg), NULL, 0), 0);
	while ((more = control_next(&control, &got)) == 0) {
		assert_int_equal(control_flush(&other), 0);
		assert_int_equal(control_receive(&control), 0);
	}
	assert_int_equal(more, 1);
	assert_int_equal(got->bytes, AGENT_MESSAGE_MAX);
}

static void test_headers_that_are_wrong(void **state)
{
	static const struct agent_header wrong[] = {
		{0, 8},
		{AGENT_TYPE_END, 24},
		{UINT32_MAX, 24},
		{AGENT_PREPARE, 0},
		{AGENT_PREPARE, 8},
		{AGENT_PREPARE, sizeof(struct agent_prepare) + 1},
		{AGENT_START, sizeof(struct agent_start) + 1},
		{AGENT_START, AGENT_MESSAGE_MAX + 1},
		{AGENT_RESUMED, UINT32_MAX},
		{AGENT_LOG, sizeof(struct agent_log)},
	};
	const struct agent_header *got;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		memcpy(control.in, &wrong[i], sizeof(wrong[i]));
		control.in_bytes = sizeof(wrong[i]);
		assert_int_equal(control_next(&control, &got), -EBADMSG);
	}
}

/** Whatever bytes come, in whatever pieces: messages or -EBADMSG, and never beyond the buffer. */
static void test_random_bytes(void **state)
{
	const struct agent_header *got;

	(void)state;
	srandom(4);
	for (int round = 0; round < 20000; round++) {
		size_t n = (size_t)random() % 64;

		control.in_bytes = n;
		for (size_t i = 0; i < n; i++)
			control.in[i] = (uint8_t)(random() % (i % 4 ? 2 : 12));
		while (control_next(&control, &got) == 1) {
			assert_true(got->bytes <= control.in_bytes);
			control_consume(&control);
		}
	}
}

/** A host that does not read: output waits, other messages still have room. */
static void test_full(void **state)
{
	struct agent_log log = {.stream = AGENT_STDOUT};
	struct agent_exited exited = {0};
	static char bytes[64 << 10];
	size_t room;

	(void)state;
	while ((room = control_log_room(&control)) > 0) {
		assert_true(room <= sizeof(bytes));
		assert_int_equal(control_send(&control, AGENT_LOG, &log, sizeof(log), bytes, room),
				 0);
	}
	for (int i = 0; i < 8; i++)
		assert_int_equal(
			control_send(&control, AGENT_EXITED, &exited, sizeof(exited), NULL, 0), 0);
	assert_int_equal(control_send(&control, AGENT_LOG, &log, sizeof(log), bytes, sizeof(bytes)),
			 -ENOBUFS);
}

/** The next message that has come to @peer. Return: its type, or 0 when there is no whole one. */
static uint32_t take(struct control *peer, void *ret, size_t n)
{
	const struct agent_header *got;
	uint32_t type;

	control_receive(peer);
	if (control_next(peer, &got) != 1)
		return 0;
	type = got->type;
	memcpy(ret, got, n < got->bytes ? n : got->bytes);
	control_consume(peer);
	return type;
}

/** A stream that breaks within a message: the next one begins with READY, and with that message. */
static void test_reopen(void **state)
{
	struct {
		struct agent_log log;
		uint32_t number;
		char bytes[8 << 10];
	} msg = {.log.stream = AGENT_STDOUT};
	struct agent_prepared prepared = {0};
	struct agent_exited exited = {.code = 3};
	struct agent_ready ready = {.version = AGENT_PROTO_VERSION};
	uint32_t sent = 0, got = 0, type;
	int small = 1, pair[2];

	(void)state;
	setsockopt(control.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	for (; control_log_room(&control) >= sizeof(msg); msg.number = ++sent)
		assert_int_equal(control_send(&control, AGENT_LOG, &msg.log, sizeof(msg), NULL, 0),
				 0);
	control_send(&control, AGENT_PREPARED, &prepared, sizeof(prepared), NULL, 0);
	control_send(&control, AGENT_EXITED, &exited, sizeof(exited), NULL, 0);
	while (got < 3 || !other.in_bytes) {
		assert_int_equal(control_flush(&control), 0);
		if (take(&other, &msg, sizeof(msg)) == AGENT_LOG)
			assert_int_equal(msg.number, got++);
	}
	assert_true(control.sent_bytes > 0);
	assert_true(got < sent);

	control_close(&control);
	control_close(&other);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
			 0);
	control_init(&other, pair[1]);
	control_reopen(&control, pair[0], &ready);
	assert_int_equal(control_flush(&control), 0);
	assert_int_equal(take(&other, &ready, sizeof(ready)), AGENT_READY);
	assert_int_equal(ready.flags, AGENT_READY_RUNNING);
	while ((type = take(&other, &msg, sizeof(msg))) == AGENT_LOG) {
		assert_int_equal(msg.number, got++);
		assert_int_equal(control_flush(&control), 0);
	}
	assert_int_equal(got, sent);
	assert_int_equal(type, AGENT_EXITED);
	assert_int_equal(control.out_bytes, 0);
}

/** However much is queued: a READY goes before it. */
static void test_reopen_full(void **state)
{
	struct agent_exited exited = {0};
	struct agent_ready ready = {0};
	size_t full;

	(void)state;
	while (!control_send(&control, AGENT_EXITED, &exited, sizeof(exited), NULL, 0))
		;
	full = control.out_bytes;
	for (int i = 0; i < 3; i++) {
		control_close(&control);
		control_reopen(&control, -1, &ready);
		assert_int_equal(control.out_bytes, full + sizeof(ready));
		assert_true(control.out_bytes <= sizeof(control.out));
	}
}

/** A START with these bytes behind its body. */
static int parse(uint32_t argc, uint32_t envc, const char *strings, size_t n, struct command *ret)
{
	static _Alignas(8) char msg[AGENT_MESSAGE_MAX];
	struct agent_start *start = (struct agent_start *)msg;

	*start = (struct agent_start){
		{AGENT_START, (uint32_t)(sizeof(*start) + n)}, argc, envc, 993, 990};
	memcpy(start + 1, strings, n);
	return command_parse(ret, start);
}

static void test_command(void **state)
{
	static struct command cmd;
	static const char strings[] = "/bin/x\0-a\0\0A=1\0B=";

	(void)state;
	assert_int_equal(parse(3, 2, strings, sizeof(strings), &cmd), 0);
	assert_string_equal(cmd.argv[1], "-a");
	assert_string_equal(cmd.argv[2], "");
	assert_null(cmd.argv[3]);
	assert_string_equal(cmd.envp[1], "B=");
	assert_null(cmd.envp[2]);
	assert_int_equal(cmd.uid, 993);
	assert_int_equal(parse(3, 1, strings, sizeof(strings), &cmd), -EBADMSG);
	assert_int_equal(parse(3, 3, strings, sizeof(strings), &cmd), -EBADMSG);
	assert_int_equal(parse(0, 5, strings, sizeof(strings), &cmd), -EBADMSG);
	assert_int_equal(parse(3, 2, strings, sizeof(strings) - 1, &cmd), -EBADMSG);
	assert_int_equal(parse(UINT32_MAX, 6, strings, sizeof(strings), &cmd), -EBADMSG);
	assert_int_equal(parse(1, UINT32_MAX, strings, sizeof(strings), &cmd), -EBADMSG);
	assert_int_equal(parse(2, 0, "\0", 2, &cmd), -EBADMSG);
}

static void test_endpoint(void **state)
{
	struct endpoint e = {0};
	static const char *const wrong[] = {
		"",	    "vsock:",
		"vsock:0",  "vsock:x",
		"vsock:1x", "vsock:4294967295",
		"unix:",    "unix:a",
		"a",	    "/0123456789012345678901234567890123456789012345678901234567890123"};

	(void)state;
	assert_int_equal(endpoint_parse(&e, "vsock:9001"), 0);
	assert_int_equal(e.kind, ENDPOINT_VSOCK);
	assert_int_equal(e.port, 9001);
	assert_int_equal(endpoint_parse(&e, "unix:/run/x"), 0);
	assert_int_equal(e.kind, ENDPOINT_UNIX);
	assert_string_equal(e.path, "/run/x");
	assert_int_equal(endpoint_parse(&e, "/dev/hvc0"), 0);
	assert_int_equal(e.kind, ENDPOINT_DEVICE);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(endpoint_parse(&e, wrong[i]), -EINVAL);
	assert_string_equal(e.path, "/dev/hvc0");
}

static void test_options(void **state)
{
	struct options o;
	char line[] =
		"console=ttyS0 quiet agent.root=/dev/vdc agent.task=/dev/vdb "
		"agent.control=vsock:77 agent.listen=70000 agent.nothing=1 agent. "
		"xagent.root=/dev/vdx agent.address=10.0.0.2/24,10.0.0.1 "
		"agent.upper=0123456789012345678901234567890123456789012345678901234567890123\n";

	(void)state;
	options_init(&o);
	options_from_cmdline(&o, line);
	assert_string_equal(o.root, "/dev/vdc");
	assert_string_equal(o.task, "/dev/vdb");
	assert_string_equal(o.upper, "");
	assert_string_equal(o.address, "10.0.0.2/24,10.0.0.1");
	assert_int_equal(o.control.port, 77);
	assert_int_equal(o.api.port, AGENT_API_PORT);
	assert_int_equal(o.listen, AGENT_API_PORT);
}

static void test_address(void **state)
{
	struct net_address a;
	static const char *const wrong[] = {"",
					    "10.0.0.2",
					    "10.0.0.2/",
					    "10.0.0.2/0",
					    "10.0.0.2/33",
					    "10.0.0/24",
					    "10.0.0.2/24,",
					    "10.0.0.2/24,x",
					    "10.0.0.2/24x",
					    "1111.2222.3333.4444.5/24",
					    ",/8"};

	(void)state;
	assert_int_equal(net_parse(&a, "10.1.2.3/24,10.1.2.1"), 0);
	assert_memory_equal(a.ip, "\x0a\1\2\3", 4);
	assert_memory_equal(a.gateway, "\x0a\1\2\1", 4);
	assert_int_equal(a.prefix, 24);
	assert_int_equal(net_parse(&a, "10.1.2.3/32"), 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(net_parse(&a, wrong[i]), -EINVAL);
}

/** What is not as the header says changes nothing. */
static void test_orders_that_are_wrong(void **state)
{
	struct agent_prepare p = {.flags = 2};
	struct agent_prepared prepared = {0};
	struct agent_resumed r = {.flags = AGENT_RESUMED_HOSTNAME};
	struct agent_resumed_done done = {0};

	(void)state;
	assert_int_equal(prepare(&p, &prepared), -EBADMSG);
	p = (struct agent_prepare){.report_ms = 60001};
	assert_int_equal(prepare(&p, &prepared), -EBADMSG);
	memset(r.hostname, 'x', sizeof(r.hostname));
	assert_int_equal(resume(&r, &done), -EBADMSG);
	r = (struct agent_resumed){.flags = 8};
	assert_int_equal(resume(&r, &done), -EBADMSG);
	r = (struct agent_resumed){.flags = AGENT_RESUMED_IP};
	assert_int_equal(resume(&r, &done), -EBADMSG);
	r.prefix = 33;
	assert_int_equal(resume(&r, &done), -EBADMSG);
	r = (struct agent_resumed){.reserved = 1};
	assert_int_equal(resume(&r, &done), -EBADMSG);
	assert_int_equal(done.wall_ns, 0);
}

/** Bits of the descriptors 0 to 2 that are open once console_open() had to do with @closed. */
static int console_after(int closed)
{
	int status, open_fds = 0;
	pid_t pid = fork();

	if (pid == 0) {
		for (int fd = 0; fd < 3; fd++)
			if (closed & 1 << fd)
				close(fd);
		if (console_open("/nonexistent"))
			_exit(100);
		for (int fd = 0; fd < 3; fd++)
			if (fcntl(fd, F_GETFD) == 0)
				open_fds |= 1 << fd;
		_exit(open_fds);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/** Whatever pid 1 is started without: what it opens next is not taken for its stderr. */
static void test_console(void **state)
{
	(void)state;
	for (int closed = 0; closed < 8; closed++)
		assert_int_equal(console_after(closed), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_message_in_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_messages_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_largest_message, setup, teardown),
		cmocka_unit_test_setup_teardown(test_headers_that_are_wrong, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reopen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reopen_full, setup, teardown),
		cmocka_unit_test(test_console),
		cmocka_unit_test(test_command),
		cmocka_unit_test(test_endpoint),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_address),
		cmocka_unit_test(test_orders_that_are_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
