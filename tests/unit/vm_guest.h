/* SPDX-License-Identifier: Apache-2.0 */
/* vm_guest.h - a minimal ring-3 program for tests of the machine: its memory and page tables */
#ifndef QUICKTHAW_TESTS_VM_GUEST_H
#define QUICKTHAW_TESTS_VM_GUEST_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "vmm/system_slot.h"
#include "vmm/vm.h"

enum { GUEST_CODE = 0x400000, GUEST_STACK = 0x600000, GUEST_RAM_MIB = 64 };

/** struct guest - a vm with page tables in RAM. */
struct guest {
	struct vm vm;
	uint32_t next_page;
	uint32_t pml4;
};

/** PROGRAM() - a piece of guest code between two labels. */
#define PROGRAM(name, text)                                                                        \
	extern const uint8_t name[], name##_end[];                                                 \
	__asm__(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection")

static inline uint64_t *guest_pte(struct guest *g, uint64_t gva)
{
	uint64_t *table = guest_page_ptr(&g->vm.mem, g->pml4);

	for (int shift = 39; shift > 12; shift -= 9) {
		uint64_t *e = &table[gva >> shift & 511];

		if (!*e)
			*e = guest_page_gpa(g->next_page++).v | 0x67;
		table = guest_mem_ptr(&g->vm.mem, (struct gpa){*e & 0xffffffffff000ull},
				      PAGE_BYTES);
	}
	return &table[gva >> 12 & 511];
}

/** guest_map() - a new page at @gva. Return: where it is in this process. */
static inline uint8_t *guest_map(struct guest *g, uint64_t gva, uint64_t flags)
{
	uint32_t page = g->next_page++;

	*guest_pte(g, gva) =
		guest_page_gpa(page).v | PTE_PRESENT | PTE_USER | PTE_ACCESSED | PTE_DIRTY | flags;
	return guest_page_ptr(&g->vm.mem, page);
}

/**
 * guest_hold_kvm() - group setup: keep one VM for as long as the program runs.
 * With the first VM of a host, and after the last, the kernel patches its scheduler; QEMU's TCG
 * does not always survive that on two CPUs.
 */
static inline int guest_hold_kvm(void **state)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	(void)state;
	if (kvm >= 0)
		(void)ioctl(kvm, KVM_CREATE_VM, 0);
	return 0;
}

static inline void guest_skip(void **state)
{
	(void)state;
	print_message("skipped: no usable /dev/kvm\n");
	skip();
}

/** guest_skip_without_kvm() - turn all tests into skips on a host without KVM, unless REQUIRE_KVM.
 */
static inline void guest_skip_without_kvm(struct CMUnitTest *tests, size_t n)
{
	if (!access("/dev/kvm", R_OK | W_OK) || getenv("REQUIRE_KVM"))
		return;
	for (size_t i = 0; i < n; i++)
		tests[i] = (struct CMUnitTest){.name = tests[i].name, .test_func = guest_skip};
}

static inline void guest_open(struct guest *g)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	uint64_t *level3;

	memset(g, 0, sizeof(*g));
	if (kvm < 0)
		fail_msg("no usable /dev/kvm");
	assert_int_equal(vm_new(&g->vm, kvm, MIB(GUEST_RAM_MIB)), 0);
	g->next_page = 1;
	guest_pte(g, GUEST_SYSTEM_GVA - PAGE_BYTES);
	level3 = guest_mem_ptr(
		&g->vm.mem,
		(struct gpa){((uint64_t *)guest_page_ptr(&g->vm.mem, 0))[GUEST_SYSTEM_GVA >> 39] &
			     0xffffffffff000ull},
		PAGE_BYTES);
	level3[GUEST_SYSTEM_GVA >> 30 & 511] = SYSTEM_PDPT_ENTRY;
	vm_set_page_tables(&g->vm, guest_page_gpa(0));
	guest_map(g, GUEST_STACK, PTE_WRITABLE);
}

/** guest_start() - put code at GUEST_CODE and make it the next thing to run. */
static inline void guest_start(struct guest *g, const uint8_t *code, const uint8_t *end)
{
	uint64_t *pte = guest_pte(g, GUEST_CODE);
	struct kvm_regs *regs = vcpu_regs(&g->vm);

	if (!*pte)
		guest_map(g, GUEST_CODE, 0);
	memcpy(guest_mem_ptr(&g->vm.mem, (struct gpa){*pte & 0xffffffffff000ull}, PAGE_BYTES), code,
	       (size_t)(end - code));
	memset(regs, 0, sizeof(*regs));
	regs->rip = GUEST_CODE;
	regs->rsp = GUEST_STACK + PAGE_BYTES - 64;
	regs->rflags = 0x202;
	vcpu_regs_changed(&g->vm);
}
#define guest_start_program(g, name) guest_start(g, name, name##_end)

/** guest_expect() - run until an event, which must be of @kind. */
static inline struct vcpu_event guest_expect(struct guest *g, enum vcpu_event_kind kind)
{
	struct vcpu_event ev;

	assert_int_equal(vcpu_run(&g->vm, &ev), 0);
	if (ev.kind != kind)
		print_error("event %d (vector %u error 0x%llx cr2 0x%llx rip 0x%llx) %s\n", ev.kind,
			    ev.vector, (unsigned long long)ev.error_code,
			    (unsigned long long)ev.cr2, (unsigned long long)vcpu_regs(&g->vm)->rip,
			    ev.text);
	assert_int_equal(ev.kind, kind);
	return ev;
}

/** guest_result() - what a system call returns to the program. */
static inline void guest_result(struct guest *g, uint64_t rax)
{
	vcpu_regs(&g->vm)->rax = rax;
	vcpu_regs_changed(&g->vm);
}

#endif
