/* SPDX-License-Identifier: Apache-2.0 */
/* event_attempt.c - how an attempt to run an event ended, and who is told of its end */
#include "snapd/event_attempt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"

static enum event_result result_of(const struct invocation_outcome *out)
{
	if (out->status == 200)
		return out->function_error ? EVENT_FUNCTION_ERROR : EVENT_SUCCEEDED;
	if (out->function_error) /* its response was too large */
		return EVENT_FUNCTION_ERROR;
	if (out->status == 429 || out->status >= 500)
		return EVENT_NOT_RUN;
	return EVENT_REFUSED;
}

void event_attempt_of(const struct version *v, const struct invocation_outcome *out,
		      struct event_attempt *ret)
{
	*ret = (struct event_attempt){
		.result = result_of(out),
		.status = out->status,
		.function_error = out->function_error,
		.response = out->payload,
		.response_bytes = out->payload_bytes,
	};
	if (out->status == 200 || out->function_error)
		version_name(v, ret->executed_version);
}

void event_settings_read(const struct event *e, uint64_t retry_delay_ns, struct event_settings *ret)
{
	static struct event_invoke_config preset;
	const struct function *f = e->owner->function;
	const struct event_invoke_config *c =
		control_event_invoke(&f->control, *e->qualifier ? e->qualifier : QUALIFIER_LATEST);

	if (!c) {
		event_invoke_config_init(&preset);
		c = &preset;
	}
	*ret = (struct event_settings){
		.policy = {.retries = c->retries,
			   .max_age_ns = c->max_age_s * NSEC_PER_SEC,
			   .retry_delay_ns = retry_delay_ns},
		.on_success = c->on_success,
		.on_failure = c->on_failure,
		.dead_letter = f->latest.settings.dead_letter,
	};
}

struct version *event_route(const struct event *e)
{
	struct function *f = e->owner->function;

	return *e->qualifier ? function_route(f, e->qualifier) : function_newest(f);
}

/** Who called it that: with the qualifier, or with the version that was run for want of one. */
static void print_arn(const struct event *e, const struct event_attempt *a, char *buf)
{
	const char *qualifier = *e->qualifier ? e->qualifier : a->executed_version;

	function_arn(e->owner->function->name, *qualifier ? qualifier : QUALIFIER_LATEST, buf);
}

static int fill_report(const struct event *e, enum event_condition condition,
		       const struct event_attempt *a, struct event_delivery *d)
{
	print_arn(e, a, d->function_arn);
	snprintf(d->executed_version, sizeof(d->executed_version), "%s", a->executed_version);
	d->report = (struct event_report){
		.time_ms = clock_real_ns() / 1000000,
		.request_id = e->request_id,
		.function_arn = d->function_arn,
		.condition = condition,
		.invoke_count = e->errors + (condition == EVENT_SUCCESS),
		.status = a->status,
		.executed_version = d->executed_version,
		.function_error = a->function_error,
		.payload = e->payload,
		.payload_bytes = e->payload_bytes,
		.response_bytes = a->response_bytes,
	};
	if (!a->response)
		return 0;
	d->response = malloc(a->response_bytes + 1);
	if (!d->response)
		return -ENOMEM;
	memcpy(d->response, a->response, a->response_bytes);
	d->report.response = d->response;
	return 0;
}

/** A record for a function is an event of its own. */
static int fill_child(struct event_delivery *d)
{
	if (!functions_find(d->target.function.name))
		return -ENOENT;
	uuid_make(d->child_request_id);
	d->child = (struct event_row){
		.request_id = d->child_request_id,
		.function = d->target.function.name,
		.qualifier = d->target.function.qualifier,
		.trace_id = "",
		.accepted_ms = d->report.time_ms,
		.due_ms = d->report.time_ms,
	};
	return 0;
}

static int make_delivery(const struct event *e, const char *destination, const char *dir,
			 enum event_condition condition, const struct event_attempt *a,
			 struct event_delivery **ret_delivery, const char **why)
{
	struct event_delivery *d = calloc(1, sizeof(*d));
	int ret;

	*why = "out of memory";
	if (!d)
		return -ENOMEM;
	ret = event_target_parse(destination, dir, &d->target, why);
	if (!ret)
		ret = fill_report(e, condition, a, d);
	if (!ret && d->target.kind == EVENT_TARGET_FUNCTION) {
		ret = fill_child(d);
		*why = "there is no such function";
	}
	if (ret)
		event_deliveries_free(d);
	else
		*ret_delivery = d;
	return ret;
}

struct event_delivery *event_deliveries_make(const struct event *e,
					     const struct event_settings *settings,
					     enum event_condition condition,
					     const struct event_attempt *attempt,
					     const char *destination_dir, uint64_t *failures)
{
	bool ok = condition == EVENT_SUCCESS;
	const char *destinations[] = {
		ok ? settings->on_success : settings->on_failure,
		ok ? "" : settings->dead_letter,
	};
	struct event_delivery *list = NULL, *d;
	const char *why;

	for (size_t i = 0; i < ARRAY_SIZE(destinations); i++) {
		if (!*destinations[i])
			continue;
		if (make_delivery(e, destinations[i], destination_dir, condition, attempt, &d,
				  &why)) {
			*failures += 1;
			log_error("event %s of %s: its record does not reach %s: %s", e->request_id,
				  e->owner->function->name, destinations[i], why);
			continue;
		}
		d->report.payload_only = i == 1;
		d->next = list;
		list = d;
	}
	return list;
}
