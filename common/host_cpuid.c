/* SPDX-License-Identifier: Apache-2.0 */
/* host_cpuid.c - what CPUID says on this host, and what of it KVM can offer to guests */
#include "common/host_cpuid.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/util.h"

/* What a microVM asks the instruction for: features, and whether there is XGETBV; more features;
 * where XSAVE puts the three components of AVX-512; still more features; whether the TSC's rate is
 * constant. */
static const struct {
	uint32_t leaf, subleaf;
} asked[] = {
	{0x1, 0}, {0x7, 0}, {0xd, 5}, {0xd, 6}, {0xd, 7}, {0x80000001, 0}, {0x80000007, 0},
};

/** struct answers - the contents of the memfd. */
struct answers {
	struct host_cpuid_regs regs[ARRAY_SIZE(asked)];
	uint32_t count, zero;
	struct kvm_cpuid_entry2 supported[HOST_CPUID_ENTRIES_MAX];
};

static const struct answers *imported;

static struct host_cpuid_regs ask(uint32_t leaf, uint32_t subleaf)
{
	struct host_cpuid_regs r = {0};

	if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx))
		return (struct host_cpuid_regs){0};
	return r;
}

struct host_cpuid_regs host_cpuid(uint32_t leaf, uint32_t subleaf)
{
	for (size_t i = 0; imported && i < ARRAY_SIZE(asked); i++)
		if (asked[i].leaf == leaf && asked[i].subleaf == subleaf)
			return imported->regs[i];
	return ask(leaf, subleaf);
}

static int ask_kvm(int kvm_fd, struct kvm_cpuid2 *ret)
{
	ret->nent = HOST_CPUID_ENTRIES_MAX;
	return ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, ret) ? -errno : 0;
}

int host_cpuid_supported(int kvm_fd, struct kvm_cpuid2 *ret)
{
	if (!imported)
		return ask_kvm(kvm_fd, ret);
	ret->nent = imported->count;
	memcpy(ret->entries, imported->supported, ret->nent * sizeof(ret->entries[0]));
	return 0;
}

int host_cpuid_export(int kvm_fd, int *ret_fd)
{
	CLEANUP_FREE struct answers *a = calloc(1, sizeof(*a));
	CLEANUP_FREE struct kvm_cpuid2 *list =
		calloc(1, sizeof(*list) + HOST_CPUID_ENTRIES_MAX * sizeof(list->entries[0]));
	int err;

	*ret_fd = -1;
	if (!a || !list)
		return -ENOMEM;
	err = ask_kvm(kvm_fd, list);
	if (err)
		return err;
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
		a->regs[i] = ask(asked[i].leaf, asked[i].subleaf);
	a->count = list->nent;
	memcpy(a->supported, list->entries, list->nent * sizeof(list->entries[0]));
	*ret_fd = memfd_from_buffer("cpuid", a, sizeof(*a));
	return *ret_fd < 0 ? *ret_fd : 0;
}

int host_cpuid_import(int fd)
{
	const void *map;
	int err = memfd_map_sealed(fd, sizeof(*imported), 0, &map);

	if (err)
		return err;
	if (((const struct answers *)map)->count > HOST_CPUID_ENTRIES_MAX) {
		munmap((void *)(uintptr_t)map, sizeof(*imported));
		return -EBADMSG;
	}
	imported = map;
	return 0;
}
