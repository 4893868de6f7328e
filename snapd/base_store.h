/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base_store.h - bases of kernel guests' snapshots, on disk
 *
 *   STATE/bases/HASH-MIB.qt     a booted guest with MIB of RAM that runs nothing yet, as a whole
 *                               snapshot; HASH is of all that it was made with
 *              /.HASH-MIB.qt    one in the making: removed at the next start
 *
 * A version whose snapshot is a diff on one has a hard link of it in its own directory, under a
 * name that only this very snapshot has (function_store.h). So the files here are for publications
 * to come: they may be removed, or made again, and nobody counts who uses them.
 *
 * All functions that touch files block, and are for the worker but for base_store_open(). They
 * return 0 or -errno.
 */
#ifndef QUICKTHAW_SNAPD_BASE_STORE_H
#define QUICKTHAW_SNAPD_BASE_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "snapd/origin.h"
#include "snapd/template.h"

enum { BASE_NAME_MAX = 32, BASE_LINK_NAME_MAX = 48 };

/**
 * struct base_store_params - what bases are made with on this node, besides their origin.
 * @vmm_fd: the program: another one may set its machines up in another way
 * @cpu_baseline: as in vmm shell --cpu-baseline: guests are shown less than the host has
 */
struct base_store_params {
	const char *state_dir;
	int vmm_fd;
	const char *cpu_baseline;
};

/** base_store_open() - make the directory, and remove what was never finished. */
int base_store_open(const struct base_store_params *params);
void base_store_close(void);

/** base_store_name() - of the base for guests of this origin (recapture_origin()). Does not block.
 */
void base_store_name(const struct origin *o, uint32_t ram_mib, char ret[BASE_NAME_MAX]);

/**
 * base_store_read() - a template of a base, after a look at every byte of its file.
 * Return: -ENOENT: there is none; else @err says what is wrong with it.
 */
int base_store_read(const char *name, struct template **ret, struct snapshot_error *err);

/** base_store_draft() - an empty file for a base. Return: descriptor or -errno. */
int base_store_draft(const char *name);
/** base_store_install() - the draft is whole: it gets its name, and takes the place of an older
 * one.
 */
int base_store_install(const char *name, int fd);
/** base_store_forget() - the draft is of no use. */
void base_store_forget(const char *name);

/** base_store_sweep() - remove what would not be made now for any of these @origins. */
int base_store_sweep(const struct origin *origins, size_t count);

/** base_store_link_name() - what a version that needs this base calls it. Does not block. */
void base_store_link_name(const struct template *base, char ret[BASE_LINK_NAME_MAX]);

/** base_store_metadata() - for the snapshot of a base: what it is; malloc'ed, or NULL. */
char *base_store_metadata(const char *name, const struct origin *o);

#endif
