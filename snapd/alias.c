/* SPDX-License-Identifier: Apache-2.0 */
/* alias.c - a name for one version of a function, or for two by weight */
#include "snapd/alias.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int parse_weights(const json_t *weights, struct alias *a, struct field_error *e)
{
	const char *version;
	json_t *weight;

	if (json_object_size(weights) > 1)
		return field_refuse(e, "Number of items in AdditionalVersionWeights cannot be "
				       "greater than 1");
	a->other_version = 0;
	a->other_weight = 0;
	json_object_foreach((json_t *)(uintptr_t)weights, version, weight)
	{
		if (!qualifier_number(version, &a->other_version) || !a->other_version)
			return field_refuse(e,
					    "RoutingConfig.AdditionalVersionWeights: %.100s is no "
					    "published version",
					    version);
		a->other_weight = json_number_value(weight);
		if (!json_is_number(weight) || a->other_weight < 0 || a->other_weight > 1)
			return field_refuse(e,
					    "RoutingConfig.AdditionalVersionWeights: the weight of "
					    "%s must be a number from 0 to 1",
					    version);
	}
	return 0;
}

int alias_parse(const json_t *root, struct alias *a, struct field_error *e)
{
	json_t *routing = NULL, *weights = NULL;
	char version[32] = "";
	int err = field_string(root, "FunctionVersion", 1, version, sizeof(version), e);

	if (!err && *version && !qualifier_number(version, &a->version))
		return field_refuse_value(
			e, "functionVersion", version,
			"Member must satisfy regular expression pattern: (\\$LATEST|[0-9]+)");
	if (!err)
		err = field_string(root, "Description", 0, a->description, sizeof(a->description),
				   e);
	if (!err)
		err = field_object(root, "RoutingConfig", &routing, e);
	if (!err)
		err = field_object(routing, "AdditionalVersionWeights", &weights, e);
	if (!err && routing)
		err = parse_weights(weights, a, e);
	if (!err && a->other_version && !a->version)
		return field_refuse(e, "$LATEST is not supported for an alias pointing to more "
				       "than 1 version");
	if (!err && a->other_version && a->other_version == a->version)
		return field_refuse(e,
				    "Invalid value for additional version %u: it is the "
				    "alias's FunctionVersion",
				    a->version);
	return err;
}

json_t *alias_json(const struct alias *a)
{
	char version[16];
	json_t *root = json_pack("{s:s, s:s, s:s, s:s}", "Name", a->entry.qualifier,
				 "FunctionVersion", version_number_text(a->version, version),
				 "Description", a->description, "RevisionId", a->revision);

	if (root && a->other_version)
		json_object_set_new(root, "RoutingConfig",
				    json_pack("{s:{s:f}}", "AdditionalVersionWeights",
					      version_number_text(a->other_version, version),
					      a->other_weight));
	return root;
}

uint32_t alias_choose(const struct alias *a, double point)
{
	return a->other_version && point < a->other_weight ? a->other_version : a->version;
}
