/* SPDX-License-Identifier: Apache-2.0 */
/* system_slot.c - build descriptor tables, stubs, trampoline and page tables of the system slot */
#include "vmm/system_slot.h"

#include <string.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include "common/util.h"
#include "vmm/vm.h"

/* Segment descriptors, accessed bit set: nothing in the slot but the stack is ever written. */
#define DESC_KERNEL_CODE 0x00af9b000000ffffull
#define DESC_KERNEL_DATA 0x00cf93000000ffffull
#define DESC_USER_DATA	 0x00cff3000000ffffull
#define DESC_USER_CODE	 0x00affb000000ffffull

enum {
	TSS_OFFSET = 0x800, /* in the page of the GDT */
	TSS_RSP0 = 4,	    /* SDM vol. 3, 8.7 */
	TSS_IO_BASE = 102,
	TSS_BITMAP = 104,
	TSS_BITMAP_BYTES = 0x20, /* ports 0 to 0xff; all others are past the limit */
	TSS_LIMIT = TSS_BITMAP + TSS_BITMAP_BYTES, /* one byte of ones ends the bitmap */
	GATE_INTERRUPT = 0x8e,
	GATE_DPL3 = 0x60,
};

_Static_assert(GUEST_DOORBELL_PORT < TSS_BITMAP_BYTES * 8, "the doorbell is in the bitmap");
_Static_assert(SYSTEM_PAGE_COUNT *PAGE_BYTES <= GUEST_SYSTEM_BYTES, "the slot holds its pages");

static const uint8_t code_out[] = {0xe6, GUEST_DOORBELL_PORT}; /* out %al, $port */
static const uint8_t code_iretq[] = {0x48, 0xcf};
static const uint8_t code_trampoline[] = {
	0xe6, GUEST_DOORBELL_PORT, /* out %al, $port */
	0x48, 0x0f,
	0x07, /* sysretq */
};

/*
 * What ring 3 sees: CPUID's words into r8 to r15, XCR0 into rbx, what SYSCALL does to CPL; and TSC
 * into rbp, and after touching SYSTEM_PROBE_PAGES pages from rsi on, rdi apart, for the first time
 * into rdx. The registers are those that probe_words of vm.c names. Pages are read: what the host
 * has there then is not writable, so KVM maps one at a time.
 */
/* An instruction a line. */
/* clang-format off */
static const uint8_t code_probe[] = {
	0xb8, 1,    0,	  0,	0,    /* mov $1, %eax */
	0x31, 0xc9,		      /* xor %ecx, %ecx */
	0x0f, 0xa2,		      /* cpuid */
	0x41, 0x89, 0xc8,	      /* mov %ecx, %r8d */
	0x41, 0x89, 0xd1,	      /* mov %edx, %r9d */
	0xb8, 7,    0,	  0,	0,    /* mov $7, %eax */
	0x31, 0xc9,		      /* xor %ecx, %ecx */
	0x0f, 0xa2,		      /* cpuid */
	0x41, 0x89, 0xda,	      /* mov %ebx, %r10d */
	0x41, 0x89, 0xcc,	      /* mov %ecx, %r12d */
	0x41, 0x89, 0xd5,	      /* mov %edx, %r13d */
	0xb8, 1,    0,	  0,	0x80, /* mov $0x80000001, %eax */
	0x31, 0xc9,		      /* xor %ecx, %ecx */
	0x0f, 0xa2,		      /* cpuid */
	0x41, 0x89, 0xce,	      /* mov %ecx, %r14d */
	0x41, 0x89, 0xd7,	      /* mov %edx, %r15d */
	0x31, 0xc9,		      /* xor %ecx, %ecx */
	0x0f, 0x01, 0xd0,	      /* xgetbv */
	0x89, 0xc3,		      /* mov %eax, %ebx */
	0xb1, SYSTEM_PROBE_PAGES,      /* mov $..., %cl */
	0x0f, 0x31,		      /* rdtsc */
	0x48, 0xc1, 0xe2, 0x20,	      /* shl $32, %rdx */
	0x48, 0x8d, 0x2c, 0x10,	      /* lea (%rax,%rdx), %rbp */
	0x84, 0x06,		      /* 1: test %al, (%rsi) */
	0x48, 0x01, 0xfe,	      /* add %rdi, %rsi */
	0xfe, 0xc9,		      /* dec %cl */
	0x75, 0xf7,		      /* jnz 1b */
	0x0f, 0x31,		      /* rdtsc */
	0x48, 0xc1, 0xe2, 0x20,	      /* shl $32, %rdx */
	0x48, 0x09, 0xc2,	      /* or %rax, %rdx */
	0x0f, 0x05,		      /* syscall */
};
/* clang-format on */

static void build_gdt(const struct guest_mem *m)
{
	uint8_t *page = system_page_ptr(m, SYSTEM_PAGE_GDT);
	uint64_t *gdt = (uint64_t *)(void *)page;
	uint8_t *tss = page + TSS_OFFSET;
	uint64_t tss_gva = SYSTEM_GVA(SYSTEM_PAGE_GDT) + TSS_OFFSET;
	uint64_t rsp0 = SYSTEM_STACK_TOP;
	uint16_t io_base = TSS_BITMAP;

	gdt[SYSTEM_SEL_KERNEL_CODE / 8] = DESC_KERNEL_CODE;
	gdt[SYSTEM_SEL_KERNEL_DATA / 8] = DESC_KERNEL_DATA;
	gdt[SYSTEM_SEL_USER_DATA / 8] = DESC_USER_DATA;
	gdt[SYSTEM_SEL_USER_CODE / 8] = DESC_USER_CODE;
	gdt[SYSTEM_SEL_TSS / 8] = TSS_LIMIT | (tss_gva & 0xffffff) << 16 | 0x8bull << 40 |
				  (tss_gva >> 24 & 0xff) << 56;
	gdt[SYSTEM_SEL_TSS / 8 + 1] = tss_gva >> 32;

	memcpy(tss + TSS_RSP0, &rsp0, sizeof(rsp0));
	memcpy(tss + TSS_IO_BASE, &io_base, sizeof(io_base));
	memset(tss + TSS_BITMAP, 0xff, TSS_BITMAP_BYTES + 1);
}

/* Whether ring 3 may use the doorbell: only where SYSCALL stays in ring 3. */
static void set_doorbell(const struct guest_mem *m, bool user)
{
	uint8_t *bitmap = (uint8_t *)system_page_ptr(m, SYSTEM_PAGE_GDT) + TSS_OFFSET + TSS_BITMAP;
	uint8_t bit = 1u << (GUEST_DOORBELL_PORT & 7);

	if (user)
		bitmap[GUEST_DOORBELL_PORT / 8] &= (uint8_t)~bit;
	else
		bitmap[GUEST_DOORBELL_PORT / 8] |= bit;
}

static void build_idt(const struct guest_mem *m)
{
	uint64_t *idt = system_page_ptr(m, SYSTEM_PAGE_IDT);
	uint8_t *stubs = system_page_ptr(m, SYSTEM_PAGE_STUBS);

	for (unsigned v = 0; v < SYSTEM_VECTORS; v++) {
		uint64_t entry = SYSTEM_STUBS_GVA + v * SYSTEM_STUB_BYTES;
		/* int3 and into are the program's own; any other `int` is #GP, as on Linux. */
		uint64_t type = GATE_INTERRUPT | (v == 3 || v == 4 ? GATE_DPL3 : 0);

		memcpy(stubs + v * SYSTEM_STUB_BYTES, code_out, sizeof(code_out));
		idt[v * 2] = (entry & 0xffff) | SYSTEM_SEL_KERNEL_CODE << 16 | type << 40 |
			     (entry >> 16 & 0xffff) << 48;
		idt[v * 2 + 1] = entry >> 32;
	}
	memcpy(stubs + (SYSTEM_IRETQ_GVA - SYSTEM_STUBS_GVA), code_iretq, sizeof(code_iretq));
}

static unsigned level_index(uint64_t gva, unsigned level)
{
	return gva >> (PAGE_SHIFT + 9 * (level - 1)) & 511;
}

static void map_page(uint64_t *pt, enum system_page page, uint64_t flags)
{
	pt[level_index(SYSTEM_GVA(page), 1)] =
		SYSTEM_GPA(page) | PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY | flags;
}

static void build_tables(const struct guest_mem *m, enum system_page pd, enum system_page pt,
			 uint64_t trampoline_flags)
{
	uint64_t *level2 = system_page_ptr(m, pd), *level1 = system_page_ptr(m, pt);

	level2[level_index(GUEST_SYSTEM_GVA, 2)] =
		SYSTEM_GPA(pt) | PTE_PRESENT | PTE_WRITABLE | PTE_USER | PTE_ACCESSED | PTE_DIRTY;
	map_page(level1, SYSTEM_PAGE_GDT, PTE_NX);
	map_page(level1, SYSTEM_PAGE_IDT, PTE_NX);
	map_page(level1, SYSTEM_PAGE_STUBS, 0);
	map_page(level1, SYSTEM_PAGE_TRAMPOLINE, trampoline_flags);
	map_page(level1, SYSTEM_PAGE_STACK, PTE_WRITABLE | PTE_NX);
	map_page(level1, SYSTEM_PAGE_VVAR, PTE_USER | PTE_NX);
}

static void build_probe(const struct guest_mem *m)
{
	uint64_t *level4 = system_page_ptr(m, SYSTEM_PAGE_PROBE_PML4);
	uint64_t *level3 = system_page_ptr(m, SYSTEM_PAGE_PROBE_PDPT);
	uint64_t *level1 = system_page_ptr(m, SYSTEM_PAGE_PROBE_PT);
	const uint64_t table = PTE_PRESENT | PTE_WRITABLE | PTE_USER | PTE_ACCESSED | PTE_DIRTY;

	level4[level_index(GUEST_SYSTEM_GVA, 4)] = SYSTEM_GPA(SYSTEM_PAGE_PROBE_PDPT) | table;
	level3[level_index(GUEST_SYSTEM_GVA, 3)] = SYSTEM_GPA(SYSTEM_PAGE_PROBE_PD) | table;
	build_tables(m, SYSTEM_PAGE_PROBE_PD, SYSTEM_PAGE_PROBE_PT, PTE_USER);
	map_page(level1, SYSTEM_PAGE_PROBE_CODE, PTE_USER);
	for (unsigned i = 0; i < SYSTEM_PROBE_PAGES; i++)
		map_page(level1, SYSTEM_PAGE_PROBE_TOUCH + i, PTE_USER | PTE_NX);
	memcpy(system_page_ptr(m, SYSTEM_PAGE_PROBE_CODE), code_probe, sizeof(code_probe));
}

void system_slot_build(const struct guest_mem *m)
{
	build_gdt(m);
	build_idt(m);
	memcpy(system_page_ptr(m, SYSTEM_PAGE_TRAMPOLINE), code_trampoline,
	       sizeof(code_trampoline));
	set_doorbell(m, true);
	build_probe(m);
	/* Touched here, they cost a restore no fault. */
	memset(system_page_ptr(m, SYSTEM_PAGE_STACK), 0, PAGE_BYTES);
	memset(system_page_ptr(m, SYSTEM_PAGE_VVAR), 0, PAGE_BYTES);
}

uint64_t system_slot_copy_tsc(const struct guest_mem *m)
{
	volatile uint8_t *pages = system_page_ptr(m, SYSTEM_PAGE_PROBE_COPY);
	uint64_t least = UINT64_MAX;

	/* The least of them: new memory may have to come from further away first. */
	for (unsigned i = 0; i < SYSTEM_PROBE_PAGES; i++) {
		uint64_t start = __rdtsc();

		pages[i * PAGE_BYTES] = 1;
		least = MIN(least, __rdtsc() - start);
	}
	madvise(system_page_ptr(m, SYSTEM_PAGE_PROBE_COPY), SYSTEM_PROBE_PAGES * PAGE_BYTES,
		MADV_DONTNEED);
	return least;
}

void system_slot_finish(const struct guest_mem *m, enum proto_host_kind kind)
{
	bool user = kind == PROTO_HOST_PVM;

	set_doorbell(m, user);
	build_tables(m, SYSTEM_PAGE_PD, SYSTEM_PAGE_PT, user ? PTE_USER : 0);
}

struct kvm_segment system_user_code(void)
{
	return (struct kvm_segment){.selector = SYSTEM_SEL_USER_CODE,
				    .limit = UINT32_MAX,
				    .type = 11,
				    .present = 1,
				    .dpl = 3,
				    .s = 1,
				    .l = 1,
				    .g = 1};
}

struct kvm_segment system_user_data(void)
{
	return (struct kvm_segment){.selector = SYSTEM_SEL_USER_DATA,
				    .limit = UINT32_MAX,
				    .type = 3,
				    .present = 1,
				    .dpl = 3,
				    .db = 1,
				    .s = 1,
				    .g = 1};
}

void system_slot_sregs(struct kvm_sregs *ret)
{
	ret->cr0 = 0x80050033;			 /* PG AM WP NE ET MP PE */
	ret->cr4 = 0x20 |			 /* PAE */
		   0x200 |			 /* OSFXSR */
		   0x400 |			 /* OSXMMEXCPT */
		   0x10000 |			 /* FSGSBASE */
		   0x40000;			 /* OSXSAVE */
	ret->efer = 0x1 | 0x100 | 0x400 | 0x800; /* SCE LME LMA NXE */
	ret->cr3 = SYSTEM_GPA(SYSTEM_PAGE_PROBE_PML4);
	ret->cs = system_user_code();
	ret->ss = ret->ds = ret->es = ret->fs = ret->gs = system_user_data();
	ret->tr = (struct kvm_segment){.selector = SYSTEM_SEL_TSS,
				       .base = SYSTEM_GVA(SYSTEM_PAGE_GDT) + TSS_OFFSET,
				       .limit = TSS_LIMIT,
				       .type = 11,
				       .present = 1};
	ret->ldt = (struct kvm_segment){.unusable = 1};
	ret->gdt.base = SYSTEM_GVA(SYSTEM_PAGE_GDT);
	ret->gdt.limit = SYSTEM_SEL_TSS + 16 - 1;
	ret->idt.base = SYSTEM_GVA(SYSTEM_PAGE_IDT);
	ret->idt.limit = SYSTEM_VECTORS * 16 - 1;
}
