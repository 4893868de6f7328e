/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_blk.h - a disk for the guest (virtio 1.2, 5.2) */
#ifndef QUICKTHAW_KERNEL_VIRTIO_BLK_H
#define QUICKTHAW_KERNEL_VIRTIO_BLK_H

#include "vmm/kernel/disk.h"
#include "vmm/kernel/virtio_mmio.h"

/**
 * struct virtio_blk_options
 * @disk: what to read and write; its descriptors become the device's. Its base_fd may be -1: then
 *	there is none before virtio_blk_attach()
 * @serial: up to 20 bytes that the guest finds in /sys/block/vdX/serial
 * @no_io_uring: read and write synchronously, as where io_uring is not allowed
 */
struct virtio_blk_options {
	struct disk_options disk;
	const char *serial;
	bool no_io_uring;
};

/**
 * virtio_blk_new() - takes @w->irq_fd and the disk's descriptors, also on error.
 * Return: 0 with *@ret, freed by virtio_device_free(), or -errno; disk_new() says which, and has
 * logged it.
 */
int virtio_blk_new(const struct virtio_wiring *w, const struct virtio_blk_options *o,
		   struct virtio_device **ret);

/** virtio_blk_attach() - give a device its disk, which may be an empty drive, before the machine is
 * booted or restored. @o: taken over, also on error. Return: 0 or -errno; disk_new() says which,
 * and has logged it. */
int virtio_blk_attach(struct virtio_device *d, const struct disk_options *o);

#endif
