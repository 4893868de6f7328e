/* SPDX-License-Identifier: Apache-2.0 */
/* function_settings.c - what a user says about a function, and every version has a copy of */
#include "snapd/function_settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "snapd/kernel_guests.h"

enum {
	TIMEOUT_MAX_S = 900,
	MEMORY_MIN_MIB = 64,
	MEMORY_MAX_MIB = 10240,
	TMP_MIN_MIB = 16,
	TMP_MAX_MIB = 10240,
	ENV_BYTES_MAX = 4096, /* as Lambda has it */
};

#define ROOT_IMAGE_PATTERN "[a-zA-Z0-9][a-zA-Z0-9._-]*"
#define ROLE_PATTERN	   "arn:(aws[a-zA-Z-]*)?:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@/_-]+"

/** As shells have it: letters, digits and underscores, no digit first. */
static bool env_name_ok(const char *name)
{
	const char *at = name;

	while (isalnum((unsigned char)*at) || *at == '_')
		at++;
	return *name && !isdigit((unsigned char)*name) && !*at;
}

static int parse_env(const json_t *root, json_t **ret, struct field_error *e)
{
	json_t *env, *vars = NULL, *value;
	const char *key;
	size_t bytes = 0;
	int err = field_object(root, "Environment", &env, e);

	if (!err)
		err = field_object(env, "Variables", &vars, e);
	if (err)
		return err;
	json_object_foreach(vars, key, value)
	{
		if (!env_name_ok(key))
			return field_refuse(e,
					    "Environment.Variables: %.100s is no name: letters, "
					    "digits and _, no digit first",
					    key);
		if (!json_is_string(value) ||
		    strlen(json_string_value(value)) != json_string_length(value))
			return field_refuse(e, "Environment.Variables: %.100s must be a string",
					    key);
		bytes += strlen(key) + json_string_length(value);
	}
	if (bytes > ENV_BYTES_MAX)
		return field_refuse(e,
				    "Lambda was unable to configure your environment variables "
				    "because the environment variables you have provided exceeded "
				    "the 4KB limit. String measured: %zu bytes",
				    bytes);
	*ret = vars ? json_deep_copy(vars) : json_object();
	return *ret ? 0 : field_no_memory(e);
}

static int parse_role(const json_t *root, struct function_settings *s, struct field_error *e)
{
	int err = field_string(root, "Role", 0, s->role, sizeof(s->role), e);

	if (!err && *s->role && !field_matches(s->role, ROLE_PATTERN))
		return field_refuse_value(
			e, "Role", s->role,
			"Member must satisfy regular expression pattern: " ROLE_PATTERN);
	return err;
}

/** Objects with one setting in each. */
static int parse_nested(const json_t *root, struct function_settings *s, struct field_error *e)
{
	static const char *const tracing_modes[] = {"PassThrough", "Active"};
	static const char *const snap_start[] = {"None", "PublishedVersions"};
	json_t *storage, *tracing = NULL, *dead_letter = NULL, *snap = NULL;
	unsigned mode = 0, apply_on = 1;
	int err = field_object(root, "EphemeralStorage", &storage, e);

	if (!err)
		err = field_u32(storage, "Size", TMP_MIN_MIB, TMP_MAX_MIB, &s->tmp_mib, e);
	if (!err)
		err = field_object(root, "TracingConfig", &tracing, e);
	if (!err)
		err = field_choice(tracing, "Mode", tracing_modes, 2, &mode, e);
	if (!err)
		err = field_object(root, "DeadLetterConfig", &dead_letter, e);
	if (!err)
		err = field_string(dead_letter, "TargetArn", 0, s->dead_letter,
				   sizeof(s->dead_letter), e);
	/* Checked, but a version is always a snapshot here. */
	if (!err)
		err = field_object(root, "SnapStart", &snap, e);
	if (!err)
		err = field_choice(snap, "ApplyOn", snap_start, 2, &apply_on, e);
	s->tracing = mode;
	return err;
}

/** What would change how a function runs, and is not done here, is not passed over in silence. */
static int refuse_unsupported(const json_t *root, struct field_error *e)
{
	const json_t *vpc = json_object_get(root, "VpcConfig");
	const json_t *architectures = json_object_get(root, "Architectures");
	const char *only = json_string_value(json_array_get(architectures, 0));

	if (json_array_size(json_object_get(vpc, "SubnetIds")) ||
	    json_array_size(json_object_get(vpc, "SecurityGroupIds")))
		return field_refuse(e, "VpcConfig: functions have no network but their own "
				       "loopback: leave it out");
	if (field_is_set(root, "Architectures") &&
	    (json_array_size(architectures) != 1 || !only || strcmp(only, "x86_64") != 0))
		return field_refuse(e,
				    "Architectures: functions run on this host's processor: "
				    "give [\"x86_64\"], not %.20s",
				    only ? only : "this");
	if (json_array_size(json_object_get(root, "FileSystemConfigs")))
		return field_refuse(e, "FileSystemConfigs: not supported: leave it out");
	return 0;
}

static const char *const kind_names[] = {"process", "kernel"};

const char *guest_kind_name(enum guest_kind kind)
{
	return kind_names[kind == GUEST_KIND_KERNEL];
}

/** What runs it: process guests have the host's own interpreter, kernel guests that of an image. */
static int check_runtime(const struct function_settings *s, struct field_error *e)
{
	static const char *const of_kernels[] = {"python3", "nodejs", "provided"};

	for (size_t i = 0; s->guest_kind == GUEST_KIND_KERNEL && i < ARRAY_SIZE(of_kernels); i++)
		if (!strncmp(s->runtime, of_kernels[i], strlen(of_kernels[i])))
			return 0;
	if (s->guest_kind == GUEST_KIND_KERNEL)
		return field_refuse(e,
				    "Runtime: kernel guests run python3.x, nodejsN.x and provided, "
				    "not %s",
				    s->runtime);
	if (strncmp(s->runtime, "python3", 7) != 0)
		return field_refuse(e,
				    "Runtime: this release runs python3.x, not %s (as a process "
				    "guest; GuestKind kernel has others)",
				    s->runtime);
	return 0;
}

/** GuestKind, and what depends on it. */
static int parse_guest(const json_t *root, struct function_settings *s, struct field_error *e)
{
	unsigned kernel = 0;
	int err = field_choice(root, "GuestKind", kind_names, 2, &kernel, e);

	s->guest_kind = kernel ? GUEST_KIND_KERNEL : GUEST_KIND_PROCESS;
	if (!err)
		err = field_string(root, "RootImage", 0, s->root_image, sizeof(s->root_image), e);
	if (!err && *s->root_image && !field_matches(s->root_image, ROOT_IMAGE_PATTERN))
		err = field_refuse_value(
			e, "RootImage", s->root_image,
			"Member must satisfy regular expression pattern: " ROOT_IMAGE_PATTERN);
	if (!err && *s->root_image && !kernel)
		err = field_refuse(e, "RootImage: only kernel guests have one: give GuestKind "
				      "kernel, too");
	if (!err && kernel &&
	    (s->memory_mib < KERNEL_GUEST_MEMORY_MIN_MIB ||
	     s->memory_mib > KERNEL_GUEST_MEMORY_MAX_MIB))
		err = field_refuse(e, "MemorySize: a kernel guest has %d to %d MB, not %u",
				   KERNEL_GUEST_MEMORY_MIN_MIB, KERNEL_GUEST_MEMORY_MAX_MIB,
				   s->memory_mib);
	return err ? err : check_runtime(s, e);
}

int function_settings_parse(const json_t *root, struct function_settings *ret,
			    struct field_error *e)
{
	struct function_settings s = {
		.runtime = "python3.11",
		.timeout_s = 3,
		.memory_mib = 128,
		.tmp_mib = 512,
	};
	int err = refuse_unsupported(root, e);

	if (!err)
		err = field_string(root, "Runtime", 1, s.runtime, sizeof(s.runtime), e);
	if (!err)
		err = field_string(root, "Handler", 1, s.handler, sizeof(s.handler), e);
	if (!err && !*s.handler)
		err = field_refuse(e, "Handler: give module.function");
	if (!err)
		err = field_u32(root, "Timeout", 1, TIMEOUT_MAX_S, &s.timeout_s, e);
	if (!err)
		err = field_u32(root, "MemorySize", MEMORY_MIN_MIB, MEMORY_MAX_MIB, &s.memory_mib,
				e);
	if (!err)
		err = parse_guest(root, &s, e);
	if (!err)
		err = field_string(root, "Description", 0, s.description, sizeof(s.description), e);
	if (!err)
		err = parse_role(root, &s, e);
	if (!err)
		err = field_string(root, "KMSKeyArn", 0, s.kms_key_arn, sizeof(s.kms_key_arn), e);
	if (!err)
		err = parse_nested(root, &s, e);
	if (!err)
		err = layer_list_parse(root, &s.layers, e);
	if (!err)
		err = parse_env(root, &s.env, e);
	if (!err)
		*ret = s;
	return err;
}

json_t *function_settings_json(const struct function_settings *s)
{
	json_t *root = json_pack(
		"{s:s, s:s, s:s, s:i, s:i, s:{s:i}, s:{s:s}, s:{s:O}, s:s}", "Runtime", s->runtime,
		"Handler", s->handler, "Description", s->description, "Timeout", (int)s->timeout_s,
		"MemorySize", (int)s->memory_mib, "EphemeralStorage", "Size", (int)s->tmp_mib,
		"TracingConfig", "Mode", s->tracing ? "Active" : "PassThrough", "Environment",
		"Variables", s->env, "GuestKind", guest_kind_name(s->guest_kind));

	if (root)
		json_object_set_new(root, "Layers", layer_list_json(&s->layers));
	if (root && *s->root_image)
		json_object_set_new(root, "RootImage", json_string(s->root_image));
	if (root && *s->role)
		json_object_set_new(root, "Role", json_string(s->role));
	if (root && *s->kms_key_arn)
		json_object_set_new(root, "KMSKeyArn", json_string(s->kms_key_arn));
	if (root && *s->dead_letter)
		json_object_set_new(root, "DeadLetterConfig",
				    json_pack("{s:s}", "TargetArn", s->dead_letter));
	return root;
}

int function_settings_copy(const struct function_settings *from, struct function_settings *ret)
{
	json_t *env = json_deep_copy(from->env);

	if (!env)
		return -ENOMEM;
	*ret = *from;
	ret->env = env;
	return 0;
}

void function_settings_free(struct function_settings *s)
{
	json_decref(s->env);
	s->env = NULL;
}
