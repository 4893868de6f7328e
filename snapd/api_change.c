/* SPDX-License-Identifier: Apache-2.0 */
/* api_change.c - change what is set for a function: one change at a time, on disk before the reply
 */
#include "snapd/api_change.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/util.h"
#include "snapd/function_store.h"
#include "snapd/scheduler.h"
#include "snapd/worker.h"

/**
 * struct api_change - one change. The worker reads @name, @text and @remove_version, and writes
 * @err.
 * @call: its function is a reference
 * @control: the edited copy; without tags: there is none (yet)
 */
struct api_change {
	struct work work;
	struct api_call call;
	api_edit_fn edit;
	unsigned status;
	json_t *body, *reply;
	struct function_control control;
	char name[FUNCTION_NAME_MAX + 1];
	char *text;
	uint32_t remove_version;
	int err;
	struct api_change *next;
};

static void change_free(struct api_change *c)
{
	function_put(c->call.function);
	if (c->control.tags)
		function_control_free(&c->control);
	json_decref(c->body);
	json_decref(c->reply);
	free(c->text);
	free(c);
}

static int prepare(struct api_change *c, struct field_error *e)
{
	struct function *f = c->call.function;
	struct api_edit edit = {.call = &c->call, .body = c->body, .control = &c->control};
	int err;

	if (f->deleted)
		return field_refuse_as(e, 404, "ResourceNotFoundException",
				       "Function not found: %s", f->name);
	err = function_control_copy(&f->control, &c->control);
	if (err) {
		c->control.tags = NULL;
		return field_no_memory(e);
	}
	err = c->edit(&edit);
	c->reply = edit.reply;
	c->remove_version = edit.remove_version;
	*e = edit.error;
	if (err)
		return err;
	c->control.last_number = f->last_number;
	c->text = function_control_text(&c->control);
	if (!c->text)
		return field_no_memory(e);
	if (strlen(c->text) >= CONTROL_BYTES_MAX)
		return field_refuse(e, "all that is set for %s would be longer than %d bytes",
				    f->name, CONTROL_BYTES_MAX);
	return 0;
}

static void start_next(struct function *f);

static void write_run(struct work *work)
{
	struct api_change *c = container_of(work, struct api_change, work);

	c->err = store_update_control(c->name, c->text);
	if (!c->err && c->remove_version)
		c->err = store_version_remove(c->name, c->remove_version);
}

/** No invocation finds it any more; those that it has are answered. */
static void retire_version(struct function *f, uint32_t number)
{
	struct version *v = number ? function_version(f, number) : NULL;

	if (!v)
		return;
	log_info("function %s: version %u deleted", f->name, number);
	function_retire_version(f, v);
	scheduler_retire_instances(v);
	scheduler_sizes_changed();
}

static void write_done(struct work *work)
{
	struct api_change *c = container_of(work, struct api_change, work);
	struct function *f = c->call.function;
	struct function_control old = f->control;

	if (c->err) {
		http_reply_error(c->call.http, 500, "ServiceException",
				 "%s: " STORE_CONTROL_NAME ": %s", f->name, strerror(-c->err));
	} else {
		f->control = c->control;
		c->control = old;
		retire_version(f, c->remove_version);
		if (c->reply)
			http_reply_json(c->call.http, c->status, json_incref(c->reply));
		else
			http_reply(c->call.http, c->status, "application/json", "", 0);
	}
	f->changes = c->next;
	start_next(f);
	change_free(c);
}

/** The first of the function's changes that is not refused. */
static void start_next(struct function *f)
{
	struct api_change *c;
	struct field_error e;

	while ((c = f->changes)) {
		if (!prepare(c, &e)) {
			c->work = (struct work){.run = write_run, .done = write_done};
			worker_queue(&c->work);
			return;
		}
		api_refuse(c->call.http, &e);
		f->changes = c->next;
		change_free(c);
	}
}

void api_change(const struct api_call *call, api_edit_fn edit, unsigned status)
{
	struct api_change **at = &call->function->changes, *c;
	struct function *f = call->function;
	json_t *body = api_body(call->http);

	if (!body)
		return;
	c = calloc(1, sizeof(*c));
	if (!c) {
		json_decref(body);
		api_no_memory(call->http);
		return;
	}
	c->call = *call;
	c->call.function = function_get(f);
	c->edit = edit;
	c->status = status;
	c->body = body;
	memcpy(c->name, f->name, sizeof(c->name));
	while (*at)
		at = &(*at)->next;
	*at = c;
	if (f->changes != c)
		return;
	function_get(f); /* refusing the last change must not be the end of it in here */
	start_next(f);
	function_put(f);
}

/* ---- what edits have in common --------------------------------------------------------------- */

const char *api_edit_target(struct api_edit *edit)
{
	const char *qualifier = edit->call->qualifier;
	struct function *f = edit->call->function;
	char arn[FUNCTION_NAME_ARN_MAX + 1];
	uint32_t number;
	bool known;

	if (!*qualifier)
		return QUALIFIER_LATEST;
	if (qualifier_number(qualifier, &number))
		known = function_version(f, number);
	else
		known = control_alias(edit->control, qualifier);
	if (!known)
		field_refuse_as(&edit->error, 404, "ResourceNotFoundException",
				"Function not found: %s", function_arn(f->name, qualifier, arn));
	return known ? qualifier : NULL;
}

int api_edit_revision(const json_t *body, const char *revision, struct field_error *e)
{
	char wanted[FUNCTION_ARN_MAX + 1] = "";
	int err = field_string(body, "RevisionId", 0, wanted, sizeof(wanted), e);

	if (!err && *wanted && strcmp(wanted, revision) != 0)
		return field_refuse_as(e, 412, "PreconditionFailedException",
				       "The Revision Id provided does not match the latest "
				       "Revision Id. Call the GetFunction/GetAlias API to retrieve "
				       "the latest Revision Id");
	return err;
}

int api_edit_insert(struct api_edit *edit, struct qualified **list, struct qualified *entry)
{
	int err = qualified_insert(list, entry);

	if (err == -ENOSPC)
		return field_refuse(&edit->error, "a function has at most %d of these",
				    QUALIFIED_MAX);
	return err;
}
