/* SPDX-License-Identifier: Apache-2.0 */
/* function.c - functions and their versions, in memory */
#include "snapd/function.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/util.h"
#include "snapd/function_store.h"

const char *const version_state_names[] = {
	[VERSION_PENDING] = "Pending",
	[VERSION_ACTIVE] = "Active",
	[VERSION_FAILED] = "Failed",
};
static_assert(ARRAY_SIZE(version_state_names) == VERSION_STATE_COUNT, "a name for each state");

static struct function *all_functions;

/* ---- functions and versions ------------------------------------------------------------------ */

static void version_init(struct version *v, struct function *f, uint32_t number)
{
	v->function = f;
	v->number = number;
	v->stage = "";
	v->code_fd = v->opt_fd = -1;
	LIST_INIT(&v->idle.provisioned);
	LIST_INIT(&v->idle.others);
	waiting_lane_init(&v->load.lane, &f->load.waiting);
	v->modified_ns = clock_real_ns();
	uuid_make(v->revision);
}

void version_close_dirs(struct version *v)
{
	cleanup_fd(&v->code_fd);
	cleanup_fd(&v->opt_fd);
	v->code_fd = v->opt_fd = -1;
}

static void version_release(struct version *v)
{
	template_retire(v->template);
	v->template = NULL;
	version_close_dirs(v);
	function_settings_free(&v->settings);
}

struct function *function_new(const char *name)
{
	struct function *f = calloc(1, sizeof(*f));

	if (!f || function_control_init(&f->control)) {
		free(f);
		return NULL;
	}
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->refs = 1;
	waiting_function_init(&f->load.waiting);
	version_init(&f->latest, f, 0);
	f->latest.state = VERSION_ACTIVE;
	return f;
}

struct function *function_get(struct function *f)
{
	f->refs++;
	return f;
}

/** All that uses a version of a function has a reference to the function. */
static void free_retired(struct function *f)
{
	struct version *v;

	while ((v = f->retired)) {
		f->retired = v->next;
		version_release(v);
		free(v);
	}
}

void function_put(struct function *f)
{
	if (!f)
		return;
	if (--f->refs <= 1)
		free_retired(f);
	if (f->refs)
		return;
	while (f->versions)
		function_remove_version(f, f->versions);
	version_release(&f->latest);
	function_control_free(&f->control);
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
	memcpy(v->source_revision, f->latest.revision, sizeof(v->source_revision));
	v->code = f->latest.code;
	while (*at && (*at)->number > number)
		at = &(*at)->next;
	v->next = *at;
	*at = v;
	f->last_number = MAX(f->last_number, number);
	return v;
}

static void unlink_version(struct function *f, struct version *v)
{
	struct version **at = &f->versions;

	while (*at && *at != v)
		at = &(*at)->next;
	if (*at)
		*at = v->next;
}

void function_remove_version(struct function *f, struct version *v)
{
	unlink_version(f, v);
	version_release(v);
	free(v);
}

void function_retire_version(struct function *f, struct version *v)
{
	unlink_version(f, v);
	v->state = VERSION_FAILED;
	snprintf(v->reason, sizeof(v->reason), "it was deleted");
	v->next = f->retired;
	f->retired = v;
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

struct version *function_resolve(struct function *f, const char *qualifier)
{
	const struct alias *a;
	uint32_t number;

	if (qualifier_number(qualifier, &number))
		return function_version(f, number);
	a = control_alias(&f->control, qualifier);
	return a ? function_version(f, a->version) : NULL;
}

/** From 0 to less than 1. Without randomness for a moment: the alias's own version. */
static double random_point(void)
{
	uint32_t bits = UINT32_MAX;

	if (getrandom(&bits, sizeof(bits), GRND_NONBLOCK) != sizeof(bits))
		bits = UINT32_MAX;
	return bits / 4294967296.0;
}

struct version *function_route(struct function *f, const char *qualifier)
{
	const struct alias *a;
	uint32_t number;

	if (qualifier_number(qualifier, &number))
		return function_version(f, number);
	a = control_alias(&f->control, qualifier);
	if (!a)
		return NULL;
	number = a->other_version ? alias_choose(a, random_point()) : a->version;
	return function_version(f, number);
}

struct log_ring *function_log(struct function *f)
{
	if (!f->log)
		f->log = log_ring_new(FUNCTION_LOG_BYTES);
	return f->log;
}

const char *version_name(const struct version *v, char buf[16])
{
	return version_number_text(v->number, buf);
}

static void add_snapshot(json_t *root, const struct version *v)
{
	const struct version_snapshot *s = &v->snapshot;
	json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:I}", "BootMs", (json_int_t)s->boot_ms,
			      "CaptureMs", (json_int_t)s->capture_ms, "ResidentBytes",
			      (json_int_t)s->resident_bytes, "FileBytes", (json_int_t)s->file_bytes,
			      "WorkingSetPages", (json_int_t)s->working_set_pages);
	char path[PATH_MAX];

	json_object_set_new(o, "Status",
			    json_string(v->snapshot_removed   ? "Removed"
					: v->cold_boot	      ? "Unusable"
					: v->recapture.wanted ? "Stale"
							      : "Ready"));
	if (!store_snapshot_path(v->function->name, v->number, path, sizeof(path)))
		json_object_set_new(o, "Path", json_string(path));
	json_object_set_new(root, "Snapshot", o);
}

const char *time_text(uint64_t ns, char buf[TIME_TEXT_CHARS + 1])
{
	time_t seconds = (time_t)(ns / NSEC_PER_SEC);
	char whole[TIME_TEXT_CHARS + 1] = "";
	struct tm tm;

	if (gmtime_r(&seconds, &tm))
		strftime(whole, sizeof(whole), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf, TIME_TEXT_CHARS + 1, "%.19s.%03u+0000", whole,
		 (unsigned)(ns % NSEC_PER_SEC / 1000000));
	return buf;
}

static void add_state(json_t *root, const struct version *v)
{
	json_object_set_new(root, "State", json_string(version_state_names[v->state]));
	if (v->reason[0])
		json_object_set_new(root, "StateReason", json_string(v->reason));
	if (v->state == VERSION_PENDING)
		json_object_set_new(root, "StateReasonCode", json_string("Creating"));
	else if (v->state == VERSION_FAILED)
		json_object_set_new(root, "StateReasonCode", json_string("InternalError"));
	json_object_set_new(root, "LastUpdateStatus",
			    json_string(v->updating ? "InProgress" : "Successful"));
	if (*v->stage)
		json_object_set_new(root, "Stage", json_string(v->stage));
}

json_t *version_json(const struct version *v)
{
	char number[16], when[TIME_TEXT_CHARS + 1], arn[FUNCTION_NAME_ARN_MAX + 1];
	json_t *root = function_settings_json(&v->settings);

	if (!root)
		return NULL;
	version_name(v, number);
	function_arn(v->function->name, v->number ? number : NULL, arn);
	json_object_set_new(root, "FunctionName", json_string(v->function->name));
	json_object_set_new(root, "FunctionArn", json_string(arn));
	json_object_set_new(root, "Version", json_string(number));
	json_object_set_new(root, "LastModified", json_string(time_text(v->modified_ns, when)));
	json_object_set_new(root, "RevisionId", json_string(v->revision));
	json_object_set_new(root, "PackageType", json_string("Zip"));
	json_object_set_new(root, "Architectures", json_pack("[s]", "x86_64"));
	json_object_set_new(root, "CodeSize", json_integer((json_int_t)v->code.bytes));
	json_object_set_new(root, "CodeSha256", json_string(v->code.sha256));
	json_object_set_new(root, "SnapStart",
			    json_pack("{s:s, s:s}", "ApplyOn", "PublishedVersions",
				      "OptimizationStatus", v->number ? "On" : "Off"));
	add_state(root, v);
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
