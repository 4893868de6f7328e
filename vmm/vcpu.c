/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpu.c - enter the guest, and turn what comes out into events of the program
 *
 * Theory of operation
 *
 * Ring 3 leaves by one instruction, `out` to the doorbell: in the trampoline (system call) or in
 * the stub of an exception vector; which one is known from RIP. The program's RIP, RFLAGS and RSP
 * are then elsewhere: in RCX and R11 after SYSCALL, in the frame on the ring-0 stack after an
 * exception. vcpu_run() puts them back into the registers that others see (enter_done), and
 * undoes that at the next entry (enter_prepare):
 *
 *   stopped in      at CPL        goes on by
 *   trampoline      3 (PVM)       the registers as they are
 *   trampoline      0 (hardware)  sysretq where RCX = RIP and R11 = RFLAGS, else iretq
 *   exception stub  0             iretq (hardware), user segments through sregs (PVM: cheaper than
 *                                 an emulated instruction)
 *   ring 3 (kick)   3             the registers as they are
 *
 * Invariants
 *  1. Between two vcpu_run() the sync area holds the program's registers; regs_dirty is set
 *     unless KVM holds the same.
 *  2. in_kernel says at which CPL KVM's vCPU is; it changes only in enter_prepare (PVM, sregs) and
 *     after KVM_RUN.
 *  3. A kick is never lost: immediate_exit stays set until a VCPU_KICK was returned.
 *  4. Nothing that a program or a snapshot holds can make KVM refuse the entry: RIP, RFLAGS and the
 *     segment bases are made legal before.
 */
#include "vmm/vm.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "common/log.h"
#include "vmm/system_slot.h"

enum { VECTOR_PF = 14, VECTOR_GP = 13 };

/* RFLAGS that ring 3 may have: CF PF AF ZF SF TF DF OF NT RF AC ID. */
#define RFLAGS_USER 0x254dd5ull
#define RFLAGS_ON   0x202ull /* IF and the bit that is always one */

/* #DF #TS #NP #SS #GP #PF #AC #CP push an error code (SDM vol. 3, 6.3.1). */
#define VECTORS_WITH_ERROR (1u << 8 | 0x1fu << 10 | 1u << 17 | 1u << 21)

static bool is_canonical(uint64_t v)
{
	return (uint64_t)((int64_t)(v << 16) >> 16) == v;
}

static uint64_t user_rflags(uint64_t rflags)
{
	return (rflags & RFLAGS_USER) | RFLAGS_ON;
}

static void event_fatal(struct vcpu_event *ev, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void event_fatal(struct vcpu_event *ev, const char *fmt, ...)
{
	va_list ap;

	ev->kind = VCPU_FATAL;
	va_start(ap, fmt);
	vsnprintf(ev->text, sizeof(ev->text), fmt, ap);
	va_end(ap);
}

static void event_exception(struct vcpu_event *ev, uint8_t vector, uint64_t error_code)
{
	ev->kind = VCPU_EXCEPTION;
	ev->vector = vector;
	ev->error_code = error_code;
}

/* Make KVM's state the program's: the counterpart of enter_done(). */
static void enter_prepare(struct vm *vm)
{
	struct vcpu *c = &vm->vcpu;
	struct kvm_regs *regs = &c->run->s.regs.regs;
	struct kvm_sregs *sregs = &c->run->s.regs.sregs;

	regs->rflags = user_rflags(regs->rflags);
	if (c->in_kernel && vm->host_kind == PROTO_HOST_PVM) {
		sregs->cs = system_user_code();
		sregs->ss = system_user_data();
		c->sregs_dirty = true;
		c->in_kernel = false;
	} else if (c->in_kernel) {
		if (regs->rcx == regs->rip && user_rflags(regs->r11) == regs->rflags) {
			regs->r11 = regs->rflags;
			regs->rip = SYSTEM_SYSRET_GVA;
		} else {
			*system_frame(&vm->mem) = (struct system_frame){
				.rip = regs->rip,
				.cs = SYSTEM_SEL_USER_CODE,
				.rflags = regs->rflags,
				.rsp = regs->rsp,
				.ss = SYSTEM_SEL_USER_DATA,
			};
			regs->rip = SYSTEM_IRETQ_GVA;
			regs->rsp = SYSTEM_FRAME_GVA;
		}
		regs->rflags = 0x2;
		c->regs_dirty = true;
	}
	c->run->kvm_dirty_regs =
		(c->regs_dirty ? KVM_SYNC_X86_REGS : 0) | (c->sregs_dirty ? KVM_SYNC_X86_SREGS : 0);
	c->regs_dirty = c->sregs_dirty = false;
}

/* Put what an exception or enter_prepare() stored in the frame back into the registers. */
static void take_frame(struct vm *vm)
{
	struct kvm_regs *regs = vcpu_regs(vm);
	const struct system_frame *frame = system_frame(&vm->mem);

	regs->rip = frame->rip;
	regs->rflags = frame->rflags;
	regs->rsp = frame->rsp;
	vcpu_regs_changed(vm);
}

static void stopped_in_syscall(struct vm *vm, struct vcpu_event *ev)
{
	struct kvm_regs *regs = vcpu_regs(vm);

	regs->rip = regs->rcx;
	regs->rflags = regs->r11;
	vcpu_regs_changed(vm);
	ev->kind = VCPU_SYSCALL;
}

static void stopped_in_stub(struct vm *vm, struct vcpu_event *ev)
{
	const struct kvm_regs *regs = vcpu_regs(vm);
	const struct system_frame *frame = system_frame(&vm->mem);
	uint8_t vector = (uint8_t)((regs->rip - SYSTEM_STUBS_GVA) / SYSTEM_STUB_BYTES);
	bool has_error = VECTORS_WITH_ERROR >> vector & 1;

	if (regs->rsp != SYSTEM_FRAME_GVA - (has_error ? 8 : 0) ||
	    frame->cs != SYSTEM_SEL_USER_CODE) {
		event_fatal(ev, "exception %u outside the program, rsp 0x%llx, cr2 0x%llx", vector,
			    (unsigned long long)regs->rsp,
			    (unsigned long long)vm->vcpu.run->s.regs.sregs.cr2);
		return;
	}
	event_exception(ev, vector, has_error ? ((const uint64_t *)frame)[-1] : 0);
	if (vector == VECTOR_PF)
		ev->cr2 = vm->vcpu.run->s.regs.sregs.cr2;
	take_frame(vm);
}

/*
 * The run was interrupted, or stopped at a doorbell: where is the program?
 * Return: false if it is in the middle of an instruction of its own (a kick).
 */
static bool enter_done(struct vm *vm, struct vcpu_event *ev)
{
	struct vcpu *c = &vm->vcpu;
	struct kvm_regs *regs = vcpu_regs(vm);
	uint64_t rip = regs->rip;

	c->in_kernel = c->run->s.regs.sregs.cs.dpl == 0;
	if (rip == SYSTEM_SYSCALL_GVA ||
	    (rip == SYSTEM_SYSRET_GVA && c->run->exit_reason == KVM_EXIT_IO)) {
		stopped_in_syscall(vm, ev);
		return true;
	}
	if (c->in_kernel && rip >= SYSTEM_STUBS_GVA && rip < SYSTEM_STUBS_END) {
		stopped_in_stub(vm, ev);
		return true;
	}
	if (c->in_kernel && rip == SYSTEM_SYSRET_GVA) {
		regs->rip = regs->rcx;
		regs->rflags = regs->r11;
		vcpu_regs_changed(vm);
	} else if (c->in_kernel && rip == SYSTEM_IRETQ_GVA) {
		take_frame(vm);
	}
	return false;
}

static void stopped_by_io(struct vm *vm, struct vcpu_event *ev)
{
	const struct kvm_run *run = vm->vcpu.run;

	if (run->io.port == GUEST_DOORBELL_PORT && run->io.direction == KVM_EXIT_IO_OUT &&
	    enter_done(vm, ev))
		return;
	/* The program used the doorbell by itself: it has no right to, as with any port. */
	event_exception(ev, VECTOR_GP, 0);
}

static void stopped_for_good(struct vm *vm, struct vcpu_event *ev)
{
	const struct kvm_run *run = vm->vcpu.run;
	unsigned long long rip = vcpu_regs(vm)->rip;

	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		event_fatal(ev, "triple fault at rip 0x%llx", rip);
		break;
	case KVM_EXIT_INTERNAL_ERROR: {
		unsigned n = MIN(run->internal.ndata, 4u);
		unsigned long long data[4] = {0};

		for (unsigned i = 0; i < n; i++)
			data[i] = run->internal.data[i];
		event_fatal(
			ev,
			"kvm internal error, suberror %u, at rip 0x%llx, data %llx %llx %llx %llx",
			run->internal.suberror, rip, data[0], data[1], data[2], data[3]);
		break;
	}
	case KVM_EXIT_FAIL_ENTRY:
		event_fatal(ev, "kvm could not enter the guest, reason 0x%llx, rip 0x%llx",
			    (unsigned long long)run->fail_entry.hardware_entry_failure_reason, rip);
		break;
	case KVM_EXIT_MMIO:
		event_fatal(ev, "access to guest-physical 0x%llx, where nothing is, at rip 0x%llx",
			    (unsigned long long)run->mmio.phys_addr, rip);
		break;
	default:
		event_fatal(ev, "unexpected kvm exit reason %u at rip 0x%llx", run->exit_reason,
			    rip);
	}
}

/*
 * KVM_RUN was interrupted. An exception may be on its way to its stub: KVM would deliver it to
 * whatever context is loaded next, so the vCPU must run on until the stub has it.
 * Return: true if the event is complete.
 */
static bool stopped_by_signal(struct vm *vm, struct vcpu_event *ev)
{
	struct vcpu *c = &vm->vcpu;
	struct kvm_vcpu_events events;

	if (!ioctl(c->fd, KVM_GET_VCPU_EVENTS, &events) &&
	    (events.exception.injected || events.exception.pending)) {
		c->run->kvm_dirty_regs = 0;
		c->run->immediate_exit = 0;
		c->kick_owed = true;
		return false;
	}
	c->run->exit_reason = KVM_EXIT_INTR;
	if (enter_done(vm, ev)) {
		c->kick_owed = true;
		return true;
	}
	c->run->immediate_exit = 0;
	c->kick_owed = false;
	ev->kind = VCPU_KICK;
	return true;
}

int vcpu_run(struct vm *vm, struct vcpu_event *ret_event)
{
	struct vcpu *c = &vm->vcpu;
	bool done = true;

	ret_event->vector = 0;
	ret_event->error_code = ret_event->cr2 = 0;
	ret_event->text[0] = '\0';
	if (c->kick_owed || __atomic_load_n(&c->run->immediate_exit, __ATOMIC_RELAXED)) {
		c->kick_owed = false;
		c->run->immediate_exit = 0;
		ret_event->kind = VCPU_KICK;
		return 0;
	}
	if (!is_canonical(vcpu_regs(vm)->rip)) {
		event_exception(ret_event, VECTOR_GP, 0);
		return 0;
	}
	enter_prepare(vm);
	do {
		int r = ioctl(c->fd, KVM_RUN, 0);

		c->exits++;
		if (r && (errno == EINTR || errno == EAGAIN)) {
			done = stopped_by_signal(vm, ret_event);
		} else if (r) {
			event_fatal(ret_event, "KVM_RUN failed: %s, at rip 0x%llx", strerror(errno),
				    (unsigned long long)vcpu_regs(vm)->rip);
			done = true;
		} else if (c->run->exit_reason == KVM_EXIT_IO) {
			stopped_by_io(vm, ret_event);
			done = true;
		} else {
			stopped_for_good(vm, ret_event);
			done = true;
		}
	} while (!done);
	return 0;
}

void vcpu_set_fs_base(struct vm *vm, uint64_t base)
{
	vm->vcpu.run->s.regs.sregs.fs.base = (uint64_t)((int64_t)(base << 16) >> 16);
	vm->vcpu.sregs_dirty = true;
}

void vcpu_set_gs_base(struct vm *vm, uint64_t base)
{
	vm->vcpu.run->s.regs.sregs.gs.base = (uint64_t)((int64_t)(base << 16) >> 16);
	vm->vcpu.sregs_dirty = true;
}

/* ---- XSAVE: KVM's area has the host's layout, ours has one for all hosts -------------------- */

enum { XSAVE_MXCSR = 24, XSAVE_HEADER = 512, XSAVE_AVX_END = 832, XSAVE_SW = 464 };

static const struct {
	uint16_t at, bytes;
} xsave_part[8] = {[5] = {832, 64}, [6] = {896, 512}, [7] = {1408, 1024}};

_Static_assert(1408 + 1024 == VCPU_XSAVE_BYTES, "the last part ends the area");

int vcpu_save_user(struct vm *vm, struct user_state *ret)
{
	const struct vcpu *c = &vm->vcpu;
	struct kvm_xsave area;
	const uint8_t *src = (const uint8_t *)area.region;
	uint64_t bv;

	if (ioctl(c->fd, KVM_GET_XSAVE, &area)) {
		int err = -errno;

		log_error("kvm: KVM_GET_XSAVE failed: %s", strerror(-err));
		return err;
	}
	ret->regs = c->run->s.regs.regs;
	ret->regs.rflags = user_rflags(ret->regs.rflags);
	ret->fs_base = c->run->s.regs.sregs.fs.base;
	ret->gs_base = c->run->s.regs.sregs.gs.base;

	memset(ret->xsave, 0, sizeof(ret->xsave));
	memcpy(ret->xsave, src, XSAVE_AVX_END);
	memset(ret->xsave + XSAVE_SW, 0, XSAVE_HEADER - XSAVE_SW);
	memcpy(&bv, src + XSAVE_HEADER, sizeof(bv));
	bv &= c->xcr0;
	for (unsigned n = 5; n < 8; n++) {
		const uint8_t *part = src + c->xsave_offset[n];

		if (!(bv >> n & 1))
			continue;
		/* In use but all zero is what not in use means; it keeps the context portable. */
		if (!c->xsave_offset[n] || mem_is_zero(part, xsave_part[n].bytes))
			bv &= ~(1ull << n);
		else
			memcpy(ret->xsave + xsave_part[n].at, part, xsave_part[n].bytes);
	}
	memset(ret->xsave + XSAVE_HEADER, 0, 64);
	memcpy(ret->xsave + XSAVE_HEADER, &bv, sizeof(bv));
	return 0;
}

/* What KVM or the CPU would refuse must not reach them. */
static int check_user_state(const struct vcpu *c, const struct user_state *u)
{
	uint64_t header[8];
	uint32_t mxcsr;

	memcpy(header, u->xsave + XSAVE_HEADER, sizeof(header));
	memcpy(&mxcsr, u->xsave + XSAVE_MXCSR, sizeof(mxcsr));
	for (size_t i = 1; i < ARRAY_SIZE(header); i++)
		if (header[i])
			return -EBADMSG;
	if (mxcsr & ~0xffffu || !is_canonical(u->fs_base) || !is_canonical(u->gs_base) ||
	    header[0] & ~VCPU_XCR0_MAX)
		return -EBADMSG;
	if (header[0] & ~c->xcr0) {
		log_error("the context uses cpu state 0x%llx, this host has 0x%llx",
			  (unsigned long long)header[0], (unsigned long long)c->xcr0);
		return -EOPNOTSUPP;
	}
	return 0;
}

int vcpu_load_user(struct vm *vm, const struct user_state *u)
{
	struct vcpu *c = &vm->vcpu;
	struct kvm_xsave area;
	uint8_t *dst = (uint8_t *)area.region;
	int err = check_user_state(c, u);

	if (err)
		return err;
	memset(&area, 0, sizeof(area));
	memcpy(dst, u->xsave, XSAVE_SW);
	memcpy(dst + XSAVE_HEADER, u->xsave + XSAVE_HEADER, XSAVE_AVX_END - XSAVE_HEADER);
	for (unsigned n = 5; n < 8; n++)
		if (u->xsave[XSAVE_HEADER] >> n & 1 && c->xsave_offset[n])
			memcpy(dst + c->xsave_offset[n], u->xsave + xsave_part[n].at,
			       xsave_part[n].bytes);
	if (ioctl(c->fd, KVM_SET_XSAVE, &area)) {
		err = -errno;
		log_error("kvm: KVM_SET_XSAVE failed: %s", strerror(-err));
		return err;
	}
	c->run->s.regs.regs = u->regs;
	c->regs_dirty = true;
	if (c->run->s.regs.sregs.fs.base != u->fs_base ||
	    c->run->s.regs.sregs.gs.base != u->gs_base) {
		vcpu_set_fs_base(vm, u->fs_base);
		vcpu_set_gs_base(vm, u->gs_base);
	}
	return 0;
}

void vcpu_kick(struct vm *vm)
{
	struct vcpu *c = &vm->vcpu;

	__atomic_store_n(&c->run->immediate_exit, 1, __ATOMIC_RELAXED);
	if ((int)syscall(SYS_gettid) != c->tid)
		syscall(SYS_tgkill, getpid(), c->tid, VCPU_KICK_SIGNAL);
}

uint64_t vcpu_guest_tsc(struct vm *vm)
{
	(void)vm;
	return __rdtsc();
}
