/* SPDX-License-Identifier: Apache-2.0 */
/* api_function.c - create, change, delete and publish functions over HTTP */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/api.h"
#include "snapd/api_change.h"
#include "snapd/api_code.h"
#include "snapd/event_queue.h"
#include "snapd/function_store.h"
#include "snapd/kernel_guests.h"
#include "snapd/publish.h"
#include "snapd/scheduler.h"
#include "snapd/shell_pool.h"
#include "snapd/worker.h"

/**
 * struct store_job - one change of the store, done by the worker.
 * @function: created, or a reference to the one that is changed
 * @settings, @revision: for a change: what it will have
 * @dry_run: code is unpacked, and forgotten again
 */
struct store_job {
	struct work work;
	struct http_request *request;
	struct function *function;
	struct function_settings settings;
	char name[FUNCTION_NAME_MAX + 1];
	char revision[UUID_CHARS + 1];
	char *settings_text, *control_text;
	struct store_code code;
	bool dry_run, publish;
	int err;
};

static void store_job_free(struct store_job *job)
{
	json_decref(job->settings.env);
	free(job->settings_text);
	free(job->control_text);
	code_source_free(&job->code.source);
	free(job);
}

static void reply_store_error(struct http_request *r, const struct store_job *job)
{
	int err = job->err;

	if (err == -EEXIST)
		http_reply_error(r, 409, "ResourceConflictException", "Function already exist: %s",
				 job->name);
	else if (job->code.error.text[0])
		api_code_refuse(r, err, &job->code.error);
	else
		http_reply_error(r, 500, "ServiceException", "%s: %s", job->name, strerror(-err));
}

static void on_published(void *arg, struct version *v, unsigned status, const char *error_type,
			 const char *text)
{
	struct http_request *r = arg;

	if (v)
		http_reply_json(r, 201, version_json(v));
	else
		http_reply_error(r, status, error_type, "%s", text);
}

/** UpdateFunctionCode with Publish: 200 where PublishVersion has 201. */
static void on_code_published(void *arg, struct version *v, unsigned status, const char *error_type,
			      const char *text)
{
	if (v)
		http_reply_json(arg, 200, version_json(v));
	else
		on_published(arg, v, status, error_type, text);
}

/** The reply comes when it is over. */
static void start_publish(struct http_request *r, struct function *f, publish_done_fn done)
{
	int ret = publish_start(f, NULL, 0, api_waits(r), done, r);

	if (ret == -EBUSY)
		http_reply_error(r, 409, "ResourceConflictException",
				 "%s is being published already", f->name);
	else if (ret)
		api_no_memory(r);
}

/* ---- create ---------------------------------------------------------------------------------- */

static void create_run(struct work *work)
{
	struct store_job *job = container_of(work, struct store_job, work);

	job->err = store_create(job->name, job->settings_text, job->control_text, &job->code);
}

static void create_done(struct work *work)
{
	struct store_job *job = container_of(work, struct store_job, work);
	struct http_request *r = job->request;
	struct function *f = job->function;

	if (job->err) {
		reply_store_error(r, job);
		function_put(f);
	} else {
		f->latest.code = job->code.info;
		functions_add(f);
		shell_pool_want_class(scheduler_ram_class(&f->latest.settings));
		log_info("function %s: created from %s", job->name,
			 code_source_name(&job->code.source));
		if (!job->publish)
			http_reply_json(r, 201, version_json(&f->latest));
		else
			start_publish(r, f, on_published);
	}
	store_job_free(job);
}

/** @code and @settings are moved. */
static void start_create(struct http_request *r, const char *name, struct code_source *code,
			 struct function_settings *settings, const json_t *root)
{
	struct store_job *job = calloc(1, sizeof(*job));
	struct function *f = function_new(name);
	json_t *tags = json_object_get(root, "Tags");

	if (f) {
		f->latest.settings = *settings;
		settings->env = NULL;
		json_object_update(f->control.tags, tags);
	}
	if (job && f) {
		job->work = (struct work){.run = create_run, .done = create_done};
		job->request = r;
		job->function = f;
		snprintf(job->name, sizeof(job->name), "%s", name);
		job->settings_text = store_settings_text(&f->latest);
		job->control_text = function_control_text(&f->control);
		job->code.source = *code;
		job->code.layers = settings->layers;
		*code = (struct code_source){.path = NULL};
		job->publish = json_is_true(json_object_get(root, "Publish"));
	}
	if (job && job->settings_text && job->control_text) {
		worker_queue(&job->work);
		return;
	}
	api_no_memory(r);
	function_put(f);
	if (job)
		store_job_free(job);
}

/** What is wrong with all but the code. @settings: free them, whatever is returned */
static int parse_create(const json_t *root, struct function_ref *ref,
			struct function_settings *settings, struct field_error *e)
{
	char name[FUNCTION_NAME_ARN_MAX + 1] = "";
	json_t *tags = NULL;
	int err = field_string(root, "FunctionName", 1, name, sizeof(name), e);

	if (!err && (function_ref_parse(name, strlen(name), ref) || *ref->qualifier))
		return field_refuse_value(e, "FunctionName", name,
					  "Member must be 1 to 64 letters, digits, - and _");
	if (!err && functions_find(ref->name))
		return field_refuse_as(e, 409, "ResourceConflictException",
				       "Function already exist: %s", ref->name);
	if (!err)
		err = function_settings_parse(root, settings, e);
	if (!err && kernel_guests_trouble(settings))
		return field_refuse(e, "%s", kernel_guests_trouble(settings));
	if (!err && scheduler_ram_class(settings) < 0)
		return field_refuse(e, "MemorySize and EphemeralStorage.Size together: too large");
	if (!err)
		err = layer_list_resolve(&settings->layers, e);
	if (!err)
		err = field_object(root, "Tags", &tags, e);
	return err ? err : tags_check(tags, e);
}

static void create_from(struct http_request *r, struct function *none, json_t *root)
{
	struct function_settings settings = {.env = NULL};
	struct code_source code = {.path = NULL};
	struct function_ref ref;
	struct field_error e;

	(void)none;
	if (parse_create(root, &ref, &settings, &e) ||
	    api_code_parse(r, json_object_get(root, "Code"), &code, &e))
		api_refuse(r, &e);
	else
		start_create(r, ref.name, &code, &settings, root);
	function_settings_free(&settings);
	code_source_free(&code);
	json_decref(root);
}

void api_function_create(struct http_request *r)
{
	api_body_read(r, NULL, create_from);
}

/* ---- change ---------------------------------------------------------------------------------- */

static void update_run(struct work *work)
{
	struct store_job *job = container_of(work, struct store_job, work);

	if (job->dry_run)
		job->err = store_try(&job->code);
	else
		job->err = store_update(job->name, job->settings_text, &job->code);
}

static void take_update(struct store_job *job, struct version *v)
{
	if (!job->code.keep_code)
		v->code = job->code.info;
	json_decref(v->settings.env);
	v->settings = job->settings;
	job->settings.env = NULL;
	v->modified_ns = clock_real_ns();
	memcpy(v->revision, job->revision, sizeof(v->revision));
	version_close_dirs(v);
	scheduler_retire_instances(v); /* what is invoked from now on is the new one */
	shell_pool_want_class(scheduler_ram_class(&v->settings));
	scheduler_sizes_changed();
}

static void reply_dry_run(struct http_request *r, const struct store_job *job)
{
	struct version tried = job->function->latest;

	tried.code = job->code.info;
	http_reply_json(r, 200, version_json(&tried));
}

static void update_done(struct work *work)
{
	struct store_job *job = container_of(work, struct store_job, work);
	struct function *f = job->function;

	f->latest.updating = false;
	if (job->err) {
		reply_store_error(job->request, job);
	} else if (job->dry_run) {
		reply_dry_run(job->request, job);
	} else {
		take_update(job, &f->latest);
		if (job->publish)
			start_publish(job->request, f, on_code_published);
		else
			http_reply_json(job->request, 200, version_json(&f->latest));
	}
	function_put(f);
	store_job_free(job);
}

/** Settings that a request (or NULL) does not name stay as they are. */
static json_t *merge_settings(const struct function_settings *old, const json_t *root)
{
	json_t *all = function_settings_json(old);

	if (all && root && json_object_update(all, (json_t *)(uintptr_t)root)) {
		json_decref(all);
		return NULL;
	}
	return all;
}

/** @settings, @code: moved; @code NULL: it stays. @root: the request */
static void start_update(struct http_request *r, struct function *f,
			 struct function_settings *settings, struct code_source *code,
			 const json_t *root)
{
	struct store_job *job = calloc(1, sizeof(*job));
	struct version changed = f->latest;

	changed.settings = *settings;
	changed.modified_ns = clock_real_ns();
	uuid_make(changed.revision);
	if (job) {
		job->work = (struct work){.run = update_run, .done = update_done};
		job->request = r;
		job->settings = *settings;
		settings->env = NULL;
		snprintf(job->name, sizeof(job->name), "%s", f->name);
		job->settings_text = store_settings_text(&changed);
		memcpy(job->revision, changed.revision, sizeof(job->revision));
		job->code.layers = settings->layers;
		job->code.keep_layers = code || !field_is_set(root, "Layers");
		job->code.keep_code = !code;
		job->code.info = f->latest.code;
		if (code) {
			job->code.source = *code;
			*code = (struct code_source){.path = NULL};
			job->publish = json_is_true(json_object_get(root, "Publish"));
			job->dry_run = json_is_true(json_object_get(root, "DryRun"));
		}
	}
	if (job && job->settings_text) {
		job->function = function_get(f);
		f->latest.updating = true;
		worker_queue(&job->work);
		return;
	}
	api_no_memory(r);
	if (job)
		store_job_free(job);
}

/** One change of $LATEST at a time, and none of what has changed since the caller looked. */
static int refuse_now(const struct function *f, const json_t *root, struct field_error *e)
{
	char arn[FUNCTION_NAME_ARN_MAX + 1];

	if (f->latest.updating)
		return field_refuse_as(e, 409, "ResourceConflictException",
				       "The operation cannot be performed at this time. An update "
				       "is in progress for resource: %s",
				       function_arn(f->name, NULL, arn));
	return api_edit_revision(root, f->latest.revision, e);
}

/** @settings: taken over. @code, @root: as for start_update() */
static void update(struct http_request *r, struct function *f, json_t *settings,
		   struct code_source *code, const json_t *root)
{
	struct function_settings parsed = {.env = NULL};
	struct field_error e;

	if (!settings)
		api_no_memory(r);
	else if (refuse_now(f, root, &e))
		api_refuse(r, &e);
	else if (function_settings_parse(settings, &parsed, &e))
		api_refuse(r, &e);
	else if (kernel_guests_trouble(&parsed))
		http_reply_error(r, 400, "InvalidParameterValueException", "%s",
				 kernel_guests_trouble(&parsed));
	else if (scheduler_ram_class(&parsed) < 0)
		http_reply_error(r, 400, "InvalidParameterValueException",
				 "MemorySize and EphemeralStorage.Size: too large");
	else if (!code && field_is_set(root, "Layers") && layer_list_resolve(&parsed.layers, &e))
		api_refuse(r, &e);
	else
		start_update(r, f, &parsed, code, root);
	function_settings_free(&parsed);
	json_decref(settings);
}

void api_function_update_configuration(const struct api_call *call)
{
	json_t *root = api_body(call->http);
	struct function *f = call->function;

	if (root)
		update(call->http, f, merge_settings(&f->latest.settings, root), NULL, root);
	json_decref(root);
}

static void update_code_from(struct http_request *r, struct function *f, json_t *root)
{
	struct code_source code = {.path = NULL};
	struct field_error e;

	if (api_code_parse(r, root, &code, &e))
		api_refuse(r, &e);
	else
		update(r, f, merge_settings(&f->latest.settings, NULL), &code, root);
	code_source_free(&code);
	json_decref(root);
}

void api_function_update_code(const struct api_call *call)
{
	api_body_read(call->http, call->function, update_code_from);
}

/* ---- delete ---------------------------------------------------------------------------------- */

static void delete_run(struct work *work)
{
	struct store_job *job = container_of(work, struct store_job, work);

	job->err = store_remove(job->name);
}

static void delete_done(struct work *work)
{
	struct store_job *job = container_of(work, struct store_job, work);

	if (job->err)
		reply_store_error(job->request, job);
	else
		http_reply(job->request, 204, "application/json", "", 0);
	store_job_free(job);
}

void api_function_delete(const struct api_call *call)
{
	struct http_request *r = call->http;
	struct function *f = call->function;
	struct store_job *job;

	if (*call->qualifier) {
		api_version_delete(call);
		return;
	}
	if (f->busy_publishing) {
		http_reply_error(r, 409, "ResourceConflictException",
				 "%s is being published; try again when that is over", f->name);
		return;
	}
	job = calloc(1, sizeof(*job));
	if (!job) {
		api_no_memory(r);
		return;
	}
	job->work = (struct work){.run = delete_run, .done = delete_done};
	job->request = r;
	snprintf(job->name, sizeof(job->name), "%s", f->name);
	log_info("function %s: deleted", f->name);
	function_get(f);
	functions_remove(f);
	event_queue_drop(f);
	scheduler_end_instances(f);
	scheduler_sizes_changed();
	function_put(f);
	worker_queue(&job->work);
}
