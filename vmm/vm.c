/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm.c - make a KVM virtual machine and find out what kind of host it is on
 *
 * The order is KVM's: memory slots before anything that would make them wait for a grace period,
 * CPUID before special registers (hardware KVM refuses EFER.LME without LM in CPUID), and CPUID
 * cannot change once the vCPU has run.
 */
#include "vmm/vm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/host_cpuid.h"
#include "common/log.h"
#include "vmm/cpu_features.h"
#include "vmm/ram_slots.h"
#include "vmm/system_slot.h"

enum { STEPS_MAX = 12 };
/** Mapping a page costs more than so many copies: dear. Measured were 1 to 2, and more than 10. */
enum { DEAR_COPIES = 5 };

/* MSRs of SYSCALL (SDM vol. 4, table 2-2). */
enum {
	MSR_STAR = 0xc0000081,
	MSR_LSTAR = 0xc0000082,
	MSR_SFMASK = 0xc0000084,
	MSR_TSC_AUX = 0xc0000103,
	SFMASK = 0x47700, /* TF IF DF IOPL NT AC: as Linux */
};

/* What each step of vm_new() took, for one debug line. */
struct steps {
	uint64_t last_ns;
	int count;
	struct {
		const char *name;
		uint64_t ns;
	} step[STEPS_MAX];
};

static void step_done(struct steps *s, const char *name)
{
	uint64_t now = clock_mono_ns();

	if (s->count < STEPS_MAX) {
		s->step[s->count].name = name;
		s->step[s->count++].ns = now - s->last_ns;
	}
	s->last_ns = now;
}

static void steps_log(const struct steps *s)
{
	char line[300];
	int used = 0;

	for (int i = 0; i < s->count && used < (int)sizeof(line); i++)
		used += snprintf(line + used, sizeof(line) - (size_t)used, " %s %llu",
				 s->step[i].name, (unsigned long long)s->step[i].ns / 1000);
	log_debug("vm made, microseconds:%s", line);
}

/* log_and_errno() - a failed step of KVM. Return: -errno. */
static int log_and_errno(const char *what)
{
	int err = -errno;

	log_error("kvm: %s failed: %s; the host's KVM cannot run process guests", what,
		  strerror(-err));
	return err;
}

static int check_capabilities(int kvm_fd)
{
	static const struct {
		int cap;
		int need;
		const char *name;
	} caps[] = {
		{KVM_CAP_USER_MEMORY, 1, "KVM_CAP_USER_MEMORY"},
		{KVM_CAP_SYNC_REGS, KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS, "KVM_CAP_SYNC_REGS"},
		{KVM_CAP_IMMEDIATE_EXIT, 1, "KVM_CAP_IMMEDIATE_EXIT"},
		{KVM_CAP_XSAVE, 1, "KVM_CAP_XSAVE"},
		{KVM_CAP_XCRS, 1, "KVM_CAP_XCRS"},
		{KVM_CAP_EXT_CPUID, 1, "KVM_CAP_EXT_CPUID"},
	};

	if (ioctl(kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		log_error("/dev/kvm does not speak KVM API version %d", KVM_API_VERSION);
		return -ENODEV;
	}
	for (size_t i = 0; i < ARRAY_SIZE(caps); i++) {
		int r = ioctl(kvm_fd, KVM_CHECK_EXTENSION, caps[i].cap);

		if (r < 0 || (r & caps[i].need) != caps[i].need) {
			log_error("the host's KVM lacks %s: Linux 5.10 or newer is needed",
				  caps[i].name);
			return -ENODEV;
		}
	}
	return 0;
}

static int make_slots(struct vm *vm)
{
	struct kvm_userspace_memory_region system = {
		.guest_phys_addr = GUEST_SYSTEM_GPA,
		.memory_size = GUEST_SYSTEM_BYTES,
		.userspace_addr = (uint64_t)(uintptr_t)vm->mem.system,
	};

	if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &system))
		return log_and_errno("setting a memory slot");
	vm->slots = 1;
	return ram_slots_new(vm);
}

static int make_vcpu(struct vm *vm)
{
	int bytes = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run;

	if (bytes < (int)sizeof(struct kvm_run))
		return log_and_errno("KVM_GET_VCPU_MMAP_SIZE");
	vm->vcpu.fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, 0);
	if (vm->vcpu.fd < 0)
		return log_and_errno("KVM_CREATE_VCPU");
	run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu.fd, 0);
	if (run == MAP_FAILED)
		return log_and_errno("mapping the vCPU");
	vm->vcpu.run = run;
	vm->vcpu.run_bytes = (size_t)bytes;
	vm->vcpu.run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	return 0;
}

static int set_cpuid(struct vm *vm)
{
	CLEANUP_FREE struct kvm_cpuid2 *cpuid = calloc(
		1, sizeof(*cpuid) + HOST_CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));

	if (!cpuid)
		return -ENOMEM;
	errno = -host_cpuid_supported(vm->kvm_fd, cpuid);
	if (errno)
		return log_and_errno("KVM_GET_SUPPORTED_CPUID");
	cpu_features_mask(cpuid, vm->vcpu.xcr0, GUEST_KIND_PROCESS);
	if (ioctl(vm->vcpu.fd, KVM_SET_CPUID2, cpuid))
		return log_and_errno("KVM_SET_CPUID2");
	return 0;
}

static int set_xcr0(struct vm *vm)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1};

	xcrs.xcrs[0].value = vm->vcpu.xcr0;
	return ioctl(vm->vcpu.fd, KVM_SET_XCRS, &xcrs) ? log_and_errno("KVM_SET_XCRS") : 0;
}

static int set_msrs(struct vm *vm)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[4];
	} msrs = {.head.nmsrs = 3};
	struct kvm_msrs *head = &msrs.head;

	msrs.entries[0] =
		(struct kvm_msr_entry){.index = MSR_STAR,
				       .data = (uint64_t)(SYSTEM_SEL_KERNEL_DATA | 3) << 48 |
					       (uint64_t)SYSTEM_SEL_KERNEL_CODE << 32};
	msrs.entries[1] = (struct kvm_msr_entry){.index = MSR_LSTAR, .data = SYSTEM_SYSCALL_GVA};
	msrs.entries[2] = (struct kvm_msr_entry){.index = MSR_SFMASK, .data = SFMASK};
	if (ioctl(vm->vcpu.fd, KVM_SET_MSRS, head) != 3) {
		errno = EIO;
		return log_and_errno("setting the system call MSRs");
	}
	/* RDTSCP and RDPID tell the number of the CPU: there is one. A host without it does not
	 * let the guest see those instructions. */
	msrs.entries[0] = (struct kvm_msr_entry){.index = MSR_TSC_AUX};
	msrs.head.nmsrs = 1;
	(void)ioctl(vm->vcpu.fd, KVM_SET_MSRS, head);
	return 0;
}

/* The guest's TSC becomes the host's, so that vDSO data needs no per-vCPU offset. */
static void set_tsc(struct vm *vm)
{
	uint64_t offset = 0;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uint64_t)(uintptr_t)&offset,
	};
	int khz = ioctl(vm->vcpu.fd, KVM_GET_TSC_KHZ, 0);

	vm->tsc_khz = khz > 0 ? (uint64_t)khz : 0;
	/* The probe looks whether it worked. */
	(void)ioctl(vm->vcpu.fd, KVM_SET_DEVICE_ATTR, &attr);
}

static int set_registers(struct vm *vm)
{
	struct kvm_run *run = vm->vcpu.run;

	if (ioctl(vm->vcpu.fd, KVM_GET_SREGS, &run->s.regs.sregs))
		return log_and_errno("KVM_GET_SREGS");
	system_slot_sregs(&run->s.regs.sregs);
	if (ioctl(vm->vcpu.fd, KVM_SET_SREGS, &run->s.regs.sregs))
		return log_and_errno("KVM_SET_SREGS");
	return 0;
}

/** struct probe - what a program found in ring 3. */
struct probe {
	uint32_t cpuid[GUEST_CPU_XCR0];
	uint64_t xcr0;
};

static void probe_words(const struct kvm_regs *regs, struct probe *ret)
{
	ret->cpuid[GUEST_CPU_1_ECX] = (uint32_t)regs->r8;
	ret->cpuid[GUEST_CPU_1_EDX] = (uint32_t)regs->r9;
	ret->cpuid[GUEST_CPU_7_EBX] = (uint32_t)regs->r10;
	ret->cpuid[GUEST_CPU_7_ECX] = (uint32_t)regs->r12;
	ret->cpuid[GUEST_CPU_7_EDX] = (uint32_t)regs->r13;
	ret->cpuid[GUEST_CPU_80000001_ECX] = (uint32_t)regs->r14;
	ret->cpuid[GUEST_CPU_80000001_EDX] = (uint32_t)regs->r15;
	ret->xcr0 = (uint32_t)regs->rbx;
}

/* Run the probe: it touches some pages and makes one system call, from ring 3. */
static int run_probe(struct vm *vm, struct probe *ret)
{
	struct kvm_run *run = vm->vcpu.run;
	struct kvm_regs *regs = &run->s.regs.regs;
	uint64_t before, after, touch, copy;

	memset(regs, 0, sizeof(*regs));
	regs->rip = SYSTEM_PROBE_GVA;
	regs->rsi = SYSTEM_GVA(SYSTEM_PAGE_PROBE_TOUCH);
	regs->rdi = PAGE_BYTES;
	regs->rflags = 0x2;
	run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	before = __rdtsc();
	while (ioctl(vm->vcpu.fd, KVM_RUN, 0))
		if (errno != EINTR && errno != EAGAIN)
			return log_and_errno("the first KVM_RUN");
	after = __rdtsc();
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != GUEST_DOORBELL_PORT ||
	    align_down(regs->rip, PAGE_BYTES) != SYSTEM_SYSCALL_GVA) {
		log_error("kvm: the probe of the host kind stopped with exit reason %u at rip "
			  "0x%llx; the host's KVM cannot run process guests",
			  run->exit_reason, (unsigned long long)regs->rip);
		return -EIO;
	}
	probe_words(regs, ret);
	vm->vcpu.in_kernel = run->s.regs.sregs.cs.dpl == 0;
	vm->host_kind = vm->vcpu.in_kernel ? PROTO_HOST_HARDWARE : PROTO_HOST_PVM;
	touch = (regs->rdx - regs->rbp) / SYSTEM_PROBE_PAGES;
	copy = system_slot_copy_tsc(&vm->mem);
	vm->faults_dear = vm->host_kind == PROTO_HOST_PVM && touch > DEAR_COPIES * copy;
	log_debug("kvm: a page costs %llu cycles to map, %llu to copy", (unsigned long long)touch,
		  (unsigned long long)copy);
	if (regs->rdx < before || regs->rdx > after) {
		log_debug("the guest's TSC is not the host's: clocks are served by system calls");
		vm->tsc_khz = 0;
	}
	return 0;
}

static int vm_make(struct vm *vm, struct steps *steps, struct probe *ret)
{
	int err;

	vm->vm_fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	if (vm->vm_fd < 0)
		return log_and_errno("KVM_CREATE_VM");
	step_done(steps, "create-vm");
	err = make_slots(vm);
	step_done(steps, "slots");
	err = err ? err : make_vcpu(vm);
	step_done(steps, "vcpu");
	err = err ? err : set_cpuid(vm);
	step_done(steps, "cpuid");
	err = err ? err : set_registers(vm);
	err = err ? err : set_xcr0(vm);
	err = err ? err : set_msrs(vm);
	if (err)
		return err;
	set_tsc(vm);
	system_slot_build(&vm->mem);
	step_done(steps, "registers");
	err = run_probe(vm, ret);
	step_done(steps, "first-run");
	return err;
}

static void vm_unmake(struct vm *vm)
{
	if (vm->vcpu.run)
		munmap(vm->vcpu.run, vm->vcpu.run_bytes);
	if (vm->vcpu.fd >= 0)
		close(vm->vcpu.fd);
	if (vm->vm_fd >= 0)
		close(vm->vm_fd);
	vm->vcpu = (struct vcpu){.fd = -1};
	vm->vm_fd = -1;
}

static void init_xsave_layout(struct vm *vm)
{
	for (unsigned n = 5; n < 8; n++)
		if (vm->vcpu.xcr0 >> n & 1)
			vm->vcpu.xsave_offset[n] = cpu_xsave_offset(n);
}

/* Its arrival ends KVM_RUN; vcpu_kick() has said why. */
static void ignore_kick(int sig)
{
	(void)sig;
}

int vm_new(struct vm *vm, int kvm_fd, uint64_t ram_bytes)
{
	struct steps steps = {.last_ns = clock_mono_ns()};
	uint64_t host_xcr0 = cpu_host_xcr0();
	struct probe probe = {0};
	int err;

	memset(vm, 0, sizeof(*vm));
	vm->kvm_fd = kvm_fd;
	vm->vm_fd = vm->vcpu.fd = -1;
	err = check_capabilities(kvm_fd);
	err = err ? err : guest_mem_init(&vm->mem, ram_bytes);
	if (err)
		goto fail;
	step_done(&steps, "memory");

	/* KVM's idea of XCR0 decides what it saves; it must be what ring 3 really gets. Without
	 * VMX or SVM this can only be a PVM host, where that is the host's own. */
	vm->vcpu.xcr0 = host_xcr0 & (cpu_host_has_virtualization() ? VCPU_XCR0 : VCPU_XCR0_MAX);
	err = vm_make(vm, &steps, &probe);
	if (!err && (probe.xcr0 & VCPU_XCR0_MAX) != vm->vcpu.xcr0) {
		vm_unmake(vm);
		vm->vcpu.xcr0 = probe.xcr0 & VCPU_XCR0_MAX;
		err = vm_make(vm, &steps, &probe);
	}
	if (err)
		goto fail;
	init_xsave_layout(vm);
	system_slot_finish(&vm->mem, vm->host_kind);
	cpu_features_of_ring3(probe.cpuid, probe.xcr0, vm->cpu_features);
	vm->baseline_holds = cpu_baseline_holds(probe.cpuid, probe.xcr0);
	cpu_features_have(probe.xcr0, vm->cpu_have);
	vm->vcpu.run->s.regs.regs = (struct kvm_regs){.rflags = 0x202};
	vm->vcpu.regs_dirty = true;
	vm->vcpu.tid = (int)syscall(SYS_gettid);
	sigaction(VCPU_KICK_SIGNAL, &(struct sigaction){.sa_handler = ignore_kick}, NULL);
	step_done(&steps, "finish");
	steps_log(&steps);
	return 0;
fail:
	vm_free(vm);
	return err;
}

void vm_free(struct vm *vm)
{
	vm_unmake(vm);
	guest_mem_free(&vm->mem);
	if (vm->kvm_fd >= 0)
		close(vm->kvm_fd);
	vm->kvm_fd = -1;
}

void vm_set_page_tables(struct vm *vm, struct gpa pml4)
{
	vm->vcpu.run->s.regs.sregs.cr3 = pml4.v;
	vm->vcpu.sregs_dirty = true;
}
