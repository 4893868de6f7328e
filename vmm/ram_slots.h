/* SPDX-License-Identifier: Apache-2.0 */
/* ram_slots.h - KVM's memory slots for RAM, made as RAM comes into use */
#ifndef QUICKTHAW_VMM_RAM_SLOTS_H
#define QUICKTHAW_VMM_RAM_SLOTS_H

#include "vmm/vm.h"

/** ram_slots_new() - the first slot, while the VM has no vCPU yet. Return: 0 or -errno (logged). */
int ram_slots_new(struct vm *vm);

/**
 * ram_slots_cover() - make slots up to RAM page @page, so that the guest can touch it.
 * Not while the vCPU runs. Return: 0 or -errno (logged); pages beyond the end of RAM stay without.
 */
int ram_slots_cover(struct vm *vm, uint32_t page);

/** ram_slots_need() - has @page no slot yet? A vm that KVM has no part in (tests) needs none. */
static inline bool ram_slots_need(const struct vm *vm, uint32_t page)
{
	return vm->slot_end && page >= vm->slot_end;
}

#endif
