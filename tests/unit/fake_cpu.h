/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_cpu.h - a guest whose programs are tables of steps: the scheduler, signals and sockets
 * without KVM
 *
 * The test defines vcpu_*() itself, so that the run loop is the real one. A program is a range of
 * program[]; rip counts steps, two bytes each, as long as a SYSCALL instruction: a restarted call
 * is the same step again.
 */
#ifndef QUICKTHAW_TESTS_FAKE_CPU_H
#define QUICKTHAW_TESTS_FAKE_CPU_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/process/clock.h"
#include "vmm/process/file.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/sched.h"
#include "vmm/process/signal_internal.h"
#include "vmm/process/sock.h"
#include "vmm/process/syscall.h"

enum { RAM_MIB = 16, ARENA = 0x30000000, ARENA_PAGES = 256, STEPS_AT = 0x400000, STEPS_MAX = 256 };

enum step_op { STEP_CALL, STEP_EXPECT, STEP_SPIN, STEP_FAULT, STEP_DO };

/** struct step - one instruction of a program. */
struct step {
	enum step_op op;
	int64_t nr; /**< of the call, or the value that rax is to have */
	uint64_t a[6];
	void (*fn)(struct kvm_regs *regs);
};

#define CALL(n, ...)                                                                               \
	{                                                                                          \
		.op = STEP_CALL, .nr = SYS_##n, .a = { __VA_ARGS__ }                               \
	}
#define EXPECT(v)                                                                                  \
	{                                                                                          \
		.op = STEP_EXPECT, .nr = (v)                                                       \
	}
#define DO(f)                                                                                      \
	{                                                                                          \
		.op = STEP_DO, .fn = (f)                                                           \
	}
#define SPIN                                                                                       \
	{                                                                                          \
		.op = STEP_SPIN                                                                    \
	}
#define FAULT(vec, at)                                                                             \
	{                                                                                          \
		.op = STEP_FAULT, .nr = (vec), .a = {(at) }                                        \
	}
#define EXIT(status) CALL(exit, status)

/** struct guest - everything of a guest but the machine. */
struct guest {
	struct vm vm;
	struct proc p;
};

static struct step program[STEPS_MAX];
static unsigned program_steps;
static uint8_t cpu_xsave[VCPU_XSAVE_BYTES];
static volatile int cpu_kicked;
static unsigned cpu_loads, cpu_spins;

static struct step *step_at(uint64_t rip)
{
	assert_true(rip >= STEPS_AT && (rip - STEPS_AT) / 2 < program_steps);
	return &program[(rip - STEPS_AT) / 2];
}

/* ---- the vCPU that the run loop sees ---- */

int vcpu_run(struct vm *vm, struct vcpu_event *ret_event)
{
	struct kvm_regs *regs = vcpu_regs(vm);

	for (;;) {
		const struct step *s = step_at(regs->rip);

		if (cpu_kicked) {
			cpu_kicked = 0;
			*ret_event = (struct vcpu_event){.kind = VCPU_KICK};
			return 0;
		}
		switch (s->op) {
		case STEP_CALL:
			regs->rax = (uint64_t)s->nr;
			regs->rdi = s->a[0];
			regs->rsi = s->a[1];
			regs->rdx = s->a[2];
			regs->r10 = s->a[3];
			regs->r8 = s->a[4];
			regs->r9 = s->a[5];
			regs->rip += 2;
			*ret_event = (struct vcpu_event){.kind = VCPU_SYSCALL};
			return 0;
		case STEP_EXPECT:
			if ((int64_t)regs->rax != s->nr)
				fail_msg("step %zu: rax is %lld, not %lld", (size_t)(s - program),
					 (long long)regs->rax, (long long)s->nr);
			regs->rip += 2;
			break;
		case STEP_DO:
			regs->rip += 2;
			s->fn(regs);
			break;
		case STEP_SPIN:
			cpu_spins++;
			while (!cpu_kicked)
				usleep(100);
			break;
		case STEP_FAULT:
			*ret_event = (struct vcpu_event){
				.kind = VCPU_EXCEPTION,
				.vector = (uint8_t)s->nr,
				.error_code = s->nr == 14 ? 6 : 0,
				.cr2 = s->a[0],
			};
			return 0;
		}
	}
}

int vcpu_save_user(struct vm *vm, struct user_state *ret)
{
	ret->regs = *vcpu_regs(vm);
	memcpy(ret->xsave, cpu_xsave, sizeof(cpu_xsave));
	return 0;
}

int vcpu_load_user(struct vm *vm, const struct user_state *u)
{
	cpu_loads++;
	*vcpu_regs(vm) = u->regs;
	memcpy(cpu_xsave, u->xsave, sizeof(cpu_xsave));
	return 0;
}

void vcpu_kick(struct vm *vm)
{
	(void)vm;
	cpu_kicked = 1;
}

void vcpu_set_fs_base(struct vm *vm, uint64_t base)
{
	(void)vm;
	(void)base;
}

void vcpu_set_gs_base(struct vm *vm, uint64_t base)
{
	(void)vm;
	(void)base;
}

uint64_t vcpu_guest_tsc(struct vm *vm)
{
	(void)vm;
	return 0;
}

void vm_set_page_tables(struct vm *vm, struct gpa pml4)
{
	(void)vm;
	(void)pml4;
}

/* ---- the guest ---- */

static inline void guest_start(struct guest *g)
{
	memset(g, 0, sizeof(*g));
	g->p.vm = &g->vm;
	g->p.memory_bytes = g->p.tmp_bytes = MIB(RAM_MIB);
	g->vm.vcpu.xcr0 = VCPU_XCR0;
	assert_int_equal(guest_mem_init(&g->vm.mem, MIB(RAM_MIB)), 0);
	g->vm.vcpu.run = calloc(1, sizeof(*g->vm.vcpu.run));
	assert_non_null(g->vm.vcpu.run);
	syscall_init();
	assert_int_equal(sched_new(&g->p), 0);
	assert_int_equal(guest_clock_new(&g->p), 0);
	assert_int_equal(signals_new(&g->p), 0);
	assert_int_equal(files_new(&g->p), 0);
	assert_int_equal(net_new(&g->p), 0);
}

static inline void guest_stop(struct guest *g)
{
	if (g->p.mm)
		mm_free(&g->p);
	files_free(&g->p);
	net_free(&g->p);
	signals_free(&g->p);
	guest_clock_free(&g->p);
	sched_free(&g->p);
	free(g->vm.vcpu.run);
	guest_mem_free(&g->vm.mem);
}

static inline int guest_setup(void **state)
{
	struct guest *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	guest_start(g);
	assert_int_equal(mm_new(&g->p), 0);
	assert_int_equal(mm_map(&g->p, ARENA, ARENA_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0),
			 ARENA);
	program_steps = 0;
	cpu_kicked = 0;
	cpu_loads = cpu_spins = 0;
	*state = g;
	return 0;
}

static inline int guest_teardown(void **state)
{
	guest_stop(*state);
	free(*state);
	return 0;
}

/** add_steps() - Return: the rip of the first one. */
static inline uint64_t add_steps(const struct step *steps, size_t n)
{
	uint64_t rip = STEPS_AT + 2 * program_steps;

	assert_true(program_steps + n <= STEPS_MAX);
	memcpy(program + program_steps, steps, n * sizeof(*steps));
	program_steps += (unsigned)n;
	return rip;
}

static inline struct task *add_task_at(struct guest *g, uint64_t rip)
{
	struct user_state u = {.regs = {.rip = rip, .rsp = ARENA + 0x20000, .rflags = 0x202}};
	struct task *t;

	user_state_init_fpu(&u);
	t = task_new(&g->p, &u);
	assert_non_null(t);
	/* Stacks apart from each other. */
	t->user.regs.rsp += (uint64_t)t->tid * 0x8000;
	return t;
}

#define STEPS(...)                                                                                 \
	add_steps((const struct step[]){__VA_ARGS__},                                              \
		  sizeof((const struct step[]){__VA_ARGS__}) / sizeof(struct step))
#define TASK(g, ...) add_task_at(g, STEPS(__VA_ARGS__))

/** run_all() - until the guest has exited by itself. */
static inline void run_all(struct guest *g)
{
	sched_run(&g->p, NULL);
	if (g->p.end != PROC_EXITED)
		fail_msg("the guest ended with %d: %s", g->p.end, g->p.end_text);
}

static inline void put(struct guest *g, uint64_t at, const void *data, size_t n)
{
	assert_int_equal(mm_copy_out(&g->p, at, data, n), 0);
}

static inline void put_u32(struct guest *g, uint64_t at, uint32_t v)
{
	put(g, at, &v, sizeof(v));
}

static inline void put_u64(struct guest *g, uint64_t at, uint64_t v)
{
	put(g, at, &v, sizeof(v));
}

static inline void get(struct guest *g, uint64_t at, void *data, size_t n)
{
	assert_int_equal(mm_copy_in(&g->p, data, at, n), 0);
}

static inline uint32_t get_u32(struct guest *g, uint64_t at)
{
	uint32_t v;

	get(g, at, &v, sizeof(v));
	return v;
}

static inline void put_timespec(struct guest *g, uint64_t at, uint64_t ns)
{
	const uint64_t ts[2] = {ns / 1000000000, ns % 1000000000};

	put(g, at, ts, sizeof(ts));
}

/**
 * call_now() - one system call by @t that is expected not to wait.
 * A task that is not of the run loop's: it stands for the program itself.
 */
static inline int64_t call_now(struct guest *g, struct task *t, long nr, const uint64_t a[6])
{
	int64_t ret;

	task_queue_remove(t);
	g->p.sched->current = t;
	t->nr = (uint64_t)nr;
	t->wait = (struct wait){.deadline_ns = WAIT_FOREVER};
	t->in_syscall = false;
	t->state = TASK_RUNNABLE;
	memcpy(t->args, a, sizeof(t->args));
	ret = syscall_dispatch(&g->p, t, t->nr, t->args);
	return ret;
}

#define NOW(g, t, n, ...) call_now(g, t, SYS_##n, (const uint64_t[6]){__VA_ARGS__})

/**
 * reload() - save one part, and load it into a fresh guest, then with every byte changed in turn:
 * a damaged state must be refused or be harmless.
 */
static inline void load_damaged(struct guest *g, const struct state_writer *w,
				int (*load)(struct proc *p, struct state_reader *r),
				int (*before)(struct proc *p))
{
	uint8_t *copy = malloc(w->used ? w->used : 1);
	size_t step = w->used > 4096 ? w->used / 2048 : 1;

	(void)g;
	assert_non_null(copy);
	for (size_t i = 0; i < w->used; i += step) {
		struct state_reader r = {.data = copy, .left = w->used};
		struct guest *fresh = calloc(1, sizeof(*fresh));

		memcpy(copy, w->data, w->used);
		copy[i] ^= 0xff;
		guest_start(fresh);
		if (before)
			assert_int_equal(before(&fresh->p), 0);
		load(&fresh->p, &r);
		guest_stop(fresh);
		free(fresh);
	}
	for (size_t n = 0; n < w->used; n += step) {
		struct state_reader r = {.data = w->data, .left = n};
		struct guest *fresh = calloc(1, sizeof(*fresh));

		guest_start(fresh);
		if (before)
			assert_int_equal(before(&fresh->p), 0);
		assert_int_not_equal(load(&fresh->p, &r), 0);
		guest_stop(fresh);
		free(fresh);
	}
	free(copy);
}

#endif
