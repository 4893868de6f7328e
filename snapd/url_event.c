/* SPDX-License-Identifier: Apache-2.0 */
/* url_event.c - an HTTP request as an event of payload format 2.0, a function's result as a reply
 */
#include "snapd/url_event.h"

#include <ctype.h>
#include <errno.h>
#include <nettle/base64.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/clock.h"
#include "common/util.h"
#include "snapd/base64.h"

enum { STATUS_MIN = 200, STATUS_MAX = 599 };

/* ---- the event ------------------------------------------------------------------------------- */

/** Append to a member of @object, behind a comma where there is something already. */
static void join(json_t *object, const char *key, const char *value)
{
	const char *before = json_string_value(json_object_get(object, key));

	if (before)
		json_object_set_new(object, key, json_sprintf("%s,%s", before, value));
	else
		json_object_set_new(object, key, json_string(value));
}

static const char *header(const struct url_request *r, const char *name)
{
	for (size_t i = 0; i < r->header_count; i++)
		if (!strcasecmp(r->headers[i].name, name))
			return r->headers[i].value;
	return NULL;
}

static json_t *make_headers(const struct url_request *r)
{
	json_t *headers = json_object();
	char name[256];

	for (size_t i = 0; headers && i < r->header_count; i++) {
		size_t n = 0;

		if (!strcasecmp(r->headers[i].name, "cookie"))
			continue; /* in "cookies" */
		for (const char *at = r->headers[i].name; *at && n < sizeof(name) - 1; at++)
			name[n++] = (char)tolower((unsigned char)*at);
		name[n] = '\0';
		join(headers, name, r->headers[i].value);
	}
	return headers;
}

/** "a=1; b=2" is two cookies. NULL: there are none. */
static json_t *make_cookies(const struct url_request *r)
{
	json_t *cookies = NULL;

	for (size_t i = 0; i < r->header_count; i++) {
		const char *at = r->headers[i].value;

		if (strcasecmp(r->headers[i].name, "cookie"))
			continue;
		if (!cookies)
			cookies = json_array();
		while (*at) {
			size_t n;

			at += strspn(at, "; ");
			n = strcspn(at, ";");
			if (n)
				json_array_append_new(cookies, json_stringn(at, n));
			at += n;
		}
	}
	return cookies;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/** Percent-decode [at, end) into @to, with a NUL. Return: behind the NUL. */
static char *decode(char *to, const char *at, const char *end)
{
	while (at < end) {
		if (*at == '%' && end - at >= 3 && hex_value(at[1]) >= 0 && hex_value(at[2]) >= 0) {
			*to++ = (char)(hex_value(at[1]) << 4 | hex_value(at[2]));
			at += 3;
		} else {
			*to++ = *at == '+' ? ' ' : *at;
			at++;
		}
	}
	*to = '\0';
	return to + 1;
}

/** Values of one name are joined by commas. NULL: there are none, or no memory. */
static json_t *make_parameters(const char *query)
{
	char *text = *query ? malloc(strlen(query) + 2) : NULL;
	json_t *parameters = text ? json_object() : NULL;

	while (parameters && *query) {
		const char *end = strchrnul(query, '&');
		const char *equals = memchr(query, '=', (size_t)(end - query));
		char *value = decode(text, query, equals ? equals : end);

		decode(value, equals ? equals + 1 : end, end);
		if (end > query)
			join(parameters, text, value);
		query = *end ? end + 1 : end;
	}
	free(text);
	return parameters;
}

static bool is_text(const char *content_type)
{
	static const char *const types[] = {"text/", "application/json", "application/javascript",
					    "application/xml", "application/x-www-form-urlencoded"};

	for (size_t i = 0; content_type && i < ARRAY_SIZE(types); i++)
		if (!strncasecmp(content_type, types[i], strlen(types[i])))
			return true;
	return content_type &&
	       (strcasestr(content_type, "+json") || strcasestr(content_type, "+xml"));
}

/** Text as it is, the rest in base64. Return: 0 or -ENOMEM. */
static int add_body(json_t *event, const struct url_request *r)
{
	json_t *text = NULL;
	char *base64;
	size_t n = BASE64_ENCODE_RAW_LENGTH(r->body_bytes);

	if (!r->body_bytes)
		return 0;
	if (is_text(header(r, "content-type")))
		text = json_stringn(r->body, r->body_bytes); /* NULL when it is not UTF-8 */
	json_object_set_new(event, "isBase64Encoded", json_boolean(!text));
	if (text)
		return json_object_set_new(event, "body", text) ? -ENOMEM : 0;
	base64 = malloc(n);
	if (!base64)
		return -ENOMEM;
	base64_encode_raw(base64, r->body_bytes, (const uint8_t *)r->body);
	text = json_stringn_nocheck(base64, n);
	free(base64);
	return json_object_set_new(event, "body", text) ? -ENOMEM : 0;
}

static json_t *make_context(const struct url_request *r, const char *path)
{
	time_t seconds = (time_t)(r->time_ns / NSEC_PER_SEC);
	const char *agent = header(r, "user-agent");
	char when[64];
	json_t *context;
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(when, sizeof(when), "%d/%b/%Y:%H:%M:%S +0000", &tm);
	context = json_pack(
		"{s:s, s:s, s:s, s:s, s:{s:s, s:s, s:s, s:s, s:s}, s:s, s:s, s:s, s:s, s:I}",
		"accountId", r->access_key ? "000000000000" : "anonymous", "apiId", r->id,
		"domainName", r->domain, "domainPrefix", r->id, "http", "method", r->method, "path",
		path, "protocol", r->protocol, "sourceIp", r->source_ip, "userAgent",
		agent ? agent : "", "requestId", r->request_id, "routeKey", "$default", "stage",
		"$default", "time", when, "timeEpoch", (json_int_t)(r->time_ns / 1000000));
	if (context && r->access_key)
		json_object_set_new(context, "authorizer",
				    json_pack("{s:{s:s, s:s}}", "iam", "accessKey", r->access_key,
					      "accountId", "000000000000"));
	return context;
}

char *url_event_make(const struct url_request *r)
{
	const char *query = strchrnul(r->uri, '?');
	char *path = strndup(r->uri, (size_t)(query - r->uri)), *text = NULL;
	json_t *parameters, *cookies, *event;

	query += *query == '?';
	parameters = make_parameters(query);
	cookies = make_cookies(r);
	event = json_pack("{s:s, s:s, s:s, s:s, s:o*, s:o, s:o*, s:o, s:b}", "version", "2.0",
			  "routeKey", "$default", "rawPath", path ? path : "", "rawQueryString",
			  query, "cookies", cookies, "headers", make_headers(r),
			  "queryStringParameters", parameters, "requestContext",
			  make_context(r, path ? path : ""), "isBase64Encoded", 0);
	if (event && path && !add_body(event, r))
		text = json_dumps(event, JSON_COMPACT);
	json_decref(event);
	free(path);
	return text;
}

/* ---- the reply ------------------------------------------------------------------------------- */

static bool all_strings(const json_t *array)
{
	for (size_t i = 0; i < json_array_size(array); i++)
		if (!json_is_string(json_array_get(array, i)))
			return false;
	return true;
}

/** Strings, numbers and booleans become the text of a header. Return: NULL without memory. */
static json_t *texts_of(json_t *headers)
{
	json_t *texts = json_object(), *value;
	const char *key;

	json_object_foreach(headers, key, value)
	{
		char *text = json_is_string(value)
				     ? NULL
				     : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

		if (json_is_string(value))
			json_object_set(texts, key, value);
		else if (text && !json_is_object(value) && !json_is_array(value))
			json_object_set_new(texts, key, json_string(text));
		free(text);
	}
	return texts;
}

/** As a number, or as a text that is one; 0: neither. */
static json_int_t status_code(const json_t *status)
{
	const char *text = json_string_value(status);
	json_int_t code;
	char *end;

	if (!text)
		return json_integer_value(status);
	code = strtoll(text, &end, 10);
	return *end ? 0 : code;
}

static int parse_structured(struct url_reply *reply, json_t *status)
{
	json_t *headers = json_object_get(reply->root, "headers");
	json_t *cookies = json_object_get(reply->root, "cookies");
	json_t *body = json_object_get(reply->root, "body");
	json_int_t code = status_code(status);

	if (code < STATUS_MIN || code > STATUS_MAX)
		return -EBADMSG;
	reply->status = (unsigned)code;
	if (json_is_object(headers)) {
		json_object_set_new(reply->root, "headers", texts_of(headers));
		reply->headers = json_object_get(reply->root, "headers");
	}
	if (json_is_array(cookies) && all_strings(cookies))
		reply->cookies = cookies;
	reply->body = "";
	reply->body_bytes = 0;
	if (json_is_string(body)) {
		reply->body = json_string_value(body);
		reply->body_bytes = json_string_length(body);
	} else if (body && !json_is_null(body)) {
		reply->decoded = json_dumps(body, JSON_ENCODE_ANY | JSON_COMPACT);
		reply->body = reply->decoded;
		reply->body_bytes = reply->decoded ? strlen(reply->decoded) : 0;
	}
	if (!json_is_true(json_object_get(reply->root, "isBase64Encoded")) || reply->decoded)
		return reply->body ? 0 : -ENOMEM;
	if (base64_decode(reply->body, &reply->decoded, &reply->body_bytes))
		return -EBADMSG;
	reply->body = reply->decoded;
	return 0;
}

int url_reply_parse(const char *payload, size_t n, struct url_reply *ret)
{
	json_t *status;

	*ret = (struct url_reply){.status = 200, .body = payload, .body_bytes = n};
	ret->root = json_loadb(payload, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	status = json_object_get(ret->root, "statusCode");
	return status ? parse_structured(ret, status) : 0;
}

void url_reply_free(struct url_reply *reply)
{
	json_decref(reply->root);
	free(reply->decoded);
}

/* ---- pages of other origins ------------------------------------------------------------------ */

/** "a,b" of a list; NULL: there is none. */
static char *joined(const json_t *config, const char *key)
{
	const json_t *list = json_object_get(config, key);
	size_t bytes = 1;
	char *text, *to;

	for (size_t i = 0; i < json_array_size(list); i++)
		bytes += json_string_length(json_array_get(list, i)) + 1;
	text = to = json_array_size(list) ? malloc(bytes) : NULL;
	for (size_t i = 0; text && i < json_array_size(list); i++)
		to += sprintf(to, "%s%s", i ? "," : "", json_string_value(json_array_get(list, i)));
	return text;
}

/** The origin itself, or "*" where all may and no credentials are sent. */
static char *allowed_origin(const json_t *config, const char *origin, bool credentials)
{
	const json_t *list = json_object_get(config, "AllowOrigins");

	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *one = json_string_value(json_array_get(list, i));

		if (!strcmp(one, "*"))
			return strdup(credentials ? origin : "*");
		if (!strcasecmp(one, origin))
			return strdup(origin);
	}
	return NULL;
}

bool url_cors_make(const json_t *config, const char *origin, struct url_cors *ret)
{
	json_t *age = json_object_get(config, "MaxAge");

	*ret = (struct url_cors){0};
	if (!config || !origin)
		return false;
	ret->allow_credentials = json_is_true(json_object_get(config, "AllowCredentials"));
	ret->allow_origin = allowed_origin(config, origin, ret->allow_credentials);
	if (!ret->allow_origin)
		return false;
	ret->allow_methods = joined(config, "AllowMethods");
	ret->allow_headers = joined(config, "AllowHeaders");
	ret->expose_headers = joined(config, "ExposeHeaders");
	ret->max_age = json_is_integer(age) ? json_dumps(age, JSON_ENCODE_ANY) : NULL;
	return true;
}

void url_cors_free(struct url_cors *cors)
{
	free(cors->allow_origin);
	free(cors->allow_methods);
	free(cors->allow_headers);
	free(cors->expose_headers);
	free(cors->max_age);
}
