/* SPDX-License-Identifier: Apache-2.0 */
/* event_invoke_config.c - what is to become of a function's events: retries, age, destinations */
#include "snapd/event_invoke_config.h"

#include <errno.h>
#include <string.h>

void event_invoke_config_init(struct event_invoke_config *c)
{
	c->retries = EVENT_RETRIES_MAX;
	c->max_age_s = EVENT_AGE_MAX_S;
	c->on_success[0] = c->on_failure[0] = '\0';
}

static int parse_destination(const json_t *destinations, const char *key,
			     char ret[EVENT_DESTINATION_MAX + 1], struct field_error *e)
{
	static const char file[] = "file:///";
	struct function_ref ref;
	json_t *one;
	int err = field_object(destinations, key, &one, e);

	if (!err)
		err = field_string(one, "Destination", 0, ret, EVENT_DESTINATION_MAX + 1, e);
	if (err || !*ret || !strncmp(ret, file, strlen(file)) ||
	    (!strncmp(ret, "arn:", 4) && !function_ref_parse(ret, strlen(ret), &ref)))
		return err;
	return field_refuse(e,
			    "DestinationConfig.%s.Destination: give the ARN of a function or "
			    "file:///absolute/path, not %.100s",
			    key, ret);
}

int event_invoke_config_parse(const json_t *root, struct event_invoke_config *c,
			      struct field_error *e)
{
	json_t *destinations = NULL;
	int err = field_u32(root, "MaximumRetryAttempts", 0, EVENT_RETRIES_MAX, &c->retries, e);

	if (!err)
		err = field_u32(root, "MaximumEventAgeInSeconds", EVENT_AGE_MIN_S, EVENT_AGE_MAX_S,
				&c->max_age_s, e);
	if (!err)
		err = field_object(root, "DestinationConfig", &destinations, e);
	if (!err)
		err = parse_destination(destinations, "OnSuccess", c->on_success, e);
	if (!err)
		err = parse_destination(destinations, "OnFailure", c->on_failure, e);
	return err;
}

static json_t *destination_json(const char *destination)
{
	return *destination ? json_pack("{s:s}", "Destination", destination) : json_object();
}

json_t *event_invoke_config_json(const struct event_invoke_config *c)
{
	return json_pack("{s:i, s:i, s:{s:o, s:o}}", "MaximumRetryAttempts", (int)c->retries,
			 "MaximumEventAgeInSeconds", (int)c->max_age_s, "DestinationConfig",
			 "OnSuccess", destination_json(c->on_success), "OnFailure",
			 destination_json(c->on_failure));
}
