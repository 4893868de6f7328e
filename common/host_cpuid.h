/* SPDX-License-Identifier: Apache-2.0 */
/* host_cpuid.h - what CPUID says on this host, and what of it KVM can offer to guests */
#ifndef QUICKTHAW_COMMON_HOST_CPUID_H
#define QUICKTHAW_COMMON_HOST_CPUID_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * In a virtual machine each CPUID instruction is an exit to its hypervisor: 6 to 20 us, where KVM's
 * list alone takes some sixty. The answers are the same for every microVM of a host, so snapd asks
 * once and hands them to each by a sealed memfd.
 */

enum { HOST_CPUID_ENTRIES_MAX = 256 };

/** struct host_cpuid_regs - an answer; all 0 for a leaf that the host does not have. */
struct host_cpuid_regs {
	uint32_t eax, ebx, ecx, edx;
};

/** host_cpuid() - one leaf; from what was imported, else by the instruction. */
struct host_cpuid_regs host_cpuid(uint32_t leaf, uint32_t subleaf);

/**
 * host_cpuid_supported() - KVM_GET_SUPPORTED_CPUID; from what was imported, else from KVM.
 * @ret: with room for HOST_CPUID_ENTRIES_MAX entries
 * Return: 0 or -errno.
 */
int host_cpuid_supported(int kvm_fd, struct kvm_cpuid2 *ret);

/** host_cpuid_export() - ask now. @ret_fd: for host_cpuid_import(); the caller's. Return: 0 or
 * -errno. */
int host_cpuid_export(int kvm_fd, int *ret_fd);

/** host_cpuid_import() - answer from @fd, which snapd made, from now on; it stays the caller's.
 * Before other threads exist. Return: 0 or -errno: nothing changes. */
int host_cpuid_import(int fd);

#endif
