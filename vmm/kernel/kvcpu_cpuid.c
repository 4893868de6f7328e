/* SPDX-License-Identifier: Apache-2.0 */
/* kvcpu_cpuid.c - what a kernel guest sees of its CPUs */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/cpu_features.h"
#include "vmm/kernel/kvcpu.h"
#include "vmm/vm.h"

enum {
	CPUID_1_ECX_TSC_DEADLINE = 1 << 24,
	CPUID_1_EDX_HTT = 1 << 28,
};
#define CPUID_1_ECX_HYPERVISOR (1u << 31)
#define CPUID_1_ECX_X2APIC     (1u << 21)

int kvcpu_cpuid_host(int kvm_fd, struct kvcpu_cpuid *ret)
{
	bool deadline = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;

	memset(ret, 0, sizeof(*ret));
	ret->head.nent = KVCPU_CPUID_MAX;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, ret)) {
		int err = -errno;

		log_error("kvm: KVM_GET_SUPPORTED_CPUID: %s", strerror(-err));
		return err;
	}
	/* The irqchip's, so KVM leaves it to us to say so (Documentation/virt/kvm/api.rst, 4.46).
	 */
	for (uint32_t i = 0; i < ret->head.nent; i++)
		if (ret->entries[i].function == 1)
			ret->entries[i].ecx |=
				(deadline ? CPUID_1_ECX_TSC_DEADLINE : 0u) | CPUID_1_ECX_X2APIC;
	return 0;
}

static unsigned bits_for(unsigned n)
{
	unsigned bits = 0;

	while ((1u << bits) < n)
		bits++;
	return bits;
}

/* Leaf 0xb: threads of a core (one), cores of the package (SDM vol. 2, CPUID). KVM has the first
 * level only, and none of the others has bits in it. */
static void add_topology(struct kvcpu_cpuid *cpuid, unsigned vcpus)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < cpuid->head.nent; i++)
		if (cpuid->entries[i].function != 0xb)
			cpuid->entries[kept++] = cpuid->entries[i];
	for (uint32_t level = 0; level < 2 && kept < KVCPU_CPUID_MAX; level++)
		cpuid->entries[kept++] = (struct kvm_cpuid_entry2){
			.function = 0xb,
			.index = level,
			.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.eax = level ? bits_for(vcpus) : 0,
			.ebx = level ? vcpus : 1,
			.ecx = level | (level + 1) << 8,
		};
	cpuid->head.nent = kept;
}

/* One package of @vcpus cores, whatever the host's topology is. */
static void set_package(struct kvm_cpuid_entry2 *e, unsigned vcpus)
{
	switch (e->function) {
	case 1:
		e->ecx |= CPUID_1_ECX_HYPERVISOR;
		e->ebx = (e->ebx & 0xff00ffff) | vcpus << 16;
		e->edx &= ~(uint32_t)CPUID_1_EDX_HTT;
		if (vcpus > 1)
			e->edx |= CPUID_1_EDX_HTT;
		break;
	case 4: /* Intel's caches: cores of the package, and none shares more than L3 */
		if (e->eax & 0x1f) {
			unsigned shared = (e->eax >> 5 & 7) == 3 ? (1u << bits_for(vcpus)) - 1 : 0;

			e->eax = (e->eax & 0x3fff) | shared << 14 |
				 ((1u << bits_for(vcpus)) - 1) << 26;
		}
		break;
	case 0x1f: /* dies: there are none, and leaf 0xb says enough */
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 0x80000008: /* AMD's number of cores, and bits of the APIC id */
		e->ecx = (e->ecx & ~0xf0ffu) | (vcpus - 1) | bits_for(vcpus) << 12;
		break;
	case 0x8000001d: /* AMD's caches */
		if (e->eax & 0x1f)
			e->eax = (e->eax & 0x3fff) | ((e->eax >> 5 & 7) == 3 ? vcpus - 1 : 0) << 14;
		break;
	case 0x8000001e: /* one thread a core, one node */
		e->ebx &= ~0xff00u;
		e->ecx = 0;
		break;
	}
}

void kvcpu_cpuid_boot(struct kvcpu_cpuid *cpuid, unsigned vcpus)
{
	cpu_features_mask(&cpuid->head, VCPU_XCR0, GUEST_KIND_KERNEL);
	for (uint32_t i = 0; i < cpuid->head.nent; i++)
		set_package(&cpuid->entries[i], vcpus);
	add_topology(cpuid, vcpus);
}

static void set_apic_id(struct kvm_cpuid_entry2 *e, unsigned id)
{
	switch (e->function) {
	case 1:
		e->ebx = (e->ebx & 0x00ffffff) | id << 24;
		break;
	case 0xb:
	case 0x1f:
		e->edx = id;
		break;
	case 0x8000001e:
		e->eax = id;
		e->ebx = (e->ebx & ~0xffu) | id;
		break;
	}
}

int kvcpu_cpuid_set(struct kvcpu *c, const struct kvcpu_cpuid *cpuid)
{
	struct kvcpu_cpuid own = *cpuid;

	for (uint32_t i = 0; i < own.head.nent; i++)
		set_apic_id(&own.entries[i], c->index);
	if (ioctl(c->fd, KVM_SET_CPUID2, &own)) {
		int err = -errno;

		log_error("kvm: vcpu %u: KVM_SET_CPUID2: %s", c->index, strerror(-err));
		return err;
	}
	return 0;
}

int kvcpu_cpuid_save(const struct kvcpu_cpuid *cpuid, struct state_writer *w)
{
	state_put_u32(w, cpuid->head.nent);
	for (uint32_t i = 0; i < cpuid->head.nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		state_put_u32(w, e->function);
		state_put_u32(w, e->index);
		state_put_u32(w, e->flags);
		state_put_u32(w, e->eax);
		state_put_u32(w, e->ebx);
		state_put_u32(w, e->ecx);
		state_put_u32(w, e->edx);
	}
	return w->err;
}

/** KVM lets an entry whose index does not count answer for all sub-leaves: it is to be the first.
 */
static bool is_sound(const struct kvm_cpuid_entry2 *e)
{
	return !(e->flags & ~(uint32_t)KVM_CPUID_FLAG_SIGNIFCANT_INDEX) && (e->flags || !e->index);
}

/** One leaf, one answer: KVM takes the first entry that fits, and a check may find another. Where
 * the index does not count, any other entry of the leaf is a second one. */
static bool is_second(const struct kvm_cpuid_entry2 *a, const struct kvm_cpuid_entry2 *b)
{
	bool indexed = a->flags & b->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

	return a->function == b->function && (!indexed || a->index == b->index);
}

int kvcpu_cpuid_load(struct kvcpu_cpuid *cpuid, struct state_reader *r)
{
	uint32_t count = state_get_count(r, 7 * sizeof(uint32_t));

	if (r->err || count > KVCPU_CPUID_MAX)
		return -EBADMSG;
	memset(cpuid, 0, sizeof(*cpuid));
	cpuid->head.nent = count;
	for (uint32_t i = 0; i < count; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		e->function = state_get_u32(r);
		e->index = state_get_u32(r);
		e->flags = state_get_u32(r);
		e->eax = state_get_u32(r);
		e->ebx = state_get_u32(r);
		e->ecx = state_get_u32(r);
		e->edx = state_get_u32(r);
		if (!is_sound(e))
			return -EBADMSG;
		for (uint32_t k = 0; k < i; k++)
			if (is_second(e, &cpuid->entries[k]))
				return -EBADMSG;
	}
	return r->err;
}

/** "AuthenticAMD", ... as leaf 0 has it. */
static void get_vendor(const struct kvcpu_cpuid *cpuid, char ret[13])
{
	memset(ret, 0, 13);
	for (uint32_t i = 0; i < cpuid->head.nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function != 0)
			continue;
		memcpy(ret, &e->ebx, 4);
		memcpy(ret + 4, &e->edx, 4);
		memcpy(ret + 8, &e->ecx, 4);
		return;
	}
}

/** What no kernel guest gets, whatever the host has: is the table as it would be had it been
 * masked? */
static bool is_masked(const struct kvcpu_cpuid *cpuid)
{
	struct kvcpu_cpuid masked = *cpuid;

	cpu_features_mask(&masked.head, VCPU_XCR0, GUEST_KIND_KERNEL);
	return !memcmp(masked.entries, cpuid->entries, sizeof(masked.entries));
}

int kvcpu_cpuid_check(const struct kvcpu_cpuid *cpuid, const struct kvcpu_cpuid *here)
{
	uint64_t need[CPU_WORDS], have[CPU_WORDS];
	char vendor_here[13], vendor[13], missing[128];

	get_vendor(here, vendor_here);
	get_vendor(cpuid, vendor);
	if (memcmp(vendor, vendor_here, sizeof(vendor))) {
		log_error("restore: the snapshot's kernel has adapted itself to a CPU of another "
			  "maker than this host's %s",
			  vendor_here);
		return -ENOTSUP;
	}
	cpu_features_of_kernel(&cpuid->head, VCPU_XCR0, need);
	cpu_features_of_kernel(&here->head, VCPU_XCR0, have);
	if (cpu_features_missing(need, have, missing, sizeof(missing))) {
		log_error("restore: the snapshot's kernel sees a CPU with %s, which a guest on "
			  "this host does not have",
			  missing);
		return -ENOTSUP;
	}
	if (!is_masked(cpuid)) {
		log_error("restore: the snapshot's kernel sees a CPU with features that no kernel "
			  "guest gets");
		return -ENOTSUP;
	}
	return 0;
}
