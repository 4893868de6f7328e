/* SPDX-License-Identifier: Apache-2.0 */
/* mounts.h - from an initramfs to the root file system */
#ifndef QUICKTHAW_AGENT_MOUNTS_H
#define QUICKTHAW_AGENT_MOUNTS_H

#include "guest/agent/options.h"

/** mounts_early() - /proc, /sys and /dev. Return: 0 or -errno. */
int mounts_early(void);

/**
 * mounts_root() - make the root file system the root: an image, read-only, with what is written
 * above it; the function's code at /var/task, its layers at /opt, unless their drives are empty
 * yet; /tmp, /run and /dev/shm in memory.
 * @o: its @task and @opt are "" afterwards where they are mounted
 * Return: 0 or -errno, noted.
 */
int mounts_root(struct options *o);

/**
 * mounts_code() - mount what mounts_root() has found empty: a machine that was captured before it
 * had a function is given the images when it is restored. Waits for them for a while.
 * Return: 0, also when all is mounted already, or -errno, noted: -ENOMEDIUM: there is no image.
 */
int mounts_code(struct options *o);

#endif
