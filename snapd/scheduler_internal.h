/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler_internal.h - what scheduler.c and invocation.c share */
#ifndef QUICKTHAW_SNAPD_SCHEDULER_INTERNAL_H
#define QUICKTHAW_SNAPD_SCHEDULER_INTERNAL_H

#include "snapd/pace.h"
#include "snapd/scheduler.h"
#include "snapd/session.h"
#include "snapd/waiting.h"

enum invocation_state { INVOCATION_FREE, INVOCATION_QUEUED, INVOCATION_RUNNING };

/**
 * struct invocation - one request on its way.
 * @waiting, @age_link: its places in the queue while QUEUED: by function, and by age of all
 * @free_link: in the list of free entries while FREE
 * @unreserved: counts in what no function has reserved
 * @cold_done: the template was dropped for it, as it wanted
 * @recorder: its instance records the working set
 * @alone: nothing was under way when it came; @serial: how many had come by then
 */
struct invocation {
	enum invocation_state state;
	struct waiting_entry waiting;
	struct pace_entry pace;
	TAILQ_ENTRY(invocation) age_link;
	SLIST_ENTRY(invocation) free_link;
	struct invocation_request request;
	struct function *function;
	char request_id[REQUEST_ID_CHARS + 1];
	char trace_id[TRACE_ID_MAX + 1];
	struct instance *inst;
	enum start_kind start;
	bool unreserved;
	bool cold_done;
	bool recorder;
	bool alone;
	uint64_t serial;
	uint64_t created_ns, started_ns;
	uint64_t init_ns;
};

/* ---- scheduler.c ---- */

/** scheduler_leave_queue() - it has an instance, or has failed. */
void scheduler_leave_queue(struct invocation *inv);
/** scheduler_bound() - it runs in @inst from now on. */
void scheduler_bound(struct invocation *inv, struct instance *inst, enum start_kind start);
/** scheduler_deliver() - tell its caller; @inv is free afterwards, and its function may be gone. */
void scheduler_deliver(struct invocation *inv, struct invocation_outcome *out);
/** scheduler_machine_fits() - does @inst have all that @v's guest saw of its CPU, and its RAM? Else
 * @text says what is missing. */
bool scheduler_machine_fits(const struct version *v, const struct instance *inst, char *text,
			    size_t text_size);
/** scheduler_release() - @inst is idle: keep it for others, or end it in a moment. */
void scheduler_release(struct instance *inst);

/* ---- invocation.c ---- */

/* Each takes the invocation out of the queue, whatever becomes of it. */
void invocation_start_warm(struct invocation *inv, struct instance *inst);
void invocation_start_boot(struct invocation *inv, struct instance *inst, uint64_t timeout_ns);
void invocation_start_restore(struct invocation *inv, struct instance *inst);
/** invocation_refuse() - one that is QUEUED ends with an error of the service. */
void invocation_refuse(struct invocation *inv, unsigned status, const char *type, const char *text);
/** invocation_is_resident() - would a restore of @v be a resident one? */
bool invocation_is_resident(const struct version *v);
/** invocation_events - for instances that serve. */
extern const struct session_events invocation_events;

#endif
