/* SPDX-License-Identifier: Apache-2.0 */
/* command.h - one kernel guest from the command line, without snapd: boot, capture, restore */
#ifndef QUICKTHAW_KERNEL_COMMAND_H
#define QUICKTHAW_KERNEL_COMMAND_H

#include <stdint.h>

#include "vmm/kernel/layout.h"
#include "vmm/kernel/wiring.h"
#include "vmm/snapshot_file.h"

/** struct kernel_options - what a kernel guest on the command line is and does. */
struct kernel_options {
	char *const *argv; /**< what the agent is to start, once it is ready or restored; or NULL */
	char *const *envp; /**< and its environment */
	const char *kernel;
	const char *initrd; /**< or NULL */
	const char *cmdline;
	unsigned vcpus;
	uint64_t memory_bytes;
	struct wiring_options wiring;
	int serial_fd;	     /**< where its console goes, or -1 */
	uint64_t timeout_s;  /**< how long it may take to get ready; 0: as long as is usual */
	const char *capture; /**< snapshot to write once it is ready, or, after a restore, when it
				  has answered all payloads; or NULL */
	bool diff;	     /**< it is a diff on what was restored */
	const struct snapshot_file *restore; /**< to start from instead of a kernel, or NULL */
	const char *const *invokes;
	int invoke_count;
};

/**
 * kernel_command() - boot or restore the guest and serve it until its end.
 * @kvm_fd: /dev/kvm, taken over
 * Return: the exit status for the shell: 0 when it turned itself off or reset, or did all that was
 * asked; 1 for a bad end; 2 for a host without what it needs.
 */
int kernel_command(int kvm_fd, const struct kernel_options *options);

#endif
