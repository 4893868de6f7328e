/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_feature.h - the features of a CPU that a snapshot may need, and their names
 *
 * The vmm finds out what a guest saw and what its host has; both it and snapd compare the two
 * before a restore. Words are those of enum guest_cpu_word.
 */
#ifndef QUICKTHAW_COMMON_CPU_FEATURE_H
#define QUICKTHAW_COMMON_CPU_FEATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/guest_abi.h"

enum { CPU_WORDS = 8 };

/* XCR0 components (SDM vol. 1, 13.1). */
#define XCR0_BASE   0x7ull
#define XCR0_MPX    0x18ull
#define XCR0_AVX512 0xe0ull
#define XCR0_PKRU   0x200ull
#define XCR0_AMX    0x60000ull
#define XCR0_APX    0x80000ull
#define XCR0_ALL    (XCR0_BASE | XCR0_MPX | XCR0_AVX512 | XCR0_PKRU | XCR0_AMX | XCR0_APX)

enum { CPU_IN_V3 = 1 };

/**
 * struct cpu_feature - one CPUID bit that a program can act on.
 * @word: enum guest_cpu_word
 * @xcr0: state components without which it must not be seen
 * @flags: CPU_IN_V3: part of the baseline x86-64-v3
 */
struct cpu_feature {
	uint8_t word;
	uint8_t bit;
	uint8_t flags;
	uint32_t xcr0;
	const char *name;
};

extern const struct cpu_feature cpu_feature_table[];
extern const size_t cpu_feature_count;

/**
 * cpu_features_missing() - features in @need that @have lacks.
 * @text: their names with ", " between, cut at @n; empty when nothing is missing
 * Return: how many are missing; 0: a snapshot that needs @need can be restored.
 */
int cpu_features_missing(const uint64_t need[CPU_WORDS], const uint64_t have[CPU_WORDS], char *text,
			 size_t n);

/** cpu_host_has_virtualization() - whether CPUID shows VMX or SVM, which hardware KVM needs. */
int cpu_host_has_virtualization(void);
/** cpu_host_runs_kernels() - can KVM here run a whole kernel? PVM emulates ring 0, and SYSCALL does
 * not enter it. */
bool cpu_host_runs_kernels(void);
#define CPU_NO_KERNELS_TEXT                                                                        \
	"this host has KVM without VMX or SVM (PVM), which emulates ring 0, so a whole kernel "    \
	"cannot run on it: use a process guest, or a host with hardware KVM"

#endif
