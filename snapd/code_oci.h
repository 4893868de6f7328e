/* SPDX-License-Identifier: Apache-2.0 */
/*
 * code_oci.h - code from an OCI image layout on this host. Blocks: for the worker.
 *
 * Taken is what the image has below its WorkingDir, or below /var/task where it says none (or /).
 * The rest of the image, its base included, is not: functions run on the host's runtime.
 *
 * Supported: oci-layout 1.x; index.json, in which the first manifest for linux/amd64 counts, or the
 * only one where none names a platform; nested indexes one level deep; layers as tar or tar+gzip of
 * OCI's and Docker's media types; whiteouts, opaque ones too; digests by sha256, which are checked.
 * Source: github.com/opencontainers/image-spec, image-layout.md and layer.md
 */
#ifndef QUICKTHAW_SNAPD_CODE_OCI_H
#define QUICKTHAW_SNAPD_CODE_OCI_H

#include "snapd/unpack.h"

/**
 * code_oci_unpack() - the code in an image into the tree that @u makes.
 * @path: of the directory with oci-layout, index.json and blobs
 * Return: 0 or -errno with @u->error filled: -EINVAL: what is wrong with the image; -ENOENT and
 * other errors: of @path.
 */
int code_oci_unpack(const char *path, struct unpack *u);

#endif
