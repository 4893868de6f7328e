/* SPDX-License-Identifier: Apache-2.0 */
/* test_sock.c - sockets of one guest, services of the vmm, and both in a saved state */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/unit/fake_cpu.h"
#include "vmm/process/sock_internal.h"

enum { PORT = 9001, ADDR = ARENA, LEN = ARENA + 0x80, BUF = ARENA + 0x1000 };

static struct guest *the_guest;
static struct task *me;

/* ---- a service that sends back what it gets, until it is told to go ---- */

static struct sock *service_conn;
static size_t service_bytes;
static int service_was_ended, service_closed, service_refuses;

static int on_accept(struct proc *p, struct sock *conn)
{
	(void)p;
	if (service_refuses)
		return -ECONNREFUSED;
	service_conn = conn;
	service_set_priv(conn, &service_bytes);
	return 0;
}

static void on_data(struct proc *p, struct sock *conn, const void *data, size_t n)
{
	assert_ptr_equal(service_priv(conn), &service_bytes);
	service_bytes += n;
	if (n >= 4 && !memcmp(data, "quit", 4))
		service_close(p, conn);
	else
		assert_int_equal(service_send(p, conn, data, n), 0);
}

static void on_ended(struct proc *p, struct sock *conn)
{
	(void)p;
	assert_true(service_ended(conn));
	service_was_ended++;
}

static void on_closed(struct proc *p, struct sock *conn)
{
	(void)p;
	(void)conn;
	service_closed++;
}

static const struct sock_service service = {PORT, on_accept, on_data, on_ended, on_closed};

static int register_service(struct proc *p)
{
	return sock_service_register(p, &service);
}

static int setup(void **state)
{
	int ret = guest_setup(state);

	the_guest = *state;
	me = TASK(the_guest, EXIT(0));
	service_conn = NULL;
	service_bytes = 0;
	service_was_ended = service_closed = service_refuses = 0;
	assert_int_equal(register_service(&the_guest->p), 0);
	return ret;
}

#define DO_CALL(n, ...) NOW(the_guest, me, n, __VA_ARGS__)

static void put_inet(const char *ip, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

	assert_int_equal(inet_pton(AF_INET, ip, &in.sin_addr), 1);
	put(the_guest, ADDR, &in, sizeof(in));
	put_u32(the_guest, LEN, sizeof(in));
}

static uint16_t port_of(int64_t fd)
{
	struct sockaddr_in in;

	put_u32(the_guest, LEN, sizeof(in));
	assert_int_equal(DO_CALL(getsockname, (uint64_t)fd, ADDR, LEN), 0);
	get(the_guest, ADDR, &in, sizeof(in));
	return ntohs(in.sin_port);
}

static int64_t stream(void)
{
	int64_t fd = DO_CALL(socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	return fd;
}

static int64_t send_text(int64_t fd, const char *text)
{
	put(the_guest, BUF, text, strlen(text));
	return DO_CALL(sendto, (uint64_t)fd, BUF, strlen(text), MSG_NOSIGNAL, 0, 0);
}

static void expect_text(int64_t fd, const char *text)
{
	char got[64] = "";

	assert_int_equal(DO_CALL(recvfrom, (uint64_t)fd, BUF, sizeof(got), 0, 0, 0), strlen(text));
	get(the_guest, BUF, got, strlen(text));
	assert_string_equal(got, text);
}

/** Three descriptors: listener, client, server's end. */
static void connected(int64_t fds[3])
{
	fds[0] = stream();
	put_inet("127.0.0.1", 0);
	assert_int_equal(DO_CALL(bind, (uint64_t)fds[0], ADDR, 16), 0);
	assert_int_equal(DO_CALL(listen, (uint64_t)fds[0], 5), 0);
	put_inet("127.0.0.1", port_of(fds[0]));
	fds[1] = stream();
	assert_int_equal(DO_CALL(connect, (uint64_t)fds[1], ADDR, 16), 0);
	fds[2] = DO_CALL(accept4, (uint64_t)fds[0], 0, 0, SOCK_NONBLOCK);
	assert_true(fds[2] >= 0);
}

static short ready(int64_t fd)
{
	return socket_file_ops.poll(&the_guest->p, fd_get(&the_guest->p, (int)fd));
}

static void test_stream(void **state)
{
	int64_t fds[3];

	(void)state;
	connected(fds);
	assert_int_equal(DO_CALL(accept, (uint64_t)fds[0], 0, 0), -EAGAIN);
	assert_int_equal(DO_CALL(recvfrom, (uint64_t)fds[1], BUF, 1, 0, 0, 0), -EAGAIN);
	assert_int_equal(send_text(fds[1], "hello"), 5);
	assert_true(ready(fds[2]) & POLLIN);
	expect_text(fds[2], "hello");
	assert_int_equal(send_text(fds[2], "world"), 5);
	assert_int_equal(DO_CALL(shutdown, (uint64_t)fds[2], SHUT_WR), 0);
	expect_text(fds[1], "world");
	assert_int_equal(DO_CALL(recvfrom, (uint64_t)fds[1], BUF, 1, 0, 0, 0), 0);
	assert_int_equal(send_text(fds[2], "x"), -EPIPE);
	assert_int_equal(send_text(fds[1], "still"), 5);
	assert_int_equal(DO_CALL(close, (uint64_t)fds[2]), 0);
	/* It was not read: the connection is reset. */
	assert_true(ready(fds[1]) & (POLLERR | POLLHUP));
	assert_int_equal(DO_CALL(recvfrom, (uint64_t)fds[1], BUF, 1, 0, 0, 0), -ECONNRESET);
	assert_int_equal(DO_CALL(recvfrom, (uint64_t)fds[1], BUF, 1, 0, 0, 0), 0);
}

static void test_flow_control(void **state)
{
	struct guest *g = *state;
	int64_t fds[3], n, sent = 0;

	connected(fds);
	while ((n = DO_CALL(sendto, (uint64_t)fds[1], BUF, 65536, 0, 0, 0)) > 0)
		sent += n;
	assert_int_equal(n, -EAGAIN);
	assert_int_equal(sent, SOCK_BUFFER_BYTES);
	assert_false(ready(fds[1]) & POLLOUT);
	assert_int_equal(DO_CALL(ioctl, (uint64_t)fds[2], FIONREAD, ADDR), 0);
	assert_int_equal(get_u32(g, ADDR), sent);
	assert_int_equal(DO_CALL(recvfrom, (uint64_t)fds[2], BUF, 1000, 0, 0, 0), 1000);
	assert_true(ready(fds[1]) & POLLOUT);
}

static void test_addresses(void **state)
{
	int64_t a = stream(), b = stream(), udp;

	(void)state;
	put_inet("127.0.0.1", 80);
	assert_int_equal(DO_CALL(bind, (uint64_t)a, ADDR, 16), 0);
	assert_int_equal(DO_CALL(bind, (uint64_t)a, ADDR, 16), -EINVAL);
	assert_int_equal(DO_CALL(bind, (uint64_t)b, ADDR, 16), -EADDRINUSE);
	assert_int_equal(DO_CALL(connect, (uint64_t)b, ADDR, 16), -ECONNREFUSED);
	put_inet("0.0.0.0", 80);
	assert_int_equal(DO_CALL(bind, (uint64_t)b, ADDR, 16), -EADDRINUSE);
	put_inet("127.0.0.1", PORT);
	assert_int_equal(DO_CALL(bind, (uint64_t)b, ADDR, 16), -EADDRINUSE);
	put_inet("8.8.8.8", 53);
	assert_int_equal(DO_CALL(bind, (uint64_t)b, ADDR, 16), -EADDRNOTAVAIL);
	assert_int_equal(DO_CALL(connect, (uint64_t)b, ADDR, 16), -ENETUNREACH);
	assert_int_equal(DO_CALL(connect, (uint64_t)b, ADDR, 3), -EINVAL);
	assert_int_equal(DO_CALL(connect, (uint64_t)b, 0x10, 16), -EFAULT);
	udp = DO_CALL(socket, AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(DO_CALL(sendto, (uint64_t)udp, BUF, 1, 0, ADDR, 16), -ENETUNREACH);
	assert_int_equal(DO_CALL(socket, AF_NETLINK, SOCK_RAW, 0), -EAFNOSUPPORT);
	assert_int_equal(DO_CALL(socket, AF_INET, SOCK_RAW, 1), -EPERM);
	assert_int_equal(DO_CALL(socketpair, AF_INET, SOCK_STREAM, 0, ADDR), -EOPNOTSUPP);
	assert_int_equal(DO_CALL(getpeername, (uint64_t)a, ADDR, LEN), -ENOTCONN);
	assert_int_equal(DO_CALL(listen, (uint64_t)udp, 1), -EOPNOTSUPP);
	assert_int_equal(DO_CALL(accept, (uint64_t)a, 0, 0), -EINVAL);
	assert_int_equal(DO_CALL(bind, 99, ADDR, 16), -EBADF);
}

static void test_options(void **state)
{
	struct guest *g = *state;
	uint64_t fd = (uint64_t)stream();

	put_u32(g, BUF, 1);
	assert_int_equal(DO_CALL(setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, BUF, 4), 0);
	put_u32(g, LEN, 4);
	put_u32(g, BUF, 0);
	assert_int_equal(DO_CALL(getsockopt, fd, SOL_SOCKET, SO_REUSEADDR, BUF, LEN), 0);
	assert_int_equal(get_u32(g, BUF), 1);
	assert_int_equal(DO_CALL(getsockopt, fd, SOL_SOCKET, SO_TYPE, BUF, LEN), 0);
	assert_int_equal(get_u32(g, BUF), SOCK_STREAM);
	assert_int_equal(DO_CALL(setsockopt, fd, SOL_SOCKET, SO_TYPE, BUF, 4), -ENOPROTOOPT);
	assert_int_equal(DO_CALL(setsockopt, fd, 12345, 1, BUF, 4), -ENOPROTOOPT);
	for (int name = 1000; name < 1000 + SOCK_OPTIONS_MAX - 1; name++)
		assert_int_equal(DO_CALL(setsockopt, fd, SOL_SOCKET, (uint64_t)name, BUF, 4), 0);
	assert_int_equal(DO_CALL(setsockopt, fd, SOL_SOCKET, 2000, BUF, 4), -ENOBUFS);
}

static int64_t service_client(void)
{
	int64_t fd = stream();

	put_inet("127.0.0.1", PORT);
	assert_int_equal(DO_CALL(connect, (uint64_t)fd, ADDR, 16), 0);
	assert_non_null(service_conn);
	return fd;
}

static void test_service(void **state)
{
	struct guest *g = *state;
	size_t big = 6u << 20;
	uint8_t *data = malloc(big);
	int64_t fd = service_client(), n;

	assert_int_equal(send_text(fd, "echo"), 4);
	expect_text(fd, "echo");
	memset(data, 7, big);
	assert_int_equal(service_send(&g->p, service_conn, data, big), 0);
	for (size_t got = 0; got < big; got += (size_t)n) {
		n = DO_CALL(recvfrom, (uint64_t)fd, BUF, 512 * 1024, 0, 0, 0);
		assert_true(n > 0);
	}
	free(data);
	assert_int_equal(DO_CALL(sendto, (uint64_t)fd, BUF, 900000, 0, 0, 0), 900000);
	assert_int_equal(service_bytes, 900004);
	assert_int_equal(DO_CALL(close, (uint64_t)fd), 0);
	assert_int_equal(service_closed, 1);
	assert_int_equal(g->p.net->count, 0);
	/* What shuts down writing can still read, until it closes. */
	fd = service_client();
	assert_false(service_ended(service_conn));
	assert_int_equal(DO_CALL(shutdown, (uint64_t)fd, SHUT_WR), 0);
	assert_int_equal(service_was_ended, 1);
	assert_int_equal(service_closed, 1);
	assert_int_equal(send_text(fd, "x"), -EPIPE);
	assert_int_equal(service_send(&g->p, service_conn, "late", 4), 0);
	expect_text(fd, "late");
	assert_int_equal(DO_CALL(close, (uint64_t)fd), 0);
	assert_int_equal(service_was_ended, 1);
	assert_int_equal(service_closed, 2);
	assert_int_equal(g->p.net->count, 0);
	/* It closes in the middle of a send. */
	fd = service_client();
	assert_int_equal(send_text(fd, "quit"), 4);
	assert_int_equal(DO_CALL(recvfrom, (uint64_t)fd, BUF, 1, 0, 0, 0), 0);
	assert_int_equal(send_text(fd, "x"), -EPIPE);
	assert_int_equal(service_closed, 2);
	service_refuses = 1;
	put_inet("127.0.0.1", PORT);
	assert_int_equal(DO_CALL(connect, (uint64_t)stream(), ADDR, 16), -ECONNREFUSED);
}

static void test_names_in_the_guest(void **state)
{
	struct guest *g = *state;
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "\0name"};
	uint64_t a = (uint64_t)DO_CALL(socket, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	uint64_t b = (uint64_t)DO_CALL(socket, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	put(g, ADDR, &un, sizeof(un));
	assert_int_equal(DO_CALL(sendto, b, BUF, 3, 0, ADDR, sizeof(un)), -ECONNREFUSED);
	assert_int_equal(DO_CALL(bind, a, ADDR, sizeof(un)), 0);
	assert_int_equal(DO_CALL(bind, b, ADDR, sizeof(un)), -EADDRINUSE);
	assert_int_equal(DO_CALL(sendto, b, BUF, 3, 0, ADDR, sizeof(un)), 3);
	assert_int_equal(DO_CALL(sendto, b, BUF, SOCK_MESSAGE_MAX_BYTES + 1, 0, ADDR, sizeof(un)),
			 -EMSGSIZE);
	assert_int_equal(DO_CALL(recvfrom, a, BUF, 2, MSG_TRUNC, 0, 0), 3);
	assert_int_equal(DO_CALL(recvfrom, a, BUF, 2, 0, 0, 0), -EAGAIN);
	assert_int_equal(DO_CALL(connect, b, ADDR, sizeof(un)), 0);
	assert_int_equal(DO_CALL(close, a), 0);
	assert_int_equal(DO_CALL(sendto, b, BUF, 1, 0, 0, 0), -ECONNREFUSED);
}

static void test_blocking_accept(void **state)
{
	struct guest *g = *state;
	int64_t fds[3];
	uint64_t plain;

	connected(fds);
	/* A program of its own accepts and echoes; another connects. */
	plain = (uint64_t)DO_CALL(socket, AF_INET, SOCK_STREAM, 0);
	put_inet("127.0.0.1", 4444);
	assert_int_equal(DO_CALL(bind, plain, ADDR, 16), 0);
	assert_int_equal(DO_CALL(listen, plain, 1), 0);
	task_exit(&g->p, me, 0);
	g->p.end = PROC_RUNS;
	TASK(g, CALL(accept, plain, 0, 0), EXPECT(8), CALL(recvfrom, 8, BUF, 4, MSG_WAITALL),
	     EXPECT(4), EXIT(0));
	TASK(g, CALL(socket, AF_INET, SOCK_STREAM, 0), EXPECT(7), CALL(connect, 7, ADDR, 16),
	     EXPECT(0), CALL(sendto, 7, BUF, 3), EXPECT(3), CALL(sched_yield),
	     CALL(sendto, 7, BUF, 1), EXPECT(1), EXIT(0));
	/* Descriptors 0 to 2 are not open in this test; take the low numbers. */
	while (fd_install(&g->p, file_ref(fd_get(&g->p, (int)plain)), 0, false) < 6)
		;
	run_all(g);
}

static void test_restore(void **state)
{
	struct guest *g = *state, *fresh = calloc(1, sizeof(*fresh));
	struct state_writer w = {0}, files = {0}, again = {0};
	struct state_reader r;
	struct sock *conn;
	int64_t fds[3], client, pending = stream(), udp;
	uint32_t id;

	connected(fds);
	assert_int_equal(send_text(fds[1], "under way"), 9);
	put_inet("127.0.0.1", port_of(fds[0]));
	assert_int_equal(DO_CALL(connect, (uint64_t)pending, ADDR, 16), 0);
	assert_int_equal(send_text(pending, "early"), 5);
	udp = DO_CALL(socket, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	put_inet("127.0.0.1", 53);
	assert_int_equal(DO_CALL(bind, (uint64_t)udp, ADDR, 16), 0);
	assert_int_equal(DO_CALL(sendto, (uint64_t)udp, BUF, 4, 0, ADDR, 16), 4);
	client = service_client();
	id = sock_id(service_conn);
	assert_int_equal(service_send(&g->p, service_conn, "answer", 6), 0);
	assert_int_equal(net_save(&g->p, &w), 0);
	assert_int_equal(files_save(&g->p, &files), 0);

	guest_start(fresh);
	assert_int_equal(register_service(&fresh->p), 0);
	r = (struct state_reader){.data = w.data, .left = w.used};
	assert_int_equal(net_load(&fresh->p, &r), 0);
	assert_int_equal(r.left, 0);
	r = (struct state_reader){.data = files.data, .left = files.used};
	assert_int_equal(files_load(&fresh->p, &r), 0);
	assert_int_equal(net_save(&fresh->p, &again), 0);
	assert_int_equal(again.used, w.used);
	assert_memory_equal(again.data, w.data, w.used);
	conn = sock_by_id(&fresh->p, id);
	assert_non_null(conn);
	service_set_priv(conn, &service_bytes);
	assert_int_equal(mm_new(&fresh->p), 0);
	assert_int_equal(mm_map(&fresh->p, ARENA, ARENA_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0),
			 ARENA);
	the_guest = fresh;
	me = TASK(fresh, EXIT(0));
	expect_text(fds[2], "under way");
	expect_text(client, "answer");
	assert_int_equal(send_text(client, "more"), 4);
	expect_text(client, "more");
	assert_int_equal(DO_CALL(accept4, (uint64_t)fds[0], 0, 0, SOCK_NONBLOCK), udp + 2);
	expect_text(udp + 2, "early");
	assert_int_equal(DO_CALL(recvfrom, (uint64_t)udp, BUF, 9, 0, 0, 0), 4);
	guest_stop(fresh);
	free(fresh);
	load_damaged(g, &w, net_load, register_service);
	state_writer_free(&w);
	state_writer_free(&files);
	state_writer_free(&again);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, guest_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_stream),		 T(test_flow_control), T(test_addresses),
		T(test_options),	 T(test_service),      T(test_names_in_the_guest),
		T(test_blocking_accept), T(test_restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
