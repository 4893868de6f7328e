/* SPDX-License-Identifier: Apache-2.0 */
/* sockets.c - guest program: streams, datagrams, names, options, shutdown */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"

enum { BIG = 3 << 20 };

static int listener_at(int family, struct sockaddr_storage *addr, socklen_t *len)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	int one = 1, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	if (family == AF_INET)
		CHECK(!bind(fd, (struct sockaddr *)&in, sizeof(in)));
	else
		CHECK(!bind(fd, (struct sockaddr *)&in6, sizeof(in6)));
	CHECK(!listen(fd, 5));
	*len = sizeof(*addr);
	CHECK(!getsockname(fd, (struct sockaddr *)addr, len));
	return fd;
}

static void *echo(void *arg)
{
	int fd = accept(*(int *)arg, NULL, NULL);
	char buf[5000];
	ssize_t n;

	CHECK(fd >= 0);
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		for (ssize_t done = 0, w; done < n; done += w)
			CHECK((w = send(fd, buf + done, (size_t)(n - done), 0)) > 0);
	CHECK(n == 0);
	close(fd);
	return NULL;
}

static void *send_big(void *arg)
{
	int fd = *(int *)arg;
	char *data = malloc(BIG);

	memset(data, 'z', BIG);
	for (size_t done = 0; done < BIG;) {
		ssize_t n = send(fd, data + done, BIG - done, 0);

		CHECK(n > 0);
		done += (size_t)n;
	}
	CHECK(!shutdown(fd, SHUT_WR));
	free(data);
	return NULL;
}

static void test_tcp(int family)
{
	struct sockaddr_storage addr, peer;
	socklen_t len, plen = sizeof(peer);
	int srv = listener_at(family, &addr, &len), fd = socket(family, SOCK_STREAM, 0), one = 1;
	pthread_t server, sender;
	size_t got = 0;
	char buf[70000];
	ssize_t n;

	CHECK(!pthread_create(&server, NULL, echo, &srv));
	CHECK(!connect(fd, (struct sockaddr *)&addr, len));
	CHECK(!getpeername(fd, (struct sockaddr *)&peer, &plen));
	CHECK(((struct sockaddr_in *)&peer)->sin_port == ((struct sockaddr_in *)&addr)->sin_port);
	CHECK(!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	CHECK(!pthread_create(&sender, NULL, send_big, &fd));
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
		CHECK(buf[0] == 'z' && buf[n - 1] == 'z');
		got += (size_t)n;
	}
	CHECK(n == 0 && got == BIG);
	CHECK(!pthread_join(sender, NULL) && !pthread_join(server, NULL));
	close(fd);
	close(srv);
	fd = socket(family, SOCK_STREAM, 0);
	CHECK(connect(fd, (struct sockaddr *)&addr, len) == -1 && errno == ECONNREFUSED);
	close(fd);
}

static void test_dual_stack(void)
{
	struct sockaddr_storage addr;
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 from;
	socklen_t len, flen = sizeof(from);
	int srv = listener_at(AF_INET6, &addr, &len), fd = socket(AF_INET, SOCK_STREAM, 0), conn;

	in.sin_port = ((struct sockaddr_in6 *)&addr)->sin6_port;
	CHECK(!connect(fd, (struct sockaddr *)&in, sizeof(in)));
	conn = accept(srv, (struct sockaddr *)&from, &flen);
	CHECK(conn >= 0 && from.sin6_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&from.sin6_addr));
	close(conn);
	close(fd);
	close(srv);
}

static void test_nonblocking(void)
{
	struct sockaddr_storage addr;
	socklen_t len, elen = sizeof(int);
	int srv = listener_at(AF_INET, &addr, &len),
	    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct timeval tv = {0, 20000};
	int conn, err = 1, avail;
	size_t filled = 0;
	char buf[4096] = "";
	ssize_t n;

	fcntl(srv, F_SETFL, O_NONBLOCK);
	CHECK(accept4(srv, NULL, NULL, SOCK_NONBLOCK) == -1 && errno == EAGAIN);
	CHECK(!connect(fd, (struct sockaddr *)&addr, len) || errno == EINPROGRESS);
	CHECK(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &elen) && err == 0);
	conn = accept4(srv, NULL, NULL, 0);
	CHECK(conn >= 0 && recv(fd, buf, 1, 0) == -1 && errno == EAGAIN);
	while ((n = send(fd, buf, sizeof(buf), 0)) > 0)
		filled += (size_t)n;
	CHECK(n == -1 && errno == EAGAIN && filled > 60000);
	CHECK(!ioctl(conn, FIONREAD, &avail) && avail > 0);
	CHECK(recv(conn, buf, 10, MSG_PEEK) == 10 && !ioctl(conn, FIONREAD, &avail));
	while (filled)
		filled -= (size_t)recv(conn, buf, sizeof(buf), 0);
	CHECK(!setsockopt(conn, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	CHECK(recv(conn, buf, 1, 0) == -1 && errno == EAGAIN);
	CHECK(send(fd, "abcdef", 6, 0) == 6 && recv(conn, buf, 3, MSG_WAITALL) == 3);
	close(fd);
	CHECK(recv(conn, buf, 8, 0) == 3 && recv(conn, buf, 8, 0) == 0);
	signal(SIGPIPE, SIG_IGN);
	while (send(conn, "x", 1, 0) == 1)
		usleep(1000); /* TCP learns it by the answer to the first one */
	CHECK(errno == EPIPE || errno == ECONNRESET);
	close(conn);
	close(srv);
}

static void test_udp(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in from;
	socklen_t len = sizeof(in), flen = sizeof(from);
	int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
	struct iovec iov[2] = {{(char[]){"hello "}, 6}, {(char[]){"world"}, 5}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	char buf[64];

	CHECK(!bind(a, (struct sockaddr *)&in, sizeof(in)) &&
	      !getsockname(a, (struct sockaddr *)&in, &len));
	msg.msg_name = &in;
	msg.msg_namelen = sizeof(in);
	CHECK(sendmsg(b, &msg, 0) == 11);
	CHECK(recvfrom(a, buf, 5, MSG_PEEK | MSG_TRUNC, (struct sockaddr *)&from, &flen) == 11);
	CHECK(recvfrom(a, buf, sizeof(buf), 0, (struct sockaddr *)&from, &flen) == 11 &&
	      !memcmp(buf, "hello world", 11));
	CHECK(sendto(a, "back", 4, 0, (struct sockaddr *)&from, flen) == 4);
	CHECK(!connect(b, (struct sockaddr *)&in, sizeof(in)) && recv(b, buf, sizeof(buf), 0) == 4);
	in.sin_addr.s_addr = htonl(0x08080808);
	CHECK(connect(b, (struct sockaddr *)&in, sizeof(in)) == -1 && errno == ENETUNREACH);
	close(a);
	close(b);
	CHECK(socket(AF_NETLINK, SOCK_RAW, 0) == -1 && errno == EAFNOSUPPORT);
}

static void test_unix(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "\0name"};
	socklen_t len = offsetof(struct sockaddr_un, sun_path) + 5;
	int srv = socket(AF_UNIX, SOCK_STREAM, 0), fd = socket(AF_UNIX, SOCK_STREAM, 0), conn,
	    sp[2];
	struct pollfd pfd;
	char buf[16];

	CHECK(connect(fd, (struct sockaddr *)&un, len) == -1);
	CHECK(!bind(srv, (struct sockaddr *)&un, len) && !listen(srv, 1));
	CHECK(!connect(fd, (struct sockaddr *)&un, len) && (conn = accept(srv, NULL, NULL)) >= 0);
	CHECK(write(fd, "hi", 2) == 2 && read(conn, buf, 16) == 2);
	close(fd);
	CHECK(read(conn, buf, 16) == 0);
	close(conn);
	close(srv);
	CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sp));
	CHECK(send(sp[0], "one", 3, 0) == 3 && send(sp[0], "three", 5, 0) == 5);
	CHECK(recv(sp[1], buf, 2, 0) == 2 && recv(sp[1], buf, 16, 0) == 5);
	close(sp[0]);
	pfd = (struct pollfd){sp[1], POLLIN, 0};
	CHECK(poll(&pfd, 1, -1) == 1 && (pfd.revents & POLLHUP) && recv(sp[1], buf, 16, 0) == 0);
	close(sp[1]);
	CHECK(!socketpair(AF_UNIX, SOCK_DGRAM, 0, sp));
	CHECK(write(sp[0], "d", 1) == 1 && read(sp[1], buf, 16) == 1);
	close(sp[0]);
	CHECK(write(sp[1], "d", 1) == -1 && errno == ECONNREFUSED);
	close(sp[1]);
}

static void test_unix_path(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/tmp/quickthaw-test.sock"},
			   got;
	int srv = socket(AF_UNIX, SOCK_STREAM, 0), fd = socket(AF_UNIX, SOCK_STREAM, 0), conn;
	socklen_t len = sizeof(got);
	struct stat st;

	unlink(un.sun_path);
	CHECK(connect(fd, (struct sockaddr *)&un, sizeof(un)) == -1 && errno == ENOENT);
	CHECK(!bind(srv, (struct sockaddr *)&un, sizeof(un)) && !listen(srv, 1));
	CHECK(!stat(un.sun_path, &st) && S_ISSOCK(st.st_mode) && !chmod(un.sun_path, 0600));
	CHECK(open(un.sun_path, O_RDWR) == -1 && errno == ENXIO);
	CHECK(!rename(un.sun_path, "/tmp/quickthaw-renamed.sock"));
	strcpy(un.sun_path, "/tmp/quickthaw-renamed.sock");
	CHECK(!connect(fd, (struct sockaddr *)&un, sizeof(un)));
	CHECK((conn = accept(srv, NULL, NULL)) >= 0);
	CHECK(!getpeername(fd, (struct sockaddr *)&got, &len));
	CHECK(!strcmp(got.sun_path, "/tmp/quickthaw-test.sock"));
	close(fd);
	close(conn);
	close(srv);
	/* The node stays, and nobody listens there. */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(connect(fd, (struct sockaddr *)&un, sizeof(un)) == -1 && errno == ECONNREFUSED);
	CHECK(bind(fd, (struct sockaddr *)&un, sizeof(un)) == -1 && errno == EADDRINUSE);
	CHECK(!unlink(un.sun_path) && !bind(fd, (struct sockaddr *)&un, sizeof(un)));
	CHECK(!unlink(un.sun_path));
	close(fd);
}

int main(void)
{
	test_tcp(AF_INET);
	test_tcp(AF_INET6);
	test_dual_stack();
	test_nonblocking();
	test_udp();
	test_unix();
	test_unix_path();
	puts("sockets ok");
	return 0;
}
