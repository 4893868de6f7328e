/* SPDX-License-Identifier: Apache-2.0 */
/*
 * field.h - check the fields of a request, and refuse them in Lambda's words
 *
 * A field that is absent (or null) leaves what it would set as it was, so that the same calls serve
 * presets and updates. On a field that is wrong they fill in the error and return -EINVAL.
 */
#ifndef QUICKTHAW_SNAPD_FIELD_H
#define QUICKTHAW_SNAPD_FIELD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FIELD_ERROR_MAX = 512 };

/** struct field_error - why a request is refused: status, exception of the API, what is wrong. */
struct field_error {
	unsigned status;
	const char *type;
	char text[FIELD_ERROR_MAX];
};

/** field_refuse() - InvalidParameterValueException with a text. Return: -EINVAL. */
int field_refuse(struct field_error *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** field_refuse_as() - with a status and an exception of its own. Return: -EINVAL. */
int field_refuse_as(struct field_error *e, unsigned status, const char *type, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/** field_no_memory() - ServiceException. Return: -ENOMEM. */
int field_no_memory(struct field_error *e);

/**
 * field_refuse_value() - a ValidationException as Lambda has it.
 * @key: name of the field; @value: what it was; @rule: what Lambda says of it, for example
 * "Member must have length less than or equal to 64"
 */
int field_refuse_value(struct field_error *e, const char *key, const char *value, const char *fmt,
		       ...) __attribute__((format(printf, 4, 5)));

/** field_is_set() - is it there, and not null? */
bool field_is_set(const json_t *root, const char *key);

/** field_string() - at least @min bytes and less than @size, none of them NUL. */
int field_string(const json_t *root, const char *key, size_t min, char *ret, size_t size,
		 struct field_error *e);
/** field_u32() - an integer from @min to @max. */
int field_u32(const json_t *root, const char *key, uint32_t min, uint32_t max, uint32_t *ret,
	      struct field_error *e);
int field_bool(const json_t *root, const char *key, bool *ret, struct field_error *e);
/** field_choice() - one of @count names; @ret: its index. */
int field_choice(const json_t *root, const char *key, const char *const *names, size_t count,
		 unsigned *ret, struct field_error *e);
/** field_object() - @ret: the object (borrowed), or NULL when it is absent. */
int field_object(const json_t *root, const char *key, json_t **ret, struct field_error *e);
/** field_array() - @ret: the array (borrowed), or NULL when it is absent. */
int field_array(const json_t *root, const char *key, json_t **ret, struct field_error *e);

/**
 * field_matches() - does a text match a whole POSIX extended regular expression?
 * Bounded by the text, which the caller keeps short.
 */
bool field_matches(const char *text, const char *expression);

#endif
