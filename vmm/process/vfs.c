/* SPDX-License-Identifier: Apache-2.0 */
/* vfs.c - mounts, the current directory, open and stat by path, and all that in a saved state */
#include "vmm/process/vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/util.h"
#include "vmm/process/proc.h"
#include "vmm/process/vfs_node.h"

static const char *const mount_points[VFS_MOUNT_COUNT] = {
	[VFS_ROOT] = "",      [VFS_TASK] = "/var/task", [VFS_RUNTIME] = "/var/runtime",
	[VFS_OPT] = "/opt",   [VFS_TMP] = "/tmp",	[VFS_SHM] = "/dev/shm",
	[VFS_PROC] = "/proc", [VFS_DEV] = "/dev",	[VFS_SYS] = "/sys",
};

/* Programs remember them over a capture: a mount's number never changes. */
static const unsigned char device_numbers[VFS_MOUNT_COUNT] = {
	[VFS_ROOT] = 0x20, [VFS_TASK] = 0x21, [VFS_RUNTIME] = 0x22,
	[VFS_TMP] = 0x23,  [VFS_SHM] = 0x24,  [VFS_PROC] = 0x25,
	[VFS_DEV] = 0x26,  [VFS_SYS] = 0x27,  [VFS_OPT] = 0x28,
};

dev_t vfs_dev(enum vfs_mount mount)
{
	return makedev(0, device_numbers[mount]);
}

bool vfs_dev_is_host(dev_t dev)
{
	for (int m = 0; m < PROTO_DIR_COUNT; m++)
		if (dev == vfs_dev((enum vfs_mount)m))
			return true;
	return false;
}

static bool mount_active(const struct vfs *v, int mount)
{
	return mount >= PROTO_DIR_COUNT || v->dirs[mount] >= 0;
}

enum vfs_mount vfs_mount_of(const struct vfs *v, const char *path, const char **ret_rel)
{
	enum vfs_mount best = VFS_ROOT;
	size_t best_len = 0;

	for (int m = 0; m < VFS_MOUNT_COUNT; m++) {
		size_t len = strlen(mount_points[m]);

		if (len <= best_len || !mount_active(v, m) || strncmp(path, mount_points[m], len) ||
		    (path[len] && path[len] != '/'))
			continue;
		best = (enum vfs_mount)m;
		best_len = len;
	}
	*ret_rel = path + best_len;
	*ret_rel += **ret_rel == '/';
	return best;
}

int vfs_new(struct proc *p, const int dirs[PROTO_DIR_COUNT])
{
	struct vfs *v = calloc(1, sizeof(*v));
	int err;

	if (!v)
		return -ENOMEM;
	memcpy(v->dirs, dirs, sizeof(v->dirs));
	v->umask = 022;
	strcpy(v->cwd, "/");
	p->vfs = v;
	err = tmpfs_new(p, &v->tmpfs);
	if (!err && v->dirs[PROTO_DIR_ROOT] < 0)
		err = -EBADF;
	return err;
}

void vfs_free(struct proc *p)
{
	struct vfs *v = p->vfs;

	if (!v)
		return;
	tmpfs_free(p, &v->tmpfs);
	for (int i = 0; i < PROTO_DIR_COUNT; i++)
		if (v->dirs[i] >= 0)
			close(v->dirs[i]);
	free(v);
	p->vfs = NULL;
}

void vfs_set_stdio_sink(struct proc *p, stdio_sink fn)
{
	p->vfs->sink = fn;
}

/* ---- the current directory ------------------------------------------------------------------ */

int vfs_cwd(struct proc *p, char *buf, size_t n)
{
	const struct vfs *v = p->vfs;
	size_t len = strlen(v->cwd);

	if (v->cwd_inode)
		return tmpfs_dir_path(v->cwd_inode, buf, n);
	if (len >= n)
		return -ENAMETOOLONG;
	memcpy(buf, v->cwd, len + 1);
	return 0;
}

static void cwd_set(struct proc *p, const char *path, struct tmpfs_inode *inode)
{
	struct vfs *v = p->vfs;
	struct tmpfs_inode *old = v->cwd_inode;

	if (inode)
		tmpfs_inode_ref(inode);
	v->cwd_inode = inode;
	if (!inode)
		memmove(v->cwd, *path ? path : "/", strlen(*path ? path : "/") + 1);
	tmpfs_inode_put(p, old);
}

int vfs_chdir_node(struct proc *p, struct vfs_node *n)
{
	if (n->magic || !S_ISDIR(vfs_node_mode(n)))
		return -ENOTDIR;
	cwd_set(p, n->path, n->inode);
	return 0;
}

int vfs_chdir_file(struct proc *p, struct file *f)
{
	struct stat st = {0};

	if (!f->ops->stat || f->ops->stat(p, f, &st) < 0 || !S_ISDIR(st.st_mode))
		return -ENOTDIR;
	if (!tmpfs_inode_of(f) && (!f->path || strlen(f->path) >= VFS_PATH_MAX))
		return -ENOENT;
	cwd_set(p, f->path ? f->path : "/", tmpfs_inode_of(f));
	return 0;
}

int vfs_file_path(struct proc *p, const struct file *f, char *buf, size_t n)
{
	const struct tmpfs_inode *i = tmpfs_inode_of(f);
	size_t len;

	(void)p;
	if (i && S_ISDIR(i->mode))
		return tmpfs_dir_path(i, buf, n);
	len = f->path ? strlen(f->path) : 0;
	if (!len)
		return -ENOENT;
	if (len >= n)
		return -ENAMETOOLONG;
	memcpy(buf, f->path, len + 1);
	return 0;
}

/* ---- open ----------------------------------------------------------------------------------- */

static bool wants_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
}

static int open_magic(struct proc *p, struct file *f, int flags, struct file **ret)
{
	switch (f->ops->type) {
	case FILE_PIPE:
		return pipe_reopen(p, f, flags, ret);
	case FILE_STDIO:
		return stdio_reopen(p, f, flags, ret);
	default:
		return -ENXIO; /* sockets, eventfds and the like cannot be opened */
	}
}

static int open_tmpfs(struct proc *p, struct vfs_node *n, int flags, struct file **ret)
{
	struct tmpfs_inode *i = n->inode;
	int err = 0;

	if (S_ISDIR(i->mode) && wants_write(flags) && !(flags & O_PATH))
		return -EISDIR;
	if (S_ISSOCK(i->mode) && !(flags & O_PATH))
		return -ENXIO;
	if (flags & O_TRUNC && S_ISREG(i->mode) && !(flags & O_PATH))
		err = tmpfs_truncate(p, i, 0);
	return err ? err : tmpfs_open(p, i, flags & ~(O_CREAT | O_EXCL | O_TRUNC), n->path, ret);
}

int vfs_open_node(struct proc *p, struct vfs_node *n, int flags, struct file **ret)
{
	mode_t mode;

	if (n->magic)
		return open_magic(p, n->magic, flags, ret);
	mode = vfs_node_mode(n);
	if (S_ISLNK(mode) && !(flags & O_PATH))
		return -ELOOP;
	if ((flags & O_DIRECTORY || n->dir_wanted) && !S_ISDIR(mode))
		return -ENOTDIR;
	if (n->inode)
		return open_tmpfs(p, n, flags, ret);
	if (!(flags & O_PATH) && wants_write(flags)) {
		if (S_ISDIR(mode))
			return -EISDIR;
		if (n->host_fd >= 0)
			return S_ISREG(mode) ? -EROFS : -ENXIO;
	}
	flags &= ~(O_CREAT | O_EXCL | O_TRUNC);
	if (n->host_fd >= 0)
		return host_open(p, n, flags, ret);
	return synth_open(p, n->synth, n->path, flags, ret);
}

/* The last name does not exist: make the file where files can be made. */
static int open_create(struct proc *p, struct vfs_node *n, int flags, mode_t mode,
		       struct file **ret)
{
	int err;

	if (!n->parent)
		return n->mount == VFS_PROC ? -ENOENT : -EROFS;
	err = tmpfs_create(p, n->parent, n->name, S_IFREG | (mode & 07777 & ~p->vfs->umask), NULL,
			   &n->inode);
	if (err)
		return err;
	n->missing = false;
	return tmpfs_open(p, n->inode, flags & ~(O_CREAT | O_EXCL | O_TRUNC), n->path, ret);
}

/* O_TMPFILE: @n is the directory. */
static int open_unnamed(struct proc *p, struct vfs_node *n, int flags, mode_t mode,
			struct file **ret)
{
	struct tmpfs_inode *i;
	int err;

	if ((flags & O_ACCMODE) == O_RDONLY)
		return -EINVAL;
	if (!S_ISDIR(vfs_node_mode(n)))
		return -ENOTDIR;
	if (!n->inode)
		return n->host_fd >= 0 ? -EROFS : -EOPNOTSUPP;
	err = tmpfs_inode_new(p, n->inode->tree, S_IFREG | (mode & 07777 & ~p->vfs->umask), &i);
	if (err)
		return err;
	tmpfs_inode_ref(i);
	err = tmpfs_open(p, i, flags & ~(O_TMPFILE | O_EXCL), n->path, ret);
	tmpfs_inode_put(p, i);
	return err;
}

int vfs_open_walk(struct proc *p, int dirfd, const char *path, int flags, mode_t mode,
		  unsigned walk, struct file **ret)
{
	CLEANUP_NODE struct vfs_node n;
	int err;

	if (flags & O_PATH)
		flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	if ((flags & (O_CREAT | O_DIRECTORY)) == (O_CREAT | O_DIRECTORY))
		flags = (flags & O_TMPFILE) == O_TMPFILE ? flags & ~O_CREAT : flags & ~O_DIRECTORY;
	if (!(flags & O_NOFOLLOW) && (flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL))
		walk |= VFS_WALK_FOLLOW;
	if (flags & O_CREAT)
		walk |= VFS_WALK_CREATE | VFS_WALK_PARENT;
	err = vfs_walk(p, dirfd, path, walk, &n);
	if (err)
		return err;
	if (flags & O_CREAT && n.dir_wanted && !n.last_special)
		return -EISDIR;
	flags &= ~O_CLOEXEC;
	if ((flags & O_TMPFILE) == O_TMPFILE)
		return open_unnamed(p, &n, flags, mode, ret);
	if (n.missing)
		return open_create(p, &n, flags, mode, ret);
	if (flags & O_CREAT && !n.magic) {
		if (flags & O_EXCL)
			return -EEXIST;
		if (S_ISDIR(vfs_node_mode(&n)))
			return -EISDIR;
	}
	return vfs_open_node(p, &n, flags, ret);
}

int vfs_open(struct proc *p, int dirfd, const char *path, int flags, mode_t mode, struct file **ret)
{
	return vfs_open_walk(p, dirfd, path, flags, mode, 0, ret);
}

static int stat_empty(struct proc *p, int dirfd, struct stat *ret)
{
	struct file *f;

	if (dirfd != AT_FDCWD) {
		f = fd_get(p, dirfd);
		memset(ret, 0, sizeof(*ret));
		if (!f)
			return -EBADF;
		return f->ops->stat ? f->ops->stat(p, f, ret) : -EACCES;
	}
	if (p->vfs->cwd_inode) {
		tmpfs_stat(p->vfs->cwd_inode, ret);
		return 0;
	}
	return vfs_stat(p, AT_FDCWD, ".", 0, ret);
}

int vfs_stat(struct proc *p, int dirfd, const char *path, int flags, struct stat *ret)
{
	CLEANUP_NODE struct vfs_node n;
	int err;

	vfs_node_init(&n);
	if (!*path && flags & AT_EMPTY_PATH)
		return stat_empty(p, dirfd, ret);
	err = vfs_walk(p, dirfd, path, flags & AT_SYMLINK_NOFOLLOW ? 0 : VFS_WALK_FOLLOW, &n);
	return err ? err : vfs_node_stat(p, &n, ret);
}

/* ---- saved state ---------------------------------------------------------------------------- */

int vfs_save(struct proc *p, struct state_writer *w)
{
	struct vfs *v = p->vfs;

	state_put_u32(w, v->umask);
	tmpfs_save(p, &v->tmpfs, w);
	state_put_u32(w, v->cwd_inode ? v->cwd_inode->id : UINT32_MAX);
	state_put_str(w, v->cwd);
	return w->err;
}

int vfs_load(struct proc *p, struct state_reader *r)
{
	struct vfs *v = p->vfs;
	struct tmpfs_inode *cwd;
	uint32_t cwd_id;
	int err;

	v->umask = state_get_u32(r) & 0777;
	err = tmpfs_load(p, &v->tmpfs, r);
	if (err)
		return err;
	cwd_id = state_get_u32(r);
	state_get_str(r, v->cwd, sizeof(v->cwd));
	cwd = tmpfs_by_id(p, cwd_id);
	if (r->err || v->cwd[0] != '/' || (cwd_id != UINT32_MAX && (!cwd || !S_ISDIR(cwd->mode))))
		return r->err ? r->err : -EBADMSG;
	if (cwd)
		cwd_set(p, v->cwd, cwd);
	return 0;
}

/* ---- shared by the types -------------------------------------------------------------------- */

int64_t file_seek_to(struct file *f, int64_t offset, int whence, int64_t size)
{
	int64_t base, at;

	switch (whence) {
	case SEEK_SET:
		base = 0;
		break;
	case SEEK_CUR:
		base = f->pos;
		break;
	case SEEK_END:
		base = size;
		break;
	case SEEK_DATA:
	case SEEK_HOLE:
		if (offset < 0 || offset >= size)
			return -ENXIO;
		base = whence == SEEK_HOLE ? size - offset : 0;
		break;
	default:
		return -EINVAL;
	}
	if (!checked_add(base, offset, &at))
		return -EOVERFLOW;
	if (at < 0)
		return -EINVAL;
	f->pos = at;
	return at;
}

struct dirent_record {
	uint64_t d_ino;
	int64_t d_off;
	uint16_t d_reclen;
	uint8_t d_type;
	char d_name[];
};

bool dirent_put(struct dirent_buf *b, uint64_t ino, int64_t next, unsigned char type,
		const char *name)
{
	size_t len = strlen(name) + 1;
	size_t n = align_up(offsetof(struct dirent_record, d_name) + len, 8);
	struct dirent_record *e = (struct dirent_record *)((char *)b->buf + b->used);

	if (b->full || b->size - b->used < n) {
		b->full = true;
		return false;
	}
	memset(e, 0, n);
	e->d_ino = ino;
	e->d_off = next;
	e->d_reclen = (uint16_t)n;
	e->d_type = type;
	memcpy(e->d_name, name, len);
	b->used += n;
	return true;
}

int64_t dirent_result(const struct dirent_buf *b)
{
	return b->used ? (int64_t)b->used : b->full ? -EINVAL : 0;
}
