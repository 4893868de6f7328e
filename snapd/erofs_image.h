/* SPDX-License-Identifier: Apache-2.0 */
/* erofs_image.h - a directory becomes a read-only disk image, for kernel guests */
#ifndef QUICKTHAW_SNAPD_EROFS_IMAGE_H
#define QUICKTHAW_SNAPD_EROFS_IMAGE_H

/**
 * erofs_image_open() - the image @name in @dirfd of the directory @tree in it, made where there is
 * none: by mkfs.erofs, the same bytes from the same tree. It appears whole or not at all.
 * Blocks: for the worker.
 * Return: a descriptor for reading, or -errno with a log line that says what to do.
 */
int erofs_image_open(int dirfd, const char *tree, const char *name);

#endif
