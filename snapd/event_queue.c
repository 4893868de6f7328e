/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_queue.c - asynchronous invocations: accepted once on disk, run later, tried again
 *
 * Theory of operation
 *
 *                 on disk: 202         take()              payload is there
 *   add() STORING ───────► READY ───────────────► LOADING ────────────────► RUNNING
 *                            ▲ │ take(), payload in memory                    ▲ │
 *                     it is  │ └─────────────────────────────────────────────┘ │ on_outcome()
 *                      due   │            to be tried again                     ▼
 *                         WAITING ◄──────────────────────────────────────── SETTLING ──► over
 *
 * Every event has a row in the database (event_store.h) from its acceptance to its end, and an
 * entry in memory without its payload, unless that is about to be used. The writer's thread
 * (event_writer.h) reads and writes rows; the loop does everything else. What is in flight
 * (LOADING, RUNNING, SETTLING) is limited, for all functions and for each, so that events leave
 * room for invocations that somebody waits for. Functions that have events ready take turns.
 *
 * When the outcome of an attempt cannot be written (the disk is full), the event stays SETTLING and
 * in flight, it is written again a second later, and until then nothing new is started.
 *
 * Invariants
 *  1. A caller is told of the acceptance after the event is on disk.
 *  2. A row is removed only after the attempt that ended its event was over, and changed only while
 *     its event is SETTLING: what is on disk is never ahead of what has happened.
 *  3. An event has at most one operation at the writer, and does not change while it is there.
 *  4. The heap has room for all events, so that what is in flight can always come back.
 */
#include "snapd/event_queue.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/event.h"
#include "snapd/event_attempt.h"
#include "snapd/scheduler.h"

/** Payloads that are held in memory: by requests that wait for the disk, by events that are ready.
 */
enum { STORING_BYTES_MAX = 64 << 20, KEPT_BYTES_MAX = 4 << 20 };
enum { TAKEN_PER_TURN = 64, TRIM_BYTES = 1 << 20 };

const char *const event_state_names[] = {
	[EVENT_STORING] = "storing", [EVENT_WAITING] = "waiting", [EVENT_READY] = "ready",
	[EVENT_LOADING] = "loading", [EVENT_RUNNING] = "running", [EVENT_SETTLING] = "settling",
};
static_assert(ARRAY_SIZE(event_state_names) == EVENT_STATE_COUNT, "a name for each state");

#define TO(state) (1u << (state))
static const unsigned allowed_next[] = {
	[EVENT_STORING] = TO(EVENT_READY),
	[EVENT_WAITING] = TO(EVENT_READY),
	[EVENT_READY] = TO(EVENT_LOADING) | TO(EVENT_RUNNING) | TO(EVENT_SETTLING),
	[EVENT_LOADING] = TO(EVENT_RUNNING) | TO(EVENT_SETTLING),
	[EVENT_RUNNING] = TO(EVENT_SETTLING),
	[EVENT_SETTLING] = TO(EVENT_WAITING),
};
static_assert(ARRAY_SIZE(allowed_next) == EVENT_STATE_COUNT, "what may follow each state");

static struct {
	struct event_queue_params params;
	int destination_fd;
	struct event_queue_stats stats;
	struct event_heap waiting;
	struct event_list unsettled; /**< SETTLING, and could not be written */
	TAILQ_HEAD(, event_function) active;
	size_t storing_bytes, kept_bytes;
	uint64_t removed_bytes; /**< since room was given back */
	uint64_t blocked_ns;	/**< nothing is started before: the disk cannot take its outcome */
	struct event_op *trim;	/**< under way */
	bool ready_left;	/**< more than a turn's share is ready */
	bool stopping;
} queue = {.destination_fd = -1};

static void event_move(struct event *e, enum event_state next)
{
	assert(allowed_next[e->state] & TO(next));
	log_debug("event %s: %s, then %s", e->request_id, event_state_names[e->state],
		  event_state_names[next]);
	e->state = next;
}

/* ---- functions ------------------------------------------------------------------------------- */

static struct event_function *function_entry(struct function *f)
{
	struct event_function *ef = f->events;

	if (ef)
		return ef;
	ef = calloc(1, sizeof(*ef));
	if (!ef)
		return NULL;
	TAILQ_INIT(&ef->all);
	TAILQ_INIT(&ef->ready);
	ef->function = function_get(f);
	f->events = ef;
	return ef;
}

/** How many of its events may be in flight: half of all, and no more than are reserved for it. */
static unsigned function_limit(const struct event_function *ef)
{
	unsigned half = (queue.params.concurrency + 1) / 2;
	int32_t reserved = ef->function->control.reserved_concurrency;

	return reserved > 0 ? MIN(half, (unsigned)reserved) : half;
}

/** Put it among those that can run an event, or out of them. */
static void function_update(struct event_function *ef)
{
	bool active = !TAILQ_EMPTY(&ef->ready) && ef->in_flight < function_limit(ef);

	if (active && !ef->is_active)
		TAILQ_INSERT_TAIL(&queue.active, ef, active);
	if (!active && ef->is_active)
		TAILQ_REMOVE(&queue.active, ef, active);
	ef->is_active = active;
}

/** A function that was deleted, without an event that somebody still uses. */
static void function_release(struct event_function *ef)
{
	if (!ef->function->deleted || ef->depth)
		return;
	ef->function->events = NULL;
	function_put(ef->function);
	free(ef);
}

/* ---- entries --------------------------------------------------------------------------------- */

static void release_payload(struct event *e)
{
	if (e->state == EVENT_READY && e->payload)
		queue.kept_bytes -= e->payload_bytes;
	free(e->payload);
	free(e->trace_id);
	e->payload = e->trace_id = NULL;
}

static struct event *event_new(struct event_function *ef, const char *qualifier, size_t n)
{
	struct event *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->qualifier = strdup(qualifier);
	if (!e->qualifier || event_heap_reserve(&queue.waiting, queue.stats.depth + 1)) {
		free(e->qualifier);
		free(e);
		return NULL;
	}
	e->owner = ef;
	e->payload_bytes = n;
	TAILQ_INSERT_TAIL(&ef->all, e, all);
	ef->depth++;
	queue.stats.depth++;
	queue.stats.bytes += n;
	return e;
}

/** It is in no list but its function's, and nobody uses it. */
static void event_free(struct event *e)
{
	struct event_function *ef = e->owner;

	release_payload(e);
	TAILQ_REMOVE(&ef->all, e, all);
	ef->depth--;
	queue.stats.depth--;
	queue.stats.bytes -= e->payload_bytes;
	queue.removed_bytes += e->payload_bytes;
	if (e->op)
		event_deliveries_free(e->op->deliveries);
	free(e->op);
	free(e->qualifier);
	free(e);
	function_release(ef);
}

static void make_ready(struct event *e)
{
	event_move(e, EVENT_READY);
	/* The payload of a new event is about to be used, unless there are many. */
	if (e->payload) {
		queue.kept_bytes += e->payload_bytes;
		if (queue.kept_bytes > KEPT_BYTES_MAX)
			release_payload(e);
	}
	TAILQ_INSERT_TAIL(&e->owner->ready, e, ready);
	function_update(e->owner);
}

static void wait_until_due(struct event *e)
{
	e->state = EVENT_WAITING;
	event_heap_push(&queue.waiting, e);
}

static uint64_t age_ns(const struct event *e, uint64_t now_ns)
{
	return (uint64_t)MAX((int64_t)now_ns - e->accepted_ns, (int64_t)0);
}

/* ---- in flight ------------------------------------------------------------------------------- */

static void start_flight(struct event *e)
{
	struct event_function *ef = e->owner;

	TAILQ_REMOVE(&ef->ready, e, ready);
	if (e->payload)
		queue.kept_bytes -= e->payload_bytes;
	ef->in_flight++;
	queue.stats.in_flight++;
	function_update(ef);
}

static void end_flight(struct event *e)
{
	e->owner->in_flight--;
	queue.stats.in_flight--;
	function_update(e->owner);
}

/** The function is gone, and with it the row. */
static void free_dropped(struct event *e)
{
	end_flight(e);
	event_free(e);
}

static void queue_op(struct event *e, enum event_op_kind kind, void (*done)(struct event_op *op))
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
	struct event_function *ef = f ? function_entry(f) : NULL;
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
	queue.stats.counts.accepted++;
	make_ready(e);
}

static void finish_deliveries(const struct event *e)
{
	for (const struct event_delivery *d = e->op->deliveries; d; d = d->next) {
		if (d->err || !d->done) {
			queue.stats.delivery_failures++;
			log_error("event %s of %s: its record did not reach %s%s: %s",
				  e->request_id, e->owner->function->name, d->target.path,
				  d->target.function.name,
				  d->err == -E2BIG ? "it is larger than 1 MiB" : strerror(-d->err));
		} else if (d->target.kind == EVENT_TARGET_FUNCTION) {
			add_child(d);
		}
	}
}

/** What became of it is on disk, or could not be written. */
static void on_settled(struct event_op *op)
{
	struct event *e = op->arg;

	if (op->err && !e->dropped) {
		log_error("event %s of %s: its outcome cannot be written: %s: tried again",
			  e->request_id, e->owner->function->name,
			  *op->error ? op->error : strerror(-op->err));
		queue.blocked_ns = clock_mono_ns() + NSEC_PER_SEC;
		TAILQ_INSERT_TAIL(&queue.unsettled, e, ready);
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
	wait_until_due(e);
}

static void count(struct event *e, enum event_condition condition, enum event_result result)
{
	struct event_counts *counts[] = {&e->owner->counts, &queue.stats.counts};

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
	history = (struct event_history){e->errors, e->setbacks, age_ns(e, now)};
	event_settings_read(e, queue.params.retry_delay_ns, &settings);
	verdict = a->expired ? (struct event_verdict){.condition = EVENT_AGE_EXCEEDED}
			     : event_policy_judge(&settings.policy, &history, a->result);
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
		release_payload(e);
		queue_op(e, EVENT_OP_RETRY, on_settled);
		return;
	}
	e->op->deliveries =
		event_deliveries_make(e, &settings, verdict.condition, a,
				      queue.params.destination_dir, &queue.stats.delivery_failures);
	queue_op(e, EVENT_OP_END, on_settled);
}

static void on_outcome(struct invocation *inv, const struct invocation_outcome *out)
{
	struct event *e = invocation_arg(inv);
	struct event_attempt attempt;

	/* It ends with snapd, not with an error: the next snapd finds its row as it was. */
	if (queue.stopping && out->status == 503)
		return;
	if (e->dropped) {
		free_dropped(e);
		return;
	}
	event_attempt_of(e->running, out, &attempt);
	settle(e, &attempt);
}

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
		queue.stats.first_age_sum_ns += age_ns(e, clock_mono_ns());
		queue.stats.first_age_count++;
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
		queue.stats.counts.lost++;
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
	event_settings_read(e, queue.params.retry_delay_ns, &settings);
	if (event_policy_is_too_old(&settings.policy, age_ns(e, now_ns))) {
		settle(e, &expired);
	} else if (!e->payload) {
		event_move(e, EVENT_LOADING);
		queue_op(e, EVENT_OP_LOAD, on_loaded);
	} else {
		run(e);
	}
	return 0;
}

static void take_ready(uint64_t now_ns)
{
	struct event_function *ef;

	queue.ready_left = false;
	for (int i = 0; queue.stats.in_flight < queue.params.concurrency; i++) {
		ef = TAILQ_FIRST(&queue.active);
		if (!ef)
			return;
		if (i == TAKEN_PER_TURN) {
			queue.ready_left = true;
			return;
		}
		/* Its next one comes after those of the others. */
		TAILQ_REMOVE(&queue.active, ef, active);
		TAILQ_INSERT_TAIL(&queue.active, ef, active);
		if (take(ef, now_ns)) {
			queue.blocked_ns = now_ns + NSEC_PER_SEC;
			return;
		}
	}
}

/* ---- accepting ------------------------------------------------------------------------------- */

static void on_added(struct event_op *op)
{
	struct event *e = op->arg;
	struct event_function *ef = e->owner;

	queue.storing_bytes -= e->payload_bytes;
	e->added(e->added_arg, e->request_id, op->err, op->error);
	if (!op->err && !e->dropped) {
		e->id = op->row.id;
		ef->counts.accepted++;
		queue.stats.counts.accepted++;
		free(e->op);
		e->op = NULL;
		make_ready(e);
		return;
	}
	event_free(e);
}

static struct event *new_event(struct function *f, const char *qualifier, const char *trace_id,
			       size_t n)
{
	struct event_function *ef = function_entry(f);
	struct event *e = ef ? event_new(ef, qualifier, n) : NULL;

	if (!e)
		return NULL;
	e->op = calloc(1, sizeof(*e->op));
	e->trace_id = strndup(trace_id, TRACE_ID_MAX);
	if (e->op && e->trace_id)
		return e;
	event_free(e);
	return NULL;
}

int event_queue_add(struct function *f, const char *qualifier, const char *trace_id, char *payload,
		    size_t n, event_added_fn added, void *arg)
{
	struct event *e;

	if (queue.stats.depth >= queue.params.events_max ||
	    n > queue.params.bytes_max - MIN(queue.params.bytes_max, queue.stats.bytes) ||
	    n > STORING_BYTES_MAX - queue.storing_bytes) {
		queue.stats.refused++;
		return -EBUSY;
	}
	e = new_event(f, qualifier, trace_id, n);
	if (!e)
		return -ENOMEM;
	uuid_make(e->request_id);
	e->payload = payload;
	e->accepted_ns = (int64_t)clock_mono_ns();
	e->added = added;
	e->added_arg = arg;
	e->op->row = (struct event_row){
		.request_id = e->request_id,
		.function = f->name,
		.qualifier = e->qualifier,
		.trace_id = e->trace_id,
		.accepted_ms = clock_real_ns() / 1000000,
		.payload = payload,
		.payload_bytes = n,
	};
	e->op->row.due_ms = e->op->row.accepted_ms;
	queue.storing_bytes += n;
	queue_op(e, EVENT_OP_ADD, on_added);
	return 0;
}

/* ---- dropping -------------------------------------------------------------------------------- */

static void free_op(struct event_op *op)
{
	free((char *)(uintptr_t)op->row.function);
	free(op);
}

static void on_dropped(struct event_op *op)
{
	/* Rows of a function that is not there are removed at the next start, too. */
	if (op->err)
		log_error("events of %s, which was deleted, cannot be removed: %s",
			  op->row.function, op->error);
	free_op(op);
}

static void drop_rows(const char *function)
{
	struct event_op *op = calloc(1, sizeof(*op));
	char *name = strdup(function);

	if (!op || !name) {
		free(op);
		free(name);
		return;
	}
	op->kind = EVENT_OP_DROP;
	op->row.function = name;
	op->done = on_dropped;
	event_writer_queue(op);
}

void event_queue_drop(struct function *f)
{
	struct event_function *ef = f->events;
	struct event *e, *next;

	if (!ef)
		return;
	drop_rows(f->name);
	function_get(f);
	ef->depth++; /* it stays until the end of this walk */
	for (e = TAILQ_FIRST(&ef->all); e; e = next) {
		next = TAILQ_NEXT(e, all);
		if (e->state == EVENT_WAITING)
			event_heap_remove(&queue.waiting, e);
		else if (e->state == EVENT_READY)
			TAILQ_REMOVE(&ef->ready, e, ready);
		else
			e->dropped = true;
		if (!e->dropped)
			event_free(e);
	}
	ef->depth--;
	function_update(ef);
	function_release(ef);
	function_put(f);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void on_trimmed(struct event_op *op)
{
	free(op);
	queue.trim = NULL;
}

/** The queue is empty, and its file is large. */
static void give_room_back(void)
{
	if (queue.stats.depth || queue.removed_bytes < TRIM_BYTES || queue.trim)
		return;
	queue.trim = calloc(1, sizeof(*queue.trim));
	if (!queue.trim)
		return;
	queue.removed_bytes = 0;
	queue.trim->kind = EVENT_OP_TRIM;
	queue.trim->done = on_trimmed;
	event_writer_queue(queue.trim);
}

static void settle_again(void)
{
	struct event *e;

	while ((e = TAILQ_FIRST(&queue.unsettled))) {
		TAILQ_REMOVE(&queue.unsettled, e, ready);
		event_writer_queue(e->op);
	}
}

void event_queue_turn(uint64_t now_ns)
{
	struct event *e;

	while ((e = event_heap_first(&queue.waiting)) && e->due_ns <= now_ns) {
		event_heap_remove(&queue.waiting, e);
		make_ready(e);
	}
	if (queue.blocked_ns <= now_ns) {
		queue.blocked_ns = 0;
		settle_again();
		take_ready(now_ns);
	}
	give_room_back();
	event_writer_turn();
}

uint64_t event_queue_next_ns(void)
{
	const struct event *first = event_heap_first(&queue.waiting);
	uint64_t next = first ? first->due_ns : UINT64_MAX;

	if (queue.ready_left)
		return 0;
	return queue.blocked_ns ? MIN(next, queue.blocked_ns) : next;
}

/* ---- start and end --------------------------------------------------------------------------- */

/** struct times - now, on both clocks. @unknown: events of functions that are not there */
struct times {
	uint64_t mono_ns, real_ms;
	size_t unknown;
};

/** Wall time of a row as monotonic time; a clock that was set back makes nothing younger than now.
 */
static int64_t mono_of(const struct times *t, uint64_t ms)
{
	uint64_t ago_ms = t->real_ms - MIN(ms, t->real_ms);

	return (int64_t)t->mono_ns - (int64_t)(MIN(ago_ms, (uint64_t)INT32_MAX) * 1000000);
}

/** In how many ns; bounded by the longest life of an event. */
static uint64_t due_of(const struct times *t, uint64_t due_ms)
{
	uint64_t in_ms = due_ms - MIN(t->real_ms, due_ms);

	return t->mono_ns + MIN(in_ms, (uint64_t)EVENT_AGE_MAX_S * 1000) * 1000000;
}

static int take_up(const struct event_row *row, void *arg)
{
	struct times *t = arg;
	struct function *f = functions_find(row->function);
	struct event_function *ef;
	struct event *e;

	if (!f) {
		t->unknown++;
		drop_rows(row->function);
		return 0;
	}
	ef = function_entry(f);
	e = ef ? event_new(ef, row->qualifier, row->payload_bytes) : NULL;
	if (!e)
		return -ENOMEM;
	e->id = row->id;
	snprintf(e->request_id, sizeof(e->request_id), "%s", row->request_id);
	e->errors = row->errors;
	e->setbacks = row->setbacks;
	e->attempted = row->errors || row->setbacks;
	e->accepted_ns = mono_of(t, row->accepted_ms);
	e->due_ns = due_of(t, row->due_ms);
	wait_until_due(e);
	return 0;
}

static int open_destination_dir(const char *dir)
{
	if (!*dir)
		return 0;
	queue.destination_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (queue.destination_fd >= 0)
		return 0;
	log_error("%s: %m: it is to hold files that are destinations of events: make it, or choose "
		  "another with --destination-dir",
		  dir);
	return -errno;
}

int event_queue_init(const struct event_queue_params *params)
{
	struct times times = {.mono_ns = clock_mono_ns(), .real_ms = clock_real_ns() / 1000000};
	int ret;

	memset(&queue, 0, sizeof(queue));
	queue.params = *params;
	queue.params.path = NULL; /* the writer has it */
	queue.destination_fd = -1;
	TAILQ_INIT(&queue.unsettled);
	TAILQ_INIT(&queue.active);
	ret = open_destination_dir(params->destination_dir);
	if (!ret)
		ret = event_writer_init(params->path, queue.destination_fd);
	if (!ret)
		ret = event_writer_walk(take_up, &times);
	if (ret)
		return ret;
	if (times.unknown)
		log_warn("%s: %zu events of functions that do not exist are dropped", params->path,
			 times.unknown);
	if (queue.stats.depth)
		log_info("%s: %zu events are taken up", params->path, queue.stats.depth);
	return 0;
}

void event_queue_stop(void)
{
	queue.stopping = true;
}

/** Memory only; rows stay. */
static void forget_all(void)
{
	for (struct function *f = functions_first(); f; f = f->next) {
		struct event_function *ef = f->events;
		struct event *e;

		while (ef && (e = TAILQ_FIRST(&ef->all))) {
			if (e->state == EVENT_READY)
				TAILQ_REMOVE(&ef->ready, e, ready);
			event_free(e);
		}
		if (ef) {
			f->events = NULL;
			function_put(f);
			free(ef);
		}
	}
	event_heap_free(&queue.waiting);
}

void event_queue_finish(void)
{
	settle_again();
	event_writer_finish();
	forget_all();
	if (queue.destination_fd >= 0)
		close(queue.destination_fd);
	queue.destination_fd = -1;
}

/* ---- what there is --------------------------------------------------------------------------- */

int event_queue_check_destination(const char *text, const char **ret_why)
{
	struct event_target target;

	return event_target_parse(text, queue.params.destination_dir, &target, ret_why);
}

struct event_function_stats event_function_stats(const struct function *f)
{
	const struct event_function *ef = f->events;
	const struct event *oldest = ef ? TAILQ_FIRST(&ef->all) : NULL;

	if (!ef)
		return (struct event_function_stats){.depth = 0};
	return (struct event_function_stats){
		.counts = ef->counts,
		.depth = ef->depth,
		.in_flight = ef->in_flight,
		.oldest_age_ns = oldest ? age_ns(oldest, clock_mono_ns()) : 0,
	};
}

struct event_queue_stats event_queue_stats(void)
{
	struct event_queue_stats stats = queue.stats;

	for (const struct function *f = functions_first(); f; f = f->next) {
		uint64_t age = event_function_stats(f).oldest_age_ns;

		stats.oldest_age_ns = MAX(stats.oldest_age_ns, age);
	}
	return stats;
}
