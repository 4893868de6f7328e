/* SPDX-License-Identifier: Apache-2.0 */
/* test_virtio_vsock_unix.c - connections from and to unix sockets of the host, and how many */
#include "tests/unit/vsock_fixture.h"

/* ---- unix sockets ---- */

static void test_host_calls(void **state)
{
	struct rig *g = *state;
	int fd = host_connect(g), other = host_connect(g);
	struct packet p;
	uint32_t port, other_port;

	port = host_calls(g, fd);
	other_port = host_calls(g, other);
	assert_int_not_equal(port, other_port);
	host_say(fd, "ping");
	expect_data(g, port, 1234, "ping");
	say_data(g, 1234, port, "pong", 4);
	host_hears(fd, "pong");
	/* The host is through with sending, then with everything. */
	shutdown(fd, SHUT_WR);
	expect(g, port, 1234, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	assert_int_equal(p.h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	say_data(g, 1234, port, "last", 4);
	host_hears(fd, "last");
	close(fd);
	expect(g, port, 1234, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	assert_int_equal(p.h.flags, 3);
	say(g, 1234, port, VIRTIO_VSOCK_OP_RST);
	/* The other one's last words are heard before its end. */
	host_say(other, "bye");
	close(other);
	expect_data(g, other_port, 1234, "bye");
	expect(g, other_port, 1234, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	assert_int_equal(p.h.flags, 3);
	say(g, 1234, other_port, VIRTIO_VSOCK_OP_RST);
	expect_silence(g);
}

/* In one piece with the line, and before the guest accepts: nothing of it is lost. */
static void test_host_calls_in_haste(void **state)
{
	struct rig *g = *state;
	int fd = host_connect(g);
	struct packet p;

	host_say(fd, "CONN");
	serve(g);
	expect_silence(g);
	host_say(fd, "ECT 80\nGET /");
	serve(g);
	expect(g, 1u << 30, 80, VIRTIO_VSOCK_OP_REQUEST, &p);
	expect_silence(g);
	say(g, 80, p.h.src_port, VIRTIO_VSOCK_OP_RESPONSE);
	expect_data(g, p.h.src_port, 80, "GET /");
	close(fd);
}

static void test_host_talks_nonsense(void **state)
{
	static const char *const lines[] = {
		"CONNECT\n",
		"CONNECT \n",
		"CONNECT 12x\n",
		"CONNECT 4294967295\n",
		"connect 1\n",
		"CONNECT 99999999999999999999\n",
		"\n",
		"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"CONNECT 000000000000000000000000000000000001\n",
	};
	struct rig *g = *state;
	int fd;
	struct packet p;

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		fd = host_connect(g);
		host_say(fd, lines[i]);
		errno = 0;
		expect_closed(g, fd);
	}
	expect_silence(g);
	/* The guest refuses. */
	fd = host_connect(g);
	host_say(fd, "CONNECT 22\n");
	serve(g);
	expect(g, 1u << 30, 22, VIRTIO_VSOCK_OP_REQUEST, &p);
	say(g, 22, p.h.src_port, VIRTIO_VSOCK_OP_RST);
	errno = 0;
	expect_closed(g, fd);
}

static void test_guest_calls(void **state)
{
	struct rig *g = *state;
	int listener = host_listen(g, 77), fd = guest_calls(g, listener, 77, GUEST_PORT);
	struct packet p;
	char c;

	say_data(g, GUEST_PORT, 77, "over", 4);
	host_hears(fd, "over");
	host_say(fd, "out");
	expect_data(g, 77, GUEST_PORT, "out");
	/* The guest has sent all, and still hears. */
	say_shutdown(g, GUEST_PORT, 77, VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_int_equal(recv(fd, &c, 1, 0), 0);
	host_say(fd, "still");
	expect_data(g, 77, GUEST_PORT, "still");
	say_data(g, GUEST_PORT, 77, "x", 1); /* it said it would not */
	expect(g, 77, GUEST_PORT, VIRTIO_VSOCK_OP_RST, &p);
	close(fd);
	/* Nobody listens there. */
	say(g, GUEST_PORT, 78, VIRTIO_VSOCK_OP_REQUEST);
	expect(g, 78, GUEST_PORT, VIRTIO_VSOCK_OP_RST, NULL);
	close(listener);
}

/* A host that does not read: the guest's window fills, then waits; nothing is lost, not even what
 * was written just before a close. */
static void test_slow_host(void **state)
{
	static uint8_t block[PAYLOAD_MAX], got[2 * VSOCK_WINDOW_BYTES];
	struct rig *g = *state;
	int listener = host_listen(g, 77), fd = guest_calls(g, listener, 77, GUEST_PORT);
	uint32_t sent = 0, fwd = 0, heard = 0;
	struct packet p;
	ssize_t n;

	while (sent - fwd + sizeof(block) <= VSOCK_WINDOW_BYTES) {
		memset(block, (int)(sent / sizeof(block)), sizeof(block));
		say_data(g, GUEST_PORT, 77, block, sizeof(block));
		sent += sizeof(block);
		while (hear(g, &p)) {
			assert_int_equal(p.h.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			fwd = p.h.fwd_cnt;
		}
	}
	assert_in_range(sent, VSOCK_WINDOW_BYTES, sizeof(got));
	/* The guest closes and hears at once that all is well. */
	say_shutdown(g, GUEST_PORT, 77, 3);
	expect(g, 77, GUEST_PORT, VIRTIO_VSOCK_OP_RST, NULL);
	while ((n = recv(fd, got + heard, sizeof(got) - heard, 0)) > 0) {
		heard += (uint32_t)n;
		serve(g);
	}
	assert_int_equal(n, 0);
	assert_int_equal(heard, sent);
	for (uint32_t i = 0; i < heard; i++)
		assert_int_equal(got[i], i / sizeof(block));
	close(fd);
	close(listener);
}

static void test_window_overrun(void **state)
{
	static uint8_t block[PAYLOAD_MAX];
	struct rig *g = *state;
	int listener = host_listen(g, 77), fd = guest_calls(g, listener, 77, GUEST_PORT);
	struct packet p = {0};

	for (unsigned i = 0; i < 200 && p.h.op != VIRTIO_VSOCK_OP_RST; i++) {
		say_data(g, GUEST_PORT, 77, block, sizeof(block));
		while (p.h.op != VIRTIO_VSOCK_OP_RST && hear(g, &p))
			;
	}
	assert_int_equal(p.h.op, VIRTIO_VSOCK_OP_RST);
	assert_false(driver_needs_reset(&g->v));
	close(fd);
	close(listener);
}

/* Events of a socket, taken together with one that gives its slot to another: they are not that
 * one's. */
static void test_events_of_the_one_before(void **state)
{
	struct rig *g = *state;
	int silent = host_connect(g), fd;
	uint32_t port;
	struct packet p;

	serve(g); /* slot 0, and the first to leave */
	for (unsigned i = 1; i < VSOCK_CONNECTIONS_MAX; i++)
		connect_service(g, 10000 + i);
	serve(g);
	fd = host_connect(g); /* the listener is ready first */
	close(silent);
	port = host_calls(g, fd);
	/* Were it said to have hung up, it could send and hear no more. */
	shutdown(fd, SHUT_WR);
	expect(g, port, 1234, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	assert_int_equal(p.h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	say_data(g, 1234, port, "last", 4);
	host_hears(fd, "last");
	close(fd);
}

/* ---- limits ---- */

static void test_connections_are_limited(void **state)
{
	struct rig *g = *state;
	int fds[VSOCK_CONNECTIONS_MAX + 1], fd;

	/* Silent ones give way. */
	for (unsigned i = 0; i <= VSOCK_CONNECTIONS_MAX; i++) {
		fds[i] = host_connect(g);
		serve(g);
	}
	fd = host_connect(g);
	host_calls(g, fd);
	for (unsigned i = 0; i <= VSOCK_CONNECTIONS_MAX; i++)
		close(fds[i]);
	serve(g);
	for (unsigned i = 1; i < VSOCK_CONNECTIONS_MAX; i++)
		connect_service(g, 10000 + i);
	say(g, 10000, PORT, VIRTIO_VSOCK_OP_REQUEST);
	expect(g, PORT, 10000, VIRTIO_VSOCK_OP_RST, NULL);
	close(fd);
}

/* Packets for nobody, from a guest that takes no answers: they wait in its ring. */
static void test_answers_are_limited(void **state)
{
	struct rig *g = *state;
	struct packet p;
	unsigned taken = 0;
	struct driver_used used;

	driver_start(&g->v, ~0ull); /* no receive buffers from here on */
	for (unsigned i = 0; i < 200; i++)
		say(g, 1, 7, VIRTIO_VSOCK_OP_RW);
	while (driver_take(&g->v, TX, &used))
		taken++;
	assert_in_range(taken, 1, 100);
	give_rx(g, 16);
	for (unsigned i = 0; i < 200; i++)
		expect(g, 7, 1, VIRTIO_VSOCK_OP_RST, &p);
	while (driver_take(&g->v, TX, &used))
		taken++;
	assert_int_equal(taken, 200);
	expect_silence(g);
}

/* Large packets, as many as the ring takes: others have their turn in between. */
static void test_turns_are_short(void **state)
{
	enum { MANY = 40, PARTS = 4, TURN_PACKETS = 16 };
	struct rig *g = *state;
	struct virtio_vsock_hdr h = header(g, 1, 7, VIRTIO_VSOCK_OP_RW, PARTS * PAYLOAD_MAX);
	struct vring_desc segs[1 + PARTS] = {{.addr = g->tx_buffer, .len = HEADER}};
	struct driver_used used;
	unsigned count = 0;

	memcpy(driver_ptr(&g->v, g->tx_buffer, HEADER), &h, HEADER);
	for (unsigned i = 1; i <= PARTS; i++)
		segs[i] = (struct vring_desc){.addr = g->tx_buffer + HEADER, .len = PAYLOAD_MAX};
	for (unsigned i = 0; i < MANY; i++)
		driver_add(&g->v, TX, segs, 1 + PARTS, 1 + PARTS);
	driver_kick(&g->v, TX);
	while (driver_take(&g->v, TX, &used))
		count++;
	assert_in_range(count, 1, TURN_PACKETS);
	for (; count < MANY; count++)
		driver_wait(&g->v, TX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_host_calls),
		TEST(test_host_calls_in_haste),
		TEST(test_host_talks_nonsense),
		TEST(test_guest_calls),
		TEST(test_slow_host),
		TEST(test_window_overrun),
		TEST(test_events_of_the_one_before),
		TEST(test_connections_are_limited),
		TEST(test_answers_are_limited),
		TEST(test_turns_are_short),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
