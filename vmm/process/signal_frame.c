/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signal_frame.c - the stack frame that a signal handler runs on
 *
 * Source: Linux arch/x86/kernel/signal_64.c, arch/x86/include/uapi/asm/sigcontext.h and ucontext.h.
 * Debuggers, unwinders and language runtimes know this layout:
 *
 *   higher addresses   red zone of 128 bytes (not on a fresh alternate stack)
 *                      fpstate: XSAVE area, 64-aligned, FP_XSTATE_MAGIC2 behind it
 *                      siginfo_t
 *                      ucontext
 *   rsp                return address: the restorer; rsp + 8 is 16-aligned
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>

#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/sched.h"
#include "vmm/process/signal_internal.h"

#define XSTATE_MAGIC1 0x46505853u
#define XSTATE_MAGIC2 0x46505845u

enum {
	RED_ZONE_BYTES = 128,
	SW_RESERVED = 464, /* in the legacy area */
	FXSAVE_BYTES = 512,
	XSAVE_HEADER = 512,
	USER_CS = 0x33, /* what Linux programs expect to see */
	USER_SS = 0x2b,
	UC_XSTATE = 1,
	UC_SS = 2 | 4, /* UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */
	SA_RESTORER_BIT = 0x04000000,
};

#define RFLAGS_FRAME 0x50dd5ull /* FIX_EFLAGS: what a frame may set */
#define RFLAGS_TF    0x100ull
#define RFLAGS_DF    0x400ull
#define RFLAGS_RF    0x10000ull

struct frame_stack {
	uint64_t sp;
	uint32_t flags, pad;
	uint64_t size;
};

struct frame_context {
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2;
	uint64_t fpstate;
	uint64_t reserved[8];
};

struct frame {
	uint64_t return_to;
	uint64_t uc_flags, uc_link;
	struct frame_stack uc_stack;
	struct frame_context context;
	uint64_t uc_sigmask;
	uint8_t info[128];
};

static_assert(sizeof(struct frame_context) == 256, "struct sigcontext");
static_assert(offsetof(struct frame, context) == 8 + 40, "uc_mcontext");
static_assert(sizeof(struct frame) == 440, "struct rt_sigframe");

/** struct fpx_sw_bytes - what tells user space about the XSAVE area. */
struct fpx_sw_bytes {
	uint32_t magic1;
	uint32_t extended_bytes;
	uint64_t components;
	uint32_t xstate_bytes;
	uint32_t padding[7];
};

static_assert(sizeof(struct fpx_sw_bytes) == 48, "sw_reserved");

bool signal_on_altstack(const struct task *t, uint64_t sp)
{
	if (t->altstack_flags & SIGNAL_ALTSTACK_FLAGS & ~SIGNAL_ALTSTACK_DISABLED)
		return false; /* SS_AUTODISARM: never counts as in use */
	return sp > t->altstack_base && sp - t->altstack_base <= t->altstack_bytes;
}

static void context_fill(struct frame_context *c, const struct user_state *u,
			 const struct signal_trap *trap)
{
	const struct kvm_regs *r = &u->regs;

	*c = (struct frame_context){
		.r8 = r->r8,
		.r9 = r->r9,
		.r10 = r->r10,
		.r11 = r->r11,
		.r12 = r->r12,
		.r13 = r->r13,
		.r14 = r->r14,
		.r15 = r->r15,
		.rdi = r->rdi,
		.rsi = r->rsi,
		.rbp = r->rbp,
		.rbx = r->rbx,
		.rdx = r->rdx,
		.rax = r->rax,
		.rcx = r->rcx,
		.rsp = r->rsp,
		.rip = r->rip,
		.rflags = r->rflags,
		.cs = USER_CS,
		.ss = USER_SS,
		.err = trap->err,
		.trapno = trap->trapno,
		.cr2 = trap->cr2,
	};
}

static void context_apply(const struct frame_context *c, struct kvm_regs *r)
{
	r->r8 = c->r8;
	r->r9 = c->r9;
	r->r10 = c->r10;
	r->r11 = c->r11;
	r->r12 = c->r12;
	r->r13 = c->r13;
	r->r14 = c->r14;
	r->r15 = c->r15;
	r->rdi = c->rdi;
	r->rsi = c->rsi;
	r->rbp = c->rbp;
	r->rbx = c->rbx;
	r->rdx = c->rdx;
	r->rax = c->rax;
	r->rcx = c->rcx;
	r->rsp = c->rsp;
	r->rip = c->rip;
	r->rflags = (r->rflags & ~RFLAGS_FRAME) | (c->rflags & RFLAGS_FRAME);
}

static int fpstate_push(struct proc *p, const struct user_state *u, uint64_t at)
{
	uint8_t area[VCPU_XSAVE_BYTES + sizeof(uint32_t)];
	const uint32_t magic2 = XSTATE_MAGIC2;
	const struct fpx_sw_bytes sw = {
		.magic1 = XSTATE_MAGIC1,
		.extended_bytes = sizeof(area),
		.components = p->vm->vcpu.xcr0,
		.xstate_bytes = VCPU_XSAVE_BYTES,
	};
	uint64_t in_use;

	memcpy(area, u->xsave, VCPU_XSAVE_BYTES);
	memcpy(area + SW_RESERVED, &sw, sizeof(sw));
	memcpy(area + VCPU_XSAVE_BYTES, &magic2, sizeof(magic2));
	/* The legacy parts are always there for whoever reads them. */
	memcpy(&in_use, area + XSAVE_HEADER, sizeof(in_use));
	in_use |= 3;
	memcpy(area + XSAVE_HEADER, &in_use, sizeof(in_use));
	return mm_copy_out(p, at, area, sizeof(area));
}

/** Where the XSAVE area of a new frame goes; the frame is below it. */
static uint64_t frame_top(const struct task *t, const struct user_state *u,
			  const struct signal_action *action)
{
	uint64_t sp = u->regs.rsp - RED_ZONE_BYTES;

	if ((action->flags & SA_ONSTACK) && !(t->altstack_flags & SIGNAL_ALTSTACK_DISABLED) &&
	    !signal_on_altstack(t, u->regs.rsp))
		sp = t->altstack_base + t->altstack_bytes;
	return align_down(sp - (VCPU_XSAVE_BYTES + sizeof(uint32_t)), 64);
}

int signal_frame_push(struct proc *p, struct task *t, struct user_state *u,
		      const struct signal_action *action, const struct signal_info *info,
		      uint64_t mask)
{
	uint64_t fp_at = frame_top(t, u, action);
	uint64_t at = align_down(fp_at - sizeof(struct frame), 16) - 8;
	struct frame f = {
		.return_to = action->restorer,
		.uc_flags = UC_XSTATE | UC_SS,
		.uc_stack = {t->altstack_base, t->altstack_flags, 0, t->altstack_bytes},
		.uc_sigmask = mask,
	};

	/* x86-64 has no other way back than the restorer. */
	if (!(action->flags & SA_RESTORER_BIT))
		return -EFAULT;
	/* A handler that outgrows the alternate stack must not run over what is below it. */
	if (signal_on_altstack(t, u->regs.rsp) && (action->flags & SA_ONSTACK) &&
	    !signal_on_altstack(t, at))
		return -EFAULT;
	context_fill(&f.context, u, &p->signals->trap);
	f.context.oldmask = mask;
	f.context.fpstate = fp_at;
	signal_info_pack(info, f.info);
	if (fpstate_push(p, u, fp_at) || mm_copy_out(p, at, &f, sizeof(f)))
		return -EFAULT;
	p->signals->trap = (struct signal_trap){0};
	if (t->altstack_flags & (1u << 31)) {
		/* SS_AUTODISARM */
		t->altstack_base = t->altstack_bytes = 0;
		t->altstack_flags = SIGNAL_ALTSTACK_DISABLED;
	}
	u->regs.rdi = (uint64_t)info->sig;
	u->regs.rsi = at + offsetof(struct frame, info);
	u->regs.rdx = at + offsetof(struct frame, uc_flags);
	u->regs.rax = 0;
	u->regs.rsp = at;
	u->regs.rip = action->handler;
	u->regs.rflags &= ~(RFLAGS_DF | RFLAGS_RF | RFLAGS_TF);
	user_state_init_fpu(u);
	return 0;
}

static int fpstate_pop(struct proc *p, struct user_state *u, uint64_t at)
{
	struct fpx_sw_bytes sw;
	uint64_t in_use = 3;
	uint32_t magic2 = 0;

	user_state_init_fpu(u);
	if (!at)
		return 0;
	if (mm_copy_in(p, u->xsave, at, FXSAVE_BYTES))
		return -EFAULT;
	memcpy(&sw, u->xsave + SW_RESERVED, sizeof(sw));
	memset(u->xsave + SW_RESERVED, 0, sizeof(sw));
	/* A frame that somebody else built may have the legacy part alone. */
	if (sw.magic1 == XSTATE_MAGIC1 && sw.xstate_bytes == VCPU_XSAVE_BYTES &&
	    !mm_copy_in(p, &magic2, at + VCPU_XSAVE_BYTES, sizeof(magic2)) &&
	    magic2 == XSTATE_MAGIC2) {
		if (mm_copy_in(p, u->xsave, at, VCPU_XSAVE_BYTES))
			return -EFAULT;
		memset(u->xsave + SW_RESERVED, 0, sizeof(sw));
		memcpy(&in_use, u->xsave + XSAVE_HEADER, sizeof(in_use));
	}
	in_use &= p->vm->vcpu.xcr0;
	memcpy(u->xsave + XSAVE_HEADER, &in_use, sizeof(in_use));
	return user_state_check(u) ? -EFAULT : 0;
}

int signal_frame_pop(struct proc *p, struct task *t, struct user_state *u)
{
	struct frame f;

	/* The handler's RET took the return address off the stack. */
	if (mm_copy_in(p, &f, u->regs.rsp - 8, sizeof(f)))
		return -EFAULT;
	context_apply(&f.context, &u->regs);
	if (fpstate_pop(p, u, f.context.fpstate))
		return -EFAULT;
	signal_set_mask(p, t, f.uc_sigmask);
	if (!(f.uc_stack.flags & SIGNAL_ALTSTACK_DISABLED) && f.uc_stack.size) {
		t->altstack_base = f.uc_stack.sp;
		t->altstack_bytes = f.uc_stack.size;
		t->altstack_flags = f.uc_stack.flags & SIGNAL_ALTSTACK_FLAGS;
	}
	return 0;
}
