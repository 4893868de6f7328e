/* SPDX-License-Identifier: Apache-2.0 */
/* api_code.h - code in requests: long bodies, where code comes from, why it is refused */
#ifndef QUICKTHAW_SNAPD_API_CODE_H
#define QUICKTHAW_SNAPD_API_CODE_H

#include <jansson.h>

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
 * Return: 0, -EINVAL with @e filled in, or -ENOMEM. Free @ret with code_source_free().
 */
int api_code_parse(const json_t *code, struct code_source *ret, struct field_error *e);

/** api_code_refuse() - reply to what code_stage() said. */
void api_code_refuse(struct http_request *r, int err, const struct code_error *error);

#endif
