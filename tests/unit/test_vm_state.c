/* SPDX-License-Identifier: Apache-2.0 */
/* test_vm_state.c - the machine on real KVM: contexts, memory, CPU features, making one */
#include "tests/unit/vm_guest.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "vmm/cpu_features.h"

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

/* ---- the whole context ---------------------------------------------------------------------- */

PROGRAM(prog_ymm, "vpcmpeqd %ymm7, %ymm7, %ymm7\n vpslld $3, %ymm7, %ymm7\n 1: syscall\n"
		  "vmovdqu %ymm7, -64(%rsp)\n mov -64(%rsp), %rdi\n mov -40(%rsp), %rsi\n"
		  "mov %fs:0, %rdx\n jmp 1b");

static void test_contexts(void **state)
{
	static struct user_state a, b;
	struct kvm_regs *r = vcpu_regs(&guest.vm);
	uint64_t *tls;

	(void)state;
	tls = (uint64_t *)(void *)guest_map(&guest, 0x500000, 0);
	tls[0] = 0xaaaa;
	tls[1] = 0xbbbb;
	guest_start_program(&guest, prog_ymm);
	vcpu_set_fs_base(&guest.vm, 0x500000);
	guest_expect(&guest, VCPU_SYSCALL);
	assert_int_equal(vcpu_save_user(&guest.vm, &a), 0);
	assert_int_equal(a.fs_base, 0x500000);
	assert_int_equal(a.xsave[512] & 4, 4);

	/* Another task at the same place, with its own vectors, TLS and stack. */
	b = a;
	b.fs_base = 0x500008;
	b.regs.rsp -= 512;
	b.regs.rcx = 0x1234;
	memset(b.xsave + 160, 0x5a, 256); /* XMM */
	memset(b.xsave + 576, 0xa5, 256); /* upper halves */
	b.xsave[512] |= 7;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(vcpu_load_user(&guest.vm, &b), 0);
		guest_expect(&guest, VCPU_SYSCALL);
		assert_int_equal(r->rdi, 0x5a5a5a5a5a5a5a5aull);
		assert_int_equal(r->rsi, 0xa5a5a5a5a5a5a5a5ull);
		assert_int_equal(r->rdx, 0xbbbb);
		assert_int_equal(vcpu_save_user(&guest.vm, &b), 0);

		assert_int_equal(vcpu_load_user(&guest.vm, &a), 0);
		guest_expect(&guest, VCPU_SYSCALL);
		assert_int_equal(r->rdi, 0xfffffff8fffffff8ull);
		assert_int_equal(r->rsi, 0xfffffff8fffffff8ull);
		assert_int_equal(r->rdx, 0xaaaa);
		assert_int_equal(vcpu_save_user(&guest.vm, &a), 0);
	}
}

static void test_context_cost(void **state)
{
	static struct user_state a;
	uint64_t start, save = 0, load = 0;
	enum { ROUNDS = 200 };

	(void)state;
	guest_start_program(&guest, prog_ymm);
	guest_expect(&guest, VCPU_SYSCALL);
	for (int i = 0; i < ROUNDS; i++) {
		start = clock_mono_ns();
		assert_int_equal(vcpu_save_user(&guest.vm, &a), 0);
		save += clock_mono_ns() - start;
		a.fs_base = GUEST_STACK + (i & 1) * 8;
		start = clock_mono_ns();
		assert_int_equal(vcpu_load_user(&guest.vm, &a), 0);
		load += clock_mono_ns() - start;
		guest_expect(&guest, VCPU_SYSCALL);
	}
	print_message("save of a context %llu ns, load %llu ns\n",
		      (unsigned long long)save / ROUNDS, (unsigned long long)load / ROUNDS);
}

PROGRAM(prog_zmm, "vpternlogd $0xff, %zmm20, %zmm20, %zmm20\n mov $0x55, %eax\n kmovw %eax, %k3\n"
		  "vmovdqa64 %zmm20, %zmm3\n syscall\n"
		  "vextracti32x4 $3, %zmm20, %xmm0\n vmovq %xmm0, %rdi\n kmovw %k3, %esi\n"
		  "vextracti32x4 $3, %zmm3, %xmm0\n vmovq %xmm0, %rdx\n syscall");

static void test_avx512_context(void **state)
{
	static struct user_state a, zero;
	struct kvm_regs *r = vcpu_regs(&guest.vm);

	(void)state;
	if (!(guest.vm.vcpu.xcr0 & 0x80)) {
		print_message("skipped: ring 3 has no AVX-512 here\n");
		skip();
	}
	guest_start_program(&guest, prog_zmm);
	assert_int_equal(vcpu_save_user(&guest.vm, &zero), 0);
	guest_expect(&guest, VCPU_SYSCALL);
	assert_int_equal(vcpu_save_user(&guest.vm, &a), 0);
	assert_int_equal(a.xsave[512] & 0xe0, 0xe0);
	assert_int_equal(vcpu_load_user(&guest.vm, &zero), 0);
	guest_expect(&guest, VCPU_SYSCALL);
	assert_int_equal(vcpu_load_user(&guest.vm, &zero), 0);
	*r = a.regs;
	vcpu_regs_changed(&guest.vm);
	guest_expect(&guest, VCPU_SYSCALL);
	assert_int_equal(r->rdi, 0);
	assert_int_equal(vcpu_load_user(&guest.vm, &a), 0);
	guest_expect(&guest, VCPU_SYSCALL);
	assert_int_equal(r->rdi, UINT64_MAX);
	assert_int_equal(r->rsi, 0x55);
	assert_int_equal(r->rdx, UINT64_MAX);
}

PROGRAM(prog_wrfsbase, "mov $0x123000, %eax\n wrfsbase %rax\n syscall\n rdfsbase %rdi\n syscall");

static void test_fs_base_of_program(void **state)
{
	static struct user_state u;

	(void)state;
	guest_start_program(&guest, prog_wrfsbase);
	guest_expect(&guest, VCPU_SYSCALL);
	assert_int_equal(vcpu_save_user(&guest.vm, &u), 0);
	assert_int_equal(u.fs_base, 0x123000);
	vcpu_set_gs_base(&guest.vm, 0x456000); /* does not take the program's FS away */
	guest_expect(&guest, VCPU_SYSCALL);
	assert_int_equal(vcpu_regs(&guest.vm)->rdi, 0x123000);
}

PROGRAM(prog_look, "xor %ecx, %ecx\n xgetbv\n shl $32, %rdx\n or %rdx, %rax\n mov %rax, %rdi\n"
		   "rdtsc\n shl $32, %rdx\n or %rdx, %rax\n mov %rax, %rsi\n"
		   "mov $0x7fff80005000, %rax\n mov (%rax), %rdx\n syscall");

static void test_what_ring3_sees(void **state)
{
	struct kvm_regs *r = vcpu_regs(&guest.vm);
	uint64_t before, after, magic = 0x1122334455667788;

	(void)state;
	memcpy(system_page_ptr(&guest.vm.mem, SYSTEM_PAGE_VVAR), &magic, sizeof(magic));
	guest_start_program(&guest, prog_look);
	before = vcpu_guest_tsc(&guest.vm);
	guest_expect(&guest, VCPU_SYSCALL);
	after = vcpu_guest_tsc(&guest.vm);
	/* A PVM host may have more in XCR0 than we would save: AMX, which needs a permission. */
	assert_int_equal(r->rdi & VCPU_XCR0_MAX, guest.vm.vcpu.xcr0);
	if (guest.vm.host_kind == PROTO_HOST_HARDWARE)
		assert_int_equal(r->rdi & ~VCPU_XCR0, 0);
	assert_int_equal(r->rdx, magic);
	if (guest.vm.tsc_khz)
		assert_true(r->rsi > before && r->rsi < after);
	print_message("host kind %d, xcr0 0x%llx, tsc %llu kHz\n", guest.vm.host_kind,
		      (unsigned long long)r->rdi, (unsigned long long)guest.vm.tsc_khz);
}

/* ---- rights taken away ---------------------------------------------------------------------- */

PROGRAM(prog_touch,
	"mov $0x500000, %edx\n1: mov (%rdx), %rdi\n syscall\n mov (%rdx), %rdi\n syscall\n"
	"mov %rdi, (%rdx)\n syscall\n jmp 1b");

static void test_flush(void **state)
{
	struct kvm_regs *r = vcpu_regs(&guest.vm);
	uint64_t *page, *pte, saved;
	struct vcpu_event ev;
	uint32_t n;
	uint64_t start;

	(void)state;
	page = (uint64_t *)(void *)guest_map(&guest, 0x500000, PTE_WRITABLE);
	n = guest.next_page - 1; /* its page tables came before it */
	pte = guest_pte(&guest, 0x500000);
	n = (uint32_t)(((*pte & 0xffffffffff000ull) - GUEST_RAM_GPA) >> 12);
	*page = 5;
	saved = *pte;
	guest_start_program(&guest, prog_touch);
	guest_expect(&guest, VCPU_SYSCALL);

	/* Without a flush KVM or the TLB may still have the page: shown, not asserted. */
	*pte = 0;
	vcpu_run(&guest.vm, &ev);
	print_message("without a flush the guest %s\n",
		      ev.kind == VCPU_SYSCALL ? "still reads the page" : "faults");

	guest_start_program(&guest, prog_touch);
	assert_int_equal(guest_mem_flush(&guest.vm.mem, n, 1), 0);
	ev = guest_expect(&guest, VCPU_EXCEPTION);
	assert_int_equal(ev.vector, 14);
	assert_int_equal(ev.cr2, 0x500000);
	assert_int_equal(ev.error_code, 4);

	/* Contents stayed; mapping it again, read-only, needs no flush. */
	assert_int_equal(*page, 5);
	*pte = saved & ~PTE_WRITABLE;
	guest_expect(&guest, VCPU_SYSCALL);
	assert_int_equal(r->rdi, 5);
	guest_expect(&guest, VCPU_SYSCALL);
	ev = guest_expect(&guest, VCPU_EXCEPTION);
	assert_int_equal(ev.error_code, 7);
	*pte = saved; /* read-only to writable: no flush */
	guest_expect(&guest, VCPU_SYSCALL);
	/* Writable to read-only: a flush. */
	*pte = saved & ~PTE_WRITABLE;
	assert_int_equal(guest_mem_flush(&guest.vm.mem, n, 1), 0);
	guest_expect(&guest, VCPU_SYSCALL);
	guest_expect(&guest, VCPU_SYSCALL);
	ev = guest_expect(&guest, VCPU_EXCEPTION);
	assert_int_equal(ev.error_code, 7);

	start = clock_mono_ns();
	for (int i = 0; i < 100; i++)
		guest_mem_flush(&guest.vm.mem, n, 1);
	print_message("flush of one page: %llu ns\n",
		      (unsigned long long)(clock_mono_ns() - start) / 100);
	assert_int_equal(guest_mem_flush(&guest.vm.mem, UINT32_MAX, 2), -EINVAL);
}

/* ---- templates ------------------------------------------------------------------------------ */

struct pager {
	int uffd;
	int memfd;
	uint8_t *ram;
	int faults;
};

/* As snapd does it: the contents go into the memfd, and whoever waits is woken. */
static void *pager_thread(void *arg)
{
	struct pager *pg = arg;
	struct pollfd pfd = {.fd = pg->uffd, .events = POLLIN};
	struct uffd_msg msg;
	uint64_t page[PAGE_BYTES / 8];

	while (poll(&pfd, 1, 3000) > 0 && read(pg->uffd, &msg, sizeof(msg)) == sizeof(msg)) {
		uint64_t at = align_down(msg.arg.pagefault.address, PAGE_BYTES);
		uint64_t offset = at - (uint64_t)(uintptr_t)pg->ram;
		struct uffdio_range range = {.start = at, .len = PAGE_BYTES};

		for (size_t i = 0; i < ARRAY_SIZE(page); i++)
			page[i] = 0x1000 + offset / PAGE_BYTES;
		if (pwrite(pg->memfd, page, sizeof(page), (off_t)offset) != sizeof(page))
			break;
		pg->faults++;
		ioctl(pg->uffd, UFFDIO_WAKE, &range);
		if (offset == 21 * PAGE_BYTES)
			break;
	}
	return NULL;
}

PROGRAM(prog_template, "mov (%rdi), %rax\n movq $7, (%rdi)\n mov (%rdi), %rbx\n syscall");

static void test_template(void **state)
{
	struct pager pg = {.ram = guest.vm.mem.ram};
	struct uffdio_api api = {.api = UFFD_API};
	struct kvm_regs *r = vcpu_regs(&guest.vm);
	pthread_t thread;
	uint64_t word;

	(void)state;
	pg.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (pg.uffd < 0) {
		print_message("skipped: no userfaultfd: %s\n", strerror(errno));
		skip();
	}
	assert_int_equal(ioctl(pg.uffd, UFFDIO_API, &api), 0);
	pg.memfd = memfd_create("template", MFD_CLOEXEC);
	assert_int_equal(ftruncate(pg.memfd, 32 * PAGE_BYTES), 0);
	/* What the test has already in RAM becomes the template's. */
	assert_int_equal(pwrite(pg.memfd, guest.vm.mem.ram, 16 * PAGE_BYTES, 0), 16 * PAGE_BYTES);
	assert_true(guest.next_page < 16);
	assert_int_equal(guest_mem_map_template(&guest.vm.mem, pg.memfd, 32, pg.uffd), 0);
	assert_int_equal(guest_mem_map_template(&guest.vm.mem, pg.memfd, UINT64_MAX / 2, -1),
			 -EINVAL);
	assert_int_equal(pthread_create(&thread, NULL, pager_thread, &pg), 0);
	for (uint32_t page = 20; page < 22; page++) {
		*guest_pte(&guest, 0x500000) = guest_page_gpa(page).v | 0x67;
		assert_int_equal(guest_mem_flush(&guest.vm.mem, 16, 16), 0);
		guest_start_program(&guest, prog_template);
		r->rdi = 0x500000;
		guest_expect(&guest, VCPU_SYSCALL);
		assert_int_equal(r->rax, 0x1000 + page);
		assert_int_equal(r->rbx, 7);
		assert_int_equal(*(uint64_t *)guest_page_ptr(&guest.vm.mem, page), 7);
		assert_int_equal(pread(pg.memfd, &word, sizeof(word), page * PAGE_BYTES),
				 sizeof(word));
		assert_int_equal(word, 0x1000 + page); /* the write was to a private copy */
	}
	pthread_join(thread, NULL);
	assert_int_equal(pg.faults, 2);
	close(pg.memfd);
	close(pg.uffd);
}

/* ---- CPU features --------------------------------------------------------------------------- */

static void test_cpu_features(void **state)
{
	uint64_t need[CPU_WORDS], v3[CPU_WORDS], wide[CPU_WORDS];
	char *const *env;
	char text[200];

	(void)state;
	memcpy(need, guest.vm.cpu_features, sizeof(need));
	assert_int_equal(cpu_features_missing(need, need, text, sizeof(text)), 0);
	assert_string_equal(text, "");
	need[GUEST_CPU_7_EBX] |= 1u << 27;
	need[GUEST_CPU_1_EDX] |= 1u << 3;
	assert_int_equal(cpu_features_missing(need, guest.vm.cpu_features, text, sizeof(text)), 2);
	assert_non_null(strstr(text, "avx512er"));
	assert_non_null(strstr(text, "cpuid word 1 bit 3"));
	assert_int_equal(cpu_features_missing(need, guest.vm.cpu_features, text, 5), 2);

	assert_int_equal(vm_set_cpu_baseline("pentium"), -EINVAL);
	assert_int_equal(vm_set_cpu_baseline("x86-64-v3"), 0);
	cpu_features_of_host(7, v3);
	assert_int_equal(v3[GUEST_CPU_7_EBX] & 0xdc230000, 0);
	assert_int_equal(cpu_features_missing(v3, guest.vm.cpu_have, text, sizeof(text)), 0);
	assert_int_equal(v3[GUEST_CPU_XCR0], 7);
	env = cpu_baseline_env(&guest.vm);
	assert_string_equal(env[0], "LD_BIND_NOW=1");
	if (!guest.vm.baseline_holds) {
		assert_non_null(strstr(env[1], "-AVX512VL"));
		assert_non_null(strstr(env[2], "OPENSSL_ia32cap=~0x0:~0x"));
		assert_null(env[3]);
	} else {
		assert_null(env[1]);
	}
	assert_int_equal(vm_set_cpu_baseline("host"), 0);
	assert_null(cpu_baseline_env(&guest.vm)[0]);

	/* A guest that sized its XSAVE buffers for AVX cannot go where XSAVE writes more. */
	cpu_features_of_host(7, need);
	cpu_features_of_host(0xe7, wide);
	assert_int_equal(cpu_features_missing(need, wide, text, sizeof(text)), 3);
	assert_non_null(strstr(text, "an XCR0 without avx512 opmask state"));
	assert_true(cpu_features_missing(wide, need, text, sizeof(text)) >= 3);
	assert_int_equal(cpu_features_missing(v3, need, text, sizeof(text)), 0);
	assert_int_equal(cpu_features_missing(v3, wide, text, sizeof(text)), 0);
}

PROGRAM(prog_cpuid,
	"1: mov %edi, %eax\n xor %ecx, %ecx\n cpuid\n mov %rcx, %rsi\n syscall\n jmp 1b");

static void guest_cpuid(uint32_t leaf, uint64_t ret[3])
{
	struct kvm_regs *r = vcpu_regs(&guest.vm);

	guest_start_program(&guest, prog_cpuid);
	r->rdi = leaf;
	guest_expect(&guest, VCPU_SYSCALL);
	ret[0] = r->rbx;
	ret[1] = r->rsi;
	ret[2] = r->rdx;
}

/* What vm->cpu_features promises is what the program finds. */
static void check_guest_cpuid(bool exactly_baseline)
{
	const uint64_t *words = guest.vm.cpu_features;
	uint64_t seen[3], have[CPU_WORDS] = {0};
	char text[200];

	guest_cpuid(1, seen);
	have[GUEST_CPU_1_ECX] = seen[1];
	have[GUEST_CPU_1_EDX] = seen[2];
	assert_true(seen[1] & 1u << 27); /* OSXSAVE */
	guest_cpuid(7, seen);
	have[GUEST_CPU_7_EBX] = seen[0];
	have[GUEST_CPU_7_ECX] = seen[1];
	have[GUEST_CPU_7_EDX] = seen[2];
	if (exactly_baseline)
		assert_int_equal(seen[0] & (1u << 18 | 1u << 19 | 1u << 29), 0);
	guest_cpuid(0x80000001, seen);
	have[GUEST_CPU_80000001_ECX] = seen[1];
	have[GUEST_CPU_80000001_EDX] = seen[2];
	have[GUEST_CPU_XCR0] =
		guest.vm.host_kind == PROTO_HOST_HARDWARE ? guest.vm.vcpu.xcr0 : cpu_host_xcr0();
	have[GUEST_CPU_XCR0] |= words[GUEST_CPU_XCR0] & ~0xffffffffull;
	assert_int_equal(cpu_features_missing(words, have, text, sizeof(text)), 0);
	assert_int_equal(cpu_features_missing(words, guest.vm.cpu_have, text, sizeof(text)), 0);
	assert_true(guest.vm.baseline_holds || guest.vm.host_kind == PROTO_HOST_PVM);
	if (guest.vm.host_kind == PROTO_HOST_HARDWARE) {
		guest_cpuid(0xd, seen);
		assert_int_equal(seen[0], 832);
		assert_int_equal(seen[1], 832);
	}
}

static void test_guest_cpuid(void **state)
{
	(void)state;
	check_guest_cpuid(false);
	vm_free(&guest.vm);
	assert_int_equal(vm_set_cpu_baseline("x86-64-v3"), 0);
	guest_open(&guest);
	assert_int_equal(vm_set_cpu_baseline("host"), 0);
	assert_int_equal(guest.vm.cpu_features[GUEST_CPU_7_EBX] & (1u << 18 | 1u << 29), 0);
	check_guest_cpuid(guest.vm.baseline_holds);
}

static void test_new_cost(void **state)
{
	uint64_t start = clock_mono_ns(), made;
	struct vm vm;

	(void)state;
	assert_int_equal(vm_new(&vm, open("/dev/kvm", O_RDWR | O_CLOEXEC), MIB(256)), 0);
	made = clock_mono_ns();
	vm_free(&vm);
	print_message("vm_new %llu us, vm_free %llu us\n",
		      (unsigned long long)(made - start) / 1000,
		      (unsigned long long)(clock_mono_ns() - made) / 1000);
	assert_int_equal(vm_new(&vm, open("/dev/null", O_RDWR | O_CLOEXEC), MIB(256)), -ENODEV);
	assert_int_equal(vm_new(&vm, open("/dev/kvm", O_RDWR | O_CLOEXEC), 12345), -EINVAL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	struct CMUnitTest tests[] = {
		T(test_contexts),	    T(test_context_cost),    T(test_avx512_context),
		T(test_fs_base_of_program), T(test_what_ring3_sees), T(test_flush),
		T(test_template),	    T(test_cpu_features),    T(test_guest_cpuid),
		T(test_new_cost),
	};

	log_init("test_vm_state", NULL);
	guest_skip_without_kvm(tests, ARRAY_SIZE(tests));
	return cmocka_run_group_tests_name("vm state", tests, guest_hold_kvm, NULL);
}
