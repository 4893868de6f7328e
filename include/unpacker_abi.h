/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpacker_abi.h - what snapd hands to an unpacker, and what it gets back
 *
 * An unpacker is one process for one archive: the parsers of zip and tar, which read what anybody
 * may upload, run in no other process. snapd gives it three descriptors and its job as argument,
 *
 *   unpacker JOB        3  where it reads from: a file or a directory
 *                       4  where it writes to: a directory or a file
 *                       5  a pipe for one struct unpacker_result
 *
 * and believes nothing but what is in the pipe, which it checks; the tree it looks at itself.
 */
#ifndef QUICKTHAW_UNPACKER_ABI_H
#define QUICKTHAW_UNPACKER_ABI_H

#include <stdint.h>

enum { UNPACKER_FD_FROM = 3, UNPACKER_FD_TO = 4, UNPACKER_FD_RESULT = 5 };

/** Jobs, by their names on the command line. */
#define UNPACKER_JOB_ZIP  "zip"	 /* from a zip file, a sealed memfd, into an empty directory */
#define UNPACKER_JOB_OCI  "oci"	 /* from the directory of an OCI image layout into an empty one */
#define UNPACKER_JOB_PACK "pack" /* from a directory into a zip file */
#define UNPACKER_JOB_DISK "disk" /* from a directory into an EROFS image, for kernel guests */

enum { UNPACK_ERROR_MAX = 400 };

/**
 * struct unpacker_result - its last word.
 * @err: 0 or -errno, as in snapd/unpacker/unpack.h
 * @bytes: what the files of the tree have together
 * @error: why, for whoever brought the archive; printable, ended by NUL
 */
struct unpacker_result {
	int32_t err;
	uint32_t reserved;
	uint64_t bytes;
	char error[UNPACK_ERROR_MAX];
};

#endif
