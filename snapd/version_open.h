/* SPDX-License-Identifier: Apache-2.0 */
/* version_open.h - get a version's code and template ready, in the worker */
#ifndef QUICKTHAW_SNAPD_VERSION_OPEN_H
#define QUICKTHAW_SNAPD_VERSION_OPEN_H

#include <stdbool.h>

#include "snapd/function.h"

/**
 * typedef version_opened_fn - the end of version_open(), in the loop's thread.
 * @text: what is wrong (names file, section and offset for a bad snapshot), NULL: all is well
 */
typedef void (*version_opened_fn)(struct version *v, const char *text);

/**
 * version_open() - open the code directory and, for a published version, its snapshot and an empty
 * template. Sets v->opening until @done.
 * @drop_cache: throw the file's pages out of the page cache first
 * Return: 0 or -ENOMEM.
 */
int version_open(struct version *v, bool drop_cache, version_opened_fn done);

/** version_drop_template() - the next restore starts from the file; running instances keep theirs.
 */
void version_drop_template(struct version *v);

#endif
