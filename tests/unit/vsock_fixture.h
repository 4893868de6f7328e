/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_fixture.h - a driver with a vsock device, a service at its end, and hosts on unix sockets
 */
#ifndef QUICKTHAW_VSOCK_FIXTURE_H
#define QUICKTHAW_VSOCK_FIXTURE_H

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

static inline int on_accept(void *arg, struct vsock_conn *c)
{
	struct rig *g = arg;

	if (g->refuses)
		return -EBUSY;
	g->accepted++;
	g->conn = c;
	vsock_set_priv(c, g);
	return 0;
}

static inline void on_data(void *arg, struct vsock_conn *c, const void *data, size_t n)
{
	struct rig *g = arg;

	assert_ptr_equal(vsock_priv(c), g);
	assert_true(n <= sizeof(g->heard) - g->heard_bytes);
	memcpy(g->heard + g->heard_bytes, data, n);
	g->heard_bytes += n;
	if (g->echoes)
		assert_int_equal(vsock_send(c, data, n), 0);
}

static inline void on_ended(void *arg, struct vsock_conn *c)
{
	struct rig *g = arg;

	assert_true(vsock_conn_ended(c));
	g->ended++;
}

static inline void on_closed(void *arg, struct vsock_conn *c)
{
	struct rig *g = arg;

	(void)c;
	g->closed++;
}

static inline struct virtio_device *new_vsock(struct rig *g)
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

static inline void give_rx(struct rig *g, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct vring_desc d = {.addr = driver_alloc(&g->v, RX_BYTES, 8), .len = RX_BYTES};

		driver_add(&g->v, RX, &d, 1, 0);
	}
	driver_kick(&g->v, RX);
}

static inline void open_device(struct rig *g)
{
	driver_init(&g->v);
	g->v.d = new_vsock(g);
	driver_start(&g->v, ~0ull);
	g->tx_buffer = driver_alloc(&g->v, HEADER + PAYLOAD_MAX, 8);
	g->alloc = GUEST_WINDOW;
	give_rx(g, 64);
}

static inline int setup(void **state)
{
	static unsigned number;

	memset(&rig, 0, sizeof(rig));
	snprintf(rig.path, sizeof(rig.path), "/tmp/qt-vsock-%d-%u", getpid(), number++);
	memcpy(rig.first_path, rig.path, sizeof(rig.path));
	open_device(&rig);
	*state = &rig;
	return 0;
}

static inline int teardown(void **state)
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

static inline struct virtio_vsock_hdr header(const struct rig *g, uint32_t from, uint32_t to,
					     uint16_t op, uint32_t n)
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
static inline void transmit(struct rig *g, const struct virtio_vsock_hdr *h, const void *payload,
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

static inline void say(struct rig *g, uint32_t from, uint32_t to, uint16_t op)
{
	struct virtio_vsock_hdr h = header(g, from, to, op, 0);

	transmit(g, &h, NULL, 0);
}

static inline void say_data(struct rig *g, uint32_t from, uint32_t to, const void *data, uint32_t n)
{
	struct virtio_vsock_hdr h = header(g, from, to, VIRTIO_VSOCK_OP_RW, n);

	transmit(g, &h, data, n);
}

static inline void say_shutdown(struct rig *g, uint32_t from, uint32_t to, uint32_t flags)
{
	struct virtio_vsock_hdr h = header(g, from, to, VIRTIO_VSOCK_OP_SHUTDOWN, 0);

	h.flags = flags;
	transmit(g, &h, NULL, 0);
}

static inline void serve(struct rig *g)
{
	while (driver_wait_event(&g->v, 0))
		;
}

/** The next packet for the guest; its buffer goes back to the device. */
static inline bool hear(struct rig *g, struct packet *p)
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

static inline void expect(struct rig *g, uint32_t from, uint32_t to, uint16_t op, struct packet *p)
{
	struct packet mine = {0};

	p = p ? p : &mine;
	assert_true(hear(g, p));
	assert_int_equal(p->h.op, op);
	assert_int_equal(p->h.src_port, from);
	assert_int_equal(p->h.dst_port, to);
	assert_int_equal(p->h.src_cid, VSOCK_HOST_CID);
}

static inline void expect_silence(struct rig *g)
{
	struct packet p;

	assert_false(hear(g, &p));
}

static inline void expect_data(struct rig *g, uint32_t from, uint32_t to, const char *text)
{
	struct packet p;

	expect(g, from, to, VIRTIO_VSOCK_OP_RW, &p);
	assert_int_equal(p.h.len, strlen(text));
	assert_memory_equal(p.payload, text, strlen(text));
}

static inline void connect_service(struct rig *g, uint32_t from)
{
	say(g, from, PORT, VIRTIO_VSOCK_OP_REQUEST);
	expect(g, PORT, from, VIRTIO_VSOCK_OP_RESPONSE, NULL);
}

/* ---- hosts on unix sockets ---- */

static inline int host_connect(struct rig *g)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", g->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static inline int host_listen(struct rig *g, unsigned port)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%u", g->path, port);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static inline void host_say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static inline void host_hears(int fd, const char *text)
{
	char buf[256] = "";

	assert_int_equal(recv(fd, buf, strlen(text), 0), (ssize_t)strlen(text));
	assert_string_equal(buf, text);
}

/** The host calls the guest. Return: the host's port. */
static inline uint32_t host_calls(struct rig *g, int fd)
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

static inline void expect_closed(struct rig *g, int fd)
{
	char c;

	serve(g);
	assert_true(recv(fd, &c, 1, 0) <= 0 && errno != EAGAIN);
	close(fd);
}

/** The guest calls the host at @port. Return: the host's end. */
static inline int guest_calls(struct rig *g, int listener, unsigned port, uint32_t from)
{
	int fd;

	say(g, from, port, VIRTIO_VSOCK_OP_REQUEST);
	expect(g, port, from, VIRTIO_VSOCK_OP_RESPONSE, NULL);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(fd >= 0);
	return fd;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
