/* SPDX-License-Identifier: Apache-2.0 */
/* api_stats.c - what goes on in this snapd, as JSON */
#include <stdio.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "snapd/api.h"
#include "snapd/page_in.h"
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

	return json_pack("{s:s, s:i, s:s, s:i, s:s, s:s, s:I, s:I, s:I}", "Id", inst->id, "Pid",
			 (int)inst->child.pid, "State", instance_state_names[inst->state], "RamMiB",
			 (int)inst->ram_mib, "FunctionName",
			 inst->function ? inst->function->name : "", "Version",
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

void api_stats(struct http_request *r)
{
	json_t *starts = json_object();

	for (int i = START_WARM; i < START_KIND_COUNT; i++)
		json_object_set_new(starts, start_kind_names[i],
				    json_integer((json_int_t)scheduler_stats.starts[i]));
	http_reply_json(r, 200,
			json_pack("{s:i, s:I, s:o, s:o, s:o, s:o, s:I, s:i, s:i, s:i}", "Pid",
				  (int)getpid(), "RssKiB", (json_int_t)(api_rss_bytes() >> 10), "Shells",
				  shells_json(), "Instances", instances_json(), "Templates",
				  templates_json(), "Starts", starts, "Errors",
				  (json_int_t)scheduler_stats.errors, "InvocationsUnderWay",
				  (int)scheduler_stats.under_way, "ReadsInFlight",
				  (int)page_in_reads(), "InstancesMax", (int)INSTANCES_MAX));
}
