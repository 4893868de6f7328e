/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk.h - the bytes of a guest's disk: a raw file, and what the guest wrote if that is kept apart
 *
 * Three kinds:
 *
 *   read-only     base only; a write is refused. There may be no base: an empty drive, of no
 *                 bytes. A machine that was captured with one may have an image in it when it
 *                 is restored
 *   raw           base only; writes go into it. One machine at a time, which a lock sees to
 *   overlay       reads come from the base until a cluster has been written; writes go to a second,
 *                 sparse file (or memfd) of this one machine, and nobody else ever sees them
 *
 * A bit for each cluster says that the overlay has it; a hole in the overlay then reads as zeros,
 * which is what discarding makes. The overlay dies with its machine: what a later machine is to
 * find of it is saved into the snapshot.
 *
 * Offsets and sizes are bytes unless a name says otherwise.
 */
#ifndef QUICKTHAW_KERNEL_DISK_H
#define QUICKTHAW_KERNEL_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/state.h"

enum {
	DISK_SECTOR_BYTES = 512,
	DISK_CLUSTER_BYTES = 4096,
	DISK_SAVED_BYTES_MAX = 48 << 20, /**< what of an overlay may go into a snapshot; its section
					  takes 64 MiB */
};

/**
 * struct disk_options - descriptors become the disk's.
 * @name: for log lines; copied
 * @base_fd: -1: an empty drive, which is read-only
 * @overlay_fd: an empty file or memfd, or -1
 */
struct disk_options {
	const char *name;
	int base_fd;
	bool read_only;
	int overlay_fd;
};

struct disk;

/**
 * disk_new() - takes the descriptors, also on error.
 * Return: 0 with *@ret, or -errno with a log line: -EINVAL when the base is empty, no whole number
 * of sectors, or no regular file or block device, or for an empty drive that can be written to,
 * -ENOTEMPTY for an overlay with contents, -EBUSY when another machine writes to the base, -ENOMEM.
 */
int disk_new(const struct disk_options *o, struct disk **ret);
void disk_free(struct disk *disk);

uint64_t disk_bytes(const struct disk *disk);
bool disk_is_read_only(const struct disk *disk);

/** struct disk_extent - a part of the disk that lies in one file, at the same offset there. */
struct disk_extent {
	int fd;
	uint64_t bytes;
};

/** disk_find() - where the first bytes of [@offset, @offset + @bytes), not empty and inside the
 * disk, are to be read from. */
struct disk_extent disk_find(const struct disk *disk, uint64_t offset, uint64_t bytes);

/**
 * disk_write_begin() - before bytes are written at the same offset into disk_write_fd().
 * Blocks for two clusters at most: what is written in part is completed from the base. No write to
 * the same clusters may be under way then.
 * Return: 0 or -errno (-ENOSPC); the disk's contents are as before.
 */
int disk_write_begin(struct disk *disk, uint64_t offset, uint64_t bytes);
/** disk_write_end() - [@offset, @offset + @bytes) of it has been written. */
void disk_write_end(struct disk *disk, uint64_t offset, uint64_t bytes);
int disk_write_fd(const struct disk *disk);
/** disk_needs_begin() - would disk_write_begin() do anything? */
bool disk_needs_begin(const struct disk *disk, uint64_t offset, uint64_t bytes);

/**
 * disk_zero() - make [@offset, @offset + @bytes) zeros, by giving the space back if @unmap.
 * No write to it may be under way. Return: 0 or -errno; -EOPNOTSUPP when @unmap cannot be done.
 */
int disk_zero(struct disk *disk, uint64_t offset, uint64_t bytes, bool unmap);

/** disk_sync_fd() - what fsync makes the guest's writes last, or -1: nothing has to be done. */
int disk_sync_fd(const struct disk *disk);

/** disk_log_error() - one line for the first failure of a disk; later ones are the guest's to
 * tell. @what: "read", "write", ... */
void disk_log_error(struct disk *disk, const char *what, int err);

/** disk_save() - with no write under way. Return: 0, -EFBIG with a log line when the overlay has
 * more than DISK_SAVED_BYTES_MAX, or -errno. */
int disk_save(const struct disk *disk, struct state_writer *w);
/**
 * disk_load() - into a new disk of the same kind.
 * @ret_inserted: at the capture it was an empty drive, and there is an image in it now
 * Return: 0, -EBADMSG for bytes that no save has written, or with a log line -EINVAL for a disk of
 * another size or kind, -ESTALE for a raw one that was written to since, or what writing the
 * overlay failed with.
 */
int disk_load(struct disk *disk, struct state_reader *r, bool *ret_inserted);

#endif
