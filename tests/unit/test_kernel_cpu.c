/* SPDX-License-Identifier: Apache-2.0 */
/* test_kernel_cpu.c - what a kernel guest sees of its CPU, and which snapshot's CPU it may keep; no
 * KVM */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/cpu_features.h"
#include "vmm/kernel/kvcpu.h"
#include "vmm/vm.h"

enum { INDEXED = KVM_CPUID_FLAG_SIGNIFCANT_INDEX };

#define VMX	  (1u << 5)
#define SVM	  (1u << 2)
#define AVX	  (1u << 28)
#define SSE4_2	  (1u << 20)
#define X2APIC	  (1u << 21)
#define AVX2	  (1u << 5)
#define RDSEED	  (1u << 18)
#define LONG_MODE (1u << 29)

/* A host with everything virtualisation has, of both makers. */
static const struct kvm_cpuid_entry2 host_entries[] = {
	{.function = 0, .eax = 0xd, .ebx = 0x68747541, .ecx = 0x444d4163, .edx = 0x69746e65},
	{.function = 1, .ecx = VMX | AVX | SSE4_2 | X2APIC, .edx = 1u << 25},
	{.function = 7, .index = 0, .flags = INDEXED, .eax = 2, .ebx = AVX2 | RDSEED},
	{.function = 7, .index = 1, .flags = INDEXED, .eax = 1u << 4},
	{.function = 0xd, .index = 0, .flags = INDEXED, .eax = 0xe7},
	{.function = 0xd, .index = 1, .flags = INDEXED, .eax = 0xf},
	{.function = 0x40000001, .eax = 0x1fb},
	{.function = 0x80000001, .ecx = SVM | 1, .edx = LONG_MODE},
	{.function = 0x8000000a, .eax = 1, .ebx = 8, .edx = 0x3f},
};

static void make_host(struct kvcpu_cpuid *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->entries, host_entries, sizeof(host_entries));
	ret->head.nent = ARRAY_SIZE(host_entries);
}

static struct kvm_cpuid_entry2 *find(struct kvcpu_cpuid *cpuid, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid->head.nent; i++)
		if (cpuid->entries[i].function == function && cpuid->entries[i].index == index)
			return &cpuid->entries[i];
	fail_msg("no leaf 0x%x, 0x%x", function, index);
	return NULL;
}

static void add(struct kvcpu_cpuid *cpuid, struct kvm_cpuid_entry2 e)
{
	assert_true(cpuid->head.nent < KVCPU_CPUID_MAX);
	cpuid->entries[cpuid->head.nent++] = e;
}

static void test_no_nested_virtualization(void **state)
{
	static struct kvcpu_cpuid cpuid;
	const struct kvm_cpuid_entry2 *svm;

	(void)state;
	make_host(&cpuid);
	kvcpu_cpuid_boot(&cpuid, 2);
	assert_int_equal(find(&cpuid, 1, 0)->ecx & VMX, 0);
	assert_int_equal(find(&cpuid, 1, 0)->ecx & SSE4_2, SSE4_2);
	assert_int_equal(find(&cpuid, 0x80000001, 0)->ecx, 1);
	svm = find(&cpuid, 0x8000000a, 0);
	assert_int_equal(svm->eax | svm->ebx | svm->ecx | svm->edx, 0);
}

/* A process guest has no ring 0 to use it in, and its snapshots keep what they had. */
static void test_process_guests_see_what_they_saw(void **state)
{
	static struct kvcpu_cpuid cpuid;

	(void)state;
	make_host(&cpuid);
	cpu_features_mask(&cpuid.head, VCPU_XCR0, GUEST_KIND_PROCESS);
	assert_int_equal(find(&cpuid, 1, 0)->ecx & VMX, VMX);
	assert_int_equal(find(&cpuid, 0x80000001, 0)->ecx & SVM, SVM);
	assert_int_equal(find(&cpuid, 0x8000000a, 0)->edx, 0x3f);
}

/* @cpuid through a snapshot. */
static int reload(const struct kvcpu_cpuid *cpuid, struct kvcpu_cpuid *ret)
{
	struct state_writer w = {0};
	struct state_reader r;
	int err;

	assert_int_equal(kvcpu_cpuid_save(cpuid, &w), 0);
	r = (struct state_reader){.data = w.data, .left = w.used};
	err = kvcpu_cpuid_load(ret, &r);
	state_writer_free(&w);
	return err;
}

static void test_a_snapshot_of_this_host_goes_on(void **state)
{
	static struct kvcpu_cpuid here, there, loaded;

	(void)state;
	make_host(&here);
	kvcpu_cpuid_boot(&here, 4);
	there = here;
	assert_int_equal(reload(&there, &loaded), 0);
	assert_memory_equal(&loaded, &here, sizeof(here));
	assert_int_equal(kvcpu_cpuid_check(&loaded, &here), 0);
	/* One with less, as from an older host. */
	find(&there, 7, 0)->ebx &= ~RDSEED;
	assert_int_equal(reload(&there, &loaded), 0);
	assert_int_equal(kvcpu_cpuid_check(&loaded, &here), 0);
	assert_int_equal(kvcpu_cpuid_check(&here, &loaded), -ENOTSUP);
}

static void test_a_snapshot_of_a_baseline_goes_on(void **state)
{
	static struct kvcpu_cpuid here, there;

	(void)state;
	make_host(&here);
	make_host(&there);
	assert_int_equal(vm_set_cpu_baseline("x86-64-v3"), 0);
	kvcpu_cpuid_boot(&there, 1);
	assert_int_equal(vm_set_cpu_baseline("host"), 0);
	kvcpu_cpuid_boot(&here, 1);
	assert_int_equal(kvcpu_cpuid_check(&there, &here), 0);
}

static void test_features_of_another_host_are_refused(void **state)
{
	static const struct {
		uint32_t function, index;
		struct kvm_cpuid_entry2 more;
	} more[] = {
		{0, 0, {.ebx = 2}}, /* the maker */
		{1, 0, {.ecx = VMX}},
		{1, 0, {.ecx = 1u << 12}}, /* FMA */
		{1, 0, {.edx = 1u << 26}},
		{7, 0, {.ebx = 1u << 16}}, /* AVX512F */
		{7, 0, {.ecx = 1u << 9}},
		{7, 0, {.edx = 1u << 4}},
		{7, 1, {.eax = 1u << 5}}, /* AVX512_BF16 */
		{0xd, 0, {.eax = 0xe0}},
		{0xd, 1, {.eax = 1u << 3}},
		{0x40000001, 0, {.eax = 1u << 4}},
		{0x80000001, 0, {.ecx = SVM}},
		{0x80000001, 0, {.edx = 1u << 27}},
		{0x8000000a, 0, {.edx = 1}},
	};
	static struct kvcpu_cpuid here, there;

	(void)state;
	make_host(&here);
	kvcpu_cpuid_boot(&here, 1);
	for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
		struct kvm_cpuid_entry2 *e;

		there = here;
		e = find(&there, more[i].function, more[i].index);
		e->eax |= more[i].more.eax;
		e->ebx |= more[i].more.ebx;
		e->ecx |= more[i].more.ecx;
		e->edx |= more[i].more.edx;
		assert_int_equal(kvcpu_cpuid_check(&there, &here), -ENOTSUP);
	}
	/* Behind an index that leaf 1 does not have. */
	there = here;
	add(&there, (struct kvm_cpuid_entry2){.function = 1, .flags = INDEXED, .ecx = 1u << 12});
	there.entries[there.head.nent - 1].index = 3;
	add(&there, *find(&here, 1, 0));
	assert_int_equal(kvcpu_cpuid_check(&there, &here), -ENOTSUP);
}

static void test_hostile_tables_are_refused(void **state)
{
	static const struct kvm_cpuid_entry2 hostile[] = {
		{.function = 1},			       /* a second one */
		{.function = 1, .flags = INDEXED},	       /* also if it says otherwise */
		{.function = 7, .index = 1, .flags = INDEXED}, /* a second one */
		{.function = 7, .index = 0},		       /* and one for all sub-leaves */
		{.function = 9, .index = 5},		       /* for all, under another name */
		{.function = 9, .flags = 2},		       /* what nobody makes any more */
	};
	static struct kvcpu_cpuid cpuid, loaded;
	struct state_writer w = {0};
	struct state_reader r;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
		make_host(&cpuid);
		add(&cpuid, hostile[i]);
		assert_int_equal(reload(&cpuid, &loaded), -EBADMSG);
	}
	make_host(&cpuid);
	assert_int_equal(kvcpu_cpuid_save(&cpuid, &w), 0);
	for (size_t n = 0; n < w.used; n++) {
		r = (struct state_reader){.data = w.data, .left = n};
		assert_int_equal(kvcpu_cpuid_load(&loaded, &r), -EBADMSG);
	}
	state_writer_free(&w);
	for (uint32_t i = 0; i <= KVCPU_CPUID_MAX; i++) {
		if (!i)
			state_put_u32(&w, KVCPU_CPUID_MAX + 1);
		state_put_u32(&w, 0x1000 + i);
		for (int k = 0; k < 6; k++)
			state_put_u32(&w, 0);
	}
	r = (struct state_reader){.data = w.data, .left = w.used};
	assert_int_equal(kvcpu_cpuid_load(&loaded, &r), -EBADMSG);
	state_writer_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_nested_virtualization),
		cmocka_unit_test(test_process_guests_see_what_they_saw),
		cmocka_unit_test(test_a_snapshot_of_this_host_goes_on),
		cmocka_unit_test(test_a_snapshot_of_a_baseline_goes_on),
		cmocka_unit_test(test_features_of_another_host_are_refused),
		cmocka_unit_test(test_hostile_tables_are_refused),
	};

	log_init("test_kernel_cpu", NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
