/* SPDX-License-Identifier: Apache-2.0 */
/* capture.h - a parked guest becomes a snapshot file */
#ifndef QUICKTHAW_VMM_CAPTURE_H
#define QUICKTHAW_VMM_CAPTURE_H

#include <stddef.h>
#include <stdint.h>

#include "include/guest_abi.h"
#include "vmm/device.h"
#include "vmm/guest_mem.h"

struct proc;
struct snapshot_reader;

/** struct capture_stats - what went into the file. */
struct capture_stats {
	uint64_t capture_ns;
	uint64_t resident_pages; /**< in use; of a diff but those that are zero in the base, too */
	uint64_t stored_pages;	 /**< those that were not all zero, and not as in the base */
	uint64_t base_pages;	 /**< of a diff: those that are as in the base */
	uint64_t file_bytes;
};

/**
 * struct capture_base - what a diff is based on: the snapshot that the guest was restored from.
 * @name: of its file, in the directory in which the new one will be
 */
struct capture_base {
	const struct snapshot_reader *reader;
	const char *name;
};

/**
 * struct capture_source - a guest of either kind that stands still.
 * @template_pages: pages from here on were never touched
 * @for_each_page: call @page for each page in use, in address order; ends with the first error
 */
struct capture_source {
	enum guest_kind kind;
	const struct guest_mem *mem;
	const uint64_t *cpu_features;
	uint64_t template_pages;
	const struct device_table *devices;
	void *guest;
	int (*for_each_page)(void *guest, int (*page)(void *arg, uint32_t page), void *arg);
};

/**
 * struct capture_target - where the snapshot goes, and as what.
 * @fd: empty regular file; stays the caller's. Naming and installing it is the caller's, too
 * @pagemap_fd: /proc/PID/pagemap of this process, or -1: there is a /proc, open it where it is
 * needed
 * @metadata: JSON for people
 * @base: NULL: the snapshot is whole
 */
struct capture_target {
	int fd;
	int pagemap_fd;
	const void *metadata;
	size_t metadata_bytes;
	const struct capture_base *base;
};

/**
 * capture_guest() - write a snapshot of @source. It is not changed and can go on.
 * Return: 0 or -errno with a log line; the file is of no use on error.
 */
int capture_guest(const struct capture_source *source, const struct capture_target *target,
		  struct capture_stats *ret_stats);

/** capture_write() - the same of a process guest all of whose tasks are parked. */
int capture_write(struct proc *p, const struct capture_target *target,
		  struct capture_stats *ret_stats);

#endif
