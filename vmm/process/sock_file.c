/* SPDX-License-Identifier: Apache-2.0 */
/* sock_file.c - a socket as an open file */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/sock_internal.h"

static struct sock_io io_of(const struct iovec *iov, int n)
{
	struct sock_io io = {.iov = iov, .count = n};

	for (int i = 0; i < n; i++)
		io.bytes += iov[i].iov_len;
	return io;
}

static int64_t socket_read(struct proc *p, struct file *f, const struct iovec *iov, int n,
			   int64_t offset)
{
	const struct sock_io io = io_of(iov, n);
	int flags;

	if (offset >= 0)
		return -ESPIPE;
	return sock_recv(p, f->priv, &io, 0, 0, NULL, &flags);
}

static int64_t socket_write(struct proc *p, struct file *f, const struct iovec *iov, int n,
			    int64_t offset)
{
	const struct sock_io io = io_of(iov, n);

	if (offset >= 0)
		return -ESPIPE;
	return sock_send(p, f->priv, &io, 0, NULL);
}

static short socket_poll(struct proc *p, struct file *f)
{
	(void)p;
	return sock_poll(f->priv);
}

static int socket_stat(struct proc *p, struct file *f, struct stat *ret)
{
	const struct sock *s = f->priv;

	(void)p;
	memset(ret, 0, sizeof(*ret));
	ret->st_mode = S_IFSOCK | 0777;
	ret->st_ino = s->id;
	ret->st_nlink = 1;
	ret->st_blksize = PAGE_BYTES;
	return 0;
}

static int64_t socket_ioctl(struct proc *p, struct file *f, uint64_t request, uint64_t arg)
{
	const struct sock *s = f->priv;
	int32_t value = 0;

	switch (request) {
	case FIONREAD:
		if (s->state == SOCK_LISTENING)
			return -EINVAL;
		value = (int32_t)sock_readable_bytes(s);
		/* fall through */
	case TIOCOUTQ:
		return mm_copy_out(p, arg, &value, sizeof(value));
	case FIONBIO:
		if (mm_copy_in(p, &value, arg, sizeof(value)))
			return -EFAULT;
		f->flags = value ? f->flags | O_NONBLOCK : f->flags & ~O_NONBLOCK;
		return 0;
	}
	return -ENOTTY;
}

static void socket_release(struct proc *p, struct file *f)
{
	/* At the guest's end the sockets may have gone first. */
	if (f->priv && p->net)
		sock_close(p, f->priv);
}

static struct file *socket_file_new(struct proc *p, struct sock *s, int flags)
{
	struct file *f = file_new(p, &socket_file_ops, O_RDWR | flags, s);
	char path[32];

	if (!f)
		return NULL;
	s->file = f;
	snprintf(path, sizeof(path), "socket:[%u]", s->id);
	f->path = strdup(path);
	return f;
}

static int socket_save(struct proc *p, struct file *f, struct state_writer *w)
{
	const struct sock *s = f->priv;

	(void)p;
	state_put_u32(w, s->id);
	return w->err;
}

static int socket_load(struct proc *p, struct state_reader *r, struct file **ret)
{
	struct sock *s = sock_by_id(p, state_get_u32(r));

	if (r->err || !s || s->file || s->service || s->listener)
		return -EBADMSG;
	*ret = socket_file_new(p, s, 0);
	return *ret ? 0 : -ENOMEM;
}

const struct file_ops socket_file_ops = {
	.type = FILE_SOCKET,
	.name = "socket",
	.read = socket_read,
	.write = socket_write,
	.poll = socket_poll,
	.stat = socket_stat,
	.ioctl = socket_ioctl,
	.release = socket_release,
	.save = socket_save,
	.load = socket_load,
};

int sock_open(struct proc *p, struct sock *s, int flags)
{
	struct file *f = socket_file_new(p, s, flags & SOCK_NONBLOCK ? O_NONBLOCK : 0);
	int fd;

	if (!f) {
		sock_close(p, s);
		return -ENOMEM;
	}
	fd = fd_install(p, f, 0, flags & SOCK_CLOEXEC);
	if (fd < 0)
		file_put(p, f);
	return fd;
}

struct sock *sock_of_fd(struct proc *p, int fd, int *ret_err)
{
	struct file *f = fd_get(p, fd);

	*ret_err = f ? -ENOTSOCK : -EBADF;
	return f && f->ops == &socket_file_ops ? f->priv : NULL;
}
