/* SPDX-License-Identifier: Apache-2.0 */
/* capture.h - a parked guest becomes a snapshot file */
#ifndef QUICKTHAW_VMM_CAPTURE_H
#define QUICKTHAW_VMM_CAPTURE_H

#include <stddef.h>
#include <stdint.h>

struct proc;

/** struct capture_stats - what went into the file. */
struct capture_stats {
	uint64_t capture_ns;
	uint64_t resident_pages; /**< frames in use */
	uint64_t stored_pages;	 /**< those that were not all zero */
	uint64_t file_bytes;
};

/**
 * capture_write() - write a snapshot of a guest all of whose tasks are parked.
 * @fd: empty regular file; stays the caller's. Naming and installing it is the caller's, too.
 * @metadata: JSON for people
 * The guest is not changed and can go on. Return: 0 or -errno; the file is of no use on error.
 */
int capture_write(struct proc *p, int fd, const void *metadata, size_t metadata_bytes,
		  struct capture_stats *ret_stats);

#endif
