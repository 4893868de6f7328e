/* SPDX-License-Identifier: Apache-2.0 */
/* outcome.h - Lambda's words for how an invocation failed */
#ifndef QUICKTHAW_SNAPD_OUTCOME_H
#define QUICKTHAW_SNAPD_OUTCOME_H

#include "snapd/scheduler.h"
#include "snapd/session.h"

enum { OUTCOME_TEXT_MAX = 1024 };

/**
 * outcome_of_failure() - what the caller is told when the instance failed.
 * @timeout_s: of the function; @init: it was still initialising
 * @buf: the payload, where it is not the failure's own text
 */
void outcome_of_failure(const struct session_failure *failure, const char *request_id,
			uint32_t timeout_s, bool init, char buf[OUTCOME_TEXT_MAX],
			struct invocation_outcome *ret);

/** outcome_of_error() - an error of the service itself: @type is an exception of the Lambda API. */
void outcome_of_error(unsigned status, const char *type, const char *message,
		      char buf[OUTCOME_TEXT_MAX], struct invocation_outcome *ret);

/** outcome_of_refusal() - TooManyRequestsException, with Lambda's Reason. */
void outcome_of_refusal(const struct scheduler_refusal *refusal, char buf[OUTCOME_TEXT_MAX],
			struct invocation_outcome *ret);

#endif
