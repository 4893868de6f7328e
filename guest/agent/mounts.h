/* SPDX-License-Identifier: Apache-2.0 */
/* mounts.h - from an initramfs to the root file system */
#ifndef QUICKTHAW_AGENT_MOUNTS_H
#define QUICKTHAW_AGENT_MOUNTS_H

#include "guest/agent/options.h"

/** mounts_early() - /proc, /sys and /dev. Return: 0 or -errno. */
int mounts_early(void);

/**
 * mounts_root() - make the root file system the root: an image, read-only, with what is written
 * above it; the function's code at /var/task; /tmp, /run and /dev/shm in memory.
 * Return: 0 or -errno, noted.
 */
int mounts_root(const struct options *o);

#endif
