/* SPDX-License-Identifier: Apache-2.0 */
/* api_version.c - publish and delete versions over HTTP */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "snapd/api_change.h"
#include "snapd/api_code.h"
#include "snapd/base64.h"
#include "snapd/publish.h"
#include "snapd/scheduler.h"

/* ---- publish --------------------------------------------------------------------------------- */

/**
 * struct publish_request - what PublishVersion was asked for.
 * @train: event to train with, malloc'ed, or NULL
 * @even_if_unchanged: a new version, whatever the last one was made from
 */
struct publish_request {
	char description[FUNCTION_DESCRIPTION_MAX + 1];
	char *train;
	size_t train_bytes;
	bool even_if_unchanged;
};

static void on_published(void *arg, struct version *v, unsigned status, const char *error_type,
			 const char *text)
{
	if (v)
		http_reply_json(arg, 201, version_json(v));
	else
		http_reply_error(arg, status, error_type, "%s", text);
}

/** The event to train with: header X-Quickthaw-Train (base64), or TrainingPayload in the body. */
static int parse_training(struct http_request *r, const json_t *root, struct publish_request *p,
			  struct field_error *e)
{
	const char *header = http_header(r, "X-Quickthaw-Train");
	const json_t *event = json_object_get(root, "TrainingPayload");

	if (header && base64_decode(header, &p->train, &p->train_bytes))
		return field_refuse(e, "X-Quickthaw-Train: not base64");
	if (event && !p->train) {
		p->train = json_dumps(event, JSON_COMPACT | JSON_ENCODE_ANY);
		p->train_bytes = p->train ? strlen(p->train) : 0;
	}
	return 0;
}

static int check_code_hash(const json_t *root, const struct version *latest, struct field_error *e)
{
	char wanted[FUNCTION_ARN_MAX + 1] = "";
	int err = field_string(root, "CodeSha256", 0, wanted, sizeof(wanted), e);

	if (!err && *wanted && strcmp(wanted, latest->code.sha256) != 0)
		return field_refuse(e,
				    "CodeSHA256 (%.100s) is different from current CodeSHA256 in "
				    "$LATEST (%s). Please try again with the CodeSHA256 in "
				    "$LATEST.",
				    wanted, latest->code.sha256);
	return err;
}

static int parse_publish(struct http_request *r, const struct version *latest, const json_t *root,
			 struct publish_request *p, struct field_error *e)
{
	int err = api_edit_revision(root, latest->revision, e);

	memcpy(p->description, latest->settings.description, sizeof(p->description));
	if (!err)
		err = check_code_hash(root, latest, e);
	if (!err)
		err = field_string(root, "Description", 0, p->description, sizeof(p->description),
				   e);
	if (!err)
		err = field_bool(root, "EvenIfUnchanged", &p->even_if_unchanged, e);
	if (!err)
		err = parse_training(r, root, p, e);
	return err;
}

/** As with Lambda, what has not changed since the last version is that version. */
static struct version *unchanged_version(const struct function *f, const struct publish_request *p)
{
	struct version *newest = f->versions;

	if (p->even_if_unchanged || p->train || !newest || newest->state != VERSION_ACTIVE ||
	    strcmp(newest->source_revision, f->latest.revision) != 0)
		return NULL;
	return newest;
}

static void start(struct http_request *r, struct function *f, struct publish_request *p)
{
	char *train = p->train;
	struct version *v;
	int ret;

	p->train = NULL; /* taken over */
	ret = publish_start(f, train, p->train_bytes, api_waits(r), on_published, r);
	if (ret == -EBUSY)
		http_reply_error(r, 409, "ResourceConflictException",
				 "%s is being published already", f->name);
	else if (ret)
		api_no_memory(r);
	if (ret)
		return;
	v = function_version(f, f->last_number);
	memcpy(v->settings.description, p->description, sizeof(p->description));
}

static void publish_from(struct http_request *r, struct function *f, json_t *root)
{
	struct publish_request p = {.train = NULL};
	struct version *same;
	struct field_error e;

	if (parse_publish(r, &f->latest, root, &p, &e))
		api_refuse(r, &e);
	else if ((same = unchanged_version(f, &p)))
		http_reply_json(r, 201, version_json(same));
	else
		start(r, f, &p);
	free(p.train);
	json_decref(root);
}

void api_function_publish(const struct api_call *call)
{
	api_body_read(call->http, call->function, publish_from);
}

/* ---- delete ---------------------------------------------------------------------------------- */

static int check_not_aliased(struct api_edit *edit, uint32_t number)
{
	for (struct qualified *at = edit->control->aliases; at; at = at->next) {
		const struct alias *a = control_alias(edit->control, at->qualifier);

		if (a->version == number || a->other_version == number)
			return field_refuse_as(&edit->error, 409, "ResourceConflictException",
					       "Version %u is in use by alias %s: change or delete "
					       "that first",
					       number, at->qualifier);
	}
	return 0;
}

/** The number is not given out again: control.json keeps the highest. */
static int delete_version(struct api_edit *edit)
{
	const char *qualifier = edit->call->qualifier;
	struct function *f = edit->call->function;
	char arn[FUNCTION_NAME_ARN_MAX + 1];
	struct version *v;
	uint32_t number;

	if (!qualifier_number(qualifier, &number))
		return field_refuse(&edit->error,
				    "Deletion of aliases is not currently supported.");
	if (!number)
		return field_refuse(&edit->error,
				    "$LATEST version cannot be deleted without deleting the "
				    "function.");
	v = function_version(f, number);
	if (!v)
		return field_refuse_as(&edit->error, 404, "ResourceNotFoundException",
				       "Function not found: %s",
				       function_arn(f->name, qualifier, arn));
	if (v->state == VERSION_PENDING || *v->stage)
		return field_refuse_as(&edit->error, 409, "ResourceConflictException",
				       "version %u of %s is being published; try again when that "
				       "is over",
				       number, f->name);
	function_control_forget(edit->control, qualifier);
	edit->remove_version = number;
	return check_not_aliased(edit, number);
}

void api_version_delete(const struct api_call *call)
{
	api_change(call, delete_version, 204);
}
