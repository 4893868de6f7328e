/* SPDX-License-Identifier: Apache-2.0 */
/* test_vm.c - the machine on real KVM: what vcpu_run() returns */
#include "tests/unit/vm_guest.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

static struct guest guest;

static int setup(void **state)
{
	(void)state;
	guest_open(&guest);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vm_free(&guest.vm);
	return 0;
}

/* ---- system calls --------------------------------------------------------------------------- */

PROGRAM(prog_registers,
	"mov $0x1111, %rbx\n mov $0x2222, %rdx\n mov $0x3333, %rsi\n"
	"mov $0x4444, %rdi\n mov $0x5555, %rbp\n mov $0x6666, %r8\n"
	"mov $0x7777, %r9\n mov $0x8888, %r10\n mov $0x9999, %r12\n"
	"mov $0xaaaa, %r13\n mov $0xbbbb, %r14\n mov $0xcccc, %r15\n"
	"mov $39, %eax\n stc\n syscall\n"
	"after: setc %cl\n movzx %cl, %ecx\n add %rax, %rbx\n add %rdx, %rbx\n"
	"add %rsi, %rbx\n add %rdi, %rbx\n add %rbp, %rbx\n add %r8, %rbx\n"
	"add %r9, %rbx\n add %r10, %rbx\n add %r12, %rbx\n add %r13, %rbx\n"
	"add %r14, %rbx\n add %r15, %rbx\n mov %rcx, %rdi\n mov $60, %eax\n syscall");

static void test_syscall_registers(void **state)
{
	struct kvm_regs *r = vcpu_regs(&guest.vm);

	(void)state;
	guest_start_program(&guest, prog_registers);
	guest_expect(&guest, VCPU_SYSCALL);
	assert_int_equal(r->rax, 39);
	assert_int_equal(r->rdi, 0x4444);
	assert_int_equal(r->r10, 0x8888);
	assert_int_equal(r->rsp, GUEST_STACK + PAGE_BYTES - 64);
	assert_true(r->rip > GUEST_CODE && r->rip < GUEST_CODE + 200);
	assert_int_equal(((uint8_t *)guest_page_ptr(&guest.vm.mem,
						    guest.next_page - 1))[r->rip - GUEST_CODE - 1],
			 0x05);
	assert_int_equal(r->rflags & 1, 1);
	assert_int_equal(r->rflags & 0x200, 0x200);
	guest_result(&guest, 0x10000000);
	guest_expect(&guest, VCPU_SYSCALL);
	assert_int_equal(r->rax, 60);
	assert_int_equal(r->rdi, 1); /* the carry flag survived */
	assert_int_equal(r->rbx, 0x10000000 + 0x1111 + 0x2222 + 0x3333 + 0x4444 + 0x5555 + 0x6666 +
					 0x7777 + 0x8888 + 0x9999 + 0xaaaa + 0xbbbb + 0xcccc);
}

PROGRAM(prog_loop, "mov $0, %ebx\n1: mov %rbx, %rax\n syscall\n cmp %rbx, %rax\n jne 2f\n"
		   "inc %ebx\n jmp 1b\n2: ud2");

static void test_many_syscalls(void **state)
{
	(void)state;
	uint64_t start;
	const int rounds = 2000;

	guest_start_program(&guest, prog_loop);
	start = clock_mono_ns();
	for (int i = 0; i < rounds; i++) {
		guest_expect(&guest, VCPU_SYSCALL);
		assert_int_equal(vcpu_regs(&guest.vm)->rax, i);
		vcpu_regs_changed(&guest.vm);
	}
	print_message("system call round trip: %llu ns\n",
		      (unsigned long long)(clock_mono_ns() - start) / rounds);
	assert_int_equal(guest.vm.vcpu.exits, rounds);
}

/* A context of the vmm's choice after a system call: sysretq cannot be used there. */
PROGRAM(prog_context,
	"syscall\n ud2\n .org prog_context + 64\n mov %rcx, %rdi\n mov %r11, %rsi\n pushf\n"
	"pop %rdx\n mov %rsp, %rbx\n syscall");

static void test_arbitrary_context(void **state)
{
	struct kvm_regs *r = vcpu_regs(&guest.vm);

	(void)state;
	guest_start_program(&guest, prog_context);
	guest_expect(&guest, VCPU_SYSCALL);
	r->rip = GUEST_CODE + 64;
	r->rsp = GUEST_STACK + 256;
	r->rcx = 0x123456789abcdef0;
	r->r11 = 0xfedcba9876543210;
	r->rflags = 0xffffffffffffffffull & ~0x100ull; /* all but TF: made legal at the entry */
	vcpu_regs_changed(&guest.vm);
	guest_expect(&guest, VCPU_SYSCALL);
	assert_int_equal(r->rdi, 0x123456789abcdef0);
	assert_int_equal(r->rsi, 0xfedcba9876543210);
	assert_int_equal(r->rbx, GUEST_STACK + 256);
	assert_int_equal(r->rdx & 0x3000, 0);	 /* IOPL */
	assert_int_equal(r->rdx & 0xcd5, 0xcd5); /* the program's flags */
	assert_int_equal(r->rdx & 0x200, 0x200);
}

/* ---- exceptions ----------------------------------------------------------------------------- */

PROGRAM(prog_de, "xor %edx, %edx\n xor %ecx, %ecx\n mov $1, %eax\n div %ecx");
PROGRAM(prog_bp, "int3\n nop");
PROGRAM(prog_ud, "ud2");
PROGRAM(prog_gp_hlt, "hlt");
PROGRAM(prog_gp_noncanonical, "mov $0x8000000000000000, %rax\n mov (%rax), %rbx");
PROGRAM(prog_gp_out, "xor %eax, %eax\n out %al, $0x80");
PROGRAM(prog_gp_in_doorbell, "in $0xf4, %al\n nop");
PROGRAM(prog_gp_own_doorbell, "mov $7, %al\n out %al, $0xf4\n nop");
PROGRAM(prog_pf_read, "mov $0x12345678, %eax\n mov (%rax), %rbx");
PROGRAM(prog_pf_write_ro, "mov $0x400ff0, %eax\n movq $0, (%rax)");
PROGRAM(prog_pf_exec, "mov $0x700000, %eax\n jmp *%rax");
PROGRAM(prog_pf_system_write, "mov $0x7fff80005000, %rax\n movq $0, (%rax)");
PROGRAM(prog_pf_system_read, "mov $0x7fff80000000, %rax\n mov (%rax), %rbx");
PROGRAM(prog_ss, "mov $0x8000000000000000, %rbp\n mov (%rbp), %rbx");
PROGRAM(prog_db, "pushf\n orl $0x100, (%rsp)\n popf\n nop\n nop");
PROGRAM(prog_mf, "fninit\n push $0\n fldcw (%rsp)\n fld1\n fldz\n fdivrp\n fwait");
PROGRAM(prog_xm, "push $0\n ldmxcsr (%rsp)\n xorps %xmm0, %xmm0\n mov $0x3f800000, %eax\n"
		 "movd %eax, %xmm1\n divss %xmm0, %xmm1\n ud2");
PROGRAM(prog_ac, "pushf\n orl $0x40000, (%rsp)\n popf\n mov %rsp, %rax\n mov 1(%rax), %ebx\n ud2");
PROGRAM(prog_int80, "int $0x80");

static const struct {
	const char *name;
	const uint8_t *code, *end;
	uint8_t vector;
	uint64_t error;
	uint64_t cr2;
	uint8_t at; /* offset of rip */
} exceptions[] = {
#define E(p, v, e, c, a)                                                                           \
	{                                                                                          \
#p, p, p##_end, v, e, c, a                                                         \
	}
	E(prog_de, 0, 0, 0, 9),
	E(prog_bp, 3, 0, 0, 1),
	E(prog_ud, 6, 0, 0, 0),
	E(prog_gp_hlt, 13, 0, 0, 0),
	E(prog_gp_noncanonical, 13, 0, 0, 10),
	E(prog_gp_out, 13, 0, 0, 2),
	E(prog_pf_read, 14, 4, 0x12345678, 5),
	E(prog_pf_write_ro, 14, 7, 0x400ff0, 5),
	E(prog_pf_exec, 14, 0x15, 0x700000, 0),
	E(prog_pf_system_write, 14, 7, SYSTEM_VVAR_GVA, 10),
	E(prog_pf_system_read, 14, 5, GUEST_SYSTEM_GVA, 10),
	E(prog_ss, 12, 0, 0, 10),
	E(prog_mf, 16, 0, 0, 13),
	E(prog_xm, 19, 0, 0, 18),
	E(prog_ac, 17, 0, 0, 12),
#undef E
};

/* QEMU's TCG raises neither #XM nor #AC, and #GP for #SS. */
static bool emulated_cpu_differs(uint8_t vector, const struct vcpu_event *ev)
{
	uint32_t a, b, c, d;

	__cpuid(0x40000000, a, b, c, d); /* hypervisor signature */
	if (memcmp(&b, "TCGT", 4))
		return false;
	return (vector == 12 && ev->vector == 13) ||
	       ((vector == 17 || vector == 19) && ev->vector == 6);
}

static void test_exceptions(void **state)
{
	uint64_t data = GUEST_CODE + 0x300000;

	(void)state;
	guest_map(&guest, data, PTE_WRITABLE | PTE_NX);
	for (size_t i = 0; i < ARRAY_SIZE(exceptions); i++) {
		struct vcpu_event ev;
		uint64_t rip;

		print_message("  %s\n", exceptions[i].name);
		guest_start(&guest, exceptions[i].code, exceptions[i].end);
		ev = guest_expect(&guest, VCPU_EXCEPTION);
		if (emulated_cpu_differs(exceptions[i].vector, &ev))
			continue;
		assert_int_equal(ev.vector, exceptions[i].vector);
		assert_int_equal(ev.error_code, exceptions[i].error);
		if (ev.vector == 14)
			assert_int_equal(ev.cr2, exceptions[i].cr2);
		rip = ev.error_code & 0x10 ? data : (uint64_t)GUEST_CODE + exceptions[i].at;
		assert_int_equal(vcpu_regs(&guest.vm)->rip, rip);
	}
}

static void test_exception_without_right(void **state)
{
	struct vcpu_event ev;

	(void)state;
	guest_start_program(&guest, prog_gp_in_doorbell);
	assert_int_equal(guest_expect(&guest, VCPU_EXCEPTION).vector, 13);
	guest_start_program(&guest, prog_gp_own_doorbell);
	assert_int_equal(guest_expect(&guest, VCPU_EXCEPTION).vector, 13);
	/* PVM makes #UD of it, hardware #GP. */
	guest_start_program(&guest, prog_int80);
	ev = guest_expect(&guest, VCPU_EXCEPTION);
	assert_true(ev.vector == 13 || ev.vector == 6);
	guest_start_program(&guest, prog_db);
	assert_int_equal(guest_expect(&guest, VCPU_EXCEPTION).vector, 1);
}

PROGRAM(prog_resume, "mov $0x11, %rcx\n mov $0x22, %r11\n stc\n mov $0x500000, %edx\n"
		     "mov (%rdx), %rbx\n setc %al\n syscall");

static void test_exception_resume(void **state)
{
	struct kvm_regs *r = vcpu_regs(&guest.vm);
	struct kvm_regs before;
	uint64_t *page;
	struct vcpu_event ev;

	(void)state;
	guest_start_program(&guest, prog_resume);
	ev = guest_expect(&guest, VCPU_EXCEPTION);
	assert_int_equal(ev.cr2, 0x500000);
	before = *r;
	assert_int_equal(r->rcx, 0x11);
	page = (uint64_t *)(void *)guest_map(&guest, 0x500000, 0);
	*page = 0x77;
	guest_expect(&guest, VCPU_SYSCALL); /* granting a right needs no flush */
	assert_int_equal(r->rbx, 0x77);
	assert_int_equal(r->rax & 0xff, 1);
	assert_int_equal(before.rsp, r->rsp);
}

PROGRAM(prog_pf_loop, "mov $0x800000, %edx\n1: mov (%rdx), %rbx\n add $4096, %rdx\n jmp 1b");

static void test_exception_cost(void **state)
{
	uint64_t start;
	enum { ROUNDS = 500 };

	(void)state;
	guest_start_program(&guest, prog_pf_loop);
	guest_expect(&guest, VCPU_EXCEPTION);
	start = clock_mono_ns();
	for (int i = 0; i < ROUNDS; i++) {
		guest_map(&guest, 0x800000 + i * PAGE_BYTES, 0);
		assert_int_equal(guest_expect(&guest, VCPU_EXCEPTION).cr2,
				 0x800000 + (i + 1) * PAGE_BYTES);
	}
	print_message("page fault served: %llu ns\n",
		      (unsigned long long)(clock_mono_ns() - start) / ROUNDS);
}

/* ---- bad registers, bad states -------------------------------------------------------------- */

static void test_hostile_registers(void **state)
{
	struct kvm_regs *r = vcpu_regs(&guest.vm);
	struct user_state u;

	(void)state;
	guest_start_program(&guest, prog_registers);
	r->rip = 0x8000000000000000ull;
	assert_int_equal(guest_expect(&guest, VCPU_EXCEPTION).vector, 13);
	guest_start_program(&guest, prog_registers);
	r->rsp = 0x1234567812345678ull;
	guest_expect(&guest, VCPU_SYSCALL);
	r->rip = 0x7ffff0000000ull;
	r->rcx = r->rip;
	assert_int_equal(guest_expect(&guest, VCPU_EXCEPTION).vector, 14);

	assert_int_equal(vcpu_save_user(&guest.vm, &u), 0);
	u.xsave[512 + 8] = 1; /* XCOMP_BV */
	assert_int_equal(vcpu_load_user(&guest.vm, &u), -EBADMSG);
	u.xsave[512 + 8] = 0;
	u.xsave[512 + 63] = 1;
	assert_int_equal(vcpu_load_user(&guest.vm, &u), -EBADMSG);
	u.xsave[512 + 63] = 0;
	u.xsave[513] = 2; /* PKRU in XSTATE_BV */
	assert_int_equal(vcpu_load_user(&guest.vm, &u), -EBADMSG);
	u.xsave[513] = 0;
	u.xsave[26] = 1; /* reserved MXCSR bit */
	assert_int_equal(vcpu_load_user(&guest.vm, &u), -EBADMSG);
	u.xsave[26] = 0;
	u.fs_base = 0x8000000000000000ull;
	assert_int_equal(vcpu_load_user(&guest.vm, &u), -EBADMSG);
	u.fs_base = 0;
	assert_int_equal(vcpu_load_user(&guest.vm, &u), 0);
}

PROGRAM(prog_bad_pointer, "mov $0x500000, %eax\n mov (%rax), %rbx");

static void test_fatal(void **state)
{
	struct vcpu_event ev;

	(void)state;
	/* A page table that names memory which does not exist. */
	*guest_pte(&guest, 0x500000) = 0x70000000ull | 0x67;
	guest_start_program(&guest, prog_bad_pointer);
	ev = guest_expect(&guest, VCPU_FATAL);
	assert_non_null(strstr(ev.text, "0x70000000"));
	/* No page tables at all: the exception has no way to its stub. */
	memset(guest_page_ptr(&guest.vm.mem, 0), 0, PAGE_BYTES);
	vm_set_page_tables(&guest.vm, guest_page_gpa(0));
	guest_start_program(&guest, prog_bad_pointer);
	ev = guest_expect(&guest, VCPU_FATAL);
	print_message("  %s\n", ev.text);
	assert_true(ev.text[0]);
}

/* ---- kicks ---------------------------------------------------------------------------------- */

PROGRAM(prog_spin, "1: inc %rbx\n mov %rbx, %rcx\n jmp 1b");

static void on_alarm(int sig)
{
	(void)sig;
	vcpu_kick(&guest.vm);
}

static void *kick_thread(void *arg)
{
	usleep(20000);
	vcpu_kick(arg);
	return NULL;
}

static void test_kick(void **state)
{
	struct itimerval timer = {0};
	struct kvm_regs *r = vcpu_regs(&guest.vm);
	uint64_t count;
	pthread_t thread;

	(void)state;
	guest_start_program(&guest, prog_spin);
	vcpu_kick(&guest.vm);
	guest_expect(&guest, VCPU_KICK); /* before the first entry */
	assert_int_equal(r->rip, GUEST_CODE);

	signal(SIGALRM, on_alarm);
	/* Until the guest has got somewhere: on a slow host the first may come before it ran. */
	for (suseconds_t us = 5000; r->rbx <= 1000 && us < 1000000; us *= 4) {
		timer.it_value.tv_usec = us;
		setitimer(ITIMER_REAL, &timer, NULL);
		guest_expect(&guest, VCPU_KICK);
		assert_true(r->rip >= GUEST_CODE && r->rip < GUEST_CODE + 16);
	}
	count = r->rbx;
	assert_true(count > 1000);

	assert_int_equal(pthread_create(&thread, NULL, kick_thread, &guest.vm), 0);
	guest_expect(&guest, VCPU_KICK);
	pthread_join(thread, NULL);
	assert_true(r->rbx > count);
	assert_true(r->rcx == r->rbx || r->rcx + 1 == r->rbx);
}

/* A stream of signals at any moment of system calls and page faults loses and invents nothing. */
PROGRAM(prog_storm, "xor %ebx, %ebx\n mov $0x500000, %r12d\n1: mov %rbx, %rax\n mov (%r12), %r13\n"
		    "syscall\n cmp %rbx, %rax\n jne 2f\n inc %rbx\n jmp 1b\n2: ud2");

static void kick_every(suseconds_t interval_us)
{
	struct itimerval timer = {.it_value.tv_usec = interval_us,
				  .it_interval.tv_usec = interval_us};

	setitimer(ITIMER_REAL, &timer, NULL);
}

static void test_kick_storm(void **state)
{
	/* What one entry takes differs between hosts by a factor of a hundred: the storm starts so
	 * dense that a slow host gets nothing else done, and thins out by and by. */
	enum { DENSEST_US = 50, THINNEST_US = 100000, STEPS = 10 };
	suseconds_t interval_us = DENSEST_US;
	uint64_t calls = 0, kicks = 0, faults = 0, start, step_end;
	uint32_t page = guest.next_page;
	uint64_t *pte, saved;
	struct vcpu_event ev;

	(void)state;
	guest_map(&guest, 0x500000, 0);
	pte = guest_pte(&guest, 0x500000);
	page = (uint32_t)(((*pte & 0xffffffffff000ull) - GUEST_RAM_GPA) >> 12);
	saved = *pte;
	guest_start_program(&guest, prog_storm);
	signal(SIGALRM, on_alarm);
	kick_every(interval_us);
	start = clock_mono_ns();
	step_end = start + NSEC_PER_SEC / 2 / STEPS;
	while (clock_mono_ns() < start + NSEC_PER_SEC / 2 ||
	       ((calls <= 100 || kicks <= 10) && clock_mono_ns() < start + 60 * NSEC_PER_SEC)) {
		if (clock_mono_ns() > step_end) {
			step_end += NSEC_PER_SEC / 2 / STEPS;
			interval_us = MIN(interval_us * 3 / 2, THINNEST_US);
			kick_every(interval_us);
		}
		assert_int_equal(vcpu_run(&guest.vm, &ev), 0);
		if (ev.kind == VCPU_SYSCALL) {
			assert_int_equal(vcpu_regs(&guest.vm)->rax, calls);
			calls++;
			vcpu_regs_changed(&guest.vm);
			if (calls % 4 == 0) {
				*pte = 0;
				assert_int_equal(guest_mem_flush(&guest.vm.mem, page, 1), 0);
			}
		} else if (ev.kind == VCPU_EXCEPTION) {
			assert_int_equal(ev.vector, 14);
			assert_int_equal(ev.cr2, 0x500000);
			*pte = saved;
			faults++;
		} else {
			assert_int_equal(ev.kind, VCPU_KICK);
			kicks++;
		}
	}
	kick_every(0);
	print_message("%llu calls, %llu faults, %llu kicks\n", (unsigned long long)calls,
		      (unsigned long long)faults, (unsigned long long)kicks);
	assert_true(calls > 100 && kicks > 10 && faults + 1 >= calls / 4 && faults <= calls / 4);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	struct CMUnitTest tests[] = {
		T(test_syscall_registers),
		T(test_many_syscalls),
		T(test_arbitrary_context),
		T(test_exceptions),
		T(test_exception_without_right),
		T(test_exception_resume),
		T(test_exception_cost),
		T(test_hostile_registers),
		T(test_fatal),
		T(test_kick),
		T(test_kick_storm),
	};

	log_init("test_vm", NULL);
	guest_skip_without_kvm(tests, ARRAY_SIZE(tests));
	return cmocka_run_group_tests_name("vm", tests, guest_hold_kvm, NULL);
}
