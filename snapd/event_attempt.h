/* SPDX-License-Identifier: Apache-2.0 */
/* event_attempt.h - how an attempt to run an event ended, and who is told of its end */
#ifndef QUICKTHAW_SNAPD_EVENT_ATTEMPT_H
#define QUICKTHAW_SNAPD_EVENT_ATTEMPT_H

#include "snapd/event.h"
#include "snapd/event_policy.h"
#include "snapd/scheduler.h"

/**
 * struct event_attempt - what is known of one attempt.
 * @expired: there was none: the event had grown too old
 * @status: as Invoke would have told it, 0: nothing was tried
 * @executed_version: "" where nothing ran
 * @response: valid as long as the outcome it comes from
 */
struct event_attempt {
	enum event_result result;
	bool expired;
	unsigned status;
	bool function_error;
	char executed_version[16];
	const void *response;
	size_t response_bytes;
};

/** event_attempt_of() - from what the scheduler says. @v: what was run. */
void event_attempt_of(const struct version *v, const struct invocation_outcome *out,
		      struct event_attempt *ret);

/** struct event_settings - what its function wants; texts valid until the loop's next turn. */
struct event_settings {
	struct event_policy policy;
	const char *on_success, *on_failure, *dead_letter;
};
void event_settings_read(const struct event *e, uint64_t retry_delay_ns,
			 struct event_settings *ret);

/** event_route() - the version that an attempt is to run; NULL: there is none. */
struct version *event_route(const struct event *e);

/**
 * event_deliveries_make() - the records that an event leaves at its end.
 * @destination_dir: as in struct event_queue_params
 * @failures: counts those that cannot be made; logged
 * Return: a list for EVENT_OP_END; NULL: nobody wants one.
 */
struct event_delivery *event_deliveries_make(const struct event *e,
					     const struct event_settings *settings,
					     enum event_condition condition,
					     const struct event_attempt *attempt,
					     const char *destination_dir, uint64_t *failures);

#endif
