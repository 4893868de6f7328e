/* SPDX-License-Identifier: Apache-2.0 */
/* signalfd.c - pending signals that are read as files */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include "common/util.h"
#include "vmm/process/epoll.h"
#include "vmm/process/file.h"
#include "vmm/process/proc.h"
#include "vmm/process/signal_internal.h"
#include "vmm/process/task.h"

static_assert(sizeof(struct signalfd_siginfo) == 128, "as the kernel has it");

struct signalfd {
	uint64_t mask;
};

static void fill(const struct signal_info *info, struct signalfd_siginfo *ret)
{
	*ret = (struct signalfd_siginfo){
		.ssi_signo = (uint32_t)info->sig,
		.ssi_errno = info->err,
		.ssi_code = info->code,
		.ssi_ptr = info->fields[1],
		.ssi_int = (int32_t)info->fields[1],
	};
	if (info->code == SI_TIMER) {
		ret->ssi_tid = (uint32_t)info->fields[0];
		ret->ssi_overrun = (uint32_t)(info->fields[0] >> 32);
	} else {
		ret->ssi_pid = (uint32_t)info->fields[0];
		ret->ssi_uid = (uint32_t)(info->fields[0] >> 32);
	}
}

/** Copy into iovecs from byte @at on. */
static void iov_put(const struct iovec *iov, int n, size_t at, const void *data, size_t bytes)
{
	const uint8_t *src = data;

	for (int i = 0; i < n && bytes; i++) {
		size_t part;

		if (at >= iov[i].iov_len) {
			at -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - at, bytes);
		memcpy((uint8_t *)iov[i].iov_base + at, src, part);
		src += part;
		bytes -= part;
		at = 0;
	}
}

static int64_t signalfd_read(struct proc *p, struct file *f, const struct iovec *iov, int n,
			     int64_t offset)
{
	const struct signalfd *sfd = f->priv;
	struct task *t = task_current(p);
	struct signalfd_siginfo out;
	struct signal_info info;
	size_t room = 0, done = 0;

	(void)offset;
	for (int i = 0; i < n; i++)
		room += iov[i].iov_len;
	if (room < sizeof(out))
		return -EINVAL;
	while (room - done >= sizeof(out) && signal_dequeue(p, t, sfd->mask, &info)) {
		fill(&info, &out);
		iov_put(iov, n, done, &out, sizeof(out));
		done += sizeof(out);
	}
	return done ? (int64_t)done : -EAGAIN;
}

static short signalfd_poll(struct proc *p, struct file *f)
{
	const struct signalfd *sfd = f->priv;
	const struct task *t = task_current(p);
	uint64_t pending = p->signals->pending | (t ? t->signal_pending : 0);

	return pending & sfd->mask ? POLLIN | POLLRDNORM : 0;
}

static void signalfd_release(struct proc *p, struct file *f)
{
	(void)p;
	free(f->priv);
}

static struct file *signalfd_new(struct proc *p, uint64_t mask, int flags)
{
	struct signalfd *sfd = malloc(sizeof(*sfd));
	struct file *f = sfd ? file_new(p, &signalfd_file_ops, flags, sfd) : NULL;

	if (!f) {
		free(sfd);
		return NULL;
	}
	sfd->mask = mask & SIGNAL_MASK_ALLOWED;
	/* Whoever queues a signal wakes this key. */
	f->wait_key = wait_key(p->signals);
	f->path = strdup("anon_inode:[signalfd]");
	return f;
}

static int signalfd_save(struct proc *p, struct file *f, struct state_writer *w)
{
	const struct signalfd *sfd = f->priv;

	(void)p;
	state_put_u64(w, sfd->mask);
	return w->err;
}

static int signalfd_load(struct proc *p, struct state_reader *r, struct file **ret)
{
	uint64_t mask = state_get_u64(r);

	if (r->err)
		return r->err;
	*ret = signalfd_new(p, mask, O_RDWR);
	return *ret ? 0 : -ENOMEM;
}

const struct file_ops signalfd_file_ops = {
	.type = FILE_SIGNALFD,
	.name = "signalfd",
	.read = signalfd_read,
	.poll = signalfd_poll,
	.release = signalfd_release,
	.save = signalfd_save,
	.load = signalfd_load,
};

int64_t signalfd_call(struct proc *p, int fd, uint64_t mask, int flags)
{
	struct file *f;
	struct signalfd *sfd;

	if (flags & ~(SFD_CLOEXEC | SFD_NONBLOCK))
		return -EINVAL;
	if (fd != -1) {
		f = fd_get(p, fd);
		if (!f)
			return -EBADF;
		if (f->ops != &signalfd_file_ops)
			return -EINVAL;
		sfd = f->priv;
		sfd->mask = mask & SIGNAL_MASK_ALLOWED;
		task_wake_all(p, f->wait_key);
		return fd;
	}
	f = signalfd_new(p, mask, O_RDWR | (flags & SFD_NONBLOCK));
	if (!f)
		return -ENOMEM;
	fd = fd_install(p, f, 0, flags & SFD_CLOEXEC);
	if (fd < 0)
		file_put(p, f);
	return fd;
}
