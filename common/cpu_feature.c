/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_feature.c - the features of a CPU that a snapshot may need, and their names */
#include "common/cpu_feature.h"

#include <stdio.h>
#include <unistd.h>

#include "common/host_cpuid.h"
#include "common/util.h"

#define F(w, b, n)                                                                                 \
	{                                                                                          \
		GUEST_CPU_##w, b, 0, 0, n                                                          \
	}
#define V3(w, b, n)                                                                                \
	{                                                                                          \
		GUEST_CPU_##w, b, CPU_IN_V3, 0, n                                                  \
	}
#define X(w, b, n, x)                                                                              \
	{                                                                                          \
		GUEST_CPU_##w, b, 0, XCR0_##x, n                                                   \
	}
#define VX(w, b, n, x)                                                                             \
	{                                                                                          \
		GUEST_CPU_##w, b, CPU_IN_V3, x, n                                                  \
	}

/* Bits that only kernels can use are not here: they never keep a snapshot from a host. */
const struct cpu_feature cpu_feature_table[] = {
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
const size_t cpu_feature_count = ARRAY_SIZE(cpu_feature_table);

/* Name of a bit, for people. */
static void name_bit(unsigned w, unsigned bit, char *name, size_t n)
{
	bool absent = w == GUEST_CPU_XCR0 && bit >= GUEST_CPU_XCR0_ABSENT;

	if (absent)
		bit -= GUEST_CPU_XCR0_ABSENT;
	for (size_t i = 0; i < cpu_feature_count; i++) {
		if (cpu_feature_table[i].word == w && cpu_feature_table[i].bit == bit) {
			snprintf(name, n, "%s%s", absent ? "an XCR0 without " : "",
				 cpu_feature_table[i].name);
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

int cpu_host_has_virtualization(void)
{
	return host_cpuid(1, 0).ecx & 1u << 5 ||	/* VMX */
	       host_cpuid(0x80000001, 0).ecx & 1u << 2; /* SVM */
}

bool cpu_host_runs_kernels(void)
{
	return cpu_host_has_virtualization() && access("/sys/module/kvm_pvm", F_OK);
}
