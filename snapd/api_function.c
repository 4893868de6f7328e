/* SPDX-License-Identifier: Apache-2.0 */
/* api_function.c - create, change, delete and publish functions over HTTP */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/api.h"
#include "snapd/base64.h"
#include "snapd/event_queue.h"
#include "snapd/function_store.h"
#include "snapd/publish.h"
#include "snapd/scheduler.h"
#include "snapd/shell_pool.h"
#include "snapd/worker.h"

/**
 * struct store_job - one change of the store, done by the worker.
 * @function: created, or a reference to the one that is changed
 * @settings: for a change: what it will have
 */
struct store_job {
	struct work work;
	struct http_request *request;
	struct function *function;
	struct function_settings settings;
	char name[FUNCTION_NAME_MAX + 1];
	char *settings_text;
	char *code_dir;
	bool publish;
	int err;
};

static void store_job_free(struct store_job *job)
{
	json_decref(job->settings.env);
	free(job->settings_text);
	free(job->code_dir);
	free(job);
}

/** Code: {"Directory": path}. Return: the path, or NULL after a reply. */
static const char *parse_code(struct http_request *r, const json_t *code)
{
	const char *dir = json_string_value(json_object_get(code, "Directory"));

	if (!dir || dir[0] != '/' || strlen(dir) >= PATH_MAX)
		http_reply_error(r, 400, "InvalidParameterValueException",
				 "Code: give {\"Directory\": \"/absolute/path\"} of this host; its "
				 "contents are copied");
	return dir && dir[0] == '/' && strlen(dir) < PATH_MAX ? dir : NULL;
}

static void reply_store_error(struct http_request *r, const struct store_job *job)
{
	int err = job->err;

	if (err == -EEXIST)
		http_reply_error(r, 409, "ResourceConflictException", "Function already exist: %s",
				 job->name);
	else if (err == -EFBIG)
		http_reply_error(r, 400, "CodeStorageExceededException",
				 "%s: the code is larger than 250 MiB", job->code_dir);
	else if (job->code_dir && (err == -ENOENT || err == -ENOTDIR || err == -EACCES))
		http_reply_error(r, 400, "InvalidParameterValueException", "%s: %s", job->code_dir,
				 strerror(-err));
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

/* ---- create ---------------------------------------------------------------------------------- */

static void create_run(struct work *work)
{
	struct store_job *job = container_of(work, struct store_job, work);

	job->err = store_create(job->name, job->settings_text, job->code_dir);
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
		functions_add(f);
		shell_pool_want_class(scheduler_ram_class(&f->latest.settings));
		log_info("function %s: created from %s", job->name, job->code_dir);
		if (!job->publish)
			http_reply_json(r, 201, version_json(&f->latest));
		else if (publish_start(f, NULL, 0, on_published, r))
			api_no_memory(r);
	}
	store_job_free(job);
}

static void start_create(struct http_request *r, const char *name, const char *dir,
			 const struct function_settings *settings, bool publish)
{
	struct store_job *job = calloc(1, sizeof(*job));
	struct function *f = function_new(name);

	if (f)
		f->latest.settings = *settings;
	else
		json_decref(settings->env);
	if (job && f) {
		job->work = (struct work){.run = create_run, .done = create_done};
		job->request = r;
		job->function = f;
		snprintf(job->name, sizeof(job->name), "%s", name);
		job->settings_text = store_settings_text(&f->latest);
		job->code_dir = strdup(dir);
		job->publish = publish;
	}
	if (job && job->settings_text && job->code_dir) {
		worker_queue(&job->work);
		return;
	}
	api_no_memory(r);
	function_put(f);
	if (job)
		store_job_free(job);
}

void api_function_create(struct http_request *r)
{
	struct function_settings settings;
	const char *name, *dir;
	struct field_error e;
	json_t *root = api_body(r);

	if (!root)
		return;
	name = json_string_value(json_object_get(root, "FunctionName"));
	if (!name || !function_name_ok(name))
		http_reply_error(r, 400, "InvalidParameterValueException",
				 "FunctionName: 1 to 64 letters, digits, - and _");
	else if (functions_find(name))
		http_reply_error(r, 409, "ResourceConflictException", "Function already exist: %s",
				 name);
	else if (function_settings_parse(root, &settings, &e))
		api_refuse(r, &e);
	else if (scheduler_ram_class(&settings) < 0)
		http_reply_error(r, 400, "InvalidParameterValueException",
				 "MemorySize and EphemeralStorage.Size together: too large");
	else if (!(dir = parse_code(r, json_object_get(root, "Code"))))
		function_settings_free(&settings);
	else
		start_create(r, name, dir, &settings,
			     json_is_true(json_object_get(root, "Publish")));
	json_decref(root);
}

/* ---- change ---------------------------------------------------------------------------------- */

static void update_run(struct work *work)
{
	struct store_job *job = container_of(work, struct store_job, work);

	job->err = store_update(job->name, job->settings_text, job->code_dir);
}

static void update_done(struct work *work)
{
	struct store_job *job = container_of(work, struct store_job, work);
	struct function *f = job->function;
	struct version *v = &f->latest;

	if (job->err) {
		reply_store_error(job->request, job);
	} else {
		json_decref(v->settings.env);
		v->settings = job->settings;
		job->settings.env = NULL;
		v->modified_ns = clock_real_ns();
		version_close_dirs(v);
		shell_pool_want_class(scheduler_ram_class(&v->settings));
		http_reply_json(job->request, 200, version_json(v));
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

static void start_update(struct http_request *r, struct function *f,
			 const struct function_settings *settings, const char *dir)
{
	struct store_job *job = calloc(1, sizeof(*job));
	struct version changed = f->latest;

	changed.settings = *settings;
	changed.modified_ns = clock_real_ns();
	if (job) {
		job->work = (struct work){.run = update_run, .done = update_done};
		job->request = r;
		job->settings = *settings;
		snprintf(job->name, sizeof(job->name), "%s", f->name);
		job->settings_text = store_settings_text(&changed);
		job->code_dir = dir ? strdup(dir) : NULL;
	}
	if (job && job->settings_text && (!dir || job->code_dir)) {
		job->function = function_get(f);
		worker_queue(&job->work);
		return;
	}
	api_no_memory(r);
	if (job)
		store_job_free(job);
}

/** @settings: taken over. @dir: new code, or NULL */
static void update(struct http_request *r, struct function *f, json_t *settings, const char *dir)
{
	struct function_settings parsed;
	struct field_error e;

	if (!settings)
		api_no_memory(r);
	else if (function_settings_parse(settings, &parsed, &e))
		api_refuse(r, &e);
	else if (scheduler_ram_class(&parsed) < 0)
		http_reply_error(r, 400, "InvalidParameterValueException",
				 "MemorySize and EphemeralStorage.Size: too large");
	else
		start_update(r, f, &parsed, dir);
	json_decref(settings);
}

void api_function_update_configuration(const struct api_call *call)
{
	json_t *root = api_body(call->http);
	struct function *f = call->function;

	if (root)
		update(call->http, f, merge_settings(&f->latest.settings, root), NULL);
	json_decref(root);
}

void api_function_update_code(const struct api_call *call)
{
	json_t *root = api_body(call->http);
	const char *dir = root ? parse_code(call->http, root) : NULL;
	struct function *f = call->function;

	if (dir)
		update(call->http, f, merge_settings(&f->latest.settings, NULL), dir);
	json_decref(root);
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
	function_put(f);
	worker_queue(&job->work);
}

/* ---- publish --------------------------------------------------------------------------------- */

/** The event to train with: header X-Quickthaw-Train (base64), or TrainingPayload in the body. */
static int parse_training(struct http_request *r, char **ret, size_t *ret_n)
{
	const char *header = http_header(r, "X-Quickthaw-Train");
	json_t *root, *event;

	*ret = NULL;
	*ret_n = 0;
	if (header && base64_decode(header, ret, ret_n)) {
		http_reply_error(r, 400, "InvalidParameterValueException",
				 "X-Quickthaw-Train: not base64");
		return -EINVAL;
	}
	root = api_body(r);
	if (!root) {
		free(*ret);
		return -EINVAL;
	}
	event = json_object_get(root, "TrainingPayload");
	if (event && !*ret) {
		*ret = json_dumps(event, JSON_COMPACT | JSON_ENCODE_ANY);
		*ret_n = *ret ? strlen(*ret) : 0;
	}
	json_decref(root);
	return 0;
}

void api_function_publish(const struct api_call *call)
{
	struct http_request *r = call->http;
	struct function *f = call->function;
	size_t train_bytes;
	char *train;
	int ret;

	if (parse_training(r, &train, &train_bytes))
		return;
	ret = publish_start(f, train, train_bytes, on_published, r);
	if (ret == -EBUSY)
		http_reply_error(r, 409, "ResourceConflictException",
				 "%s is being published already", f->name);
	else if (ret)
		api_no_memory(r);
}
