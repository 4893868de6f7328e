/* SPDX-License-Identifier: Apache-2.0 */
/* wiring.h - the virtio devices that a command line asks for */
#ifndef QUICKTHAW_KERNEL_WIRING_H
#define QUICKTHAW_KERNEL_WIRING_H

#include "vmm/kernel/machine.h"

enum { WIRING_DISKS_MAX = 8, WIRING_NETS_MAX = 4, WIRING_GUEST_CID = 3 };

/**
 * struct wiring_options - as they were written.
 * @disks: FILE, FILE:ro, FILE:overlay (private, in memory) or FILE:overlay=FILE
 * @nets: TAP, or TAP,mac=XX:XX:XX:XX:XX:XX
 * @vsock: path of the unix socket, or NULL
 */
struct wiring_options {
	const char *disks[WIRING_DISKS_MAX];
	unsigned disk_count;
	const char *nets[WIRING_NETS_MAX];
	unsigned net_count;
	const char *vsock;
};

/**
 * wiring_add() - make all devices, in an order that depends on their number only: entropy, balloon,
 * vsock, disks, network cards.
 * @ret_vsock: the vsock device, for services; the machine's
 * Return: 0 or -errno with a log line.
 */
int wiring_add(struct machine *m, const struct wiring_options *o, struct virtio_device **ret_vsock);

#endif
