/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_blk.c - a disk for the guest
 *
 * Theory of operation. A chain becomes a request in one of REQUESTS_MAX slots; when all are taken,
 * chains wait in the ring. Reads and writes go through io_uring, straight into and out of guest
 * memory. A request is cut into extents, each of which lies in one file (disk.h), and has one of
 * them under way at a time:
 *
 *   take() ─► begin() ─► proceed() ─► [io_uring] ─► reap() ─► advance() ─► finish()
 *                           ▲                                    │
 *                           └──────────── bytes left ────────────┘
 *
 * What the page cache has is there when the submission returns, so that nothing waits for an event.
 * Where io_uring is not allowed, proceed() reads and writes by itself.
 *
 * What is in the page cache is copied with the machine's lock held. So a request has a largest
 * size, and so has what a turn begins and what is under way at once; the rest waits in the ring.
 *
 * Requests of a guest may be done in any order, also if they overlap, with one exception: what
 * disk.h wants no write under way for. Those wait for all others first (settle()).
 */
#include "vmm/kernel/virtio_blk.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"

enum {
	QUEUE = 0,
	QUEUE_SIZE = 256,
	REQUESTS_MAX = 64,
	DATA_SEGMENTS_MAX = VIRTQ_SEGMENTS_MAX - 2, /**< header and status have their own */
	SEGMENT_BYTES_MAX = 16 << 10,		    /**< as many of them make no larger request */
	REQUEST_BYTES_MAX = 4 << 20,
	TURN_BYTES_MAX = 8 << 20,
	UNDER_WAY_BYTES_MAX = 16 << 20,
	RANGES_MAX = 8,			  /**< of one discard */
	RANGE_SECTORS_MAX = 4 << 20 >> 9, /**< 4 MiB: fallocate() is not asynchronous */
	PHYSICAL_BLOCK_EXP = 3,		  /**< 2^3 sectors are a cluster of an overlay */
	RETRY_US = 1000,
	HEADER_BYTES = sizeof(struct virtio_blk_outhdr),
};

static_assert(DATA_SEGMENTS_MAX * SEGMENT_BYTES_MAX <= REQUEST_BYTES_MAX,
	      "what a driver may ask for is done");

/**
 * struct blk_request - a chain that is being worked on.
 * @offset, @bytes: the part of the disk, or 0
 * @done: bytes of it that are done
 * @iov: the extent under way; the kernel reads it until its completion
 */
struct blk_request {
	struct blk_request *next_free;
	struct virtq_chain chain;
	uint32_t type;
	uint64_t offset, bytes, done;
	bool busy;
	struct iovec iov[VIRTQ_SEGMENTS_MAX];
};

/**
 * struct virtio_blk
 * @ring_works: else I/O is synchronous
 * @requests: slots; untouched ones cost no memory
 * @in_flight: submitted to the ring
 * @turn_bytes: what was begun in this turn; @busy_bytes: what is under way
 */
struct virtio_blk {
	struct virtio_device device;
	struct virtio_blk_config config;
	struct disk *disk;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct io_uring ring;
	bool ring_works;
	struct blk_request *requests, *free;
	unsigned used_slots, in_flight;
	uint64_t turn_bytes, busy_bytes;
};

static struct virtio_blk *blk_of(struct virtio_device *d)
{
	return container_of(d, struct virtio_blk, device);
}

/* ---- slots ---- */

static struct blk_request *slot_get(struct virtio_blk *blk)
{
	struct blk_request *r = blk->free;

	if (r)
		blk->free = r->next_free;
	else if (blk->used_slots < REQUESTS_MAX)
		r = &blk->requests[blk->used_slots++];
	return r;
}

static void slot_put(struct virtio_blk *blk, struct blk_request *r)
{
	if (r->busy)
		blk->busy_bytes -= r->bytes;
	r->busy = false;
	r->next_free = blk->free;
	blk->free = r;
}

/** The last byte of a chain tells how it went (5.2.6). */
static void finish(struct virtio_blk *blk, struct blk_request *r, uint8_t status)
{
	struct virtq_chain *c = &r->chain;
	bool filled = status == VIRTIO_BLK_S_OK &&
		      (r->type == VIRTIO_BLK_T_IN || r->type == VIRTIO_BLK_T_GET_ID);

	virtq_chain_write(c, c->write_bytes - 1, &status, sizeof(status));
	virtq_push(&blk->device.queues[QUEUE], c->head, filled ? c->write_bytes : 1);
	slot_put(blk, r);
}

/* ---- data ---- */

/** What one more answer of the kernel makes of a request. Return: is it over? */
static bool advance(struct virtio_blk *blk, struct blk_request *r, int64_t res)
{
	static const char *const what[] = {[VIRTIO_BLK_T_IN] = "read",
					   [VIRTIO_BLK_T_OUT] = "write",
					   [VIRTIO_BLK_T_FLUSH] = "flush"};

	if (res == -EAGAIN || res == -EINTR)
		return false;
	if (res == 0 && r->type != VIRTIO_BLK_T_FLUSH)
		res = -EIO; /* the image was cut behind our back */
	if (res < 0) {
		disk_log_error(blk->disk, what[r->type], (int)res);
		finish(blk, r, VIRTIO_BLK_S_IOERR);
		return true;
	}
	if (r->type == VIRTIO_BLK_T_OUT)
		/* From the start: a part that ends within a cluster leaves it to the next one. */
		disk_write_end(blk->disk, r->offset, r->done + (uint64_t)res);
	r->done += (uint64_t)res;
	if (r->done < r->bytes)
		return false;
	finish(blk, r, VIRTIO_BLK_S_OK);
	return true;
}

/** A driver that does not flush wants its writes to last when they are reported (5.2.6.2). */
static int write_flags(const struct virtio_blk *blk)
{
	return virtio_device_has(&blk->device, VIRTIO_BLK_F_FLUSH) || disk_sync_fd(blk->disk) < 0
		       ? 0
		       : RWF_DSYNC;
}

/** struct transfer - the next extent of a request. */
struct transfer {
	int fd, count;
	uint64_t at;
};

static struct transfer next_transfer(const struct virtio_blk *blk, struct blk_request *r)
{
	const struct virtq_chain *c = &r->chain;
	struct transfer t = {.fd = disk_write_fd(blk->disk), .at = r->offset + r->done};
	uint64_t left = r->bytes - r->done;

	if (r->type == VIRTIO_BLK_T_IN) {
		struct disk_extent e = disk_find(blk->disk, t.at, left);

		t.fd = e.fd;
		t.count = iov_slice(virtq_chain_iov(c, true), c->write_count, r->done, e.bytes,
				    r->iov);
	} else {
		t.count = iov_slice(virtq_chain_iov(c, false), c->read_count,
				    HEADER_BYTES + r->done, left, r->iov);
	}
	return t;
}

static int64_t transfer_now(const struct virtio_blk *blk, struct blk_request *r)
{
	struct transfer t;
	ssize_t n;

	if (r->type == VIRTIO_BLK_T_FLUSH) {
		n = fdatasync(disk_sync_fd(blk->disk));
	} else {
		t = next_transfer(blk, r);
		n = r->type == VIRTIO_BLK_T_IN
			    ? preadv(t.fd, r->iov, t.count, (off_t)t.at)
			    : pwritev2(t.fd, r->iov, t.count, (off_t)t.at, write_flags(blk));
	}
	return n < 0 ? -errno : n;
}

static bool transfer_by_ring(struct virtio_blk *blk, struct blk_request *r)
{
	struct io_uring_sqe *sqe = blk->ring_works ? io_uring_get_sqe(&blk->ring) : NULL;
	struct transfer t;

	if (!sqe)
		return false;
	if (r->type == VIRTIO_BLK_T_FLUSH) {
		io_uring_prep_fsync(sqe, disk_sync_fd(blk->disk), IORING_FSYNC_DATASYNC);
	} else {
		t = next_transfer(blk, r);
		if (r->type == VIRTIO_BLK_T_IN)
			io_uring_prep_readv(sqe, t.fd, r->iov, (unsigned)t.count, t.at);
		else
			io_uring_prep_writev2(sqe, t.fd, r->iov, (unsigned)t.count, t.at,
					      write_flags(blk));
	}
	io_uring_sqe_set_data(sqe, r);
	blk->in_flight++;
	return true;
}

/** Have the next part of a request done; without a ring, all of it. */
static void proceed(struct virtio_blk *blk, struct blk_request *r)
{
	while (!transfer_by_ring(blk, r))
		if (advance(blk, r, transfer_now(blk, r)))
			return;
}

/** Take the completions that are there, and go on with their requests. */
static void reap(struct virtio_blk *blk)
{
	struct io_uring_cqe *cqe;

	while (!io_uring_peek_cqe(&blk->ring, &cqe)) {
		struct blk_request *r = io_uring_cqe_get_data(cqe);
		int64_t res = cqe->res;

		io_uring_cqe_seen(&blk->ring, cqe);
		blk->in_flight--;
		if (!advance(blk, r, res))
			proceed(blk, r);
	}
}

/** Wait until nothing is under way. The kernel has guest memory until then, so there is no giving
 * up: errors are passing ones (-EINTR, no memory). */
static void settle(struct virtio_blk *blk)
{
	while (blk->in_flight) {
		int ret = io_uring_submit_and_wait(&blk->ring, 1);

		if (ret < 0 && ret != -EINTR)
			usleep(RETRY_US);
		reap(blk);
	}
}

/* ---- requests ---- */

static bool inside(const struct virtio_blk *blk, uint64_t sector, uint64_t bytes)
{
	uint64_t size = disk_bytes(blk->disk);

	return sector <= size / DISK_SECTOR_BYTES && bytes % DISK_SECTOR_BYTES == 0 &&
	       bytes <= size - sector * DISK_SECTOR_BYTES;
}

/** Is a write under way to a cluster that [@offset, @offset + @bytes) touches? */
static bool overlaps(const struct virtio_blk *blk, uint64_t offset, uint64_t bytes)
{
	uint64_t first = offset / DISK_CLUSTER_BYTES, end = pages_of(offset + bytes);

	for (unsigned i = 0; i < blk->used_slots; i++) {
		const struct blk_request *r = &blk->requests[i];

		if (r->busy && r->type == VIRTIO_BLK_T_OUT &&
		    r->offset / DISK_CLUSTER_BYTES < end && pages_of(r->offset + r->bytes) > first)
			return true;
	}
	return false;
}

static void begin_data(struct virtio_blk *blk, struct blk_request *r, uint64_t sector)
{
	bool write = r->type == VIRTIO_BLK_T_OUT;
	uint64_t offset = sector * DISK_SECTOR_BYTES;
	uint64_t bytes = write ? r->chain.read_bytes - HEADER_BYTES : r->chain.write_bytes - 1;
	int ret = 0;

	if (bytes > REQUEST_BYTES_MAX || !inside(blk, sector, bytes) ||
	    (write && disk_is_read_only(blk->disk))) {
		finish(blk, r, VIRTIO_BLK_S_IOERR);
		return;
	}
	if (!bytes) {
		finish(blk, r, VIRTIO_BLK_S_OK);
		return;
	}
	if (write && disk_needs_begin(blk->disk, offset, bytes)) {
		if (overlaps(blk, offset, bytes))
			settle(blk);
		ret = disk_write_begin(blk->disk, offset, bytes);
	}
	if (ret) {
		disk_log_error(blk->disk, "write", ret);
		finish(blk, r, VIRTIO_BLK_S_IOERR);
		return;
	}
	r->offset = offset;
	r->bytes = bytes;
	r->busy = true;
	blk->busy_bytes += bytes;
	blk->turn_bytes += bytes;
	proceed(blk, r);
}

static void begin_flush(struct virtio_blk *blk, struct blk_request *r)
{
	/* It covers the writes that were reported, not those under way (5.2.6.2). */
	if (disk_sync_fd(blk->disk) < 0) {
		finish(blk, r, VIRTIO_BLK_S_OK);
		return;
	}
	if (!blk->ring_works)
		blk->turn_bytes = TURN_BYTES_MAX; /* it takes as long as a disk takes */
	proceed(blk, r);
}

/** The ranges of a discard or write zeroes, checked (5.2.6.2). Return: a status. */
static uint8_t read_ranges(const struct virtio_blk *blk, const struct blk_request *r,
			   struct virtio_blk_discard_write_zeroes *ranges, unsigned *ret_count)
{
	bool discard = r->type == VIRTIO_BLK_T_DISCARD;
	uint32_t bytes = r->chain.read_bytes - HEADER_BYTES;
	uint32_t known = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

	*ret_count = bytes / sizeof(*ranges);
	if (!bytes || bytes % sizeof(*ranges) || *ret_count > RANGES_MAX ||
	    disk_is_read_only(blk->disk))
		return VIRTIO_BLK_S_IOERR;
	virtq_chain_read(&r->chain, HEADER_BYTES, ranges, bytes);
	for (unsigned i = 0; i < *ret_count; i++) {
		if (ranges[i].flags & ~known)
			return VIRTIO_BLK_S_UNSUPP;
		if (ranges[i].num_sectors > RANGE_SECTORS_MAX ||
		    !inside(blk, ranges[i].sector,
			    (uint64_t)ranges[i].num_sectors * DISK_SECTOR_BYTES))
			return VIRTIO_BLK_S_IOERR;
	}
	return VIRTIO_BLK_S_OK;
}

static int zero_range(struct virtio_blk *blk, const struct virtio_blk_discard_write_zeroes *range,
		      bool discard)
{
	uint64_t offset = range->sector * DISK_SECTOR_BYTES;
	uint64_t bytes = (uint64_t)range->num_sectors * DISK_SECTOR_BYTES;
	bool unmap = discard || (range->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	int ret;

	if (overlaps(blk, offset, bytes))
		settle(blk);
	ret = disk_zero(blk->disk, offset, bytes, unmap);
	if (ret == -EOPNOTSUPP && !discard) /* unmapping is a wish there */
		ret = disk_zero(blk->disk, offset, bytes, false);
	return ret;
}

static void begin_zero(struct virtio_blk *blk, struct blk_request *r)
{
	struct virtio_blk_discard_write_zeroes ranges[RANGES_MAX];
	bool discard = r->type == VIRTIO_BLK_T_DISCARD;
	unsigned count;
	uint8_t status = read_ranges(blk, r, ranges, &count);

	for (unsigned i = 0; i < count && status == VIRTIO_BLK_S_OK; i++) {
		int ret = zero_range(blk, &ranges[i], discard);

		blk->turn_bytes += (uint64_t)ranges[i].num_sectors * DISK_SECTOR_BYTES;
		if (ret == -EOPNOTSUPP) {
			status = VIRTIO_BLK_S_UNSUPP;
		} else if (ret) {
			disk_log_error(blk->disk, discard ? "discard" : "write zeroes", ret);
			status = VIRTIO_BLK_S_IOERR;
		}
	}
	finish(blk, r, status);
}

static void begin_id(struct virtio_blk *blk, struct blk_request *r)
{
	uint32_t room = r->chain.write_bytes - 1;

	virtq_chain_write(&r->chain, 0, blk->serial, MIN(room, (uint32_t)sizeof(blk->serial)));
	finish(blk, r, VIRTIO_BLK_S_OK);
}

/** Return: false when the chain has no room for a header or a status. */
static bool begin(struct virtio_blk *blk, struct blk_request *r)
{
	struct virtio_blk_outhdr header;

	if (virtq_chain_read(&r->chain, 0, &header, sizeof(header)) < sizeof(header) ||
	    !r->chain.write_bytes)
		return false;
	r->type = header.type;
	r->offset = r->bytes = r->done = 0;
	switch (header.type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		begin_data(blk, r, header.sector);
		break;
	case VIRTIO_BLK_T_FLUSH:
		begin_flush(blk, r);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		begin_zero(blk, r);
		break;
	case VIRTIO_BLK_T_GET_ID:
		begin_id(blk, r);
		break;
	default:
		finish(blk, r, VIRTIO_BLK_S_UNSUPP);
	}
	return true;
}

static bool has_room(const struct virtio_blk *blk)
{
	return (blk->free || blk->used_slots < REQUESTS_MAX) &&
	       blk->busy_bytes < UNDER_WAY_BYTES_MAX;
}

/** Begin what is available and has room, up to the budget. Return: may there be more? */
static bool take(struct virtio_blk *blk)
{
	blk->turn_bytes = 0;
	for (unsigned i = 0; i < VIRTIO_BUDGET && blk->turn_bytes < TURN_BYTES_MAX && has_room(blk);
	     i++) {
		struct blk_request *r = slot_get(blk);

		if (!virtio_device_pop(&blk->device, QUEUE, &r->chain)) {
			slot_put(blk, r);
			return false;
		}
		if (!begin(blk, r)) {
			slot_put(blk, r);
			virtio_device_fail(&blk->device, "request without header or status");
			return false;
		}
	}
	return true;
}

/** Begin, submit, finish what is there already, and tell the driver. */
static void work(struct virtio_blk *blk)
{
	bool more = take(blk);

	if (blk->in_flight) {
		io_uring_submit(&blk->ring);
		reap(blk);
	}
	virtio_device_flush(&blk->device, QUEUE);
	/* Without room enough is under way, and a completion goes on with it; but not with what is
	 * not submitted: that the kernel did not take, or next parts that reap() has queued. */
	if ((more && has_room(blk)) || (blk->in_flight && io_uring_sq_ready(&blk->ring)))
		virtio_device_again(&blk->device, QUEUE);
}

/* ---- the device ---- */

static void blk_notify(struct virtio_device *d, unsigned queue)
{
	(void)queue;
	work(blk_of(d));
}

static void blk_event(struct virtio_device *d, uint32_t tag, uint32_t events)
{
	struct virtio_blk *blk = blk_of(d);

	(void)tag;
	(void)events;
	reap(blk);
	work(blk);
}

static void blk_drain(struct virtio_device *d)
{
	settle(blk_of(d));
	virtio_device_flush(d, QUEUE);
	virtio_device_again(d, QUEUE); /* for chains that waited for room */
}

static int blk_save(const struct virtio_device *d, struct state_writer *w)
{
	const struct virtio_blk *blk = (const void *)d; /* its first member */

	return blk->in_flight ? -EBUSY : disk_save(blk->disk, w);
}

static int blk_load(struct virtio_device *d, struct state_reader *r)
{
	bool inserted;
	int ret = disk_load(blk_of(d)->disk, r, &inserted);

	/* Its driver reads the capacity again (5.2.5), and nothing else: features and limits are
	 * those that an empty drive has offered. */
	if (!ret && inserted)
		virtio_device_config_changed(d);
	return ret;
}

static void blk_free(struct virtio_device *d)
{
	struct virtio_blk *blk = blk_of(d);

	if (blk->ring_works) {
		settle(blk);
		io_uring_queue_exit(&blk->ring);
	}
	disk_free(blk->disk);
	free(blk->requests);
}

static const struct virtio_class blk_class = {
	.id = VIRTIO_ID_BLOCK,
	.name = "virtio-blk",
	.queue_count = 1,
	.queue_size = QUEUE_SIZE,
	.notify = blk_notify,
	.drain = blk_drain,
	.event = blk_event,
	.save = blk_save,
	.load = blk_load,
	.free = blk_free,
};

static void offer(struct virtio_blk *blk)
{
	struct virtio_device *d = &blk->device;

	d->features |= VIRTIO_FEATURE(VIRTIO_BLK_F_SIZE_MAX) |
		       VIRTIO_FEATURE(VIRTIO_BLK_F_SEG_MAX) | VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH) |
		       VIRTIO_FEATURE(VIRTIO_BLK_F_BLK_SIZE) |
		       VIRTIO_FEATURE(VIRTIO_BLK_F_TOPOLOGY);
	d->features |= disk_is_read_only(blk->disk)
			       ? VIRTIO_FEATURE(VIRTIO_BLK_F_RO)
			       : VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD) |
					 VIRTIO_FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
	blk->config = (struct virtio_blk_config){
		.capacity = disk_bytes(blk->disk) / DISK_SECTOR_BYTES,
		.size_max = SEGMENT_BYTES_MAX,
		.seg_max = DATA_SEGMENTS_MAX,
		.blk_size = DISK_SECTOR_BYTES,
		.physical_block_exp = PHYSICAL_BLOCK_EXP,
		.min_io_size = 1 << PHYSICAL_BLOCK_EXP,
		.max_discard_sectors = RANGE_SECTORS_MAX,
		.max_discard_seg = RANGES_MAX,
		.discard_sector_alignment = 1 << PHYSICAL_BLOCK_EXP,
		.max_write_zeroes_sectors = RANGE_SECTORS_MAX,
		.max_write_zeroes_seg = RANGES_MAX,
		.write_zeroes_may_unmap = 1,
	};
	d->config = &blk->config;
	d->config_bytes = sizeof(blk->config);
}

static int init_ring(struct virtio_blk *blk, bool wanted)
{
	int ret = wanted ? io_uring_queue_init(REQUESTS_MAX, &blk->ring, 0) : -ENOSYS;

	if (ret) {
		if (wanted)
			log_info("virtio-blk: io_uring: %s: reads and writes are synchronous",
				 strerror(-ret));
		return 0;
	}
	blk->ring_works = true;
	return virtio_device_watch(&blk->device, blk->ring.ring_fd, 0, EPOLLIN);
}

int virtio_blk_attach(struct virtio_device *d, const struct disk_options *o)
{
	struct virtio_blk *blk = blk_of(d);
	int err = disk_new(o, &blk->disk);

	if (!err)
		offer(blk);
	return err;
}

int virtio_blk_new(const struct virtio_wiring *w, const struct virtio_blk_options *o,
		   struct virtio_device **ret)
{
	struct disk *disk = NULL;
	struct virtio_device *d;
	struct virtio_blk *blk;
	int err = o->disk.base_fd < 0 ? 0 : disk_new(&o->disk, &disk);

	if (err) {
		close(w->irq_fd);
		return err;
	}
	err = virtio_device_new(&blk_class, sizeof(*blk), w, &d);
	if (err) {
		disk_free(disk);
		return err;
	}
	blk = blk_of(d);
	blk->disk = disk;
	if (o->serial)
		memcpy(blk->serial, o->serial, strnlen(o->serial, sizeof(blk->serial)));
	blk->requests = calloc(REQUESTS_MAX, sizeof(*blk->requests));
	err = blk->requests ? init_ring(blk, !o->no_io_uring) : -ENOMEM;
	if (err) {
		virtio_device_free(d);
		return err;
	}
	if (disk)
		offer(blk);
	*ret = d;
	return 0;
}
