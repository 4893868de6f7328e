/* SPDX-License-Identifier: Apache-2.0 */
/* api.h - the routes of the HTTP interface */
#ifndef QUICKTHAW_SNAPD_API_H
#define QUICKTHAW_SNAPD_API_H

#include <stdio.h>

#include "snapd/function.h"
#include "snapd/http_api.h"

/** api_route() - an http_router: find the handler of a request. */
void api_route(struct http_request *r);
/** api_body_max() - for http_limit_bodies(). */
size_t api_body_max(const char *method, const char *path);

/* Handlers by topic. */
void api_function_create(struct http_request *r);
void api_function_update(struct http_request *r, struct function *f, bool code);
void api_function_delete(struct http_request *r, struct function *f);
void api_function_publish(struct http_request *r, struct function *f);
void api_invoke(struct http_request *r, struct function *f, const char *qualifier);
void api_stats(struct http_request *r);
void api_metrics(struct http_request *r);
void api_status_page(struct http_request *r);
/** api_metrics_write() - what GET /metrics answers. */
void api_metrics_write(FILE *to);

/** api_rss_bytes() - resident memory of this process. */
uint64_t api_rss_bytes(void);

/** api_refuse() - reply with what is wrong with a request. */
void api_refuse(struct http_request *r, const struct field_error *e);
/** api_version() - by qualifier: a number, $LATEST, NULL for @preset; replies when there is none.
 */
struct version *api_version(struct http_request *r, struct function *f, const char *qualifier,
			    struct version *preset);

#endif
