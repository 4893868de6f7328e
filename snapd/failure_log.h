/* SPDX-License-Identifier: Apache-2.0 */
/* failure_log.h - the newest invocations that failed, for people who look at this snapd */
#ifndef QUICKTHAW_SNAPD_FAILURE_LOG_H
#define QUICKTHAW_SNAPD_FAILURE_LOG_H

#include <jansson.h>

#include "snapd/scheduler.h"

enum { FAILURE_LOG_ENTRIES = 32 };

/** failure_log_add() - the oldest of FAILURE_LOG_ENTRIES goes. Everything is copied. */
void failure_log_add(const struct version *v, const char *request_id,
		     const struct invocation_outcome *out);

/** failure_log_json() - a list, newest first; a new reference, or NULL without memory. */
json_t *failure_log_json(void);

#endif
