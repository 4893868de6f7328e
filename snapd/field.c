/* SPDX-License-Identifier: Apache-2.0 */
/* field.c - check the fields of a request, and refuse them in Lambda's words */
#include "snapd/field.h"

#include <ctype.h>
#include <errno.h>
#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int field_refuse(struct field_error *e, const char *fmt, ...)
{
	va_list ap;

	e->status = 400;
	e->type = "InvalidParameterValueException";
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

int field_refuse_as(struct field_error *e, unsigned status, const char *type, const char *fmt, ...)
{
	va_list ap;

	e->status = status;
	e->type = type;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

int field_no_memory(struct field_error *e)
{
	e->status = 500;
	e->type = "ServiceException";
	snprintf(e->text, sizeof(e->text), "out of memory");
	return -ENOMEM;
}

int field_refuse_value(struct field_error *e, const char *key, const char *value, const char *fmt,
		       ...)
{
	char rule[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(rule, sizeof(rule), fmt, ap);
	va_end(ap);
	e->status = 400;
	e->type = "ValidationException";
	snprintf(e->text, sizeof(e->text),
		 "1 validation error detected: Value '%.100s' at '%c%s' failed to satisfy "
		 "constraint: %s",
		 value, tolower((unsigned char)*key), key + (*key != '\0'), rule);
	return -EINVAL;
}

static int refuse_kind(struct field_error *e, const char *key, const json_t *v, const char *wanted)
{
	static const char *const kinds[] = {
		[JSON_OBJECT] = "START_OBJECT", [JSON_ARRAY] = "START_ARRAY",
		[JSON_STRING] = "STRING_VALUE", [JSON_INTEGER] = "NUMBER_VALUE",
		[JSON_REAL] = "DECIMAL_VALUE",	[JSON_TRUE] = "TRUE_VALUE",
		[JSON_FALSE] = "FALSE_VALUE",	[JSON_NULL] = "NULL_VALUE",
	};

	e->status = 400;
	e->type = "SerializationException";
	snprintf(e->text, sizeof(e->text), "%s: %s can not be converted to %s", key,
		 kinds[json_typeof(v)], wanted);
	return -EINVAL;
}

static json_t *get(const json_t *root, const char *key)
{
	json_t *v = json_object_get(root, key);

	return json_is_null(v) ? NULL : v;
}

bool field_is_set(const json_t *root, const char *key)
{
	return get(root, key);
}

int field_string(const json_t *root, const char *key, size_t min, char *ret, size_t size,
		 struct field_error *e)
{
	const json_t *v = get(root, key);
	const char *s = json_string_value(v);

	if (!v)
		return 0;
	if (!s)
		return refuse_kind(e, key, v, "a String");
	if (strlen(s) != json_string_length(v))
		return field_refuse(e, "%s: has a NUL byte", key);
	if (strlen(s) < min)
		return field_refuse_value(
			e, key, s, "Member must have length greater than or equal to %zu", min);
	if (strlen(s) >= size)
		return field_refuse_value(
			e, key, s, "Member must have length less than or equal to %zu", size - 1);
	memcpy(ret, s, strlen(s) + 1);
	return 0;
}

int field_u32(const json_t *root, const char *key, uint32_t min, uint32_t max, uint32_t *ret,
	      struct field_error *e)
{
	const json_t *v = get(root, key);
	json_int_t n = json_integer_value(v);
	char text[32];

	if (!v)
		return 0;
	if (!json_is_integer(v))
		return refuse_kind(e, key, v, "Integer");
	snprintf(text, sizeof(text), "%lld", (long long)n);
	if (n < min)
		return field_refuse_value(
			e, key, text, "Member must have value greater than or equal to %u", min);
	if (n > max)
		return field_refuse_value(e, key, text,
					  "Member must have value less than or equal to %u", max);
	*ret = (uint32_t)n;
	return 0;
}

int field_bool(const json_t *root, const char *key, bool *ret, struct field_error *e)
{
	const json_t *v = get(root, key);

	if (!v)
		return 0;
	if (!json_is_boolean(v))
		return refuse_kind(e, key, v, "Boolean");
	*ret = json_is_true(v);
	return 0;
}

int field_choice(const json_t *root, const char *key, const char *const *names, size_t count,
		 unsigned *ret, struct field_error *e)
{
	const json_t *v = get(root, key);
	const char *s = json_string_value(v);
	char all[200] = "";

	if (!v)
		return 0;
	if (!s)
		return refuse_kind(e, key, v, "a String");
	for (size_t i = 0; i < count; i++) {
		if (!strcmp(s, names[i])) {
			*ret = (unsigned)i;
			return 0;
		}
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i ? ", " : "",
			 names[i]);
	}
	return field_refuse_value(e, key, s, "Member must satisfy enum value set: [%s]", all);
}

int field_object(const json_t *root, const char *key, json_t **ret, struct field_error *e)
{
	*ret = get(root, key);
	if (*ret && !json_is_object(*ret))
		return refuse_kind(e, key, *ret, "a map");
	return 0;
}

int field_array(const json_t *root, const char *key, json_t **ret, struct field_error *e)
{
	*ret = get(root, key);
	if (*ret && !json_is_array(*ret))
		return refuse_kind(e, key, *ret, "a list");
	return 0;
}

bool field_matches(const char *text, const char *expression)
{
	char whole[512];
	regex_t regex;
	bool ret;

	snprintf(whole, sizeof(whole), "^(%s)$", expression);
	if (regcomp(&regex, whole, REG_EXTENDED | REG_NOSUB))
		return false;
	ret = !regexec(&regex, text, 0, NULL, 0);
	regfree(&regex);
	return ret;
}
