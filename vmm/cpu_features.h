/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_features.h - which CPU a guest sees, and whether a snapshot's guest can go on here
 *
 * A program looks at CPUID once and keeps what it decided, so a snapshot may only be restored where
 * everything that its guest saw is there. A baseline makes guests see less, so that their snapshots
 * can go to more hosts. Hardware KVM masks CPUID. A PVM host may not, or not all of it: there a
 * baseline limits what well-known libraries use, by environment variables that a boot must add
 * (cpu_baseline_env()), and the snapshot requires the baseline only. So what counts is not what
 * KVM was told but what ring 3 finds: a probe looks (vm.c).
 *
 * XCR0 is special: the dynamic linker sizes the buffer that it gives to XSAVE by the XCR0 which it
 * finds at its start, and XSAVE writes as much as the XCR0 of the moment asks for. More components
 * on the host of the restore would overwrite the program's stack. So GUEST_CPU_XCR0 also has a bit
 * for each component that must be absent; a baseline lets nothing depend on it (LD_BIND_NOW: the
 * dynamic linker does not save registers around lazy bindings, as there are none).
 */
#ifndef QUICKTHAW_VMM_CPU_FEATURES_H
#define QUICKTHAW_VMM_CPU_FEATURES_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cpu_feature.h"
#include "include/guest_abi.h"
#include "include/snapd_proto.h"

struct vm;

/**
 * vm_set_cpu_baseline() - choose the baseline before vm_new().
 * @name: "host" (the default: everything there is) or "x86-64-v3" (psABI level 3, and AES,
 *	PCLMULQDQ, RDRAND and FSGSBASE, which every such CPU has)
 * Return: 0, or -EINVAL for another name.
 */
int vm_set_cpu_baseline(const char *name);
/** vm_cpu_baseline() - the name of the baseline in force. */
const char *vm_cpu_baseline(void);
/**
 * cpu_baseline_env() - what a boot adds to the program's environment.
 * Return: static strings "NAME=value", ended by NULL; none under the baseline "host".
 */
char *const *cpu_baseline_env(const struct vm *vm);

/** cpu_host_xcr0() - XCR0 of this host, by XGETBV. */
uint64_t cpu_host_xcr0(void);
/** cpu_xsave_offset() - place of state component @n in a host XSAVE area, 0 if absent. */
uint32_t cpu_xsave_offset(unsigned n);

/**
 * cpu_features_mask() - take out of @cpuid what needs state components outside @xcr0, what the
 * baseline does not have, and what a guest of this kind has no use for.
 */
void cpu_features_mask(struct kvm_cpuid2 *cpuid, uint64_t xcr0, enum guest_kind kind);
/**
 * cpu_features_of_kernel() - what a kernel guest's snapshots require: every bit counts, also those
 * that only kernels use. Of KVM_GET_SUPPORTED_CPUID it is what a host can give.
 */
void cpu_features_of_kernel(const struct kvm_cpuid2 *cpuid, uint64_t xcr0, uint64_t ret[CPU_WORDS]);
/**
 * cpu_features_of_ring3() - what a guest's snapshots require: what it sees, cut to the baseline.
 * @seen: the words of CPUID as ring 3 finds them
 * @xcr0: what XGETBV returns there
 */
void cpu_features_of_ring3(const uint32_t seen[GUEST_CPU_XCR0], uint64_t xcr0,
			   uint64_t ret[CPU_WORDS]);
/** cpu_baseline_holds() - does ring 3 see nothing that the baseline lacks? */
bool cpu_baseline_holds(const uint32_t seen[GUEST_CPU_XCR0], uint64_t xcr0);
/** cpu_features_of_host() - cpu_features_of_ring3() of a guest that sees this host's CPUID. */
void cpu_features_of_host(uint64_t xcr0, uint64_t ret[CPU_WORDS]);
/** cpu_features_have() - what a snapshot may require here, whatever the baseline is now. */
void cpu_features_have(uint64_t xcr0, uint64_t ret[CPU_WORDS]);

#endif
