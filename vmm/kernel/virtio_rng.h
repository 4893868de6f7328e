/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_rng.h - entropy from the host's getrandom() (virtio 1.2, 5.4) */
#ifndef QUICKTHAW_KERNEL_VIRTIO_RNG_H
#define QUICKTHAW_KERNEL_VIRTIO_RNG_H

#include "vmm/kernel/virtio_mmio.h"

/** virtio_rng_new() - takes @w->irq_fd. Return: 0 with *@ret, freed by virtio_device_free(), or
 * -errno. */
int virtio_rng_new(const struct virtio_wiring *w, struct virtio_device **ret);

#endif
