/* SPDX-License-Identifier: Apache-2.0 */
/* vfs_walk.c - from a path name to a node; the theory of operation is in vfs_node.h */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/util.h"
#include "vmm/process/proc.h"
#include "vmm/process/vfs_node.h"

enum { WALK_LINKS_MAX = 40, WALK_REST_MAX = 2 * VFS_PATH_MAX };

/**
 * struct walk - a walk under way.
 * @cur: canonical path of a directory that exists, "" for the root
 * @base_len: what ".." and absolute links cannot leave (openat2); 0 otherwise
 * @rest: what is still to be walked; @left below is always a part of it
 */
struct walk {
	struct proc *p;
	struct vfs_node *n;
	unsigned flags;
	char cur[VFS_PATH_MAX];
	size_t cur_len, base_len;
	char rest[WALK_REST_MAX];
	unsigned links;
	bool whole; /* the rest may be asked for at once */
	enum vfs_mount start_mount;
};

void vfs_node_init(struct vfs_node *n)
{
	n->mount = VFS_ROOT;
	n->path[0] = '\0';
	n->host_fd = -1;
	n->inode = n->parent = NULL;
	n->name = NULL;
	n->synth = (struct synth_ref){0};
	n->magic = NULL;
	n->missing = n->dir_wanted = n->last_special = false;
}

void vfs_node_close(struct vfs_node *n)
{
	if (n->host_fd >= 0)
		close(n->host_fd);
	n->host_fd = -1;
}

/* ---- one canonical path --------------------------------------------------------------------- */

/* The inode of a canonical path below a tmpfs root, its parent and last name. */
static int tmpfs_resolve(struct proc *p, struct vfs_node *n, enum vfs_mount mount, const char *rel)
{
	struct tmpfs *fs = &p->vfs->tmpfs;
	struct tmpfs_inode *i = fs->roots[mount == VFS_SHM ? TMPFS_SHM : TMPFS_TMP];
	char name[TMPFS_NAME_MAX + 1];

	n->parent = NULL;
	while (*rel) {
		size_t len = strcspn(rel, "/");

		if (!i)
			return -ENOENT;
		if (!S_ISDIR(i->mode))
			return -ENOTDIR;
		if (len > TMPFS_NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, rel, len);
		name[len] = '\0';
		n->parent = i;
		i = tmpfs_lookup(fs, i, name);
		rel += len + (rel[len] == '/');
	}
	n->inode = i;
	return i ? 0 : -ENOENT;
}

/* Look n->path up, no links followed. On -ENOENT n->parent may be set. */
static int node_resolve(struct proc *p, struct vfs_node *n)
{
	const char *rel;
	int err;

	vfs_node_close(n);
	n->inode = n->parent = NULL;
	n->mount = vfs_mount_of(p->vfs, n->path, &rel);
	switch (n->mount) {
	case VFS_TMP:
	case VFS_SHM:
		return tmpfs_resolve(p, n, n->mount, rel);
	case VFS_PROC:
	case VFS_DEV:
	case VFS_SYS:
		return synth_lookup(p, n->path, &n->synth) ? 0 : -ENOENT;
	default:
		err = host_lookup(p->vfs, n->mount, rel, &n->host_fd, &n->st);
		if (err == -ENOENT && n->mount == VFS_ROOT && synth_lookup(p, n->path, &n->synth)) {
			n->mount = VFS_SYS; /* the way to a mount point that the root lacks */
			return 0;
		}
		return err;
	}
}

mode_t vfs_node_mode(const struct vfs_node *n)
{
	if (n->host_fd >= 0)
		return n->st.st_mode;
	return n->inode ? n->inode->mode : synth_mode(n->synth);
}

int vfs_node_stat(struct proc *p, struct vfs_node *n, struct stat *ret)
{
	if (n->magic) {
		memset(ret, 0, sizeof(*ret));
		return n->magic->ops->stat ? n->magic->ops->stat(p, n->magic, ret) : -EACCES;
	}
	if (n->inode) {
		tmpfs_stat(n->inode, ret);
	} else if (n->host_fd >= 0) {
		*ret = n->st;
		host_stat_fix(p->vfs, n->mount, ret);
	} else {
		synth_stat(p, n->synth, ret);
	}
	return 0;
}

static int node_link_text(struct proc *p, const struct vfs_node *n, char *buf, size_t size,
			  struct file **ret_magic)
{
	ssize_t len;

	*ret_magic = NULL;
	if (!S_ISLNK(vfs_node_mode(n)))
		return -EINVAL;
	if (n->inode) {
		len = snprintf(buf, size, "%s", n->inode->target);
	} else if (n->host_fd >= 0) {
		len = readlinkat(n->host_fd, "", buf, size);
		if (len < 0)
			return -errno;
		if ((size_t)len < size)
			buf[len] = '\0';
	} else {
		return synth_readlink(p, n->synth, buf, size, ret_magic);
	}
	return (size_t)len >= size ? -ENAMETOOLONG : 0;
}

int vfs_node_readlink(struct proc *p, const struct vfs_node *n, char *buf, size_t size)
{
	struct file *magic;

	return node_link_text(p, n, buf, size, &magic);
}

/* ---- the walk ------------------------------------------------------------------------------- */

/* Put @rest's place: cur + "/" + the @len bytes at @name. */
static int path_join(const struct walk *w, const char *name, size_t len, char *out)
{
	if (w->cur_len + 1 + len >= VFS_PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(out, w->cur, w->cur_len);
	out[w->cur_len] = '/';
	memcpy(out + w->cur_len + 1, name, len);
	out[w->cur_len + 1 + len] = '\0';
	return 0;
}

static void cur_set(struct walk *w, const char *path, size_t len)
{
	if (len == 1) /* "/" */
		len = 0;
	memmove(w->cur, path, len);
	w->cur[len] = '\0';
	w->cur_len = len;
}

static int cur_pop(struct walk *w)
{
	if (w->cur_len <= w->base_len) {
		if (w->flags & VFS_WALK_BENEATH)
			return -EXDEV;
		return 0;
	}
	while (w->cur_len && w->cur[w->cur_len - 1] != '/')
		w->cur_len--;
	if (w->cur_len)
		w->cur_len--;
	w->cur[w->cur_len] = '\0';
	return 0;
}

enum step { STEP_DONE, STEP_AGAIN, STEP_SLOW };

/* Is a link at the end to be followed? A slash after it asks for what it leads to. */
static bool link_wanted(const struct walk *w, bool slash)
{
	return w->flags & VFS_WALK_FOLLOW || (slash && !(w->flags & VFS_WALK_PARENT));
}

/* Restrictions of openat2 on a link. */
static int link_check(struct walk *w, const char *text)
{
	if (w->flags & VFS_WALK_NO_SYMLINKS)
		return -ELOOP;
	if (w->flags & VFS_WALK_NO_MAGIC && w->n->mount == VFS_PROC &&
	    !strncmp(w->n->path, "/proc/1/", 8))
		return -ELOOP;
	if (w->flags & VFS_WALK_BENEATH && text[0] == '/')
		return -EXDEV;
	return ++w->links > WALK_LINKS_MAX ? -ELOOP : 0;
}

/* A link of /proc/self/fd leads to the open file itself, whether it has a name or not. */
static void magic_follow(struct vfs_node *n, struct file *f)
{
	n->inode = tmpfs_inode_of(f);
	if (n->inode)
		n->mount = n->inode->tree == TMPFS_SHM ? VFS_SHM : VFS_TMP;
	else
		n->magic = f;
}

/* The link @n is replaced by its text in front of what is left. */
static int link_follow(struct walk *w, const char *left, bool last, enum step *ret)
{
	char text[VFS_PATH_MAX];
	struct file *magic;
	size_t text_len, left_len = strlen(left);
	int err = node_link_text(w->p, w->n, text, sizeof(text), &magic);

	*ret = STEP_AGAIN;
	if (!err)
		err = link_check(w, text);
	if (err)
		return err;
	if (magic && last) {
		magic_follow(w->n, magic);
		*ret = STEP_DONE;
		return 0;
	}
	text_len = strlen(text);
	if (!text_len)
		return -ENOENT;
	if (text_len + 1 + left_len >= sizeof(w->rest))
		return -ENAMETOOLONG;
	memmove(w->rest + text_len, left, left_len + 1);
	memcpy(w->rest, text, text_len);
	if (text[0] == '/') {
		w->cur_len = w->base_len;
		w->cur[w->cur_len] = '\0';
	}
	w->whole = true;
	return 0;
}

/* Put rest behind cur as one canonical path. Return: false when it has a ".." or is too long. */
static bool rest_is_plain(const struct walk *w, char *out, bool *ret_slash)
{
	const char *s = w->rest;
	size_t used = w->cur_len;

	memcpy(out, w->cur, used);
	*ret_slash = false;
	for (;;) {
		size_t len;

		s += strspn(s, "/");
		len = strcspn(s, "/");
		if (!len)
			break;
		if ((len == 2 && s[0] == '.' && s[1] == '.') || (len == 1 && s[0] == '.') ||
		    used + 1 + len >= VFS_PATH_MAX)
			return false;
		out[used++] = '/';
		memcpy(out + used, s, len);
		used += len;
		s += len;
		*ret_slash = *s == '/';
	}
	out[used] = '\0';
	return used > w->cur_len;
}

/*
 * Ask the host for the whole path at once. Exact because RESOLVE_NO_SYMLINKS answers ELOOP for a
 * link anywhere but at the end.
 */
static int step_whole(struct walk *w, enum step *ret)
{
	struct vfs_node *n = w->n;
	const char *rel;
	bool slash;
	int err;

	*ret = STEP_SLOW;
	if (!rest_is_plain(w, n->path, &slash) ||
	    !vfs_is_host(vfs_mount_of(w->p->vfs, n->path, &rel)) || !*rel)
		return 0;
	err = node_resolve(w->p, n);
	if (err == -ELOOP || (err == -ENOENT && w->flags & VFS_WALK_CREATE))
		return 0;
	if (err)
		return err;
	if (n->mount != VFS_SYS && S_ISLNK(n->st.st_mode) &&
	    (slash || w->flags & VFS_WALK_FOLLOW)) {
		const char *name = strrchr(n->path, '/');

		/* Everything before the last name was no link: go on from there. */
		cur_set(w, n->path, (size_t)(name - n->path));
		return link_follow(w, slash ? "/" : "", !slash, ret);
	}
	if (slash && !(w->flags & VFS_WALK_PARENT) && !S_ISDIR(vfs_node_mode(n)))
		return -ENOTDIR;
	n->dir_wanted = slash;
	*ret = STEP_DONE;
	return 0;
}

/* The walk ends at cur itself: "/", "." or "..". */
static int finish_at_cur(struct walk *w)
{
	struct vfs_node *n = w->n;

	memcpy(n->path, w->cur, w->cur_len + 1);
	n->last_special = true;
	n->dir_wanted = true;
	return node_resolve(w->p, n);
}

static int finish_missing(struct walk *w, bool slash)
{
	struct vfs_node *n = w->n;

	if (!(w->flags & VFS_WALK_CREATE))
		return -ENOENT;
	n->missing = true;
	n->dir_wanted = slash;
	return 0;
}

/* One name. */
static int step_name(struct walk *w, enum step *ret)
{
	struct vfs_node *n = w->n;
	const char *name = w->rest + strspn(w->rest, "/");
	size_t len = strcspn(name, "/");
	const char *left = name + len;
	bool last = !left[strspn(left, "/")], slash = *left == '/';
	int err;

	*ret = STEP_AGAIN;
	if (!len) {
		*ret = STEP_DONE;
		return finish_at_cur(w);
	}
	if (len == 1 && name[0] == '.') {
		memmove(w->rest, left, strlen(left) + 1);
		return 0;
	}
	if (len == 2 && name[0] == '.' && name[1] == '.') {
		memmove(w->rest, left, strlen(left) + 1);
		w->whole = true;
		return cur_pop(w);
	}
	if (len > TMPFS_NAME_MAX)
		return -ENAMETOOLONG;
	err = path_join(w, name, len, n->path);
	if (!err)
		err = node_resolve(w->p, n);
	if (err == -ENOENT && last) {
		*ret = STEP_DONE;
		return finish_missing(w, slash);
	}
	if (err)
		return err;
	if (S_ISLNK(vfs_node_mode(n)) && (!last || link_wanted(w, slash)))
		return link_follow(w, left, last && !slash, ret);
	if (last && !slash) {
		*ret = STEP_DONE;
		return 0;
	}
	if (!S_ISDIR(vfs_node_mode(n)) && !(last && w->flags & VFS_WALK_PARENT))
		return -ENOTDIR;
	if (last) {
		n->dir_wanted = true;
		*ret = STEP_DONE;
		return 0;
	}
	memmove(w->rest, left, strlen(left) + 1);
	cur_set(w, n->path, strlen(n->path));
	return 0;
}

/* Where a relative path starts. */
static int walk_start(struct walk *w, int dirfd, bool absolute)
{
	char path[VFS_PATH_MAX];
	const struct file *f;
	int err;

	if (absolute && !(w->flags & VFS_WALK_IN_ROOT))
		return w->flags & VFS_WALK_BENEATH ? -EXDEV : 0;
	if (dirfd == AT_FDCWD) {
		err = vfs_cwd(w->p, path, sizeof(path));
	} else {
		struct stat st = {0};

		f = fd_get(w->p, dirfd);
		if (!f)
			return -EBADF;
		err = f->ops->stat ? f->ops->stat(w->p, fd_get(w->p, dirfd), &st) : -ENOTDIR;
		if (!err && !S_ISDIR(st.st_mode))
			err = -ENOTDIR;
		if (!err)
			err = vfs_file_path(w->p, f, path, sizeof(path));
	}
	if (!err)
		cur_set(w, path, strlen(path));
	if (w->flags & (VFS_WALK_BENEATH | VFS_WALK_IN_ROOT))
		w->base_len = w->cur_len;
	return err;
}

static int walk_end(struct walk *w)
{
	struct vfs_node *n = w->n;
	char *slash = strrchr(n->path, '/');

	n->name = slash ? slash + 1 : n->path;
	if (w->flags & VFS_WALK_NO_XDEV && n->mount != w->start_mount)
		return -EXDEV;
	return 0;
}

int vfs_walk(struct proc *p, int dirfd, const char *path, unsigned flags, struct vfs_node *n)
{
	struct walk w;
	const char *rel;
	size_t len = strlen(path);
	enum step step = STEP_AGAIN;
	int err;

	vfs_node_init(n);
	if (!len)
		return -ENOENT;
	if (len >= VFS_PATH_MAX)
		return -ENAMETOOLONG;
	w.p = p;
	w.n = n;
	w.flags = flags;
	w.cur[0] = '\0';
	w.cur_len = w.base_len = 0;
	w.links = 0;
	memcpy(w.rest, path, len + 1);
	err = walk_start(&w, dirfd, path[0] == '/');
	if (err)
		return err;
	w.start_mount = vfs_mount_of(p->vfs, w.cur, &rel);
	w.whole = true;
	while (!err && step != STEP_DONE) {
		step = STEP_SLOW;
		if (w.whole) {
			err = step_whole(&w, &step);
			w.whole = step != STEP_SLOW;
		}
		if (!err && step == STEP_SLOW)
			err = step_name(&w, &step);
	}
	return err ? err : walk_end(&w);
}
