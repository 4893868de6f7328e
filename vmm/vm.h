/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm.h - one KVM virtual machine: its slots, its vCPU and what kind of host it is on
 *
 * A vm is made ahead of time (a shell): everything here works before anybody knows which guest will
 * run in it.
 */
#ifndef QUICKTHAW_VMM_VM_H
#define QUICKTHAW_VMM_VM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "include/snapd_proto.h"
#include "vmm/guest_mem.h"

/**
 * The XSAVE area of a saved context, in one layout on every host: legacy area, header and AVX at
 * their architectural places (832 bytes), then opmask (64), ZMM_Hi256 (512), Hi16_ZMM (1024).
 * Hardware KVM gives guests XCR0 = VCPU_XCR0, and the AVX-512 parts stay zero. A PVM host cannot
 * limit XCR0 (XGETBV in ring 3 returns the host's), so a program may have AVX-512 state there.
 */
#define VCPU_XSAVE_BYTES 2432u
#define VCPU_XCR0	 0x7ull
#define VCPU_XCR0_MAX	 0xe7ull

/**
 * struct user_state - everything of a ring-3 context, as the program sees it.
 * @regs: rip and rflags are those at which the program goes on
 */
struct user_state {
	struct kvm_regs regs;
	uint64_t fs_base;
	uint64_t gs_base;
	uint8_t xsave[VCPU_XSAVE_BYTES];
};

/** struct vcpu - the one vCPU. Fields are the vcpu module's; others use the functions below. */
struct vcpu {
	int fd;
	struct kvm_run *run;
	size_t run_bytes;
	uint64_t exits;	 /**< KVM_RUN returns since the last reset of the counter */
	bool regs_dirty; /**< run->s.regs.regs goes to KVM at the next entry */
	bool sregs_dirty;
	bool in_kernel; /**< the vCPU stopped at CPL 0 (hardware KVM, or inside a stub) */
	bool kick_owed; /**< a kick came while an event was on its way */
	int tid; /**< the thread that called vm_new(), which must call vcpu_run(): where a kick's
		    signal goes */
	uint64_t xcr0;		  /**< what XGETBV returns in ring 3 */
	uint32_t xsave_offset[8]; /**< host's places of state components 5, 6, 7; 0: absent */
};

struct vm {
	int kvm_fd;
	int vm_fd;
	uint32_t slots;	   /**< memory slots made so far: the system slot, and those of RAM */
	uint32_t slot_end; /**< RAM pages below this have a slot (ram_slots.h) */
	enum proto_host_kind host_kind;
	bool baseline_holds; /**< ring 3 sees nothing in CPUID that the baseline lacks */
	struct guest_mem mem;
	struct vcpu vcpu;
	uint64_t tsc_khz; /**< of the guest's TSC; 0: it is not that of the host, do not use it */
	bool faults_dear; /**< KVM shadows page tables here, and mapping a page costs a multiple of
			       copying it */
	uint64_t cpu_features[8]; /**< enum guest_cpu_word: what a guest sees, cut to the baseline;
				       what its snapshots require */
	uint64_t cpu_have[8];	  /**< what this host can give: a restore needs all that a snapshot
				       requires to be here */
};

/**
 * vm_new() - create VM, slots (before anything else: KVM API), vCPU with CPUID and special
 * registers, the system slot's contents; probe the host kind by running the vCPU once, which also
 * takes KVM's first-entry costs off the restore path.
 * @kvm_fd: /dev/kvm, opened by the caller, owned by the vm from here on
 * Return: 0 or -errno, with a log line that says what to do.
 */
int vm_new(struct vm *vm, int kvm_fd, uint64_t ram_bytes);
void vm_free(struct vm *vm);

/** vm_set_page_tables() - the PML4 of the guest; takes effect at the next entry. */
void vm_set_page_tables(struct vm *vm, struct gpa pml4);

/* ---- vCPU ----------------------------------------------------------------------------------- */

enum vcpu_event_kind {
	VCPU_SYSCALL,	/**< regs hold the system call; regs.rip is where it returns to */
	VCPU_EXCEPTION, /**< vector, error code, cr2 are set; regs are those at the fault */
	VCPU_KICK,	/**< vcpu_kick() or a signal interrupted the run; regs are the program's */
	VCPU_FATAL,	/**< KVM cannot go on: text says why */
};

struct vcpu_event {
	enum vcpu_event_kind kind;
	uint8_t vector;
	uint64_t error_code;
	uint64_t cr2;
	char text[200];
};

/**
 * vcpu_run() - enter the guest with the current registers until something needs the vmm.
 * On return vcpu_regs() are the user context (rip, rflags, rsp as the program has them) whatever
 * the host kind. Return: 0; fatal conditions are events, not errors.
 */
int vcpu_run(struct vm *vm, struct vcpu_event *ret_event);

/** vcpu_regs() - the current user registers; call vcpu_regs_changed() after writing to them. */
static inline struct kvm_regs *vcpu_regs(struct vm *vm)
{
	return &vm->vcpu.run->s.regs.regs;
}

static inline void vcpu_regs_changed(struct vm *vm)
{
	vm->vcpu.regs_dirty = true;
}

/** vcpu_set_fs_base() / vcpu_set_gs_base() - for arch_prctl and task switches. */
void vcpu_set_fs_base(struct vm *vm, uint64_t base);
void vcpu_set_gs_base(struct vm *vm, uint64_t base);

/** vcpu_save_user() - read the whole user context (costs ioctls: XSAVE). */
int vcpu_save_user(struct vm *vm, struct user_state *ret);
/** vcpu_load_user() - make @u the context of the next vcpu_run(). */
int vcpu_load_user(struct vm *vm, const struct user_state *u);

/**
 * vcpu_kick() - make the running or next vcpu_run() return VCPU_KICK. Async-signal-safe.
 * In a signal handler of the vCPU's thread (a timer's) the signal itself has ended KVM_RUN. Called
 * by another thread, it sends VCPU_KICK_SIGNAL to the vCPU's: vm_new() installs a handler that does
 * nothing, and the signal must not be blocked.
 */
#define VCPU_KICK_SIGNAL (__SIGRTMIN + 8)
void vcpu_kick(struct vm *vm);

/** vcpu_guest_tsc() - the guest's TSC for a host TSC reading taken now; for the vDSO clock page. */
uint64_t vcpu_guest_tsc(struct vm *vm);

#endif
