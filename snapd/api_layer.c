/* SPDX-License-Identifier: Apache-2.0 */
/* api_layer.c - publish, show and delete layers over HTTP */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/api.h"
#include "snapd/api_code.h"
#include "snapd/api_page.h"
#include "snapd/layer.h"
#include "snapd/layer_store.h"
#include "snapd/worker.h"

enum { DESCRIPTION_MAX = 256, LICENSE_MAX = 512 };

/** struct layer_job - one change of a layer, done by the worker. */
struct layer_job {
	struct work work;
	struct http_request *request;
	char name[LAYER_NAME_MAX + 1];
	uint32_t number;
	json_t *about;
	char *about_text;
	struct code_source source;
	struct code_info info;
	struct code_error error;
	int err;
};

static void layer_job_free(struct layer_job *job)
{
	code_source_free(&job->source);
	json_decref(job->about);
	free(job->about_text);
	free(job);
}

/* ---- what is shown --------------------------------------------------------------------------- */

/** Without Content: what lists have. */
static json_t *version_about(const struct layer *l, const struct layer_version *v)
{
	json_t *root = json_deep_copy(v->about);
	char arn[LAYER_ARN_MAX + 1];

	if (!root)
		return NULL;
	json_object_set_new(root, "LayerVersionArn",
			    json_string(layer_arn(l->name, v->number, arn)));
	json_object_set_new(root, "Version", json_integer(v->number));
	return root;
}

static json_t *version_full(struct http_request *r, const struct layer *l,
			    const struct layer_version *v)
{
	json_t *root = version_about(l, v);
	char arn[LAYER_ARN_MAX + 1];

	if (!root)
		return NULL;
	json_object_set_new(root, "LayerArn", json_string(layer_arn(l->name, 0, arn)));
	json_object_set_new(root, "Content",
			    json_pack("{s:o, s:s, s:I}", "Location",
				      api_code_location(r, "layers", l->name, v->number),
				      "CodeSha256", v->code.sha256, "CodeSize",
				      (json_int_t)v->code.bytes));
	return root;
}

/* ---- publish --------------------------------------------------------------------------------- */

static void publish_run(struct work *work)
{
	struct layer_job *job = container_of(work, struct layer_job, work);

	job->err = layer_store_publish(job->name, job->number, job->about_text, &job->source,
				       &job->info, &job->error);
}

static void publish_done(struct work *work)
{
	struct layer_job *job = container_of(work, struct layer_job, work);
	struct layer *l = layers_find(job->name);
	struct layer_version *v = NULL;

	if (job->err && *job->error.text) {
		api_code_refuse(job->request, job->err, &job->error);
	} else if (job->err) {
		http_reply_error(job->request, 500, "ServiceException", "layer %s: %s", job->name,
				 strerror(-job->err));
	} else {
		v = layer_add_version(l, job->number, &job->info, json_incref(job->about));
		log_info("layer %s:%u: published", job->name, job->number);
		if (v)
			http_reply_json(job->request, 201, version_full(job->request, l, v));
		else
			api_no_memory(job->request);
	}
	layer_job_free(job);
}

/** What was said about a layer, as it is kept and shown. */
static int parse_about(const json_t *root, json_t **ret, struct field_error *e)
{
	char description[DESCRIPTION_MAX + 1] = "", license[LICENSE_MAX + 1] = "";
	char when[TIME_TEXT_CHARS + 1];
	json_t *runtimes, *architectures;
	int err = field_string(root, "Description", 0, description, sizeof(description), e);

	if (!err)
		err = field_string(root, "LicenseInfo", 0, license, sizeof(license), e);
	if (!err)
		err = field_array(root, "CompatibleRuntimes", &runtimes, e);
	if (!err)
		err = field_array(root, "CompatibleArchitectures", &architectures, e);
	if (err)
		return err;
	*ret = json_pack("{s:s, s:s, s:O*, s:O*, s:s*}", "Description", description, "CreatedDate",
			 time_text(clock_real_ns(), when), "CompatibleRuntimes", runtimes,
			 "CompatibleArchitectures", architectures, "LicenseInfo",
			 *license ? license : NULL);
	return *ret ? 0 : field_no_memory(e);
}

static void start_publish(struct http_request *r, struct layer *l, struct layer_job *job)
{
	job->work = (struct work){.run = publish_run, .done = publish_done};
	job->request = r;
	snprintf(job->name, sizeof(job->name), "%s", l->name);
	job->about_text = json_dumps(job->about, JSON_COMPACT);
	if (!job->about_text) {
		api_no_memory(r);
		layer_job_free(job);
		return;
	}
	job->number = ++l->last_number;
	worker_queue(&job->work);
}

/** The name is in the path, which the request has still. */
static bool layer_name(struct http_request *r, const char *item, char ret[LAYER_NAME_MAX + 1])
{
	uint32_t number;

	if (function_name_ok(item)) {
		snprintf(ret, LAYER_NAME_MAX + 1, "%s", item);
		return true;
	}
	if (!layer_arn_parse(item, ret, &number) && !number)
		return true;
	http_reply_error(r, 400, "InvalidParameterValueException",
			 "LayerName: 1 to 64 letters, digits, - and _, or an ARN of a layer");
	return false;
}

static void publish_from(struct http_request *r, struct function *none, json_t *root)
{
	struct layer_job *job = calloc(1, sizeof(*job));
	struct api_match match;
	struct field_error e;
	char item[API_ITEM_MAX + 1] = "", name[LAYER_NAME_MAX + 1];
	struct layer *l = NULL;

	(void)none;
	/* The call is gone by now where a long body was parsed by the worker: read the path again.
	 */
	if (api_operation_find(r->method, r->path, NULL, NULL, &match) &&
	    match.item_bytes[0] <= API_ITEM_MAX)
		memcpy(item, match.item[0], match.item_bytes[0]);
	if (!job)
		api_no_memory(r);
	else if (!layer_name(r, item, name))
		;
	else if (parse_about(root, &job->about, &e) ||
		 api_code_parse(r, json_object_get(root, "Content"), &job->source, &e))
		api_refuse(r, &e);
	else if (!(l = layers_make(name)))
		api_no_memory(r);
	else if (l->last_number >= LAYER_VERSIONS_MAX)
		http_reply_error(r, 400, "InvalidParameterValueException", "%s has had %d versions",
				 name, LAYER_VERSIONS_MAX);
	else
		start_publish(r, l, steal_ptr(job));
	if (job)
		layer_job_free(job);
	json_decref(root);
}

void api_layer_publish(const struct api_call *call)
{
	api_body_read(call->http, NULL, publish_from);
}

/* ---- show ------------------------------------------------------------------------------------ */

/** Replies when there is none. */
static bool find_version(struct http_request *r, const char *name, const char *number,
			 struct layer **ret_layer, struct layer_version **ret)
{
	uint32_t n = 0;

	*ret_layer = layers_find(name);
	*ret = *ret_layer && qualifier_number(number, &n) ? layer_find_version(*ret_layer, n)
							  : NULL;
	if (!*ret)
		http_reply_error(
			r, 404, "ResourceNotFoundException",
			"The resource you requested does not exist: layer %s, version %.20s", name,
			number);
	return *ret;
}

void api_layer_get(const struct api_call *call)
{
	char name[LAYER_NAME_MAX + 1];
	struct layer_version *v;
	struct layer *l;

	if (layer_name(call->http, call->item[0], name) &&
	    find_version(call->http, name, call->item[1], &l, &v))
		http_reply_json(call->http, 200, version_full(call->http, l, v));
}

void api_layer_get_by_arn(struct http_request *r)
{
	const char *arn = http_query(r, "Arn");
	char name[LAYER_NAME_MAX + 1], number[16];
	struct layer_version *v;
	struct layer *l;
	uint32_t n;

	if (!arn || layer_arn_parse(arn, name, &n) || !n) {
		http_reply_error(r, 400, "InvalidParameterValueException",
				 "Arn: give the ARN of a layer version");
		return;
	}
	snprintf(number, sizeof(number), "%u", n);
	if (find_version(r, name, number, &l, &v))
		http_reply_json(r, 200, version_full(r, l, v));
}

static bool runtime_fits(const struct layer_version *v, const char *runtime)
{
	json_t *list = json_object_get(v->about, "CompatibleRuntimes"), *item;
	size_t i;

	if (!runtime)
		return true;
	json_array_foreach(list, i, item)
	{
		if (json_is_string(item) && !strcmp(json_string_value(item), runtime))
			return true;
	}
	return false;
}

static json_t *layer_item(const void *item, const void *arg)
{
	const struct layer *l = item;
	const struct layer_version *v = SLIST_FIRST(&l->versions);
	char arn[LAYER_ARN_MAX + 1];

	while (v && !runtime_fits(v, arg))
		v = SLIST_NEXT(v, link);
	return v ? json_pack("{s:s, s:s, s:o}", "LayerName", l->name, "LayerArn",
			     layer_arn(l->name, 0, arn), "LatestMatchingVersion",
			     version_about(l, v))
		 : NULL;
}

void api_layer_list(struct http_request *r)
{
	const char *runtime = http_query(r, "CompatibleRuntime");
	const struct layer_version *v;
	struct api_page page;

	if (api_page_begin(&page, r))
		return;
	for (struct layer *l = layers_first(); l; l = SLIST_NEXT(l, link)) {
		SLIST_FOREACH(v, &l->versions, link)
		if (runtime_fits(v, runtime))
			break;
		if (v)
			api_page_add(&page, l->name, l);
	}
	api_page_reply(&page, r, "Layers", layer_item, runtime);
}

static json_t *version_item(const void *item, const void *arg)
{
	return version_about(arg, item);
}

void api_layer_list_versions(const struct api_call *call)
{
	const char *runtime = http_query(call->http, "CompatibleRuntime");
	char name[LAYER_NAME_MAX + 1], key[16];
	const struct layer_version *v;
	struct api_page page;
	struct layer *l;

	if (!layer_name(call->http, call->item[0], name) || api_page_begin(&page, call->http))
		return;
	l = layers_find(name);
	if (l)
		SLIST_FOREACH(v, &l->versions, link)
		{
			/* Newest first. */
			snprintf(key, sizeof(key), "%06u", LAYER_VERSIONS_MAX - v->number);
			if (runtime_fits(v, runtime))
				api_page_add(&page, key, v);
		}
	api_page_reply(&page, call->http, "LayerVersions", version_item, l);
}

/* ---- delete ---------------------------------------------------------------------------------- */

static void remove_run(struct work *work)
{
	struct layer_job *job = container_of(work, struct layer_job, work);

	job->err = layer_store_remove(job->name, job->number);
}

static void remove_done(struct work *work)
{
	struct layer_job *job = container_of(work, struct layer_job, work);

	if (job->err)
		http_reply_error(job->request, 500, "ServiceException", "layer %s: %s", job->name,
				 strerror(-job->err));
	else
		http_reply(job->request, 204, "application/json", "", 0);
	layer_job_free(job);
}

/** Functions that have it keep what they have: it was merged when they got it. */
void api_layer_delete(const struct api_call *call)
{
	struct http_request *r = call->http;
	char name[LAYER_NAME_MAX + 1];
	struct layer_job *job;
	uint32_t number = 0;
	struct layer *l;
	struct layer_version *v;

	if (!layer_name(r, call->item[0], name))
		return;
	l = layers_find(name);
	v = l && qualifier_number(call->item[1], &number) ? layer_find_version(l, number) : NULL;
	if (!v) { /* as Lambda: what is not there is deleted */
		http_reply(r, 204, "application/json", "", 0);
		return;
	}
	job = calloc(1, sizeof(*job));
	if (!job) {
		api_no_memory(r);
		return;
	}
	job->work = (struct work){.run = remove_run, .done = remove_done};
	job->request = r;
	snprintf(job->name, sizeof(job->name), "%s", name);
	job->number = number;
	layer_remove_version(l, v);
	log_info("layer %s:%u: deleted", name, number);
	worker_queue(&job->work);
}
