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

/** enum service_part - what can be measured alone. Overloads need the throughput of their part. */
enum service_part {
	SERVICE_FRESH = 1 << 0,
	SERVICE_WARM = 1 << 1,
	SERVICE_BURST = 1 << 2,
	SERVICE_CHURN = 1 << 3,
	SERVICE_ALL = SERVICE_FRESH | SERVICE_WARM | SERVICE_BURST | SERVICE_CHURN,
};

/** service_part_named() - a part by its name. Return: 0 when there is none. */
unsigned service_part_named(const char *name);

/** service_load_run() - the cases of @parts (enum service_part), on a snapd of their own; rows of
 * stage "service". Return: 0 or -errno, explained on stderr. */
int service_load_run(struct bench *b, const struct service_sizes *sizes, unsigned parts,
		     const char *runtime_dir);

#endif
