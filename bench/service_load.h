/* SPDX-License-Identifier: Apache-2.0 */
/* service_load.h - the service under load: throughput, bursts, churn, overload */
#ifndef QUICKTHAW_BENCH_SERVICE_LOAD_H
#define QUICKTHAW_BENCH_SERVICE_LOAD_H

#include "bench/cases.h"

/** struct service_sizes - how much of each there is. */
struct service_sizes {
	unsigned fresh, warm, burst, bursts, functions, churn;
	double overload_s;
};

/** service_sizes_scaled() - @percent of the sizes that the goals are for; each at least its least.
 */
struct service_sizes service_sizes_scaled(unsigned percent);

/** service_load_run() - all cases, on a snapd of their own; rows of stage "service". Return: 0 or
 * -errno, explained on stderr. */
int service_load_run(struct bench *b, const struct service_sizes *sizes, const char *runtime_dir);

#endif
