/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfs_node.h - mounts, and what a path name leads to; inside the file part only
 *
 * Theory of operation. A place is a canonical absolute path of the guest: no ".", "..", "//" or
 * symbolic links in it, "" for the root. The longest mount point that it starts with says who
 * answers for it: a directory descriptor of the host, the tmpfs, or the synthesised tree. ".."
 * takes a name off the path, a symbolic link is replaced by its text: nothing of a path that the
 * program wrote ever reaches the host's own resolution of "..", symbolic or magic links.
 *
 * 1. Host names are looked up with openat2(RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS |
 *    RESOLVE_NO_MAGICLINKS) below the mount's descriptor.
 * 2. What is not a regular file, directory or symbolic link there is never opened.
 * 3. The host is asked for whole paths first; only a path with a symbolic link in it is walked name
 *    by name.
 */
#ifndef QUICKTHAW_PROCESS_VFS_NODE_H
#define QUICKTHAW_PROCESS_VFS_NODE_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "vmm/process/file.h"
#include "vmm/process/tmpfs.h"
#include "vmm/process/vfs.h"

/** Mounts; the first ones are the directories of the host. */
enum vfs_mount {
	VFS_ROOT = PROTO_DIR_ROOT,
	VFS_TASK = PROTO_DIR_TASK,
	VFS_RUNTIME = PROTO_DIR_RUNTIME,
	VFS_OPT = PROTO_DIR_OPT,
	VFS_TMP,
	VFS_SHM,
	VFS_PROC,
	VFS_DEV,
	VFS_SYS,
	VFS_MOUNT_COUNT
};

struct synth_entry;

/** struct synth_ref - a node of /proc, /dev or /sys: its table entry, and a tid or descriptor. */
struct synth_ref {
	const struct synth_entry *entry;
	int num;
};

struct vfs {
	int dirs[PROTO_DIR_COUNT];
	dev_t dir_dev[PROTO_DIR_COUNT]; /**< st_dev of the descriptor itself; 0: not asked yet */
	char cwd[VFS_PATH_MAX];		/**< canonical, unless in the tmpfs */
	struct tmpfs_inode *cwd_inode;	/**< the current directory when it is in the tmpfs */
	mode_t umask;
	struct tmpfs tmpfs;
	size_t synth_bytes; /**< texts that descriptions of /proc and the like keep */
	stdio_sink sink;
};

/**
 * struct vfs_node - where a walk ended. Start it as VFS_NODE_INIT, end it with vfs_node_close().
 * @path: canonical
 * @host_fd, @st: O_PATH descriptor and status, for nodes of the host
 * @inode: for nodes of the tmpfs; borrowed, valid until names change
 * @parent, @name: the last name and the tmpfs directory that has or could have it
 * @missing: only the last name does not exist (VFS_WALK_CREATE)
 * @dir_wanted: the path ended in a slash
 * @last_special: the path ended in "." or ".." or was "/": no name that could be removed
 * @magic: followed /proc/self/fd/N: the description itself; borrowed
 */
struct vfs_node {
	enum vfs_mount mount;
	char path[VFS_PATH_MAX];
	int host_fd;
	struct stat st;
	struct tmpfs_inode *inode;
	struct tmpfs_inode *parent;
	const char *name;
	struct synth_ref synth;
	struct file *magic;
	bool missing, dir_wanted, last_special;
};

enum {
	VFS_WALK_FOLLOW = 1,	  /**< follow a symbolic link at the end */
	VFS_WALK_CREATE = 2,	  /**< the last name may be missing */
	VFS_WALK_NO_SYMLINKS = 4, /**< openat2: RESOLVE_NO_SYMLINKS */
	VFS_WALK_NO_MAGIC = 8,	  /**< RESOLVE_NO_MAGICLINKS */
	VFS_WALK_BENEATH = 16,	  /**< RESOLVE_BENEATH */
	VFS_WALK_IN_ROOT = 32,	  /**< RESOLVE_IN_ROOT */
	VFS_WALK_PARENT =
		128, /**< what happens to the last name: not followed even before a slash */
	VFS_WALK_NO_XDEV = 64, /**< RESOLVE_NO_XDEV */
};

/**
 * vfs_walk() - resolve @path.
 * @dirfd: a guest descriptor or AT_FDCWD
 * Return: 0 or -errno as Linux gives it. @n is to be closed in either case.
 */
int vfs_walk(struct proc *p, int dirfd, const char *path, unsigned flags, struct vfs_node *n);
void vfs_node_init(struct vfs_node *n);
void vfs_node_close(struct vfs_node *n);
/** vfs_node_stat() - status as the guest sees it. */
int vfs_node_stat(struct proc *p, struct vfs_node *n, struct stat *ret);
/** vfs_node_mode() - type and permission bits. */
mode_t vfs_node_mode(const struct vfs_node *n);
/** vfs_node_readlink() - text of a symbolic link. Return: 0 or -errno. */
int vfs_node_readlink(struct proc *p, const struct vfs_node *n, char *buf, size_t size);
/** vfs_open_node() - what a walk led to; @flags as open(2). */
int vfs_open_node(struct proc *p, struct vfs_node *n, int flags, struct file **ret);
/** vfs_open_walk() - vfs_open() with VFS_WALK_* restrictions. */
int vfs_open_walk(struct proc *p, int dirfd, const char *path, int flags, mode_t mode,
		  unsigned walk, struct file **ret);

#define CLEANUP_NODE __attribute__((cleanup(vfs_node_close)))

/** vfs_mount_of() - who answers for a canonical path. @ret_rel: the rest, "" for the mount itself.
 */
enum vfs_mount vfs_mount_of(const struct vfs *v, const char *path, const char **ret_rel);
/** vfs_is_host() - does a directory of the host answer for it? */
static inline bool vfs_is_host(enum vfs_mount mount)
{
	return (int)mount < PROTO_DIR_COUNT;
}
/** vfs_dev() - st_dev of a mount. vfs_dev_is_host() - one of a directory of the host's? */
dev_t vfs_dev(enum vfs_mount mount);
bool vfs_dev_is_host(dev_t dev);
/** vfs_file_path() - canonical path of an open file, or -ENOENT. */
int vfs_file_path(struct proc *p, const struct file *f, char *buf, size_t n);
/** vfs_cwd() - path of the current directory, -ENOENT when it was removed. */
int vfs_cwd(struct proc *p, char *buf, size_t n);
/** vfs_chdir_node() / vfs_chdir_file() - change it. */
int vfs_chdir_node(struct proc *p, struct vfs_node *n);
int vfs_chdir_file(struct proc *p, struct file *f);

/* ---- the host's directories: host_file.c ---------------------------------------------------- */

/** host_lookup() - an O_PATH descriptor of @rel in a mount, and its status. -ELOOP: a link inside.
 */
int host_lookup(struct vfs *v, enum vfs_mount mount, const char *rel, int *ret_fd,
		struct stat *ret);
/** host_stat_fix() - status as the guest sees it. */
void host_stat_fix(struct vfs *v, enum vfs_mount mount, struct stat *st);
/** host_open() - a description of a file or directory that host_lookup() found. */
int host_open(struct proc *p, const struct vfs_node *n, int flags, struct file **ret);

/* ---- /proc, /dev, /sys: synth_file.c -------------------------------------------------------- */

/** synth_lookup() - Return: false when there is no such node. */
bool synth_lookup(struct proc *p, const char *path, struct synth_ref *ret);
mode_t synth_mode(struct synth_ref ref);
void synth_stat(struct proc *p, struct synth_ref ref, struct stat *ret);
/** synth_readlink() - @ret_magic: the description behind /proc/self/fd/N, else NULL. */
int synth_readlink(struct proc *p, struct synth_ref ref, char *buf, size_t size,
		   struct file **ret_magic);
int synth_open(struct proc *p, struct synth_ref ref, const char *path, int flags,
	       struct file **ret);

/* ---- shared by the types -------------------------------------------------------------------- */

/** file_seek_to() - SEEK_SET, SEEK_CUR, SEEK_END (and DATA, HOLE without holes) on @size bytes. */
int64_t file_seek_to(struct file *f, int64_t offset, int whence, int64_t size);

/** struct dirent_buf - linux_dirent64 records being put into a buffer. */
struct dirent_buf {
	void *buf;
	size_t size, used;
	bool full;
};
/** dirent_put() - @next: the position after this entry. Return: false when there is no room. */
bool dirent_put(struct dirent_buf *b, uint64_t ino, int64_t next, unsigned char type,
		const char *name);
/** dirent_result() - bytes, 0 at the end, -EINVAL when not even one entry had room. */
int64_t dirent_result(const struct dirent_buf *b);

/** pipe_reopen() - another description of a pipe's end, as open("/proc/self/fd/N") makes it. */
int pipe_reopen(struct proc *p, struct file *f, int flags, struct file **ret);
/** pipe_new() - both ends. */
int pipe_new(struct proc *p, int flags, struct file **ret_read, struct file **ret_write);
/** pipe_bytes() / pipe_resize() - F_GETPIPE_SZ, F_SETPIPE_SZ. */
int64_t pipe_bytes(const struct file *f);
int64_t pipe_resize(struct proc *p, struct file *f, uint64_t bytes);
/** stdio_reopen() - the same for 0, 1, 2. */
int stdio_reopen(struct proc *p, struct file *f, int flags, struct file **ret);
int eventfd_new(struct proc *p, uint32_t value, int flags, struct file **ret);

#endif
