/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer_store.h - layers on disk
 *
 *   STATE/layers/NAME/last          the highest number that was given out
 *                    /N/            a package, see code.h
 *                      /layer.json  what was said about it; written last: without it there is none
 *
 * All functions block; but for the first two they are for the worker. They return 0 or -errno.
 */
#ifndef QUICKTHAW_SNAPD_LAYER_STORE_H
#define QUICKTHAW_SNAPD_LAYER_STORE_H

#include "snapd/layer.h"

/** layer_store_open() - below the state directory that store_open() has locked; loads all layers.
 */
int layer_store_open(const char *state_dir);
void layer_store_close(void);

/** layer_store_publish() - @number: greater than any before. @err as of code_stage(). */
int layer_store_publish(const char *name, uint32_t number, const char *about_text,
			struct code_source *source, struct code_info *ret, struct code_error *err);
int layer_store_remove(const char *name, uint32_t number);
/** layer_store_package_open() - Return: descriptor of the package or -errno. */
int layer_store_package_open(const char *name, uint32_t number);

/**
 * layer_store_merge() - all of @list, in order, into an empty directory: what a guest has as /opt.
 */
int layer_store_merge(const struct layer_list *list, int to_dirfd);

#endif
