/* SPDX-License-Identifier: Apache-2.0 */
/* api_url.c - create, show, change and delete the URLs of functions over HTTP */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/util.h"
#include "snapd/api_change.h"
#include "snapd/api_page.h"

static json_t *shown_json(const struct function *f, const struct url_config *c)
{
	char arn[FUNCTION_NAME_ARN_MAX + 1], when[TIME_TEXT_CHARS + 1], url[URL_TEXT_MAX + 1];
	uint32_t number;
	bool is_latest = qualifier_number(c->entry.qualifier, &number);
	json_t *root = url_config_json(c);

	if (!root)
		return NULL;
	function_arn(f->name, is_latest ? "" : c->entry.qualifier, arn);
	json_object_set_new(root, "FunctionUrl", json_string(url_config_text(c, url)));
	json_object_set_new(root, "FunctionArn", json_string(arn));
	json_object_set_new(root, "CreationTime", json_string(time_text(c->created_ns, when)));
	json_object_set_new(root, "LastModifiedTime", json_string(time_text(c->modified_ns, when)));
	return root;
}

static int refuse_unknown(struct field_error *e)
{
	return field_refuse_as(e, 404, "ResourceNotFoundException",
			       "The resource you requested does not exist.");
}

/** A URL is the function's own or an alias's, never a version's. NULL with the error filled in. */
static const char *target(struct api_edit *edit)
{
	const char *qualifier = api_edit_target(edit);
	uint32_t number;

	if (!qualifier || !qualifier_number(qualifier, &number) || !*edit->call->qualifier)
		return qualifier;
	field_refuse_value(&edit->error, "Qualifier", qualifier,
			   "Member must satisfy regular expression pattern: "
			   "((?!^\\d+$)^[0-9a-zA-Z-_]+$)");
	return NULL;
}

/** The body's fields, over what @c has. */
static int set_fields(struct api_edit *edit, struct url_config *c)
{
	int err = url_config_parse(edit->body, c, &edit->error);

	if (!err)
		edit->reply = shown_json(edit->call->function, c);
	if (!err && !edit->reply)
		err = field_no_memory(&edit->error);
	return err;
}

static int create(struct api_edit *edit)
{
	const char *qualifier = target(edit);
	struct url_config *c;
	int err;

	if (!qualifier)
		return -EINVAL;
	if (control_url(edit->control, qualifier))
		return field_refuse_as(&edit->error, 409, "ResourceConflictException",
				       "Failed to create function url config for %s. Error "
				       "message: FunctionUrlConfig exists for this Lambda function",
				       edit->call->function->name);
	if (!field_is_set(edit->body, "AuthType"))
		return field_refuse_value(&edit->error, "AuthType", "null",
					  "Member must not be null");
	c = calloc(1, sizeof(*c));
	if (!c)
		return field_no_memory(&edit->error);
	url_config_init(c);
	snprintf(c->entry.qualifier, sizeof(c->entry.qualifier), "%s", qualifier);
	err = set_fields(edit, c);
	if (!err)
		err = api_edit_insert(edit, &edit->control->urls, &c->entry);
	if (err)
		url_config_free(c);
	return err;
}

void api_url_create(const struct api_call *call)
{
	api_change(call, create, 201);
}

static int update(struct api_edit *edit)
{
	const char *qualifier = target(edit);
	struct url_config *c = qualifier ? control_url(edit->control, qualifier) : NULL;

	if (!qualifier)
		return -EINVAL;
	if (!c)
		return refuse_unknown(&edit->error);
	c->modified_ns = clock_real_ns();
	return set_fields(edit, c);
}

void api_url_update(const struct api_call *call)
{
	api_change(call, update, 200);
}

static int delete (struct api_edit *edit)
{
	const char *qualifier = target(edit);
	struct url_config *c;

	if (!qualifier)
		return -EINVAL;
	c = container_of(qualified_remove(&edit->control->urls, qualifier), struct url_config,
			 entry);
	if (!c)
		return refuse_unknown(&edit->error);
	url_config_free(c);
	return 0;
}

void api_url_delete(const struct api_call *call)
{
	api_change(call, delete, 204);
}

void api_url_get(const struct api_call *call)
{
	const struct url_config *c = control_url(
		&call->function->control, *call->qualifier ? call->qualifier : QUALIFIER_LATEST);
	struct field_error e;

	if (c) {
		http_reply_json(call->http, 200, shown_json(call->function, c));
	} else {
		refuse_unknown(&e);
		api_refuse(call->http, &e);
	}
}

static json_t *item_json(const void *item, const void *arg)
{
	return shown_json(arg, item);
}

void api_url_list(const struct api_call *call)
{
	struct api_page page;

	if (api_page_begin(&page, call->http))
		return;
	for (struct qualified *at = call->function->control.urls; at; at = at->next)
		api_page_add(&page, at->qualifier, container_of(at, struct url_config, entry));
	api_page_reply(&page, call->http, "FunctionUrlConfigs", item_json, call->function);
}
