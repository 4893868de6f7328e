/* SPDX-License-Identifier: Apache-2.0 */
/* eventfd.c - counters that tasks wait for */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/sysmacros.h>

#include "common/util.h"
#include "vmm/process/proc.h"
#include "vmm/process/task.h"
#include "vmm/process/vfs_node.h"

struct eventfd {
	uint64_t count;
	bool semaphore;
};

int eventfd_new(struct proc *p, uint32_t value, int flags, struct file **ret)
{
	struct eventfd *e = calloc(1, sizeof(*e));
	struct file *f = NULL;

	if (e)
		f = file_new(p, &eventfd_file_ops, O_RDWR | (flags & O_NONBLOCK), e);
	if (!f) {
		free(e);
		return -ENOMEM;
	}
	e->count = value;
	e->semaphore = flags & EFD_SEMAPHORE;
	f->path = strdup("anon_inode:[eventfd]");
	*ret = f;
	return 0;
}

static size_t iov_total(const struct iovec *iov, int n)
{
	size_t total = 0;

	for (int i = 0; i < n; i++)
		total += iov[i].iov_len;
	return total;
}

/* Eight bytes to or from iovecs that may be split anywhere. */
static void iov_copy(const struct iovec *iov, int n, uint64_t *value, bool out)
{
	uint8_t *at = (uint8_t *)value;
	size_t left = sizeof(*value);

	for (int i = 0; i < n && left; i++) {
		size_t part = MIN(left, iov[i].iov_len);

		if (out)
			memcpy(iov[i].iov_base, at, part);
		else
			memcpy(at, iov[i].iov_base, part);
		at += part;
		left -= part;
	}
}

static int64_t eventfd_file_read(struct proc *p, struct file *f, const struct iovec *iov, int n,
				 int64_t offset)
{
	struct eventfd *e = f->priv;
	uint64_t value;

	if (offset >= 0)
		return -ESPIPE;
	if (iov_total(iov, n) < sizeof(value))
		return -EINVAL;
	if (!e->count)
		return -EAGAIN;
	value = e->semaphore ? 1 : e->count;
	e->count -= value;
	iov_copy(iov, n, &value, true);
	task_wake_all(p, f->wait_key);
	return sizeof(value);
}

static int64_t eventfd_file_write(struct proc *p, struct file *f, const struct iovec *iov, int n,
				  int64_t offset)
{
	struct eventfd *e = f->priv;
	uint64_t value = 0;

	if (offset >= 0)
		return -ESPIPE;
	if (iov_total(iov, n) < sizeof(value))
		return -EINVAL;
	iov_copy(iov, n, &value, false);
	if (value == UINT64_MAX)
		return -EINVAL;
	if (e->count > UINT64_MAX - 1 - value)
		return -EAGAIN;
	e->count += value;
	task_wake_all(p, f->wait_key);
	return sizeof(value);
}

static short eventfd_poll(struct proc *p, struct file *f)
{
	const struct eventfd *e = f->priv;

	(void)p;
	return (short)((e->count ? POLLIN | POLLRDNORM : 0) |
		       (e->count < UINT64_MAX - 1 ? POLLOUT | POLLWRNORM : 0));
}

static int eventfd_stat(struct proc *p, struct file *f, struct stat *ret)
{
	(void)p;
	(void)f;
	memset(ret, 0, sizeof(*ret));
	ret->st_dev = makedev(0, 14);
	ret->st_ino = 1; /* Linux has one inode for all of them */
	ret->st_mode = 0600;
	ret->st_nlink = 1;
	ret->st_blksize = PAGE_BYTES;
	return 0;
}

static void eventfd_release(struct proc *p, struct file *f)
{
	(void)p;
	free(f->priv);
}

static int eventfd_save(struct proc *p, struct file *f, struct state_writer *w)
{
	const struct eventfd *e = f->priv;

	(void)p;
	state_put_u64(w, e->count);
	state_put_u8(w, e->semaphore);
	return w->err;
}

static int eventfd_load(struct proc *p, struct state_reader *r, struct file **ret)
{
	uint64_t count = state_get_u64(r);
	uint8_t semaphore = state_get_u8(r);
	int err;

	if (r->err || count == UINT64_MAX || semaphore > 1)
		return -EBADMSG;
	err = eventfd_new(p, 0, semaphore ? EFD_SEMAPHORE : 0, ret);
	if (!err)
		((struct eventfd *)(*ret)->priv)->count = count;
	return err;
}

const struct file_ops eventfd_file_ops = {
	.type = FILE_EVENTFD,
	.name = "eventfd",
	.read = eventfd_file_read,
	.write = eventfd_file_write,
	.poll = eventfd_poll,
	.stat = eventfd_stat,
	.release = eventfd_release,
	.save = eventfd_save,
	.load = eventfd_load,
};
