/* SPDX-License-Identifier: Apache-2.0 */
/* syscall_socket.c - system calls of sockets */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/sock_internal.h"
#include "vmm/process/syscall.h"
#include "vmm/process/task.h"

enum { TYPE_BITS = 0xf, IOV_STACK = 8, MMSG_MAX = 1024 };

#define OPEN_FLAGS (SOCK_NONBLOCK | SOCK_CLOEXEC)

/** struct guest_msghdr - as user memory holds it. */
struct guest_msghdr {
	uint64_t name;
	uint32_t name_bytes, pad0;
	uint64_t iov;
	uint64_t iov_count;
	uint64_t control;
	uint64_t control_bytes;
	int32_t flags, pad1;
};

struct guest_mmsghdr {
	struct guest_msghdr hdr;
	uint32_t bytes, pad;
};

/* ---- making ---- */

static int check_kind(int domain, int type, int *protocol)
{
	bool inet = domain == AF_INET || domain == AF_INET6;

	if (!inet && domain != AF_UNIX)
		return -EAFNOSUPPORT;
	if (domain == AF_UNIX) {
		if (*protocol && *protocol != PF_UNIX)
			return -EPROTONOSUPPORT;
		return type == SOCK_STREAM || type == SOCK_DGRAM || type == SOCK_SEQPACKET
			       ? 0
			       : -ESOCKTNOSUPPORT;
	}
	if (type == SOCK_RAW)
		return -EPERM;
	if (type != SOCK_STREAM && type != SOCK_DGRAM)
		return -ESOCKTNOSUPPORT;
	if (!*protocol)
		*protocol = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
	return *protocol == (type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP) ? 0
									      : -EPROTONOSUPPORT;
}

static int64_t sys_socket(struct proc *p, struct task *t, const uint64_t a[6])
{
	int domain = (int)a[0], type = (int)a[1] & TYPE_BITS, protocol = (int)a[2];
	struct sock *s;
	int ret;

	(void)t;
	if ((int)a[1] & ~(TYPE_BITS | OPEN_FLAGS))
		return -EINVAL;
	ret = check_kind(domain, type, &protocol);
	if (ret)
		return ret;
	s = sock_new(p, domain, type, protocol);
	return s ? sock_open(p, s, (int)a[1]) : -ENFILE;
}

static int64_t sys_socketpair(struct proc *p, struct task *t, const uint64_t a[6])
{
	int type = (int)a[1] & TYPE_BITS, protocol = (int)a[2], fds[2], ret;
	struct sock *one, *two;

	(void)t;
	if ((int)a[1] & ~(TYPE_BITS | OPEN_FLAGS))
		return -EINVAL;
	ret = check_kind((int)a[0], type, &protocol);
	if (ret)
		return ret;
	if ((int)a[0] != AF_UNIX)
		return -EOPNOTSUPP;
	one = sock_new(p, AF_UNIX, type, protocol);
	two = one ? sock_new(p, AF_UNIX, type, protocol) : NULL;
	if (!two) {
		if (one)
			sock_free(p, one);
		return -ENFILE;
	}
	sock_pair(one, two);
	one->local.family = two->local.family = AF_UNIX;
	one->remote.family = two->remote.family = AF_UNIX;
	fds[0] = sock_open(p, one, (int)a[1]);
	if (fds[0] < 0) {
		sock_close(p, two);
		return fds[0];
	}
	fds[1] = sock_open(p, two, (int)a[1]);
	if (fds[1] < 0) {
		fd_close(p, fds[0]);
		return fds[1];
	}
	if (mm_copy_out(p, a[3], fds, sizeof(fds))) {
		fd_close(p, fds[0]);
		fd_close(p, fds[1]);
		return -EFAULT;
	}
	return 0;
}

/* ---- names and connections ---- */

static int64_t sys_bind(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct sock_addr addr;
	int ret;
	struct sock *s = sock_of_fd(p, (int)a[0], &ret);

	(void)t;
	if (!s)
		return ret;
	ret = sock_addr_get(p, s->domain, a[1], a[2], &addr);
	return ret ? ret : sock_bind(p, s, &addr);
}

static int64_t sys_listen(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct sock_addr any = {.family = AF_INET6};
	int ret;
	struct sock *s = sock_of_fd(p, (int)a[0], &ret);

	(void)t;
	if (!s)
		return ret;
	if (!s->bound && s->domain == AF_UNIX)
		return -EINVAL;
	/* TCP listens on some port then. */
	if (!s->bound && sock_has_ends(s)) {
		if (s->domain == AF_INET)
			any.ip[10] = any.ip[11] = 0xff;
		ret = sock_bind(p, s, &any);
		if (ret)
			return ret;
	}
	return sock_listen(s, (int)a[1]);
}

static int64_t sys_connect(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct sock_addr to;
	int ret;
	struct sock *s = sock_of_fd(p, (int)a[0], &ret);

	(void)t;
	if (!s)
		return ret;
	ret = sock_addr_get(p, s->domain, a[1], a[2], &to);
	return ret ? ret : sock_connect(p, s, &to);
}

static int64_t accept_call(struct proc *p, struct task *t, const uint64_t a[6], int flags)
{
	int ret, fd;
	struct sock *s = sock_of_fd(p, (int)a[0], &ret), *q;
	struct sock_addr remote;

	if (!s)
		return ret;
	if (flags & ~OPEN_FLAGS)
		return -EINVAL;
	if (!sock_has_ends(s))
		return -EOPNOTSUPP;
	if (s->state != SOCK_LISTENING)
		return -EINVAL;
	q = sock_accept(s);
	if (!q)
		return file_wait(p, t, s->file, s->read_timeout_ns);
	remote = q->remote;
	remote.family = q->domain == AF_UNIX ? AF_UNIX : AF_INET6;
	fd = sock_open(p, q, flags);
	if (fd < 0)
		return fd;
	ret = sock_addr_put(p, s->domain, &remote, a[1], a[2]);
	if (ret) {
		fd_close(p, fd);
		return ret;
	}
	return fd;
}

static int64_t sys_accept(struct proc *p, struct task *t, const uint64_t a[6])
{
	return accept_call(p, t, a, 0);
}

static int64_t sys_accept4(struct proc *p, struct task *t, const uint64_t a[6])
{
	return accept_call(p, t, a, (int)a[3]);
}

/** The unnamed address of an inet socket is 0.0.0.0 or ::, port 0. */
static struct sock_addr named(const struct sock *s, const struct sock_addr *a)
{
	struct sock_addr ret = *a;

	if (s->domain == AF_INET && a->family == AF_UNSPEC)
		ret.ip[10] = ret.ip[11] = 0xff;
	return ret;
}

static int64_t sys_getsockname(struct proc *p, struct task *t, const uint64_t a[6])
{
	int ret;
	const struct sock *s = sock_of_fd(p, (int)a[0], &ret);
	struct sock_addr addr;

	(void)t;
	if (!s)
		return ret;
	addr = named(s, &s->local);
	return sock_addr_put(p, s->domain, &addr, a[1], a[2]);
}

static int64_t sys_getpeername(struct proc *p, struct task *t, const uint64_t a[6])
{
	int ret;
	const struct sock *s = sock_of_fd(p, (int)a[0], &ret);

	(void)t;
	if (!s)
		return ret;
	if (s->state != SOCK_CONNECTED || (sock_has_ends(s) && !s->peer && s->peer_done))
		return -ENOTCONN;
	return sock_addr_put(p, s->domain, &s->remote, a[1], a[2]);
}

static int64_t sys_shutdown(struct proc *p, struct task *t, const uint64_t a[6])
{
	int ret;
	struct sock *s = sock_of_fd(p, (int)a[0], &ret);

	(void)t;
	return s ? sock_shutdown(p, s, (int)a[1]) : ret;
}

static int64_t sys_setsockopt(struct proc *p, struct task *t, const uint64_t a[6])
{
	int ret;
	struct sock *s = sock_of_fd(p, (int)a[0], &ret);

	(void)t;
	return s ? sock_option_set(p, s, a) : ret;
}

static int64_t sys_getsockopt(struct proc *p, struct task *t, const uint64_t a[6])
{
	int ret;
	struct sock *s = sock_of_fd(p, (int)a[0], &ret);

	(void)t;
	return s ? sock_option_get(p, s, a) : ret;
}

/* ---- data ---- */

static int64_t wait_or_again(struct proc *p, struct task *t, struct sock *s, int flags,
			     uint64_t timeout_ns)
{
	return flags & MSG_DONTWAIT ? -EAGAIN : file_wait(p, t, s->file, timeout_ns);
}

static int64_t send_io(struct proc *p, struct task *t, struct sock *s, const struct sock_io *io,
		       int flags, const struct sock_addr *to)
{
	int64_t ret = sock_send(p, s, io, flags, to);

	return ret == -EAGAIN ? wait_or_again(p, t, s, flags, s->write_timeout_ns) : ret;
}

/**
 * MSG_WAITALL on a stream: what came so far is in user memory already, and counted in the wait
 * cookie, over which the call runs again.
 */
static int64_t recv_all(struct proc *p, struct task *t, struct sock *s, const struct sock_io *io,
			int flags)
{
	size_t done = MIN((size_t)t->wait.cookie, io->bytes);
	int64_t ret;
	int out;

	while (done < io->bytes) {
		ret = sock_recv(p, s, io, done, flags, NULL, &out);
		if (ret > 0) {
			done += (size_t)ret;
			t->wait.cookie = done;
			continue;
		}
		if (ret == -EAGAIN)
			ret = wait_or_again(p, t, s, flags, s->read_timeout_ns);
		if (ret == SYS_BLOCKED)
			return ret;
		return done ? (int64_t)done : ret;
	}
	return (int64_t)done;
}

static int64_t recv_io(struct proc *p, struct task *t, struct sock *s, const struct sock_io *io,
		       int flags, struct sock_addr *ret_from, int *ret_flags)
{
	int64_t ret;

	if (flags & MSG_OOB)
		return -EINVAL;
	if ((flags & MSG_WAITALL) && !(flags & (MSG_PEEK | MSG_TRUNC)) && sock_is_stream(s)) {
		ret_from->family = AF_UNSPEC;
		*ret_flags = 0;
		return recv_all(p, t, s, io, flags);
	}
	ret = sock_recv(p, s, io, 0, flags, ret_from, ret_flags);
	return ret == -EAGAIN ? wait_or_again(p, t, s, flags, s->read_timeout_ns) : ret;
}

static struct sock_io io_of_user(struct iovec *iov, uint64_t addr, uint64_t bytes)
{
	bytes = MIN(bytes, (uint64_t)INT_MAX);
	*iov = (struct iovec){(void *)(uintptr_t)addr, bytes};
	return (struct sock_io){.iov = iov, .count = 1, .user = true, .bytes = bytes};
}

static int64_t sys_sendto(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct sock_addr to;
	struct iovec iov;
	const struct sock_io io = io_of_user(&iov, a[1], a[2]);
	int ret;
	struct sock *s = sock_of_fd(p, (int)a[0], &ret);

	if (!s)
		return ret;
	ret = a[4] ? sock_addr_get(p, s->domain, a[4], a[5], &to) : 0;
	return ret ? ret : send_io(p, t, s, &io, (int)a[3], a[4] ? &to : NULL);
}

static int64_t sys_recvfrom(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct sock_addr from;
	struct iovec iov;
	const struct sock_io io = io_of_user(&iov, a[1], a[2]);
	int ret, flags = 0;
	struct sock *s = sock_of_fd(p, (int)a[0], &ret);
	int64_t n;

	if (!s)
		return ret;
	n = recv_io(p, t, s, &io, (int)a[3], &from, &flags);
	if (n >= 0 && a[4] && from.family != AF_UNSPEC)
		ret = sock_addr_put(p, s->domain, &from, a[4], a[5]);
	else if (n >= 0 && a[4] && mm_copy_out(p, a[5], &(int32_t){0}, sizeof(int32_t)))
		ret = -EFAULT;
	else
		ret = 0;
	return ret ? ret : n;
}

/** struct message_call - what sendmsg and recvmsg read of user memory. */
struct message_call {
	struct guest_msghdr hdr;
	struct iovec iov[IOV_MAX];
	struct sock_io io;
};

static int message_get(struct proc *p, uint64_t addr, struct message_call *m)
{
	if (mm_copy_in(p, &m->hdr, addr, sizeof(m->hdr)))
		return -EFAULT;
	if (m->hdr.iov_count > IOV_MAX)
		return -EMSGSIZE;
	if (mm_copy_in(p, m->iov, m->hdr.iov, m->hdr.iov_count * sizeof(m->iov[0])))
		return -EFAULT;
	m->io = (struct sock_io){.iov = m->iov, .count = (int)m->hdr.iov_count, .user = true};
	for (int i = 0; i < m->io.count; i++) {
		if (m->iov[i].iov_len > INT_MAX - m->io.bytes)
			return -EINVAL;
		m->io.bytes += m->iov[i].iov_len;
	}
	return 0;
}

static int64_t send_message_call(struct proc *p, struct task *t, struct sock *s, uint64_t addr,
				 int flags)
{
	struct message_call m;
	struct sock_addr to;
	int ret = message_get(p, addr, &m);

	if (ret)
		return ret;
	/* Descriptors and credentials do not travel here. */
	if (m.hdr.control && m.hdr.control_bytes && s->domain == AF_UNIX)
		return -EOPNOTSUPP;
	if (m.hdr.name)
		ret = sock_addr_get(p, s->domain, m.hdr.name, m.hdr.name_bytes, &to);
	return ret ? ret : send_io(p, t, s, &m.io, flags, m.hdr.name ? &to : NULL);
}

static int64_t recv_message_call(struct proc *p, struct task *t, struct sock *s, uint64_t addr,
				 int flags)
{
	struct message_call m;
	struct sockaddr_storage packed;
	struct sock_addr from;
	size_t name_bytes = 0;
	int64_t n;
	int ret = message_get(p, addr, &m);

	if (ret)
		return ret;
	n = recv_io(p, t, s, &m.io, flags, &from, &m.hdr.flags);
	if (n < 0)
		return n;
	if (m.hdr.name && from.family != AF_UNSPEC) {
		name_bytes = sock_addr_pack(s->domain, &from, &packed);
		if (mm_copy_out(p, m.hdr.name, &packed, MIN(name_bytes, (size_t)m.hdr.name_bytes)))
			return -EFAULT;
	}
	m.hdr.name_bytes = (uint32_t)name_bytes;
	m.hdr.control_bytes = 0;
	if (flags & MSG_CMSG_CLOEXEC)
		m.hdr.flags |= MSG_CMSG_CLOEXEC;
	return mm_copy_out(p, addr, &m.hdr, sizeof(m.hdr)) ? -EFAULT : n;
}

static int64_t sys_sendmsg(struct proc *p, struct task *t, const uint64_t a[6])
{
	int ret;
	struct sock *s = sock_of_fd(p, (int)a[0], &ret);

	return s ? send_message_call(p, t, s, a[1], (int)a[2]) : ret;
}

static int64_t sys_recvmsg(struct proc *p, struct task *t, const uint64_t a[6])
{
	int ret;
	struct sock *s = sock_of_fd(p, (int)a[0], &ret);

	return s ? recv_message_call(p, t, s, a[1], (int)a[2]) : ret;
}

/** The first message may wait; the ones behind it are a bonus. */
static int64_t many(struct proc *p, struct task *t, const uint64_t a[6],
		    int64_t (*one)(struct proc *p, struct task *t, struct sock *s, uint64_t addr,
				   int flags))
{
	uint64_t count = MIN(a[2], (uint64_t)MMSG_MAX), done = 0;
	int ret, flags = (int)a[3];
	struct sock *s = sock_of_fd(p, (int)a[0], &ret);

	if (!s)
		return ret;
	for (; done < count; done++) {
		uint64_t at = a[1] + done * sizeof(struct guest_mmsghdr);
		int64_t n = one(p, t, s, at, flags | (done ? MSG_DONTWAIT : 0));
		uint32_t bytes = (uint32_t)n;

		if (n < 0)
			return done ? (int64_t)done : n;
		if (mm_copy_out(p, at + offsetof(struct guest_mmsghdr, bytes), &bytes,
				sizeof(bytes)))
			return -EFAULT;
	}
	return (int64_t)done;
}

static int64_t sys_sendmmsg(struct proc *p, struct task *t, const uint64_t a[6])
{
	return many(p, t, a, send_message_call);
}

static int64_t sys_recvmmsg(struct proc *p, struct task *t, const uint64_t a[6])
{
	return many(p, t, a, recv_message_call);
}

const struct syscall_entry syscalls_socket[] = {
	SYSCALL_ENTRY(socket, sys_socket),
	SYSCALL_ENTRY(socketpair, sys_socketpair),
	SYSCALL_ENTRY(bind, sys_bind),
	SYSCALL_ENTRY(listen, sys_listen),
	SYSCALL_ENTRY(connect, sys_connect),
	SYSCALL_ENTRY(accept, sys_accept),
	SYSCALL_ENTRY(accept4, sys_accept4),
	SYSCALL_ENTRY(getsockname, sys_getsockname),
	SYSCALL_ENTRY(getpeername, sys_getpeername),
	SYSCALL_ENTRY(shutdown, sys_shutdown),
	SYSCALL_ENTRY(setsockopt, sys_setsockopt),
	SYSCALL_ENTRY(getsockopt, sys_getsockopt),
	SYSCALL_ENTRY(sendto, sys_sendto),
	SYSCALL_ENTRY(recvfrom, sys_recvfrom),
	SYSCALL_ENTRY(sendmsg, sys_sendmsg),
	SYSCALL_ENTRY(recvmsg, sys_recvmsg),
	SYSCALL_ENTRY(sendmmsg, sys_sendmmsg),
	SYSCALL_ENTRY(recvmmsg, sys_recvmmsg),
	{0},
};
