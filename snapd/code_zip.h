/* SPDX-License-Identifier: Apache-2.0 */
/* code_zip.h - code as a zip file: unpack one, make one. Blocks: for the worker. */
#ifndef QUICKTHAW_SNAPD_CODE_ZIP_H
#define QUICKTHAW_SNAPD_CODE_ZIP_H

#include <stddef.h>

#include "snapd/unpack.h"

/**
 * code_zip_unpack() - all of a zip file into the tree that @u makes.
 * Files, directories and symbolic links are taken; anything else is refused, and so are encrypted
 * entries, checksums that are wrong, and all that unpack.h refuses.
 * Return: 0 or -errno with @u->error filled.
 */
int code_zip_unpack(const void *zip, size_t zip_bytes, struct unpack *u);

/**
 * code_zip_write() - a zip file of what is below @dirfd, into @fd: the same bytes for the same
 * tree, with 1980-01-01 as the time of everything. Return: 0 or -errno.
 */
int code_zip_write(int dirfd, int fd);

#endif
