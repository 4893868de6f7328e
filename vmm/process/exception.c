/* SPDX-License-Identifier: Apache-2.0 */
/* exception.c - exceptions of the program: demand paging, or a signal with Linux's si_code */
#include "vmm/process/exception.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/sched.h"
#include "vmm/process/signal.h"
#include "vmm/process/signal_internal.h"

/* Vectors: SDM vol. 3, 6.15. */
enum vector {
	VECTOR_DE = 0,
	VECTOR_DB = 1,
	VECTOR_BP = 3,
	VECTOR_OF = 4,
	VECTOR_BR = 5,
	VECTOR_UD = 6,
	VECTOR_NP = 11,
	VECTOR_SS = 12,
	VECTOR_GP = 13,
	VECTOR_PF = 14,
	VECTOR_MF = 16,
	VECTOR_AC = 17,
	VECTOR_XM = 19,
	VECTOR_COUNT = 32
};

/* The error code of a #GP that an IDT gate of DPL 0 raised holds the vector that was meant. */
enum { GP_ERROR_IDT = 2, OPCODE_INT3 = 0xcc };

struct vector_signal {
	const char *what;
	int sig;
	int code;
	bool addr_is_rip;
};

/* As arch/x86/kernel/traps.c has them. */
static const struct vector_signal vector_signals[VECTOR_COUNT] = {
	[VECTOR_DE] = {"division error", SIGFPE, FPE_INTDIV, true},
	[VECTOR_DB] = {"debug trap", SIGTRAP, TRAP_TRACE, true},
	[VECTOR_BP] = {"breakpoint", SIGTRAP, SI_KERNEL, false},
	[VECTOR_OF] = {"overflow", SIGSEGV, SI_KERNEL, false},
	[VECTOR_BR] = {"bound range", SIGSEGV, SI_KERNEL, false},
	[VECTOR_UD] = {"invalid instruction", SIGILL, ILL_ILLOPN, true},
	[VECTOR_NP] = {"segment not present", SIGBUS, SI_KERNEL, false},
	[VECTOR_SS] = {"stack segment", SIGBUS, SI_KERNEL, false},
	[VECTOR_GP] = {"general protection", SIGSEGV, SI_KERNEL, false},
	[VECTOR_MF] = {"x87 error", SIGFPE, FPE_FLTINV, true},
	[VECTOR_AC] = {"alignment check", SIGBUS, BUS_ADRALN, false},
	[VECTOR_XM] = {"SIMD floating-point error", SIGFPE, FPE_FLTINV, true},
};

static void raise_fault(struct proc *p, struct task *t, const struct vcpu_event *event, int sig,
			int code, uint64_t addr, const char *what)
{
	p->signals->trap = (struct signal_trap){
		.trapno = event->vector,
		.err = event->error_code,
		.cr2 = event->cr2,
	};
	signal_fault(p, t, sig, code, addr, what);
}

static void page_fault(struct proc *p, struct task *t, const struct vcpu_event *event)
{
	int sig = SIGSEGV, code = SEGV_MAPERR;
	int ret = mm_fault(p, (struct gva){event->cr2}, event->error_code, &sig, &code);

	if (!ret)
		return;
	if (ret == -ENOMEM)
		proc_finish(p, PROC_OUT_OF_MEMORY, SIGKILL,
			    "out of memory: the function used all of its %llu MiB",
			    (unsigned long long)(p->memory_bytes >> 20));
	else if (ret < 0)
		fault_report(p, PROC_BROKEN, 0, "page fault at 0x%llx: %s",
			     (unsigned long long)event->cr2, strerror(-ret));
	else
		raise_fault(p, t, event, sig, code, event->cr2,
			    event->error_code & 2    ? "write"
			    : event->error_code & 16 ? "jump"
						     : "read");
}

/**
 * INT3 has a gate that ring 3 may not use on hardware KVM, and is an invalid instruction on a PVM
 * host: both mean a breakpoint, after which the program goes on behind the instruction.
 */
static bool is_int3(struct proc *p, const struct vcpu_event *event)
{
	uint8_t opcode = 0;

	if (event->vector == VECTOR_GP && (event->error_code & GP_ERROR_IDT))
		return event->error_code >> 3 == VECTOR_BP;
	if (event->vector != VECTOR_UD)
		return false;
	return !mm_copy_in(p, &opcode, vcpu_regs(p->vm)->rip, 1) && opcode == OPCODE_INT3;
}

/** si_code of an unmasked exception flag, in Linux's order (fpu__exception_code()). */
static int fpe_code(unsigned raised)
{
	if (raised & 1)
		return FPE_FLTINV;
	if (raised & 4)
		return FPE_FLTDIV;
	if (raised & 8)
		return FPE_FLTOVF;
	if (raised & 0x12)
		return FPE_FLTUND;
	if (raised & 0x20)
		return FPE_FLTRES;
	return FPE_FLTINV;
}

static int fault_fpe_code(struct proc *p, struct task *t, uint8_t vector)
{
	uint16_t fcw, fsw;
	uint32_t mxcsr;

	if (vcpu_save_user(p->vm, &t->user))
		return FPE_FLTINV;
	memcpy(&fcw, t->user.xsave, sizeof(fcw));
	memcpy(&fsw, t->user.xsave + 2, sizeof(fsw));
	memcpy(&mxcsr, t->user.xsave + 24, sizeof(mxcsr));
	return fpe_code(vector == VECTOR_MF ? fsw & ~fcw & 0x3f : mxcsr & ~(mxcsr >> 7) & 0x3f);
}

void exception_serve(struct proc *p, struct task *t, const struct vcpu_event *event)
{
	struct vcpu_event e = *event;
	const struct vector_signal *vs;
	int code;

	if (e.vector == VECTOR_PF) {
		page_fault(p, t, &e);
		return;
	}
	if (is_int3(p, &e)) {
		e.vector = VECTOR_BP;
		vcpu_regs(p->vm)->rip++;
		vcpu_regs_changed(p->vm);
	}
	vs = &vector_signals[e.vector % VECTOR_COUNT];
	if (!vs->what) {
		fault_report(p, PROC_BROKEN, 0, "unexpected exception %u, error code 0x%llx",
			     e.vector, (unsigned long long)e.error_code);
		return;
	}
	code = vs->code;
	if (e.vector == VECTOR_MF || e.vector == VECTOR_XM)
		code = fault_fpe_code(p, t, e.vector);
	raise_fault(p, t, &e, vs->sig, code, vs->addr_is_rip ? vcpu_regs(p->vm)->rip : 0, vs->what);
}
