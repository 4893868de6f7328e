/* SPDX-License-Identifier: Apache-2.0 */
/* alias.h - a name for one version of a function, or for two by weight */
#ifndef QUICKTHAW_SNAPD_ALIAS_H
#define QUICKTHAW_SNAPD_ALIAS_H

#include <jansson.h>
#include <stdint.h>

#include "snapd/field.h"
#include "snapd/qualified.h"
#include "snapd/uuid.h"

enum { ALIAS_DESCRIPTION_MAX = 256 };

/**
 * struct alias - RoutingConfig has at most one more version, as Lambda's has.
 * @version: 0: $LATEST
 * @other_version: 0: none
 * @other_weight: part of the invocations that it gets, from 0 to 1
 */
struct alias {
	struct qualified entry;
	uint32_t version;
	uint32_t other_version;
	double other_weight;
	char description[ALIAS_DESCRIPTION_MAX + 1];
	char revision[UUID_CHARS + 1];
};

/**
 * alias_parse() - FunctionVersion, Description and RoutingConfig of a request; what is absent
 * stays. Whether the versions exist is the caller's to see. Return: 0 or -EINVAL.
 */
int alias_parse(const json_t *root, struct alias *a, struct field_error *e);
/** alias_json() - what alias_parse() reads, with Name and RevisionId; NULL: no memory. */
json_t *alias_json(const struct alias *a);

/** alias_choose() - the version that an invocation gets. @point: random, 0 <= @point < 1 */
uint32_t alias_choose(const struct alias *a, double point);

#endif
