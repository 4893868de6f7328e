/* SPDX-License-Identifier: Apache-2.0 */
/* api_capacity.c - what an invocation would cost here, and loading memory ahead of one */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/util.h"
#include "snapd/api.h"
#include "snapd/budget.h"
#include "snapd/capacity.h"
#include "snapd/keep.h"
#include "snapd/prewarm.h"
#include "snapd/session.h"
#include "snapd/shell_pool.h"

static void set_number(json_t *object, const char *key, uint64_t v)
{
	json_object_set_new(object, key, json_integer((json_int_t)v));
}

/** How many more may run at once by its own limit and the account's. */
static unsigned concurrency_left(const struct function *f)
{
	int reserved = function_reserved(f);
	unsigned used = f->load.in_flight;

	if (reserved >= 0)
		return (unsigned)reserved > used ? (unsigned)reserved - used : 0;
	return scheduler_unreserved_left();
}

/** Pages of a template: all of them, and what is there. */
static void add_memory(json_t *root, const struct version *v, const struct capacity_view *view)
{
	const struct template *t = v->template;

	set_number(root, "SnapshotPages", t ? t->pages : 0);
	set_number(root, "ResidentPages", t ? t->resident_pages : 0);
	set_number(root, "WorkingSetPages", v->snapshot.working_set_pages);
	set_number(root, "MissingPages", view->missing_pages);
	set_number(root, "InstanceBytes", scheduler_instance_bytes(v));
}

static json_t *version_capacity(struct version *v, uint64_t now_ns)
{
	struct capacity_view view = capacity_view(v, now_ns);
	struct capacity_estimate e = capacity_predict(&view);
	char number[16];
	json_t *root = json_pack("{s:s, s:s, s:s, s:s}", "FunctionName", v->function->name,
				 "Version", version_name(v, number), "GuestKind",
				 guest_kind_name(v->settings.guest_kind), "Start",
				 start_kind_names[e.start]);

	set_number(root, "WaitUs", e.wait_ns / 1000);
	set_number(root, "StartUs", e.start_ns / 1000);
	set_number(root, "TotalUs", e.total_ns / 1000);
	set_number(root, "Idle", v->idle.provisioned_count + v->idle.other_count);
	set_number(root, "Provisioned", v->load.provision.live);
	set_number(root, "Running", v->load.running);
	set_number(root, "Waiting", v->load.lane.count);
	set_number(root, "ConcurrencyLeft", concurrency_left(v->function));
	set_number(root, "ShellsReady", view.shells);
	add_memory(root, v, &view);
	return root;
}

/** The version that an invocation without a qualifier gets, and all others that are in use. */
static void add_function(json_t *list, struct function *f, uint64_t now_ns)
{
	struct version *newest = function_newest(f);

	json_array_append_new(list, version_capacity(newest, now_ns));
	for (struct version *v = f->versions; v; v = v->next)
		if (v != newest && v->state == VERSION_ACTIVE &&
		    (v->template || v->load.running || v->load.provision.wanted))
			json_array_append_new(list, version_capacity(v, now_ns));
}

void api_capacity(struct http_request *r)
{
	struct budget_view b = budget_view();
	uint64_t now = clock_mono_ns();
	json_t *functions = json_array(), *root;

	for (struct function *f = functions_first(); f; f = f->next)
		add_function(functions, f, now);
	root = json_pack(
		"{s:{s:I, s:I, s:I, s:I}, s:{s:i, s:i, s:i}, s:{s:i, s:I, s:I}, s:{s:i, s:i}, "
		"s:o}",
		"Memory", "BudgetBytes", (json_int_t)MIN(b.limit_bytes, (uint64_t)INT64_MAX),
		"UsedBytes", (json_int_t)b.used_bytes, "AvailableBytes",
		(json_int_t)MIN(b.available_bytes, (uint64_t)INT64_MAX), "ExcessBytes",
		(json_int_t)budget_excess(&b), "Instances", "Max", (int)b.instances_max, "InUse",
		(int)b.instances, "Idle", (int)keep_count(), "Shells", "Ready",
		(int)session_count(INSTANCE_SHELL), "MakeUs",
		(json_int_t)(shell_pool_make_ns(GUEST_KIND_PROCESS) / 1000), "KernelMakeUs",
		(json_int_t)(shell_pool_make_ns(GUEST_KIND_KERNEL) / 1000), "Invocations",
		"InFlight", (int)scheduler_stats.under_way, "Waiting", (int)scheduler_stats.queued,
		"Functions", functions);
	http_reply_json(r, 200, root);
}

/* ---- warm ------------------------------------------------------------------------------------ */

static void on_warm(void *arg, struct version *v, const char *text)
{
	struct http_request *r = arg;
	uint64_t now = clock_mono_ns();

	if (text)
		http_reply_error(r, 500, "ServiceException", "%s", text);
	else
		http_reply_json(r, 200, version_capacity(v, now));
}

void api_function_warm(const struct api_call *call)
{
	const char *whole = http_query(call->http, "Whole");
	struct version *v = api_version(call->http, call->function, call->qualifier,
					function_newest(call->function));

	if (!v)
		return;
	if (!v->number || v->state != VERSION_ACTIVE)
		http_reply_error(call->http, 400, "InvalidParameterValueException",
				 "%s has no snapshot to be loaded: publish a version first",
				 call->function->name);
	else if (prewarm_start(v, whole && !strcmp(whole, "true"), on_warm, call->http))
		http_reply_error(call->http, 429, "TooManyRequestsException",
				 "too many versions are being loaded already");
}
