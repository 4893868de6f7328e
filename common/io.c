/* SPDX-License-Identifier: Apache-2.0 */
/* io.c - the loops around short and interrupted I/O, written once */
#include "common/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"

ssize_t read_full(int fd, void *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = read(fd, (char *)buf + done, n - done);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

ssize_t pread_full(int fd, void *buf, size_t n, uint64_t offset)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pread(fd, (char *)buf + done, n - done, (off_t)(offset + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

int write_full(int fd, const void *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = write(fd, (const char *)buf + done, n - done);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		done += (size_t)r;
	}
	return 0;
}

int pwrite_full(int fd, const void *buf, size_t n, uint64_t offset)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pwrite(fd, (const char *)buf + done, n - done, (off_t)(offset + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		done += (size_t)r;
	}
	return 0;
}

int read_file(int dirfd, const char *path, size_t max_bytes, char **ret_data, size_t *ret_bytes)
{
	CLEANUP_FD int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *data = NULL;
	size_t size = 4096, used = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		char *bigger = realloc(data, size + 1);
		ssize_t r;

		if (!bigger)
			return -ENOMEM;
		data = bigger;
		r = read_full(fd, data + used, size - used);
		if (r < 0)
			return (int)r;
		used += (size_t)r;
		if (used > max_bytes)
			return -EFBIG;
		if (used < size)
			break;
		size *= 2;
	}
	data[used] = '\0';
	*ret_data = steal_ptr(data);
	if (ret_bytes)
		*ret_bytes = used;
	return 0;
}

static int write_and_sync(int fd, const void *data, size_t n)
{
	int ret = write_full(fd, data, n);

	if (!ret && fsync(fd) < 0)
		ret = -errno;
	return ret;
}

int write_file_atomic(int dirfd, const char *name, const void *data, size_t n, mode_t mode)
{
	CLEANUP_FD int fd = -1;
	char tmp[300];
	int ret;

	if (snprintf(tmp, sizeof(tmp), ".%s.tmp.%d", name, getpid()) >= (int)sizeof(tmp))
		return -ENAMETOOLONG;
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	ret = write_and_sync(fd, data, n);
	if (!ret && renameat(dirfd, tmp, dirfd, name) < 0)
		ret = -errno;
	if (ret) {
		unlinkat(dirfd, tmp, 0);
		return ret;
	}
	return fsync(dirfd) < 0 ? -errno : 0;
}

int fdpass_send(int sock, const struct iovec *iov, int iov_count, const int *fds, int fd_count)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * FDPASS_FDS_MAX)];
		struct cmsghdr align;
	} control = {0};
	struct msghdr msg = {0};

	if (fd_count < 0 || fd_count > FDPASS_FDS_MAX)
		return -EINVAL;
	msg.msg_iov = (struct iovec *)(uintptr_t)iov;
	msg.msg_iovlen = (size_t)iov_count;
	if (fd_count) {
		struct cmsghdr *c;

		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fd_count);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)fd_count);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)fd_count);
	}
	for (;;) {
		if (sendmsg(sock, &msg, MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

static int collect_fds(struct msghdr *msg, int *ret_fds)
{
	int count = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		int n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		if (n > FDPASS_FDS_MAX - count)
			n = FDPASS_FDS_MAX - count;
		memcpy(ret_fds + count, CMSG_DATA(c), sizeof(int) * (size_t)n);
		count += n;
	}
	return count;
}

ssize_t fdpass_recv(int sock, void *buf, size_t n, int *ret_fds, int *ret_fd_count, int flags)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * FDPASS_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = buf, .iov_len = n};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf};
	bool reset = false, again;
	ssize_t r;

	for (int i = 0; i < FDPASS_FDS_MAX; i++)
		ret_fds[i] = -1;
	*ret_fd_count = 0;
	do {
		msg.msg_controllen = sizeof(control.buf);
		r = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
		/* A peer which closed without reading everything: told once, before the
		 * messages that it had sent, its last words. */
		again = r < 0 && (errno == EINTR || (errno == ECONNRESET && !reset));
		reset |= r < 0 && errno == ECONNRESET;
	} while (again);
	if (r < 0)
		return -errno;
	*ret_fd_count = collect_fds(&msg, ret_fds);
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		for (int i = 0; i < *ret_fd_count; i++) {
			close(ret_fds[i]);
			ret_fds[i] = -1;
		}
		*ret_fd_count = 0;
		return -EMSGSIZE;
	}
	return r;
}

int memfd_map_sealed(int fd, uint64_t n, int flags, const void **ret)
{
	const int wanted = F_SEAL_WRITE | F_SEAL_SHRINK;
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *map;

	if (seals < 0 || (seals & wanted) != wanted || fstat(fd, &st) < 0 || !n ||
	    n > (uint64_t)st.st_size)
		return -EBADMSG;
	map = mmap(NULL, n, PROT_READ, MAP_PRIVATE | flags, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	*ret = map;
	return 0;
}

int memfd_from_buffer(const char *name, const void *data, size_t n)
{
	CLEANUP_FD int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int ret;

	if (fd < 0)
		return -errno;
	ret = write_full(fd, data, n);
	if (ret)
		return ret;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return -errno;
	return steal_fd(&fd);
}
