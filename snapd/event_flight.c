/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_flight.c - events in flight: read, run, and what became of them written down
 *
 * The part of the queue (event_queue.c, which has the theory) from take() to the end of an event or
 * its way back.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/event_attempt.h"
#include "snapd/event_queue_internal.h"
#include "snapd/scheduler.h"

enum { TAKEN_PER_TURN = 64 };

/* ---- in and out ------------------------------------------------------------------------------ */

static void start_flight(struct event *e)
{
	struct event_function *ef = e->owner;

	TAILQ_REMOVE(&ef->ready, e, ready);
	if (e->payload)
		event_queue.kept_bytes -= e->payload_bytes;
	ef->in_flight++;
	event_queue.stats.in_flight++;
	event_function_update(ef);
}

static void end_flight(struct event *e)
{
	e->owner->in_flight--;
	event_queue.stats.in_flight--;
	event_function_update(e->owner);
}

/** The function is gone, and with it the row. */
static void free_dropped(struct event *e)
{
	end_flight(e);
	event_free(e);
}

void event_queue_op(struct event *e, enum event_op_kind kind, void (*done)(struct event_op *op))
{
	struct event_op *op = e->op;

	op->kind = kind;
	op->row.id = e->id;
	op->done = done;
	op->arg = e;
	event_writer_queue(op);
}

/** The event of a destination that is a function has come into being with the end of another. */
static void add_child(const struct event_delivery *d)
{
	struct function *f = functions_find(d->child.function);
	struct event_function *ef = f ? event_function_get(f) : NULL;
	struct event *e = ef ? event_new(ef, d->child.qualifier, d->child.payload_bytes) : NULL;

	/* Without memory it stays on disk and is found at the next start. */
	if (!e) {
		log_error("event %s for %s: %s", d->child_request_id, d->child.function,
			  f ? "out of memory" : "the function was deleted");
		return;
	}
	e->id = d->child.id;
	snprintf(e->request_id, sizeof(e->request_id), "%s", d->child_request_id);
	e->accepted_ns = (int64_t)clock_mono_ns();
	ef->counts.accepted++;
	event_queue.stats.counts.accepted++;
	event_make_ready(e);
}

static void finish_deliveries(const struct event *e)
{
	for (const struct event_delivery *d = e->op->deliveries; d; d = d->next) {
		if (d->err || !d->done) {
			event_queue.stats.delivery_failures++;
			log_error("event %s of %s: its record did not reach %s%s: %s",
				  e->request_id, e->owner->function->name, d->target.path,
				  d->target.function.name,
				  d->err == -E2BIG ? "it is larger than 1 MiB" : strerror(-d->err));
		} else if (d->target.kind == EVENT_TARGET_FUNCTION) {
			add_child(d);
		}
	}
}

/* ---- the end of an attempt ------------------------------------------------------------------- */

/** What became of it is on disk, or could not be written. */
static void on_settled(struct event_op *op)
{
	struct event *e = op->arg;

	if (op->err && !e->dropped) {
		log_error("event %s of %s: its outcome cannot be written: %s: tried again",
			  e->request_id, e->owner->function->name,
			  *op->error ? op->error : strerror(-op->err));
		event_queue.blocked_ns = clock_mono_ns() + NSEC_PER_SEC;
		TAILQ_INSERT_TAIL(&event_queue.unsettled, e, ready);
		return;
	}
	if (op->kind == EVENT_OP_END)
		finish_deliveries(e);
	end_flight(e);
	if (op->kind == EVENT_OP_END || e->dropped) {
		event_free(e);
		return;
	}
	free(e->op);
	e->op = NULL;
	event_wait(e);
}

static void count(struct event *e, enum event_condition condition, enum event_result result)
{
	struct event_counts *counts[] = {&e->owner->counts, &event_queue.stats.counts};

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		counts[i]->succeeded += condition == EVENT_SUCCESS;
		counts[i]->exhausted += condition == EVENT_RETRIES_EXHAUSTED;
		counts[i]->expired += condition == EVENT_AGE_EXCEEDED;
		if (condition != EVENT_RETRY)
			continue;
		counts[i]->retried += result == EVENT_FUNCTION_ERROR;
		counts[i]->set_back += result == EVENT_NOT_RUN;
	}
}

/** An attempt is over, or there will be none. @a: what it was. */
static void settle(struct event *e, const struct event_attempt *a)
{
	uint64_t now = clock_mono_ns();
	struct event_settings settings;
	struct event_verdict verdict;
	struct event_history history;

	e->errors += a->result == EVENT_FUNCTION_ERROR;
	e->setbacks += a->result == EVENT_NOT_RUN;
	history = (struct event_history){e->errors, e->setbacks, event_age_ns(e, now)};
	event_settings_read(e, event_queue.params.retry_delay_ns, &settings);
	verdict = event_policy_judge(&settings.policy, &history, a->result);
	if (a->expired)
		verdict.condition = EVENT_AGE_EXCEEDED;
	count(e, verdict.condition, a->result);
	if (verdict.condition > EVENT_SUCCESS)
		log_warn("event %s of %s: given up after %u attempts: %s", e->request_id,
			 e->owner->function->name, e->errors,
			 event_condition_names[verdict.condition]);
	event_move(e, EVENT_SETTLING);
	if (verdict.condition == EVENT_RETRY) {
		e->due_ns = now + verdict.delay_ns;
		e->op->row.due_ms = (clock_real_ns() + verdict.delay_ns) / 1000000;
		e->op->row.errors = e->errors;
		e->op->row.setbacks = e->setbacks;
		event_release_payload(e);
		event_queue_op(e, EVENT_OP_RETRY, on_settled);
		return;
	}
	e->op->deliveries = event_deliveries_make(e, &settings, verdict.condition, a,
						  event_queue.params.destination_dir,
						  &event_queue.stats.delivery_failures);
	event_queue_op(e, EVENT_OP_END, on_settled);
}

static void on_outcome(struct invocation *inv, const struct invocation_outcome *out)
{
	struct event *e = invocation_arg(inv);
	struct event_attempt attempt;

	/* It ends with snapd, not with an error: the next snapd finds its row as it was. */
	if (event_queue.stopping && out->status == 503)
		return;
	if (e->dropped) {
		free_dropped(e);
		return;
	}
	event_attempt_of(e->running, out, &attempt);
	settle(e, &attempt);
}

/* ---- an attempt ------------------------------------------------------------------------------ */

/** The payload is there: to the scheduler. */
static void run(struct event *e)
{
	struct version *v = event_route(e);
	struct event_attempt attempt = {.result = EVENT_NOT_RUN, .status = 429};
	struct invocation_request request = {
		.version = v,
		.payload = e->payload,
		.payload_bytes = e->payload_bytes,
		.client_context = "",
		.trace_id = e->trace_id ? e->trace_id : "",
		.request_id = e->request_id,
		.done = on_outcome,
		.arg = e,
	};

	if (!e->attempted) {
		event_queue.stats.first_age_sum_ns += event_age_ns(e, clock_mono_ns());
		event_queue.stats.first_age_count++;
		e->attempted = true;
	}
	if (!v || !e->owner->function->control.reserved_concurrency) {
		attempt.result = EVENT_REFUSED;
		attempt.status = v ? 429 : 404;
		settle(e, &attempt);
		return;
	}
	if (v->state != VERSION_ACTIVE) {
		settle(e, &attempt);
		return;
	}
	event_move(e, EVENT_RUNNING);
	e->running = v;
	if (scheduler_invoke(&request))
		settle(e, &attempt);
}

static void on_loaded(struct event_op *op)
{
	static const struct event_attempt not_run = {.result = EVENT_NOT_RUN, .status = 500};
	struct event *e = op->arg;

	if (e->dropped) {
		free(op->payload);
		free(op->trace_id);
		free_dropped(e);
	} else if (op->err == -ENOENT) {
		log_error("event %s of %s: it was in a damaged part of the database, and is lost",
			  e->request_id, e->owner->function->name);
		e->owner->counts.lost++;
		event_queue.stats.counts.lost++;
		free_dropped(e);
	} else if (op->err) {
		log_error("event %s of %s: it cannot be read: %s", e->request_id,
			  e->owner->function->name, op->error);
		settle(e, &not_run);
	} else {
		e->payload = op->payload;
		e->trace_id = op->trace_id;
		op->payload = op->trace_id = NULL;
		run(e);
	}
}

/** The first event that is ready of a function takes off. Return: 0 or -ENOMEM. */
static int take(struct event_function *ef, uint64_t now_ns)
{
	struct event_attempt expired = {.expired = true};
	struct event *e = TAILQ_FIRST(&ef->ready);
	struct event_settings settings;

	assert(!e->op);
	e->op = calloc(1, sizeof(*e->op));
	if (!e->op)
		return -ENOMEM;
	start_flight(e);
	event_settings_read(e, event_queue.params.retry_delay_ns, &settings);
	if (event_policy_is_too_old(&settings.policy, event_age_ns(e, now_ns))) {
		settle(e, &expired);
	} else if (!e->payload) {
		event_move(e, EVENT_LOADING);
		event_queue_op(e, EVENT_OP_LOAD, on_loaded);
	} else {
		run(e);
	}
	return 0;
}

void event_take_ready(uint64_t now_ns)
{
	struct event_function *ef;

	event_queue.ready_left = false;
	for (int i = 0; event_queue.stats.in_flight < event_queue.params.concurrency; i++) {
		ef = TAILQ_FIRST(&event_queue.active);
		if (!ef)
			return;
		if (i == TAKEN_PER_TURN) {
			event_queue.ready_left = true;
			return;
		}
		/* Its next one comes after those of the others. */
		TAILQ_REMOVE(&event_queue.active, ef, active);
		TAILQ_INSERT_TAIL(&event_queue.active, ef, active);
		if (take(ef, now_ns)) {
			event_queue.blocked_ns = now_ns + NSEC_PER_SEC;
			return;
		}
	}
}

void event_settle_again(void)
{
	struct event *e;

	while ((e = TAILQ_FIRST(&event_queue.unsettled))) {
		TAILQ_REMOVE(&event_queue.unsettled, e, ready);
		event_writer_queue(e->op);
	}
}
