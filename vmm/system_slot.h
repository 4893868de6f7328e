/* SPDX-License-Identifier: Apache-2.0 */
/*
 * system_slot.h - what the vmm puts around a program: descriptor tables, stubs, trampoline, clock
 *
 * The slot depends on the kind of host, is built by every vmm, and is never in a snapshot. It is
 * mapped linearly at GUEST_SYSTEM_GVA by page tables of its own, which lie in the slot too: a
 * guest's page tables need one entry for all of it, and a snapshot depends on that entry only.
 *
 *   page          contents                                    ring 3 may
 *   GDT           GDT, TSS with I/O bitmap                    -
 *   IDT           32 gates                                    -
 *   STUBS         32 exception stubs, iretq                   -
 *   TRAMPOLINE    entry of SYSCALL, sysretq                   execute (PVM only)
 *   STACK         ring-0 stack: exception and iretq frames    -
 *   VVAR          clock data of the vDSO                      read
 *   PD, PT        the page tables of the slot
 *   PROBE_*       code and page tables of the probe, and      (mapped in the probe's tables only)
 *                 pages to touch, which cost nothing after it
 */
#ifndef QUICKTHAW_VMM_SYSTEM_SLOT_H
#define QUICKTHAW_VMM_SYSTEM_SLOT_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "include/guest_abi.h"
#include "include/snapd_proto.h"
#include "vmm/guest_mem.h"

/** Pages that the probe touches, and as many for the vmm, to compare the cost. */
enum { SYSTEM_PROBE_PAGES = 4 };

enum system_page {
	SYSTEM_PAGE_GDT,
	SYSTEM_PAGE_IDT,
	SYSTEM_PAGE_STUBS,
	SYSTEM_PAGE_TRAMPOLINE,
	SYSTEM_PAGE_STACK,
	SYSTEM_PAGE_VVAR,
	SYSTEM_PAGE_PD,
	SYSTEM_PAGE_PT,
	SYSTEM_PAGE_PROBE_CODE,
	SYSTEM_PAGE_PROBE_PML4,
	SYSTEM_PAGE_PROBE_PDPT,
	SYSTEM_PAGE_PROBE_PD,
	SYSTEM_PAGE_PROBE_PT,
	SYSTEM_PAGE_PROBE_TOUCH,
	SYSTEM_PAGE_PROBE_COPY = SYSTEM_PAGE_PROBE_TOUCH + SYSTEM_PROBE_PAGES,
	SYSTEM_PAGE_COUNT = SYSTEM_PAGE_PROBE_COPY + SYSTEM_PROBE_PAGES
};

#define SYSTEM_GPA(page) (GUEST_SYSTEM_GPA + (uint64_t)(page)*PAGE_BYTES)
#define SYSTEM_GVA(page) (GUEST_SYSTEM_GVA + (uint64_t)(page)*PAGE_BYTES)

/* Page table entry bits (SDM vol. 3, 4.5). */
#define PTE_PRESENT  0x001ull
#define PTE_WRITABLE 0x002ull
#define PTE_USER     0x004ull
#define PTE_ACCESSED 0x020ull
#define PTE_DIRTY    0x040ull
#define PTE_NX	     (1ull << 63)

/**
 * What a guest's page tables must hold for the system slot: this value in the level-3 entry (PDPT)
 * that covers the GiB at GUEST_SYSTEM_GVA. The level-4 entry above it needs user and writable set,
 * as it has for the program's stack.
 */
#define SYSTEM_PDPT_ENTRY                                                                          \
	(SYSTEM_GPA(SYSTEM_PAGE_PD) | PTE_PRESENT | PTE_WRITABLE | PTE_USER | PTE_ACCESSED |       \
	 PTE_DIRTY)

/** Where the vDSO finds its clock data (struct vvar, guest/vdso/vvar.h): never moves. */
#define SYSTEM_VVAR_GVA SYSTEM_GVA(SYSTEM_PAGE_VVAR)

/* Selectors of the GDT: the order is what SYSCALL and SYSRET want. */
enum {
	SYSTEM_SEL_KERNEL_CODE = 0x08,
	SYSTEM_SEL_KERNEL_DATA = 0x10,
	SYSTEM_SEL_USER_DATA = 0x18 | 3,
	SYSTEM_SEL_USER_CODE = 0x20 | 3,
	SYSTEM_SEL_TSS = 0x28,
};

/* Code addresses. Each stub is one `out` and starts SYSTEM_STUB_BYTES after the one before. */
enum { SYSTEM_VECTORS = 32, SYSTEM_STUB_BYTES = 8 };
#define SYSTEM_STUBS_GVA   SYSTEM_GVA(SYSTEM_PAGE_STUBS)
#define SYSTEM_STUBS_END   (SYSTEM_STUBS_GVA + SYSTEM_VECTORS * SYSTEM_STUB_BYTES)
#define SYSTEM_IRETQ_GVA   SYSTEM_STUBS_END
#define SYSTEM_SYSCALL_GVA SYSTEM_GVA(SYSTEM_PAGE_TRAMPOLINE)
#define SYSTEM_SYSRET_GVA  (SYSTEM_SYSCALL_GVA + 2)
#define SYSTEM_STACK_TOP   SYSTEM_GVA(SYSTEM_PAGE_STACK + 1)
#define SYSTEM_PROBE_GVA   SYSTEM_GVA(SYSTEM_PAGE_PROBE_CODE)

/** struct system_frame - what an exception pushes and iretq pops (SDM vol. 3, 6.14). */
struct system_frame {
	uint64_t rip, cs, rflags, rsp, ss;
};
#define SYSTEM_FRAME_GVA (SYSTEM_STACK_TOP - sizeof(struct system_frame))

static inline struct system_frame *system_frame(const struct guest_mem *m)
{
	return (struct system_frame *)(void *)(m->system + (SYSTEM_FRAME_GVA - GUEST_SYSTEM_GVA));
}

static inline void *system_page_ptr(const struct guest_mem *m, enum system_page page)
{
	return m->system + (uint64_t)page * PAGE_BYTES;
}

/** system_slot_build() - everything that does not depend on the host kind, and the probe. */
void system_slot_build(const struct guest_mem *m);
/** system_slot_copy_tsc() - cycles that a page of memory of its own costs this process. */
uint64_t system_slot_copy_tsc(const struct guest_mem *m);
/** system_slot_finish() - the page tables for @kind; the probe must not run again after this. */
void system_slot_finish(const struct guest_mem *m, enum proto_host_kind kind);
/** system_user_code() / system_user_data() - CS and SS of ring 3. */
struct kvm_segment system_user_code(void);
struct kvm_segment system_user_data(void);
/** system_slot_sregs() - special registers that fit the slot, at CPL 3 with the probe's tables. */
void system_slot_sregs(struct kvm_sregs *ret);

#endif
