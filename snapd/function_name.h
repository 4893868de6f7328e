/* SPDX-License-Identifier: Apache-2.0 */
/*
 * function_name.h - how requests name functions, versions and aliases
 *
 *   my-function                                              my-function:7
 *   000000000000:function:my-function                        000000000000:function:my-function:prod
 *   arn:aws:lambda:local:000000000000:function:my-function   the same with :$LATEST
 *
 * The partition, region and account of an ARN are not looked at: whoever may talk to this snapd
 * sees all its functions, and clients are set up for all kinds of regions.
 */
#ifndef QUICKTHAW_SNAPD_FUNCTION_NAME_H
#define QUICKTHAW_SNAPD_FUNCTION_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FUNCTION_NAME_MAX = 64,
	FUNCTION_VERSIONS_MAX = 100000,
	QUALIFIER_MAX = 128,
	FUNCTION_NAME_ARN_MAX = 255, /* with a qualifier */
};

#define QUALIFIER_LATEST "$LATEST"

/** struct function_ref - what such a text names. @qualifier: "" when it has none */
struct function_ref {
	char name[FUNCTION_NAME_MAX + 1];
	char qualifier[QUALIFIER_MAX + 1];
};

/** function_ref_parse() - Return: 0, or -EINVAL when the @n bytes are nothing of the kind. */
int function_ref_parse(const char *text, size_t n, struct function_ref *ret);

/** function_name_ok() - 1 to 64 letters, digits, - and _: also what the file system sees. */
bool function_name_ok(const char *name);
/** alias_name_ok() - 1 to 128 letters, digits, - and _, and no number. */
bool alias_name_ok(const char *name);

/** qualifier_ok() - could it be one: a version, $LATEST or the name of an alias? */
bool qualifier_ok(const char *text);
/** qualifier_number() - of a version: 0 for $LATEST. Return: false when it is no version. */
bool qualifier_number(const char *text, uint32_t *ret);
/** version_number_text() - "$LATEST" or the number, into @buf. Return: @buf. */
const char *version_number_text(uint32_t number, char buf[16]);

/** function_arn() - of a function, or with a @qualifier that is not "" or NULL. Return: @buf. */
const char *function_arn(const char *name, const char *qualifier,
			 char buf[FUNCTION_NAME_ARN_MAX + 1]);

#endif
