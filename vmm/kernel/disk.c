/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk.c - the bytes of a guest's disk: a raw file, and what the guest wrote if that is kept apart
 *
 * Invariants of an overlay:
 * 1. A cluster whose bit is set has all its bytes in the overlay.
 * 2. A bit is set only after the bytes are there, so a write that fails leaves what was before.
 * 3. A bit is never cleared.
 */
#include "vmm/kernel/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "common/util.h"

enum { NAME_BYTES = 64, RUN_CLUSTERS_MAX = 64, ZEROS_BYTES = 64 << 10 };

/**
 * struct disk
 * @bits: one for each cluster, with an overlay
 * @logged: disk_log_error() has said something
 */
struct disk {
	char name[NAME_BYTES];
	int base_fd, overlay_fd;
	bool read_only, logged;
	uint64_t bytes, clusters;
	uint64_t *bits;
};

/* ---- clusters ---- */

static bool in_overlay(const struct disk *disk, uint64_t cluster)
{
	return disk->bits[cluster / 64] >> cluster % 64 & 1;
}

static void set_in_overlay(struct disk *disk, uint64_t first, uint64_t end)
{
	for (uint64_t i = first; i < end; i++)
		disk->bits[i / 64] |= 1ull << i % 64;
}

static uint64_t cluster_start(uint64_t cluster)
{
	return cluster * DISK_CLUSTER_BYTES;
}

/** The last cluster may be cut by the end of the disk. */
static uint64_t cluster_end(const struct disk *disk, uint64_t cluster)
{
	return MIN(cluster_start(cluster + 1), disk->bytes);
}

/** The cluster behind the last one that [.., @end) covers to its end. */
static uint64_t covered_end(const struct disk *disk, uint64_t end)
{
	return end == disk->bytes ? disk->clusters : end / DISK_CLUSTER_BYTES;
}

/* ---- reading and writing ---- */

uint64_t disk_bytes(const struct disk *disk)
{
	return disk->bytes;
}

bool disk_is_read_only(const struct disk *disk)
{
	return disk->read_only;
}

struct disk_extent disk_find(const struct disk *disk, uint64_t offset, uint64_t bytes)
{
	uint64_t first = offset / DISK_CLUSTER_BYTES, end = offset + bytes, i = first + 1;
	bool over;

	if (!disk->bits)
		return (struct disk_extent){disk->base_fd, bytes};
	over = in_overlay(disk, first);
	while (cluster_start(i) < end && in_overlay(disk, i) == over)
		i++;
	return (struct disk_extent){over ? disk->overlay_fd : disk->base_fd,
				    MIN(cluster_start(i), end) - offset};
}

int disk_write_fd(const struct disk *disk)
{
	return disk->bits ? disk->overlay_fd : disk->base_fd;
}

/** Does a write of [@offset, @end) leave bytes of @cluster that the overlay does not have? */
static bool is_partial(const struct disk *disk, uint64_t cluster, uint64_t offset, uint64_t end)
{
	return !in_overlay(disk, cluster) &&
	       (offset > cluster_start(cluster) || end < cluster_end(disk, cluster));
}

bool disk_needs_begin(const struct disk *disk, uint64_t offset, uint64_t bytes)
{
	uint64_t end = offset + bytes;

	return disk->bits && bytes &&
	       (is_partial(disk, offset / DISK_CLUSTER_BYTES, offset, end) ||
		is_partial(disk, (end - 1) / DISK_CLUSTER_BYTES, offset, end));
}

static int copy_up(struct disk *disk, uint64_t cluster)
{
	uint8_t data[DISK_CLUSTER_BYTES];
	uint64_t at = cluster_start(cluster);
	size_t n = cluster_end(disk, cluster) - at;
	ssize_t got = pread_full(disk->base_fd, data, n, at);
	int ret;

	if (got < 0)
		return (int)got;
	if ((size_t)got < n)
		return -EIO; /* the base has been cut */
	ret = pwrite_full(disk->overlay_fd, data, n, at);
	if (!ret)
		set_in_overlay(disk, cluster, cluster + 1);
	return ret;
}

int disk_write_begin(struct disk *disk, uint64_t offset, uint64_t bytes)
{
	uint64_t end = offset + bytes, first = offset / DISK_CLUSTER_BYTES, last;
	int ret = 0;

	if (!disk->bits || !bytes)
		return 0;
	last = (end - 1) / DISK_CLUSTER_BYTES;
	if (is_partial(disk, first, offset, end))
		ret = copy_up(disk, first);
	if (!ret && is_partial(disk, last, offset, end))
		ret = copy_up(disk, last);
	return ret;
}

void disk_write_end(struct disk *disk, uint64_t offset, uint64_t bytes)
{
	if (disk->bits)
		set_in_overlay(disk, pages_of(offset), covered_end(disk, offset + bytes));
}

int disk_sync_fd(const struct disk *disk)
{
	/* An overlay does not outlive its machine, so nothing is gained by its reaching the disk.
	 */
	return disk->read_only || disk->bits ? -1 : disk->base_fd;
}

/* ---- zeros ---- */

static int write_zeros(int fd, uint64_t offset, uint64_t bytes)
{
	static const uint8_t zeros[ZEROS_BYTES];

	for (uint64_t done = 0; done < bytes;) {
		uint64_t n = MIN(bytes - done, (uint64_t)sizeof(zeros));
		int ret = pwrite_full(fd, zeros, n, offset + done);

		if (ret)
			return ret;
		done += n;
	}
	return 0;
}

static int file_zero(int fd, uint64_t offset, uint64_t bytes, bool unmap)
{
	int how = unmap ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
			: FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

	if (!bytes || !fallocate(fd, how, (off_t)offset, (off_t)bytes))
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	return unmap ? -EOPNOTSUPP : write_zeros(fd, offset, bytes);
}

/** The clusters that are covered whole become holes, which costs nothing; at the edges zeros are
 * written. */
static int overlay_zero(struct disk *disk, uint64_t offset, uint64_t bytes)
{
	uint64_t end = offset + bytes;
	uint64_t first = pages_of(offset), stop = covered_end(disk, end);
	uint64_t inner = MIN(cluster_start(first), end);
	uint64_t outer = MAX(inner, MIN(cluster_start(stop), end));
	int ret = disk_write_begin(disk, offset, bytes);

	if (!ret)
		ret = write_zeros(disk->overlay_fd, offset, inner - offset);
	if (!ret)
		ret = write_zeros(disk->overlay_fd, outer, end - outer);
	if (!ret && first < stop)
		ret = file_zero(disk->overlay_fd, inner, outer - inner, true);
	if (ret == -EOPNOTSUPP)
		ret = write_zeros(disk->overlay_fd, inner, outer - inner);
	if (!ret)
		set_in_overlay(disk, first, stop);
	return ret;
}

int disk_zero(struct disk *disk, uint64_t offset, uint64_t bytes, bool unmap)
{
	if (!bytes)
		return 0;
	return disk->bits ? overlay_zero(disk, offset, bytes)
			  : file_zero(disk->base_fd, offset, bytes, unmap);
}

/* ---- life ---- */

void disk_log_error(struct disk *disk, const char *what, int err)
{
	if (disk->logged)
		return;
	disk->logged = true;
	if (err == -ENOSPC || err == -EDQUOT || err == -EFBIG)
		log_error("disk %s: %s: no space left under %s: the guest gets I/O errors; what it "
			  "wrote before is kept",
			  disk->name, what, disk->bits ? "the overlay" : "the image");
	else
		log_error("disk %s: %s: %s: the guest gets I/O errors", disk->name, what,
			  strerror(-err));
}

static int measure(struct disk *disk)
{
	struct stat st;

	if (disk->base_fd < 0)
		return disk->read_only && disk->overlay_fd < 0 ? 0 : -EINVAL;
	if (fstat(disk->base_fd, &st) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(disk->base_fd, BLKGETSIZE64, &disk->bytes) < 0)
			return -errno;
	} else if (S_ISREG(st.st_mode)) {
		disk->bytes = (uint64_t)st.st_size;
	} else {
		log_error("disk %s: neither a regular file nor a block device", disk->name);
		return -EINVAL;
	}
	if (!disk->bytes || disk->bytes % DISK_SECTOR_BYTES) {
		log_error("disk %s: %llu bytes is no whole number of %d-byte sectors: truncated "
			  "image?",
			  disk->name, (unsigned long long)disk->bytes, DISK_SECTOR_BYTES);
		return -EINVAL;
	}
	disk->clusters = pages_of(disk->bytes);
	return 0;
}

/**
 * Two machines that write to one image destroy it, and one that reads what another writes sees a
 * file system that changes under it. The lock belongs to the open file, so it lasts as long as any
 * copy of the descriptor.
 */
static int lock_base(const struct disk *disk, bool for_writing)
{
	struct flock lock = {.l_type = for_writing ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

	if (disk->base_fd < 0 || !fcntl(disk->base_fd, F_OFD_SETLK, &lock))
		return 0;
	if (errno != EAGAIN && errno != EACCES)
		return -errno;
	log_error("disk %s: in use by another machine%s", disk->name,
		  for_writing ? "" : ", which writes to it");
	return -EBUSY;
}

static int prepare_overlay(struct disk *disk)
{
	struct stat st;

	if (fstat(disk->overlay_fd, &st) < 0)
		return -errno;
	if (st.st_size) {
		log_error("disk %s: its overlay has contents: an overlay belongs to one machine, "
			  "give "
			  "an empty file",
			  disk->name);
		return -ENOTEMPTY;
	}
	/* What is a hole is read, too. */
	if (ftruncate(disk->overlay_fd, (off_t)cluster_start(disk->clusters)) < 0)
		return -errno;
	disk->bits = calloc(disk->clusters / 64 + 1, sizeof(*disk->bits));
	return disk->bits ? 0 : -ENOMEM;
}

int disk_new(const struct disk_options *o, struct disk **ret)
{
	struct disk *disk = calloc(1, sizeof(*disk));
	CLEANUP_FD int base_fd = o->base_fd;
	CLEANUP_FD int overlay_fd = o->overlay_fd;
	int err;

	if (!disk)
		return -ENOMEM;
	snprintf(disk->name, sizeof(disk->name), "%s", o->name);
	disk->read_only = o->read_only;
	disk->base_fd = steal_fd(&base_fd);
	disk->overlay_fd = steal_fd(&overlay_fd);
	err = measure(disk);
	if (!err)
		err = lock_base(disk, !disk->read_only && disk->overlay_fd < 0);
	if (!err && disk->overlay_fd >= 0)
		err = prepare_overlay(disk);
	if (err) {
		disk_free(disk);
		return err;
	}
	*ret = disk;
	return 0;
}

void disk_free(struct disk *disk)
{
	if (!disk)
		return;
	cleanup_fd(&disk->base_fd);
	cleanup_fd(&disk->overlay_fd);
	free(disk->bits);
	free(disk);
}

/* ---- state ---- */

/** What follows a run of clusters in a state. */
enum run_kind { RUN_END, RUN_ZEROS, RUN_DATA, RUN_KINDS };

static bool is_zero_cluster(const uint8_t *data, uint64_t i)
{
	return mem_is_zero(data + cluster_start(i), DISK_CLUSTER_BYTES);
}

/** Clusters [@first, @first + @count) of the overlay, as runs of zeros and of data. */
static int save_clusters(const struct disk *disk, uint64_t first, uint64_t count,
			 struct state_writer *w)
{
	CLEANUP_FREE uint8_t *data = malloc(cluster_start(count));
	ssize_t got;

	if (!data)
		return -ENOMEM;
	got = pread_full(disk->overlay_fd, data, cluster_start(count), cluster_start(first));
	if (got < 0 || (uint64_t)got < cluster_start(count))
		return got < 0 ? (int)got : -EIO;
	for (uint64_t at = 0, end; at < count; at = end) {
		bool zeros = is_zero_cluster(data, at);

		for (end = at + 1; end < count && is_zero_cluster(data, end) == zeros; end++)
			;
		state_put_u8(w, zeros ? RUN_ZEROS : RUN_DATA);
		state_put_u64(w, first + at);
		state_put_u32(w, (uint32_t)(end - at));
		if (!zeros)
			state_put(w, data + cluster_start(at), cluster_start(end - at));
	}
	return w->err;
}

static int save_overlay(const struct disk *disk, struct state_writer *w)
{
	size_t before = w->used;

	for (uint64_t i = 0, end; i < disk->clusters; i = end) {
		int ret;

		end = i + 1;
		if (!disk->bits[i / 64])
			end = align_down(i, 64) + 64;
		if (!in_overlay(disk, i))
			continue;
		while (end < disk->clusters && end - i < RUN_CLUSTERS_MAX && in_overlay(disk, end))
			end++;
		ret = save_clusters(disk, i, end - i, w);
		if (ret)
			return ret;
		if (w->used - before > DISK_SAVED_BYTES_MAX) {
			log_error("disk %s: the guest wrote more than %d MiB before the capture: "
				  "mount "
				  "it read-only, or with a tmpfs for what is temporary",
				  disk->name, DISK_SAVED_BYTES_MAX >> 20);
			return -EFBIG;
		}
	}
	state_put_u8(w, RUN_END);
	return w->err;
}

static uint64_t changed_ns(const struct disk *disk)
{
	struct stat st;

	/* Only files that are written in place can have moved on. */
	if (disk->read_only || disk->bits || fstat(disk->base_fd, &st) < 0)
		return 0;
	return (uint64_t)st.st_mtim.tv_sec * 1000000000ull + (uint64_t)st.st_mtim.tv_nsec;
}

int disk_save(const struct disk *disk, struct state_writer *w)
{
	state_put_u64(w, disk->bytes);
	state_put_u8(w, disk->read_only);
	state_put_u8(w, disk->bits != NULL);
	state_put_u64(w, changed_ns(disk));
	return disk->bits ? save_overlay(disk, w) : w->err;
}

static int load_overlay(struct disk *disk, struct state_reader *r)
{
	for (uint64_t next = 0;;) {
		uint8_t kind = state_get_u8(r);
		uint64_t first;
		uint32_t count;

		if (r->err || kind >= RUN_KINDS)
			return -EBADMSG;
		if (kind == RUN_END)
			return 0;
		first = state_get_u64(r);
		count = state_get_u32(r);
		if (r->err || !count || first < next || first > disk->clusters ||
		    count > disk->clusters - first)
			return -EBADMSG;
		if (kind == RUN_DATA) {
			const void *data = state_get_view(r, cluster_start(count));
			int ret = !data ? -EBADMSG
					: pwrite_full(disk->overlay_fd, data, cluster_start(count),
						      cluster_start(first));

			if (ret) {
				if (data)
					disk_log_error(disk, "restore", ret);
				return ret;
			}
		}
		next = first + count;
		set_in_overlay(disk, first, next);
	}
}

int disk_load(struct disk *disk, struct state_reader *r, bool *ret_inserted)
{
	uint64_t bytes = state_get_u64(r);
	uint8_t read_only = state_get_u8(r), overlay = state_get_u8(r);
	uint64_t changed = state_get_u64(r);

	*ret_inserted = false;
	if (r->err || read_only > 1 || overlay > 1)
		return -EBADMSG;
	if (!bytes && read_only && !overlay && disk->read_only && !disk->bits) {
		*ret_inserted = disk->bytes;
		return 0;
	}
	if (bytes != disk->bytes || read_only != disk->read_only || overlay != !!disk->bits) {
		log_error("disk %s: %llu bytes%s%s; at the capture it was %llu bytes%s%s",
			  disk->name, (unsigned long long)disk->bytes,
			  disk->read_only ? ", read-only" : "",
			  disk->bits ? ", with an overlay" : "", (unsigned long long)bytes,
			  read_only ? ", read-only" : "", overlay ? ", with an overlay" : "");
		return -EINVAL;
	}
	if (changed != changed_ns(disk)) {
		log_error("disk %s: written to since the capture: the guest's view of it is stale; "
			  "give it an overlay",
			  disk->name);
		return -ESTALE;
	}
	return disk->bits ? load_overlay(disk, r) : 0;
}
