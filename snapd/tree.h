/* SPDX-License-Identifier: Apache-2.0 */
/* tree.h - copy, walk and remove directory trees. Blocks: for start-up and the worker. */
#ifndef QUICKTHAW_SNAPD_TREE_H
#define QUICKTHAW_SNAPD_TREE_H

#include <stdint.h>
#include <sys/stat.h>

/**
 * tree_copy() - copy regular files, directories and symbolic links from @from into @to.
 * Files become readable by everybody (0644, or 0755 where the owner may execute them), because a
 * jailed process is no one's user. Other kinds of files are left out.
 * @from, @to: directory descriptors, not O_PATH; both stay the caller's
 * @bytes_max: -EFBIG when the files are larger than that together
 * Return: 0 or -errno.
 */
int tree_copy(int from, int to, uint64_t bytes_max);

/**
 * tree_merge() - tree_copy() over what is in @to already: directories become one, anything else of
 * the same name is replaced.
 */
int tree_merge(int from, int to, uint64_t bytes_max);

/** struct tree_entry - @name in @dirfd; @path is from the top. Valid during the call. */
struct tree_entry {
	int dirfd;
	const char *name;
	const char *path;
	struct stat st;
};

/**
 * tree_walk() - call @visit for all that is below @dirfd: names in byte order, a directory before
 * what is in it; symbolic links are not followed.
 * Return: 0, what @visit returned when it was not 0, or -errno.
 */
int tree_walk(int dirfd, int (*visit)(const struct tree_entry *e, void *arg), void *arg);

/** tree_remove() - remove @name below @dirfd with everything in it; symbolic links are not
 * followed. Return: 0 (also when there is nothing) or -errno. */
int tree_remove(int dirfd, const char *name);

/** tree_clear() - remove all that is in a directory. Return: 0 or -errno. */
int tree_clear(int dirfd);

#endif
