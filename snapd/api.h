/* SPDX-License-Identifier: Apache-2.0 */
/* api.h - the HTTP interface: what a request is for, and its handlers by topic */
#ifndef QUICKTHAW_SNAPD_API_H
#define QUICKTHAW_SNAPD_API_H

#include <stdio.h>

#include "snapd/api_operation.h"
#include "snapd/function.h"
#include "snapd/http_api.h"

enum { API_ITEM_MAX = 255 };

/**
 * struct api_call - a request whose path has been read.
 * @function: that the path names, or NULL when it names none; borrowed: whoever answers later takes
 * a reference
 * @qualifier: of the name or of the query string; "" for none
 * @item: the other parts of the path, in order
 */
struct api_call {
	struct http_request *http;
	struct function *function;
	char qualifier[QUALIFIER_MAX + 1];
	char item[API_ITEMS_MAX][API_ITEM_MAX + 1];
};

/** api_route() - an http_router: find the handler of a request. */
void api_route(struct http_request *r);
/** api_body_max() - for struct http_params. */
size_t api_body_max(const char *method, const char *path);

/** api_body() - the body as a JSON object (an empty one is {}); replies and returns NULL when it is
 * none. */
json_t *api_body(struct http_request *r);
/** api_refuse() - reply with what is wrong with a request. */
void api_refuse(struct http_request *r, const struct field_error *e);
/** api_no_memory() - reply that there is none. */
void api_no_memory(struct http_request *r);
/** api_waits() - X-Quickthaw-Wait: 1: the caller waits for the end of a publication. */
bool api_waits(struct http_request *r);
/** api_version() - by qualifier: a number, $LATEST, an alias, NULL or "" for @preset; replies when
 * there is none. An alias with weights chooses anew at each call. */
struct version *api_version(struct http_request *r, struct function *f, const char *qualifier,
			    struct version *preset);

/* ---- handlers ---- */

/* Of Lambda's API, by the name of the operation. */
void api_function_create(struct http_request *r);
void api_function_list(const struct api_call *call);
void api_function_get(const struct api_call *call);
void api_function_get_configuration(const struct api_call *call);
void api_function_update_configuration(const struct api_call *call);
void api_function_update_code(const struct api_call *call);
void api_function_delete(const struct api_call *call);
void api_function_publish(const struct api_call *call);
/** api_version_delete() - DeleteFunction with a qualifier. */
void api_version_delete(const struct api_call *call);
void api_function_list_versions(const struct api_call *call);
void api_account_settings(struct http_request *r);
void api_alias_create(const struct api_call *call);
void api_alias_list(const struct api_call *call);
void api_alias_get(const struct api_call *call);
void api_alias_update(const struct api_call *call);
void api_alias_delete(const struct api_call *call);
void api_concurrency_put(const struct api_call *call);
void api_concurrency_get(const struct api_call *call);
void api_concurrency_delete(const struct api_call *call);
void api_provisioned_list(const struct api_call *call);
void api_provisioned_put(const struct api_call *call);
void api_provisioned_get(const struct api_call *call);
void api_provisioned_delete(const struct api_call *call);
void api_event_invoke_put(const struct api_call *call);
void api_event_invoke_update(const struct api_call *call);
void api_event_invoke_get(const struct api_call *call);
void api_event_invoke_delete(const struct api_call *call);
void api_event_invoke_list(const struct api_call *call);
void api_url_create(const struct api_call *call);
void api_url_get(const struct api_call *call);
void api_url_update(const struct api_call *call);
void api_url_delete(const struct api_call *call);
void api_url_list(const struct api_call *call);
void api_tag_list(const struct api_call *call);
void api_tag_add(const struct api_call *call);
void api_tag_remove(const struct api_call *call);
void api_invoke_call(const struct api_call *call);
void api_invoke_stream(const struct api_call *call);
void api_invoke(struct http_request *r, struct function *f, const char *qualifier);

/** api_event_invoke() - Invoke with the type Event: 202 when it is on disk. */
void api_event_invoke(struct http_request *r, struct function *f, const char *qualifier);

void api_layer_publish(const struct api_call *call);
void api_layer_get(const struct api_call *call);
void api_layer_get_by_arn(struct http_request *r);
void api_layer_list(struct http_request *r);
void api_layer_list_versions(const struct api_call *call);
void api_layer_delete(const struct api_call *call);

/* Of Quickthaw's own. */
void api_events(struct http_request *r);
void api_function_logs(const struct api_call *call);
void api_function_warm(const struct api_call *call);
void api_capacity(struct http_request *r);
void api_stats(struct http_request *r);
void api_metrics(struct http_request *r);
void api_status_page(struct http_request *r);
/** api_metrics_write() - what GET /metrics answers. */
void api_metrics_write(FILE *to);

/** api_rss_bytes() - resident memory of this process. */
uint64_t api_rss_bytes(void);

#endif
