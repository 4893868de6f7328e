/* SPDX-License-Identifier: Apache-2.0 */
/* install.c - a finished temporary file gets its name, or nothing happens */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "snapshot-format/internal.h"

int file_open_parent(int dirfd, const char *name, int flags)
{
	const char *slash = strrchr(name, '/');
	CLEANUP_FREE char *parent = slash ? strndup(name, (size_t)(slash - name) + 1) : strdup(".");
	int fd;

	if (!parent)
		return -ENOMEM;
	fd = openat(dirfd, parent, flags | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/** Make a rename in the directory of @name last. */
static int sync_directory(int dirfd, const char *name)
{
	CLEANUP_FD int fd = file_open_parent(dirfd, name, O_RDONLY);

	if (fd < 0)
		return fd;
	return fsync(fd) < 0 ? -errno : 0;
}

int snapshot_file_install(int dirfd, int fd, const char *tmp_name, const char *name)
{
	if (fsync(fd) < 0 || renameat(dirfd, tmp_name, dirfd, name) < 0) {
		int ret = -errno;

		unlinkat(dirfd, tmp_name, 0);
		return ret;
	}
	/* From here on the new file has the name; at worst a crash brings the old one back. */
	return sync_directory(dirfd, name);
}

int snapshot_file_make(const char *path, int (*fill)(void *arg, int fd), void *arg)
{
	CLEANUP_FREE char *tmp = NULL;
	CLEANUP_FD int fd = -1;
	int ret;

	if (asprintf(&tmp, "%s.tmp.%d", path, getpid()) < 0)
		return -ENOMEM;
	fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ret = fill(arg, fd);
	if (!ret)
		return snapshot_file_install(AT_FDCWD, fd, tmp, path);
	unlink(tmp);
	return ret;
}
