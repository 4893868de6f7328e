/* SPDX-License-Identifier: Apache-2.0 */
/* test_agent_link.c - what an agent, or somebody who says to be one, may send; no KVM */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "vmm/kernel/agent_link.h"
#include "vmm/kernel/machine.h"
#include "vmm/kernel/virtio_vsock.h"

/* ---- this file stands in for vsock and for the machine ---- */

struct vsock_conn {
	uint32_t id, port;
	void *priv;
	uint8_t got[1 << 17];
	size_t got_bytes;
	bool ended, closed, full;
};

static struct vsock_conn conns[3] = {{.id = 0, .port = AGENT_CONTROL_PORT},
				     {.id = 1, .port = AGENT_API_PORT},
				     {.id = 2, .port = AGENT_API_PORT}};
static struct vsock_service services[2];
static unsigned service_count;
static struct machine machine;

int vsock_listen_local(struct virtio_device *d, const struct vsock_service *service)
{
	(void)d;
	services[service_count++ % 2] = *service;
	return 0;
}

int vsock_send(struct vsock_conn *c, const void *data, size_t n)
{
	if (c->full)
		return -ENOBUFS;
	assert_true(c->got_bytes + n <= sizeof(c->got));
	memcpy(c->got + c->got_bytes, data, n);
	c->got_bytes += n;
	return 0;
}

void vsock_close(struct vsock_conn *c)
{
	c->closed = true;
}

void vsock_set_priv(struct vsock_conn *c, void *priv)
{
	c->priv = priv;
}

void *vsock_priv(const struct vsock_conn *c)
{
	return c->priv;
}

uint32_t vsock_conn_id(const struct vsock_conn *c)
{
	return c->id;
}

uint32_t vsock_conn_port(const struct vsock_conn *c)
{
	return c->port;
}

bool vsock_conn_ended(const struct vsock_conn *c)
{
	return c->ended;
}

struct vsock_conn *vsock_conn_by_id(struct virtio_device *d, uint32_t id)
{
	(void)d;
	return id < ARRAY_SIZE(conns) ? &conns[id] : NULL;
}

static unsigned log_lines;
void __wrap_log_write(enum log_level level, const char *fmt, ...);

void __wrap_log_write(enum log_level level, const char *fmt, ...)
{
	(void)level;
	(void)fmt;
	log_lines++;
}

void machine_wake(struct machine *m)
{
	(void)m;
}

void machine_finish(struct machine *m, enum machine_end end, const char *fmt, ...)
{
	va_list ap;

	if (m->end)
		return;
	m->end = end;
	va_start(ap, fmt);
	vsnprintf(m->end_text, sizeof(m->end_text), fmt, ap);
	va_end(ap);
}

/* ---- */

static struct agent_link link_;
static char *argv_[] = {(char[]){"/bin/bootstrap"}, NULL};
static char *envp_[] = {(char[]){"A=1"}, (char[]){"B=2"}, NULL};

static void note_parked(void *guest, bool restore)
{
	(void)restore;
	assert_ptr_equal(guest, &machine);
}

static const struct runtime_api_events events = {.parked = note_parked};

static int setup(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(conns); i++) {
		conns[i].got_bytes = 0;
		conns[i].priv = NULL;
		conns[i].ended = conns[i].closed = conns[i].full = false;
	}
	memset(&machine, 0, sizeof(machine));
	service_count = 0;
	assert_int_equal(agent_link_new(&link_, &machine, NULL, &events, &machine), 0);
	link_.argv = argv_;
	link_.envp = envp_;
	assert_int_equal(services[0].accept(&link_, &conns[0]), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	agent_link_free(&link_);
	return 0;
}

static void say(const void *data, size_t n)
{
	services[0].data(&link_, &conns[0], data, n);
}

static void say_ready(uint32_t flags)
{
	const struct agent_ready ready = {
		.h = {AGENT_READY, sizeof(ready)}, .version = AGENT_PROTO_VERSION, .flags = flags};

	say(&ready, sizeof(ready));
}

static void test_start(void **state)
{
	static const char strings[] = "/bin/bootstrap\0A=1\0B=2";
	const struct agent_start *start = (const void *)conns[0].got;

	(void)state;
	say_ready(0);
	assert_true(link_.ready);
	assert_int_equal(conns[0].got_bytes, sizeof(*start) + sizeof(strings));
	assert_true(agent_message_ok(&start->h));
	assert_int_equal(start->argc, 1);
	assert_int_equal(start->envc, 2);
	assert_memory_equal(start + 1, strings, sizeof(strings));
	/* One that runs already, after a reconnection, is not started again. */
	say_ready(AGENT_READY_RUNNING);
	assert_int_equal(conns[0].got_bytes, start->h.bytes);
	assert_int_equal(services[0].accept(&link_, &conns[1]), -ECONNREFUSED);
}

static void test_byte_by_byte(void **state)
{
	const struct agent_exited e = {.h = {AGENT_EXITED, sizeof(e)}, .code = 3};

	(void)state;
	for (size_t i = 0; i < sizeof(e); i++) {
		assert_int_equal(machine.end, MACHINE_RUNS);
		say((const uint8_t *)&e + i, 1);
	}
	assert_int_equal(machine.end, MACHINE_EXITED);
	assert_int_equal(machine.end_code, 3);
	assert_false(conns[0].closed);
}

static void test_breaches(void **state)
{
	static const struct agent_header bad[] = {
		{0, 8},
		{AGENT_READY, 0},
		{AGENT_READY, UINT32_MAX},
		{AGENT_READY, 23},
		{AGENT_LOG, 16},
		{AGENT_LOG, AGENT_MESSAGE_MAX + 1},
		{AGENT_TYPE_END, 8},
		{UINT32_MAX, 8},
	};
	const struct agent_prepare ours = {.h = {AGENT_PREPARE, sizeof(ours)}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		say(&bad[i], sizeof(bad[i]));
		assert_true(conns[0].closed);
		assert_null(link_.conn);
		conns[0].closed = false;
		assert_int_equal(services[0].accept(&link_, &conns[0]), 0);
	}
	/* What only the vmm says, and bytes after the end. */
	say(&ours, sizeof(ours));
	assert_true(conns[0].closed);
	say(&ours, sizeof(ours));
	assert_int_equal(machine.end, MACHINE_RUNS);
}

static void test_another_version(void **state)
{
	const struct agent_ready ready = {.h = {AGENT_READY, sizeof(ready)}, .version = 99};

	(void)state;
	say(&ready, sizeof(ready));
	assert_int_equal(machine.end, MACHINE_BROKEN);
	assert_non_null(strstr(machine.end_text, "version 99"));
}

static const struct agent_resumed_done done_now = {.h = {AGENT_RESUMED_DONE, sizeof(done_now)},
						   .wall_ns = UINT64_MAX};

static const struct agent_identity somebody = {
	.hostname = "clone-7",
	.has_mac = true,
	.mac = {2, 0, 0, 0, 0, 7},
	.has_ip = true,
	.ip = {10, 0, 0, 7},
	.prefix = 24,
	.gateway = {10, 0, 0, 1},
};

static void expect_somebody(const void *bytes)
{
	const struct agent_resumed *got = bytes;

	assert_int_equal(got->h.type, AGENT_RESUMED);
	assert_int_equal(got->h.bytes, sizeof(*got));
	assert_int_equal(got->flags, AGENT_RESUMED_HOSTNAME | AGENT_RESUMED_MAC | AGENT_RESUMED_IP);
	assert_string_equal(got->hostname, "clone-7");
	assert_memory_equal(got->mac, somebody.mac, sizeof(got->mac));
	assert_memory_equal(got->ip, somebody.ip, sizeof(got->ip));
	assert_memory_equal(got->gateway, somebody.gateway, sizeof(got->gateway));
	assert_int_equal(got->prefix, 24);
	assert_true(got->wall_ns);
}

/* At a boot before the program starts, at a restore by itself. */
static void test_identity(void **state)
{
	const struct agent_header *second =
		(const void *)(conns[0].got + sizeof(struct agent_resumed));

	(void)state;
	link_.identity = somebody;
	say_ready(0);
	expect_somebody(conns[0].got);
	assert_int_equal(second->type, AGENT_START);
	say(&done_now, sizeof(done_now));
	conns[0].got_bytes = 0;
	say_ready(AGENT_READY_RUNNING);
	assert_int_equal(conns[0].got_bytes, 0);
	assert_int_equal(agent_link_resume(&link_), 0);
	assert_int_equal(conns[0].got_bytes, sizeof(struct agent_resumed));
	expect_somebody(conns[0].got);
}

/* A clock that could not be set is a pity; a clone with another's address is not served. */
static void test_identity_not_taken(void **state)
{
	const struct agent_resumed_done done = {.h = {AGENT_RESUMED_DONE, sizeof(done)},
						.error = -ENODEV};

	(void)state;
	say_ready(AGENT_READY_RUNNING);
	assert_int_equal(agent_link_resume(&link_), 0);
	say(&done, sizeof(done));
	assert_false(link_.resuming);
	assert_int_equal(machine.end, MACHINE_RUNS);
	link_.identity = somebody;
	say(&done, sizeof(done)); /* was not asked for */
	assert_int_equal(machine.end, MACHINE_RUNS);
	assert_int_equal(agent_link_resume(&link_), 0);
	say(&done, sizeof(done));
	assert_int_equal(machine.end, MACHINE_BROKEN);
	assert_non_null(strstr(machine.end_text, "no network card"));
}

static void test_clock_behind(void **state)
{
	struct agent_resumed_done done = {.h = {AGENT_RESUMED_DONE, sizeof(done)}};
	const struct agent_resumed *again = (const void *)conns[0].got;

	(void)state;
	say_ready(AGENT_READY_RUNNING);
	link_.identity = somebody;
	assert_int_equal(agent_link_resume(&link_), 0);
	conns[0].got_bytes = 0;
	done.wall_ns = clock_real_ns() - NSEC_PER_SEC;
	say(&done, sizeof(done));
	assert_true(link_.resuming);
	assert_int_equal(conns[0].got_bytes, sizeof(*again));
	assert_int_equal(again->flags, 0); /* only the clock */
	assert_true(again->wall_ns > done.wall_ns);
	done.wall_ns = clock_real_ns();
	say(&done, sizeof(done));
	assert_false(link_.resuming);
	/* A guest whose clock cannot be set does not keep its vmm busy. */
	assert_int_equal(agent_link_resume(&link_), 0);
	done.wall_ns = 0;
	for (int i = 0; i < 10 && link_.resuming; i++) {
		conns[0].got_bytes = 0;
		say(&done, sizeof(done));
	}
	assert_false(link_.resuming);
}

static const struct agent_prepared prepared = {.h = {AGENT_PREPARED, sizeof(prepared)}};

/** The agent's stream breaks, and it connects again. */
static void connect_again(void)
{
	services[0].closed(&link_, &conns[0]);
	assert_false(link_.ready);
	conns[0].got_bytes = 0;
	assert_int_equal(services[0].accept(&link_, &conns[0]), 0);
}

/** What the agent got is one message of @type, and nothing else. */
static void expect_only(uint32_t type)
{
	const struct agent_header *h = (const void *)conns[0].got;

	assert_true(conns[0].got_bytes >= sizeof(*h));
	assert_int_equal(h->type, type);
	assert_int_equal(conns[0].got_bytes, h->bytes);
}

/* A machine that was captured without the agent's stream, or loses it: only what the agent says on
 * the stream on which it was told counts. */
static void test_resume_when_it_connects(void **state)
{
	struct state_writer w = {0};
	struct state_reader r;

	(void)state;
	services[0].closed(&link_, &conns[0]);
	assert_int_equal(agent_link_save(&link_, &w), 0);
	agent_link_free(&link_);
	assert_int_equal(agent_link_new(&link_, &machine, NULL, &events, &machine), 0);
	r = (struct state_reader){.data = w.data, .left = w.used};
	assert_int_equal(agent_link_load(&link_, &r), 0);
	state_writer_free(&w);
	assert_int_equal(agent_link_resume(&link_), -ENOTCONN);
	for (int i = 0; i < 3; i++) {
		connect_again();
		say(&done_now, sizeof(done_now));
		assert_true(link_.resuming);
		assert_int_equal(conns[0].got_bytes, 0);
		say_ready(AGENT_READY_RUNNING);
		expect_only(AGENT_RESUMED);
		assert_true(link_.resuming);
	}
	say(&done_now, sizeof(done_now));
	assert_false(link_.resuming);
	/* Once is enough. */
	connect_again();
	say_ready(AGENT_READY_RUNNING);
	assert_int_equal(conns[0].got_bytes, 0);
}

static void test_prepare_when_it_connects(void **state)
{
	(void)state;
	assert_int_equal(agent_link_prepare(&link_), -ENOTCONN);
	say(&prepared, sizeof(prepared));
	assert_true(link_.preparing);
	say_ready(AGENT_READY_RUNNING);
	expect_only(AGENT_PREPARE);
	connect_again();
	assert_true(link_.preparing);
	say_ready(AGENT_READY_RUNNING);
	expect_only(AGENT_PREPARE);
	say(&prepared, sizeof(prepared));
	assert_false(link_.preparing);
	connect_again();
	say_ready(AGENT_READY_RUNNING);
	assert_int_equal(conns[0].got_bytes, 0);
}

/* However often a guest does what is worth a line in the host's log, there are a few. */
static void test_log_has_an_end(void **state)
{
	static const struct agent_header bad = {AGENT_TYPE_END, 8};
	struct agent_resumed_done failed = {.h = {AGENT_RESUMED_DONE, sizeof(failed)},
					    .error = -EPERM};

	(void)state;
	log_lines = 0;
	say_ready(AGENT_READY_RUNNING);
	for (int i = 0; i < 1000; i++)
		say(&failed, sizeof(failed));
	assert_int_equal(log_lines, 0); /* nobody has asked */
	for (int i = 0; i < 1000; i++) {
		say(&bad, sizeof(bad));
		assert_int_equal(services[0].accept(&link_, &conns[0]), 0);
	}
	conns[0].full = true;
	for (int i = 0; i < 1000; i++)
		say_ready(0);
	assert_true(log_lines > 0 && log_lines < 20);
}

static void test_state(void **state)
{
	const struct agent_resumed_done done = {.h = {AGENT_RESUMED_DONE, sizeof(done)},
						.wall_ns = clock_real_ns() + NSEC_PER_SEC};
	struct state_writer w = {0};
	struct state_reader r;

	(void)state;
	say_ready(0);
	say(&done, 11); /* captured in the middle of a message */
	assert_int_equal(agent_link_save(&link_, &w), 0);
	agent_link_free(&link_);
	assert_int_equal(agent_link_new(&link_, &machine, NULL, &events, &machine), 0);
	r = (struct state_reader){.data = w.data, .left = w.used};
	assert_int_equal(agent_link_load(&link_, &r), 0);
	assert_int_equal(r.left, 0);
	assert_int_equal(agent_link_resume(&link_), 0);
	say((const uint8_t *)&done + 11, sizeof(done) - 11);
	assert_false(link_.resuming);
	/* A connection that is not the agent's, or none at all. */
	for (uint32_t id = 1; id < 5; id++) {
		memcpy(w.data, &id, sizeof(id));
		r = (struct state_reader){.data = w.data, .left = w.used};
		assert_int_equal(agent_link_load(&link_, &r), -EBADMSG);
	}
	state_writer_free(&w);
}

/** A request at the Runtime API on a connection of its own, and nothing more on it. */
static void ask_and_end(struct vsock_conn *c, const char *request)
{
	assert_int_equal(services[1].accept(&link_, c), 0);
	services[1].data(&link_, c, request, strlen(request));
	c->ended = true;
	services[1].ended(&link_, c);
}

static void test_answer_after_the_end(void **state)
{
	static const char next[] = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n";
	const struct invocation inv = {.request_id = "i",
				       .function_arn = "arn",
				       .trace_id = "",
				       .client_context = "",
				       .payload = "{}",
				       .payload_bytes = 2};

	(void)state;
	/* What can be answered at once is, and then it is over. */
	ask_and_end(&conns[1], "GET /none HTTP/1.1\r\n\r\n");
	assert_true(conns[1].closed && conns[1].got_bytes);
	conns[1] = (struct vsock_conn){.id = 1, .port = AGENT_API_PORT};
	/* So is half a request. */
	ask_and_end(&conns[1], "GET /no");
	assert_true(conns[1].closed);
	conns[1] = (struct vsock_conn){.id = 1, .port = AGENT_API_PORT};
	/* Who waits for work gets it. */
	ask_and_end(&conns[1], next);
	assert_false(conns[1].closed);
	assert_true(runtime_api_parked(link_.api));
	assert_int_equal(runtime_api_invoke(link_.api, &inv), 0);
	assert_true(conns[1].closed);
	assert_non_null(memmem(conns[1].got, conns[1].got_bytes, "\r\n\r\n{}", 6));
}

/* A runtime that is gone looks like one that only waits: the next one is not to suffer for it. */
static void test_next_one_waits(void **state)
{
	static const char next[] = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n";

	(void)state;
	ask_and_end(&conns[1], next);
	assert_int_equal(services[1].accept(&link_, &conns[2]), 0);
	services[1].data(&link_, &conns[2], next, strlen(next));
	assert_true(conns[1].closed);
	assert_true(runtime_api_parked(link_.api));
	assert_int_equal(conns[1].got_bytes + conns[2].got_bytes, 0);
	services[1].closed(&link_, &conns[2]);
	assert_false(runtime_api_parked(link_.api));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_byte_by_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(test_breaches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_another_version, setup, teardown),
		cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_identity_not_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clock_behind, setup, teardown),
		cmocka_unit_test_setup_teardown(test_resume_when_it_connects, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prepare_when_it_connects, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log_has_an_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_state, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answer_after_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_next_one_waits, setup, teardown),
	};

	log_init("test_agent_link", NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
