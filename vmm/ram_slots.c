/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ram_slots.c - KVM's memory slots for RAM, made as RAM comes into use
 *
 * Where KVM shadows page tables it keeps eight bytes for each page of a slot, which are allocated,
 * zeroed and charged when the slot is made, and given back when the VM ends: 2 MiB for 1 GiB of
 * RAM, of which most guests use a few dozen. Frames are handed out lowest first, so the first slot
 * is small, and each further one doubles what there is.
 */
#include "vmm/ram_slots.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/log.h"
#include "common/util.h"

enum { FIRST_PAGES = MIB(64) / PAGE_BYTES };

/** RAM [@first, @end) becomes the next slot. */
static int add_slot(struct vm *vm, uint32_t first, uint32_t end)
{
	struct kvm_userspace_memory_region region = {
		.slot = vm->slots,
		.guest_phys_addr = guest_page_gpa(first).v,
		.memory_size = (uint64_t)(end - first) * PAGE_BYTES,
		.userspace_addr = (uint64_t)(uintptr_t)guest_page_ptr(&vm->mem, first),
	};

	if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region)) {
		int err = -errno;

		log_error("kvm: cannot make memory slot %u of %u pages: %s", vm->slots, end - first,
			  strerror(-err));
		return err;
	}
	vm->slots++;
	vm->slot_end = end;
	return 0;
}

int ram_slots_new(struct vm *vm)
{
	return add_slot(vm, 0, (uint32_t)MIN(vm->mem.ram_bytes / PAGE_BYTES, FIRST_PAGES + 0ull));
}

int ram_slots_cover(struct vm *vm, uint32_t page)
{
	uint32_t total = (uint32_t)(vm->mem.ram_bytes / PAGE_BYTES);
	int err = 0;

	while (!err && page >= vm->slot_end && vm->slot_end < total)
		err = add_slot(vm, vm->slot_end, (uint32_t)MIN(2ull * vm->slot_end, total + 0ull));
	return err;
}
