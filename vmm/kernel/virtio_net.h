/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_net.h - a network card for the guest, on a TAP device of the host (virtio 1.2, 5.1) */
#ifndef QUICKTHAW_KERNEL_VIRTIO_NET_H
#define QUICKTHAW_KERNEL_VIRTIO_NET_H

#include "vmm/kernel/virtio_mmio.h"

enum { VIRTIO_NET_MAC_BYTES = 6 };

/**
 * struct virtio_net_options
 * @name: for log lines; copied
 * @tap_fd: a TAP device, opened with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR; becomes the device's. A
 *	socket that carries one frame behind a struct virtio_net_hdr_v1 in each message does, too,
 *	without offloads
 * @mac: 6 bytes, or NULL: a random one at boot, and at restore that of the snapshot
 * @mtu: what the guest is to use, or 0
 */
struct virtio_net_options {
	const char *name;
	int tap_fd;
	const uint8_t *mac;
	uint16_t mtu;
};

/**
 * virtio_net_new() - takes @w->irq_fd and @o->tap_fd, also on error.
 * Return: 0 with *@ret, freed by virtio_device_free(), or -errno; with a log line -EINVAL for a TAP
 * device without IFF_VNET_HDR, or for a multicast MAC.
 */
int virtio_net_new(const struct virtio_wiring *w, const struct virtio_net_options *o,
		   struct virtio_device **ret);

/** virtio_net_mac() - the address in the configuration space, 6 bytes; the device's. */
const uint8_t *virtio_net_mac(const struct virtio_device *d);

#endif
