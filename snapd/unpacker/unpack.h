/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack.h - make a tree of files from an archive that nobody trusts
 *
 * Whatever the names and targets in an archive say, nothing is made or followed outside of the
 * tree, and no more is made than the limits allow. What has been made when something fails is the
 * caller's to remove. All functions block, and return 0 or -errno with @u->error filled:
 *
 *   -EINVAL   the archive is to blame: the text says which entry, and what is wrong with it
 *   -EFBIG    it holds more than the limits allow
 *   others    the host is
 */
#ifndef QUICKTHAW_UNPACKER_UNPACK_H
#define QUICKTHAW_UNPACKER_UNPACK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "include/unpacker_abi.h"

enum {
	UNPACK_ENTRIES_MAX = 100000, /**< files, directories and links, named or implied */
	UNPACK_PATH_MAX = 1023,
	UNPACK_DEPTH_MAX = 60, /**< less than what tree.h copies and removes */
};

/**
 * struct unpack - a tree being made.
 * @dirfd: its top, the caller's
 * @bytes_left, @entries_left: of the limits
 * @bytes: what its files have together
 */
struct unpack {
	int dirfd;
	uint64_t bytes_max, bytes_left;
	uint32_t entries_left;
	uint64_t bytes;
	char error[UNPACK_ERROR_MAX];
};

/** unpack_begin() - @dirfd: an empty directory. */
void unpack_begin(struct unpack *u, int dirfd, uint64_t bytes_max);

/** unpack_name() - a name as an archive has it, made plain: without "./", "//" and a slash at its
 * end. Refuses absolute ones, "..", and what is too long or too deep. The top itself is "". */
int unpack_name(struct unpack *u, const char *name, char ret[UNPACK_PATH_MAX + 1]);

/* What follows takes plain names. Directories above are made where they are missing. */

/** unpack_dir() - a directory; one that is there already stays. */
int unpack_dir(struct unpack *u, const char *name);
/**
 * unpack_file() - a new file, readable by everybody, for unpack_write(); what is there already is
 * refused. @mode: only the owner's right to execute counts.
 */
int unpack_file(struct unpack *u, const char *name, mode_t mode, int *ret_fd);
int unpack_write(struct unpack *u, const char *name, int fd, const void *data, size_t n);
/** unpack_symlink() - where it leads is looked at by unpack_end(). */
int unpack_symlink(struct unpack *u, const char *name, const char *target);
/** unpack_hardlink() - another name of a file that is in the tree. Its bytes count again, since
 * copies of the tree have them twice. */
int unpack_hardlink(struct unpack *u, const char *name, const char *target);
/** unpack_remove() - what a later layer takes away; nothing there is no error. */
int unpack_remove(struct unpack *u, const char *name);

/** unpack_clear() - all that is in a directory; "" for the tree. */
int unpack_clear(struct unpack *u, const char *name);
/** unpack_replace_dir() - unpack_dir() in the place of a file or link of a lower layer. */
int unpack_replace_dir(struct unpack *u, const char *name);

/** unpack_end() - look at every symbolic link: none may lead out of the tree. */
int unpack_end(struct unpack *u);

/** unpack_refuse() - fill @u->error: "@name: text", with @name made printable; NULL: no name.
 * Return: @err. */
int unpack_refuse(struct unpack *u, int err, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
