/* SPDX-License-Identifier: Apache-2.0 */
/*
 * code.h - code on its way into the store, and what it is there
 *
 * Code of a function or a layer is a package, a directory which is never changed once it is made:
 *
 *   PACKAGE/tree/      what the guest sees
 *          /tree.erofs the same as a disk; there once a kernel guest needed it (function_store.h)
 *          /code.zip   as it was uploaded; not there when it came from elsewhere
 *          /info.json  {"CodeSha256": ..., "CodeSize": ..., "UnpackedSize": ...}
 *
 * Archives are unpacked and made by a process of their own (code_unpacker.h). All functions but
 * code_source_free() and code_error_type() block: for the worker.
 */
#ifndef QUICKTHAW_SNAPD_CODE_H
#define QUICKTHAW_SNAPD_CODE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "include/unpacker_abi.h"

#define CODE_BYTES_MAX (250ull << 20) /* unpacked, as Lambda has it */
#define CODE_ZIP_MAX   (50ull << 20)  /* of a zip by value */

enum { CODE_SHA256_CHARS = 44 }; /* base64 of 32 bytes */

enum code_kind { CODE_DIRECTORY, CODE_ZIP, CODE_OCI_IMAGE };

/**
 * struct code_source - where code comes from.
 * @path: of the directory or image layout, absolute; malloc'ed
 * @zip_text: the zip file as base64, a reference to a string; or
 * @zip: the file itself; malloc'ed
 */
struct code_source {
	enum code_kind kind;
	char *path;
	json_t *zip_text;
	char *zip;
	size_t zip_bytes;
};

/** code_source_free() - what it holds, not itself. */
void code_source_free(struct code_source *source);
/** code_source_name() - where it comes from, for logs. */
const char *code_source_name(const struct code_source *source);

/**
 * struct code_info - what the API shows of code.
 * @sha256: base64, of the zip file; else of names, modes and contents of the tree
 * @bytes: of the zip file; else of all files
 * @unpacked_bytes: of all files
 */
struct code_info {
	char sha256[CODE_SHA256_CHARS + 1];
	uint64_t bytes, unpacked_bytes;
};

/** struct code_error - why code was refused, for whoever brought it. */
struct code_error {
	char text[UNPACK_ERROR_MAX + 512];
};

/** code_error_type() - exception of the Lambda API, and HTTP status, for an error of code_stage().
 */
const char *code_error_type(int err, unsigned *ret_status);

/**
 * code_stage() - make a package named @name in @dirfd. What an earlier attempt left there is
 * removed first; when it fails, nothing is left. A zip as base64 is decoded
 * into @source->zip.
 * Return: 0 or -errno with @err filled: -EINVAL, -EFBIG: the code is to blame; -ENOENT, -ENOTDIR,
 * -EACCES: its path is.
 */
int code_stage(int dirfd, const char *name, struct code_source *source, struct code_info *ret,
	       struct code_error *err);

/** code_info_load() - of a package. Return: 0 or -errno (-EBADMSG: damaged). */
int code_info_load(int package_fd, struct code_info *ret);

/** code_adopt_tree() - make a package of a plain tree, @from in @dirfd: what snapd kept before
 * there were packages. Return: 0 or -errno. */
int code_adopt_tree(int dirfd, const char *from, const char *name);

/** code_tree_info() - hash and sizes of a tree. Return: 0 or -errno. */
int code_tree_info(int tree_fd, struct code_info *ret);

/** code_zip_open() - the zip file of a package, made where there is none, in memory: a sealed
 * memfd. Return: descriptor or -errno. */
int code_zip_open(int package_fd);

#endif
