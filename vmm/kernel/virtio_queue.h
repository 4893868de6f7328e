/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_queue.h - split virtqueues, as the device sees them (virtio 1.2, 2.7)
 *
 * Rings and descriptors are in guest memory, and the guest is hostile: it may write anything there,
 * also while it is being read. So each descriptor is copied once, the copy is checked, and what a
 * device gets is a chain of host addresses that all lie in guest memory. What buffers hold may
 * change at any time, too: a device copies a header before it looks at it.
 *
 * A ring that makes no sense is -EBADMSG, and the device then needs a reset
 * (virtio_device_fail()); nothing worse comes of it.
 */
#ifndef QUICKTHAW_KERNEL_VIRTIO_QUEUE_H
#define QUICKTHAW_KERNEL_VIRTIO_QUEUE_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/state.h"
#include "vmm/guest_mem.h"

/** VIRTQ_SEGMENTS_MAX: descriptors of one chain, an indirect table's among them. */
enum { VIRTQ_SIZE_MAX = 256, VIRTQ_SEGMENTS_MAX = 256 };

/**
 * struct virtq - one queue. Addresses and size are the driver's; they are checked when it says that
 * the queue is ready, and do not change from then on.
 * @size_max: what the device offers; 0: there is no such queue
 * @size: entries, a power of two
 * @next_avail: the next entry of the available ring to take (an index that wraps at 2^16)
 * @next_used: the next entry of the used ring to fill
 * @signalled: @next_used when the driver was last told
 * @desc, @avail, @used: host addresses; NULL unless @ready
 */
struct virtq {
	const struct guest_mem *mem;
	uint16_t size_max;
	uint16_t size;
	bool ready;
	bool event_idx;
	bool indirect;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	const struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next_avail, next_used, signalled;
};

/**
 * struct virtq_chain - a buffer that the driver made available: segments that the device may read,
 * then such that it may write. None is empty.
 * @read_bytes, @write_bytes: their sums; together below 4 GiB
 */
struct virtq_chain {
	uint16_t head;
	uint16_t read_count, write_count;
	uint32_t read_bytes, write_bytes;
	struct iovec iov[VIRTQ_SEGMENTS_MAX];
};

/** virtq_reset() - as after power-on: not ready, size_max entries. */
void virtq_reset(struct virtq *q);
/**
 * virtq_start() - check what the driver has set up and make the queue ready.
 * @event_idx, @indirect: negotiated features
 * Return: 0, or -EINVAL when the size is no power of two up to @size_max, or a ring is misaligned
 * or not in guest memory.
 */
int virtq_start(struct virtq *q, bool event_idx, bool indirect);

/**
 * virtq_pop() - take the next available chain.
 * When there is none, the driver is asked to notify of the next one before this returns.
 * Return: 1 with @c filled, 0 when the ring is empty, -EBADMSG when it is broken.
 */
int virtq_pop(struct virtq *q, struct virtq_chain *c);
/** virtq_unpop() - put the @count last popped chains back; none of them has been pushed. */
void virtq_unpop(struct virtq *q, uint16_t count);
/** virtq_push() - give a chain back. @bytes: how many of it the device has written. */
void virtq_push(struct virtq *q, uint16_t head, uint32_t bytes);
/** virtq_needs_interrupt() - does the driver want to be told of what was pushed? Ask once for each
 * batch, and interrupt if so. */
bool virtq_needs_interrupt(struct virtq *q);

/** virtq_chain_read() - copy up to @n bytes at @offset of what the device may read. Return: how
 * many there were. */
size_t virtq_chain_read(const struct virtq_chain *c, uint32_t offset, void *buf, size_t n);
/** virtq_chain_write() - the same into what it may write. */
size_t virtq_chain_write(const struct virtq_chain *c, uint32_t offset, const void *buf, size_t n);

/** virtq_chain_iov() - the segments that the device may read, or may write. */
static inline const struct iovec *virtq_chain_iov(const struct virtq_chain *c, bool writable)
{
	return writable ? c->iov + c->read_count : c->iov;
}

/**
 * iov_slice() - @n bytes at @offset of @iov as an array of its own.
 * @out: room for @count entries
 * Return: entries in @out; they hold less than @n bytes if @iov ends before.
 */
int iov_slice(const struct iovec *iov, int count, uint64_t offset, uint64_t n, struct iovec *out);

void virtq_save(const struct virtq *q, struct state_writer *w);
/** virtq_load() - into a queue that was reset; size_max and mem are set. Return: 0 or -EBADMSG. */
int virtq_load(struct virtq *q, bool event_idx, bool indirect, struct state_reader *r);

#endif
