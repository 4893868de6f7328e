/* SPDX-License-Identifier: Apache-2.0 */
/* report.h - results as tables for people */
#ifndef QUICKTHAW_BENCH_REPORT_H
#define QUICKTHAW_BENCH_REPORT_H

#include "bench/harness.h"

/** report_table() - one line a row, on stdout, with bars for what is in milliseconds. */
void report_table(const struct results *r);
/** report_summary() - one line a kind of start of @workload, and what its snapshot and memory are.
 */
void report_summary(const struct results *r, const char *workload);
/** report_add_goals() - the goals as `goals` of the results, for plots. */
void report_add_goals(struct results *r);
/** report_add_service_goals() - those of the service under load. */
void report_add_service_goals(struct results *r);
/** report_add_kernel_goals() - those of kernel guests. */
void report_add_kernel_goals(struct results *r);
/** report_targets() - the product's goals (docs/performance.md) and whether this run met them. */
void report_targets(const struct results *r);
/** report_service_targets() - the same of the service under load. */
void report_service_targets(const struct results *r);
/** report_kernel_targets() - the same of kernel guests. */
void report_kernel_targets(const struct results *r);
/**
 * report_compare() - two result files, row by row.
 * Return: exit status; 1 when a p50 grew by over a fifth, 2 when a file is no result file.
 */
int report_compare(const char *path_a, const char *path_b);

#endif
