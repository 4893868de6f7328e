/* SPDX-License-Identifier: Apache-2.0 */
/* event_policy.c - what becomes of an event after an attempt to run it */
#include "snapd/event_policy.h"

#include <assert.h>

#include "common/util.h"

const char *const event_condition_names[] = {
	[EVENT_RETRY] = "",
	[EVENT_SUCCESS] = "Success",
	[EVENT_RETRIES_EXHAUSTED] = "RetriesExhausted",
	[EVENT_AGE_EXCEEDED] = "EventAgeExceeded",
};
static_assert(ARRAY_SIZE(event_condition_names) == EVENT_CONDITION_COUNT, "a name for each");

/** @first_ns, doubled @times, at most @max_ns. */
static uint64_t doubled(uint64_t first_ns, uint32_t times, uint64_t max_ns)
{
	uint64_t delay_ns = MIN(first_ns, max_ns);

	for (uint32_t i = 0; i < times && delay_ns < max_ns; i++)
		delay_ns = delay_ns > max_ns / 2 ? max_ns : 2 * delay_ns;
	return delay_ns;
}

struct event_verdict event_policy_judge(const struct event_policy *policy,
					const struct event_history *history,
					enum event_result result)
{
	uint64_t left_ns, delay_ns;

	if (result == EVENT_SUCCEEDED)
		return (struct event_verdict){.condition = EVENT_SUCCESS};
	if (result == EVENT_REFUSED ||
	    (result == EVENT_FUNCTION_ERROR && history->errors > policy->retries))
		return (struct event_verdict){.condition = EVENT_RETRIES_EXHAUSTED};
	if (event_policy_is_too_old(policy, history->age_ns))
		return (struct event_verdict){.condition = EVENT_AGE_EXCEEDED};
	left_ns = policy->max_age_ns - history->age_ns;
	if (result == EVENT_FUNCTION_ERROR)
		delay_ns = doubled(policy->retry_delay_ns, history->errors - 1, UINT64_MAX);
	else
		delay_ns = doubled(EVENT_BACKOFF_MS * 1000000ull, history->setbacks - 1,
				   EVENT_BACKOFF_MAX_MS * 1000000ull);
	delay_ns = MIN(delay_ns, left_ns);
	return (struct event_verdict){.condition = EVENT_RETRY, .delay_ns = delay_ns};
}
