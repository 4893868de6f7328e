/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h - figures for operators: counted where things happen, written out when asked for
 *
 * Counters and histograms live in fixed tables, and only the loop's thread touches them: counting
 * is an addition. What other modules know by themselves (how many instances there are) is not kept
 * here; api_metrics.c asks them.
 */
#ifndef QUICKTHAW_SNAPD_METRICS_H
#define QUICKTHAW_SNAPD_METRICS_H

#include <stdint.h>
#include <stdio.h>

#include "snapd/scheduler.h"

/** Each is one line of the table in metrics.c, which has its name, labels and meaning. */
enum metric_counter {
	METRIC_FAULTS_RESIDENT,
	METRIC_FAULTS_ZERO,
	METRIC_FAULTS_READ,
	METRIC_SNAPSHOT_READ_BYTES,
	METRIC_CHUNKS_DECODED,
	METRIC_TEMPLATE_HITS,
	METRIC_TEMPLATE_MISSES,
	METRIC_ERRORS_HANDLER, /**< from here on in the order of enum invocation_failure */
	METRIC_ERRORS_EXIT,
	METRIC_ERRORS_MEMORY,
	METRIC_ERRORS_INIT,
	METRIC_ERRORS_RESTORE,
	METRIC_ERRORS_TIMEOUT,
	METRIC_ERRORS_RESPONSE,
	METRIC_ERRORS_REQUEST,
	METRIC_ERRORS_SERVICE,
	METRIC_THROTTLES_RESERVED,
	METRIC_THROTTLES_ACCOUNT,
	METRIC_THROTTLES_QUEUE,
	METRIC_THROTTLES_OVERLOAD,
	METRIC_COUNTER_COUNT
};

enum metric_histogram {
	METRIC_INVOKE_WARM, /**< from here on in the order of enum start_kind */
	METRIC_INVOKE_RESIDENT,
	METRIC_INVOKE_COLD,
	METRIC_INVOKE_BOOT,
	METRIC_QUEUE,
	METRIC_RESTORE_RESIDENT,
	METRIC_RESTORE_COLD,
	METRIC_INIT,
	METRIC_PAGE_IN,
	METRIC_SNAPSHOT_READ,
	METRIC_HISTOGRAM_COUNT
};

enum { METRIC_BUCKETS_MAX = 20 };

/** struct metric_times - @buckets: by upper bound, not cumulative; the one behind the last bound
 * has what is above it. */
struct metric_times {
	uint64_t buckets[METRIC_BUCKETS_MAX + 1];
	uint64_t sum_ns;
};

extern uint64_t metric_counters[METRIC_COUNTER_COUNT];

static inline void metrics_add(enum metric_counter c, uint64_t n)
{
	metric_counters[c] += n;
}

/** metrics_observe() - it took so long. */
void metrics_observe(enum metric_histogram h, uint64_t ns);
/** metrics_times() - what was observed, for tests. */
const struct metric_times *metrics_times(enum metric_histogram h);

/** metrics_invocation() - an invocation is over: all that its outcome says. */
void metrics_invocation(const struct invocation_outcome *out);
/** metrics_http() - a reply with this status is on its way. */
void metrics_http(unsigned status);

/** metrics_write() - all of the above in Prometheus' text format. */
void metrics_write(FILE *to);
/** metrics_write_head() - HELP and TYPE of a figure which the caller writes himself. */
void metrics_write_head(FILE *to, const char *name, const char *type, const char *help);

#endif
