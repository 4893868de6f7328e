/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vvar.h - the clock data that the vmm writes and the vDSO reads
 *
 * The page is the vmm's (system slot) and the vDSO image is the guest's (it is in snapshots): an
 * old image meets the data of a newer vmm. So the address and the layout never change; a field may
 * be added at the end.
 */
#ifndef QUICKTHAW_GUEST_VVAR_H
#define QUICKTHAW_GUEST_VVAR_H

#include <stdint.h>

/** Where the page is mapped, user read-only; vmm/system_slot.h puts it there. */
#define VVAR_GVA 0x7fff80005000ull

enum vvar_mode {
	VVAR_SYSCALL = 0, /**< the TSC is of no use: make the system call */
	VVAR_TSC = 1,
};

/**
 * struct vvar - guest time as a function of the TSC:
 *	monotonic = mono_ns + ((tsc - tsc_base) * mult >> 32), realtime = monotonic + real_offset_ns
 * @seq: changes with every update, odd while one is going on: read it before and after
 */
struct vvar {
	uint32_t seq;
	uint32_t mode; /**< enum vvar_mode */
	uint64_t tsc_base;
	uint64_t mult; /**< nanoseconds per tick, 32.32 */
	uint64_t mono_ns;
	uint64_t real_offset_ns;
};

/** vvar_mono_ns() - monotonic time at @tsc. */
static inline uint64_t vvar_mono_ns(const volatile struct vvar *v, uint64_t tsc)
{
	uint64_t base = v->tsc_base;
	uint64_t ticks = tsc > base ? tsc - base : 0;

	return v->mono_ns + (uint64_t)((unsigned __int128)ticks * v->mult >> 32);
}

#endif
