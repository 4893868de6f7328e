/* SPDX-License-Identifier: Apache-2.0 */
/* shell.h - a kernel guest's machine, made ahead of time, and its conversation with snapd */
#ifndef QUICKTHAW_KERNEL_SHELL_H
#define QUICKTHAW_KERNEL_SHELL_H

#include <stdint.h>

/**
 * kernel_shell_new() - the machine of this process: VM, memory slot, vCPUs and their threads, all
 * devices. Nothing of it has to be made any more when the guest is known: its disks are attached
 * then.
 * @kvm_fd: /dev/kvm, taken over
 * Return: 0 or -errno with a log line.
 */
int kernel_shell_new(int kvm_fd, uint64_t ram_bytes, unsigned vcpus);

/** kernel_shell_serve() - what control_serve_process() (vmm/control.h) is for process guests. */
int kernel_shell_serve(int sock, int uffd);

#endif
