/* SPDX-License-Identifier: Apache-2.0 */
/*
 * function_control.h - what is set for a function besides its versions
 *
 * Pointers into it are valid until the loop's next turn: a change replaces the whole
 * (function_change.h), so that what is served and what is on disk never differ in half.
 */
#ifndef QUICKTHAW_SNAPD_FUNCTION_CONTROL_H
#define QUICKTHAW_SNAPD_FUNCTION_CONTROL_H

#include <jansson.h>
#include <stdint.h>

#include "snapd/alias.h"
#include "snapd/event_invoke_config.h"
#include "snapd/field.h"
#include "snapd/provisioned_config.h"
#include "snapd/url_config.h"

enum { CONTROL_BYTES_MAX = 1 << 20, TAGS_MAX = 50, TAG_KEY_MAX = 128, TAG_VALUE_MAX = 256 };

/**
 * struct function_control - one function's.
 * @reserved_concurrency: invocations at a time that are kept for it, and its limit; -1: none
 * @last_number: the function's when this was written: after a version is deleted, its number is not
 * used again
 * @tags: object of strings
 * @aliases: of struct alias; @provisioned: of struct provisioned_config; @event_invokes: of struct
 * event_invoke_config; @urls: of struct url_config
 */
struct function_control {
	int32_t reserved_concurrency;
	uint32_t last_number;
	json_t *tags;
	struct qualified *aliases;
	struct qualified *provisioned;
	struct qualified *event_invokes;
	struct qualified *urls;
};

/** function_control_init() - nothing set. Return: 0 or -ENOMEM. */
int function_control_init(struct function_control *c);
void function_control_free(struct function_control *c);
/** function_control_copy() - Return: 0 or -ENOMEM. */
int function_control_copy(const struct function_control *from, struct function_control *ret);

/** function_control_text() - as control.json has it; malloc'ed. NULL: no memory. */
char *function_control_text(const struct function_control *c);
/** function_control_parse() - believes nothing. Return: 0, -ENOMEM, or -EINVAL with @e. */
int function_control_parse(const char *text, struct function_control *ret, struct field_error *e);

/** Each by its qualifier ("$LATEST" for the function itself); NULL: there is none. */
struct alias *control_alias(const struct function_control *c, const char *name);
struct provisioned_config *control_provisioned(const struct function_control *c,
					       const char *qualifier);
struct event_invoke_config *control_event_invoke(const struct function_control *c,
						 const char *qualifier);
struct url_config *control_url(const struct function_control *c, const char *qualifier);

/** function_control_forget() - an alias or a version goes, with all that is set for it. */
void function_control_forget(struct function_control *c, const char *qualifier);

/** tags_check() - as Lambda wants them. @tags: an object. Return: 0 or -EINVAL. */
int tags_check(const json_t *tags, struct field_error *e);

#endif
