/* SPDX-License-Identifier: Apache-2.0 */
/* api_code.h - code in requests: long bodies, where code comes from, why it is refused, downloads
 */
#ifndef QUICKTHAW_SNAPD_API_CODE_H
#define QUICKTHAW_SNAPD_API_CODE_H

#include <jansson.h>

#include "snapd/api.h"
#include "snapd/code.h"
#include "snapd/field.h"
#include "snapd/function.h"
#include "snapd/http_api.h"

/** typedef api_body_fn - @root: a JSON object, the callee's. @f as given, and still referenced. */
typedef void (*api_body_fn)(struct http_request *r, struct function *f, json_t *root);

/**
 * api_body_read() - the body of a request as a JSON object (an empty body is {}); a long one is
 * parsed by the worker. Calls @then, now or later, or replies that it is none.
 * @f: held meanwhile; a reply says so if it is deleted; NULL: none
 */
void api_body_read(struct http_request *r, struct function *f, api_body_fn then);

/**
 * api_code_parse() - "Code" of CreateFunction, "Content" of PublishLayerVersion, or the body of
 * UpdateFunctionCode: exactly one of ZipFile, Directory and OciImage.
 * @r: may who sends it name paths of this host?
 * Return: 0, -EINVAL with @e filled in, or -ENOMEM. Free @ret with code_source_free().
 */
int api_code_parse(const struct http_request *r, const json_t *code, struct code_source *ret,
		   struct field_error *e);

/** api_code_refuse() - reply to what code_stage() said. */
void api_code_refuse(struct http_request *r, int err, const struct code_error *error);

#define API_CODE_PREFIX HTTP_SIGNED_PREFIX

/**
 * api_code_location() - a URL from which a package can be had as a zip file for ten minutes, by
 * whoever has the URL. @kind: "functions" or "layers". Return: a string, or NULL.
 */
json_t *api_code_location(struct http_request *r, const char *kind, const char *name,
			  uint32_t number);
/** api_code_download() - what such a URL leads to; anything but a URL of ours gets 403. */
void api_code_download(const struct api_call *call);

#endif
