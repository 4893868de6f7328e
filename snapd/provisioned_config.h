/* SPDX-License-Identifier: Apache-2.0 */
/* provisioned_config.h - how many instances of a version or alias are to wait for work */
#ifndef QUICKTHAW_SNAPD_PROVISIONED_CONFIG_H
#define QUICKTHAW_SNAPD_PROVISIONED_CONFIG_H

#include <jansson.h>
#include <stdint.h>

#include "snapd/field.h"
#include "snapd/qualified.h"

/** struct provisioned_config - of a published version or an alias, never of $LATEST. */
struct provisioned_config {
	struct qualified entry;
	uint32_t requested; /**< at least 1 */
	uint64_t modified_ns;
};

/** provisioned_config_parse() - ProvisionedConcurrentExecutions. Return: 0 or -EINVAL. */
int provisioned_config_parse(const json_t *root, struct provisioned_config *c,
			     struct field_error *e);
/** provisioned_config_json() - what it reads; NULL: no memory. */
json_t *provisioned_config_json(const struct provisioned_config *c);

#endif
