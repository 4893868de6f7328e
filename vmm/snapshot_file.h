/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_file.h - snapshots of guests on the command line: write one, open one, fill a template
 */
#ifndef QUICKTHAW_VMM_SNAPSHOT_FILE_H
#define QUICKTHAW_VMM_SNAPSHOT_FILE_H

#include "common/cpu_feature.h"
#include "snapshot-format/snapshot.h"
#include "vmm/capture.h"
#include "vmm/file_pager.h"
#include "vmm/guest.h"

/** struct snapshot_file - one that is open, with what it is based on. Zero it. */
struct snapshot_file {
	const char *path;
	struct snapshot_reader *reader;
};

/** snapshot_file_open() - check all but its chunks. @path is kept. Return: 0 or -errno with a log
 * line. */
int snapshot_file_open(struct snapshot_file *f, const char *path);
void snapshot_file_close(struct snapshot_file *f);

/** typedef snapshot_file_write_fn - capture a guest of some kind; as capture_guest(). */
typedef int snapshot_file_write_fn(void *guest, const struct capture_target *target,
				   struct capture_stats *ret_stats);

/**
 * snapshot_file_write() - a snapshot under its name, whole or not at all; says what is in it.
 * @metadata: JSON to store
 * @base: what the guest was restored from, for a diff on it; else NULL
 * Return: 0 or -errno with a log line; the name is untouched on error.
 */
int snapshot_file_write(const char *path, const char *metadata, const struct snapshot_file *base,
			snapshot_file_write_fn *write, void *guest);

/**
 * snapshot_file_image() - what a restore needs: a memfd of the snapshot's memory, and its state.
 * @cpu_have: what this host can give a guest
 * @pager: zeroed; is to fill the memfd as the guest touches it, where that is possible: stop it
 * when the guest has ended. NULL: the memfd has it all, every chunk verified
 * @ram: where the memory will be mapped, for the pager
 * @ret: its memfd is the caller's on success; the state lives as long as @f
 * Return: 0, or -errno with a log line: -ENOTSUP: the snapshot's guest has seen another CPU.
 */
int snapshot_file_image(const struct snapshot_file *f, const uint64_t cpu_have[CPU_WORDS],
			struct file_pager *pager, const void *ram, struct guest_image *ret);

#endif
