/* SPDX-License-Identifier: Apache-2.0 */
/* admission.c - may an invocation come in, or is it told at once to come back later? */
#include "snapd/admission.h"

#include <assert.h>
#include <stdbool.h>

#include "common/clock.h"
#include "common/util.h"

enum { BURST_STARTS = 8, BURST_MIN_MS = 100, CALM_BURSTS = 10 };

const char *const admission_reasons[] = {
	[ADMISSION_GRANTED] = "",
	[ADMISSION_RESERVED] = "ReservedFunctionConcurrentInvocationLimitExceeded",
	[ADMISSION_ACCOUNT] = "ConcurrentInvocationLimitExceeded",
	[ADMISSION_QUEUE] = "CallerRateLimitExceeded",
	[ADMISSION_OVERLOAD] = "CallerRateLimitExceeded",
};
static_assert(ARRAY_SIZE(admission_reasons) == ADMISSION_COUNT, "a reason for each");

/** Until a newcomer has its answer. */
static uint64_t expected_ns(const struct admission_view *v)
{
	return (v->function + 1ull) * v->answer_gap_ns;
}

static bool is_too_late(const struct admission_view *v)
{
	return v->function >= v->function_least && expected_ns(v) > 2 * v->alone_ns;
}

/** May the queue grow, because it will drain? */
static bool is_burst(const struct admission_view *v)
{
	return v->standing_ns <= v->burst_ns && v->calm_ns / CALM_BURSTS >= v->burst_ns;
}

enum admission admission_decide(const struct admission_view *v)
{
	unsigned unreserved_limit =
		v->account_limit > v->reserved_total ? v->account_limit - v->reserved_total : 0;

	if (v->reserved >= 0 && v->function >= (unsigned)v->reserved)
		return ADMISSION_RESERVED;
	if (v->reserved < 0 && v->unreserved >= unreserved_limit)
		return ADMISSION_ACCOUNT;
	/* One function has at most half of the queue: the other half is for all others. */
	if (v->waiting >= v->waiting_max || v->function_waiting >= (v->waiting_max + 1) / 2)
		return ADMISSION_QUEUE;
	if (!is_burst(v) && is_too_late(v))
		return ADMISSION_OVERLOAD;
	return ADMISSION_GRANTED;
}

unsigned admission_retry_after_s(enum admission a, const struct admission_view *v)
{
	uint64_t wait_ns =
		a == ADMISSION_QUEUE || a == ADMISSION_OVERLOAD ? expected_ns(v) : NSEC_PER_SEC;

	return (unsigned)MIN(MAX((wait_ns + NSEC_PER_SEC - 1) / NSEC_PER_SEC, 1ull), 60ull);
}

uint64_t admission_burst_ns(uint64_t start_ns, uint64_t queue_timeout_ns)
{
	uint64_t burst_ns = MAX(start_ns * BURST_STARTS, BURST_MIN_MS * NSEC_PER_MSEC);

	return MIN(burst_ns, queue_timeout_ns);
}
