/* SPDX-License-Identifier: Apache-2.0 */
/* api_tag.c - tags of functions over HTTP */
#include <errno.h>

#include "snapd/api_change.h"

/** Tags are the function's, whatever version the ARN names. Return: false after a reply. */
static bool is_function_itself(const struct api_call *call)
{
	struct field_error e;

	if (!*call->qualifier)
		return true;
	field_refuse(&e, "Tags on function aliases and versions are not supported. Please specify "
			 "either a function or an event source mapping.");
	api_refuse(call->http, &e);
	return false;
}

static int tag(struct api_edit *edit)
{
	json_t *tags;
	int err = field_object(edit->body, "Tags", &tags, &edit->error);

	if (!err && !tags)
		return field_refuse_value(&edit->error, "Tags", "null", "Member must not be null");
	if (!err && json_object_update(edit->control->tags, tags))
		return field_no_memory(&edit->error);
	return err ? err : tags_check(edit->control->tags, &edit->error);
}

void api_tag_add(const struct api_call *call)
{
	if (is_function_itself(call))
		api_change(call, tag, 204);
}

static void remove_tag(void *arg, const char *key)
{
	json_object_del(arg, key);
}

static int untag(struct api_edit *edit)
{
	if (!http_query_each(edit->call->http, "tagKeys", remove_tag, edit->control->tags))
		return field_refuse_value(&edit->error, "tagKeys", "null",
					  "Member must not be null");
	return 0;
}

void api_tag_remove(const struct api_call *call)
{
	if (is_function_itself(call))
		api_change(call, untag, 204);
}

void api_tag_list(const struct api_call *call)
{
	if (is_function_itself(call))
		http_reply_json(call->http, 200,
				json_pack("{s:O}", "Tags", call->function->control.tags));
}
