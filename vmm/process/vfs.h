/* SPDX-License-Identifier: Apache-2.0 */
/* vfs.h - path names: read-only roots, tmpfs on /tmp, synthesised /proc and /dev */
#ifndef QUICKTHAW_PROCESS_VFS_H
#define QUICKTHAW_PROCESS_VFS_H

#include <stdint.h>
#include <sys/stat.h>

#include "common/state.h"
#include "include/snapd_proto.h"

struct proc;
struct file;

/**
 * vfs_new() - mount the roots.
 * @dirs: PROTO_DIR_COUNT directory descriptors (-1: absent), owned by the vfs from here on
 */
int vfs_new(struct proc *p, const int dirs[PROTO_DIR_COUNT]);
void vfs_free(struct proc *p);
/** Current directory, umask and the whole tmpfs (its data are frames). */
int vfs_save(struct proc *p, struct state_writer *w);
int vfs_load(struct proc *p, struct state_reader *r);

enum { VFS_PATH_MAX = 4096 };

/**
 * vfs_open() - as openat(2): never leaves the roots, whatever @path says.
 * @dirfd: a guest descriptor or AT_FDCWD
 * Return: 0 with one reference, or -errno (-EROFS for writes outside /tmp).
 */
int vfs_open(struct proc *p, int dirfd, const char *path, int flags, mode_t mode,
	     struct file **ret);
/** vfs_stat() - @flags: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH. */
int vfs_stat(struct proc *p, int dirfd, const char *path, int flags, struct stat *ret);

/** vfs_open_stdio() - descriptors 0, 1, 2 for a new guest. */
int vfs_open_stdio(struct proc *p);
/**
 * stdio_sink - where the guest's stdout (1) and stderr (2) go. Set by control or the command line.
 */
typedef void (*stdio_sink)(struct proc *p, int stream, const void *data, size_t n);
void vfs_set_stdio_sink(struct proc *p, stdio_sink fn);

#endif
