/* SPDX-License-Identifier: Apache-2.0 */
/* syscall_file.c - system calls that move data of open files; the table of those on descriptors */
#include "vmm/process/syscall_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/task.h"

enum {
	RW_IOVS = 1024,		/* host pieces of one operation */
	RW_CHUNK = 1 << 20,	/* bytes of one operation */
	COPY_CHUNK = 256 << 10, /* of sendfile and copy_file_range */
	GETDENTS_MAX = 64 << 10,
};
#define RW_BYTES_MAX 0x7ffff000ull /* MAX_RW_COUNT of Linux */

/** struct rw - one call of the read and write family. @offset: -1 for the file's position. */
struct rw {
	struct file *f;
	bool write;
	int64_t offset;
	const struct iovec *segs; /**< addresses of the program */
	int seg_count;
	uint64_t total;
};

/* The program's memory from byte @done of the call on, as host pieces. */
static int64_t rw_pieces(struct proc *p, const struct rw *rw, uint64_t done, struct iovec *iov,
			 int *ret_n)
{
	uint64_t bytes = 0, limit = MIN(rw->total - done, (uint64_t)RW_CHUNK), skip = done;

	*ret_n = 0;
	for (int i = 0; i < rw->seg_count && bytes < limit && *ret_n < RW_IOVS; i++) {
		uint64_t base = (uint64_t)(uintptr_t)rw->segs[i].iov_base;
		uint64_t len = rw->segs[i].iov_len;
		int used = 0;
		ssize_t got;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		len = MIN(len - skip, limit - bytes);
		got = mm_user_iov(p, base + skip, len, !rw->write, iov + *ret_n, RW_IOVS - *ret_n,
				  &used);
		if (got < 0)
			return bytes ? (int64_t)bytes : got;
		*ret_n += used;
		bytes += (uint64_t)got;
		if ((uint64_t)got < len)
			break;
		skip = 0;
	}
	return (int64_t)bytes;
}

/*
 * Run until all is moved, the file has no more, or the task must wait. The wait's cookie is how far
 * an interrupted run of the same call got: only writes go on after a part.
 */
static int64_t rw_run(struct proc *p, struct task *t, const struct rw *rw)
{
	int64_t (*op)(struct proc *, struct file *, const struct iovec *, int, int64_t) =
		rw->write ? rw->f->ops->write : rw->f->ops->read;
	struct iovec iov[RW_IOVS];
	uint64_t done = MIN(t->wait.cookie, rw->total);

	do {
		int n;
		int64_t got = rw_pieces(p, rw, done, iov, &n), ret;

		if (got < 0)
			return done ? (int64_t)done : got;
		ret = op(p, rw->f, iov, n, rw->offset < 0 ? -1 : rw->offset + (int64_t)done);
		if (ret == -EAGAIN) {
			if (done && !rw->write)
				return (int64_t)done;
			ret = file_wait(p, t, rw->f, WAIT_FOREVER);
			t->wait.cookie = done;
			if (ret == SYS_BLOCKED)
				return ret;
		}
		if (ret < 0)
			return done ? (int64_t)done : ret;
		done += (uint64_t)ret;
		if (!ret || (!rw->write && (ret < got || !rw->f->ops->seek)))
			break;
	} while (done < rw->total);
	return (int64_t)done;
}

static int rw_check(struct proc *p, struct rw *rw, uint64_t fd, bool positioned)
{
	int acc;

	rw->f = fd_of(p, fd);
	if (!rw->f)
		return -EBADF;
	acc = rw->f->flags & O_ACCMODE;
	if (acc == (rw->write ? O_RDONLY : O_WRONLY))
		return -EBADF;
	if (positioned && rw->offset < 0)
		return -EINVAL;
	if (positioned && !rw->f->ops->seek)
		return -ESPIPE;
	return (rw->write ? (void *)rw->f->ops->write : (void *)rw->f->ops->read) ? 0 : -EINVAL;
}

static int64_t rw_plain(struct proc *p, struct task *t, const uint64_t a[6], bool write,
			bool positioned)
{
	uint64_t total = MIN(a[2], RW_BYTES_MAX);
	struct iovec seg = {.iov_base = (void *)(uintptr_t)a[1], .iov_len = total};
	struct rw rw = {.write = write,
			.offset = positioned ? (int64_t)a[3] : -1,
			.segs = &seg,
			.seg_count = 1,
			.total = total};
	int err = rw_check(p, &rw, a[0], positioned);

	return err ? err : rw_run(p, t, &rw);
}

static int64_t rw_vector(struct proc *p, struct task *t, const uint64_t a[6], bool write,
			 bool positioned, uint64_t flags)
{
	CLEANUP_FREE struct iovec *segs = NULL;
	struct rw rw = {.write = write, .offset = positioned ? (int64_t)a[3] : -1};
	int err = rw_check(p, &rw, a[0], positioned);
	uint64_t total = 0;

	if (err)
		return err;
	if (flags & ~7ull) /* RWF_HIPRI, RWF_DSYNC, RWF_SYNC mean nothing here */
		return -EOPNOTSUPP;
	if (a[2] > IOV_MAX)
		return -EINVAL;
	segs = calloc(a[2] + 1, sizeof(*segs));
	if (!segs)
		return -ENOMEM;
	err = mm_copy_in(p, segs, a[1], a[2] * sizeof(*segs));
	if (err)
		return err;
	for (uint64_t i = 0; i < a[2]; i++) {
		if (segs[i].iov_len > (uint64_t)INT64_MAX - total)
			return -EINVAL;
		total += segs[i].iov_len;
	}
	rw.segs = segs;
	rw.seg_count = (int)a[2];
	rw.total = MIN(total, RW_BYTES_MAX);
	return rw_run(p, t, &rw);
}

static SYSCALL_HANDLER(read)
{
	return rw_plain(p, t, a, false, false);
}

static SYSCALL_HANDLER(write)
{
	return rw_plain(p, t, a, true, false);
}

static SYSCALL_HANDLER(pread64)
{
	return rw_plain(p, t, a, false, true);
}

static SYSCALL_HANDLER(pwrite64)
{
	return rw_plain(p, t, a, true, true);
}

static SYSCALL_HANDLER(readv)
{
	return rw_vector(p, t, a, false, false, 0);
}

static SYSCALL_HANDLER(writev)
{
	return rw_vector(p, t, a, true, false, 0);
}

static SYSCALL_HANDLER(preadv)
{
	return rw_vector(p, t, a, false, true, 0);
}

static SYSCALL_HANDLER(pwritev)
{
	return rw_vector(p, t, a, true, true, 0);
}

static SYSCALL_HANDLER(preadv2)
{
	return rw_vector(p, t, a, false, (int64_t)a[3] != -1, a[5]);
}

static SYSCALL_HANDLER(pwritev2)
{
	return rw_vector(p, t, a, true, (int64_t)a[3] != -1, a[5]);
}

static SYSCALL_HANDLER(lseek)
{
	struct file *f = fd_of(p, a[0]);

	(void)t;
	if (!f)
		return -EBADF;
	return f->ops->seek ? f->ops->seek(p, f, (int64_t)a[1], (int)a[2]) : -ESPIPE;
}

/*
 * From linux_dirent64, {ino, off, reclen, type, name, NUL}, to the records of before d_type: {ino,
 * off, reclen, name, NUL, type}. Same size: the name moves one byte down, the type goes to the end.
 */
static void dirents_to_old(uint8_t *buf, int64_t bytes)
{
	for (int64_t at = 0; at < bytes;) {
		uint16_t reclen;
		uint8_t type = buf[at + 18];

		memcpy(&reclen, buf + at + 16, sizeof(reclen));
		memmove(buf + at + 18, buf + at + 19, (size_t)reclen - 19);
		buf[at + reclen - 1] = type;
		at += reclen;
	}
}

static int64_t getdents_any(struct proc *p, const uint64_t a[6], bool old)
{
	CLEANUP_FREE uint8_t *buf = NULL;
	struct file *f = fd_of(p, a[0]);
	size_t n = MIN(a[2] & UINT32_MAX, (uint64_t)GETDENTS_MAX);
	int64_t got, pos;
	int err;

	if (!f)
		return -EBADF;
	if (!f->ops->getdents)
		return -ENOTDIR;
	buf = malloc(n ? n : 1);
	if (!buf)
		return -ENOMEM;
	pos = f->pos;
	got = f->ops->getdents(p, f, buf, n);
	if (got <= 0)
		return got;
	if (old)
		dirents_to_old(buf, got);
	err = mm_copy_out(p, a[1], buf, (size_t)got);
	if (err)
		f->pos = pos;
	return err ? err : got;
}

static SYSCALL_HANDLER(getdents64)
{
	(void)t;
	return getdents_any(p, a, false);
}

static SYSCALL_HANDLER(getdents)
{
	(void)t;
	return getdents_any(p, a, true);
}

/* ---- between files -------------------------------------------------------------------------- */

/** struct copy - @in_at, @out_at: positions, -1 for the file's own. */
struct copy {
	struct file *in, *out;
	int64_t in_at, out_at;
	uint64_t left;
};

/* One piece; positions move by what was written. Return: bytes, 0 at the end, or -errno. */
static int64_t copy_step(struct proc *p, struct copy *c, void *buf)
{
	size_t want = MIN(c->left, (uint64_t)COPY_CHUNK);
	struct iovec iov = {buf, want};
	int64_t from = c->in_at < 0 ? c->in->pos : c->in_at, got, put;

	got = c->in->ops->read(p, c->in, &iov, 1, from);
	if (got <= 0)
		return got;
	iov.iov_len = (size_t)got;
	put = c->out->ops->write(p, c->out, &iov, 1, c->out_at);
	if (put <= 0)
		return put;
	if (c->in_at < 0)
		c->in->pos += put;
	else
		c->in_at += put;
	if (c->out_at >= 0)
		c->out_at += put;
	c->left -= (uint64_t)put;
	return put;
}

static int copy_check(const struct copy *c)
{
	if (!c->in || !c->out || (c->in->flags & O_ACCMODE) == O_WRONLY ||
	    (c->out->flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	if (!c->in->ops->read || !c->out->ops->write)
		return -EINVAL;
	return 0;
}

static SYSCALL_HANDLER(sendfile)
{
	CLEANUP_FREE void *buf = NULL;
	struct copy c = {.in = fd_of(p, a[1]), .out = fd_of(p, a[0]), .in_at = -1, .out_at = -1};
	uint64_t count = MIN(a[3], RW_BYTES_MAX), done = MIN(t->wait.cookie, count);
	int64_t ret = copy_check(&c);

	if (ret)
		return ret;
	if (!c.in->ops->seek || c.out->flags & O_APPEND)
		return -EINVAL;
	if (a[2]) {
		ret = mm_copy_in(p, &c.in_at, a[2], sizeof(c.in_at));
		if (ret || c.in_at < 0)
			return ret ? ret : -EINVAL;
	}
	buf = malloc(COPY_CHUNK);
	if (!buf)
		return -ENOMEM;
	c.left = count - done;
	while (c.left && (ret = copy_step(p, &c, buf)) > 0)
		;
	done = count - c.left;
	/* Positions are up to date, so that a run after a wait goes on where this one stopped. */
	if (a[2] && mm_copy_out(p, a[2], &c.in_at, sizeof(c.in_at)))
		return -EFAULT;
	if (ret == -EAGAIN) {
		ret = file_wait(p, t, c.out, WAIT_FOREVER);
		t->wait.cookie = done;
		if (ret == SYS_BLOCKED)
			return ret;
	}
	return ret < 0 && !done ? ret : (int64_t)done;
}

static SYSCALL_HANDLER(copy_file_range)
{
	CLEANUP_FREE void *buf = NULL;
	struct copy c = {.in = fd_of(p, a[0]), .out = fd_of(p, a[2]), .in_at = -1, .out_at = -1};
	uint64_t count = MIN(a[4], RW_BYTES_MAX);
	int64_t ret = copy_check(&c);

	(void)t;
	if (ret)
		return ret;
	if (a[5] || !c.in->ops->seek || !c.out->ops->seek || c.out->ops->type != FILE_TMPFS)
		return -EINVAL;
	if (c.out->flags & O_APPEND)
		return -EBADF;
	if (a[1])
		ret = mm_copy_in(p, &c.in_at, a[1], sizeof(c.in_at));
	if (!ret && a[3])
		ret = mm_copy_in(p, &c.out_at, a[3], sizeof(c.out_at));
	if (ret || (a[1] && c.in_at < 0) || (a[3] && c.out_at < 0))
		return ret ? ret : -EINVAL;
	buf = malloc(COPY_CHUNK);
	if (!buf)
		return -ENOMEM;
	c.left = count;
	while (c.left && (ret = copy_step(p, &c, buf)) > 0)
		;
	if ((a[1] && mm_copy_out(p, a[1], &c.in_at, sizeof(c.in_at))) ||
	    (a[3] && mm_copy_out(p, a[3], &c.out_at, sizeof(c.out_at))))
		return -EFAULT;
	return ret < 0 && c.left == count ? ret : (int64_t)(count - c.left);
}

/* ---- sizes and storage ---------------------------------------------------------------------- */

static SYSCALL_HANDLER(ftruncate)
{
	struct file *f = fd_of(p, a[0]);

	(void)t;
	if (!f)
		return -EBADF;
	if ((int64_t)a[1] < 0 || (f->flags & O_ACCMODE) == O_RDONLY || !f->ops->truncate)
		return -EINVAL;
	return f->ops->truncate(p, f, a[1]);
}

static SYSCALL_HANDLER(fallocate)
{
	struct file *f = fd_of(p, a[0]);
	struct tmpfs_inode *i = f ? tmpfs_inode_of(f) : NULL;

	(void)t;
	if (!f || (f->flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	if (!i)
		return f->ops->seek ? -EOPNOTSUPP : -ESPIPE;
	return tmpfs_fallocate(p, i, (int)a[1], (int64_t)a[2], (int64_t)a[3]);
}

/* Memory is as far as data go: there is nothing to wait for. */
static SYSCALL_HANDLER(fsync)
{
	struct file *f = fd_of(p, a[0]);

	(void)t;
	if (!f)
		return -EBADF;
	return f->ops->seek ? 0 : -EINVAL;
}

static SYSCALL_HANDLER(sync)
{
	(void)p;
	(void)t;
	(void)a;
	return 0;
}

static SYSCALL_HANDLER(advise)
{
	struct file *f = fd_of(p, a[0]);

	(void)t;
	if (!f)
		return -EBADF;
	return f->ops->seek ? 0 : -ESPIPE;
}

static SYSCALL_HANDLER(readahead)
{
	struct file *f = fd_of(p, a[0]);

	(void)t;
	if (!f || (f->flags & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	return f->ops->seek ? 0 : -EINVAL;
}

static SYSCALL_HANDLER(splice)
{
	(void)p;
	(void)t;
	(void)a;
	return -EINVAL; /* callers fall back to read and write */
}

const struct syscall_entry syscalls_file[] = {
	SYSCALL_ENTRY(read, sys_read),
	SYSCALL_ENTRY(write, sys_write),
	SYSCALL_ENTRY(pread64, sys_pread64),
	SYSCALL_ENTRY(pwrite64, sys_pwrite64),
	SYSCALL_ENTRY(readv, sys_readv),
	SYSCALL_ENTRY(writev, sys_writev),
	SYSCALL_ENTRY(preadv, sys_preadv),
	SYSCALL_ENTRY(pwritev, sys_pwritev),
	SYSCALL_ENTRY(preadv2, sys_preadv2),
	SYSCALL_ENTRY(pwritev2, sys_pwritev2),
	SYSCALL_ENTRY(lseek, sys_lseek),
	SYSCALL_ENTRY(getdents, sys_getdents),
	SYSCALL_ENTRY(getdents64, sys_getdents64),
	SYSCALL_ENTRY(sendfile, sys_sendfile),
	SYSCALL_ENTRY(copy_file_range, sys_copy_file_range),
	SYSCALL_ENTRY(splice, sys_splice),
	SYSCALL_ENTRY(tee, sys_splice),
	SYSCALL_ENTRY(vmsplice, sys_splice),
	SYSCALL_ENTRY(ftruncate, sys_ftruncate),
	SYSCALL_ENTRY(fallocate, sys_fallocate),
	SYSCALL_ENTRY(fsync, sys_fsync),
	SYSCALL_ENTRY(fdatasync, sys_fsync),
	SYSCALL_ENTRY(syncfs, sys_fsync),
	SYSCALL_ENTRY(sync, sys_sync),
	SYSCALL_ENTRY(sync_file_range, sys_advise),
	SYSCALL_ENTRY(fadvise64, sys_advise),
	SYSCALL_ENTRY(readahead, sys_readahead),
	SYSCALL_ENTRY(close, sys_close),
	SYSCALL_ENTRY(close_range, sys_close_range),
	SYSCALL_ENTRY(dup, sys_dup),
	SYSCALL_ENTRY(dup2, sys_dup2),
	SYSCALL_ENTRY(dup3, sys_dup3),
	SYSCALL_ENTRY(fcntl, sys_fcntl),
	SYSCALL_ENTRY(ioctl, sys_ioctl),
	SYSCALL_ENTRY(flock, sys_flock),
	SYSCALL_ENTRY(pipe, sys_pipe),
	SYSCALL_ENTRY(pipe2, sys_pipe2),
	SYSCALL_ENTRY(eventfd, sys_eventfd),
	SYSCALL_ENTRY(eventfd2, sys_eventfd2),
	SYSCALL_ENTRY(memfd_create, sys_memfd_create),
	{0},
};
