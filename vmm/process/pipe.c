/* SPDX-License-Identifier: Apache-2.0 */
/* pipe.c - pipes: a ring of bytes between descriptions of one guest */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "common/util.h"
#include "vmm/process/file_table.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/signal.h"
#include "vmm/process/task.h"
#include "vmm/process/vfs_node.h"

/** PIPES_BYTES_MAX: what enlarging may bring all pipes to, as Linux's pipe-user-pages-soft. */
enum { PIPE_BYTES = 65536, PIPE_BYTES_MAX = 1 << 20, PIPES_BYTES_MAX = 64 << 20 };

/**
 * struct pipe - shared by all its descriptions.
 * @head: where the next byte is read; @used bytes follow it in the ring
 * @ends: descriptions of either kind; it goes away with the last one
 * @save_pass: the files_save() pass that has written its contents
 */
struct pipe {
	uint64_t serial;
	uint8_t *ring;
	size_t size, head, used;
	unsigned readers, writers, ends;
	uint64_t save_pass;
};

static bool can_read(const struct file *f)
{
	return (f->flags & O_ACCMODE) != O_WRONLY;
}

static bool can_write(const struct file *f)
{
	return (f->flags & O_ACCMODE) != O_RDONLY;
}

static int end_new(struct proc *p, struct pipe *pipe, int flags, struct file **ret)
{
	struct file *f = file_new(p, &pipe_file_ops, flags, pipe);
	char name[40];

	if (!f)
		return -ENOMEM;
	f->wait_key = wait_key(pipe);
	pipe->ends++;
	pipe->readers += can_read(f);
	pipe->writers += can_write(f);
	snprintf(name, sizeof(name), "pipe:[%llu]", (unsigned long long)pipe->serial);
	f->path = strdup(name);
	*ret = f;
	return 0;
}

static struct pipe *pipe_alloc(struct proc *p, uint64_t serial, size_t size)
{
	struct pipe *pipe = calloc(1, sizeof(*pipe));

	if (!pipe)
		return NULL;
	pipe->ring = malloc(size);
	if (!pipe->ring) {
		free(pipe);
		return NULL;
	}
	pipe->serial = serial;
	pipe->size = size;
	p->files->pipe_bytes += size;
	return pipe;
}

static void pipe_free(struct proc *p, struct pipe *pipe)
{
	p->files->pipe_bytes -= pipe->size;
	free(pipe->ring);
	free(pipe);
}

int pipe_new(struct proc *p, int flags, struct file **ret_read, struct file **ret_write)
{
	struct pipe *pipe = pipe_alloc(p, file_serial(p), PIPE_BYTES);
	int err;

	if (!pipe)
		return -ENOMEM;
	flags &= O_NONBLOCK | O_DIRECT;
	err = end_new(p, pipe, flags | O_RDONLY, ret_read);
	if (err) {
		pipe_free(p, pipe);
		return err;
	}
	err = end_new(p, pipe, flags | O_WRONLY, ret_write);
	if (err)
		file_put(p, *ret_read);
	return err;
}

int pipe_reopen(struct proc *p, struct file *f, int flags, struct file **ret)
{
	return end_new(p, f->priv, flags & (O_ACCMODE | O_NONBLOCK), ret);
}

int64_t pipe_bytes(const struct file *f)
{
	return (int64_t)((const struct pipe *)f->priv)->size;
}

static size_t ring_get(struct pipe *pipe, uint8_t *dst, size_t n)
{
	size_t done = 0;

	n = MIN(n, pipe->used);
	while (done < n) {
		size_t part = MIN(n - done, pipe->size - pipe->head);

		memcpy(dst + done, pipe->ring + pipe->head, part);
		pipe->head = (pipe->head + part) % pipe->size;
		done += part;
	}
	pipe->used -= n;
	return n;
}

static size_t ring_put(struct pipe *pipe, const uint8_t *src, size_t n)
{
	size_t done = 0;

	n = MIN(n, pipe->size - pipe->used);
	while (done < n) {
		size_t tail = (pipe->head + pipe->used) % pipe->size;
		size_t part = MIN(n - done, pipe->size - tail);

		memcpy(pipe->ring + tail, src + done, part);
		pipe->used += part;
		done += part;
	}
	return n;
}

int64_t pipe_resize(struct proc *p, struct file *f, uint64_t bytes)
{
	struct pipe *pipe = f->priv;
	size_t size = PAGE_BYTES, used = pipe->used;
	uint8_t *ring;

	if (bytes > PIPE_BYTES_MAX)
		return -EPERM;
	while (size < bytes)
		size *= 2;
	if (size < used)
		return -EBUSY;
	if (size > pipe->size && p->files->pipe_bytes + size - pipe->size > PIPES_BYTES_MAX)
		return -EPERM;
	ring = malloc(size);
	if (!ring)
		return -ENOMEM;
	ring_get(pipe, ring, used);
	free(pipe->ring);
	p->files->pipe_bytes += size - pipe->size;
	pipe->ring = ring;
	pipe->size = size;
	pipe->head = 0;
	pipe->used = used;
	task_wake_all(p, f->wait_key);
	return (int64_t)size;
}

static int64_t pipe_read(struct proc *p, struct file *f, const struct iovec *iov, int n,
			 int64_t offset)
{
	struct pipe *pipe = f->priv;
	size_t done = 0;

	if (offset >= 0)
		return -ESPIPE;
	for (int i = 0; i < n && pipe->used; i++)
		done += ring_get(pipe, iov[i].iov_base, iov[i].iov_len);
	if (done) {
		task_wake_all(p, f->wait_key);
		return (int64_t)done;
	}
	for (int i = 0; i < n; i++)
		if (iov[i].iov_len)
			return pipe->writers ? -EAGAIN : 0;
	return 0;
}

static int64_t pipe_write(struct proc *p, struct file *f, const struct iovec *iov, int n,
			  int64_t offset)
{
	struct pipe *pipe = f->priv;
	size_t total = 0, done = 0;

	if (offset >= 0)
		return -ESPIPE;
	if (!pipe->readers) {
		signal_send(p, task_current(p), SIGPIPE, SI_KERNEL, 0);
		return -EPIPE;
	}
	for (int i = 0; i < n; i++)
		total += iov[i].iov_len;
	if (!total)
		return 0;
	/* Up to PIPE_BUF bytes go in whole or not at all. */
	if (total <= PIPE_BUF && pipe->size - pipe->used < total)
		return -EAGAIN;
	for (int i = 0; i < n; i++)
		done += ring_put(pipe, iov[i].iov_base, iov[i].iov_len);
	if (!done)
		return -EAGAIN;
	task_wake_all(p, f->wait_key);
	return (int64_t)done;
}

static short pipe_poll(struct proc *p, struct file *f)
{
	const struct pipe *pipe = f->priv;
	short events = 0;

	(void)p;
	if (can_read(f)) {
		if (pipe->used)
			events |= POLLIN | POLLRDNORM;
		if (!pipe->writers)
			events |= POLLHUP;
	}
	if (can_write(f)) {
		if (pipe->size - pipe->used >= PIPE_BUF)
			events |= POLLOUT | POLLWRNORM;
		if (!pipe->readers)
			events |= POLLERR;
	}
	return events;
}

static int pipe_stat(struct proc *p, struct file *f, struct stat *ret)
{
	const struct pipe *pipe = f->priv;

	(void)p;
	memset(ret, 0, sizeof(*ret));
	ret->st_dev = makedev(0, 13);
	ret->st_ino = pipe->serial;
	ret->st_mode = S_IFIFO | 0600;
	ret->st_nlink = 1;
	ret->st_blksize = PAGE_BYTES;
	return 0;
}

static int64_t pipe_ioctl(struct proc *p, struct file *f, uint64_t request, uint64_t arg)
{
	const struct pipe *pipe = f->priv;
	int used = (int)pipe->used;

	if (request != FIONREAD)
		return -ENOTTY;
	return mm_copy_out(p, arg, &used, sizeof(used));
}

static void pipe_release(struct proc *p, struct file *f)
{
	struct pipe *pipe = f->priv;

	pipe->readers -= can_read(f);
	pipe->writers -= can_write(f);
	if (p->sched)
		task_wake_all(p, f->wait_key);
	if (!--pipe->ends)
		pipe_free(p, pipe);
}

/* {u64 serial, u8 access mode, u8 has contents, [u32 size, bytes]}: the first end has contents. */
static int pipe_save(struct proc *p, struct file *f, struct state_writer *w)
{
	struct pipe *pipe = f->priv;
	bool first = pipe->save_pass != p->files->save_pass;
	size_t part = MIN(pipe->used, pipe->size - pipe->head);

	state_put_u64(w, pipe->serial);
	state_put_u8(w, (uint8_t)(f->flags & O_ACCMODE));
	state_put_u8(w, first);
	if (!first)
		return w->err;
	pipe->save_pass = p->files->save_pass;
	state_put_u32(w, (uint32_t)pipe->size);
	state_put_u32(w, (uint32_t)pipe->used);
	state_put(w, pipe->ring + pipe->head, part);
	state_put(w, pipe->ring, pipe->used - part);
	return w->err;
}

static struct pipe *pipe_by_serial(struct proc *p, uint64_t serial)
{
	for (struct file *f = p->files->head; f; f = f->next)
		if (f->ops == &pipe_file_ops && ((struct pipe *)f->priv)->serial == serial)
			return f->priv;
	return NULL;
}

static int contents_load(struct proc *p, struct state_reader *r, uint64_t serial, struct pipe **ret)
{
	uint32_t size = state_get_u32(r);
	const void *bytes;
	size_t used;

	if (r->err || size < PAGE_BYTES || size > PIPE_BYTES_MAX || size & (size - 1))
		return -EBADMSG;
	bytes = state_get_bytes(r, size, &used);
	if (r->err)
		return r->err;
	*ret = pipe_alloc(p, serial, size);
	if (!*ret)
		return -ENOMEM;
	if (used)
		memcpy((*ret)->ring, bytes, used);
	(*ret)->used = used;
	return 0;
}

static int pipe_load(struct proc *p, struct state_reader *r, struct file **ret)
{
	uint64_t serial = state_get_u64(r);
	uint8_t mode = state_get_u8(r), first = state_get_u8(r);
	struct pipe *pipe = r->err ? NULL : pipe_by_serial(p, serial);
	int err;

	if (r->err || mode > O_RDWR || first > 1 || first == (pipe != NULL))
		return -EBADMSG;
	if (first) {
		err = contents_load(p, r, serial, &pipe);
		if (err)
			return err;
	}
	err = end_new(p, pipe, mode, ret);
	if (err && first)
		pipe_free(p, pipe);
	return err;
}

/* The flags of the description, which decide who is a reader, must agree with its own record. */
static int pipe_link(struct proc *p, struct file *f)
{
	struct pipe *pipe = f->priv;

	if (pipe->readers > pipe->ends || pipe->writers > pipe->ends)
		return -EBADMSG;
	pipe->readers = pipe->writers = 0;
	for (struct file *o = p->files->head; o; o = o->next) {
		if (o->priv != pipe)
			continue;
		pipe->readers += can_read(o);
		pipe->writers += can_write(o);
	}
	return 0;
}

const struct file_ops pipe_file_ops = {
	.type = FILE_PIPE,
	.name = "pipe",
	.read = pipe_read,
	.write = pipe_write,
	.poll = pipe_poll,
	.stat = pipe_stat,
	.ioctl = pipe_ioctl,
	.release = pipe_release,
	.save = pipe_save,
	.load = pipe_load,
	.link = pipe_link,
};
