/* SPDX-License-Identifier: Apache-2.0 */
/* function.c - functions and their versions, in memory */
#include "snapd/function.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/util.h"
#include "snapd/function_store.h"

enum {
	TIMEOUT_MAX_S = 900,
	MEMORY_MIN_MIB = 64,
	MEMORY_MAX_MIB = 10240,
	TMP_MIN_MIB = 16,
	TMP_MAX_MIB = 10240,
	ENV_BYTES_MAX = 4096, /* as Lambda has it */
};

const char *const version_state_names[] = {
	[VERSION_PENDING] = "Pending",
	[VERSION_ACTIVE] = "Active",
	[VERSION_FAILED] = "Failed",
};
static_assert(ARRAY_SIZE(version_state_names) == VERSION_STATE_COUNT, "a name for each state");

static struct function *all_functions;

/* ---- settings -------------------------------------------------------------------------------- */

static int parse_string(const json_t *root, const char *key, char *ret, size_t size,
			const char *preset)
{
	const json_t *v = json_object_get(root, key);
	const char *s = v ? json_string_value(v) : preset;

	if (!s || !*s || strlen(s) >= size || (v && strlen(s) != json_string_length(v)))
		return -EINVAL;
	snprintf(ret, size, "%s", s);
	return 0;
}

static int parse_number(const json_t *v, uint32_t *ret, uint32_t preset, uint32_t min, uint32_t max)
{
	json_int_t n = v ? json_integer_value(v) : preset;

	if ((v && !json_is_integer(v)) || n < min || n > max)
		return -EINVAL;
	*ret = (uint32_t)n;
	return 0;
}

/** As shells have it: letters, digits and underscores, no digit first. */
static bool env_name_ok(const char *name)
{
	const char *at = name;

	while (isalnum((unsigned char)*at) || *at == '_')
		at++;
	return *name && !isdigit((unsigned char)*name) && !*at;
}

static int parse_env(const json_t *root, json_t **ret)
{
	json_t *vars = json_object_get(json_object_get(root, "Environment"), "Variables");
	const char *key;
	json_t *value;
	size_t bytes = 0;

	if (vars && !json_is_object(vars))
		return -EINVAL;
	json_object_foreach(vars, key, value)
	{
		if (!json_is_string(value) || !env_name_ok(key) ||
		    strlen(json_string_value(value)) != json_string_length(value))
			return -EINVAL;
		bytes += strlen(key) + json_string_length(value);
	}
	if (bytes > ENV_BYTES_MAX)
		return -EINVAL;
	*ret = vars ? json_deep_copy(vars) : json_object();
	return *ret ? 0 : -ENOMEM;
}

int function_settings_parse(const json_t *root, struct function_settings *ret, const char **ret_why)
{
	const json_t *tmp = json_object_get(json_object_get(root, "EphemeralStorage"), "Size");
	struct function_settings s = {.env = NULL};
	int err;

	*ret_why = "";
	if (parse_string(root, "Runtime", s.runtime, sizeof(s.runtime), "python3.11") ||
	    strncmp(s.runtime, "python3", 7) != 0)
		*ret_why = "Runtime: this release runs python3.x";
	else if (parse_string(root, "Handler", s.handler, sizeof(s.handler), NULL))
		*ret_why = "Handler: give module.function, at most 128 characters";
	else if (parse_number(json_object_get(root, "Timeout"), &s.timeout_s, 3, 1, TIMEOUT_MAX_S))
		*ret_why = "Timeout: 1 to 900 seconds";
	else if (parse_number(json_object_get(root, "MemorySize"), &s.memory_mib, 128,
			      MEMORY_MIN_MIB, MEMORY_MAX_MIB))
		*ret_why = "MemorySize: 64 to 10240 MiB";
	else if (parse_number(tmp, &s.tmp_mib, 512, TMP_MIN_MIB, TMP_MAX_MIB))
		*ret_why = "EphemeralStorage.Size: 16 to 10240 MiB";
	if (**ret_why)
		return -EINVAL;
	err = parse_env(root, &s.env);
	if (err) {
		*ret_why = "Environment.Variables: strings by names of letters, digits and _, "
			   "at most 4 KiB";
		return err;
	}
	*ret = s;
	return 0;
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

bool function_name_ok(const char *name)
{
	size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");

	return n > 0 && n <= FUNCTION_NAME_MAX && !name[n];
}

/* ---- functions and versions ------------------------------------------------------------------ */

static void version_init(struct version *v, struct function *f, uint32_t number)
{
	v->function = f;
	v->number = number;
	v->stage = "";
	v->code_fd = v->opt_fd = -1;
	v->modified_ns = clock_real_ns();
}

void version_close_dirs(struct version *v)
{
	cleanup_fd(&v->code_fd);
	cleanup_fd(&v->opt_fd);
	v->code_fd = v->opt_fd = -1;
}

static void version_release(struct version *v)
{
	template_put(v->template);
	v->template = NULL;
	version_close_dirs(v);
	function_settings_free(&v->settings);
}

struct function *function_new(const char *name)
{
	struct function *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->refs = 1;
	version_init(&f->latest, f, 0);
	f->latest.state = VERSION_ACTIVE;
	return f;
}

struct function *function_get(struct function *f)
{
	f->refs++;
	return f;
}

void function_put(struct function *f)
{
	if (!f || --f->refs)
		return;
	while (f->versions)
		function_remove_version(f, f->versions);
	version_release(&f->latest);
	log_ring_free(f->log);
	free(f);
}

struct version *function_add_version(struct function *f, uint32_t number)
{
	struct version *v = calloc(1, sizeof(*v)), **at = &f->versions;

	if (!v || function_settings_copy(&f->latest.settings, &v->settings)) {
		free(v);
		return NULL;
	}
	version_init(v, f, number);
	while (*at && (*at)->number > number)
		at = &(*at)->next;
	v->next = *at;
	*at = v;
	f->last_number = MAX(f->last_number, number);
	return v;
}

void function_remove_version(struct function *f, struct version *v)
{
	struct version **at = &f->versions;

	while (*at && *at != v)
		at = &(*at)->next;
	if (*at)
		*at = v->next;
	version_release(v);
	free(v);
}

struct version *function_version(struct function *f, uint32_t number)
{
	struct version *v = f->versions;

	if (!number)
		return &f->latest;
	while (v && v->number != number)
		v = v->next;
	return v;
}

struct version *function_newest(struct function *f)
{
	for (struct version *v = f->versions; v; v = v->next)
		if (v->state == VERSION_ACTIVE)
			return v;
	return &f->latest;
}

struct log_ring *function_log(struct function *f)
{
	if (!f->log)
		f->log = log_ring_new(FUNCTION_LOG_BYTES);
	return f->log;
}

const char *version_name(const struct version *v, char buf[16])
{
	if (v->number)
		snprintf(buf, 16, "%u", v->number);
	else
		snprintf(buf, 16, "$LATEST");
	return buf;
}

static void add_snapshot(json_t *root, const struct version *v)
{
	const struct version_snapshot *s = &v->snapshot;
	json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:I}", "BootMs", (json_int_t)s->boot_ms,
			      "CaptureMs", (json_int_t)s->capture_ms, "ResidentBytes",
			      (json_int_t)s->resident_bytes, "FileBytes", (json_int_t)s->file_bytes,
			      "WorkingSetPages", (json_int_t)s->working_set_pages);
	char path[PATH_MAX];

	if (!store_snapshot_path(v->function->name, v->number, path, sizeof(path)))
		json_object_set_new(o, "Path", json_string(path));
	json_object_set_new(root, "Snapshot", o);
}

json_t *version_json(const struct version *v)
{
	const struct function_settings *s = &v->settings;
	time_t seconds = (time_t)(v->modified_ns / NSEC_PER_SEC);
	char number[16], when[64], arn[160];
	struct tm tm;
	json_t *root;

	version_name(v, number);
	gmtime_r(&seconds, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S.000+0000", &tm);
	snprintf(arn, sizeof(arn), "arn:aws:lambda:local:000000000000:function:%s%s%s",
		 v->function->name, v->number ? ":" : "", v->number ? number : "");
	root = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:s, s:s, s:s, s:s, s:{s:i}}",
			 "FunctionName", v->function->name, "FunctionArn", arn, "Version", number,
			 "Runtime", s->runtime, "Handler", s->handler, "Timeout", (int)s->timeout_s,
			 "MemorySize", (int)s->memory_mib, "LastModified", when, "PackageType",
			 "Zip", "State", version_state_names[v->state], "LastUpdateStatus",
			 "Successful", "EphemeralStorage", "Size", (int)s->tmp_mib);
	if (!root)
		return NULL;
	json_object_set_new(root, "SnapStart",
			    json_pack("{s:s, s:s}", "ApplyOn", "PublishedVersions",
				      "OptimizationStatus", v->number ? "On" : "Off"));
	json_object_set_new(root, "Environment", json_pack("{s:O}", "Variables", s->env));
	if (v->reason[0])
		json_object_set_new(root, "StateReason", json_string(v->reason));
	if (*v->stage)
		json_object_set_new(root, "Stage", json_string(v->stage));
	if (v->number && v->state == VERSION_ACTIVE)
		add_snapshot(root, v);
	return root;
}

/* ---- all functions --------------------------------------------------------------------------- */

struct function *functions_first(void)
{
	return all_functions;
}

struct function *functions_find(const char *name)
{
	struct function *f = all_functions;

	while (f && strcmp(f->name, name) != 0)
		f = f->next;
	return f;
}

void functions_add(struct function *f)
{
	f->next = all_functions;
	all_functions = f;
}

void functions_remove(struct function *f)
{
	struct function **at = &all_functions;

	while (*at && *at != f)
		at = &(*at)->next;
	if (*at)
		*at = f->next;
	f->deleted = true;
	function_put(f);
}
