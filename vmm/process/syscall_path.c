/* SPDX-License-Identifier: Apache-2.0 */
/* syscall_path.c - system calls that open, make, remove and move names; the table of those on paths
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/syscall_file.h"

enum { O_LARGEFILE_BIT = 0100000 };

int path_in(struct proc *p, uint64_t addr, char path[VFS_PATH_MAX])
{
	int n = mm_copy_in_str(p, path, addr, VFS_PATH_MAX);

	return n < 0 ? n : 0;
}

/* ---- open ----------------------------------------------------------------------------------- */

static int64_t open_at(struct proc *p, uint64_t dirfd, uint64_t path_at, int flags, uint64_t mode,
		       unsigned walk)
{
	char path[VFS_PATH_MAX];
	struct file *f;
	int err = path_in(p, path_at, path);

	if (!err)
		err = vfs_open_walk(p, (int)dirfd, path, flags, (mode_t)mode, walk, &f);
	if (err)
		return err;
	if (!(flags & O_PATH))
		f->flags |= O_LARGEFILE_BIT;
	return fd_give(p, f, flags & O_CLOEXEC);
}

static SYSCALL_HANDLER(open)
{
	(void)t;
	return open_at(p, (uint64_t)AT_FDCWD, a[0], (int)a[1], a[2], 0);
}

static SYSCALL_HANDLER(creat)
{
	(void)t;
	return open_at(p, (uint64_t)AT_FDCWD, a[0], O_CREAT | O_WRONLY | O_TRUNC, a[1], 0);
}

static SYSCALL_HANDLER(openat)
{
	(void)t;
	return open_at(p, a[0], a[1], (int)a[2], a[3], 0);
}

static SYSCALL_HANDLER(openat2)
{
	static const struct {
		uint64_t resolve;
		unsigned walk;
	} map[] = {
		{RESOLVE_NO_XDEV, VFS_WALK_NO_XDEV},
		{RESOLVE_NO_MAGICLINKS, VFS_WALK_NO_MAGIC},
		{RESOLVE_NO_SYMLINKS, VFS_WALK_NO_SYMLINKS},
		{RESOLVE_BENEATH, VFS_WALK_BENEATH},
		{RESOLVE_IN_ROOT, VFS_WALK_IN_ROOT},
	};
	struct open_how how;
	unsigned walk = 0;
	int err;

	(void)t;
	if (a[3] < sizeof(how))
		return -EINVAL;
	if (a[3] > sizeof(how))
		return -E2BIG;
	err = mm_copy_in(p, &how, a[2], sizeof(how));
	if (err)
		return err;
	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		if (how.resolve & map[i].resolve) {
			walk |= map[i].walk;
			how.resolve &= ~map[i].resolve;
		}
	if (how.resolve || how.flags >> 31 || how.mode & ~07777ull ||
	    (how.mode && !(how.flags & (O_CREAT | __O_TMPFILE))) ||
	    (walk & (VFS_WALK_BENEATH | VFS_WALK_IN_ROOT)) == (VFS_WALK_BENEATH | VFS_WALK_IN_ROOT))
		return -EINVAL;
	return open_at(p, a[0], a[1], (int)how.flags, how.mode, walk);
}

static int64_t readlink_at(struct proc *p, uint64_t dirfd, uint64_t path_at, uint64_t to,
			   uint64_t size)
{
	CLEANUP_NODE struct vfs_node n;
	char path[VFS_PATH_MAX], text[VFS_PATH_MAX];
	size_t len;
	int err;

	vfs_node_init(&n);
	if ((int)size <= 0)
		return -EINVAL;
	err = path_in(p, path_at, path);
	if (err)
		return err;
	if (!*path) {
		struct file *f = fd_get(p, (int)dirfd);
		char own[VFS_PATH_MAX];

		/* An O_PATH descriptor of a link. */
		err = f ? vfs_file_path(p, f, own, sizeof(own)) : -ENOENT;
		if (!err)
			err = vfs_walk(p, AT_FDCWD, own, 0, &n);
	} else {
		err = vfs_walk(p, (int)dirfd, path, 0, &n);
	}
	if (!err)
		err = vfs_node_readlink(p, &n, text, sizeof(text));
	if (err)
		return err;
	len = MIN(strlen(text), (size_t)(int)size);
	err = mm_copy_out(p, to, text, len);
	return err ? err : (int64_t)len;
}

static SYSCALL_HANDLER(readlink)
{
	(void)t;
	return readlink_at(p, (uint64_t)AT_FDCWD, a[0], a[1], a[2]);
}

static SYSCALL_HANDLER(readlinkat)
{
	(void)t;
	return readlink_at(p, a[0], a[1], a[2], a[3]);
}

/* ---- the current directory ------------------------------------------------------------------ */

static SYSCALL_HANDLER(getcwd)
{
	char path[VFS_PATH_MAX];
	size_t n;
	int err = vfs_cwd(p, path, sizeof(path));

	(void)t;
	if (err)
		return err;
	n = strlen(path) + 1;
	if (a[1] < n)
		return -ERANGE;
	err = mm_copy_out(p, a[0], path, n);
	return err ? err : (int64_t)n;
}

static SYSCALL_HANDLER(chdir)
{
	CLEANUP_NODE struct vfs_node n;
	char path[VFS_PATH_MAX];
	int err;

	(void)t;
	vfs_node_init(&n);
	err = path_in(p, a[0], path);
	if (!err)
		err = vfs_walk(p, AT_FDCWD, path, VFS_WALK_FOLLOW, &n);
	return err ? err : vfs_chdir_node(p, &n);
}

static SYSCALL_HANDLER(fchdir)
{
	struct file *f = fd_get(p, (int)a[0]);

	(void)t;
	return f ? vfs_chdir_file(p, f) : -EBADF;
}

static SYSCALL_HANDLER(umask)
{
	mode_t old = p->vfs->umask;

	(void)t;
	p->vfs->umask = (mode_t)a[0] & 0777;
	return old;
}

/* ---- names ---------------------------------------------------------------------------------- */

static int walk_in(struct proc *p, uint64_t dirfd, uint64_t path_at, unsigned flags,
		   struct vfs_node *n)
{
	char path[VFS_PATH_MAX];
	int err;

	vfs_node_init(n);
	err = path_in(p, path_at, path);
	return err ? err : vfs_walk(p, (int)dirfd, path, flags | VFS_WALK_PARENT, n);
}

/* Where a new name may be made. */
static int make_check(const struct vfs_node *n)
{
	if (!n->missing)
		return -EEXIST;
	if (n->parent)
		return 0;
	return n->mount == VFS_PROC ? -ENOENT : vfs_is_host(n->mount) ? -EROFS : -EPERM;
}

/* Whether an existing name may go away. */
static int remove_check(const struct vfs_node *n)
{
	if (n->parent)
		return 0;
	if (n->inode || !vfs_is_host(n->mount))
		return n->inode ? -EBUSY : -EPERM; /* a mount point; a synthesised file */
	return -EROFS;
}

static int64_t mkdir_at(struct proc *p, uint64_t dirfd, uint64_t path_at, uint64_t mode)
{
	CLEANUP_NODE struct vfs_node n;
	int err = walk_in(p, dirfd, path_at, VFS_WALK_CREATE, &n);

	if (!err)
		err = make_check(&n);
	if (err)
		return err;
	return tmpfs_create(p, n.parent, n.name, S_IFDIR | ((mode_t)mode & 01777 & ~p->vfs->umask),
			    NULL, NULL);
}

static SYSCALL_HANDLER(mkdir)
{
	(void)t;
	return mkdir_at(p, (uint64_t)AT_FDCWD, a[0], a[1]);
}

static SYSCALL_HANDLER(mkdirat)
{
	(void)t;
	return mkdir_at(p, a[0], a[1], a[2]);
}

static int64_t mknod_at(struct proc *p, uint64_t dirfd, uint64_t path_at, uint64_t mode)
{
	CLEANUP_NODE struct vfs_node n;
	int err = walk_in(p, dirfd, path_at, VFS_WALK_CREATE, &n);

	if (!err)
		err = make_check(&n);
	if (err)
		return err;
	if (n.dir_wanted)
		return -ENOENT;
	if (S_ISDIR((mode_t)mode))
		return -EPERM;
	if ((mode & S_IFMT) && !S_ISREG((mode_t)mode))
		return -EPERM;
	return tmpfs_create(p, n.parent, n.name, S_IFREG | ((mode_t)mode & 07777 & ~p->vfs->umask),
			    NULL, NULL);
}

static SYSCALL_HANDLER(mknod)
{
	(void)t;
	return mknod_at(p, (uint64_t)AT_FDCWD, a[0], a[1]);
}

static SYSCALL_HANDLER(mknodat)
{
	(void)t;
	return mknod_at(p, a[0], a[1], a[2]);
}

static int64_t rmdir_at(struct proc *p, uint64_t dirfd, uint64_t path_at)
{
	CLEANUP_NODE struct vfs_node n;
	char path[VFS_PATH_MAX];
	size_t len;
	int err;

	vfs_node_init(&n);
	err = path_in(p, path_at, path);
	if (!err)
		err = vfs_walk(p, (int)dirfd, path, VFS_WALK_PARENT, &n);
	if (err)
		return err;
	if (n.last_special) {
		len = strlen(path);
		while (len && path[len - 1] == '/')
			len--;
		if (len >= 2 && path[len - 1] == '.' && path[len - 2] == '.')
			return -ENOTEMPTY;
		return len && path[len - 1] == '.' ? -EINVAL : -EBUSY;
	}
	err = remove_check(&n);
	if (err)
		return err == -EROFS && !S_ISDIR(vfs_node_mode(&n)) ? -ENOTDIR : err;
	return tmpfs_rmdir(p, n.parent, n.name);
}

static int64_t unlink_at(struct proc *p, uint64_t dirfd, uint64_t path_at)
{
	CLEANUP_NODE struct vfs_node n;
	int err = walk_in(p, dirfd, path_at, 0, &n);

	if (err)
		return err;
	if (n.last_special || n.dir_wanted)
		return S_ISDIR(vfs_node_mode(&n)) ? -EISDIR : -ENOTDIR;
	err = remove_check(&n);
	return err ? err : tmpfs_unlink(p, n.parent, n.name);
}

static SYSCALL_HANDLER(rmdir)
{
	(void)t;
	return rmdir_at(p, (uint64_t)AT_FDCWD, a[0]);
}

static SYSCALL_HANDLER(unlink)
{
	(void)t;
	return unlink_at(p, (uint64_t)AT_FDCWD, a[0]);
}

static SYSCALL_HANDLER(unlinkat)
{
	(void)t;
	if (a[2] & ~(uint64_t)AT_REMOVEDIR)
		return -EINVAL;
	return a[2] ? rmdir_at(p, a[0], a[1]) : unlink_at(p, a[0], a[1]);
}

static int64_t rename_at(struct proc *p, const uint64_t from[2], const uint64_t to[2],
			 unsigned flags)
{
	CLEANUP_NODE struct vfs_node a, b;
	int err;

	vfs_node_init(&a);
	vfs_node_init(&b);
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
	    flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	err = walk_in(p, from[0], from[1], VFS_WALK_CREATE, &a);
	if (!err)
		err = walk_in(p, to[0], to[1], VFS_WALK_CREATE, &b);
	if (err)
		return err;
	if (a.mount != b.mount)
		return -EXDEV;
	if (a.last_special || b.last_special)
		return flags & RENAME_NOREPLACE && !a.last_special ? -EEXIST : -EBUSY;
	if (a.missing)
		return -ENOENT;
	if (!a.parent || !b.parent)
		return a.parent || vfs_is_host(a.mount) ? -EROFS : -EPERM;
	if (flags & RENAME_NOREPLACE && !b.missing)
		return -EEXIST;
	if (flags & RENAME_EXCHANGE && b.missing)
		return -ENOENT;
	if (!S_ISDIR(vfs_node_mode(&a)) &&
	    (a.dir_wanted || (b.dir_wanted && !(flags & RENAME_EXCHANGE))))
		return -ENOTDIR;
	if (flags & RENAME_EXCHANGE && b.dir_wanted && !S_ISDIR(vfs_node_mode(&b)))
		return -ENOTDIR;
	return tmpfs_rename(p, a.parent, a.name, b.parent, b.name, flags);
}

static SYSCALL_HANDLER(rename)
{
	(void)t;
	return rename_at(p, (const uint64_t[]){(uint64_t)AT_FDCWD, a[0]},
			 (const uint64_t[]){(uint64_t)AT_FDCWD, a[1]}, 0);
}

static SYSCALL_HANDLER(renameat)
{
	(void)t;
	return rename_at(p, a, a + 2, 0);
}

static SYSCALL_HANDLER(renameat2)
{
	(void)t;
	return rename_at(p, a, a + 2, (unsigned)a[4]);
}

static int64_t link_at(struct proc *p, const uint64_t from[2], const uint64_t to[2], int flags)
{
	CLEANUP_NODE struct vfs_node a, b;
	char path[VFS_PATH_MAX] = "";
	int err;

	vfs_node_init(&a);
	vfs_node_init(&b);
	if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	err = path_in(p, from[1], path);
	if (!err && !*path && flags & AT_EMPTY_PATH) {
		struct file *f = fd_get(p, (int)from[0]);

		if (!f)
			return -EBADF;
		a.inode = tmpfs_inode_of(f);
		a.mount = a.inode && a.inode->tree == TMPFS_SHM ? VFS_SHM : VFS_TMP;
	} else if (!err) {
		err = vfs_walk(p, (int)from[0], path,
			       flags & AT_SYMLINK_FOLLOW ? VFS_WALK_FOLLOW : 0, &a);
	}
	if (!err)
		err = walk_in(p, to[0], to[1], VFS_WALK_CREATE, &b);
	if (err)
		return err;
	if (!b.missing)
		return -EEXIST;
	if (a.mount != b.mount || !a.inode)
		return a.mount == b.mount && vfs_is_host(a.mount) ? -EROFS : -EXDEV;
	err = make_check(&b);
	if (err || b.dir_wanted)
		return err ? err : -ENOENT;
	return tmpfs_link(p, b.parent, b.name, a.inode);
}

static SYSCALL_HANDLER(link)
{
	(void)t;
	return link_at(p, (const uint64_t[]){(uint64_t)AT_FDCWD, a[0]},
		       (const uint64_t[]){(uint64_t)AT_FDCWD, a[1]}, 0);
}

static SYSCALL_HANDLER(linkat)
{
	(void)t;
	return link_at(p, a, a + 2, (int)a[4]);
}

static int64_t symlink_at(struct proc *p, uint64_t target_at, uint64_t dirfd, uint64_t path_at)
{
	CLEANUP_NODE struct vfs_node n;
	char target[VFS_PATH_MAX];
	int err;

	vfs_node_init(&n);
	err = path_in(p, target_at, target);
	if (!err && !*target)
		err = -ENOENT;
	if (!err)
		err = walk_in(p, dirfd, path_at, VFS_WALK_CREATE, &n);
	if (!err)
		err = make_check(&n);
	if (err || n.dir_wanted)
		return err ? err : -ENOENT;
	return tmpfs_create(p, n.parent, n.name, S_IFLNK | 0777, target, NULL);
}

static SYSCALL_HANDLER(symlink)
{
	(void)t;
	return symlink_at(p, a[0], (uint64_t)AT_FDCWD, a[1]);
}

static SYSCALL_HANDLER(symlinkat)
{
	(void)t;
	return symlink_at(p, a[0], a[1], a[2]);
}

/* What changes the machine: no program in a guest may. */
static SYSCALL_HANDLER(denied)
{
	(void)p;
	(void)t;
	(void)a;
	return -EPERM;
}

const struct syscall_entry syscalls_path[] = {
	SYSCALL_ENTRY(open, sys_open),
	SYSCALL_ENTRY(creat, sys_creat),
	SYSCALL_ENTRY(openat, sys_openat),
	SYSCALL_ENTRY(openat2, sys_openat2),
	SYSCALL_ENTRY(readlink, sys_readlink),
	SYSCALL_ENTRY(readlinkat, sys_readlinkat),
	SYSCALL_ENTRY(getcwd, sys_getcwd),
	SYSCALL_ENTRY(chdir, sys_chdir),
	SYSCALL_ENTRY(fchdir, sys_fchdir),
	SYSCALL_ENTRY(umask, sys_umask),
	SYSCALL_ENTRY(mkdir, sys_mkdir),
	SYSCALL_ENTRY(mkdirat, sys_mkdirat),
	SYSCALL_ENTRY(mknod, sys_mknod),
	SYSCALL_ENTRY(mknodat, sys_mknodat),
	SYSCALL_ENTRY(rmdir, sys_rmdir),
	SYSCALL_ENTRY(unlink, sys_unlink),
	SYSCALL_ENTRY(unlinkat, sys_unlinkat),
	SYSCALL_ENTRY(rename, sys_rename),
	SYSCALL_ENTRY(renameat, sys_renameat),
	SYSCALL_ENTRY(renameat2, sys_renameat2),
	SYSCALL_ENTRY(link, sys_link),
	SYSCALL_ENTRY(linkat, sys_linkat),
	SYSCALL_ENTRY(symlink, sys_symlink),
	SYSCALL_ENTRY(symlinkat, sys_symlinkat),
	SYSCALL_ENTRY(stat, sys_stat),
	SYSCALL_ENTRY(lstat, sys_lstat),
	SYSCALL_ENTRY(fstat, sys_fstat),
	SYSCALL_ENTRY(newfstatat, sys_newfstatat),
	SYSCALL_ENTRY(statx, sys_statx),
	SYSCALL_ENTRY(statfs, sys_statfs),
	SYSCALL_ENTRY(fstatfs, sys_fstatfs),
	SYSCALL_ENTRY(access, sys_access),
	SYSCALL_ENTRY(faccessat, sys_faccessat),
	SYSCALL_ENTRY(faccessat2, sys_faccessat2),
	SYSCALL_ENTRY(chmod, sys_chmod),
	SYSCALL_ENTRY(fchmod, sys_fchmod),
	SYSCALL_ENTRY(fchmodat, sys_fchmodat),
	SYSCALL_ENTRY(chown, sys_chown),
	SYSCALL_ENTRY(lchown, sys_lchown),
	SYSCALL_ENTRY(fchown, sys_fchown),
	SYSCALL_ENTRY(fchownat, sys_fchownat),
	SYSCALL_ENTRY(utime, sys_utime),
	SYSCALL_ENTRY(utimes, sys_utimes),
	SYSCALL_ENTRY(futimesat, sys_futimesat),
	SYSCALL_ENTRY(utimensat, sys_utimensat),
	SYSCALL_ENTRY(truncate, sys_truncate),
	SYSCALL_ENTRY(getxattr, sys_xattr_get),
	SYSCALL_ENTRY(lgetxattr, sys_xattr_get_nofollow),
	SYSCALL_ENTRY(fgetxattr, sys_xattr_fget),
	SYSCALL_ENTRY(listxattr, sys_xattr_list),
	SYSCALL_ENTRY(llistxattr, sys_xattr_list_nofollow),
	SYSCALL_ENTRY(flistxattr, sys_xattr_flist),
	SYSCALL_ENTRY(setxattr, sys_xattr_set),
	SYSCALL_ENTRY(lsetxattr, sys_xattr_set_nofollow),
	SYSCALL_ENTRY(fsetxattr, sys_xattr_fset),
	SYSCALL_ENTRY(removexattr, sys_xattr_set),
	SYSCALL_ENTRY(lremovexattr, sys_xattr_set_nofollow),
	SYSCALL_ENTRY(fremovexattr, sys_xattr_fset),
	SYSCALL_ENTRY(mount, sys_denied),
	SYSCALL_ENTRY(umount2, sys_denied),
	SYSCALL_ENTRY(pivot_root, sys_denied),
	SYSCALL_ENTRY(chroot, sys_denied),
	SYSCALL_ENTRY(swapon, sys_denied),
	SYSCALL_ENTRY(swapoff, sys_denied),
	SYSCALL_ENTRY(acct, sys_denied),
	{0},
};
