/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_features.c - which CPU a guest sees, and whether a snapshot's guest can go on here */
#include "vmm/cpu_features.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/vm.h"

/* XCR0 components (SDM vol. 1, 13.1). */
#define XCR0_BASE   0x7ull
#define XCR0_MPX    0x18ull
#define XCR0_AVX512 0xe0ull
#define XCR0_PKRU   0x200ull
#define XCR0_AMX    0x60000ull
#define XCR0_APX    0x80000ull
#define XCR0_ALL    (XCR0_BASE | XCR0_MPX | XCR0_AVX512 | XCR0_PKRU | XCR0_AMX | XCR0_APX)

enum { IN_V3 = 1 };

/**
 * struct feature - one CPUID bit that a program can act on.
 * @xcr0: state components without which it must not be seen
 * @flags: IN_V3: part of the baseline x86-64-v3
 */
struct feature {
	uint8_t word;
	uint8_t bit;
	uint8_t flags;
	uint32_t xcr0;
	const char *name;
};

#define F(w, b, n)                                                                                 \
	{                                                                                          \
		GUEST_CPU_##w, b, 0, 0, n                                                          \
	}
#define V3(w, b, n)                                                                                \
	{                                                                                          \
		GUEST_CPU_##w, b, IN_V3, 0, n                                                      \
	}
#define X(w, b, n, x)                                                                              \
	{                                                                                          \
		GUEST_CPU_##w, b, 0, XCR0_##x, n                                                   \
	}
#define VX(w, b, n, x)                                                                             \
	{                                                                                          \
		GUEST_CPU_##w, b, IN_V3, x, n                                                      \
	}

/* Bits that only kernels can use are not here: they never keep a snapshot from a host. */
static const struct feature features[] = {
	V3(1_ECX, 0, "sse3"),
	V3(1_ECX, 1, "pclmulqdq"),
	V3(1_ECX, 9, "ssse3"),
	VX(1_ECX, 12, "fma", 4),
	V3(1_ECX, 13, "cx16"),
	V3(1_ECX, 19, "sse4_1"),
	V3(1_ECX, 20, "sse4_2"),
	V3(1_ECX, 22, "movbe"),
	V3(1_ECX, 23, "popcnt"),
	V3(1_ECX, 25, "aes"),
	V3(1_ECX, 26, "xsave"),
	VX(1_ECX, 28, "avx", 4),
	VX(1_ECX, 29, "f16c", 4),
	V3(1_ECX, 30, "rdrand"),
	V3(1_EDX, 0, "fpu"),
	V3(1_EDX, 4, "tsc"),
	V3(1_EDX, 8, "cx8"),
	V3(1_EDX, 15, "cmov"),
	V3(1_EDX, 19, "clflush"),
	V3(1_EDX, 23, "mmx"),
	V3(1_EDX, 24, "fxsr"),
	V3(1_EDX, 25, "sse"),
	V3(1_EDX, 26, "sse2"),
	V3(7_EBX, 0, "fsgsbase"),
	V3(7_EBX, 3, "bmi1"),
	F(7_EBX, 4, "hle"),
	VX(7_EBX, 5, "avx2", 4),
	V3(7_EBX, 8, "bmi2"),
	F(7_EBX, 11, "rtm"),
	X(7_EBX, 14, "mpx", MPX),
	X(7_EBX, 16, "avx512f", AVX512),
	X(7_EBX, 17, "avx512dq", AVX512),
	F(7_EBX, 18, "rdseed"),
	F(7_EBX, 19, "adx"),
	X(7_EBX, 21, "avx512ifma", AVX512),
	F(7_EBX, 23, "clflushopt"),
	F(7_EBX, 24, "clwb"),
	X(7_EBX, 26, "avx512pf", AVX512),
	X(7_EBX, 27, "avx512er", AVX512),
	X(7_EBX, 28, "avx512cd", AVX512),
	F(7_EBX, 29, "sha"),
	X(7_EBX, 30, "avx512bw", AVX512),
	X(7_EBX, 31, "avx512vl", AVX512),
	F(7_ECX, 0, "prefetchwt1"),
	X(7_ECX, 1, "avx512_vbmi", AVX512),
	X(7_ECX, 3, "pku", PKRU),
	X(7_ECX, 4, "ospke", PKRU),
	F(7_ECX, 5, "waitpkg"),
	X(7_ECX, 6, "avx512_vbmi2", AVX512),
	F(7_ECX, 8, "gfni"),
	F(7_ECX, 9, "vaes"),
	F(7_ECX, 10, "vpclmulqdq"),
	X(7_ECX, 11, "avx512_vnni", AVX512),
	X(7_ECX, 12, "avx512_bitalg", AVX512),
	X(7_ECX, 14, "avx512_vpopcntdq", AVX512),
	F(7_ECX, 22, "rdpid"),
	F(7_ECX, 25, "cldemote"),
	F(7_ECX, 27, "movdiri"),
	F(7_ECX, 28, "movdir64b"),
	X(7_EDX, 2, "avx512_4vnniw", AVX512),
	X(7_EDX, 3, "avx512_4fmaps", AVX512),
	X(7_EDX, 8, "avx512_vp2intersect", AVX512),
	F(7_EDX, 14, "serialize"),
	F(7_EDX, 16, "tsxldtrk"),
	X(7_EDX, 22, "amx_bf16", AMX),
	X(7_EDX, 23, "avx512_fp16", AVX512),
	X(7_EDX, 24, "amx_tile", AMX),
	X(7_EDX, 25, "amx_int8", AMX),
	V3(80000001_ECX, 0, "lahf_lm"),
	V3(80000001_ECX, 5, "abm"),
	F(80000001_ECX, 6, "sse4a"),
	F(80000001_ECX, 7, "misalignsse"),
	F(80000001_ECX, 8, "3dnowprefetch"),
	F(80000001_ECX, 11, "xop"),
	F(80000001_ECX, 16, "fma4"),
	F(80000001_ECX, 21, "tbm"),
	V3(80000001_EDX, 11, "syscall"),
	V3(80000001_EDX, 20, "nx"),
	F(80000001_EDX, 22, "mmxext"),
	F(80000001_EDX, 27, "rdtscp"),
	V3(80000001_EDX, 29, "lm"),
	F(80000001_EDX, 30, "3dnowext"),
	F(80000001_EDX, 31, "3dnow"),
	VX(XCR0, 0, "x87 state", 1),
	VX(XCR0, 1, "sse state", 2),
	VX(XCR0, 2, "avx state", 4),
	X(XCR0, 5, "avx512 opmask state", AVX512),
	X(XCR0, 6, "avx512 zmm_hi256 state", AVX512),
	X(XCR0, 7, "avx512 hi16_zmm state", AVX512),
};

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

	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		const struct feature *f = &features[i];

		if (f->word == w && (f->xcr0 & xcr0) == f->xcr0 &&
		    (!baseline_v3 || (f->flags & IN_V3)))
			bits |= 1ull << f->bit;
	}
	return bits;
}

/* All bits of word @w that the table names. */
static uint64_t known_bits(unsigned w)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (features[i].word == w)
			bits |= 1ull << features[i].bit;
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
	if (vm->host_kind != PROTO_HOST_PVM)
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
	uint32_t a, b, c, d;

	/* XGETBV is there once the kernel has set OSXSAVE. */
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return (uint64_t)d << 32 | a;
}

int cpu_host_has_virtualization(void)
{
	uint32_t a, b, c, d;

	if (__get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 5))
		return 1;						 /* VMX */
	return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & 1u << 2); /* SVM */
}

uint32_t cpu_xsave_offset(unsigned n)
{
	uint32_t a, b, c, d;

	if (!__get_cpuid_count(0xd, n, &a, &b, &c, &d) || !a)
		return 0;
	return b;
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

static void mask_xsave_leaf(struct kvm_cpuid_entry2 *e, uint64_t xcr0)
{
	if (e->index == 0) {
		e->eax &= (uint32_t)xcr0;
		e->edx &= (uint32_t)(xcr0 >> 32);
		if (xcr0 == XCR0_BASE)
			e->ebx = e->ecx = 832; /* legacy 512, header 64, AVX 256 */
	} else if (e->index == 1) {
		/* XSAVES is for kernels; XSAVEC is no part of the baseline. */
		e->eax &= ~8u;
		if (baseline_v3)
			e->eax &= 1u;
		e->ebx = e->ecx = e->edx = 0;
	} else if (e->index >= 63 || !(xcr0 >> e->index & 1)) {
		e->eax = e->ebx = e->ecx = e->edx = 0;
	}
}

static void mask_entry(struct kvm_cpuid_entry2 *e, uint64_t xcr0)
{
	bool avx512 = (xcr0 & XCR0_AVX512) == XCR0_AVX512;

	for (unsigned w = 0; w < GUEST_CPU_XCR0; w++) {
		uint32_t *reg = word_of_entry(e, w);

		if (reg)
			*reg &= (uint32_t)(~known_bits(w) | visible_bits(w, xcr0));
	}
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
		mask_xsave_leaf(e, xcr0);
		break;
	case 0x1d: /* AMX */
	case 0x1e:
	case 0x24: /* AVX10 */
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 0x40000001: /* KVM's paravirtual MSRs are a kernel's */
		e->eax = e->edx = 0;
		break;
	}
}

void cpu_features_mask(struct kvm_cpuid2 *cpuid, uint64_t xcr0)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		mask_entry(&cpuid->entries[i], xcr0);
}

/* Components that are there, and above them those that are not; see cpu_features.h. */
static uint64_t xcr0_word(uint64_t xcr0)
{
	uint64_t word = xcr0 & visible_bits(GUEST_CPU_XCR0, xcr0);

	return baseline_v3 ? word : word | (~xcr0 & XCR0_ALL) << GUEST_CPU_XCR0_ABSENT;
}

void cpu_features_of_cpuid(const struct kvm_cpuid2 *cpuid, uint64_t xcr0, uint64_t ret[CPU_WORDS])
{
	memset(ret, 0, CPU_WORDS * sizeof(ret[0]));
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 e = cpuid->entries[i];

		for (unsigned w = 0; w < GUEST_CPU_XCR0; w++) {
			const uint32_t *reg = word_of_entry(&e, w);

			if (reg)
				ret[w] = *reg & visible_bits(w, xcr0);
		}
	}
	ret[GUEST_CPU_XCR0] = xcr0_word(xcr0);
}

void cpu_features_of_host(uint64_t xcr0, uint64_t ret[CPU_WORDS])
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[3];
	} c = {.head.nent = 3};
	static const uint32_t leaves[] = {1, 7, 0x80000001};

	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++) {
		struct kvm_cpuid_entry2 *e = &c.entries[i];

		e->function = leaves[i];
		__get_cpuid_count(leaves[i], 0, &e->eax, &e->ebx, &e->ecx, &e->edx);
	}
	cpu_features_of_cpuid(&c.head, xcr0, ret);
}

void cpu_features_have(uint64_t xcr0, uint64_t ret[CPU_WORDS])
{
	bool v3 = baseline_v3;

	baseline_v3 = false;
	cpu_features_of_host(xcr0, ret);
	baseline_v3 = v3;
}

/* Name of a bit, for people. */
static void name_bit(unsigned w, unsigned bit, char *name, size_t n)
{
	bool absent = w == GUEST_CPU_XCR0 && bit >= GUEST_CPU_XCR0_ABSENT;

	if (absent)
		bit -= GUEST_CPU_XCR0_ABSENT;
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		if (features[i].word == w && features[i].bit == bit) {
			snprintf(name, n, "%s%s", absent ? "an XCR0 without " : "",
				 features[i].name);
			return;
		}
	}
	snprintf(name, n, "%scpuid word %u bit %u", absent ? "absence of " : "", w, bit);
}

int cpu_features_missing(const uint64_t need[CPU_WORDS], const uint64_t have[CPU_WORDS], char *text,
			 size_t n)
{
	int missing = 0;
	size_t used = 0;

	if (n)
		text[0] = '\0';
	for (unsigned w = 0; w < CPU_WORDS; w++) {
		uint64_t lack = need[w] & ~have[w];

		for (unsigned bit = 0; bit < 64; bit++) {
			char name[64];

			if (!(lack >> bit & 1))
				continue;
			missing++;
			name_bit(w, bit, name, sizeof(name));
			if (used < n)
				used += (size_t)snprintf(text + used, n - used, "%s%s",
							 used ? ", " : "", name);
		}
	}
	return missing;
}
