/* SPDX-License-Identifier: Apache-2.0 */
/* event_invoke_config.h - what is to become of a function's events: retries, age, destinations */
#ifndef QUICKTHAW_SNAPD_EVENT_INVOKE_CONFIG_H
#define QUICKTHAW_SNAPD_EVENT_INVOKE_CONFIG_H

#include <jansson.h>
#include <stdint.h>

#include "snapd/event_policy.h"
#include "snapd/field.h"
#include "snapd/qualified.h"

enum { EVENT_DESTINATION_MAX = 350 };

/**
 * struct event_invoke_config - of $LATEST, a version or an alias.
 * @retries, @max_age_s: Lambda's presets where a request does not say
 * @on_success, @on_failure: ARN of a function, "file:///absolute/path" or "": none
 */
struct event_invoke_config {
	struct qualified entry;
	uint32_t retries;
	uint32_t max_age_s;
	char on_success[EVENT_DESTINATION_MAX + 1];
	char on_failure[EVENT_DESTINATION_MAX + 1];
	uint64_t modified_ns;
};

/** event_invoke_config_init() - what holds where nothing is set. */
void event_invoke_config_init(struct event_invoke_config *c);
/** event_invoke_config_parse() - what is absent stays. Return: 0 or -EINVAL. */
int event_invoke_config_parse(const json_t *root, struct event_invoke_config *c,
			      struct field_error *e);
/** event_invoke_config_json() - what it reads; NULL: no memory. */
json_t *event_invoke_config_json(const struct event_invoke_config *c);

#endif
