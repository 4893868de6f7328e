/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_agent_service.c - the agent as a service, with this test in the vmm's place: unix sockets
 * stand for vsock, everything else is real
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "guest/agent/agent.h"

enum { WAIT_S = 20, BIG = 3 << 20 };

struct fixture {
	char dir[32], control_path[64], api_path[64];
	int control_listener, api_listener, control;
	uint16_t port;
	pid_t agent;
};

static int listen_unix(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(at.sun_path, path, strlen(path) + 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(fd, 32), 0);
	return fd;
}

/** A loopback port that nobody has now. */
static uint16_t free_port(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t n = sizeof(at);

	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
	return ntohs(at.sin_port);
}

static int accept_within(int listener)
{
	struct timeval limit = {.tv_sec = WAIT_S};
	struct pollfd p = {.fd = listener, .events = POLLIN};
	int fd;

	assert_int_equal(poll(&p, 1, WAIT_S * 1000), 1);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static _Noreturn void be_agent(const struct fixture *f)
{
	static struct agent agent;

	close(f->control_listener);
	close(f->api_listener);
	options_init(&agent.options);
	agent.options.service = true;
	agent.options.listen = f->port;
	agent.options.control.kind = agent.options.api.kind = ENDPOINT_UNIX;
	memcpy(agent.options.control.path, f->control_path, sizeof(f->control_path));
	memcpy(agent.options.api.path, f->api_path, sizeof(f->api_path));
	_exit(agent_init(&agent) ? 2 : agent_run(&agent) ? 1 : 0);
}

/** The next message, its header checked. @ret: AGENT_MESSAGE_MAX bytes */
static void get(struct fixture *f, void *ret)
{
	struct agent_header *h = ret;

	assert_int_equal(read_full(f->control, h, sizeof(*h)), sizeof(*h));
	assert_true(agent_message_ok(h));
	assert_int_equal(read_full(f->control, h + 1, h->bytes - sizeof(*h)),
			 h->bytes - sizeof(*h));
}

static void expect_ready(struct fixture *f, uint32_t flags)
{
	static _Alignas(8) char buf[AGENT_MESSAGE_MAX];
	const struct agent_ready *ready = (const struct agent_ready *)buf;

	f->control = accept_within(f->control_listener);
	get(f, buf);
	assert_int_equal(ready->h.type, AGENT_READY);
	assert_int_equal(ready->version, AGENT_PROTO_VERSION);
	assert_int_equal(ready->flags, flags);
}

static int setup(void **state)
{
	static struct fixture fixture;
	struct fixture *f = &fixture;

	*f = (struct fixture){.dir = "/tmp/quickthaw-agent.XXXXXX"};
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->control_path, sizeof(f->control_path), "%s/control", f->dir);
	snprintf(f->api_path, sizeof(f->api_path), "%s/api", f->dir);
	f->control_listener = listen_unix(f->control_path);
	f->api_listener = listen_unix(f->api_path);
	f->port = free_port();
	f->agent = fork();
	if (f->agent == 0)
		be_agent(f);
	expect_ready(f, 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	kill(f->agent, SIGKILL);
	waitpid(f->agent, NULL, 0);
	cleanup_fd(&f->control);
	cleanup_fd(&f->control_listener);
	cleanup_fd(&f->api_listener);
	unlink(f->control_path);
	unlink(f->api_path);
	return rmdir(f->dir);
}

/** Let /bin/sh run @script. */
static void start_shell(struct fixture *f, const char *program, const char *script)
{
	struct {
		struct agent_start start;
		char strings[512];
	} msg = {.start = {{AGENT_START, 0}, 3, 1, 0, 0}};
	int n = snprintf(msg.strings, sizeof(msg.strings), "%s%c-c%c%s%cNAME=a value%c", program, 0,
			 0, script, 0, 0);

	msg.start.h.bytes = (uint32_t)(sizeof(msg.start) + (size_t)n);
	msg.start.uid = getuid();
	msg.start.gid = getgid();
	assert_int_equal(write_full(f->control, &msg, msg.start.h.bytes), 0);
}

/** Collect LOGs until EXITED. Return: bytes of both streams. @out: the first bytes of each */
static size_t run_to_exit(struct fixture *f, char out[2][64], struct agent_exited *ret)
{
	static _Alignas(8) char buf[AGENT_MESSAGE_MAX];
	const struct agent_log *log = (const struct agent_log *)buf;
	size_t total = 0, used[2] = {0};

	memset(out, 0, 2 * 64);
	for (;;) {
		get(f, buf);
		if (log->h.type == AGENT_EXITED)
			break;
		assert_int_equal(log->h.type, AGENT_LOG);
		assert_in_range(log->stream, AGENT_STDOUT, AGENT_STDERR);
		for (size_t i = sizeof(*log); i < log->h.bytes; i++, total++)
			if (used[log->stream - 1] < 63)
				out[log->stream - 1][used[log->stream - 1]++] = buf[i];
	}
	memcpy(ret, buf, sizeof(*ret));
	return total;
}

static void test_runs_and_reports(void **state)
{
	struct agent_exited exited;
	char out[2][64];

	start_shell(*state, "/bin/sh", "echo \"out $NAME\"; echo err >&2; exit 7");
	run_to_exit(*state, out, &exited);
	assert_string_equal(out[0], "out a value\n");
	assert_string_equal(out[1], "err\n");
	assert_int_equal(exited.error, 0);
	assert_int_equal(exited.code, 7);
	assert_int_equal(exited.signal, 0);

	/* And again: nothing is left of the first. */
	start_shell(*state, "/bin/sh", "kill -SEGV $$");
	run_to_exit(*state, out, &exited);
	assert_int_equal(exited.signal, SIGSEGV);
	assert_int_equal(exited.code, 0);
}

static void test_program_that_does_not_exist(void **state)
{
	struct agent_exited exited;
	char out[2][64];

	start_shell(*state, "/nonexistent", "");
	run_to_exit(*state, out, &exited);
	assert_int_equal(exited.error, -ENOENT);
}

/** Output that nobody takes for a while makes the program wait; none of it is lost. */
static void test_flood_of_output(void **state)
{
	struct agent_exited exited;
	char out[2][64];

	start_shell(*state, "/bin/sh", "head -c 3145728 /dev/zero");
	poll(NULL, 0, 100);
	assert_int_equal(run_to_exit(*state, out, &exited), BIG);
	assert_int_equal(exited.code, 0);
}

/** Sizes of which some fill all that lies between a program that ends and a host that waits. */
static void test_last_output_waits_for_room(void **state)
{
	struct agent_exited exited;
	char out[2][64], script[64];

	for (size_t kib = 192; kib <= 576; kib += 32) {
		snprintf(script, sizeof(script), "head -c %zu /dev/zero", kib << 10);
		start_shell(*state, "/bin/sh", script);
		poll(NULL, 0, 100);
		assert_int_equal(run_to_exit(*state, out, &exited), kib << 10);
		assert_int_equal(exited.code, 0);
	}
}

/** What escapes and writes for ever does not keep EXITED back. */
static void test_output_of_what_escapes(void **state)
{
	struct agent_exited exited;
	char out[2][64];

	start_shell(*state, "/bin/sh", "setsid timeout 10 yes & sleep 0.1; exit 3");
	run_to_exit(*state, out, &exited);
	assert_int_equal(exited.code, 3);
}

/** A captured stream does not survive its restore: the runtime goes on. */
static void test_reconnects(void **state)
{
	struct fixture *f = *state;
	struct agent_exited exited;
	char out[2][64];

	start_shell(f, "/bin/sh", "sleep 0.3; echo still here");
	poll(NULL, 0, 50);
	close(f->control);
	expect_ready(f, AGENT_READY_RUNNING);
	run_to_exit(f, out, &exited);
	assert_string_equal(out[0], "still here\n");
}

/** A runtime that ends while nobody reads, and then the stream breaks: EXITED is still said. */
static void test_exited_survives_the_stream(void **state)
{
	struct fixture *f = *state;
	struct agent_exited exited;
	char out[2][64];

	start_shell(f, "/bin/sh", "(sleep 0.2; kill -9 $$) & exec head -c 3145728 /dev/zero");
	poll(NULL, 0, 500);
	close(f->control);
	expect_ready(f, AGENT_READY_RUNNING);
	assert_in_range(run_to_exit(f, out, &exited), 1, BIG - 1);
	assert_int_equal(exited.signal, SIGKILL);
	/* It was said once: another stream knows nothing of it. */
	close(f->control);
	expect_ready(f, 0);
}

static void test_garbage_ends_the_stream_only(void **state)
{
	struct fixture *f = *state;
	struct agent_header wrong[] = {{99, 8}, {AGENT_READY, 24}, {AGENT_PREPARE, 7}};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char text[64] = {0};

		memcpy(text, &wrong[i], sizeof(wrong[i]));
		assert_int_equal(write_full(f->control, text, sizeof(text)), 0);
		while (read(f->control, text, sizeof(text)) > 0)
			;
		close(f->control);
		expect_ready(f, 0);
	}
}

static void test_ends_without_an_owner(void **state)
{
	struct fixture *f = *state;
	int status = 0;

	close(f->control_listener);
	close(f->control);
	assert_int_equal(waitpid(f->agent, &status, 0), f->agent);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
	f->control = f->control_listener = -1;
}

/* ---------------------------------------------------------------- the bridge */

static int connect_api(const struct fixture *f)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET,
		.sin_port = htons(f->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct timeval limit = {.tv_sec = WAIT_S};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

/** Send @n bytes into @from in a process of its own, then its end. */
static pid_t send_much(int from, size_t n)
{
	pid_t pid = fork();

	if (pid == 0) {
		static uint8_t bytes[64 << 10];

		for (size_t done = 0; done < n; done += sizeof(bytes)) {
			for (size_t i = 0; i < sizeof(bytes); i++)
				bytes[i] = (uint8_t)((done + i) * 31 >> 4);
			if (write_full(from, bytes, sizeof(bytes)))
				_exit(1);
		}
		_exit(shutdown(from, SHUT_WR) != 0);
	}
	return pid;
}

static void expect_much(int fd, size_t n)
{
	static uint8_t bytes[BIG + 1];

	assert_int_equal(read_full(fd, bytes, n + 1), n);
	for (size_t i = 0; i < n; i++)
		if (bytes[i] != (uint8_t)(i * 31 >> 4))
			fail_msg("byte %zu is wrong", i);
}

/** Megabytes one way, the end of the stream, then megabytes the other way: a half-close is one. */
static void test_bridge_carries_both_ways(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FD int in = connect_api(f);
	CLEANUP_FD int out = accept_within(f->api_listener);
	pid_t pid = send_much(in, BIG);
	int status;

	expect_much(out, BIG);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	pid = send_much(out, BIG);
	expect_much(in, BIG);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/** An end that answers and goes before it has read everything: its answer arrives all the same. */
static void test_bridge_answer_before_the_end(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FD int in = connect_api(f);
	int out = accept_within(f->api_listener);
	char got[16];

	assert_int_equal(kill(f->agent, SIGSTOP), 0);
	assert_int_equal(write(in, "request", 7), 7);
	assert_int_equal(write(out, "answer", 6), 6);
	close(out);
	assert_int_equal(kill(f->agent, SIGCONT), 0);
	assert_int_equal(read_full(in, got, sizeof(got)), 6);
	assert_memory_equal(got, "answer", 6);
}

/** And what it does not take any more does not make the sender wait. */
static void test_bridge_drops_what_nobody_takes(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FD int in = connect_api(f);
	CLEANUP_FD int out = accept_within(f->api_listener);
	pid_t pid;
	int status;
	char got[16];

	assert_int_equal(shutdown(out, SHUT_RD), 0);
	pid = send_much(in, 4 * BIG);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(write(out, "answer", 6), 6);
	assert_int_equal(shutdown(out, SHUT_WR), 0);
	assert_int_equal(read_full(in, got, sizeof(got)), 6);
	assert_memory_equal(got, "answer", 6);
}

/** More connections than links: the surplus waits for its turn. */
static void test_bridge_many(void **state)
{
	struct fixture *f = *state;
	int in[BRIDGE_LINKS_MAX + 4], out[BRIDGE_LINKS_MAX + 4], n = BRIDGE_LINKS_MAX;
	char byte;

	for (int i = 0; i < n + 4; i++)
		in[i] = connect_api(f);
	for (int i = 0; i < n; i++) {
		out[i] = accept_within(f->api_listener);
		assert_int_equal(write(out[i], "x", 1), 1);
	}
	for (int i = 0; i < n; i++)
		assert_int_equal(read(in[i], &byte, 1), 1);
	assert_int_equal(poll(&(struct pollfd){f->api_listener, POLLIN, 0}, 1, 100), 0);
	for (int i = 0; i < n; i++) {
		close(in[i]);
		assert_int_equal(read(out[i], &byte, 1), 0);
		close(out[i]);
	}
	for (int i = n; i < n + 4; i++) {
		out[i] = accept_within(f->api_listener);
		close(out[i]);
		assert_int_equal(read(in[i], &byte, 1), 0);
		close(in[i]);
	}
}

static void test_bridge_without_anybody_outside(void **state)
{
	struct fixture *f = *state;
	char byte;

	cleanup_fd(&f->api_listener);
	f->api_listener = -1;
	for (int i = 0; i < 2 * BRIDGE_LINKS_MAX; i++) {
		CLEANUP_FD int in = connect_api(f);

		assert_true(read(in, &byte, 1) <= 0);
	}
}

int main(void)
{
#define WITH_AGENT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_AGENT(test_runs_and_reports),
		WITH_AGENT(test_program_that_does_not_exist),
		WITH_AGENT(test_flood_of_output),
		WITH_AGENT(test_last_output_waits_for_room),
		WITH_AGENT(test_output_of_what_escapes),
		WITH_AGENT(test_reconnects),
		WITH_AGENT(test_exited_survives_the_stream),
		WITH_AGENT(test_garbage_ends_the_stream_only),
		WITH_AGENT(test_ends_without_an_owner),
		WITH_AGENT(test_bridge_carries_both_ways),
		WITH_AGENT(test_bridge_answer_before_the_end),
		WITH_AGENT(test_bridge_drops_what_nobody_takes),
		WITH_AGENT(test_bridge_many),
		WITH_AGENT(test_bridge_without_anybody_outside),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
