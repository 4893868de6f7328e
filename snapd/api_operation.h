/* SPDX-License-Identifier: Apache-2.0 */
/* api_operation.h - the operations of the interface: one table of methods and paths */
#ifndef QUICKTHAW_SNAPD_API_OPERATION_H
#define QUICKTHAW_SNAPD_API_OPERATION_H

#include <stdbool.h>
#include <stddef.h>

#include "snapd/function_name.h"

struct api_call;
struct http_request;

/** @API_BODY_MAX: enough for all that can be set, and parsed in no time by the loop. */
enum { API_ITEMS_MAX = 3, API_BODY_MAX = 512 << 10 };

/**
 * struct api_operation - one line of the table.
 * @name: as AWS's model has it, for messages
 * @path: a part in braces stands for any text without a slash: {FunctionName} and {ARN} for what
 * function_ref_parse() takes, others for items of the call; a slash at the end is the same as none
 * @query: "NAME=VALUE" that the query string must have, or NULL
 * @body_max: how long its body may be; 0: API_BODY_MAX
 * @handle: NULL for what is answered with 501
 * @handle_plain: instead, for what needs nothing of the path
 */
struct api_operation {
	const char *name;
	const char *method;
	const char *path;
	const char *query;
	size_t body_max;
	void (*handle)(const struct api_call *call);
	void (*handle_plain)(struct http_request *r);
};

/** struct api_match - the parts of a path, borrowed from it; NULL where a path has none. */
struct api_match {
	const char *function;
	size_t function_bytes;
	const char *item[API_ITEMS_MAX];
	size_t item_bytes[API_ITEMS_MAX];
};

/** typedef api_query_fn - the value of a parameter in the query string; NULL: not there. */
typedef const char *(*api_query_fn)(void *arg, const char *name);

/**
 * api_operation_find() - which operation a request is for.
 * @query: NULL: operations that want a query string are not found
 * Return: NULL when there is none of that method and path.
 */
const struct api_operation *api_operation_find(const char *method, const char *path,
					       api_query_fn query, void *arg,
					       struct api_match *ret);

/** api_operation_methods() - the methods that a path takes, "GET, PUT"; "" for an unknown path. */
void api_operation_methods(const char *path, char *buf, size_t size);

#endif
