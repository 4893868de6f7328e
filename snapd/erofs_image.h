/* SPDX-License-Identifier: Apache-2.0 */
/*
 * erofs_image.h - a directory becomes a read-only disk image, for kernel guests
 *
 * An image is made by a jailed process (code_unpacker.h), the same bytes from the same tree, and
 * has its name when all of it is on disk. Making one takes as long as writing its bytes: for
 * WORKER_IMAGES. To give it its name is for the thread that puts other trees in the place of this
 * one, so that no image of an old tree comes to stand beside a new one.
 */
#ifndef QUICKTHAW_SNAPD_EROFS_IMAGE_H
#define QUICKTHAW_SNAPD_EROFS_IMAGE_H

/**
 * erofs_image_open() - the image @name in @dirfd.
 * Return: a descriptor for reading, -ENOENT: there is none, or none that is whole (logged), or
 * another -errno.
 */
int erofs_image_open(int dirfd, const char *name);

/** struct erofs_draft - an image that has no name yet, of @tree in @dirfd. Start it as
 * EROFS_DRAFT_INIT. */
struct erofs_draft {
	int dirfd, tree_fd, fd;
	const char *tree, *name;
};
#define EROFS_DRAFT_INIT                                                                           \
	{                                                                                          \
		.dirfd = -1, .tree_fd = -1, .fd = -1                                               \
	}

/**
 * erofs_draft_make() - the image @name of the directory @tree, both in @dirfd. Blocks.
 * @d: of one @dirfd and @name there is one at a time
 * @dirfd: becomes the draft's. @tree, @name: are kept; valid until the draft is gone
 * Return: 0 or -errno (logged).
 */
int erofs_draft_make(struct erofs_draft *d, int dirfd, const char *tree, const char *name);

/** erofs_draft_install() - give it its name. Blocks. Return: 0, -ESTALE: another tree is in the
 * place of the one that it was made of, or -errno. The draft is gone. */
int erofs_draft_install(struct erofs_draft *d);

/** erofs_draft_drop() - it is not needed. Legal on one that was never made. */
void erofs_draft_drop(struct erofs_draft *d);

#endif
