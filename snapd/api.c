/* SPDX-License-Identifier: Apache-2.0 */
/* api.c - the routes of the HTTP interface */
#include "snapd/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "snapd/readiness.h"

#define LAMBDA_PREFIX	 "/2015-03-31/functions"
#define LAYER_PREFIX	 "/2018-10-31/layers"
#define QUICKTHAW_PREFIX "/quickthaw/v1"

/** struct target - what the path says: /functions/NAME[:QUALIFIER]/ACTION */
struct target {
	char name[FUNCTION_NAME_MAX + 1];
	char qualifier[32];
	char action[32];
};

/**
 * NAME is a name, a name with a qualifier, or an ARN, with or without one.
 * Return: false when it is nothing of the kind.
 */
static bool parse_target(const char *path, struct target *t)
{
	static const char arn_mark[] = ":function:";
	const char *slash = strchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : strlen(path);
	CLEANUP_FREE char *text = strndup(path, n);
	char *name = text, *colon;

	*t = (struct target){.name = ""};
	if (!text)
		return false;
	if (!strncmp(name, "arn:", 4)) {
		name = strstr(name, arn_mark);
		if (!name)
			return false;
		name += strlen(arn_mark);
	}
	colon = strchr(name, ':');
	if (colon) {
		*colon++ = '\0';
		if (snprintf(t->qualifier, sizeof(t->qualifier), "%s", colon) >=
		    (int)sizeof(t->qualifier))
			return false;
	}
	if (!function_name_ok(name))
		return false;
	snprintf(t->name, sizeof(t->name), "%s", name);
	return !slash ||
	       snprintf(t->action, sizeof(t->action), "%s", slash + 1) < (int)sizeof(t->action);
}

void api_refuse(struct http_request *r, const struct field_error *e)
{
	http_reply_error(r, e->status, e->type, "%s", e->text);
}

struct version *api_version(struct http_request *r, struct function *f, const char *qualifier,
			    struct version *preset)
{
	char arn[FUNCTION_NAME_ARN_MAX + 1];
	struct version *v;

	if (!qualifier || !*qualifier)
		return preset;
	v = function_route(f, qualifier);
	if (!v)
		http_reply_error(r, 404, "ResourceNotFoundException", "Function not found: %s",
				 function_arn(f->name, qualifier, arn));
	return v;
}

/* ---- reading --------------------------------------------------------------------------------- */

static void list_functions(struct http_request *r)
{
	json_t *list = json_array();

	for (struct function *f = functions_first(); f; f = f->next)
		json_array_insert_new(list, 0, version_json(&f->latest));
	http_reply_json(r, 200, json_pack("{s:o}", "Functions", list));
}

static void list_versions(struct http_request *r, struct function *f)
{
	json_t *list = json_array();

	for (struct version *v = f->versions; v; v = v->next)
		json_array_insert_new(list, 0, version_json(v));
	json_array_insert_new(list, 0, version_json(&f->latest));
	http_reply_json(r, 200, json_pack("{s:o}", "Versions", list));
}

static void get_function(struct http_request *r, struct function *f, const char *qualifier,
			 bool only_configuration)
{
	struct version *v = api_version(r, f, qualifier, &f->latest);
	json_t *root = v ? version_json(v) : NULL;

	if (!v)
		return;
	if (root && !only_configuration)
		root = json_pack("{s:o, s:{s:s}}", "Configuration", root, "Code", "RepositoryType",
				 "Directory");
	http_reply_json(r, 200, root);
}

static void get_logs(struct http_request *r, struct function *f)
{
	CLEANUP_FREE char *text = NULL;
	size_t n;

	if (log_ring_text(f->log, &text, &n))
		http_reply_error(r, 500, "ServiceException", "out of memory");
	else
		http_reply(r, 200, "text/plain; charset=utf-8", text, n);
}

/* ---- routes ---------------------------------------------------------------------------------- */

static void no_route(struct http_request *r)
{
	http_reply_error(r, 404, "UnknownOperationException", "there is no %s %s here", r->method,
			 r->path);
}

static void no_method(struct http_request *r, const char *allowed)
{
	http_reply_error(r, 405, "MethodNotAllowedException", "%s does not take %s, but %s",
			 r->path, r->method, allowed);
}

static bool is(const struct http_request *r, const char *method)
{
	return !strcmp(r->method, method);
}

static void route_function(struct http_request *r, struct function *f, const struct target *t)
{
	const char *qualifier = *t->qualifier ? t->qualifier : http_query(r, "Qualifier");

	if (!*t->action && is(r, "GET"))
		get_function(r, f, qualifier, false);
	else if (!*t->action && is(r, "DELETE"))
		api_function_delete(r, f);
	else if (!*t->action)
		no_method(r, "GET and DELETE");
	else if (!strcmp(t->action, "configuration") && is(r, "GET"))
		get_function(r, f, qualifier, true);
	else if (!strcmp(t->action, "configuration") && is(r, "PUT"))
		api_function_update(r, f, false);
	else if (!strcmp(t->action, "code") && is(r, "PUT"))
		api_function_update(r, f, true);
	else if (!strcmp(t->action, "versions") && is(r, "POST"))
		api_function_publish(r, f);
	else if (!strcmp(t->action, "versions") && is(r, "GET"))
		list_versions(r, f);
	else if (!strcmp(t->action, "invocations") && is(r, "POST"))
		api_invoke(r, f, qualifier);
	else
		no_route(r);
}

static struct function *find_function(struct http_request *r, const char *path, struct target *t)
{
	struct function *f = NULL;

	if (parse_target(path, t))
		f = functions_find(t->name);
	if (!f)
		http_reply_error(r, 404, "ResourceNotFoundException", "Function not found: %s",
				 *t->name ? t->name : path);
	return f;
}

static void route_lambda(struct http_request *r, const char *rest)
{
	struct function *f;
	struct target t;

	if (!*rest || !strcmp(rest, "/")) {
		if (is(r, "GET"))
			list_functions(r);
		else if (is(r, "POST"))
			api_function_create(r);
		else
			no_method(r, "GET and POST");
		return;
	}
	if (*rest != '/') {
		no_route(r);
		return;
	}
	f = find_function(r, rest + 1, &t);
	if (f)
		route_function(r, f, &t);
}

static void route_quickthaw(struct http_request *r, const char *rest)
{
	static const char functions[] = "/functions/";
	struct function *f;
	struct target t;

	if (!is(r, "GET")) {
		no_method(r, "GET");
	} else if (!strcmp(rest, "/stats")) {
		api_stats(r);
	} else if (!strncmp(rest, functions, strlen(functions))) {
		f = find_function(r, rest + strlen(functions), &t);
		if (f && !strcmp(t.action, "logs"))
			get_logs(r, f);
		else if (f)
			no_route(r);
	} else {
		no_route(r);
	}
}

/** Who may bring code along: CreateFunction, UpdateFunctionCode, PublishLayerVersion. */
size_t api_body_max(const char *method, const char *path)
{
	size_t n = strlen(path), code = strlen("/code");
	bool create = !strcmp(method, "POST") && !strcmp(path, LAMBDA_PREFIX);
	bool update = !strcmp(method, "PUT") && n > code && !strcmp(path + n - code, "/code");
	bool layer = !strcmp(method, "POST") && !strncmp(path, LAYER_PREFIX, strlen(LAYER_PREFIX));

	return create || update || layer ? HTTP_UPLOAD_MAX : HTTP_BODY_MAX;
}

/** What people, monitoring and load balancers look at. */
static void route_operator(struct http_request *r)
{
	static const struct {
		const char *path;
		void (*reply)(struct http_request *r);
	} pages[] = {
		{"/", api_status_page},
		{"/metrics", api_metrics},
		{"/healthz", api_healthz},
		{"/readyz", api_readyz},
	};

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		if (strcmp(r->path, pages[i].path) != 0)
			continue;
		if (is(r, "GET") || is(r, "HEAD"))
			pages[i].reply(r);
		else
			no_method(r, "GET");
		return;
	}
	no_route(r);
}

void api_route(struct http_request *r)
{
	if (r->too_large)
		http_reply_error(r, 413, "RequestTooLargeException",
				 "Request must be smaller than %zu bytes for this operation",
				 r->body_max);
	else if (r->too_many)
		http_reply_error(r, 429, "TooManyRequestsException",
				 "%u uploads are under way: try again later", HTTP_UPLOADS_MAX);
	else if (!strncmp(r->path, LAMBDA_PREFIX, strlen(LAMBDA_PREFIX)))
		route_lambda(r, r->path + strlen(LAMBDA_PREFIX));
	else if (!strncmp(r->path, QUICKTHAW_PREFIX, strlen(QUICKTHAW_PREFIX)))
		route_quickthaw(r, r->path + strlen(QUICKTHAW_PREFIX));
	else
		route_operator(r);
}
