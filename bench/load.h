/* SPDX-License-Identifier: Apache-2.0 */
/* load.h - many HTTP requests at once, from one thread */
#ifndef QUICKTHAW_BENCH_LOAD_H
#define QUICKTHAW_BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOAD_CONNECTIONS_MAX = 1024, LOAD_REQUEST_MAX = 512 };

/**
 * struct load_plan - invocations of functions "NAME0" to "NAMEn-1", or of "NAME" when @functions is
 * 0.
 * @connections: kept alive; at most so many requests are out at a time
 * @count: requests, unless @seconds says for how long they go on
 * @rate: requests a second, whether or not there are answers (an open loop); 0: the next one when
 * one is answered (a closed loop)
 * @start: X-Quickthaw-Start, or NULL
 */
struct load_plan {
	const char *socket_path;
	const char *name;
	unsigned functions, connections, count;
	double seconds, rate;
	const char *start;
};

/**
 * struct load_result - what came of it.
 * @ms: of those answered with 200, from the request sent (in an open loop, due) to the answer read
 * @throttled: 429; @failed: another status, or an answer that is not its own
 * @lost: no answer; @duplicated: two answers with one request id
 * @unsent: due, but every connection was in use
 */
struct load_result {
	double *ms;
	unsigned ok, throttled, failed, lost, duplicated, unsent;
	double seconds;
};

/** load_run() - Return: 0 with @ret filled, or -errno explained on stderr. */
int load_run(const struct load_plan *plan, struct load_result *ret);
void load_result_free(struct load_result *r);
/** load_percentile() - of ms, by nearest rank; 0 without any. Sorts them. */
double load_percentile(struct load_result *r, double p);

#endif
