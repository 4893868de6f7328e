/* SPDX-License-Identifier: Apache-2.0 */
/* trace.h - one invocation's faults and exits, by BPF */
#ifndef QUICKTHAW_BENCH_TRACE_H
#define QUICKTHAW_BENCH_TRACE_H

struct service;

/**
 * trace_invoke() - invoke once and print the time line of its instance.
 * @start: as X-Quickthaw-Start
 * Return: exit status; 2 with one clear line where BPF is not to be had.
 */
int trace_invoke(struct service *s, const char *function, const char *event, const char *start);

#endif
