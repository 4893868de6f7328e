/* SPDX-License-Identifier: Apache-2.0 */
/* kvm_pre_fault.h - KVM_PRE_FAULT_MEMORY, which Linux 6.10 has and Debian 12's headers do not */
#ifndef QUICKTHAW_COMMON_KVM_PRE_FAULT_H
#define QUICKTHAW_COMMON_KVM_PRE_FAULT_H

#include <linux/kvm.h>
#include <stdint.h>

#ifndef KVM_PRE_FAULT_MEMORY
/**
 * struct kvm_pre_fault_memory - guest memory to map into the guest's second-level page tables.
 * @gpa, @size: in pages; KVM takes off what is done, also when it stops early
 * Source: KVM API section 4.143.
 */
struct kvm_pre_fault_memory {
	uint64_t gpa;
	uint64_t size;
	uint64_t flags;
	uint64_t padding[5];
};
#define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif

#endif
