/* SPDX-License-Identifier: Apache-2.0 */
/* api_stats.c - what goes on in this snapd, as JSON */
#include <stdio.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "common/version.h"
#include "snapd/api.h"
#include "snapd/failure_log.h"
#include "snapd/page_in.h"
#include "snapd/readiness.h"
#include "snapd/scheduler.h"
#include "snapd/session.h"
#include "snapd/shell_pool.h"

uint64_t api_rss_bytes(void)
{
	CLEANUP_FILE FILE *f = fopen("/proc/self/statm", "re");
	unsigned long size, resident = 0;

	if (!f || fscanf(f, "%lu %lu", &size, &resident) != 2) /* NOLINT(cert-err34-c) */
		return 0;
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static json_t *instance_json(const struct instance *inst)
{
	struct page_in_account account = page_in_account(inst->slot);
	char number[16] = "";

	return json_pack("{s:s, s:i, s:s, s:s, s:i, s:s, s:s, s:I, s:I, s:I}", "Id", inst->id,
			 "Pid", (int)inst->child.pid, "State", instance_state_names[inst->state],
			 "GuestKind", guest_kind_name(inst->kind), "RamMiB", (int)inst->ram_mib,
			 "FunctionName", inst->function ? inst->function->name : "", "Version",
			 inst->version ? version_name(inst->version, number) : "", "Invocations",
			 (json_int_t)inst->invocations, "Faults", (json_int_t)account.faults,
			 "BytesRead", (json_int_t)account.bytes_read);
}

static json_t *instances_json(void)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < INSTANCES_MAX; i++)
		if (session_instance(i)->state != INSTANCE_FREE)
			json_array_append_new(list, instance_json(session_instance(i)));
	return list;
}

static json_t *template_json(const struct version *v)
{
	const struct template *t = v->template;
	char number[16];

	return json_pack("{s:s, s:s, s:I, s:I, s:i, s:I, s:I, s:b, s:b}", "FunctionName",
			 v->function->name, "Version", version_name(v, number), "Pages",
			 (json_int_t)t->pages, "ResidentPages", (json_int_t)t->resident_pages,
			 "Users", (int)t->refs - 1, "BytesRead", (json_int_t)t->bytes_read,
			 "ChunksDecoded", (json_int_t)t->chunks_decoded, "WorkingSet",
			 template_has_working_set(t), "Recording", v->recording);
}

static json_t *templates_json(void)
{
	json_t *list = json_array();

	for (struct function *f = functions_first(); f; f = f->next)
		for (struct version *v = f->versions; v; v = v->next)
			if (v->template)
				json_array_append_new(list, template_json(v));
	return list;
}

static json_t *shells_json(void)
{
	unsigned ready = 0, target = 0;

	for (int class = 0; class < SHELL_POOL_CLASSES; class ++) {
		ready += shell_pool_ready(class);
		target += shell_pool_target(class);
	}
	return json_pack("{s:i, s:i, s:i}", "Ready", (int)ready, "Target", (int)target, "Spawning",
			 (int)session_count(INSTANCE_SPAWNING));
}

static json_t *function_json(const struct function *f)
{
	const struct version *newest = f->versions;
	char number[16];
	int versions = 0;

	for (const struct version *v = newest; v; v = v->next)
		versions++;
	return json_pack("{s:s, s:s, s:s, s:i, s:s, s:s, s:s}", "FunctionName", f->name, "Runtime",
			 f->latest.settings.runtime, "GuestKind",
			 guest_kind_name(f->latest.settings.guest_kind), "Versions", versions,
			 "Newest", newest ? version_name(newest, number) : "", "State",
			 version_state_names[newest ? newest->state : f->latest.state], "Stage",
			 newest ? newest->stage : "");
}

static json_t *functions_json(void)
{
	json_t *list = json_array();

	for (const struct function *f = functions_first(); f; f = f->next)
		json_array_append_new(list, function_json(f));
	return list;
}

static json_t *starts_json(void)
{
	json_t *starts = json_object();

	for (int i = START_WARM; i < START_KIND_COUNT; i++)
		json_object_set_new(starts, start_kind_names[i],
				    json_integer((json_int_t)scheduler_stats.starts[i]));
	return starts;
}

void api_stats(struct http_request *r)
{
	char reason[256];
	const char *unready = readiness_reason(reason, sizeof(reason));
	json_t *root = json_pack(
		"{s:s, s:i, s:I, s:s, s:I, s:I, s:i, s:i, s:i, s:i}", "Build", quickthaw_version,
		"Pid", (int)getpid(), "RssKiB", (json_int_t)(api_rss_bytes() >> 10), "Unready",
		unready ? unready : "", "DiskFreeMiB", (json_int_t)(readiness_disk_free() >> 20),
		"Errors", (json_int_t)scheduler_stats.errors, "InvocationsUnderWay",
		(int)scheduler_stats.under_way, "Queued", (int)scheduler_stats.queued,
		"ReadsInFlight", (int)page_in_reads(), "InstancesMax", (int)INSTANCES_MAX);

	json_object_set_new(root, "Shells", shells_json());
	json_object_set_new(root, "Functions", functions_json());
	json_object_set_new(root, "Instances", instances_json());
	json_object_set_new(root, "Templates", templates_json());
	json_object_set_new(root, "Starts", starts_json());
	json_object_set_new(root, "Failures", failure_log_json());
	http_reply_json(r, 200, root);
}
