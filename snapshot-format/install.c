/* SPDX-License-Identifier: Apache-2.0 */
/* install.c - a finished temporary file gets its name, or nothing happens */
#include <fcntl.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "snapshot-format/internal.h"

/** Make a rename in the directory of @name last. */
static int sync_directory(int dirfd, const char *name)
{
	const char *slash = strrchr(name, '/');
	CLEANUP_FREE char *parent = slash ? strndup(name, (size_t)(slash - name) + 1) : strdup(".");
	CLEANUP_FD int fd = -1;

	if (!parent)
		return -ENOMEM;
	fd = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
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
