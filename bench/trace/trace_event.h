/* SPDX-License-Identifier: Apache-2.0 */
/* trace_event.h - what the BPF program tells the tracer; compiled by both */
#ifndef QUICKTHAW_BENCH_TRACE_EVENT_H
#define QUICKTHAW_BENCH_TRACE_EVENT_H

enum trace_kind {
	TRACE_EXIT = 1, /**< KVM_RUN returns to the vmm: a = exit reason, b = -errno or 0 */
	TRACE_MAP = 2,	/**< KVM maps a page for the guest: a = guest frame number, b = level */
	TRACE_VMM_FAULT = 3, /**< the vmm itself faults: a = address in the vmm, b = error code */
	TRACE_FILL = 4,	     /**< snapd fills template pages: a = first page, b = how many */
	TRACE_KIND_COUNT
};

struct trace_event {
	unsigned long long ns; /**< CLOCK_MONOTONIC */
	unsigned int pid;      /**< process that it happened in */
	unsigned int kind;     /**< enum trace_kind */
	unsigned long long a, b;
	/* The guest's registers at a TRACE_EXIT; all 0 where the kernel does not show them. */
	unsigned long long rip, rax, rcx, cr2;
};

#endif
