/* SPDX-License-Identifier: Apache-2.0 */
/* zip.h - code as a zip file: unpack one, make one. Blocks. */
#ifndef QUICKTHAW_UNPACKER_ZIP_H
#define QUICKTHAW_UNPACKER_ZIP_H

#include <stddef.h>

#include "snapd/unpacker/unpack.h"

/**
 * zip_unpack() - all of a zip file into the tree that @u makes.
 * Files, directories and symbolic links are taken; anything else is refused, and so are encrypted
 * entries, checksums that are wrong, and all that unpack.h refuses.
 * Return: 0 or -errno with @u->error filled.
 */
int zip_unpack(const void *zip, size_t zip_bytes, struct unpack *u);

/**
 * zip_pack() - a zip file of what is below @dirfd, into @fd: the same bytes for the same
 * tree, with 1980-01-01 as the time of everything. Return: 0 or -errno.
 */
int zip_pack(int dirfd, int fd);

#endif
