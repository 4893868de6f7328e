/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_driver.h - the driver's side of a virtio device, for tests: memory, registers, rings
 *
 * Buffers come from a heap that only grows. Descriptors are used in turn, so at most a queue's size
 * of them may be under way.
 */
#ifndef QUICKTHAW_TESTS_VIRTIO_DRIVER_H
#define QUICKTHAW_TESTS_VIRTIO_DRIVER_H

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/state.h"
#include "common/util.h"
#include "vmm/kernel/virtio_mmio.h"

#define DRIVER_BASE 0ull
enum { DRIVER_RAM_BYTES = 8 << 20, DRIVER_QUEUES = VIRTIO_QUEUES_MAX };

#define DRIVER_CHECK(condition)                                                                    \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct driver_queue {
	uint16_t size, next_desc, avail_idx, used_seen;
	uint64_t desc, avail, used, indirect;
};

/** struct driver - @mem outlives the device: another one can be loaded onto it. */
struct driver {
	struct guest_mem mem;
	struct virtio_device *d;
	int irq;
	uint64_t heap;
	struct driver_queue q[DRIVER_QUEUES];
};

/** struct driver_used - a buffer that came back. */
struct driver_used {
	uint32_t id, bytes;
};

static inline void *driver_ptr(const struct driver *v, uint64_t gpa, uint64_t n)
{
	void *p = guest_mem_ptr(&v->mem, (struct gpa){gpa}, n);

	DRIVER_CHECK(p);
	return p;
}

static inline uint64_t driver_alloc(struct driver *v, uint64_t n, uint64_t align)
{
	uint64_t at = align_up(v->heap, align);

	v->heap = at + n;
	DRIVER_CHECK(v->heap <= DRIVER_BASE + v->mem.ram_bytes);
	return at;
}

/** driver_init() - memory and an interrupt. driver_wiring() then is what devices are made with. */
static inline void driver_init(struct driver *v)
{
	*v = (struct driver){.heap = DRIVER_BASE, .irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	DRIVER_CHECK(!guest_mem_init_kernel(&v->mem, DRIVER_RAM_BYTES) && v->irq >= 0);
}

static inline struct virtio_wiring driver_wiring(const struct driver *v)
{
	return (struct virtio_wiring){&v->mem, dup(v->irq)};
}

static inline void driver_free(struct driver *v)
{
	virtio_device_free(v->d);
	guest_mem_free(&v->mem);
	close(v->irq);
}

static inline uint32_t driver_read32(struct driver *v, uint64_t offset)
{
	uint32_t value;

	virtio_mmio_read(v->d, offset, &value, sizeof(value));
	return value;
}

static inline void driver_write32(struct driver *v, uint64_t offset, uint32_t value)
{
	virtio_mmio_write(v->d, offset, &value, sizeof(value));
}

static inline void driver_config(struct driver *v, uint32_t offset, void *data, unsigned n)
{
	virtio_mmio_read(v->d, VIRTIO_MMIO_CONFIG + offset, data, n);
}

static inline uint64_t driver_features(struct driver *v)
{
	uint64_t features;

	driver_write32(v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	features = (uint64_t)driver_read32(v, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
	driver_write32(v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	return features | driver_read32(v, VIRTIO_MMIO_DEVICE_FEATURES);
}

static inline void driver_take_features(struct driver *v, uint64_t features)
{
	driver_write32(v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	driver_write32(v, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	driver_write32(v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	driver_write32(v, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
}

static inline void driver_set64(struct driver *v, uint64_t low, uint64_t value)
{
	driver_write32(v, low, (uint32_t)value);
	driver_write32(v, low + 4, (uint32_t)(value >> 32));
}

/** driver_setup_queue() - as large as the device offers. */
static inline void driver_setup_queue(struct driver *v, unsigned i)
{
	struct driver_queue *q = &v->q[i];

	driver_write32(v, VIRTIO_MMIO_QUEUE_SEL, i);
	*q = (struct driver_queue){.size = (uint16_t)driver_read32(v, VIRTIO_MMIO_QUEUE_NUM_MAX)};
	if (!q->size)
		return;
	q->desc = driver_alloc(v, 16ull * q->size, 16);
	q->avail = driver_alloc(v, 6 + 2ull * q->size, 2);
	q->used = driver_alloc(v, 6 + 8ull * q->size, 4);
	q->indirect = driver_alloc(v, 16ull * VIRTQ_SEGMENTS_MAX, 16);
	driver_write32(v, VIRTIO_MMIO_QUEUE_NUM, q->size);
	driver_set64(v, VIRTIO_MMIO_QUEUE_DESC_LOW, q->desc);
	driver_set64(v, VIRTIO_MMIO_QUEUE_AVAIL_LOW, q->avail);
	driver_set64(v, VIRTIO_MMIO_QUEUE_USED_LOW, q->used);
	driver_write32(v, VIRTIO_MMIO_QUEUE_READY, 1);
	DRIVER_CHECK(driver_read32(v, VIRTIO_MMIO_QUEUE_READY) == 1);
}

enum {
	DRIVER_NEGOTIATING = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER,
	DRIVER_NEGOTIATED = DRIVER_NEGOTIATING | VIRTIO_CONFIG_S_FEATURES_OK,
	DRIVER_RUNNING = DRIVER_NEGOTIATED | VIRTIO_CONFIG_S_DRIVER_OK,
};

/** driver_negotiate() - from reset until features are agreed upon: what of @features is offered. */
static inline void driver_negotiate(struct driver *v, uint64_t features)
{
	driver_write32(v, VIRTIO_MMIO_STATUS, 0);
	driver_write32(v, VIRTIO_MMIO_STATUS, DRIVER_NEGOTIATING);
	driver_take_features(v, driver_features(v) & features);
	driver_write32(v, VIRTIO_MMIO_STATUS, DRIVER_NEGOTIATED);
	DRIVER_CHECK(driver_read32(v, VIRTIO_MMIO_STATUS) == DRIVER_NEGOTIATED);
}

/** driver_start() - all of it: negotiate, queues, DRIVER_OK. */
static inline void driver_start(struct driver *v, uint64_t features)
{
	driver_negotiate(v, features);
	for (unsigned i = 0; i < v->d->class->queue_count; i++)
		driver_setup_queue(v, i);
	driver_write32(v, VIRTIO_MMIO_STATUS, DRIVER_RUNNING);
	DRIVER_CHECK(driver_read32(v, VIRTIO_MMIO_STATUS) == DRIVER_RUNNING);
}

static inline struct vring_desc *driver_desc(struct driver *v, unsigned queue, unsigned i)
{
	struct vring_desc *table =
		driver_ptr(v, v->q[queue].desc, v->q[queue].size * sizeof(*table));

	return &table[i % v->q[queue].size];
}

static inline struct vring_avail *driver_avail(struct driver *v, unsigned queue)
{
	return driver_ptr(v, v->q[queue].avail, 6 + 2ull * v->q[queue].size);
}

static inline struct vring_used *driver_used_ring(struct driver *v, unsigned queue)
{
	return driver_ptr(v, v->q[queue].used, 6 + 8ull * v->q[queue].size);
}

/** driver_offer() - make the chain that begins at @head available. */
static inline void driver_offer(struct driver *v, unsigned queue, uint16_t head)
{
	struct driver_queue *q = &v->q[queue];
	struct vring_avail *avail = driver_avail(v, queue);

	avail->ring[q->avail_idx % q->size] = head;
	avail->idx = ++q->avail_idx;
}

/**
 * driver_add() - a chain of @count segments, the first @readable of which the device may read; made
 * available without a notification. Return: its head.
 */
static inline uint16_t driver_add(struct driver *v, unsigned queue, const struct vring_desc *segs,
				  unsigned count, unsigned readable)
{
	struct driver_queue *q = &v->q[queue];
	uint16_t head = q->next_desc % q->size;

	for (unsigned i = 0; i < count; i++) {
		struct vring_desc *d = driver_desc(v, queue, q->next_desc++);

		d->addr = segs[i].addr;
		d->len = segs[i].len;
		d->flags = (__u16)((i < readable ? 0 : VRING_DESC_F_WRITE) |
				   (i + 1 < count ? VRING_DESC_F_NEXT : 0));
		d->next = q->next_desc % q->size;
	}
	driver_offer(v, queue, head);
	return head;
}

/** driver_add_indirect() - the same by an indirect table. One at a time. */
static inline uint16_t driver_add_indirect(struct driver *v, unsigned queue,
					   const struct vring_desc *segs, unsigned count,
					   unsigned readable)
{
	struct driver_queue *q = &v->q[queue];
	struct vring_desc *table = driver_ptr(v, q->indirect, count * sizeof(*table));
	uint16_t head = q->next_desc++ % q->size;

	for (unsigned i = 0; i < count; i++)
		table[i] = (struct vring_desc){
			.addr = segs[i].addr,
			.len = segs[i].len,
			.flags = (__u16)((i < readable ? 0 : VRING_DESC_F_WRITE) |
					 (i + 1 < count ? VRING_DESC_F_NEXT : 0)),
			.next = (__u16)(i + 1),
		};
	*driver_desc(v, queue, head) = (struct vring_desc){.addr = q->indirect,
							   .len = (__u32)(count * sizeof(*table)),
							   .flags = VRING_DESC_F_INDIRECT};
	driver_offer(v, queue, head);
	return head;
}

static inline void driver_kick(struct driver *v, unsigned queue)
{
	driver_write32(v, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

/** driver_take() - a buffer that came back, if there is one. */
static inline bool driver_take(struct driver *v, unsigned queue, struct driver_used *ret)
{
	struct driver_queue *q = &v->q[queue];
	struct vring_used *used = driver_used_ring(v, queue);

	if (__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) == q->used_seen)
		return false;
	ret->id = used->ring[q->used_seen % q->size].id;
	ret->bytes = used->ring[q->used_seen % q->size].len;
	q->used_seen++;
	return true;
}

/** driver_wait_event() - let the device do what it waits for. Return: false after @ms without. */
static inline bool driver_wait_event(struct driver *v, int ms)
{
	struct pollfd p = {.fd = virtio_device_fd(v->d), .events = POLLIN};

	if (poll(&p, 1, ms) <= 0)
		return false;
	virtio_device_event(v->d);
	return true;
}

/** driver_wait() - for a buffer to come back, some seconds at most. */
static inline struct driver_used driver_wait(struct driver *v, unsigned queue)
{
	struct driver_used used;

	while (!driver_take(v, queue, &used))
		DRIVER_CHECK(driver_wait_event(v, 5000));
	return used;
}

/** driver_interrupts() - how often the device raised its interrupt since the last call; the driver
 * acknowledges it. */
static inline uint64_t driver_interrupts(struct driver *v)
{
	uint64_t n = 0;

	if (read(v->irq, &n, sizeof(n)) < 0)
		return 0;
	driver_write32(v, VIRTIO_MMIO_INTERRUPT_ACK,
		       driver_read32(v, VIRTIO_MMIO_INTERRUPT_STATUS));
	return n;
}

/** driver_saved() - the device's state; the caller frees it. */
static inline struct state_writer driver_saved(struct driver *v)
{
	struct state_writer w = {0};

	virtio_device_drain(v->d);
	DRIVER_CHECK(!virtio_device_save(v->d, &w) && !w.err);
	return w;
}

/** driver_replace() - end the device, and load @saved into @d, which takes its place. */
static inline int driver_replace(struct driver *v, struct virtio_device *d,
				 const struct state_writer *saved)
{
	struct state_reader r = {.data = saved->data, .left = saved->used};
	int ret;

	virtio_device_free(v->d);
	v->d = d;
	ret = virtio_device_load(d, &r);
	if (!ret && r.left)
		ret = -EBADMSG;
	if (!ret)
		virtio_device_resume(d);
	return ret;
}

static inline bool driver_needs_reset(struct driver *v)
{
	return driver_read32(v, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

#endif
