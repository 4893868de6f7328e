/* SPDX-License-Identifier: Apache-2.0 */
/* trace.h - one invocation's faults and exits, by BPF */
#ifndef QUICKTHAW_BENCH_TRACE_H
#define QUICKTHAW_BENCH_TRACE_H

struct bench;

/**
 * trace_invoke() - invoke @function once and print the time line of its instance.
 * @b: its service is attached; the vmm in its bin_dir names the pages
 * @start: as X-Quickthaw-Start
 * Return: exit status; 2 with one clear line where BPF is not to be had.
 */
int trace_invoke(struct bench *b, const char *function, const char *event, const char *start);

#endif
