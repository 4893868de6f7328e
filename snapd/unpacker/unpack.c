/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack.c - make a tree of files from an archive that nobody trusts
 *
 * Invariants
 *  1. Every system call goes from the tree's top, through openat2() that follows no symbolic link:
 *     a link that an archive has made is never walked while it is unpacked.
 *  2. A file is made with O_EXCL: no entry writes into what another has made.
 *  3. Bytes are counted as they are written, whatever sizes the archive claims.
 */
#include "snapd/unpacker/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "snapd/tree.h"

enum { RESOLVE_TRIES = 16 };

int unpack_refuse(struct unpack *u, int err, const char *name, const char *fmt, ...)
{
	char text[UNPACK_ERROR_MAX / 2];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(u->error, sizeof(u->error), "%.150s%s%s", name ? name : "", name ? ": " : "",
		 text);
	/* The error goes into JSON and logs: an archive may not put control characters there. */
	for (char *at = u->error; *at; at++)
		if (*at < 0x20 || *at >= 0x7f)
			*at = '?';
	return err;
}

static int host_error(struct unpack *u, const char *name)
{
	int err = -errno;

	return unpack_refuse(u, err, name, "%s", strerror(-err));
}

void unpack_begin(struct unpack *u, int dirfd, uint64_t bytes_max)
{
	*u = (struct unpack){
		.dirfd = dirfd,
		.bytes_max = bytes_max,
		.bytes_left = bytes_max,
		.entries_left = UNPACK_ENTRIES_MAX,
	};
}

int unpack_name(struct unpack *u, const char *name, char ret[UNPACK_PATH_MAX + 1])
{
	size_t used = 0;
	unsigned depth = 0;

	if (name[0] == '/')
		return unpack_refuse(u, -EINVAL, name, "an absolute name");
	for (const char *at = name; *at;) {
		size_t n = strcspn(at, "/");

		if (n == 2 && at[0] == '.' && at[1] == '.')
			return unpack_refuse(u, -EINVAL, name, "a name with ..");
		if (n && !(n == 1 && at[0] == '.')) {
			if (n > NAME_MAX || used + n + 1 > UNPACK_PATH_MAX)
				return unpack_refuse(u, -EINVAL, name, "the name is too long");
			if (++depth > UNPACK_DEPTH_MAX)
				return unpack_refuse(u, -EINVAL, name, "more than %d levels deep",
						     UNPACK_DEPTH_MAX);
			if (used)
				ret[used++] = '/';
			memcpy(ret + used, at, n);
			used += n;
		}
		at += n;
		at += *at == '/';
	}
	ret[used] = '\0';
	return 0;
}

static int open_plain(int dirfd, const char *name, uint64_t flags)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, dirfd, *name ? name : ".", &how, sizeof(how));
}

static int count_entry(struct unpack *u, const char *name)
{
	if (!u->entries_left)
		return unpack_refuse(u, -EFBIG, name, "more than %d entries", UNPACK_ENTRIES_MAX);
	u->entries_left--;
	return 0;
}

static int count_bytes(struct unpack *u, uint64_t n)
{
	if (n > u->bytes_left)
		return unpack_refuse(u, -EFBIG, NULL,
				     "Unzipped size must be smaller than %llu bytes",
				     (unsigned long long)u->bytes_max);
	u->bytes_left -= n;
	u->bytes += n;
	return 0;
}

/* ---- directories ----------------------------------------------------------------------------- */

static int make_dir(struct unpack *u, int parent, const char *last, const char *name)
{
	CLEANUP_FD int fd = -1;
	int ret;

	if (mkdirat(parent, last, 0755)) {
		if (errno != EEXIST)
			return host_error(u, name);
		fd = open_plain(parent, last, O_PATH | O_DIRECTORY | O_NOFOLLOW);
		return fd < 0 ? unpack_refuse(u, -EINVAL, name, "there is a file of that name") : 0;
	}
	ret = count_entry(u, name);
	fd = open_plain(parent, last, O_RDONLY | O_DIRECTORY);
	if (!ret && (fd < 0 || fchmod(fd, 0755))) /* whatever the umask is */
		ret = host_error(u, name);
	return ret;
}

/** The directory that @name is in; made if need be. @ret_last: its last part. */
static int open_parent(struct unpack *u, const char *name, const char **ret_last)
{
	char parent[UNPACK_PATH_MAX + 1];
	const char *slash = strrchr(name, '/');
	size_t n = slash ? (size_t)(slash - name) : 0;
	int fd, ret;

	*ret_last = slash ? slash + 1 : name;
	memcpy(parent, name, n);
	parent[n] = '\0';
	fd = open_plain(u->dirfd, parent, O_PATH | O_DIRECTORY);
	if (fd >= 0)
		return fd;
	if (errno == ENOENT) {
		ret = unpack_dir(u, parent); /* at most UNPACK_DEPTH_MAX deep */
		if (ret)
			return ret;
		fd = open_plain(u->dirfd, parent, O_PATH | O_DIRECTORY);
	}
	if (fd >= 0)
		return fd;
	if (errno == ELOOP)
		return unpack_refuse(u, -EINVAL, name, "it lies behind a symbolic link");
	if (errno == ENOTDIR)
		return unpack_refuse(u, -EINVAL, name, "it lies below a file");
	return host_error(u, name);
}

int unpack_dir(struct unpack *u, const char *name)
{
	const char *last;
	CLEANUP_FD int parent = -1;

	if (!*name)
		return 0;
	parent = open_parent(u, name, &last);
	return parent < 0 ? parent : make_dir(u, parent, last, name);
}

/* ---- files and links ------------------------------------------------------------------------- */

static int made_twice(struct unpack *u, const char *name)
{
	return errno == EEXIST ? unpack_refuse(u, -EINVAL, name, "this name is there twice")
			       : host_error(u, name);
}

int unpack_file(struct unpack *u, const char *name, mode_t mode, int *ret_fd)
{
	mode_t rights = mode & 0100 ? 0755 : 0644;
	const char *last;
	CLEANUP_FD int parent = open_parent(u, name, &last);
	CLEANUP_FD int fd = -1;
	int ret = parent < 0 ? parent : count_entry(u, name);

	if (ret)
		return ret;
	if (!*last)
		return unpack_refuse(u, -EINVAL, name, "a file without a name");
	fd = openat(parent, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, rights);
	if (fd < 0)
		return made_twice(u, name);
	if (fchmod(fd, rights))
		return host_error(u, name);
	*ret_fd = steal_fd(&fd);
	return 0;
}

int unpack_write(struct unpack *u, const char *name, int fd, const void *data, size_t n)
{
	int ret = count_bytes(u, n);

	if (!ret)
		ret = write_full(fd, data, n);
	return ret && !*u->error ? unpack_refuse(u, ret, name, "%s", strerror(-ret)) : ret;
}

int unpack_symlink(struct unpack *u, const char *name, const char *target)
{
	const char *last;
	CLEANUP_FD int parent = open_parent(u, name, &last);
	int ret = parent < 0 ? parent : count_entry(u, name);

	if (ret)
		return ret;
	if (!*target || !*last)
		return unpack_refuse(u, -EINVAL, name, "a symbolic link to nothing");
	return symlinkat(target, parent, last) ? made_twice(u, name) : 0;
}

int unpack_hardlink(struct unpack *u, const char *name, const char *target)
{
	char from_parent[UNPACK_PATH_MAX + 1];
	const char *slash = strrchr(target, '/'), *from_last = slash ? slash + 1 : target, *last;
	CLEANUP_FD int from = -1;
	CLEANUP_FD int parent = -1;
	struct stat st;
	int ret;

	snprintf(from_parent, sizeof(from_parent), "%.*s", slash ? (int)(slash - target) : 0,
		 target);
	from = open_plain(u->dirfd, from_parent, O_PATH | O_DIRECTORY);
	if (from < 0 || fstatat(from, from_last, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return unpack_refuse(u, -EINVAL, name, "a link to a file that is not there");
	parent = open_parent(u, name, &last);
	ret = parent < 0 ? parent : count_entry(u, name);
	if (!ret)
		ret = count_bytes(u, (uint64_t)st.st_size);
	if (ret)
		return ret;
	return linkat(from, from_last, parent, last, 0) ? made_twice(u, name) : 0;
}

int unpack_remove(struct unpack *u, const char *name)
{
	char parent[UNPACK_PATH_MAX + 1];
	const char *slash = strrchr(name, '/');
	size_t n = slash ? (size_t)(slash - name) : 0;
	CLEANUP_FD int fd = -1;
	int ret;

	memcpy(parent, name, n);
	parent[n] = '\0';
	fd = open_plain(u->dirfd, parent, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0
									     : host_error(u, name);
	ret = tree_remove(fd, slash ? slash + 1 : name);
	return ret ? unpack_refuse(u, ret, name, "%s", strerror(-ret)) : 0;
}

static bool is_dir(struct unpack *u, const char *name)
{
	CLEANUP_FD int fd = open_plain(u->dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW);

	return fd >= 0;
}

int unpack_clear(struct unpack *u, const char *name)
{
	CLEANUP_FD int fd = open_plain(u->dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	int ret;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0
									     : host_error(u, name);
	ret = tree_clear(fd);
	return ret ? unpack_refuse(u, ret, name, "%s", strerror(-ret)) : 0;
}

int unpack_replace_dir(struct unpack *u, const char *name)
{
	int ret = is_dir(u, name) ? 0 : unpack_remove(u, name);

	return ret ? ret : unpack_dir(u, name);
}

/* ---- the end --------------------------------------------------------------------------------- */

/** Where a link leads, through others too. A rename elsewhere on the host can make it -EAGAIN. */
static int resolve_beneath(int dirfd, const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	int err = EAGAIN;

	for (int i = 0; err == EAGAIN && i < RESOLVE_TRIES; i++) {
		CLEANUP_FD int fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

		err = fd < 0 ? errno : 0;
	}
	return err;
}

static int check_link(const struct tree_entry *e, void *arg)
{
	struct unpack *u = arg;

	if (!S_ISLNK(e->st.st_mode))
		return 0;
	switch (resolve_beneath(u->dirfd, e->path)) {
	case 0:
	case ENOENT: /* to nothing, but inside */
	case ENOTDIR:
		return 0;
	case EXDEV:
		return unpack_refuse(u, -EINVAL, e->path,
				     "a symbolic link that leaves the archive");
	case ELOOP:
		return unpack_refuse(u, -EINVAL, e->path, "symbolic links that lead in a circle");
	default:
		return unpack_refuse(u, -EINVAL, e->path, "a symbolic link that leads nowhere");
	}
}

int unpack_end(struct unpack *u)
{
	int ret = tree_walk(u->dirfd, check_link, u);

	return ret && !*u->error ? unpack_refuse(u, ret, NULL, "%s", strerror(-ret)) : ret;
}
