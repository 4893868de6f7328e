/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest_abi.h - numbers that the vmm, the guest and the snapshot file agree on
 *
 * Guest-physical memory has two slots. The system slot holds what belongs to the host kind (GDT,
 * TSS, IDT, stubs, trampoline, vDSO clock data); it is rebuilt by every vmm and never captured. RAM
 * holds everything that is the guest's.
 */
#ifndef QUICKTHAW_GUEST_ABI_H
#define QUICKTHAW_GUEST_ABI_H

#define GUEST_SYSTEM_GPA   0x0ull
#define GUEST_SYSTEM_BYTES 0x100000ull /* 1 MiB reserved, a few pages used */
#define GUEST_RAM_GPA	   0x40000000ull

/** The one port that ring 3 may write: a doorbell for system calls and exceptions. */
#define GUEST_DOORBELL_PORT 0xf4

/**
 * User address space of process guests: as Linux has it, below 47 bits. The top 2 GiB of the lower
 * half are never handed out by mmap; the system slot is mapped there (vmm/system_slot.h). It is not
 * in the upper half because ring 3 runs natively on a PVM host, where that half is the host's.
 */
#define GUEST_USER_GVA_MIN 0x10000ull
#define GUEST_USER_GVA_MAX 0x7fff80000000ull
#define GUEST_SYSTEM_GVA   0x7fff80000000ull

/**
 * Words of snapshot_params.cpu_features: CPUID registers as the guest saw them.
 * A host may restore only if (host & word) == word for each.
 */
enum guest_cpu_word {
	GUEST_CPU_1_ECX,
	GUEST_CPU_1_EDX,
	GUEST_CPU_7_EBX,
	GUEST_CPU_7_ECX,
	GUEST_CPU_7_EDX,
	GUEST_CPU_80000001_ECX,
	GUEST_CPU_80000001_EDX,
	GUEST_CPU_XCR0, /**< state components enabled in the guest; above GUEST_CPU_XCR0_ABSENT
			     those that must not be (vmm/cpu_features.h says why) */
};
#define GUEST_CPU_XCR0_ABSENT 32

/** Guest kinds, as in snapshot_params.guest_kind. */
enum guest_kind { GUEST_KIND_PROCESS = 1, GUEST_KIND_KERNEL = 2 };

#endif
