/* SPDX-License-Identifier: Apache-2.0 */
/* url_config.h - a function's own HTTP endpoint: who may use it, and from which pages */
#ifndef QUICKTHAW_SNAPD_URL_CONFIG_H
#define QUICKTHAW_SNAPD_URL_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "snapd/field.h"
#include "snapd/qualified.h"

enum { URL_ID_CHARS = 32, URL_TEXT_MAX = 255 };

/**
 * struct url_config - of $LATEST (which is what the bare function name means here) or an alias.
 * @id: names the endpoint: random letters and digits, the same as long as it exists
 * @iam: AuthType AWS_IAM: requests are signed; else NONE
 * @stream: InvokeMode RESPONSE_STREAM, else BUFFERED
 * @cors: checked object in the shape of the API, or NULL
 */
struct url_config {
	struct qualified entry;
	char id[URL_ID_CHARS + 1];
	bool iam;
	bool stream;
	json_t *cors;
	uint64_t created_ns;
	uint64_t modified_ns;
};

/** url_config_init() - a new one: its id and times. */
void url_config_init(struct url_config *c);
/** url_config_free() - with the entry's memory; NULL is legal. */
void url_config_free(struct url_config *c);
/** url_config_parse() - AuthType, Cors, InvokeMode; what is absent stays. Return: 0 or -EINVAL. */
int url_config_parse(const json_t *root, struct url_config *c, struct field_error *e);
/** url_config_json() - what it reads; NULL: no memory. */
json_t *url_config_json(const struct url_config *c);
/** url_config_serve_at() - where URLs are served from now on: HOST:PORT, which stays the caller's.
 */
void url_config_serve_at(const char *address);
/** url_config_text() - FunctionUrl: where it is served, into @buf; where it is not, the name that
 * it would have. Return: @buf. */
const char *url_config_text(const struct url_config *c, char buf[URL_TEXT_MAX + 1]);

#endif
