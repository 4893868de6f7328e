/* SPDX-License-Identifier: Apache-2.0 */
/* api_event_invoke.c - what is to become of a function's events, over HTTP */
#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/util.h"
#include "snapd/api_change.h"
#include "snapd/api_page.h"
#include "snapd/event_queue.h"

static json_t *shown_json(const struct function *f, const struct event_invoke_config *c)
{
	char arn[FUNCTION_NAME_ARN_MAX + 1];
	json_t *root = event_invoke_config_json(c);

	if (!root)
		return NULL;
	json_object_set_new(root, "FunctionArn",
			    json_string(function_arn(f->name, c->entry.qualifier, arn)));
	/* In this part of the API times are numbers. */
	json_object_set_new(root, "LastModified",
			    json_real((double)c->modified_ns / (double)NSEC_PER_SEC));
	return root;
}

static int refuse_unknown(const struct api_call *call, const char *qualifier, struct field_error *e)
{
	char arn[FUNCTION_NAME_ARN_MAX + 1];

	return field_refuse_as(e, 404, "ResourceNotFoundException",
			       "The function %s doesn't have an EventInvokeConfig",
			       function_arn(call->function->name, qualifier, arn));
}

static struct event_invoke_config *new_config(const char *qualifier)
{
	struct event_invoke_config *c = calloc(1, sizeof(*c));

	if (c) {
		event_invoke_config_init(c);
		snprintf(c->entry.qualifier, sizeof(c->entry.qualifier), "%s", qualifier);
	}
	return c;
}

/** May this snapd deliver there? */
static int check_destination(const char *destination, struct field_error *e)
{
	const char *why;

	if (event_queue_check_destination(destination, &why))
		return field_refuse(e, "The destination %.100s is invalid: %s", destination, why);
	return 0;
}

/** The body's fields, over what @c has; then it is the qualifier's. */
static int set_fields(struct api_edit *edit, struct event_invoke_config *c)
{
	int err = event_invoke_config_parse(edit->body, c, &edit->error);

	if (!err)
		err = check_destination(c->on_success, &edit->error);
	if (!err)
		err = check_destination(c->on_failure, &edit->error);
	c->modified_ns = clock_real_ns();
	if (!err)
		edit->reply = shown_json(edit->call->function, c);
	if (!err && !edit->reply)
		err = field_no_memory(&edit->error);
	return err;
}

static int put(struct api_edit *edit)
{
	const char *qualifier = api_edit_target(edit);
	struct event_invoke_config *c = qualifier ? new_config(qualifier) : NULL;
	int err;

	if (!qualifier)
		return -EINVAL;
	if (!c)
		return field_no_memory(&edit->error);
	err = set_fields(edit, c);
	if (!err) {
		free(qualified_remove(&edit->control->event_invokes, qualifier));
		err = api_edit_insert(edit, &edit->control->event_invokes, &c->entry);
	}
	if (err)
		free(c);
	return err;
}

void api_event_invoke_put(const struct api_call *call)
{
	api_change(call, put, 200);
}

static int update(struct api_edit *edit)
{
	const char *qualifier = api_edit_target(edit);
	struct event_invoke_config *c;

	if (!qualifier)
		return -EINVAL;
	c = control_event_invoke(edit->control, qualifier);
	return c ? set_fields(edit, c) : refuse_unknown(edit->call, qualifier, &edit->error);
}

void api_event_invoke_update(const struct api_call *call)
{
	api_change(call, update, 200);
}

static int delete (struct api_edit *edit)
{
	const char *qualifier = api_edit_target(edit);
	struct qualified *entry;

	if (!qualifier)
		return -EINVAL;
	entry = qualified_remove(&edit->control->event_invokes, qualifier);
	free(entry);
	return entry ? 0 : refuse_unknown(edit->call, qualifier, &edit->error);
}

void api_event_invoke_delete(const struct api_call *call)
{
	api_change(call, delete, 204);
}

void api_event_invoke_get(const struct api_call *call)
{
	const char *qualifier = *call->qualifier ? call->qualifier : QUALIFIER_LATEST;
	const struct event_invoke_config *c =
		control_event_invoke(&call->function->control, qualifier);
	struct field_error e;

	if (c) {
		http_reply_json(call->http, 200, shown_json(call->function, c));
	} else {
		refuse_unknown(call, qualifier, &e);
		api_refuse(call->http, &e);
	}
}

static json_t *item_json(const void *item, const void *arg)
{
	return shown_json(arg, item);
}

void api_event_invoke_list(const struct api_call *call)
{
	struct api_page page;

	if (api_page_begin(&page, call->http))
		return;
	for (struct qualified *at = call->function->control.event_invokes; at; at = at->next)
		api_page_add(&page, at->qualifier,
			     container_of(at, struct event_invoke_config, entry));
	api_page_reply(&page, call->http, "FunctionEventInvokeConfigs", item_json, call->function);
}
