/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_virtio_vsock.c - connections to services: data, credit, endings, a save in the middle, and
 * packets that no driver sends
 */
#include "tests/unit/vsock_fixture.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_service),
		TEST(test_answer_after_the_end),
		TEST(test_end_without_answers),
		TEST(test_service_credit),
		TEST(test_credit_for_the_guest),
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
