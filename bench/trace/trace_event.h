/* SPDX-License-Identifier: Apache-2.0 */
/* trace_event.h - what the BPF program tells the tracer; compiled by both */
#ifndef QUICKTHAW_BENCH_TRACE_EVENT_H
#define QUICKTHAW_BENCH_TRACE_EVENT_H

enum trace_kind {
	TRACE_EXIT = 1,	  /**< a = KVM exit reason */
	TRACE_IO = 2,	  /**< a = port: the doorbell of a system call or exception */
	TRACE_MAP = 3,	  /**< a = guest frame number, b = level: KVM maps a page for the guest */
	TRACE_VMM_FAULT = 4, /**< a = address in the vmm, b = error code */
	TRACE_FILL = 5,	  /**< a = page of the template that snapd filled */
};

struct trace_event {
	unsigned long long ns; /**< CLOCK_MONOTONIC */
	unsigned int pid;      /**< of the process that it happened in */
	unsigned int kind;     /**< enum trace_kind */
	unsigned long long a, b;
};

#endif
