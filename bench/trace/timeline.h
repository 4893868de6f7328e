/* SPDX-License-Identifier: Apache-2.0 */
/* timeline.h - a tracer's events as lines for people */
#ifndef QUICKTHAW_BENCH_TIMELINE_H
#define QUICKTHAW_BENCH_TIMELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/trace/page_notes.h"
#include "bench/trace/trace_event.h"

/** struct timeline - what is printed. */
struct timeline {
	struct trace_event *events; /**< sorted in place */
	size_t count;
	unsigned pid;		     /**< the instance: other vmm processes are left out */
	uint64_t begin_ns, end_ns;   /**< events outside are left out; times count from begin_ns */
	uint64_t ram_hva, ram_bytes; /**< where the instance has the guest's RAM; 0: not known */
	const struct page_notes *notes;
	bool booted; /**< its pages are not where the snapshot has them: only addresses are known */
};

/** timeline_print() - the lines, then sums: by kind of event, and pages by mapping. */
void timeline_print(struct timeline *t);

#endif
