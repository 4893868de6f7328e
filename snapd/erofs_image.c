/* SPDX-License-Identifier: Apache-2.0 */
/* erofs_image.c - a directory becomes a read-only disk image, for kernel guests */
#include "snapd/erofs_image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "include/erofs_super.h"
#include "snapd/code_unpacker.h"
#include "snapshot-format/snapshot.h"

enum { NAME_BYTES = 64 };

/* ---- opening --------------------------------------------------------------------------------- */

/** What a power cut may have left. */
static bool is_whole(int fd)
{
	struct erofs_super super;
	struct stat st;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode) ||
	    pread_full(fd, &super, sizeof(super), EROFS_SUPER_AT) != sizeof(super))
		return false;
	return super.magic == EROFS_MAGIC && super.block_shift == EROFS_BLOCK_SHIFT &&
	       (uint64_t)st.st_size >= (uint64_t)super.blocks << EROFS_BLOCK_SHIFT;
}

int erofs_image_open(int dirfd, const char *name)
{
	CLEANUP_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (is_whole(fd))
		return steal_fd(&fd);
	log_warn("%s: not a whole EROFS image: it is made again", name);
	return -ENOENT;
}

/* ---- making ---------------------------------------------------------------------------------- */

/** A name that the store takes for litter when it starts. */
static void temp_name(const struct erofs_draft *d, char ret[NAME_BYTES])
{
	snprintf(ret, NAME_BYTES, ".%s", d->name);
}

void erofs_draft_drop(struct erofs_draft *d)
{
	char temp[NAME_BYTES];

	if (d->fd >= 0) {
		temp_name(d, temp);
		unlinkat(d->dirfd, temp, 0);
	}
	cleanup_fd(&d->fd);
	cleanup_fd(&d->tree_fd);
	cleanup_fd(&d->dirfd);
	*d = (struct erofs_draft)EROFS_DRAFT_INIT;
}

int erofs_draft_make(struct erofs_draft *d, int dirfd, const char *tree, const char *name)
{
	struct unpacker_result result = {.error = ""};
	char temp[NAME_BYTES];
	int err = 0;

	*d = (struct erofs_draft){dirfd, -1, -1, tree, name};
	temp_name(d, temp);
	d->tree_fd = openat(dirfd, tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->tree_fd >= 0)
		d->fd = openat(dirfd, temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (d->fd < 0)
		err = -errno;
	if (!err)
		err = code_unpacker_run(UNPACKER_JOB_DISK, d->tree_fd, d->fd, &result);
	if (!err && fsync(d->fd)) /* here, so that its install takes no time */
		err = -errno;
	if (err) {
		log_error("%s: cannot be made of %s: %s", name, tree,
			  *result.error ? result.error : strerror(-err));
		erofs_draft_drop(d);
	}
	return err;
}

/** The tree's number is its own as long as the draft holds it open. */
static int check_tree(const struct erofs_draft *d)
{
	struct stat made_of, now;

	if (fstat(d->tree_fd, &made_of) || fstatat(d->dirfd, d->tree, &now, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? -ESTALE : -errno;
	return made_of.st_dev == now.st_dev && made_of.st_ino == now.st_ino ? 0 : -ESTALE;
}

int erofs_draft_install(struct erofs_draft *d)
{
	char temp[NAME_BYTES];
	int err = check_tree(d);

	temp_name(d, temp);
	if (!err)
		err = snapshot_file_install(d->dirfd, d->fd, temp, d->name);
	if (!err)
		cleanup_fd(&d->fd); /* and nothing is left to remove */
	if (!err)
		d->fd = -1;
	erofs_draft_drop(d);
	return err;
}
