/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci.h - code from an OCI image layout on this host. Blocks.
 *
 * Taken is what the image has below its WorkingDir, or below /var/task where it says none (or /).
 * The rest of the image, its base included, is not: functions run on the host's runtime.
 *
 * Supported: oci-layout 1.x; index.json, in which the first manifest for linux/amd64 counts, or the
 * only one where none names a platform; nested indexes one level deep; layers as tar or tar+gzip of
 * OCI's and Docker's media types; whiteouts, opaque ones too; digests by sha256, which are checked.
 * Source: github.com/opencontainers/image-spec, image-layout.md and layer.md
 */
#ifndef QUICKTHAW_UNPACKER_OCI_H
#define QUICKTHAW_UNPACKER_OCI_H

#include "snapd/unpacker/unpack.h"

/**
 * oci_unpack() - the code in an image into the tree that @u makes.
 * @dirfd: the directory with oci-layout, index.json and blobs; stays the caller's
 * Return: 0 or -errno with @u->error filled: -EINVAL: what is wrong with the image; other errors
 * are the host's.
 */
int oci_unpack(int dirfd, struct unpack *u);

#endif
