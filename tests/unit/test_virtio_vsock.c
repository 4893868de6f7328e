/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_virtio_vsock.c - connections to services and to unix sockets: data, credit, endings, limits,
 * a save in the middle, and packets that no driver sends
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include <linux/virtio_vsock.h>

#include "common/log.h"
#include "tests/unit/virtio_driver.h"
#include "vmm/kernel/virtio_vsock.h"

enum {
	RX,
	TX,
	CID = 3,
	PORT = 9001,
	GUEST_PORT = 5000,
	PAYLOAD_MAX = 16384,
	RX_BYTES = 4096,
	GUEST_WINDOW = 65536,
	HEADER = sizeof(struct virtio_vsock_hdr),
};

/** struct packet - as the guest got it. */
struct packet {
	struct virtio_vsock_hdr h;
	uint8_t payload[RX_BYTES];
};

/**
 * struct rig - a driver with a vsock device, and an echo service at PORT.
 * @ended: connections whose guest sends no more; not told to the service unless @hears_end
 * @heard, @heard_bytes: what the service got; @conn: the one that it has last accepted
 */
struct rig {
	struct driver v;
	char path[64], first_path[64];
	uint64_t tx_buffer;
	uint32_t alloc, fwd; /* the guest's credit, in each packet */
	bool echoes, refuses, hears_end;
	struct vsock_conn *conn;
	unsigned accepted, ended, closed;
	size_t heard_bytes;
	uint8_t heard[1 << 20];
};

static struct rig rig;

/* ---- the service ---- */

static int on_accept(void *arg, struct vsock_conn *c)
{
	struct rig *g = arg;

	if (g->refuses)
		return -EBUSY;
	g->accepted++;
	g->conn = c;
	vsock_set_priv(c, g);
	return 0;
}

static void on_data(void *arg, struct vsock_conn *c, const void *data, size_t n)
{
	struct rig *g = arg;

	assert_ptr_equal(vsock_priv(c), g);
	assert_true(n <= sizeof(g->heard) - g->heard_bytes);
	memcpy(g->heard + g->heard_bytes, data, n);
	g->heard_bytes += n;
	if (g->echoes)
		assert_int_equal(vsock_send(c, data, n), 0);
}

static void on_ended(void *arg, struct vsock_conn *c)
{
	struct rig *g = arg;

	assert_true(vsock_conn_ended(c));
	g->ended++;
}

static void on_closed(void *arg, struct vsock_conn *c)
{
	struct rig *g = arg;

	(void)c;
	g->closed++;
}

static struct virtio_device *new_vsock(struct rig *g)
{
	const struct vsock_service echo = {.port = PORT,
					   .arg = g,
					   .accept = on_accept,
					   .data = on_data,
					   .ended = g->hears_end ? on_ended : NULL,
					   .closed = on_closed};
	const struct virtio_vsock_options o = {.guest_cid = CID, .path = g->path};
	struct virtio_wiring w = driver_wiring(&g->v);
	struct virtio_device *d = NULL;

	assert_int_equal(virtio_vsock_new(&w, &o, &d), 0);
	assert_int_equal(vsock_listen_local(d, &echo), 0);
	assert_int_equal(vsock_listen_local(d, &echo), -EADDRINUSE);
	return d;
}

static void give_rx(struct rig *g, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct vring_desc d = {.addr = driver_alloc(&g->v, RX_BYTES, 8), .len = RX_BYTES};

		driver_add(&g->v, RX, &d, 1, 0);
	}
	driver_kick(&g->v, RX);
}

static void open_device(struct rig *g)
{
	driver_init(&g->v);
	g->v.d = new_vsock(g);
	driver_start(&g->v, ~0ull);
	g->tx_buffer = driver_alloc(&g->v, HEADER + PAYLOAD_MAX, 8);
	g->alloc = GUEST_WINDOW;
	give_rx(g, 64);
}

static int setup(void **state)
{
	static unsigned number;

	memset(&rig, 0, sizeof(rig));
	snprintf(rig.path, sizeof(rig.path), "/tmp/qt-vsock-%d-%u", getpid(), number++);
	memcpy(rig.first_path, rig.path, sizeof(rig.path));
	open_device(&rig);
	*state = &rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *g = *state;

	char listener[sizeof(g->path) + 8];

	snprintf(listener, sizeof(listener), "%s_77", g->first_path);
	unlink(listener);
	driver_free(&g->v);
	assert_int_equal(access(g->path, F_OK), -1);
	return 0;
}

/* ---- packets ---- */

static struct virtio_vsock_hdr header(const struct rig *g, uint32_t from, uint32_t to, uint16_t op,
				      uint32_t n)
{
	return (struct virtio_vsock_hdr){
		.src_cid = CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = from,
		.dst_port = to,
		.len = n,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = g->alloc,
		.fwd_cnt = g->fwd,
	};
}

/** A packet as it is, in a chain of two. */
static void transmit(struct rig *g, const struct virtio_vsock_hdr *h, const void *payload,
		     uint32_t n)
{
	memcpy(driver_ptr(&g->v, g->tx_buffer, HEADER), h, HEADER);
	if (n)
		memcpy(driver_ptr(&g->v, g->tx_buffer + HEADER, n), payload, n);
	driver_add(&g->v, TX,
		   (struct vring_desc[]){{.addr = g->tx_buffer, .len = HEADER},
					 {.addr = g->tx_buffer + HEADER, .len = n}},
		   n ? 2 : 1, 2);
	driver_kick(&g->v, TX);
}

static void say(struct rig *g, uint32_t from, uint32_t to, uint16_t op)
{
	struct virtio_vsock_hdr h = header(g, from, to, op, 0);

	transmit(g, &h, NULL, 0);
}

static void say_data(struct rig *g, uint32_t from, uint32_t to, const void *data, uint32_t n)
{
	struct virtio_vsock_hdr h = header(g, from, to, VIRTIO_VSOCK_OP_RW, n);

	transmit(g, &h, data, n);
}

static void say_shutdown(struct rig *g, uint32_t from, uint32_t to, uint32_t flags)
{
	struct virtio_vsock_hdr h = header(g, from, to, VIRTIO_VSOCK_OP_SHUTDOWN, 0);

	h.flags = flags;
	transmit(g, &h, NULL, 0);
}

static void serve(struct rig *g)
{
	while (driver_wait_event(&g->v, 0))
		;
}

/** The next packet for the guest; its buffer goes back to the device. */
static bool hear(struct rig *g, struct packet *p)
{
	struct driver_used used;
	struct vring_desc d;

	if (!driver_take(&g->v, RX, &used)) {
		serve(g);
		if (!driver_take(&g->v, RX, &used))
			return false;
	}
	d = *driver_desc(&g->v, RX, used.id);
	assert_in_range(used.bytes, HEADER, RX_BYTES);
	memcpy(p, driver_ptr(&g->v, d.addr, used.bytes), used.bytes);
	assert_int_equal(p->h.len, used.bytes - HEADER);
	assert_int_equal(p->h.dst_cid, CID);
	driver_offer(&g->v, RX, (uint16_t)used.id);
	driver_kick(&g->v, RX);
	return true;
}

static void expect(struct rig *g, uint32_t from, uint32_t to, uint16_t op, struct packet *p)
{
	struct packet mine = {0};

	p = p ? p : &mine;
	assert_true(hear(g, p));
	assert_int_equal(p->h.op, op);
	assert_int_equal(p->h.src_port, from);
	assert_int_equal(p->h.dst_port, to);
	assert_int_equal(p->h.src_cid, VSOCK_HOST_CID);
}

static void expect_silence(struct rig *g)
{
	struct packet p;

	assert_false(hear(g, &p));
}

static void expect_data(struct rig *g, uint32_t from, uint32_t to, const char *text)
{
	struct packet p;

	expect(g, from, to, VIRTIO_VSOCK_OP_RW, &p);
	assert_int_equal(p.h.len, strlen(text));
	assert_memory_equal(p.payload, text, strlen(text));
}

static void connect_service(struct rig *g, uint32_t from)
{
	say(g, from, PORT, VIRTIO_VSOCK_OP_REQUEST);
	expect(g, PORT, from, VIRTIO_VSOCK_OP_RESPONSE, NULL);
}

/* ---- services ---- */

static void test_service(void **state)
{
	struct rig *g = *state;
	uint64_t cid;
	struct packet p;

	driver_config(&g->v, 0, &cid, sizeof(cid));
	assert_int_equal(cid, CID);
	g->echoes = true;
	connect_service(g, GUEST_PORT);
	assert_int_equal(vsock_conn_port(g->conn), PORT);
	assert_ptr_equal(vsock_conn_by_id(g->v.d, vsock_conn_id(g->conn)), g->conn);
	say_data(g, GUEST_PORT, PORT, "hello", 5);
	expect(g, PORT, GUEST_PORT, VIRTIO_VSOCK_OP_RW, &p);
	assert_int_equal(p.h.len, 5);
	assert_int_equal(p.h.buf_alloc, VSOCK_WINDOW_BYTES);
	assert_int_equal(p.h.fwd_cnt, 5);
	/* A second one at the same time. */
	connect_service(g, GUEST_PORT + 1);
	say_data(g, GUEST_PORT + 1, PORT, "you", 3);
	expect_data(g, PORT, GUEST_PORT + 1, "you");
	say_shutdown(g, GUEST_PORT, PORT, 3);
	expect(g, PORT, GUEST_PORT, VIRTIO_VSOCK_OP_RST, NULL);
	assert_int_equal(g->closed, 1);
	assert_null(vsock_conn_by_id(g->v.d, 0));
	say(g, GUEST_PORT + 1, PORT, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(g->closed, 2);
	expect_silence(g);
	g->refuses = true;
	say(g, GUEST_PORT, PORT, VIRTIO_VSOCK_OP_REQUEST);
	expect(g, PORT, GUEST_PORT, VIRTIO_VSOCK_OP_RST, NULL);
	assert_int_equal(g->closed, 2);
	assert_int_equal(g->accepted, 2);
}

/* A service sends a lot; the guest's buffer decides how fast. */
static void test_service_credit(void **state)
{
	enum { BYTES = 600000 };
	struct rig *g = *state;
	uint8_t *data = malloc(BYTES), *got = malloc(BYTES);
	size_t n = 0;
	struct packet p;

	for (size_t i = 0; i < BYTES; i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	connect_service(g, GUEST_PORT);
	assert_int_equal(vsock_send(g->conn, data, BYTES), 0);
	assert_int_equal(vsock_send(g->conn, data, VSOCK_SEND_BYTES_MAX), -ENOBUFS);
	while (n < BYTES) {
		assert_true(hear(g, &p));
		if (p.h.op == VIRTIO_VSOCK_OP_CREDIT_REQUEST) {
			/* All that was allowed has come, and no more comes unasked. */
			assert_int_equal(n, g->fwd + GUEST_WINDOW);
			expect_silence(g);
			g->fwd = (uint32_t)n;
			say(g, GUEST_PORT, PORT, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			continue;
		}
		assert_int_equal(p.h.op, VIRTIO_VSOCK_OP_RW);
		assert_true(p.h.len <= BYTES - n);
		memcpy(got + n, p.payload, p.h.len);
		n += p.h.len;
	}
	assert_memory_equal(got, data, BYTES);
	/* A close comes after the data. */
	g->fwd = BYTES;
	say(g, GUEST_PORT, PORT, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(vsock_send(g->conn, "end", 3), 0);
	vsock_close(g->conn);
	assert_int_equal(vsock_send(g->conn, "more", 4), -EPIPE);
	expect_data(g, PORT, GUEST_PORT, "end");
	expect(g, PORT, GUEST_PORT, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	assert_int_equal(p.h.flags, 3);
	say(g, GUEST_PORT, PORT, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(g->closed, 0);
	free(data);
	free(got);
}

/* The guest has sent all, and waits for the answer: which comes whenever it comes, from a clone if
 * need be. */
static void test_answer_after_the_end(void **state)
{
	struct rig *g = *state;
	struct state_writer w;
	struct packet p;
	uint32_t id;

	g->hears_end = true;
	driver_free(&g->v);
	open_device(g);
	connect_service(g, GUEST_PORT);
	assert_false(vsock_conn_ended(g->conn));
	say_data(g, GUEST_PORT, PORT, "GET", 3);
	say_shutdown(g, GUEST_PORT, PORT, VIRTIO_VSOCK_SHUTDOWN_SEND);
	say_shutdown(g, GUEST_PORT, PORT, VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_int_equal(g->ended, 1);
	assert_int_equal(g->closed, 0);
	expect_silence(g);
	assert_int_equal(vsock_send(g->conn, "one", 3), 0);
	expect_data(g, PORT, GUEST_PORT, "one");
	id = vsock_conn_id(g->conn);
	w = driver_saved(&g->v);
	snprintf(g->path + strlen(g->path), 8, "-clone");
	assert_int_equal(driver_replace(&g->v, new_vsock(g), &w), 0);
	serve(g);
	g->conn = vsock_conn_by_id(g->v.d, id);
	assert_non_null(g->conn);
	assert_true(vsock_conn_ended(g->conn));
	assert_int_equal(vsock_send(g->conn, "two", 3), 0);
	expect_data(g, PORT, GUEST_PORT, "two");
	vsock_close(g->conn);
	expect(g, PORT, GUEST_PORT, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	assert_int_equal(p.h.flags, 3);
	say(g, GUEST_PORT, PORT, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(g->closed, 0);
	/* A guest that does not wait: first one direction, then the other. */
	connect_service(g, GUEST_PORT);
	say_shutdown(g, GUEST_PORT, PORT, VIRTIO_VSOCK_SHUTDOWN_SEND);
	say_shutdown(g, GUEST_PORT, PORT, VIRTIO_VSOCK_SHUTDOWN_RCV);
	expect(g, PORT, GUEST_PORT, VIRTIO_VSOCK_OP_RST, NULL);
	assert_int_equal(g->ended, 2);
	assert_int_equal(g->closed, 1);
	/* Or both at once: there is nothing to answer. */
	connect_service(g, GUEST_PORT);
	say_shutdown(g, GUEST_PORT, PORT, 3);
	expect(g, PORT, GUEST_PORT, VIRTIO_VSOCK_OP_RST, NULL);
	assert_int_equal(g->ended, 2);
	assert_int_equal(g->closed, 2);
	state_writer_free(&w);
}

/* A service that wants no such thing: its bytes still arrive, then it is over. */
static void test_end_without_answers(void **state)
{
	struct rig *g = *state;
	struct packet p;

	g->echoes = true;
	connect_service(g, GUEST_PORT);
	say_data(g, GUEST_PORT, PORT, "hello", 5);
	say_shutdown(g, GUEST_PORT, PORT, VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_int_equal(g->closed, 1);
	assert_int_equal(vsock_send(g->conn, "x", 1), -EPIPE);
	expect_data(g, PORT, GUEST_PORT, "hello");
	expect(g, PORT, GUEST_PORT, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	assert_int_equal(p.h.flags, 3);
}

/* The guest learns in time that its bytes were taken. */
static void test_credit_for_the_guest(void **state)
{
	static uint8_t block[PAYLOAD_MAX];
	struct rig *g = *state;
	uint32_t sent = 0, known = 0;
	struct packet p;

	connect_service(g, GUEST_PORT);
	while (sent < sizeof(g->heard)) {
		assert_true(sent - known + sizeof(block) <= VSOCK_WINDOW_BYTES);
		say_data(g, GUEST_PORT, PORT, block, sizeof(block));
		sent += sizeof(block);
		if (hear(g, &p)) {
			assert_int_equal(p.h.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			known = p.h.fwd_cnt;
		}
	}
	say(g, GUEST_PORT, PORT, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	expect(g, PORT, GUEST_PORT, VIRTIO_VSOCK_OP_CREDIT_UPDATE, &p);
	assert_int_equal(p.h.fwd_cnt, sizeof(g->heard));
}

/* ---- unix sockets ---- */

static int host_connect(struct rig *g)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", g->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static int host_listen(struct rig *g, unsigned port)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%u", g->path, port);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static void host_say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void host_hears(int fd, const char *text)
{
	char buf[256] = "";

	assert_int_equal(recv(fd, buf, strlen(text), 0), (ssize_t)strlen(text));
	assert_string_equal(buf, text);
}

/** The host calls the guest. Return: the host's port. */
static uint32_t host_calls(struct rig *g, int fd)
{
	struct packet p;
	char line[64] = "", expected[64];

	host_say(fd, "CONNECT 1234\n");
	serve(g);
	assert_true(hear(g, &p));
	assert_int_equal(p.h.op, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(p.h.dst_port, 1234);
	say(g, 1234, p.h.src_port, VIRTIO_VSOCK_OP_RESPONSE);
	snprintf(expected, sizeof(expected), "OK %u\n", p.h.src_port);
	assert_true(recv(fd, line, sizeof(line) - 1, 0) > 0);
	assert_string_equal(line, expected);
	return p.h.src_port;
}

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

static void expect_closed(struct rig *g, int fd)
{
	char c;

	serve(g);
	assert_true(recv(fd, &c, 1, 0) <= 0 && errno != EAGAIN);
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

/** The guest calls the host at @port. Return: the host's end. */
static int guest_calls(struct rig *g, int listener, unsigned port, uint32_t from)
{
	int fd;

	say(g, from, port, VIRTIO_VSOCK_OP_REQUEST);
	expect(g, port, from, VIRTIO_VSOCK_OP_RESPONSE, NULL);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(fd >= 0);
	return fd;
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

/* ---- enemies ---- */

static void test_packets_that_are_none(void **state)
{
	struct rig *g = *state;
	struct virtio_vsock_hdr h = header(g, 1, 2, VIRTIO_VSOCK_OP_RW, 5);

	/* A packet that claims more than its buffer has. */
	transmit(g, &h, "four", 4);
	assert_true(driver_needs_reset(&g->v));
	driver_start(&g->v, ~0ull);
	driver_add(&g->v, TX, &(struct vring_desc){.addr = g->tx_buffer, .len = HEADER - 1}, 1, 1);
	driver_kick(&g->v, TX);
	assert_true(driver_needs_reset(&g->v));
	driver_start(&g->v, ~0ull);
	driver_add(&g->v, RX, &(struct vring_desc){.addr = g->tx_buffer, .len = HEADER - 1}, 1, 0);
	driver_kick(&g->v, RX);
	assert_true(driver_needs_reset(&g->v));
	/* A buffer for the header alone is one, but never gets data. */
	driver_start(&g->v, ~0ull);
	driver_add(&g->v, RX, &(struct vring_desc){.addr = g->tx_buffer, .len = HEADER}, 1, 0);
	driver_kick(&g->v, RX);
	assert_false(driver_needs_reset(&g->v));
}

static void test_packets_out_of_place(void **state)
{
	struct rig *g = *state;
	struct virtio_vsock_hdr h;
	struct packet p;

	/* For another host, of another type, of no known operation, in another guest's name. */
	h = header(g, 1, PORT, VIRTIO_VSOCK_OP_REQUEST, 0);
	h.dst_cid = 77;
	transmit(g, &h, NULL, 0);
	assert_true(hear(g, &p) && p.h.op == VIRTIO_VSOCK_OP_RST && p.h.src_cid == 77);
	h = header(g, 1, PORT, VIRTIO_VSOCK_OP_REQUEST, 0);
	h.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	transmit(g, &h, NULL, 0);
	expect(g, PORT, 1, VIRTIO_VSOCK_OP_RST, NULL);
	say(g, 1, PORT, 99);
	expect(g, PORT, 1, VIRTIO_VSOCK_OP_RST, NULL);
	h = header(g, 1, PORT, VIRTIO_VSOCK_OP_REQUEST, 0);
	h.src_cid = 4;
	transmit(g, &h, NULL, 0);
	say(g, 1, PORT, VIRTIO_VSOCK_OP_RST); /* of nothing: no answer to that */
	expect_silence(g);
	assert_int_equal(g->accepted, 0);
	/* In a connection: a second request, a response, an unknown operation. */
	for (uint16_t i = 0; i < 3; i++) {
		static const uint16_t ops[] = {VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_RESPONSE,
					       0};

		connect_service(g, 1);
		say(g, 1, PORT, ops[i]);
		expect(g, PORT, 1, VIRTIO_VSOCK_OP_RST, NULL);
		assert_int_equal(g->closed, i + 1);
	}
	/* A guest that promises more room, then less. */
	connect_service(g, 1);
	assert_int_equal(vsock_send(g->conn, "abc", 3), 0);
	expect_data(g, PORT, 1, "abc");
	g->alloc = 1;
	say(g, 1, PORT, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(vsock_send(g->conn, "def", 3), 0);
	expect(g, PORT, 1, VIRTIO_VSOCK_OP_CREDIT_REQUEST, NULL);
	expect_silence(g);
	assert_false(driver_needs_reset(&g->v));
}

/* ---- state ---- */

/* Connections to services go on, those to unix sockets are reset. */
static void test_saved_in_the_middle(void **state)
{
	struct rig *g = *state;
	int listener = host_listen(g, 77), fd = guest_calls(g, listener, 77, GUEST_PORT);
	int calling = host_connect(g);
	struct state_writer w;
	struct packet p;
	uint32_t id, ids = 0;

	connect_service(g, GUEST_PORT + 1);
	say_data(g, GUEST_PORT + 1, PORT, "before", 6);
	id = vsock_conn_id(g->conn);
	/* On its way: more than the guest has room for. */
	g->alloc = 4;
	say(g, GUEST_PORT + 1, PORT, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(vsock_send(g->conn, "longer", 6), 0);
	expect_data(g, PORT, GUEST_PORT + 1, "long");
	host_say(calling, "CONNECT 22\n");
	serve(g);
	expect(g, PORT, GUEST_PORT + 1, VIRTIO_VSOCK_OP_CREDIT_REQUEST, NULL);
	expect(g, 1u << 30, 22, VIRTIO_VSOCK_OP_REQUEST, NULL);
	w = driver_saved(&g->v);
	/* The clone has sockets of its own; the guest still has the old ones. */
	snprintf(g->path + strlen(g->path), 8, "-clone");
	assert_int_equal(driver_replace(&g->v, new_vsock(g), &w), 0);
	assert_int_equal(g->closed, 0);
	serve(g);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(hear(g, &p));
		if (p.h.op == VIRTIO_VSOCK_OP_CREDIT_REQUEST)
			continue; /* asked again */
		assert_int_equal(p.h.op, VIRTIO_VSOCK_OP_RST);
		ids |= p.h.dst_port == GUEST_PORT ? 1 : p.h.dst_port == 22 ? 2 : 4;
	}
	assert_int_equal(ids, 3);
	expect_silence(g);
	g->conn = vsock_conn_by_id(g->v.d, id);
	assert_non_null(g->conn);
	vsock_set_priv(g->conn, g);
	g->alloc = GUEST_WINDOW;
	say_data(g, GUEST_PORT + 1, PORT, " after", 6);
	expect_data(g, PORT, GUEST_PORT + 1, "er");
	assert_memory_equal(g->heard, "before after", 12);
	vsock_close(g->conn);
	expect(g, PORT, GUEST_PORT + 1, VIRTIO_VSOCK_OP_SHUTDOWN, NULL);
	state_writer_free(&w);
	close(fd);
	close(calling);
	close(listener);
}

static void test_hostile_state(void **state)
{
	struct rig *g = *state;
	struct state_writer w;
	char path[sizeof(g->path)];

	connect_service(g, GUEST_PORT);
	g->alloc = 0;
	say(g, GUEST_PORT, PORT, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(vsock_send(g->conn, "abc", 3), 0);
	say(g, 1, 1, VIRTIO_VSOCK_OP_REQUEST);
	w = driver_saved(&g->v);
	memcpy(path, g->path, sizeof(path));
	for (size_t at = 0; at < w.used; at++) {
		struct state_writer cut = {.data = w.data, .used = at};

		snprintf(g->path, sizeof(g->path), "%.40s-%zu", path, at);
		assert_int_equal(driver_replace(&g->v, new_vsock(g), &cut), -EBADMSG);
		for (unsigned bit = 0; bit < 8; bit++) {
			w.data[at] ^= (uint8_t)(1u << bit);
			snprintf(g->path, sizeof(g->path), "%.40s-%zu.%u", path, at, bit);
			if (!driver_replace(&g->v, new_vsock(g), &w)) {
				serve(g);
				driver_kick(&g->v, TX);
			}
			w.data[at] ^= (uint8_t)(1u << bit);
		}
	}
	state_writer_free(&w);
}

static void test_paths(void **state)
{
	struct rig *g = *state;
	struct virtio_vsock_options o = {.guest_cid = CID, .path = g->path};
	struct virtio_wiring w = driver_wiring(&g->v);
	struct virtio_device *d;
	char longest[200];

	assert_int_equal(virtio_vsock_new(&w, &o, &d), -EADDRINUSE);
	assert_int_equal(access(g->path, F_OK), 0); /* it is the other one's */
	memset(longest, 'a', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	o.path = longest;
	w = driver_wiring(&g->v);
	assert_int_equal(virtio_vsock_new(&w, &o, &d), -ENAMETOOLONG);
	o.guest_cid = VSOCK_HOST_CID;
	w = driver_wiring(&g->v);
	assert_int_equal(virtio_vsock_new(&w, &o, &d), -EINVAL);
}

/* A driver that resets its device: everybody hears of it. */
static void test_reset(void **state)
{
	struct rig *g = *state;
	int fd = host_connect(g);

	host_calls(g, fd);
	connect_service(g, GUEST_PORT);
	driver_write32(&g->v, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(g->closed, 1);
	errno = 0;
	expect_closed(g, fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_service),
		TEST(test_answer_after_the_end),
		TEST(test_end_without_answers),
		TEST(test_service_credit),
		TEST(test_credit_for_the_guest),
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
		TEST(test_packets_that_are_none),
		TEST(test_packets_out_of_place),
		TEST(test_saved_in_the_middle),
		TEST(test_hostile_state),
		TEST(test_paths),
		TEST(test_reset),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
