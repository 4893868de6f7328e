/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retention.c - which versions and snapshots are not kept for ever
 *
 * A version that is removed is gone. A snapshot that is removed leaves its version: the next
 * invocation boots, and has the snapshot made again (recapture.c).
 */
#include "snapd/retention.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/function_store.h"
#include "snapd/scheduler.h"
#include "snapd/version_open.h"
#include "snapd/worker.h"

enum { LOOK_S = 60, LOOK_SOON_S = 1, REMOVALS_MAX = 64 /* at a time */ };

static struct {
	struct retention_params params;
	uint64_t next_ns;
	unsigned removals; /* under way */
} retention;

/* ---- the decision ---------------------------------------------------------------------------- */

static int by_worth(const void *a, const void *b)
{
	const struct retention_item *x = a, *y = b;

	if (!x->age != !y->age)
		return !x->age - !y->age; /* the newest of a function last */
	if (x->used_ns != y->used_ns)
		return x->used_ns < y->used_ns ? -1 : 1;
	return x->made_ns < y->made_ns ? -1 : x->made_ns > y->made_ns;
}

uint64_t retention_decide(struct retention_item *items, size_t count,
			  const struct retention_params *params)
{
	uint64_t sum = 0;

	qsort(items, count, sizeof(*items), by_worth);
	for (size_t i = 0; i < count; i++) {
		struct retention_item *item = &items[i];

		item->verdict = RETENTION_KEEP;
		if (params->keep_versions && item->age >= params->keep_versions && !item->named &&
		    !item->busy)
			item->verdict = RETENTION_REMOVE_VERSION;
		else
			sum += item->bytes;
	}
	if (!params->disk_bytes)
		return 0;
	for (size_t i = 0; i < count && sum > params->disk_bytes; i++) {
		struct retention_item *item = &items[i];

		if (item->verdict != RETENTION_KEEP || item->named || item->busy || !item->bytes)
			continue;
		item->verdict = RETENTION_REMOVE_SNAPSHOT;
		sum -= item->bytes;
	}
	return sum > params->disk_bytes ? sum - params->disk_bytes : 0;
}

bool retention_named(const struct function *f, uint32_t number)
{
	const struct function_control *c = &f->control;
	char text[16];

	version_number_text(number, text);
	for (struct qualified *q = c->aliases; q; q = q->next) {
		const struct alias *a = container_of(q, const struct alias, entry);

		if (a->version == number || a->other_version == number)
			return true;
	}
	return control_provisioned(c, text) || control_event_invoke(c, text) ||
	       control_url(c, text);
}

/* ---- looking --------------------------------------------------------------------------------- */

static bool is_busy(const struct version *v)
{
	return v->state != VERSION_ACTIVE || *v->stage || v->opening || v->recording ||
	       v->recapture.under_way || v->load.running || v->load.lane.count ||
	       v->load.provision.listed || v->function->changes;
}

static size_t count_versions(void)
{
	size_t count = 0;

	for (struct function *f = functions_first(); f; f = f->next)
		for (struct version *v = f->versions; v; v = v->next)
			count++;
	return count;
}

static size_t fill(struct retention_item *items)
{
	size_t count = 0;

	for (struct function *f = functions_first(); f; f = f->next) {
		uint32_t age = 0;

		for (struct version *v = f->versions; v; v = v->next)
			items[count++] = (struct retention_item){
				.version = v,
				/* One that is being made, or failed, is not the newest that serves.
				 */
				.age = v->state == VERSION_ACTIVE ? age++ : 0,
				.bytes = v->snapshot_removed ? 0 : v->snapshot.file_bytes,
				.used_ns = v->load.arrivals.last_ns,
				.made_ns = v->modified_ns,
				.named = retention_named(f, v->number),
				.busy = is_busy(v),
			};
	}
	return count;
}

/* ---- removing -------------------------------------------------------------------------------- */

/** struct removal - of a version or its snapshot, from the disk, in the worker. */
struct removal {
	struct work work;
	char name[FUNCTION_NAME_MAX + 1];
	uint32_t number;
	bool whole;
	int err;
};

static void removal_run(struct work *work)
{
	struct removal *r = container_of(work, struct removal, work);

	r->err = r->whole ? store_version_remove(r->name, r->number)
			  : store_snapshot_remove(r->name, r->number);
}

static void removal_done(struct work *work)
{
	struct removal *r = container_of(work, struct removal, work);

	if (r->err)
		log_warn("retention: %s:%u: %s", r->name, r->number, strerror(-r->err));
	retention.removals--;
	free(r);
}

static void remove_item(const struct retention_item *item)
{
	struct removal *r = calloc(1, sizeof(*r));
	struct version *v = item->version;
	struct function *f = v->function;

	if (!r)
		return; /* the next look finds it again */
	r->work = (struct work){.run = removal_run, .done = removal_done};
	r->whole = item->verdict == RETENTION_REMOVE_VERSION;
	r->number = v->number;
	memcpy(r->name, f->name, sizeof(r->name));
	log_info("retention: %s:%u: %s", f->name, v->number,
		 r->whole ? "removed: newer versions than that are kept"
			  : "its snapshot is removed: all together are over the budget");
	if (r->whole) {
		function_retire_version(f, v);
	} else {
		v->snapshot_removed = v->cold_boot = true;
		v->recapture.wanted = false;
		version_drop_template(v);
	}
	scheduler_retire_instances(v);
	retention.removals++;
	worker_queue(&r->work);
}

static void look(void)
{
	CLEANUP_FREE struct retention_item *items = calloc(count_versions() + 1, sizeof(*items));
	size_t count;
	uint64_t over;

	if (!items)
		return;
	count = fill(items);
	over = retention_decide(items, count, &retention.params);
	for (size_t i = 0; i < count && retention.removals < REMOVALS_MAX; i++)
		if (items[i].verdict != RETENTION_KEEP)
			remove_item(&items[i]);
	if (over)
		log_warn("retention: snapshots take %llu MiB more than --disk-budget: all are in "
			 "use, or named by aliases",
			 (unsigned long long)(over >> 20) + 1);
}

void retention_init(const struct retention_params *params)
{
	retention.params = *params;
	retention.next_ns = UINT64_MAX;
	retention_look();
}

void retention_look(void)
{
	if (retention.params.keep_versions || retention.params.disk_bytes)
		retention.next_ns =
			MIN(retention.next_ns, clock_mono_ns() + LOOK_SOON_S * NSEC_PER_SEC);
}

void retention_turn(uint64_t now_ns)
{
	if (now_ns < retention.next_ns)
		return;
	retention.next_ns = now_ns + LOOK_S * NSEC_PER_SEC;
	look();
}

uint64_t retention_next_ns(void)
{
	return retention.next_ns;
}
