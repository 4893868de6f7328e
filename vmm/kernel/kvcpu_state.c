/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvcpu_state.c - a kernel guest's vCPU to bytes and back
 *
 * KVM's own structures are its ABI: of fixed size, little-endian, the same on every host. They are
 * saved as they are; KVM checks what it is given. MSRs are saved as pairs of index and value: all
 * that KVM lists and can read.
 *
 * The order of loading matters (Documentation/virt/kvm/api.rst): special registers give the local
 * APIC its mode and come before it; the APIC's timer mode comes before the deadline, an MSR; the
 * TSC before all that counts in it.
 *
 * A TSC that is written is not always what was written. KVM takes a value that is less than a
 * second away from what the machine's last one would be by now for an attempt to make a vCPU's TSC
 * that of the others, and does that instead (arch/x86/kvm/x86.c, kvm_synchronize_tsc()). The vCPUs
 * of a machine are to be the same. So all but the first get what the first one has by then: between
 * the two, memory is touched, which may have to be read from a disk first. And up to Linux 6.6 the
 * machine's making counts as a write of zero: a guest that was captured at 3 s and goes on in a
 * machine that was made 3.5 s ago would be half a second ahead, and at 2.5 s behind: then its clock
 * stands still for as long. So the first one's TSC is written twice, with something far away
 * before.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/util.h"
#include "vmm/kernel/kvcpu.h"
#include "vmm/kernel/machine.h"

/* KVM takes less than 256 MSRs at once (arch/x86/kvm/x86.c, MAX_IO_MSRS). */
enum { MSRS_MAX = 1024, MSRS_BATCH = 255, MSR_TSC = 0x10, MSR_TSC_DEADLINE = 0x6e0 };

/* Added to a TSC: a quarter of its range, so that no sum of KVM's overflows. */
#define TSC_FAR_AWAY (1ull << 62)

/** struct kvcpu_msrs - a list for KVM. */
struct kvcpu_msrs {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[MSRS_MAX];
};

/** struct msr_batch - as much of it as KVM takes at once. */
struct msr_batch {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[MSRS_BATCH];
};

/** struct part - one of KVM's structures. */
struct part {
	const char *name;
	unsigned long get, set;
	size_t bytes;
};

/* Before the MSRs, and after them. */
static const struct part parts_before[] = {
	{"MP state", KVM_GET_MP_STATE, KVM_SET_MP_STATE, sizeof(struct kvm_mp_state)},
	{"registers", KVM_GET_REGS, KVM_SET_REGS, sizeof(struct kvm_regs)},
	{"special registers", KVM_GET_SREGS, KVM_SET_SREGS, sizeof(struct kvm_sregs)},
	{"XSAVE", KVM_GET_XSAVE, KVM_SET_XSAVE, sizeof(struct kvm_xsave)},
	{"XCRs", KVM_GET_XCRS, KVM_SET_XCRS, sizeof(struct kvm_xcrs)},
	{"debug registers", KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, sizeof(struct kvm_debugregs)},
	{"local APIC", KVM_GET_LAPIC, KVM_SET_LAPIC, sizeof(struct kvm_lapic_state)},
};
static const struct part parts_after[] = {
	{"events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, sizeof(struct kvm_vcpu_events)},
};

/** The largest of them. */
union part_bytes {
	struct kvm_xsave xsave;
	struct kvm_sregs sregs;
	struct kvm_lapic_state lapic;
};

static int part_failed(const struct kvcpu *c, const char *what, const char *name)
{
	int err = -errno;

	log_error("kvm: vcpu %u: %s %s: %s", c->index, what, name, strerror(-err));
	return err;
}

static int save_parts(struct kvcpu *c, const struct part *parts, size_t count,
		      struct state_writer *w)
{
	union part_bytes bytes;

	for (size_t i = 0; i < count; i++) {
		memset(&bytes, 0, sizeof(bytes));
		if (ioctl(c->fd, parts[i].get, &bytes) < 0)
			return part_failed(c, "reading its", parts[i].name);
		state_put(w, &bytes, parts[i].bytes);
	}
	return w->err;
}

static int load_parts(struct kvcpu *c, const struct part *parts, size_t count,
		      struct state_reader *r)
{
	union part_bytes bytes;

	for (size_t i = 0; i < count; i++) {
		state_get(r, &bytes, parts[i].bytes);
		if (r->err)
			return r->err;
		if (ioctl(c->fd, parts[i].set, &bytes) < 0)
			return part_failed(c, "writing its", parts[i].name);
	}
	return 0;
}

/* ---- MSRs ---- */

/** struct one_msr - a list of one. */
struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

/** The indices that KVM saves and restores, for this host. */
static int list_msrs(int kvm_fd, struct kvm_msr_list **ret)
{
	struct kvm_msr_list probe = {0};
	struct kvm_msr_list *list;

	if (!ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, &probe) || errno != E2BIG)
		return -EIO;
	if (probe.nmsrs > MSRS_MAX)
		return -E2BIG;
	list = malloc(sizeof(*list) + probe.nmsrs * sizeof(list->indices[0]));
	if (!list)
		return -ENOMEM;
	list->nmsrs = probe.nmsrs;
	if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, list)) {
		free(list);
		return -EIO;
	}
	*ret = list;
	return 0;
}

/** Read them all; KVM stops at one that this guest does not have: leave it out and go on. */
static int read_msrs(struct kvcpu *c, const struct kvm_msr_list *list, struct kvcpu_msrs *ret)
{
	uint32_t done = 0, next = 0;

	while (next < list->nmsrs) {
		uint32_t count = MIN(list->nmsrs - next, (uint32_t)MSRS_BATCH);
		struct msr_batch batch = {.head.nmsrs = count};
		int n;

		for (uint32_t i = 0; i < count; i++)
			batch.entries[i].index = list->indices[next + i];
		n = ioctl(c->fd, KVM_GET_MSRS, &batch);
		if (n < 0)
			return -errno;
		memcpy(&ret->entries[done], batch.entries, (size_t)n * sizeof(batch.entries[0]));
		done += (uint32_t)n;
		next += (uint32_t)n + ((uint32_t)n < count);
	}
	ret->head.nmsrs = done;
	return 0;
}

static uint64_t *find_msr(struct kvcpu_msrs *msrs, uint32_t index)
{
	for (uint32_t i = 0; i < msrs->head.nmsrs; i++)
		if (msrs->entries[i].index == index)
			return (uint64_t *)&msrs->entries[i].data;
	return NULL;
}

static int save_msrs(struct kvcpu *c, struct state_writer *w)
{
	CLEANUP_FREE struct kvcpu_msrs *msrs = calloc(1, sizeof(*msrs));
	CLEANUP_FREE struct kvm_msr_list *list = NULL;
	const uint64_t *tsc;
	uint64_t *deadline;
	int ret = msrs ? list_msrs(c->machine->kvm_fd, &list) : -ENOMEM;

	if (!ret)
		ret = read_msrs(c, list, msrs);
	if (ret) {
		log_error("kvm: vcpu %u: reading its MSRs: %s", c->index, strerror(-ret));
		return ret;
	}
	/* KVM clears the deadline when the timer expires, which may be before the interrupt is
	 * with the APIC: an interrupt too many is nothing, one too few stops the guest. */
	tsc = find_msr(msrs, MSR_TSC);
	deadline = find_msr(msrs, MSR_TSC_DEADLINE);
	if (tsc && deadline && !*deadline)
		*deadline = *tsc;
	state_put_u32(w, msrs->head.nmsrs);
	for (uint32_t i = 0; i < msrs->head.nmsrs; i++) {
		state_put_u32(w, msrs->entries[i].index);
		state_put_u64(w, msrs->entries[i].data);
	}
	return w->err;
}

/** One MSR. What KVM refuses is no loss if it is zero: another host does not have it. */
static int load_msr(struct kvcpu *c, uint32_t index, uint64_t value)
{
	struct one_msr msr = {.head.nmsrs = 1, .entry = {.index = index, .data = value}};

	if (ioctl(c->fd, KVM_SET_MSRS, &msr) == 1 || !value)
		return 0;
	log_error("restore: vcpu %u: this host's KVM refuses MSR 0x%x with 0x%llx", c->index, index,
		  (unsigned long long)value);
	return -ENOTSUP;
}

/** In batches; one that KVM stops at is tried alone. */
static int write_msrs(struct kvcpu *c, const struct kvcpu_msrs *msrs)
{
	uint32_t next = 0;

	while (next < msrs->head.nmsrs) {
		uint32_t count = MIN(msrs->head.nmsrs - next, (uint32_t)MSRS_BATCH);
		struct msr_batch batch = {.head.nmsrs = count};
		int n, ret;

		memcpy(batch.entries, &msrs->entries[next], count * sizeof(batch.entries[0]));
		n = ioctl(c->fd, KVM_SET_MSRS, &batch);
		if (n < 0)
			return part_failed(c, "writing its", "MSRs");
		next += (uint32_t)n;
		if ((uint32_t)n == count)
			continue;
		ret = load_msr(c, msrs->entries[next].index, msrs->entries[next].data);
		if (ret)
			return ret;
		next++;
	}
	return 0;
}

/** The two first entries. @tsc: what was captured */
static int put_tsc(const struct kvcpu *c, uint64_t tsc, struct kvm_msr_entry entries[2])
{
	struct one_msr first = {.head.nmsrs = 1, .entry.index = MSR_TSC};

	if (c->index && ioctl(c->machine->vcpus[0].fd, KVM_GET_MSRS, &first) != 1)
		return part_failed(c, "reading the first one's", "TSC");
	entries[1] =
		(struct kvm_msr_entry){.index = MSR_TSC, .data = c->index ? first.entry.data : tsc};
	entries[0] = entries[1];
	if (!c->index)
		entries[0].data += TSC_FAR_AWAY;
	return 0;
}

static int load_msrs(struct kvcpu *c, struct state_reader *r)
{
	CLEANUP_FREE struct kvcpu_msrs *msrs = calloc(1, sizeof(*msrs));
	uint32_t count = state_get_count(r, 12), used = 2;
	uint64_t deadline = 0, tsc = 0;
	int ret;

	if (!msrs)
		return -ENOMEM;
	if (r->err || count > MSRS_MAX - 3)
		return -EBADMSG;
	/* The TSC first, twice; the deadline last. */
	for (uint32_t i = 0; i < count; i++) {
		uint32_t index = state_get_u32(r);
		uint64_t value = state_get_u64(r);

		if (index == MSR_TSC)
			tsc = value;
		else if (index == MSR_TSC_DEADLINE)
			deadline = value;
		else
			msrs->entries[used++] =
				(struct kvm_msr_entry){.index = index, .data = value};
	}
	msrs->entries[used++] = (struct kvm_msr_entry){.index = MSR_TSC_DEADLINE, .data = deadline};
	msrs->head.nmsrs = used;
	ret = r->err ? r->err : put_tsc(c, tsc, msrs->entries);
	return ret ? ret : write_msrs(c, msrs);
}

/* ---- all of it ---- */

int kvcpu_save(struct kvcpu *c, struct state_writer *w)
{
	int ret = save_parts(c, parts_before, ARRAY_SIZE(parts_before), w);

	if (!ret)
		ret = save_msrs(c, w);
	if (!ret)
		ret = save_parts(c, parts_after, ARRAY_SIZE(parts_after), w);
	return ret;
}

int kvcpu_load(struct kvcpu *c, struct state_reader *r)
{
	int ret = load_parts(c, parts_before, ARRAY_SIZE(parts_before), r);

	if (!ret)
		ret = load_msrs(c, r);
	if (!ret)
		ret = load_parts(c, parts_after, ARRAY_SIZE(parts_after), r);
	/* The guest's watchdogs are not to count the time between (api.rst, 4.76). Fails where its
	 * kernel does not use KVM's clock, and then means nothing. */
	if (!ret)
		(void)ioctl(c->fd, KVM_KVMCLOCK_CTRL, 0);
	return ret;
}
