/* SPDX-License-Identifier: Apache-2.0 */
/* api.c - find what a request is for, and call its handler */
#include "snapd/api.h"

#include <stdlib.h>
#include <string.h>

#include "snapd/takeover.h"

void api_refuse(struct http_request *r, const struct field_error *e)
{
	http_reply_error(r, e->status, e->type, "%s", e->text);
}

bool api_waits(struct http_request *r)
{
	const char *text = http_header(r, "X-Quickthaw-Wait");

	return text && !strcmp(text, "1");
}

void api_no_memory(struct http_request *r)
{
	http_reply_error(r, 500, "ServiceException", "out of memory");
}

json_t *api_body(struct http_request *r)
{
	json_error_t err = {.text = "not an object"};
	json_t *root = r->body_bytes ? json_loadb(r->body, r->body_bytes, 0, &err) : json_object();

	if (json_is_object(root))
		return root;
	json_decref(root);
	http_reply_error(r, 400, "InvalidRequestContentException",
			 "Could not parse request body into json: %s", err.text);
	return NULL;
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

void api_invoke_call(const struct api_call *call)
{
	api_invoke(call->http, call->function, call->qualifier);
}

/* ---- what the path says ---------------------------------------------------------------------- */

/** Name and qualifier. Return: false after a reply. */
static bool find_function(struct api_call *call, const struct api_match *match)
{
	const char *query = http_query(call->http, "Qualifier");
	char arn[FUNCTION_NAME_ARN_MAX + 1];
	struct function_ref ref;
	struct field_error e;
	char text[101];

	if (function_ref_parse(match->function, match->function_bytes, &ref)) {
		snprintf(text, sizeof(text), "%.*s", (int)match->function_bytes, match->function);
		field_refuse_value(&e, "FunctionName", text,
				   "Member must be a name of 1 to 64 letters, digits, - and _, "
				   "NAME:QUALIFIER or an ARN of a function");
		api_refuse(call->http, &e);
		return false;
	}
	if (query && *query) {
		if (*ref.qualifier && strcmp(ref.qualifier, query) != 0)
			field_refuse(&e, "The derived qualifier from the function name does not "
					 "match the specified qualifier.");
		else if (!qualifier_ok(query))
			field_refuse_value(&e, "Qualifier", query,
					   "Member must be a version, $LATEST or an alias");
		else
			query = memcpy(ref.qualifier, query,
				       strlen(query) + 1); /* qualifier_ok() */
		if (query != ref.qualifier) {
			api_refuse(call->http, &e);
			return false;
		}
	}
	memcpy(call->qualifier, ref.qualifier, sizeof(ref.qualifier));
	call->function = functions_find(ref.name);
	if (!call->function)
		http_reply_error(call->http, 404, "ResourceNotFoundException",
				 "Function not found: %s",
				 function_arn(ref.name, ref.qualifier, arn));
	return call->function;
}

/** Return: false after a reply. */
static bool copy_items(struct api_call *call, const struct api_match *match)
{
	for (int i = 0; i < API_ITEMS_MAX; i++) {
		if (match->item_bytes[i] > API_ITEM_MAX) {
			http_reply_error(call->http, 400, "ValidationException",
					 "a part of the path is longer than %d bytes",
					 API_ITEM_MAX);
			return false;
		}
		if (match->item[i])
			memcpy(call->item[i], match->item[i], match->item_bytes[i]);
		call->item[i][match->item_bytes[i]] = '\0';
	}
	return true;
}

/* ---- dispatch -------------------------------------------------------------------------------- */

static void no_operation(struct http_request *r)
{
	char methods[64];

	api_operation_methods(r->path, methods, sizeof(methods));
	if (*methods)
		http_reply_error(r, 405, "MethodNotAllowedException", "%s does not take %s, but %s",
				 r->path, r->method, methods);
	else
		http_reply_error(r, 404, "UnknownOperationException", "there is no %s %s here",
				 r->method, r->path);
}

static const char *query_of(void *arg, const char *name)
{
	return http_query(arg, name);
}

size_t api_body_max(const char *method, const char *path)
{
	struct api_match match;
	const struct api_operation *op = api_operation_find(method, path, NULL, NULL, &match);

	if (!op)
		return HTTP_BODY_MAX; /* of a function URL, where every path is the function's */
	return op->body_max ? op->body_max : API_BODY_MAX;
}

static void dispatch(struct http_request *r)
{
	struct api_match match;
	const struct api_operation *op =
		api_operation_find(r->method, r->path, query_of, r, &match);
	struct api_call call;

	if (!op) {
		no_operation(r);
	} else if (op->handle_plain) {
		op->handle_plain(r);
	} else if (!op->handle) {
		http_reply_error(r, 501, "NotImplementedException",
				 "%s is an operation of AWS Lambda that Quickthaw does not have",
				 op->name);
	} else {
		call.http = r;
		call.function = NULL;
		call.qualifier[0] = '\0';
		if (copy_items(&call, &match) && (!match.function || find_function(&call, &match)))
			op->handle(&call);
	}
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
	else if (takeover_is_given()) {
		/* On a connection from before: what is new goes to the one that serves now. */
		http_reply_error(r, 503, "ServiceException",
				 "another snapd takes over: try again, on a new connection");
	} else
		dispatch(r);
}
