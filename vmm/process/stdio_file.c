/* SPDX-License-Identifier: Apache-2.0 */
/* stdio_file.c - descriptors 0, 1 and 2: an empty pipe, and two pipes into the log */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/util.h"
#include "vmm/process/proc.h"
#include "vmm/process/vfs_node.h"

/** What one write(2) hands to the sink at most; the rest is a short write. */
enum { STDIO_WRITE_MAX = 65536 };

struct stdio_file {
	uint8_t stream; /**< 0, 1 or 2 */
};

static int stdio_new(struct proc *p, uint8_t stream, int flags, struct file **ret)
{
	static const char *const names[] = {"pipe:[1]", "pipe:[2]", "pipe:[3]"};
	struct stdio_file *s = calloc(1, sizeof(*s));
	struct file *f = s ? file_new(p, &stdio_file_ops, flags, s) : NULL;

	if (!f) {
		free(s);
		return -ENOMEM;
	}
	s->stream = stream;
	f->path = strdup(names[stream]);
	*ret = f;
	return 0;
}

int stdio_reopen(struct proc *p, struct file *f, int flags, struct file **ret)
{
	return stdio_new(p, ((struct stdio_file *)f->priv)->stream,
			 flags & (O_ACCMODE | O_NONBLOCK), ret);
}

int vfs_open_stdio(struct proc *p)
{
	for (int fd = 0; fd < 3; fd++) {
		struct file *f;
		int err = stdio_new(p, (uint8_t)fd, fd ? O_WRONLY : O_RDONLY, &f);

		if (err)
			return err;
		err = fd_install(p, f, fd, false);
		if (err < 0) {
			file_put(p, f);
			return err;
		}
	}
	return 0;
}

static int64_t stdio_read(struct proc *p, struct file *f, const struct iovec *iov, int n,
			  int64_t offset)
{
	(void)p;
	(void)f;
	(void)iov;
	(void)n;
	return offset >= 0 ? -ESPIPE : 0;
}

static int64_t stdio_write(struct proc *p, struct file *f, const struct iovec *iov, int n,
			   int64_t offset)
{
	const struct stdio_file *s = f->priv;
	size_t done = 0;

	if (offset >= 0)
		return -ESPIPE;
	for (int i = 0; i < n && done < STDIO_WRITE_MAX; i++) {
		size_t part = MIN(iov[i].iov_len, (size_t)STDIO_WRITE_MAX - done);

		if (part && s->stream && p->vfs->sink)
			p->vfs->sink(p, s->stream, iov[i].iov_base, part);
		done += part;
	}
	return (int64_t)done;
}

static short stdio_poll(struct proc *p, struct file *f)
{
	const struct stdio_file *s = f->priv;

	(void)p;
	return s->stream ? POLLOUT | POLLWRNORM : POLLHUP;
}

static int stdio_stat(struct proc *p, struct file *f, struct stat *ret)
{
	const struct stdio_file *s = f->priv;

	(void)p;
	memset(ret, 0, sizeof(*ret));
	ret->st_dev = makedev(0, 13);
	ret->st_ino = 1u + s->stream;
	ret->st_mode = S_IFIFO | 0600;
	ret->st_nlink = 1;
	ret->st_blksize = PAGE_BYTES;
	return 0;
}

static void stdio_release(struct proc *p, struct file *f)
{
	(void)p;
	free(f->priv);
}

static int stdio_save(struct proc *p, struct file *f, struct state_writer *w)
{
	const struct stdio_file *s = f->priv;

	(void)p;
	state_put_u8(w, s->stream);
	return w->err;
}

static int stdio_load(struct proc *p, struct state_reader *r, struct file **ret)
{
	uint8_t stream = state_get_u8(r);

	if (r->err || stream > 2)
		return -EBADMSG;
	return stdio_new(p, stream, 0, ret);
}

const struct file_ops stdio_file_ops = {
	.type = FILE_STDIO,
	.name = "stdio",
	.read = stdio_read,
	.write = stdio_write,
	.poll = stdio_poll,
	.stat = stdio_stat,
	.release = stdio_release,
	.save = stdio_save,
	.load = stdio_load,
};
