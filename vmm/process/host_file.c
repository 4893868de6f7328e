/* SPDX-License-Identifier: Apache-2.0 */
/* host_file.c - regular files and directories of the read-only roots, opened when first needed */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/process/proc.h"
#include "vmm/process/vfs_node.h"

/**
 * struct host_file - a description on the host.
 * @fd: -1 until first needed: a restore opens nothing
 * @st: what the file was when it was opened, as the guest sees it: roots are read-only, so that
 *	stat need not ask again; a file that is found to be another one later is refused
 * @bad: could not be opened again, or has changed: reads fail from then on
 */
struct host_file {
	int fd;
	int bad;
	struct stat st;
};

static bool is_dir(const struct host_file *h)
{
	return S_ISDIR(h->st.st_mode);
}

static int host_openat2(int dirfd, const char *rel, uint64_t flags)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC | O_NOFOLLOW,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
	};
	long fd;

	do
		fd = syscall(SYS_openat2, dirfd, *rel ? rel : ".", &how, sizeof(how));
	while (fd < 0 && errno == EINTR);
	if (fd >= 0)
		return (int)fd;
	return errno == EMFILE ? -ENFILE : -errno;
}

int host_lookup(struct vfs *v, enum vfs_mount mount, const char *rel, int *ret_fd, struct stat *ret)
{
	int fd = host_openat2(v->dirs[mount], rel, O_PATH);

	*ret_fd = -1;
	if (fd < 0)
		return fd;
	if (fstat(fd, ret) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

/* A root may be put together from several file systems: keep their inode numbers apart. */
static uint64_t ino_mix(struct vfs *v, enum vfs_mount mount, dev_t dev, uint64_t ino)
{
	struct stat st;

	if (!v->dir_dev[mount])
		v->dir_dev[mount] = fstat(v->dirs[mount], &st) < 0 ? 0 : st.st_dev;
	return dev == v->dir_dev[mount] ? ino : ino ^ (uint64_t)dev << 40;
}

void host_stat_fix(struct vfs *v, enum vfs_mount mount, struct stat *st)
{
	st->st_ino = ino_mix(v, mount, st->st_dev, st->st_ino);
	st->st_dev = vfs_dev(mount);
	st->st_uid = 0;
	st->st_gid = 0;
	st->st_rdev = 0;
}

/* An O_PATH description stands for anything; others must be what can be read. */
static int reopen(struct vfs *v, const char *path, int flags, struct stat *ret)
{
	const char *rel;
	enum vfs_mount mount = vfs_mount_of(v, path, &rel);
	struct stat st;
	int fd, err;

	if (!vfs_is_host(mount))
		return -ENOENT;
	err = host_lookup(v, mount, rel, &fd, ret);
	if (err || flags & O_PATH)
		return err ? err : fd;
	close(fd);
	if (!S_ISREG(ret->st_mode) && !S_ISDIR(ret->st_mode))
		return -ENXIO;
	fd = host_openat2(v->dirs[mount], rel, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return fd;
	/* What was looked at is what is open, whoever renames things meanwhile. */
	if (fstat(fd, &st) < 0 || st.st_ino != ret->st_ino || st.st_dev != ret->st_dev ||
	    (st.st_mode & S_IFMT) != (ret->st_mode & S_IFMT)) {
		close(fd);
		return -EAGAIN;
	}
	return fd;
}

/*
 * Is it the file that was open at the capture? Inode numbers differ between hosts; some image
 * formats keep no fractions of a second; what else is in a directory is no matter.
 */
static bool identity_same(const struct stat *was, const struct stat *now)
{
	if ((was->st_mode & S_IFMT) != (now->st_mode & S_IFMT))
		return false;
	if (S_ISDIR(now->st_mode))
		return true;
	return was->st_size == now->st_size && was->st_mtim.tv_sec == now->st_mtim.tv_sec &&
	       (was->st_mtim.tv_nsec == now->st_mtim.tv_nsec || !was->st_mtim.tv_nsec ||
		!now->st_mtim.tv_nsec);
}

/* The description's host descriptor, opened now if a restore left that for later. */
static int host_fd(struct proc *p, struct file *f)
{
	struct host_file *h = f->priv;
	struct stat st;
	int fd;

	if (h->fd >= 0 || h->bad)
		return h->bad ? h->bad : h->fd;
	fd = f->path ? reopen(p->vfs, f->path, f->flags, &st) : -ENOENT;
	if (fd >= 0 && !identity_same(&h->st, &st)) {
		close(fd);
		fd = -ESTALE;
	}
	if (fd < 0) {
		h->bad = -EIO;
		log_error("file %s, open in the snapshot, %s", f->path ? f->path : "(no name)",
			  fd == -ESTALE ? "has changed since" : strerror(-fd));
		proc_finish(p, PROC_BROKEN, 0,
			    "file %s %s since the snapshot was taken: publish the function again",
			    f->path ? f->path : "(no name)",
			    fd == -ESTALE ? "has changed" : "cannot be opened any more");
		return h->bad;
	}
	h->fd = fd;
	return fd;
}

static int host_file_new(struct proc *p, int flags, struct file **ret)
{
	struct host_file *h = calloc(1, sizeof(*h));
	struct file *f = h ? file_new(p, &host_file_ops, flags, h) : NULL;

	if (!f) {
		free(h);
		return -ENOMEM;
	}
	h->fd = -1;
	*ret = f;
	return 0;
}

int host_open(struct proc *p, const struct vfs_node *n, int flags, struct file **ret)
{
	struct file *f;
	struct host_file *h;
	struct stat st;
	int err, fd;

	if (!(flags & O_PATH) && !S_ISREG(n->st.st_mode) && !S_ISDIR(n->st.st_mode))
		return S_ISCHR(n->st.st_mode) || S_ISBLK(n->st.st_mode) ? -EACCES : -ENXIO;
	err = host_file_new(p, flags, &f);
	if (err)
		return err;
	h = f->priv;
	f->path = strdup(n->path[0] ? n->path : "/");
	fd = f->path ? reopen(p->vfs, f->path, flags, &st) : -ENOMEM;
	if (fd < 0) {
		file_put(p, f);
		return fd;
	}
	h->fd = fd;
	h->st = st;
	host_stat_fix(p->vfs, n->mount, &h->st);
	*ret = f;
	return 0;
}

/* ---- operations ----------------------------------------------------------------------------- */

static int64_t host_read(struct proc *p, struct file *f, const struct iovec *iov, int n,
			 int64_t offset)
{
	const struct host_file *h = f->priv;
	int fd = host_fd(p, f);
	ssize_t got;

	if (fd < 0)
		return fd;
	if (is_dir(h))
		return -EISDIR;
	do
		got = preadv(fd, iov, n, offset < 0 ? f->pos : offset);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (offset < 0)
		f->pos += got;
	return got;
}

static int host_stat(struct proc *p, struct file *f, struct stat *ret)
{
	(void)p;
	*ret = ((const struct host_file *)f->priv)->st;
	return 0;
}

static int64_t host_seek(struct proc *p, struct file *f, int64_t offset, int whence)
{
	const struct host_file *h = f->priv;

	(void)p; /* files of a root do not grow */
	return file_seek_to(f, offset, whence, is_dir(h) ? INT64_MAX : h->st.st_size);
}

struct host_dirent {
	uint64_t d_ino;
	int64_t d_off;
	uint16_t d_reclen;
	uint8_t d_type;
	char d_name[];
};

static int64_t host_getdents(struct proc *p, struct file *f, void *buf, size_t n)
{
	const struct host_file *h = f->priv;
	const char *rel;
	struct stat st;
	int fd = host_fd(p, f);
	long got;

	if (fd < 0)
		return fd;
	if (!is_dir(h))
		return -ENOTDIR;
	if (lseek(fd, f->pos, SEEK_SET) < 0 || fstat(fd, &st) < 0)
		return -errno;
	got = syscall(SYS_getdents64, fd, buf, n);
	if (got < 0)
		return -errno;
	for (long at = 0; at < got;) {
		struct host_dirent *e = (struct host_dirent *)((char *)buf + at);

		e->d_ino =
			ino_mix(p->vfs, vfs_mount_of(p->vfs, f->path, &rel), st.st_dev, e->d_ino);
		f->pos = e->d_off;
		at += e->d_reclen;
	}
	return got;
}

static int host_fill_page(struct proc *p, struct file *f, uint64_t offset, void *page)
{
	const struct host_file *h = f->priv;
	size_t got = 0;
	int fd = host_fd(p, f);

	if (fd < 0)
		return fd;
	if (is_dir(h))
		return -ENODEV;
	if (offset >= align_up((uint64_t)h->st.st_size, PAGE_BYTES))
		return -ENXIO;
	while (got < PAGE_BYTES) {
		struct iovec iov = {(uint8_t *)page + got, PAGE_BYTES - got};
		ssize_t n = preadv(fd, &iov, 1, (off_t)(offset + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		got += (size_t)n;
	}
	memset((uint8_t *)page + got, 0, PAGE_BYTES - got);
	return 0;
}

static void host_release(struct proc *p, struct file *f)
{
	struct host_file *h = f->priv;

	(void)p;
	if (h->fd >= 0)
		close(h->fd);
	free(h);
}

/* {u64 ino, dev, nlink, size, blocks, u32 mode, blksize, 3 * {u64 seconds, u32 nanoseconds}} */
static int host_save(struct proc *p, struct file *f, struct state_writer *w)
{
	const struct stat *st = &((const struct host_file *)f->priv)->st;
	const struct timespec *times[] = {&st->st_atim, &st->st_mtim, &st->st_ctim};

	(void)p;
	state_put_u64(w, st->st_ino);
	state_put_u64(w, st->st_dev);
	state_put_u64(w, st->st_nlink);
	state_put_u64(w, (uint64_t)st->st_size);
	state_put_u64(w, (uint64_t)st->st_blocks);
	state_put_u32(w, st->st_mode);
	state_put_u32(w, (uint32_t)st->st_blksize);
	for (int i = 0; i < 3; i++) {
		state_put_u64(w, (uint64_t)times[i]->tv_sec);
		state_put_u32(w, (uint32_t)times[i]->tv_nsec);
	}
	return w->err;
}

static int host_load(struct proc *p, struct state_reader *r, struct file **ret)
{
	struct stat st = {0};
	struct timespec *times[] = {&st.st_atim, &st.st_mtim, &st.st_ctim};
	int err;

	st.st_ino = state_get_u64(r);
	st.st_dev = state_get_u64(r);
	st.st_nlink = state_get_u64(r);
	st.st_size = (int64_t)state_get_u64(r);
	st.st_blocks = (int64_t)state_get_u64(r);
	st.st_mode = state_get_u32(r);
	st.st_blksize = state_get_u32(r);
	for (int i = 0; i < 3; i++) {
		times[i]->tv_sec = (int64_t)state_get_u64(r);
		times[i]->tv_nsec = state_get_u32(r);
	}
	if (r->err || st.st_size < 0 || st.st_size > INT64_MAX - PAGE_BYTES)
		return -EBADMSG;
	err = host_file_new(p, 0, ret);
	if (!err)
		((struct host_file *)(*ret)->priv)->st = st;
	return err;
}

const struct file_ops host_file_ops = {
	.type = FILE_HOST,
	.name = "file of a root",
	.read = host_read,
	.stat = host_stat,
	.seek = host_seek,
	.getdents = host_getdents,
	.fill_page = host_fill_page,
	.release = host_release,
	.save = host_save,
	.load = host_load,
};
