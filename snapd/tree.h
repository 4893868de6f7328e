/* SPDX-License-Identifier: Apache-2.0 */
/* tree.h - copy and remove directory trees. Blocks: for start-up and the worker. */
#ifndef QUICKTHAW_SNAPD_TREE_H
#define QUICKTHAW_SNAPD_TREE_H

#include <stdint.h>

/**
 * tree_copy() - copy regular files, directories and symbolic links from @from into @to.
 * Files become readable by everybody (0644, or 0755 where the owner may execute them), because a
 * jailed process is no one's user. Other kinds of files are left out.
 * @from, @to: directory descriptors, not O_PATH; both stay the caller's
 * @bytes_max: -EFBIG when the files are larger than that together
 * Return: 0 or -errno.
 */
int tree_copy(int from, int to, uint64_t bytes_max);

/** tree_remove() - remove @name below @dirfd with everything in it; symbolic links are not
 * followed. Return: 0 (also when there is nothing) or -errno. */
int tree_remove(int dirfd, const char *name);

#endif
