/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_mmio.h - a virtio device behind a window of MMIO registers (virtio 1.2, 4.2, version 2)
 *
 * What all devices share: registers, feature negotiation, queues, interrupts, state. A device is
 * made by its own x_new() and is a struct virtio_device from then on.
 *
 * Threads: none of this takes a lock. Everything is called with the machine's lock held, from any
 * thread; notifications had better come from the I/O thread (an ioeventfd on the QueueNotify
 * register), because completions of io_uring interrupt the thread that submitted.
 *
 * For the machine, in this order:
 *   x_new                       at boot and at restore alike
 *   virtio_device_load          restore: before anything else of the device
 *   virtio_device_resume        restore, after every part of the machine is loaded and wired
 *   virtio_mmio_read, _write    a vCPU's access to the window
 *   virtio_device_notify        the queue's ioeventfd was signalled
 *   virtio_device_event         virtio_device_fd() is readable
 *   virtio_device_drain, _save  capture, with all vCPUs parked
 *   virtio_device_free
 *
 * Hostile guests: the worst that a driver gets is DEVICE_NEEDS_RESET.
 */
#ifndef QUICKTHAW_KERNEL_VIRTIO_MMIO_H
#define QUICKTHAW_KERNEL_VIRTIO_MMIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>

#include "common/state.h"
#include "vmm/kernel/virtio_queue.h"

enum {
	VIRTIO_MMIO_BYTES = 0x1000, /**< size of a window */
	VIRTIO_QUEUES_MAX = 5,
	VIRTIO_BUDGET = 256, /**< chains that one call handles before others get their turn */
};

#define VIRTIO_FEATURE(bit) (1ull << (bit))

struct virtio_device;

/**
 * struct virtio_wiring - what the machine gives to each device.
 * @irq_fd: eventfd that raises the device's edge-triggered interrupt; becomes the device's
 */
struct virtio_wiring {
	const struct guest_mem *mem;
	int irq_fd;
};

/**
 * struct virtio_class - what a kind of device does. Only @id, @name, @queue_count, @queue_size and
 * @notify are needed. @notify and @start come only while the driver is ready and the device has not
 * failed.
 * @notify: the driver made chains available in a queue that is ready
 * @start: the driver is ready (DRIVER_OK)
 * @reset: forget the driver; nothing is in flight, and no feature is taken
 * @drain: wait for what is in flight, take nothing new
 * @event: one of the descriptors watched by virtio_device_watch() has @events (EPOLLIN, ...)
 * @config_write: the driver wrote @n bytes at @offset of the configuration space, all inside
 * @resume: the machine goes on after a restore
 * @free: what the device has besides its struct, which may be zero behind its first member
 */
struct virtio_class {
	uint32_t id;
	const char *name;
	unsigned queue_count;
	uint16_t queue_size;
	void (*notify)(struct virtio_device *d, unsigned queue);
	void (*start)(struct virtio_device *d);
	void (*reset)(struct virtio_device *d);
	void (*drain)(struct virtio_device *d);
	void (*event)(struct virtio_device *d, uint32_t tag, uint32_t events);
	void (*config_write)(struct virtio_device *d, uint32_t offset, const void *data,
			     unsigned n);
	int (*save)(const struct virtio_device *d, struct state_writer *w);
	int (*load)(struct virtio_device *d, struct state_reader *r);
	void (*resume)(struct virtio_device *d);
	void (*free)(struct virtio_device *d);
};

/**
 * struct virtio_device - first member of every device.
 * @features: what is offered; a device adds its own to the transport's after init
 * @driver_features: what the driver took
 * @config: the device's configuration space
 * @poll_fd: epoll set of everything that the device waits for
 * @again_fd: eventfd in it: the queues of the mask @again are to be looked at again
 * @fail_logged: one line is enough, a guest can fail as often as it likes
 */
struct virtio_device {
	const struct virtio_class *class;
	const struct guest_mem *mem;
	int irq_fd, poll_fd, again_fd;
	uint32_t again;
	uint64_t features, driver_features;
	uint32_t features_sel, driver_features_sel, queue_sel;
	uint32_t status, interrupt_status, config_generation;
	struct virtq queues[VIRTIO_QUEUES_MAX];
	void *config;
	uint32_t config_bytes;
	bool fail_logged;
};

/* ---- for the machine ---- */

/** virtio_mmio_read() / virtio_mmio_write() - @n bytes at @offset of the window of @dev, a struct
 * virtio_device. Accesses that the specification does not know read as zeros and write nothing. */
void virtio_mmio_read(void *dev, uint64_t offset, void *data, unsigned n);
void virtio_mmio_write(void *dev, uint64_t offset, const void *data, unsigned n);
void virtio_device_notify(struct virtio_device *d, unsigned queue);

/** virtio_device_fd() - a descriptor that is readable (level-triggered) while there is something
 * for virtio_device_event() to do. It stays the same, and the device's. */
static inline int virtio_device_fd(const struct virtio_device *d)
{
	return d->poll_fd;
}
/** virtio_device_event() - do what there is to do. Never blocks. */
void virtio_device_event(struct virtio_device *d);

/** virtio_device_drain() - wait until nothing is in flight to or from guest memory. Notifications
 * that come before the next virtio_device_resume(), or notify, are not lost. */
void virtio_device_drain(struct virtio_device *d);
/** virtio_device_save() - after a drain. The device is not changed, and may go on. */
int virtio_device_save(const struct virtio_device *d, struct state_writer *w);
/**
 * virtio_device_load() - into a new device; guest memory is mapped.
 * Return: 0, -EBADMSG for bytes that no save has written, -ENOTSUP with a log line when the driver
 * has a feature that this device does not offer. On error the device is only to be freed.
 */
int virtio_device_load(struct virtio_device *d, struct state_reader *r);
/** virtio_device_resume() - after a load: interrupts and notifications that were on their way when
 * the machine was captured are made again. Spurious ones do no harm. */
void virtio_device_resume(struct virtio_device *d);
/** virtio_device_free() - with all that it owns; NULL is legal. */
void virtio_device_free(struct virtio_device *d);

/* ---- for devices ---- */

/**
 * virtio_device_new() - a zeroed struct of @bytes that begins with a struct virtio_device, and the
 * shared part in it made. Takes @w->irq_fd, also on error.
 * Return: 0 with *@ret, or -errno.
 */
int virtio_device_new(const struct virtio_class *class, size_t bytes, const struct virtio_wiring *w,
		      struct virtio_device **ret);

/** virtio_device_watch() - have class->event called with @tag for @events of @fd (level-triggered
 * unless they have EPOLLET). Closing @fd ends it if nobody else has it open. Return: 0 or -errno.
 */
int virtio_device_watch(struct virtio_device *d, int fd, uint32_t tag, uint32_t events);
/** virtio_device_rewatch() - watch for other @events from now on. */
void virtio_device_rewatch(struct virtio_device *d, int fd, uint32_t tag, uint32_t events);
/** virtio_device_unwatch() - before @fd is closed. An event that was taken already still comes. */
void virtio_device_unwatch(struct virtio_device *d, int fd);

/** virtio_device_again() - have class->notify called for @queue in a later turn. */
void virtio_device_again(struct virtio_device *d, unsigned queue);

/** virtio_device_pop() - virtq_pop() of a queue, where a broken ring fails the device and an
 * unready one is empty. Return: whether there is a chain. */
bool virtio_device_pop(struct virtio_device *d, unsigned queue, struct virtq_chain *c);
/** virtio_device_flush() - interrupt the driver if it wants to hear of what was pushed. */
void virtio_device_flush(struct virtio_device *d, unsigned queue);
/** virtio_device_config_changed() - the device changed its configuration space. */
void virtio_device_config_changed(struct virtio_device *d);
/** virtio_device_fail() - what the driver does makes no sense: it has to reset the device. Logged
 * once. */
void virtio_device_fail(struct virtio_device *d, const char *why);

/** virtio_device_runs() - is the driver ready, and the device not failed? */
static inline bool virtio_device_runs(const struct virtio_device *d)
{
	return (d->status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) ==
	       VIRTIO_CONFIG_S_DRIVER_OK;
}

static inline bool virtio_device_has(const struct virtio_device *d, unsigned bit)
{
	return d->driver_features & VIRTIO_FEATURE(bit);
}

#endif
