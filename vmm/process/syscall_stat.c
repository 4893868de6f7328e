/* SPDX-License-Identifier: Apache-2.0 */
/* syscall_stat.c - system calls about what a file is: stat, access, modes, owners, times, size */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <unistd.h>
#include <utime.h>

#include "common/clock.h"
#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/syscall_file.h"

/* linux/stat.h and sys/stat.h share names; the layout is the kernel's. */
_Static_assert(sizeof(struct stat) == 144, "struct stat is what the system call has on x86-64");
_Static_assert(sizeof(struct statx) == 256, "struct statx is what the system call has");

/** struct target - a file that a call is about, named by a path or a descriptor. */
struct target {
	struct vfs_node node;
	struct file *file; /**< set when named by a descriptor */
};
#define CLEANUP_TARGET __attribute__((cleanup(target_close)))

static void target_close(struct target *x)
{
	vfs_node_close(&x->node);
}

/* @flags: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH (a NULL @path is an empty one). */
static int target_find(struct proc *p, uint64_t dirfd, uint64_t path_at, int flags,
		       struct target *x)
{
	char path[VFS_PATH_MAX] = "";
	int err = 0;

	vfs_node_init(&x->node);
	x->file = NULL;
	if (path_at || !(flags & AT_EMPTY_PATH))
		err = path_in(p, path_at, path);
	if (err)
		return err;
	if (!*path && flags & AT_EMPTY_PATH) {
		if ((int)dirfd == AT_FDCWD)
			return vfs_walk(p, AT_FDCWD, ".", 0, &x->node);
		x->file = fd_get(p, (int)dirfd);
		return x->file ? 0 : -EBADF;
	}
	return vfs_walk(p, (int)dirfd, path, flags & AT_SYMLINK_NOFOLLOW ? 0 : VFS_WALK_FOLLOW,
			&x->node);
}

static int target_stat(struct proc *p, struct target *x, struct stat *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (!x->file)
		return vfs_node_stat(p, &x->node, ret);
	return x->file->ops->stat ? x->file->ops->stat(p, x->file, ret) : -EACCES;
}

static struct tmpfs_inode *target_inode(const struct target *x)
{
	return x->file ? tmpfs_inode_of(x->file) : x->node.inode;
}

/* Is it in a read-only mount? */
static bool target_read_only(const struct target *x)
{
	return x->file ? x->file->ops->type == FILE_HOST : x->node.host_fd >= 0;
}

static int64_t stat_at(struct proc *p, uint64_t dirfd, uint64_t path_at, int flags, uint64_t to)
{
	CLEANUP_TARGET struct target x;
	struct stat st;
	int err = target_find(p, dirfd, path_at, flags, &x);

	if (!err)
		err = target_stat(p, &x, &st);
	return err ? err : mm_copy_out(p, to, &st, sizeof(st));
}

int64_t sys_stat(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return stat_at(p, (uint64_t)AT_FDCWD, a[0], 0, a[1]);
}

int64_t sys_lstat(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return stat_at(p, (uint64_t)AT_FDCWD, a[0], AT_SYMLINK_NOFOLLOW, a[1]);
}

int64_t sys_fstat(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct file *f = fd_get(p, (int)a[0]);
	struct stat st = {0};
	int err;

	(void)t;
	if (!f)
		return -EBADF;
	err = f->ops->stat ? f->ops->stat(p, f, &st) : -EACCES;
	return err ? err : mm_copy_out(p, a[1], &st, sizeof(st));
}

enum { STAT_FLAGS = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT };

int64_t sys_newfstatat(struct proc *p, struct task *t, const uint64_t a[6])
{
	int flags = (int)a[3];

	(void)t;
	return flags & ~STAT_FLAGS ? -EINVAL : stat_at(p, a[0], a[1], flags, a[2]);
}

static struct statx_timestamp statx_time(struct timespec ts)
{
	return (struct statx_timestamp){.tv_sec = ts.tv_sec, .tv_nsec = (uint32_t)ts.tv_nsec};
}

int64_t sys_statx(struct proc *p, struct task *t, const uint64_t a[6])
{
	CLEANUP_TARGET struct target x;
	struct statx out = {0};
	struct stat st;
	int flags = (int)a[2], err;

	(void)t;
	vfs_node_init(&x.node);
	if (flags & ~(STAT_FLAGS | AT_STATX_SYNC_TYPE) || a[3] & STATX__RESERVED)
		return -EINVAL;
	err = target_find(p, a[0], a[1], flags, &x);
	if (!err)
		err = target_stat(p, &x, &st);
	if (err)
		return err;
	out.stx_mask = STATX_BASIC_STATS;
	out.stx_blksize = (uint32_t)st.st_blksize;
	out.stx_nlink = (uint32_t)st.st_nlink;
	out.stx_uid = st.st_uid;
	out.stx_gid = st.st_gid;
	out.stx_mode = (uint16_t)st.st_mode;
	out.stx_ino = st.st_ino;
	out.stx_size = (uint64_t)st.st_size;
	out.stx_blocks = (uint64_t)st.st_blocks;
	out.stx_atime = statx_time(st.st_atim);
	out.stx_mtime = statx_time(st.st_mtim);
	out.stx_ctime = statx_time(st.st_ctim);
	out.stx_rdev_major = major(st.st_rdev);
	out.stx_rdev_minor = minor(st.st_rdev);
	out.stx_dev_major = major(st.st_dev);
	out.stx_dev_minor = minor(st.st_dev);
	return mm_copy_out(p, a[4], &out, sizeof(out));
}

/* ---- file systems --------------------------------------------------------------------------- */

static int64_t statfs_out(struct proc *p, const struct stat *st, uint64_t to)
{
	uint64_t tmp_pages = p->tmp_bytes / PAGE_BYTES, used = p->vfs->tmpfs.page_count;
	struct statfs out = {
		.f_bsize = PAGE_BYTES, .f_namelen = TMPFS_NAME_MAX, .f_frsize = PAGE_BYTES};

	/* ST_VALID of the kernel says that the flags are set. */
	out.f_flags = 0x20 | ST_NOSUID | ST_NODEV | ST_RELATIME;
	if (st->st_dev == vfs_dev(VFS_PROC)) {
		out.f_type = PROC_SUPER_MAGIC;
	} else if (st->st_dev == vfs_dev(VFS_SYS)) {
		out.f_type = SYSFS_MAGIC;
	} else if (vfs_dev_is_host(st->st_dev)) {
		out.f_type = OVERLAYFS_SUPER_MAGIC;
		out.f_blocks = 1 << 20;
		out.f_flags |= ST_RDONLY;
	} else {
		out.f_type = TMPFS_MAGIC;
		out.f_blocks = tmp_pages;
		out.f_bfree = out.f_bavail = tmp_pages > used ? tmp_pages - used : 0;
		out.f_files = TMPFS_INODES_MAX;
		out.f_ffree = TMPFS_INODES_MAX - p->vfs->tmpfs.inode_count;
	}
	return mm_copy_out(p, to, &out, sizeof(out));
}

int64_t sys_statfs(struct proc *p, struct task *t, const uint64_t a[6])
{
	CLEANUP_TARGET struct target x;
	struct stat st;
	int err = target_find(p, (uint64_t)AT_FDCWD, a[0], 0, &x);

	(void)t;
	if (!err)
		err = target_stat(p, &x, &st);
	return err ? err : statfs_out(p, &st, a[1]);
}

int64_t sys_fstatfs(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct file *f = fd_get(p, (int)a[0]);
	struct stat st = {0};
	int err;

	(void)t;
	if (!f)
		return -EBADF;
	err = f->ops->stat ? f->ops->stat(p, f, &st) : -EACCES;
	return err ? err : statfs_out(p, &st, a[1]);
}

/* ---- access --------------------------------------------------------------------------------- */

/* As for root: everything may be read and written, what no one may execute may not be executed. */
static int64_t access_at(struct proc *p, uint64_t dirfd, uint64_t path_at, int mode, int flags)
{
	CLEANUP_TARGET struct target x;
	struct stat st;
	int err;

	vfs_node_init(&x.node);
	if (mode & ~(R_OK | W_OK | X_OK) ||
	    flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	err = target_find(p, dirfd, path_at, flags, &x);
	if (!err)
		err = target_stat(p, &x, &st);
	if (err)
		return err;
	if (mode & X_OK && S_ISREG(st.st_mode) && !(st.st_mode & 0111))
		return -EACCES;
	if (mode & W_OK && target_read_only(&x) && !S_ISLNK(st.st_mode))
		return -EROFS;
	return 0;
}

int64_t sys_access(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return access_at(p, (uint64_t)AT_FDCWD, a[0], (int)a[1], 0);
}

int64_t sys_faccessat(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return access_at(p, a[0], a[1], (int)a[2], 0);
}

int64_t sys_faccessat2(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return access_at(p, a[0], a[1], (int)a[2], (int)a[3]);
}

/* ---- changes -------------------------------------------------------------------------------- */

/* What is not in the tmpfs: a read-only mount, or a node whose attributes nobody keeps. */
static int not_kept(const struct target *x)
{
	return target_read_only(x) ? -EROFS : 0;
}

static int64_t chmod_target(struct target *x, uint32_t mode)
{
	struct tmpfs_inode *i = target_inode(x);

	if (!i)
		return not_kept(x);
	if (S_ISLNK(i->mode))
		return -EOPNOTSUPP;
	i->mode = (i->mode & S_IFMT) | (mode & 07777);
	i->ctime_ns = clock_real_ns();
	return 0;
}

static int64_t chmod_at(struct proc *p, uint64_t dirfd, uint64_t path_at, uint64_t mode, int flags)
{
	CLEANUP_TARGET struct target x;
	int err = target_find(p, dirfd, path_at, flags, &x);

	return err ? err : chmod_target(&x, (uint32_t)mode);
}

int64_t sys_chmod(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return chmod_at(p, (uint64_t)AT_FDCWD, a[0], a[1], 0);
}

int64_t sys_fchmodat(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return chmod_at(p, a[0], a[1], a[2], 0);
}

int64_t sys_fchmod(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct target x = {.file = fd_of(p, a[0])};

	(void)t;
	return x.file ? chmod_target(&x, (uint32_t)a[1]) : -EBADF;
}

static int64_t chown_target(struct target *x, uint64_t uid, uint64_t gid)
{
	struct tmpfs_inode *i = target_inode(x);

	if (!i)
		return not_kept(x);
	if ((uint32_t)uid != UINT32_MAX)
		i->uid = (uint32_t)uid;
	if ((uint32_t)gid != UINT32_MAX)
		i->gid = (uint32_t)gid;
	i->ctime_ns = clock_real_ns();
	return 0;
}

static int64_t chown_at(struct proc *p, uint64_t dirfd, uint64_t path_at, const uint64_t *ids,
			int flags)
{
	CLEANUP_TARGET struct target x;
	int err;

	vfs_node_init(&x.node);
	if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	err = target_find(p, dirfd, path_at, flags, &x);
	return err ? err : chown_target(&x, ids[0], ids[1]);
}

int64_t sys_chown(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return chown_at(p, (uint64_t)AT_FDCWD, a[0], a + 1, 0);
}

int64_t sys_lchown(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return chown_at(p, (uint64_t)AT_FDCWD, a[0], a + 1, AT_SYMLINK_NOFOLLOW);
}

int64_t sys_fchownat(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return chown_at(p, a[0], a[1], a + 2, (int)a[4]);
}

int64_t sys_fchown(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct target x = {.file = fd_of(p, a[0])};

	(void)t;
	return x.file ? chown_target(&x, a[1], a[2]) : -EBADF;
}

/* @ts: access and modification time, as utimensat has them. */
static int64_t times_at(struct proc *p, uint64_t dirfd, uint64_t path_at, int flags,
			const struct timespec ts[2])
{
	CLEANUP_TARGET struct target x;
	struct tmpfs_inode *i;
	uint64_t now = clock_real_ns();
	int err;

	vfs_node_init(&x.node);
	if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	for (int k = 0; k < 2; k++)
		if (ts[k].tv_nsec != UTIME_NOW && ts[k].tv_nsec != UTIME_OMIT &&
		    (ts[k].tv_nsec < 0 || ts[k].tv_nsec >= (long)NSEC_PER_SEC))
			return -EINVAL;
	err = target_find(p, dirfd, path_at, flags, &x);
	if (err)
		return err;
	i = target_inode(&x);
	if (!i)
		return not_kept(&x);
	for (int k = 0; k < 2; k++) {
		uint64_t *at = k ? &i->mtime_ns : &i->atime_ns;
		/* Before 1970 and after 2500 is cut: nanoseconds have 64 bits. */
		uint64_t s = (uint64_t)MIN(MAX(ts[k].tv_sec, (time_t)0), (time_t)16725225600);

		if (ts[k].tv_nsec == UTIME_NOW)
			*at = now;
		else if (ts[k].tv_nsec != UTIME_OMIT)
			*at = s * NSEC_PER_SEC + (uint64_t)ts[k].tv_nsec;
	}
	i->ctime_ns = now;
	return 0;
}

static const struct timespec times_now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};

int64_t sys_utimensat(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct timespec ts[2] = {times_now[0], times_now[1]};
	int err = a[2] ? mm_copy_in(p, ts, a[2], sizeof(ts)) : 0;

	(void)t;
	return err ? err : times_at(p, a[0], a[1], (int)a[3] | (a[1] ? 0 : AT_EMPTY_PATH), ts);
}

static int64_t timevals_at(struct proc *p, uint64_t dirfd, uint64_t path_at, uint64_t from)
{
	struct timespec ts[2] = {times_now[0], times_now[1]};
	struct timeval tv[2];
	int err = from ? mm_copy_in(p, tv, from, sizeof(tv)) : 0;

	if (err)
		return err;
	for (int k = 0; k < 2 && from; k++) {
		if (tv[k].tv_usec < 0 || tv[k].tv_usec >= 1000000)
			return -EINVAL;
		ts[k] = (struct timespec){tv[k].tv_sec, tv[k].tv_usec * 1000};
	}
	return times_at(p, dirfd, path_at, 0, ts);
}

int64_t sys_utimes(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return timevals_at(p, (uint64_t)AT_FDCWD, a[0], a[1]);
}

int64_t sys_futimesat(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return timevals_at(p, a[0], a[1], a[2]);
}

int64_t sys_utime(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct timespec ts[2] = {times_now[0], times_now[1]};
	struct utimbuf buf;
	int err = a[1] ? mm_copy_in(p, &buf, a[1], sizeof(buf)) : 0;

	(void)t;
	if (err)
		return err;
	if (a[1]) {
		ts[0] = (struct timespec){.tv_sec = buf.actime};
		ts[1] = (struct timespec){.tv_sec = buf.modtime};
	}
	return times_at(p, (uint64_t)AT_FDCWD, a[0], 0, ts);
}

int64_t sys_truncate(struct proc *p, struct task *t, const uint64_t a[6])
{
	CLEANUP_TARGET struct target x;
	struct stat st;
	int err;

	(void)t;
	vfs_node_init(&x.node);
	if ((int64_t)a[1] < 0)
		return -EINVAL;
	err = target_find(p, (uint64_t)AT_FDCWD, a[0], 0, &x);
	if (!err)
		err = target_stat(p, &x, &st);
	if (err)
		return err;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (x.node.inode)
		return tmpfs_truncate(p, x.node.inode, (int64_t)a[1]);
	return target_read_only(&x) ? -EROFS : -EINVAL;
}

/* ---- extended attributes: none anywhere ----------------------------------------------------- */

static int64_t xattr_path(struct proc *p, uint64_t path_at, int flags, int64_t ret)
{
	CLEANUP_TARGET struct target x;
	int err = target_find(p, (uint64_t)AT_FDCWD, path_at, flags, &x);

	if (err)
		return err;
	return ret == -EOPNOTSUPP && target_read_only(&x) ? -EROFS : ret;
}

int64_t sys_xattr_get(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return xattr_path(p, a[0], 0, -ENODATA);
}

int64_t sys_xattr_get_nofollow(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return xattr_path(p, a[0], AT_SYMLINK_NOFOLLOW, -ENODATA);
}

int64_t sys_xattr_fget(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return fd_of(p, a[0]) ? -ENODATA : -EBADF;
}

int64_t sys_xattr_list(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return xattr_path(p, a[0], 0, 0);
}

int64_t sys_xattr_list_nofollow(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return xattr_path(p, a[0], AT_SYMLINK_NOFOLLOW, 0);
}

int64_t sys_xattr_flist(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return fd_of(p, a[0]) ? 0 : -EBADF;
}

int64_t sys_xattr_set(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return xattr_path(p, a[0], 0, -EOPNOTSUPP);
}

int64_t sys_xattr_set_nofollow(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return xattr_path(p, a[0], AT_SYMLINK_NOFOLLOW, -EOPNOTSUPP);
}

int64_t sys_xattr_fset(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return fd_of(p, a[0]) ? -EOPNOTSUPP : -EBADF;
}
