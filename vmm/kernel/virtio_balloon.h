/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_balloon.h - memory that the guest does without (virtio 1.2, 5.5) */
#ifndef QUICKTHAW_KERNEL_VIRTIO_BALLOON_H
#define QUICKTHAW_KERNEL_VIRTIO_BALLOON_H

#include "vmm/kernel/virtio_mmio.h"

/**
 * virtio_balloon_new() - takes @w->irq_fd. It is empty at first; free pages are reported without
 * being asked for. Return: 0 with *@ret, freed by virtio_device_free(), or -errno.
 */
int virtio_balloon_new(const struct virtio_wiring *w, struct virtio_device **ret);

#endif
