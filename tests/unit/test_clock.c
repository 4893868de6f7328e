/* SPDX-License-Identifier: Apache-2.0 */
/* test_clock.c - guest time, read in a real guest through the vDSO */
#include "tests/unit/vm_guest.h"

#include <elf.h>
#include <errno.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "guest/vdso/vvar.h"
#include "vmm/process/clock.h"
#include "vmm/process/proc.h"
#include "vmm/process/vdso.h"

enum { VDSO_GVA = 0x700000, DATA_GVA = 0x710000 };

static struct guest guest;
static struct proc proc;
static uint8_t *data;

static int setup(void **state)
{
	(void)state;
	guest_open(&guest);
	memset(&proc, 0, sizeof(proc));
	proc.vm = &guest.vm;
	assert_int_equal(guest_clock_new(&proc), 0);
	assert_true(vdso_image_bytes <= PAGE_BYTES);
	memcpy(guest_map(&guest, VDSO_GVA, 0), vdso_image, vdso_image_bytes);
	data = guest_map(&guest, DATA_GVA, PTE_WRITABLE);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	guest_clock_free(&proc);
	vm_free(&guest.vm);
	return 0;
}

/* As a C library finds it: PT_DYNAMIC, DT_HASH for the count, names, version LINUX_2.6. */
static uint64_t vdso_symbol(const char *name)
{
	const Elf64_Ehdr *eh = (const void *)vdso_image;
	const Elf64_Phdr *ph = (const void *)(vdso_image + eh->e_phoff);
	const Elf64_Dyn *dyn = NULL;
	const Elf64_Sym *symbols = NULL;
	const uint32_t *hash = NULL;
	const char *strings = NULL;

	for (int i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_DYNAMIC)
			dyn = (const void *)(vdso_image + ph[i].p_vaddr);
	assert_non_null(dyn);
	for (; dyn->d_tag; dyn++) {
		const void *at = vdso_image + dyn->d_un.d_ptr;

		if (dyn->d_tag == DT_SYMTAB)
			symbols = at;
		else if (dyn->d_tag == DT_STRTAB)
			strings = at;
		else if (dyn->d_tag == DT_HASH)
			hash = at;
		assert_int_not_equal(dyn->d_tag, DT_RELA);
	}
	for (uint32_t i = 1; hash && i < hash[1]; i++)
		if (!strcmp(strings + symbols[i].st_name, name))
			return VDSO_GVA + symbols[i].st_value;
	fail_msg("the vdso has no %s", name);
	return 0;
}

PROGRAM(prog_call, "1: call *%rbx\n mov %rax, %rdi\n mov $1000, %eax\n syscall\n jmp 1b");

/* Calls a function of the vDSO in the guest. Serves clock system calls as sched would. */
static int64_t call_vdso(const char *name, uint64_t a, uint64_t b, int *ret_syscalls)
{
	struct kvm_regs *r = vcpu_regs(&guest.vm);

	*ret_syscalls = 0;
	guest_start_program(&guest, prog_call);
	r->rbx = vdso_symbol(name);
	r->rdi = a;
	r->rsi = b;
	for (;;) {
		guest_expect(&guest, VCPU_SYSCALL);
		if (r->rax == 1000)
			return (int64_t)r->rdi;
		++*ret_syscalls;
		assert_true(r->rax == SYS_clock_gettime || r->rax == SYS_clock_getres ||
			    r->rax == SYS_gettimeofday || r->rax == SYS_time);
		assert_int_equal(r->rdi, a);
		assert_int_equal(r->rsi, b);
		guest_result(&guest, (uint64_t)-ENOTSUP);
	}
}

static uint64_t vdso_clock(clockid_t id)
{
	struct timespec ts;
	int calls;

	assert_int_equal(call_vdso("__vdso_clock_gettime", (uint64_t)id, DATA_GVA, &calls), 0);
	assert_int_equal(calls, 0);
	memcpy(&ts, data, sizeof(ts));
	assert_true(ts.tv_nsec >= 0 && ts.tv_nsec < 1000000000);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static bool has_tsc(void)
{
	const struct vvar *v = system_page_ptr(&guest.vm.mem, SYSTEM_PAGE_VVAR);

	if (v->mode != VVAR_TSC) {
		print_message(
			"skipped: the host's TSC keeps no time, the vdso makes system calls\n");
		return false;
	}
	return true;
}

static void test_vdso_agrees(void **state)
{
	static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME,
					   CLOCK_MONOTONIC_COARSE};

	(void)state;
	if (!has_tsc())
		skip();
	for (int round = 0; round < 20; round++) {
		uint64_t before = guest_mono_ns(&proc), guest_ns, real = clock_real_ns();

		guest_ns = vdso_clock(clocks[round % 4]);
		assert_true(guest_ns > before && guest_ns < guest_mono_ns(&proc));
		guest_ns = vdso_clock(round % 2 ? CLOCK_REALTIME : CLOCK_REALTIME_COARSE);
		assert_true(guest_ns + 1000000 > real && guest_ns < clock_real_ns() + 1000000);
	}
}

static void test_vdso_others(void **state)
{
	struct timeval tv;
	struct timespec ts;
	int calls;
	unsigned cpu;
	time_t now;

	(void)state;
	assert_int_equal(
		call_vdso("__vdso_clock_gettime", CLOCK_PROCESS_CPUTIME_ID, DATA_GVA, &calls),
		-ENOTSUP);
	assert_int_equal(calls, 1);
	assert_int_equal(call_vdso("clock_gettime", 12345, DATA_GVA, &calls), -ENOTSUP);
	assert_int_equal(call_vdso("clock_getres", CLOCK_THREAD_CPUTIME_ID, DATA_GVA, &calls),
			 -ENOTSUP);
	assert_int_equal(call_vdso("__vdso_clock_getres", CLOCK_MONOTONIC, DATA_GVA, &calls), 0);
	memcpy(&ts, data, sizeof(ts));
	assert_int_equal(ts.tv_nsec, 1);
	assert_int_equal(call_vdso("__vdso_clock_getres", CLOCK_REALTIME, 0, &calls), 0);
	memset(data, 0xff, 64);
	assert_int_equal(call_vdso("__vdso_getcpu", DATA_GVA, DATA_GVA + 8, &calls), 0);
	memcpy(&cpu, data, sizeof(cpu));
	assert_int_equal(cpu, 0);
	if (!has_tsc())
		skip();
	assert_int_equal(call_vdso("gettimeofday", DATA_GVA, DATA_GVA + 32, &calls), 0);
	memcpy(&tv, data, sizeof(tv));
	assert_int_equal(calls, 0);
	assert_true(llabs((int64_t)tv.tv_sec - (int64_t)time(NULL)) <= 1);
	assert_true(tv.tv_usec >= 0 && tv.tv_usec < 1000000);
	now = call_vdso("time", DATA_GVA, 0, &calls);
	assert_true(llabs((int64_t)now - (int64_t)time(NULL)) <= 1);
	assert_memory_equal(data, &now, sizeof(now));
}

/* Reads the clock in a tight loop; stops in a system call only when it went back. */
PROGRAM(prog_monotonic,
	"xor %r12d, %r12d\n xor %r13d, %r13d\n mov $0xffffffff, %r14d\n"
	"1: mov $1, %edi\n mov $0x710000, %esi\n call *%rbx\n"
	"mov 0x710000, %rax\n imul $1000000000, %rax\n add 0x710008, %rax\n"
	"mov %rax, %rcx\n sub %r12, %rcx\n js 2f\n jz 3f\n cmp %r14, %rcx\n"
	"cmovb %rcx, %r14\n 3: mov %rax, %r12\n inc %r13\n cmp $100000, %r13\n jb 1b\n"
	"2: mov $1000, %eax\n syscall");

static void test_vdso_monotonic(void **state)
{
	struct kvm_regs *r = vcpu_regs(&guest.vm);
	uint64_t start = clock_mono_ns();

	(void)state;
	if (!has_tsc())
		skip();
	guest_start_program(&guest, prog_monotonic);
	r->rbx = vdso_symbol("__vdso_clock_gettime");
	guest_expect(&guest, VCPU_SYSCALL);
	assert_int_equal(r->r13, 100000);
	print_message("vdso clock_gettime: %llu ns, smallest step %llu ns\n",
		      (unsigned long long)(clock_mono_ns() - start) / 100000,
		      (unsigned long long)r->r14);
	assert_true(r->r14 > 0 && r->r14 < 1000);
}

/* How far guest time is from where the host's clock would have it, without our own delays. */
static int64_t offset_now(void)
{
	uint64_t best = UINT64_MAX, offset = 0;

	for (int i = 0; i < 10; i++) {
		uint64_t before = clock_mono_ns(), ns = guest_mono_ns(&proc);
		uint64_t after = clock_mono_ns();

		if (after - before < best) {
			best = after - before;
			offset = ns - before - best / 2;
		}
	}
	return (int64_t)offset;
}

static void test_tracks_host(void **state)
{
	int64_t offset0 = offset_now(), error = 0;
	uint64_t end = clock_mono_ns() + 2500000000ull, last = guest_mono_ns(&proc);

	(void)state;
	while (clock_mono_ns() < end) {
		uint64_t now = guest_mono_ns(&proc);

		assert_true(now >= last);
		last = now;
		error = offset_now() - offset0;
		assert_true(llabs(error) < 200000);
		usleep(50000);
	}
	print_message("guest clock is %lld ns off the host's after 2.5 s\n", (long long)error);
	last = guest_mono_ns(&proc) + NSEC_PER_SEC;
	end = clock_mono_ns() + NSEC_PER_SEC;
	assert_true(guest_mono_to_host_ns(&proc, last) < end + 1000000);
	assert_true(guest_mono_to_host_ns(&proc, last) + 10000000 > end);
	assert_int_equal(guest_mono_to_host_ns(&proc, UINT64_MAX), UINT64_MAX);
	assert_true(guest_mono_to_host_ns(&proc, 0) < clock_mono_ns());
}

static void test_save_load(void **state)
{
	struct state_writer w = {0};
	struct state_reader r;
	uint64_t saved, cpu, real;

	(void)state;
	saved = guest_mono_ns(&proc);
	cpu = guest_cpu_ns(&proc);
	assert_int_equal(guest_clock_save(&proc, &w), 0);
	usleep(100000);
	guest_clock_free(&proc);
	assert_int_equal(guest_clock_new(&proc), 0);
	r = (struct state_reader){.data = w.data, .left = w.used};
	assert_int_equal(guest_clock_load(&proc, &r), 0);
	assert_int_equal(r.left, 0);
	/* The time between is not there. */
	assert_true(guest_mono_ns(&proc) >= saved);
	assert_true(guest_mono_ns(&proc) < saved + 50000000);
	assert_true(guest_cpu_ns(&proc) >= cpu && guest_cpu_ns(&proc) < cpu + 50000000);
	real = clock_real_ns();
	assert_true(guest_real_ns(&proc) + 1000000 > real);
	assert_true(guest_real_ns(&proc) < clock_real_ns() + 1000000);

	r = (struct state_reader){.data = w.data, .left = w.used - 1};
	assert_int_equal(guest_clock_load(&proc, &r), -EBADMSG);
	memset(w.data, 0xff, w.used);
	r = (struct state_reader){.data = w.data, .left = w.used};
	assert_int_equal(guest_clock_load(&proc, &r), -EBADMSG);
	state_writer_free(&w);
}

/* Without a good TSC everything is the same but for the system calls. */
static void test_without_tsc(void **state)
{
	uint64_t before = guest_mono_ns(&proc);
	int calls;

	(void)state;
	guest.vm.tsc_khz = 0;
	guest_clock_free(&proc);
	assert_int_equal(guest_clock_new(&proc), 0);
	assert_int_equal(call_vdso("clock_gettime", CLOCK_MONOTONIC, DATA_GVA, &calls), -ENOTSUP);
	assert_int_equal(calls, 1);
	assert_int_equal(call_vdso("gettimeofday", DATA_GVA, 0, &calls), -ENOTSUP);
	assert_int_equal(calls, 1);
	assert_true(guest_mono_ns(&proc) > 0 && before > 0);
	before = guest_mono_ns(&proc);
	usleep(1000);
	assert_true(guest_mono_ns(&proc) >= before + 1000000);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	struct CMUnitTest tests[] = {
		T(test_vdso_agrees), T(test_vdso_others), T(test_vdso_monotonic),
		T(test_tracks_host), T(test_save_load),	  T(test_without_tsc),
	};

	guest_skip_without_kvm(tests, ARRAY_SIZE(tests));
	return cmocka_run_group_tests_name("clock", tests, guest_hold_kvm, NULL);
}
