/* SPDX-License-Identifier: Apache-2.0 */
/* cases.h - what is measured: one function per kind of start or property */
#ifndef QUICKTHAW_BENCH_CASES_H
#define QUICKTHAW_BENCH_CASES_H

#include "bench/harness.h"
#include "bench/service.h"

/** struct bench - a run: what to measure with, and where the rows go. */
struct bench {
	struct service service;
	struct results results;
	const char *build_dir;
	const char *bin_dir;
	const char *source_dir;		    /**< has examples/, guest/ and bench/peers/ */
	int boots, colds, residents, warms; /**< how often each kind of start is measured */
};

/** All return 0 or -errno, explained on stderr. */
int case_starts(struct bench *b, const char *name, const char *event);
int case_snapshot(struct bench *b, const char *name);
int case_instance_memory(struct bench *b, const char *name, const char *event);
int case_daemon_memory(struct bench *b);
int case_cpu_bound(struct bench *b);
int case_bare_process(struct bench *b);
/** case_bubblewrap() - 0 also when bwrap is not installed: then a line says so and no row is added.
 */
int case_bubblewrap(struct bench *b);

/** process_private_bytes() - memory that no other process shares; 0 when the process is gone. */
double process_private_bytes(int pid);
/** host_describe() - kind, kernel, processor and load, into results.host; warns of a busy machine.
 */
void host_describe(struct bench *b);
/** host_costs_measure() - the constants of the bound (docs/performance.md), into results.host. */
int host_costs_measure(struct bench *b);
/** bound_add() - `bound` rows: what the constants allow, beside what was measured. */
void bound_add(struct bench *b);

#endif
