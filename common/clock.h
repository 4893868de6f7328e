/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - host time in nanoseconds */
#ifndef QUICKTHAW_COMMON_CLOCK_H
#define QUICKTHAW_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NSEC_PER_SEC  1000000000ull
#define NSEC_PER_MSEC 1000000ull

static inline uint64_t clock_get_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/** clock_mono_ns() - CLOCK_MONOTONIC, the clock of every duration and deadline inside one host. */
static inline uint64_t clock_mono_ns(void)
{
	return clock_get_ns(CLOCK_MONOTONIC);
}

/** clock_real_ns() - CLOCK_REALTIME: wall time, for deadlines that leave the host and for logs. */
static inline uint64_t clock_real_ns(void)
{
	return clock_get_ns(CLOCK_REALTIME);
}

#endif
