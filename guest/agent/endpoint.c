/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint.c - where a stream to the outside leads */
#include "guest/agent/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

/* After sys/socket.h, which it needs and does not include. */
#include <linux/vm_sockets.h>

#include "common/cleanup.h"
#include "common/clock.h"

enum { RETRY_MS = 5 };

int endpoint_parse(struct endpoint *e, const char *text)
{
	struct endpoint got = {0};
	char *end;

	if (!strncmp(text, "vsock:", 6)) {
		unsigned long port = strtoul(text + 6, &end, 10);

		if (end == text + 6 || *end || !port || port >= VMADDR_PORT_ANY)
			return -EINVAL;
		got.kind = ENDPOINT_VSOCK;
		got.port = (uint32_t)port;
	} else {
		got.kind = !strncmp(text, "unix:", 5) ? ENDPOINT_UNIX : ENDPOINT_DEVICE;
		if (got.kind == ENDPOINT_UNIX)
			text += 5;
		if (text[0] != '/' || strlen(text) >= sizeof(got.path))
			return -EINVAL;
		memcpy(got.path, text, strlen(text));
	}
	*e = got;
	return 0;
}

static int open_device(const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	struct termios t;

	if (fd < 0)
		return -errno;
	if (!tcgetattr(fd, &t)) {
		cfmakeraw(&t);
		if (tcsetattr(fd, TCSANOW, &t))
			return -errno;
	}
	/* A port of virtio-serial hangs up as long as nobody holds its other end. */
	poll(&p, 1, 0);
	return p.revents & POLLHUP ? -ENOTCONN : steal_fd(&fd);
}

int endpoint_connect(const struct endpoint *e)
{
	struct sockaddr_vm vm = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_HOST,
		.svm_port = e->port,
	};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	bool is_unix = e->kind == ENDPOINT_UNIX;
	CLEANUP_FD int fd = -1;
	int err;

	if (e->kind == ENDPOINT_DEVICE)
		return open_device(e->path);
	memcpy(un.sun_path, e->path, sizeof(e->path));
	fd = socket(is_unix ? AF_UNIX : AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	err = is_unix ? connect(fd, (struct sockaddr *)&un, sizeof(un))
		      : connect(fd, (struct sockaddr *)&vm, sizeof(vm));
	return err && errno != EINPROGRESS ? -errno : steal_fd(&fd);
}

/** Wait for a stream that has begun. Return: 0 or -errno. */
static int await_established(int fd, enum endpoint_kind kind, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int err = 0;
	socklen_t n = sizeof(err);

	if (kind == ENDPOINT_DEVICE)
		return 0;
	if (poll(&p, 1, timeout_ms) <= 0)
		return -ETIMEDOUT;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) ? -errno : -err;
}

int endpoint_connect_wait(const struct endpoint *e, unsigned timeout_ms)
{
	uint64_t end_ns = clock_mono_ns() + timeout_ms * NSEC_PER_MSEC;

	for (;;) {
		uint64_t now_ns = clock_mono_ns();
		int left_ms = now_ns < end_ns ? (int)((end_ns - now_ns) / NSEC_PER_MSEC) : 0;
		int fd = endpoint_connect(e);
		int err = fd < 0 ? fd : await_established(fd, e->kind, left_ms);

		if (!err)
			return fd;
		if (fd >= 0)
			close(fd);
		if (clock_mono_ns() >= end_ns)
			return err;
		poll(NULL, 0, RETRY_MS);
	}
}
