/* SPDX-License-Identifier: Apache-2.0 */
/*
 * function_store.h - functions on disk
 *
 *   STATE/lock                                       held while a snapd serves this directory
 *   STATE/functions/NAME/config.json                 settings of $LATEST
 *                       /control.json                aliases, concurrency, tags, ...; may be absent
 *                       /package/                    its code, see code.h
 *                       /opt/                        its layers, merged; not there without any
 *                       /opt.erofs                   the same as a disk, made for kernel guests;
 *                                                    of code it is package/tree.erofs
 *                       /versions/N/config.json      written last: without it there is no version
 *                                  /package/, /opt/  as they were when it was published
 *                                  /snapshot.qt
 *                                  /base-ID.qt      of a kernel guest: what that is a diff on, a
 *                                                   hard link of a file in STATE/bases
 *
 * A function or version becomes visible by one rename. What a killed snapd left half done has no
 * config.json or a name that begins with a dot, and is removed at the next start.
 *
 * All functions block; but for store_open() and store_load() they are for the worker. They return 0
 * or -errno.
 */
#ifndef QUICKTHAW_SNAPD_FUNCTION_STORE_H
#define QUICKTHAW_SNAPD_FUNCTION_STORE_H

#include <stdint.h>

#include "snapd/erofs_image.h"
#include "snapd/function.h"

#define STORE_PACKAGE_NAME  "package"
#define STORE_OPT_NAME	    "opt"
#define STORE_OPT_IMAGE	    "opt.erofs"
#define STORE_CODE_IMAGE    "tree.erofs"
#define STORE_CONTROL_NAME  "control.json"
#define STORE_SNAPSHOT_NAME "snapshot.qt"
#define STORE_SNAPSHOT_TMP  ".snapshot.qt.tmp"
#define STORE_BASE_PREFIX   "base-"

/** store_open() - make and lock the state directory. Return: -EBUSY: another snapd has it. */
int store_open(const char *state_dir);
void store_close(void);
/** store_inherit_lock() - before store_open(): the lock of a snapd that hands over, which may still
 * hold it, too. It becomes ours. store_lock(): to hand it over; it stays ours. */
void store_inherit_lock(int fd);
int store_lock(void);

/** store_load() - clean up, then add all functions (functions_add()). */
int store_load(void);

/** store_settings_text() - settings (and snapshot figures) as config.json has them; malloc'ed. */
char *store_settings_text(const struct version *v);

/**
 * struct store_code - code for a function, and its layers.
 * @source: where code comes from
 * @layers: those that it has, or will have
 * @keep_code, @keep_layers: for an update: do not touch what is there
 * @info: what the code is, when it is in the store; on an update without code, what it was
 * @error: why it is refused, when the text is not ""
 */
struct store_code {
	struct code_source source;
	struct layer_list layers;
	bool keep_code, keep_layers;
	struct code_info info;
	struct code_error error;
};

/** store_create() - write a new function. @control_text: function_control_text(), or NULL: nothing
 * set. Return: -EEXIST when there is one of that name. */
int store_create(const char *name, const char *settings_text, const char *control_text,
		 struct store_code *code);
/** store_update() - replace settings, and the code and layers of $LATEST. */
int store_update(const char *name, const char *settings_text, struct store_code *code);
/** store_try() - unpack code, and forget it again: DryRun. */
int store_try(struct store_code *code);
/** store_update_control() - replace what is set for a function besides its versions
 * (function_control_text()). */
int store_update_control(const char *name, const char *control_text);
/** store_remove() - a function with all its versions. */
int store_remove(const char *name);

/**
 * store_version_prepare() - make a version's directory with a copy of the code.
 * @ret_dirfd: the version's directory; @ret_tmp_fd: empty STORE_SNAPSHOT_TMP in it
 */
int store_version_prepare(const char *name, uint32_t number, int *ret_dirfd, int *ret_tmp_fd);
/** store_version_reopen() - the same of a version that there is, to make its snapshot again. */
int store_version_reopen(const char *name, uint32_t number, int *ret_dirfd, int *ret_tmp_fd);
/** store_version_forget_tmp() - it was not made after all. */
void store_version_forget_tmp(int dirfd);
/** store_snapshot_remove() - of a version that stays, with what it is a diff on. */
int store_snapshot_remove(const char *name, uint32_t number);
/** struct store_base - what a snapshot is a diff on: its file, and what the snapshot calls it. */
struct store_base {
	int fd;
	const char *name; /**< STORE_BASE_PREFIX, then what no other snapshot has */
};
/** store_version_install() - give the snapshot its name, then write config.json. @base: it gets
 * that name beside it, and those of earlier ones go; NULL: it needs none. Return: -ENOENT: the base
 * has been removed. */
int store_version_install(int dirfd, int tmp_fd, const char *settings_text,
			  const struct store_base *base);
int store_version_remove(const char *name, uint32_t number);
/** store_version_open() - a version's directory, 0: the function's own. Return: descriptor or
 * -errno.
 */
int store_version_open(const char *name, uint32_t number);
/** store_package_open() - a version's package (code.h). Return: descriptor or -errno. */
int store_package_open(const char *name, uint32_t number);
/** store_code_path() - absolute path of a version's code, into @buf. Does not block. */
int store_code_path(const char *name, uint32_t number, char *buf, size_t size);
/** store_opt_path() - the same of its merged layers; not there when it has none. */
int store_opt_path(const char *name, uint32_t number, char *buf, size_t size);
/** store_code_image() - a version's code as a disk image. store_opt_image() - the same of its
 * merged layers. Return: a descriptor for reading, -ENOENT: it has to be made, or another -errno.
 */
int store_code_image(const char *name, uint32_t number);
int store_opt_image(const char *name, uint32_t number);
/** store_code_draft(), store_opt_draft() - make it (erofs_image.h): not in WORKER_FILES, where it
 * is installed. */
int store_code_draft(const char *name, uint32_t number, struct erofs_draft *ret);
int store_opt_draft(const char *name, uint32_t number, struct erofs_draft *ret);
/** store_snapshot_path() - absolute path of a version's snapshot, into @buf. Does not block. */
int store_snapshot_path(const char *name, uint32_t number, char *buf, size_t size);

#endif
