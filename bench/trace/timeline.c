/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timeline.c - a tracer's events as lines for people
 *
 * Addresses come in three kinds: pages of guest RAM (KVM's mappings, snapd's fills), addresses of
 * the guest's program (exits), and addresses of the vmm, which may lie in what it gave the guest as
 * RAM. All are shown as the guest sees them, with the mapping.
 */
#include "bench/trace/timeline.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "include/guest_abi.h"
#include "vmm/system_slot.h"

enum { MAPPINGS_MAX = 256, MAPPINGS_SHOWN = 20, PF_WRITE = 2, VECTOR_PAGE_FAULT = 14 };
/* KVM maps up to eight neighbours at one fault; mapped so soon after one of its group, a page came
 * in with that. */
enum { GROUP_SHIFT = PAGE_SHIFT + 3, SAME_FAULT_NS = 1500 };

static const char *const syscall_names[] = {
#include "common/syscall_names.inc"
};

#define REASON(name) [KVM_EXIT_##name] = "KVM_EXIT_" #name
static const char *const reason_names[] = {
	REASON(UNKNOWN),      REASON(EXCEPTION),
	REASON(IO),	      REASON(HYPERCALL),
	REASON(DEBUG),	      REASON(HLT),
	REASON(MMIO),	      REASON(IRQ_WINDOW_OPEN),
	REASON(SHUTDOWN),     REASON(FAIL_ENTRY),
	REASON(INTR),	      REASON(SET_TPR),
	REASON(TPR_ACCESS),   REASON(INTERNAL_ERROR),
	REASON(SYSTEM_EVENT),
};

static const char *const exception_names[SYSTEM_VECTORS] = {
	"divide error",
	"debug",
	"nmi",
	"breakpoint",
	"overflow",
	"bound range",
	"invalid opcode",
	"no fpu",
	"double fault",
	NULL,
	"invalid tss",
	"segment not present",
	"stack segment",
	"general protection",
	"page fault",
	NULL,
	"fpu error",
	"alignment check",
	"machine check",
	"simd error",
};

/* Not the program's at the capture: page tables, or frames taken since. */
static const char not_noted[] = "[page tables, or new since the capture]";

/** struct mapping_sum - pages mapped of one mapping. */
struct mapping_sum {
	const char *name;
	unsigned pages;
};

/** struct sums - what stands below the lines. */
struct sums {
	unsigned events[TRACE_KIND_COUNT];
	unsigned filled, syscalls, exceptions;
	struct mapping_sum mappings[MAPPINGS_MAX];
	unsigned mapping_count;
	unsigned faults;
	uint64_t map_ns, map_group; /* of the last map event */
	uint8_t *mapped;	    /* a byte a page: counted already */
	size_t mapped_count;
};

static int by_time(const void *a, const void *b)
{
	const struct trace_event *x = a, *y = b;

	return (x->ns > y->ns) - (x->ns < y->ns);
}

/* ---- lines ---- */

static void print_page(const struct timeline *t, uint64_t page)
{
	const struct page_note *note = page_notes_page(t->notes, page);

	if (t->booted)
		printf("page %llu\n", (unsigned long long)page);
	else if (note)
		printf("page %-6llu 0x%012llx  %s\n", (unsigned long long)page,
		       (unsigned long long)note->gva, note->mapping);
	else
		printf("page %-6llu %-14s  %s\n", (unsigned long long)page, "-", not_noted);
}

static void print_address(const struct timeline *t, uint64_t gva)
{
	const char *mapping = page_notes_mapping_at(t->notes, gva);

	if (gva >= GUEST_SYSTEM_GVA && gva < GUEST_SYSTEM_GVA + GUEST_SYSTEM_BYTES)
		mapping = "[system slot]";
	printf("0x%012llx  %s\n", (unsigned long long)gva, mapping ? mapping : "");
}

static const char *syscall_text(uint64_t nr, char *buf, size_t n)
{
	const char *name = nr < ARRAY_SIZE(syscall_names) ? syscall_names[nr] : NULL;

	if (name)
		snprintf(buf, n, "%s", name);
	else
		snprintf(buf, n, "system call %llu", (unsigned long long)nr);
	return buf;
}

static const char *reason_text(const struct trace_event *e, char *buf, size_t n)
{
	const char *name = e->a < ARRAY_SIZE(reason_names) ? reason_names[e->a] : NULL;

	if ((int)e->b == -EINTR)
		snprintf(buf, n, "interrupted by the vmm");
	else if ((int)e->b < 0)
		snprintf(buf, n, "KVM_RUN: %s", strerror(-(int)e->b));
	else if (name)
		snprintf(buf, n, "%s", name);
	else
		snprintf(buf, n, "KVM_EXIT_%llu", (unsigned long long)e->a);
	return buf;
}

/** A system call says the address that it returns to; a page fault the one that was touched. */
static void print_exit(const struct timeline *t, const struct trace_event *e, struct sums *sums)
{
	bool doorbell = e->a == KVM_EXIT_IO && !(int)e->b && e->rip;
	char text[64];

	if (doorbell && (e->rip == SYSTEM_SYSCALL_GVA || e->rip == SYSTEM_SYSRET_GVA)) {
		sums->syscalls++;
		printf("exit  %-23s", syscall_text(e->rax, text, sizeof(text)));
		print_address(t, e->rcx);
	} else if (doorbell && e->rip >= SYSTEM_STUBS_GVA && e->rip < SYSTEM_STUBS_END) {
		unsigned vector = (unsigned)((e->rip - SYSTEM_STUBS_GVA) / SYSTEM_STUB_BYTES);
		const char *name = exception_names[vector];

		sums->exceptions++;
		printf("exit  %-23s", name ? name : "exception");
		print_address(t, vector == VECTOR_PAGE_FAULT ? e->cr2 : e->rip);
	} else {
		printf("exit  %-23s", reason_text(e, text, sizeof(text)));
		print_address(t, e->rip);
	}
}

static void print_vmm_fault(const struct timeline *t, const struct trace_event *e)
{
	const char *how = e->b & PF_WRITE ? "write" : "read";

	printf("vmm   %-6s", how);
	if (t->ram_bytes && e->a >= t->ram_hva && e->a - t->ram_hva < t->ram_bytes) {
		printf("     ");
		print_page(t, (e->a - t->ram_hva) / PAGE_BYTES);
	} else {
		printf("%17s0x%012llx  the vmm's own memory\n", "", e->a);
	}
}

static void count_mapped(const struct timeline *t, struct sums *sums, uint64_t page)
{
	const struct page_note *note = page_notes_page(t->notes, page);
	const char *name = t->booted ? "booted: the snapshot does not tell where pages are"
			   : note    ? note->mapping
				     : not_noted;

	if (page < sums->mapped_count && sums->mapped[page]++)
		return;
	for (unsigned i = 0; i < sums->mapping_count; i++) {
		if (!strcmp(sums->mappings[i].name, name)) {
			sums->mappings[i].pages++;
			return;
		}
	}
	if (sums->mapping_count < MAPPINGS_MAX)
		sums->mappings[sums->mapping_count++] =
			(struct mapping_sum){.name = name, .pages = 1};
}

/** Return: did the page come in with the one before? */
static bool came_along(const struct timeline *t, const struct trace_event *e, struct sums *sums)
{
	const struct page_note *note = page_notes_page(t->notes, e->a - GUEST_RAM_GPA / PAGE_BYTES);
	uint64_t group = note && !t->booted ? note->gva >> GROUP_SHIFT : UINT64_MAX;
	bool along = group != UINT64_MAX && group == sums->map_group &&
		     e->ns - sums->map_ns < SAME_FAULT_NS;

	sums->map_ns = e->ns;
	sums->map_group = group;
	sums->faults += !along;
	return along;
}

static void print_map(const struct timeline *t, const struct trace_event *e, struct sums *sums)
{
	const uint64_t ram_gfn = GUEST_RAM_GPA / PAGE_BYTES;

	printf(came_along(t, e, sums) ? " +map " : "map   ");
	if (e->b > 1)
		printf("level %-5llu", e->b);
	else
		printf("%-11s", "");
	if (e->a < ram_gfn) {
		printf("%-12s%s\n", "", "[system slot]");
		return;
	}
	print_page(t, e->a - ram_gfn);
	count_mapped(t, sums, e->a - ram_gfn);
}

static void print_fill(const struct timeline *t, const struct trace_event *e, struct sums *sums)
{
	sums->filled += (unsigned)e->b;
	printf("fill  %2llu page%-4s", e->b, e->b == 1 ? "" : "s");
	print_page(t, e->a);
}

static void print_event(const struct timeline *t, const struct trace_event *e, struct sums *sums)
{
	sums->events[e->kind]++;
	printf("%9.3f ms  ", (double)(int64_t)(e->ns - t->begin_ns) / 1e6);
	switch (e->kind) {
	case TRACE_EXIT:
		print_exit(t, e, sums);
		break;
	case TRACE_MAP:
		print_map(t, e, sums);
		break;
	case TRACE_VMM_FAULT:
		print_vmm_fault(t, e);
		break;
	case TRACE_FILL:
		print_fill(t, e, sums);
		break;
	}
}

/* ---- sums ---- */

static int by_pages(const void *a, const void *b)
{
	const struct mapping_sum *x = a, *y = b;

	return (x->pages < y->pages) - (x->pages > y->pages);
}

static void print_sums(const struct timeline *t, struct sums *s)
{
	unsigned pages = 0, rest = 0;

	for (unsigned i = 0; i < s->mapping_count; i++)
		pages += s->mappings[i].pages;
	printf("\n%.3f ms: %u exits (%u system calls, %u exceptions), %u pages mapped by %u map "
	       "events,\nabout %u faults of the guest, %u of the vmm, %u template pages filled by "
	       "%u "
	       "writes of snapd\n",
	       (double)(t->end_ns - t->begin_ns) / 1e6, s->events[TRACE_EXIT], s->syscalls,
	       s->exceptions, pages, s->events[TRACE_MAP], s->faults, s->events[TRACE_VMM_FAULT],
	       s->filled, s->events[TRACE_FILL]);
	qsort(s->mappings, s->mapping_count, sizeof(s->mappings[0]), by_pages);
	printf("\n%6s  %s\n", "PAGES", "MAPPED FOR THE GUEST, BY MAPPING");
	for (unsigned i = 0; i < s->mapping_count; i++) {
		if (i < MAPPINGS_SHOWN)
			printf("%6u  %s\n", s->mappings[i].pages, s->mappings[i].name);
		else
			rest += s->mappings[i].pages;
	}
	if (rest)
		printf("%6u  in %u others\n", rest, s->mapping_count - MAPPINGS_SHOWN);
}

void timeline_print(struct timeline *t)
{
	struct sums sums = {.mapped_count = 1 << 22};

	sums.mapped = calloc(sums.mapped_count, 1);
	if (!sums.mapped)
		sums.mapped_count = 0;
	qsort(t->events, t->count, sizeof(*t->events), by_time);
	printf("%12s  %-5s %-23s%-14s  %s\n", "TIME", "EVENT", "WHAT", "GUEST ADDRESS", "MAPPING");
	for (size_t i = 0; i < t->count; i++) {
		const struct trace_event *e = &t->events[i];

		if (e->ns >= t->begin_ns && e->ns <= t->end_ns && e->kind < TRACE_KIND_COUNT &&
		    (e->kind == TRACE_FILL || e->pid == t->pid))
			print_event(t, e, &sums);
	}
	print_sums(t, &sums);
	free(sums.mapped);
}
