/* SPDX-License-Identifier: Apache-2.0 */
/* provisioned_config.c - how many instances of a version or alias are to wait for work */
#include "snapd/provisioned_config.h"

#include <errno.h>
#include <limits.h>

int provisioned_config_parse(const json_t *root, struct provisioned_config *c,
			     struct field_error *e)
{
	static const char key[] = "ProvisionedConcurrentExecutions";

	if (!field_is_set(root, key))
		return field_refuse_value(e, key, "null", "Member must not be null");
	return field_u32(root, key, 1, INT_MAX, &c->requested, e);
}

json_t *provisioned_config_json(const struct provisioned_config *c)
{
	return json_pack("{s:I}", "ProvisionedConcurrentExecutions", (json_int_t)c->requested);
}
