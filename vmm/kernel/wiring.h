/* SPDX-License-Identifier: Apache-2.0 */
/* wiring.h - the virtio devices that a command line asks for */
#ifndef QUICKTHAW_KERNEL_WIRING_H
#define QUICKTHAW_KERNEL_WIRING_H

#include "vmm/kernel/agent_link.h"
#include "vmm/kernel/machine.h"

enum { WIRING_DISKS_MAX = 8, WIRING_NETS_MAX = 4, WIRING_GUEST_CID = 3 };

/**
 * struct wiring_options - as they were written.
 * @disks: FILE, FILE:ro, FILE:overlay (private, in memory) or FILE:overlay=FILE
 * @nets: as net_option_parse() takes them
 * @vsock: path of the unix socket, or NULL
 * @hostname: what the guest is to be called, or NULL
 * @restore: for a machine that is restored, where a card has a MAC already
 */
struct wiring_options {
	const char *disks[WIRING_DISKS_MAX];
	unsigned disk_count;
	const char *nets[WIRING_NETS_MAX];
	unsigned net_count;
	const char *vsock;
	const char *hostname;
	bool restore;
};

/**
 * wiring_add() - make all devices, in an order that depends on their number only: entropy, balloon,
 * vsock, disks, network cards.
 * @ret_vsock: the vsock device, for services; the machine's
 * @ret_who: what the agent is to be told for it
 * Return: 0 or -errno with a log line.
 */
int wiring_add(struct machine *m, const struct wiring_options *o, struct virtio_device **ret_vsock,
	       struct agent_identity *ret_who);

#endif
