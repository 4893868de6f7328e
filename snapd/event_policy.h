/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_policy.h - what becomes of an event after an attempt to run it
 *
 * As Lambda has it (developer guide, "How Lambda handles errors and retries with asynchronous
 * invocation"): an error of the function is tried again after one minute and after two more; a
 * throttle or an error of the service after one second, twice that each time, five minutes at most,
 * until the event is too old. Nothing in here has a state or looks at a clock.
 */
#ifndef QUICKTHAW_SNAPD_EVENT_POLICY_H
#define QUICKTHAW_SNAPD_EVENT_POLICY_H

#include <stdint.h>

enum {
	EVENT_RETRIES_MAX = 2, /**< also the default */
	EVENT_AGE_MIN_S = 60,
	EVENT_AGE_MAX_S = 21600, /**< also the default */
	EVENT_RETRY_DELAY_S = 60,
	EVENT_BACKOFF_MS = 1000,
	EVENT_BACKOFF_MAX_MS = 300000,
};

/** How an attempt ended. */
enum event_result {
	EVENT_SUCCEEDED,
	EVENT_FUNCTION_ERROR, /**< what the function or its runtime reported, a timeout too */
	EVENT_NOT_RUN,	      /**< throttled, or an error of the service */
	EVENT_REFUSED,	      /**< can never run: no such version, or no concurrency at all */
};

/** What is to be done: go on, or the end and its reason. */
enum event_condition {
	EVENT_RETRY,
	EVENT_SUCCESS,
	EVENT_RETRIES_EXHAUSTED,
	EVENT_AGE_EXCEEDED,
	EVENT_CONDITION_COUNT
};
/** Names in records: "Success", "RetriesExhausted", "EventAgeExceeded"; "" for EVENT_RETRY. */
extern const char *const event_condition_names[EVENT_CONDITION_COUNT];

/**
 * struct event_policy - what a function wants.
 * @retries: after errors of the function, 0 to EVENT_RETRIES_MAX
 * @max_age_ns: from the acceptance
 * @retry_delay_ns: before the first retry; doubled before the second
 */
struct event_policy {
	uint32_t retries;
	uint64_t max_age_ns;
	uint64_t retry_delay_ns;
};

/**
 * struct event_history - what has happened to an event, the last attempt included.
 * @errors: attempts that ended with an error of the function
 * @setbacks: attempts that did not come to run
 */
struct event_history {
	uint32_t errors;
	uint32_t setbacks;
	uint64_t age_ns;
};

/** struct event_verdict - @delay_ns: until the next attempt, when it is EVENT_RETRY. */
struct event_verdict {
	enum event_condition condition;
	uint64_t delay_ns;
};

/** event_policy_judge() - after an attempt. A delay ends no later than the event's life: whoever
 * looks again then finds event_policy_is_too_old(). */
struct event_verdict event_policy_judge(const struct event_policy *policy,
					const struct event_history *history,
					enum event_result result);

/** event_policy_is_too_old() - may it be tried no more? */
static inline int event_policy_is_too_old(const struct event_policy *policy, uint64_t age_ns)
{
	return age_ns >= policy->max_age_ns;
}

#endif
