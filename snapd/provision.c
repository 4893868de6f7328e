/* SPDX-License-Identifier: Apache-2.0 */
/*
 * provision.c - provisioned concurrency: restored instances that wait for their version's work
 *
 * What is wanted is what functions' controls say, and an alias counts for the version that it
 * points to now; it is added up again a moment after anything has happened, so nobody has to tell.
 * What there is differs while instances are made, have died, or have become too many: then one step
 * a turn, and none while invocations wait, for shells are theirs first.
 *
 * An instance is provisioned from its restore to its end. It serves like any other (keep.c prefers
 * it) and goes back to waiting, without a deadline, and is never ended for want of memory.
 *
 *   the version is opened ── its working set is loaded ── a shell is restored, without an INVOKE
 *
 * Invariants
 *  1. A version is listed while any of it is wanted or live; it holds a reference to its function.
 *  2. provision.live counts instances with `provisioned` set that are not ENDING.
 */
#include "snapd/provision.h"

#include <stdio.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/budget.h"
#include "snapd/keep.h"
#include "snapd/kernel_guests.h"
#include "snapd/page_in.h"
#include "snapd/scheduler_internal.h"
#include "snapd/shell_pool.h"
#include "snapd/version_open.h"

enum {
	LOOK_MS = 100,
	FAILURES_MAX = 3,  /* in a row: FAILED, though it goes on trying */
	INFANT_MS = 2000,  /* an instance that ends before has failed */
	BACKOFF_MS = 1000, /* twice as long each time */
	BACKOFF_MAX_MS = 60000,
};

const char *const provision_state_names[] = {
	[PROVISION_IN_PROGRESS] = "IN_PROGRESS",
	[PROVISION_READY] = "READY",
	[PROVISION_FAILED] = "FAILED",
};

static struct {
	LIST_HEAD(, version) versions;
	uint64_t looked_ns;
	bool look_again; /* something has happened since */
	uint64_t next_ns;
} provision = {.next_ns = UINT64_MAX};

enum provision_step provision_decide(unsigned wanted, unsigned live, uint64_t retry_ns,
				     uint64_t now_ns)
{
	if (live > wanted)
		return PROVISION_RELEASE;
	return live < wanted && now_ns >= retry_ns ? PROVISION_START : PROVISION_REST;
}

uint64_t provision_backoff_ns(unsigned failures)
{
	uint64_t ms = failures ? (uint64_t)BACKOFF_MS << MIN(failures - 1, 16u) : 0;

	return MIN(ms, (uint64_t)BACKOFF_MAX_MS) * NSEC_PER_MSEC;
}

struct provision_status scheduler_provisioned_status(struct function *f, const char *qualifier,
						     unsigned requested)
{
	const struct version *v = function_resolve(f, qualifier);
	const struct version_provision *p = v ? &v->load.provision : NULL;
	struct provision_status ret = {.state = PROVISION_IN_PROGRESS, .reason = ""};

	if (!p) {
		ret.state = PROVISION_FAILED;
		ret.reason = "there is no such version any more";
		return ret;
	}
	ret.available = MIN(p->live, requested);
	if (ret.available == requested) {
		ret.state = PROVISION_READY;
	} else if (p->failures >= FAILURES_MAX) {
		ret.state = PROVISION_FAILED;
		ret.reason = p->reason;
	}
	return ret;
}

/* ---- what is wanted -------------------------------------------------------------------------- */

static void list_version(struct version *v)
{
	if (v->load.provision.listed)
		return;
	v->load.provision.listed = true;
	function_get(v->function);
	LIST_INSERT_HEAD(&provision.versions, v, provision_link);
}

static void unlist_version(struct version *v)
{
	v->load.provision.listed = false;
	LIST_REMOVE(v, provision_link);
	function_put(v->function);
}

static void add_wanted(struct function *f)
{
	for (struct qualified *at = f->control.provisioned; at; at = at->next) {
		struct version *v = function_resolve(f, at->qualifier);

		if (!v || !v->number || v->state != VERSION_ACTIVE)
			continue;
		list_version(v);
		v->load.provision.wanted +=
			container_of(at, struct provisioned_config, entry)->requested;
	}
}

static void add_up(void)
{
	struct version *v;

	LIST_FOREACH(v, &provision.versions, provision_link)
	v->load.provision.wanted = 0;
	for (struct function *f = functions_first(); f; f = f->next)
		add_wanted(f);
}

/* ---- one step -------------------------------------------------------------------------------- */

static void fail(struct version *v, uint64_t now_ns, const char *reason)
{
	struct version_provision *p = &v->load.provision;

	p->failures++;
	p->retry_ns = now_ns + provision_backoff_ns(p->failures);
	snprintf(p->reason, sizeof(p->reason), "%s", reason);
	log_warn("provision: %s:%u: %s", v->function->name, v->number, reason);
}

void provision_ended(struct instance *inst)
{
	struct version_provision *p = &inst->version->load.provision;
	uint64_t now = clock_mono_ns();

	p->live--;
	provision.look_again = true;
	if (now - inst->provisioned_ns < INFANT_MS * NSEC_PER_MSEC && !inst->invocations &&
	    !inst->function->deleted)
		fail(inst->version, now,
		     "its instances end as soon as they are restored: snapd's log says why");
}

static void on_opened(struct version *v, const char *text)
{
	if (text)
		fail(v, clock_mono_ns(), text);
	provision.look_again = true;
}

/** Return: true when code and working set are there. Asks for them where not. */
static bool is_loaded(struct version *v, uint64_t now_ns)
{
	struct template *t = v->template;

	if (v->opening)
		return false;
	if (v->code_fd < 0 || !t) {
		if (version_open(v, false, on_opened))
			fail(v, now_ns, "out of memory");
		return false;
	}
	template_used(t, now_ns);
	if (page_in_is_loading(t))
		return false;
	if (!template_has_working_set(t) || template_populate_count(t))
		return true;
	/* A working set of zeros has nothing that could be read: faults fill it. */
	return page_in_prefetch(t, PAGE_IN_NOBODY) && !page_in_is_loading(t);
}

static void start(struct version *v, uint64_t now_ns)
{
	struct instance *inst;
	char text[256];

	if (v->cold_boot) {
		fail(v, now_ns, "its snapshot cannot be restored and is being made again");
		return;
	}
	if (kernel_guests_trouble(&v->settings)) {
		fail(v, now_ns, kernel_guests_trouble(&v->settings));
		return;
	}
	if (!is_loaded(v, now_ns) || !scheduler_has_room(v))
		return;
	inst = shell_pool_take(scheduler_ram_class(&v->settings), 1);
	if (!inst)
		return;
	if (!scheduler_machine_fits(v, inst, text, sizeof(text))) {
		fail(v, now_ns, text);
		return;
	}
	budget_charge(inst, scheduler_instance_bytes(v));
	inst->provisioned_ns = now_ns;
	session_adopt(inst, v, NULL, &invocation_events);
	if (session_restore(inst, v->template, NULL)) {
		fail(v, now_ns, "a microVM does not take the snapshot");
		return;
	}
	inst->provisioned = true;
	v->load.provision.live++;
	keep_add(inst, UINT64_MAX);
	session_limit_memory(inst);
	scheduler_pump();
}

/** One too many, or too many for a version that is not wanted any more: it is like others. */
static void release(struct version *v)
{
	struct instance *inst = LIST_FIRST(&v->idle.provisioned);

	if (!inst)
		return;
	keep_left(inst);
	inst->provisioned = false;
	v->load.provision.live--;
	scheduler_release(inst);
}

/** Return: true when it wants to be looked at again soon. */
static bool step(struct version *v, uint64_t now_ns, bool may_start)
{
	struct version_provision *p = &v->load.provision;
	enum provision_step next = provision_decide(p->wanted, p->live, p->retry_ns, now_ns);

	if (next == PROVISION_RELEASE)
		release(v);
	else if (next == PROVISION_START && may_start)
		start(v, now_ns);
	if (p->live == p->wanted && p->live)
		p->failures = 0;
	if (p->live != p->wanted)
		return true;
	if (!p->live)
		unlist_version(v);
	return false;
}

void provision_turn(uint64_t now_ns)
{
	bool may_start = !scheduler_stats.queued, again = false;
	struct version *v, *next;

	if (now_ns - provision.looked_ns < LOOK_MS * NSEC_PER_MSEC) {
		provision.look_again = true;
	} else {
		provision.looked_ns = now_ns;
		provision.look_again = false;
		add_up();
	}
	for (v = LIST_FIRST(&provision.versions); v; v = next) {
		next = LIST_NEXT(v, provision_link);
		again |= step(v, now_ns, may_start);
	}
	provision.next_ns = provision.look_again || again
				    ? provision.looked_ns + LOOK_MS * NSEC_PER_MSEC
				    : UINT64_MAX;
}

uint64_t provision_next_ns(void)
{
	return provision.next_ns;
}
