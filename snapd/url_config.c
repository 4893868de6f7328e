/* SPDX-License-Identifier: Apache-2.0 */
/* url_config.c - a function's own HTTP endpoint: who may use it, and from which pages */
#include "snapd/url_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/util.h"
#include "snapd/uuid.h"

enum { CORS_MAX_AGE_S = 86400, CORS_TEXT_MAX = 253 };

static const char *const auth_types[] = {"NONE", "AWS_IAM"};
static const char *const invoke_modes[] = {"BUFFERED", "RESPONSE_STREAM"};

static const struct {
	const char *key;
	size_t items_max, bytes_max;
} cors_lists[] = {
	{"AllowHeaders", 100, 1024},
	{"AllowMethods", 6, 6},
	{"AllowOrigins", 100, CORS_TEXT_MAX},
	{"ExposeHeaders", 100, 1024},
};

static const char *served_at; /* NULL: nowhere */

void url_config_init(struct url_config *c)
{
	char uuid[UUID_CHARS + 1], *to = c->id;

	uuid_make(uuid);
	for (const char *from = uuid; *from; from++)
		if (*from != '-')
			*to++ = *from;
	*to = '\0';
	c->created_ns = c->modified_ns = clock_real_ns();
}

void url_config_free(struct url_config *c)
{
	if (!c)
		return;
	json_decref(c->cors);
	free(c);
}

static int check_cors_list(const json_t *cors, size_t kind, struct field_error *e)
{
	const char *key = cors_lists[kind].key;
	json_t *list, *item;
	size_t i;
	int err = field_array(cors, key, &list, e);

	if (err)
		return err;
	if (json_array_size(list) > cors_lists[kind].items_max)
		return field_refuse(e, "Cors.%s: at most %zu items", key,
				    cors_lists[kind].items_max);
	json_array_foreach(list, i, item)
	{
		const char *text = json_string_value(item);

		/* They become headers of replies. */
		if (!text || strpbrk(text, "\r\n") || strlen(text) != json_string_length(item) ||
		    strlen(text) > cors_lists[kind].bytes_max)
			return field_refuse(e, "Cors.%s: strings of one line, at most %zu bytes",
					    key, cors_lists[kind].bytes_max);
	}
	return 0;
}

static int parse_cors(const json_t *cors, json_t **ret, struct field_error *e)
{
	uint32_t max_age = 0;
	bool credentials = false;
	json_t *copy;
	int err = field_bool(cors, "AllowCredentials", &credentials, e);

	if (!err)
		err = field_u32(cors, "MaxAge", 0, CORS_MAX_AGE_S, &max_age, e);
	for (size_t i = 0; !err && i < ARRAY_SIZE(cors_lists); i++)
		err = check_cors_list(cors, i, e);
	if (err)
		return err;
	copy = json_object();
	if (field_is_set(cors, "AllowCredentials"))
		json_object_set_new(copy, "AllowCredentials", json_boolean(credentials));
	if (field_is_set(cors, "MaxAge"))
		json_object_set_new(copy, "MaxAge", json_integer(max_age));
	for (size_t i = 0; i < ARRAY_SIZE(cors_lists); i++)
		if (field_is_set(cors, cors_lists[i].key))
			json_object_set_new(
				copy, cors_lists[i].key,
				json_deep_copy(json_object_get(cors, cors_lists[i].key)));
	json_decref(*ret);
	*ret = copy;
	return copy ? 0 : field_no_memory(e);
}

int url_config_parse(const json_t *root, struct url_config *c, struct field_error *e)
{
	unsigned auth = c->iam, mode = c->stream;
	json_t *cors = NULL;
	int err = field_choice(root, "AuthType", auth_types, ARRAY_SIZE(auth_types), &auth, e);

	if (!err)
		err = field_choice(root, "InvokeMode", invoke_modes, ARRAY_SIZE(invoke_modes),
				   &mode, e);
	if (!err)
		err = field_object(root, "Cors", &cors, e);
	if (!err && cors)
		err = parse_cors(cors, &c->cors, e);
	c->iam = auth;
	c->stream = mode;
	return err;
}

json_t *url_config_json(const struct url_config *c)
{
	json_t *root = json_pack("{s:s, s:s}", "AuthType", auth_types[c->iam], "InvokeMode",
				 invoke_modes[c->stream]);

	if (root && c->cors)
		json_object_set(root, "Cors", c->cors);
	return root;
}

void url_config_serve_at(const char *address)
{
	served_at = address;
}

const char *url_config_text(const struct url_config *c, char buf[URL_TEXT_MAX + 1])
{
	if (served_at)
		snprintf(buf, URL_TEXT_MAX + 1, "http://%s/%s/", served_at, c->id);
	else
		snprintf(buf, URL_TEXT_MAX + 1, "http://%s.lambda-url.local.on.aws/", c->id);
	return buf;
}
