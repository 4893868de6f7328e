/* SPDX-License-Identifier: Apache-2.0 */
/* erofs.h - a tree as a read-only disk, for kernel guests */
#ifndef QUICKTHAW_UNPACKER_EROFS_H
#define QUICKTHAW_UNPACKER_EROFS_H

#include "snapd/unpacker/unpack.h"

/**
 * erofs_pack() - an EROFS image of what is below @dirfd, into the empty file @fd: files,
 * directories and symbolic links, owned by root, with their times. The same tree makes the same
 * bytes, which must stay so: guests of a snapshot know where on the disk their files are. Blocks.
 * Return: 0 or -errno with @u->error filled.
 */
int erofs_pack(struct unpack *u, int dirfd, int fd);

#endif
