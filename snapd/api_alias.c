/* SPDX-License-Identifier: Apache-2.0 */
/* api_alias.c - create, show, change and delete aliases over HTTP */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "snapd/api_change.h"
#include "snapd/api_page.h"

static json_t *shown_json(const struct function *f, const struct alias *a)
{
	char arn[FUNCTION_NAME_ARN_MAX + 1];
	json_t *root = alias_json(a);

	if (root)
		json_object_set_new(root, "AliasArn",
				    json_string(function_arn(f->name, a->entry.qualifier, arn)));
	return root;
}

static int check_version(struct function *f, uint32_t number, struct field_error *e)
{
	char arn[FUNCTION_NAME_ARN_MAX + 1], text[16];

	if (function_version(f, number))
		return 0;
	version_number_text(number, text);
	return field_refuse_as(e, 404, "ResourceNotFoundException", "Function not found: %s",
			       function_arn(f->name, text, arn));
}

/** The body's fields, over what the alias has. */
static int set_fields(struct api_edit *edit, struct alias *a)
{
	struct function *f = edit->call->function;
	int err = alias_parse(edit->body, a, &edit->error);

	if (!err)
		err = check_version(f, a->version, &edit->error);
	if (!err && a->other_version)
		err = check_version(f, a->other_version, &edit->error);
	if (err)
		return err;
	uuid_make(a->revision);
	edit->reply = shown_json(f, a);
	return edit->reply ? 0 : field_no_memory(&edit->error);
}

/* ---- create ---------------------------------------------------------------------------------- */

static int check_new_name(struct api_edit *edit, char *name, size_t size)
{
	char arn[FUNCTION_NAME_ARN_MAX + 1];
	int err = field_string(edit->body, "Name", 1, name, size, &edit->error);

	if (err)
		return err;
	if (!alias_name_ok(name))
		return field_refuse_value(&edit->error, "Name", name,
					  "Member must satisfy regular expression pattern: "
					  "(?!^[0-9]+$)([a-zA-Z0-9-_]+)");
	if (control_alias(edit->control, name))
		return field_refuse_as(&edit->error, 409, "ResourceConflictException",
				       "Alias already exists: %s",
				       function_arn(edit->call->function->name, name, arn));
	if (!field_is_set(edit->body, "FunctionVersion"))
		return field_refuse_value(&edit->error, "FunctionVersion", "null",
					  "Member must not be null");
	return 0;
}

static int create(struct api_edit *edit)
{
	struct alias *a = calloc(1, sizeof(*a));
	int err;

	if (!a)
		return field_no_memory(&edit->error);
	err = check_new_name(edit, a->entry.qualifier, sizeof(a->entry.qualifier));
	if (!err)
		err = set_fields(edit, a);
	if (!err)
		err = api_edit_insert(edit, &edit->control->aliases, &a->entry);
	if (err)
		free(a);
	return err;
}

void api_alias_create(const struct api_call *call)
{
	api_change(call, create, 201);
}

/* ---- change and delete ----------------------------------------------------------------------- */

static int refuse_unknown(const struct api_call *call, struct field_error *e)
{
	char arn[FUNCTION_NAME_ARN_MAX + 1];

	return field_refuse_as(e, 404, "ResourceNotFoundException", "Cannot find alias arn: %s",
			       function_arn(call->function->name, call->item[0], arn));
}

static int update(struct api_edit *edit)
{
	struct alias *a = control_alias(edit->control, edit->call->item[0]);
	int err;

	if (!a)
		return refuse_unknown(edit->call, &edit->error);
	err = api_edit_revision(edit->body, a->revision, &edit->error);
	return err ? err : set_fields(edit, a);
}

void api_alias_update(const struct api_call *call)
{
	api_change(call, update, 200);
}

/** With all that is set for it. */
static int delete (struct api_edit *edit)
{
	function_control_forget(edit->control, edit->call->item[0]);
	return 0;
}

void api_alias_delete(const struct api_call *call)
{
	api_change(call, delete, 204);
}

/* ---- show ------------------------------------------------------------------------------------ */

void api_alias_get(const struct api_call *call)
{
	const struct alias *a = control_alias(&call->function->control, call->item[0]);
	struct field_error e;

	if (a) {
		http_reply_json(call->http, 200, shown_json(call->function, a));
	} else {
		refuse_unknown(call, &e);
		api_refuse(call->http, &e);
	}
}

static json_t *item_json(const void *item, const void *arg)
{
	return shown_json(arg, item);
}

void api_alias_list(const struct api_call *call)
{
	const char *version = http_query(call->http, "FunctionVersion");
	struct api_page page;
	uint32_t number = 0;

	if (version && !qualifier_number(version, &number))
		number = UINT32_MAX; /* no alias has it */
	if (api_page_begin(&page, call->http))
		return;
	for (struct qualified *at = call->function->control.aliases; at; at = at->next) {
		struct alias *a = container_of(at, struct alias, entry);

		if (!version || a->version == number ||
		    (a->other_version && a->other_version == number))
			api_page_add(&page, at->qualifier, a);
	}
	api_page_reply(&page, call->http, "Aliases", item_json, call->function);
}
