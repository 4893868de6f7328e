/* SPDX-License-Identifier: Apache-2.0 */
/* function_settings.h - what a user says about a function, and every version has a copy of */
#ifndef QUICKTHAW_SNAPD_FUNCTION_SETTINGS_H
#define QUICKTHAW_SNAPD_FUNCTION_SETTINGS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "include/guest_abi.h"
#include "snapd/field.h"
#include "snapd/layer.h"

enum {
	FUNCTION_RUNTIME_MAX = 31,
	FUNCTION_HANDLER_MAX = 128,
	FUNCTION_DESCRIPTION_MAX = 256,
	FUNCTION_ARN_MAX = 255, /* of a role, a key or a destination */
	FUNCTION_ROOT_IMAGE_MAX = 63,
};

/**
 * struct function_settings - the settings of a version.
 * @role, @kms_key_arn: kept and shown; nothing here assumes roles or uses keys
 * @tracing: TracingConfig.Mode is Active, not PassThrough
 * @dead_letter: DeadLetterConfig.TargetArn, or ""
 * @guest_kind: process, or a whole kernel (GuestKind, an extension)
 * @root_image: of a kernel guest: which root file system, or "": that of the runtime (RootImage)
 * @env: object of strings; never NULL
 */
struct function_settings {
	char runtime[FUNCTION_RUNTIME_MAX + 1];
	char handler[FUNCTION_HANDLER_MAX + 1];
	char description[FUNCTION_DESCRIPTION_MAX + 1];
	char role[FUNCTION_ARN_MAX + 1];
	char kms_key_arn[FUNCTION_ARN_MAX + 1];
	char dead_letter[FUNCTION_ARN_MAX + 1];
	bool tracing;
	uint32_t timeout_s;
	uint32_t memory_mib;
	uint32_t tmp_mib;
	enum guest_kind guest_kind;
	char root_image[FUNCTION_ROOT_IMAGE_MAX + 1];
	struct layer_list layers;
	json_t *env;
};

/**
 * function_settings_parse() - check the settings in a CreateFunction request or a config.json.
 * What is absent gets Lambda's preset.
 * Return: 0, -EINVAL with @e filled in, or -ENOMEM.
 */
int function_settings_parse(const json_t *root, struct function_settings *ret,
			    struct field_error *e);
/** guest_kind_name() - as GuestKind has it: "process", "kernel". */
const char *guest_kind_name(enum guest_kind kind);
/** function_settings_json() - the fields that function_settings_parse() reads; NULL: no memory. */
json_t *function_settings_json(const struct function_settings *s);
int function_settings_copy(const struct function_settings *from, struct function_settings *ret);
void function_settings_free(struct function_settings *s);

#endif
