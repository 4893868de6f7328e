/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_features.h - which CPU a guest sees, and whether a snapshot's guest can go on here
 *
 * A program looks at CPUID once and keeps what it decided, so a snapshot may only be restored where
 * everything that its guest saw is there. A baseline makes guests see less, so that their snapshots
 * can go to more hosts. Hardware KVM masks CPUID. A PVM host cannot: there a baseline limits what
 * well-known libraries use, by environment variables that a boot must add
 * (cpu_baseline_environment()), and the snapshot requires the baseline only.
 */
#ifndef QUICKTHAW_VMM_CPU_FEATURES_H
#define QUICKTHAW_VMM_CPU_FEATURES_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#include "include/guest_abi.h"
#include "include/snapd_proto.h"

enum { CPU_WORDS = 8 };

/**
 * cpu_baseline_set() - choose the baseline before vm_new().
 * @name: "host" (the default: everything there is) or "x86-64-v3" (psABI level 3, and AES,
 *	PCLMULQDQ, RDRAND and FSGSBASE, which every such CPU has)
 * Return: 0, or -EINVAL for another name.
 */
int cpu_baseline_set(const char *name);
/** cpu_baseline_name() - the baseline in force. */
const char *cpu_baseline_name(void);
/**
 * cpu_baseline_environment() - what a boot adds to the program's environment.
 * @ret: room for two strings "NAME=value", static
 * Return: how many: 0 where CPUID is masked or there is nothing to limit.
 */
int cpu_baseline_environment(enum proto_host_kind kind, const char *ret[2]);

/** cpu_host_xcr0() - XCR0 of this host, by XGETBV. */
uint64_t cpu_host_xcr0(void);
/** cpu_host_has_virtualization() - whether CPUID shows VMX or SVM, which hardware KVM needs. */
int cpu_host_has_virtualization(void);
/** cpu_xsave_offset() - place of state component @n in a host XSAVE area, 0 if absent. */
uint32_t cpu_xsave_offset(unsigned n);

/**
 * cpu_features_mask() - take out of @cpuid what needs state components outside @xcr0, and what the
 * baseline does not have.
 */
void cpu_features_mask(struct kvm_cpuid2 *cpuid, uint64_t xcr0);
/** cpu_features_of_cpuid() - enum guest_cpu_word of a CPUID table as given to KVM. */
void cpu_features_of_cpuid(const struct kvm_cpuid2 *cpuid, uint64_t xcr0, uint64_t ret[CPU_WORDS]);
/** cpu_features_of_host() - the same for this CPU (what ring 3 sees on PVM), cut to the baseline. */
void cpu_features_of_host(uint64_t xcr0, uint64_t ret[CPU_WORDS]);
/**
 * cpu_features_missing() - features in @need that @have lacks.
 * @text: their names with ", " between, cut at @n; empty when nothing is missing
 * Return: how many are missing; 0: a snapshot that needs @need can be restored.
 */
int cpu_features_missing(const uint64_t need[CPU_WORDS], const uint64_t have[CPU_WORDS], char *text,
			 size_t n);

#endif
