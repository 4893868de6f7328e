/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_features.c - which CPU a guest sees, and whether a snapshot's guest can go on here */
#include "vmm/cpu_features.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/host_cpuid.h"
#include "common/log.h"
#include "common/util.h"
#include "vmm/vm.h"

/* glibc: features that it would choose code by and that the baseline lacks. */
static char env_glibc[] = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX512CD,-AVX512BW,"
			  "-AVX512DQ,-AVX512VL,-AVX512ER,-AVX512PF,-XSAVEC,-RTM";

static bool baseline_v3;

int vm_set_cpu_baseline(const char *name)
{
	if (strcmp(name, "host") && strcmp(name, "x86-64-v3"))
		return -EINVAL;
	baseline_v3 = name[0] == 'x';
	return 0;
}

const char *vm_cpu_baseline(void)
{
	return baseline_v3 ? "x86-64-v3" : "host";
}

/* What the table lets a guest see of word @w. */
static uint64_t visible_bits(unsigned w, uint64_t xcr0)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < cpu_feature_count; i++) {
		const struct cpu_feature *f = &cpu_feature_table[i];

		if (f->word == w && (f->xcr0 & xcr0) == f->xcr0 &&
		    (!baseline_v3 || (f->flags & CPU_IN_V3)))
			bits |= 1ull << f->bit;
	}
	return bits;
}

/* All bits of word @w that the table names. */
static uint64_t known_bits(unsigned w)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < cpu_feature_count; i++)
		if (cpu_feature_table[i].word == w)
			bits |= 1ull << cpu_feature_table[i].bit;
	return bits;
}

char *const *cpu_baseline_env(const struct vm *vm)
{
	static char bind_now[] = "LD_BIND_NOW=1";
	static char openssl[80];
	static char *env[4];
	uint64_t drop;

	memset(env, 0, sizeof(env));
	if (!baseline_v3)
		return env;
	env[0] = bind_now;
	if (vm->baseline_holds)
		return env;
	/* OPENSSL_ia32cap(3): vector of leaf 1 left alone, of leaf 7 EBX | ECX << 32 cut. */
	drop = known_bits(GUEST_CPU_7_EBX) & ~visible_bits(GUEST_CPU_7_EBX, XCR0_BASE);
	drop |= (known_bits(GUEST_CPU_7_ECX) & ~visible_bits(GUEST_CPU_7_ECX, XCR0_BASE)) << 32;
	snprintf(openssl, sizeof(openssl), "OPENSSL_ia32cap=~0x0:~0x%llx",
		 (unsigned long long)drop);
	env[1] = env_glibc;
	env[2] = openssl;
	return env;
}

uint64_t cpu_host_xcr0(void)
{
	uint32_t a, d;

	/* XGETBV is there once the kernel has set OSXSAVE. */
	if (!(host_cpuid(1, 0).ecx & bit_OSXSAVE))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return (uint64_t)d << 32 | a;
}

uint32_t cpu_xsave_offset(unsigned n)
{
	struct host_cpuid_regs r = host_cpuid(0xd, n);

	return r.eax ? r.ebx : 0;
}

/* The register of a CPUID entry that is word @w, or NULL. */
static uint32_t *word_of_entry(struct kvm_cpuid_entry2 *e, unsigned w)
{
	switch (w) {
	case GUEST_CPU_1_ECX:
		return e->function == 1 ? &e->ecx : NULL;
	case GUEST_CPU_1_EDX:
		return e->function == 1 ? &e->edx : NULL;
	case GUEST_CPU_7_EBX:
		return e->function == 7 && !e->index ? &e->ebx : NULL;
	case GUEST_CPU_7_ECX:
		return e->function == 7 && !e->index ? &e->ecx : NULL;
	case GUEST_CPU_7_EDX:
		return e->function == 7 && !e->index ? &e->edx : NULL;
	case GUEST_CPU_80000001_ECX:
		return e->function == 0x80000001 ? &e->ecx : NULL;
	case GUEST_CPU_80000001_EDX:
		return e->function == 0x80000001 ? &e->edx : NULL;
	default:
		return NULL;
	}
}

static void mask_xsave_leaf(struct kvm_cpuid_entry2 *e, uint64_t xcr0, enum guest_kind kind)
{
	if (e->index == 0) {
		e->eax &= (uint32_t)xcr0;
		e->edx &= (uint32_t)(xcr0 >> 32);
		if (xcr0 == XCR0_BASE)
			e->ebx = e->ecx = 832; /* legacy 512, header 64, AVX 256 */
	} else if (e->index == 1) {
		/* XSAVES has state of its own, in an MSR; XSAVEC is no part of the baseline, and a
		 * kernel does not take one without the other. */
		e->eax &= ~8u;
		if (baseline_v3 || kind == GUEST_KIND_KERNEL)
			e->eax &= 1u;
		e->ebx = e->ecx = e->edx = 0;
	} else if (e->index >= 63 || !(xcr0 >> e->index & 1)) {
		e->eax = e->ebx = e->ecx = e->edx = 0;
	}
}

/*
 * What only kernels use, of a baseline's CPUs: SMEP and TSC_ADJUST, the x2APIC and the timer that
 * KVM makes, and what every 64-bit CPU has. Not SMAP nor PCID: half of them lack one.
 */
static const uint32_t kernel_baseline[GUEST_CPU_XCR0] = {
	[GUEST_CPU_1_ECX] = 1u << 21 | 1u << 24 | 1u << 27 | 1u << 31,
	[GUEST_CPU_1_EDX] = 1u << 2 | 1u << 3 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 9 | 1u << 11 |
			    1u << 12 | 1u << 13 | 1u << 14 | 1u << 16 | 1u << 17 | 1u << 28,
	[GUEST_CPU_7_EBX] = 1u << 1 | 1u << 7,
	[GUEST_CPU_80000001_EDX] = 1u << 2 | 1u << 3 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 9 |
				   1u << 12 | 1u << 13 | 1u << 14 | 1u << 16 | 1u << 17,
};

/* Features of KVM that wait for something of the host's while a snapshot may be made: asynchronous
 * page faults (Documentation/virt/kvm/x86/cpuid.rst). */
#define KVM_FEATURES_ASYNC_PF (1u << 4 | 1u << 10 | 1u << 14)

/* Virtualisation for the guest's own guests: KVM keeps state for it that a snapshot does not have
 * (Documentation/virt/kvm/api.rst, KVM_GET_NESTED_STATE). */
static void mask_nested(struct kvm_cpuid_entry2 *e)
{
	switch (e->function) {
	case 1:
		e->ecx &= ~(1u << 5); /* VMX */
		break;
	case 0x80000001:
		e->ecx &= ~(1u << 2); /* SVM */
		break;
	case 0x8000000a: /* what there is of SVM */
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	}
}

static void mask_entry(struct kvm_cpuid_entry2 *e, uint64_t xcr0, enum guest_kind kind)
{
	bool avx512 = (xcr0 & XCR0_AVX512) == XCR0_AVX512;

	for (unsigned w = 0; w < GUEST_CPU_XCR0; w++) {
		uint32_t *reg = word_of_entry(e, w);

		if (reg)
			*reg &= (uint32_t)(~known_bits(w) | visible_bits(w, xcr0));
		if (reg && kind == GUEST_KIND_KERNEL && baseline_v3)
			*reg &= kernel_baseline[w] | (uint32_t)visible_bits(w, xcr0);
	}
	if (kind == GUEST_KIND_KERNEL)
		mask_nested(e);
	switch (e->function) {
	case 1:
		e->ecx &= ~(1u << 3); /* MONITOR: ring 0 only, and KVM may offer it */
		break;
	case 7:
		if (e->index == 0) {
			e->eax = MIN(e->eax, 1u);
			e->ecx &= ~(1u << 7); /* CET: there is no shadow stack here */
			e->edx &= ~(1u << 20);
		} else if (e->index == 1) {
			/* AVX512_BF16, AMX and AVX10 and APX; the rest of the leaf is young. */
			e->eax &= avx512 ? ~(1u << 21) : ~(1u << 5 | 1u << 21);
			e->edx = 0;
			if (baseline_v3)
				e->eax = 0;
		} else {
			e->eax = e->ebx = e->ecx = e->edx = 0;
		}
		break;
	case 0xd:
		mask_xsave_leaf(e, xcr0, kind);
		break;
	case 0x1d: /* AMX */
	case 0x1e:
	case 0x24: /* AVX10 */
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 0x40000001: /* KVM's paravirtual MSRs are a kernel's */
		e->eax &= kind == GUEST_KIND_KERNEL ? ~KVM_FEATURES_ASYNC_PF : 0;
		if (kind == GUEST_KIND_PROCESS)
			e->edx = 0;
		break;
	}
}

void cpu_features_mask(struct kvm_cpuid2 *cpuid, uint64_t xcr0, enum guest_kind kind)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		mask_entry(&cpuid->entries[i], xcr0, kind);
}

/* They change while a guest runs (OSXSAVE, OSPKE), or the vmm makes them up (hypervisor, HTT). */
static const uint32_t not_of_the_host[GUEST_CPU_XCR0] = {
	[GUEST_CPU_1_ECX] = 1u << 27 | 1u << 31,
	[GUEST_CPU_1_EDX] = 1u << 28,
	[GUEST_CPU_7_ECX] = 1u << 4,
};

void cpu_features_of_kernel(const struct kvm_cpuid2 *cpuid, uint64_t xcr0, uint64_t ret[CPU_WORDS])
{
	memset(ret, 0, CPU_WORDS * sizeof(ret[0]));
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 e = cpuid->entries[i];

		for (unsigned w = 0; w < GUEST_CPU_XCR0; w++) {
			const uint32_t *reg = word_of_entry(&e, w);

			if (reg)
				ret[w] |= *reg & ~not_of_the_host[w];
		}
	}
	ret[GUEST_CPU_XCR0] = xcr0;
}

/* Components that are there, and above them those that are not; see cpu_features.h. */
static uint64_t xcr0_word(uint64_t xcr0)
{
	uint64_t word = xcr0 & visible_bits(GUEST_CPU_XCR0, xcr0);

	return baseline_v3 ? word : word | (~xcr0 & XCR0_ALL) << GUEST_CPU_XCR0_ABSENT;
}

void cpu_features_of_ring3(const uint32_t seen[GUEST_CPU_XCR0], uint64_t xcr0,
			   uint64_t ret[CPU_WORDS])
{
	memset(ret, 0, CPU_WORDS * sizeof(ret[0]));
	for (unsigned w = 0; w < GUEST_CPU_XCR0; w++)
		ret[w] = seen[w] & visible_bits(w, xcr0);
	ret[GUEST_CPU_XCR0] = xcr0_word(xcr0);
}

bool cpu_baseline_holds(const uint32_t seen[GUEST_CPU_XCR0], uint64_t xcr0)
{
	for (unsigned w = 0; w < GUEST_CPU_XCR0; w++)
		if (seen[w] & known_bits(w) & ~visible_bits(w, xcr0))
			return false;
	return true;
}

void cpu_features_of_host(uint64_t xcr0, uint64_t ret[CPU_WORDS])
{
	struct host_cpuid_regs basic = host_cpuid(1, 0), more = host_cpuid(7, 0);
	struct host_cpuid_regs extended = host_cpuid(0x80000001, 0);
	const uint32_t seen[GUEST_CPU_XCR0] = {
		[GUEST_CPU_1_ECX] = basic.ecx,
		[GUEST_CPU_1_EDX] = basic.edx,
		[GUEST_CPU_7_EBX] = more.ebx,
		[GUEST_CPU_7_ECX] = more.ecx,
		[GUEST_CPU_7_EDX] = more.edx,
		[GUEST_CPU_80000001_ECX] = extended.ecx,
		[GUEST_CPU_80000001_EDX] = extended.edx,
	};

	cpu_features_of_ring3(seen, xcr0, ret);
}

void cpu_features_have(uint64_t xcr0, uint64_t ret[CPU_WORDS])
{
	bool v3 = baseline_v3;

	baseline_v3 = false;
	cpu_features_of_host(xcr0, ret);
	baseline_v3 = v3;
}
