/* SPDX-License-Identifier: Apache-2.0 */
/* api_function_read.c - show functions and their versions over HTTP */
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "snapd/api.h"
#include "snapd/api_code.h"
#include "snapd/api_page.h"

static json_t *item_json(const void *item, const void *arg)
{
	(void)arg;
	return version_json(item);
}

/** In the order of names, then of versions with $LATEST first. */
static void add_version(struct api_page *page, const struct version *v)
{
	char key[FUNCTION_NAME_MAX + 16];

	snprintf(key, sizeof(key), "%s:%06u", v->function->name, v->number);
	api_page_add(page, key, v);
}

static void add_versions(struct api_page *page, struct function *f)
{
	add_version(page, &f->latest);
	for (struct version *v = f->versions; v; v = v->next)
		add_version(page, v);
}

void api_function_list(const struct api_call *call)
{
	const char *which = http_query(call->http, "FunctionVersion");
	struct api_page page;
	struct field_error e;

	if (which && strcmp(which, "ALL") != 0) {
		field_refuse_value(&e, "FunctionVersion", which,
				   "Member must satisfy enum value set: [ALL]");
		api_refuse(call->http, &e);
		return;
	}
	if (api_page_begin(&page, call->http))
		return;
	for (struct function *f = functions_first(); f; f = f->next) {
		if (which)
			add_versions(&page, f);
		else
			add_version(&page, &f->latest);
	}
	api_page_reply(&page, call->http, "Functions", item_json, NULL);
}

void api_function_list_versions(const struct api_call *call)
{
	struct api_page page;

	if (api_page_begin(&page, call->http))
		return;
	add_versions(&page, call->function);
	api_page_reply(&page, call->http, "Versions", item_json, NULL);
}

/** An alias names its own version here, whatever its weights are. Return: NULL after a reply. */
static struct version *shown_version(const struct api_call *call)
{
	struct function *f = call->function;
	char arn[FUNCTION_NAME_ARN_MAX + 1];
	struct version *v = *call->qualifier ? function_resolve(f, call->qualifier) : &f->latest;

	if (!v)
		http_reply_error(call->http, 404, "ResourceNotFoundException",
				 "Function not found: %s",
				 function_arn(f->name, call->qualifier, arn));
	return v;
}

/** Asked for by a qualifier, a version shows it in its ARN. */
static json_t *shown_json(const struct api_call *call, const struct version *v)
{
	char arn[FUNCTION_NAME_ARN_MAX + 1];
	json_t *root = version_json(v);

	if (root && *call->qualifier)
		json_object_set_new(
			root, "FunctionArn",
			json_string(function_arn(call->function->name, call->qualifier, arn)));
	return root;
}

void api_function_get(const struct api_call *call)
{
	const struct version *v = shown_version(call);
	const struct function_control *control = &call->function->control;
	json_t *root;

	if (!v)
		return;
	root = json_pack(
		"{s:o, s:{s:s, s:o}}", "Configuration", shown_json(call, v), "Code",
		"RepositoryType", "S3", "Location",
		api_code_location(call->http, "functions", call->function->name, v->number));
	if (root && json_object_size(control->tags))
		json_object_set(root, "Tags", control->tags);
	if (root && control->reserved_concurrency >= 0)
		json_object_set_new(root, "Concurrency",
				    json_pack("{s:i}", "ReservedConcurrentExecutions",
					      (int)control->reserved_concurrency));
	http_reply_json(call->http, 200, root);
}

void api_function_get_configuration(const struct api_call *call)
{
	const struct version *v = shown_version(call);

	if (v)
		http_reply_json(call->http, 200, shown_json(call, v));
}

void api_function_logs(const struct api_call *call)
{
	CLEANUP_FREE char *text = NULL;
	size_t n;

	if (log_ring_text(call->function->log, &text, &n))
		api_no_memory(call->http);
	else
		http_reply(call->http, 200, "text/plain; charset=utf-8", text, n);
}
