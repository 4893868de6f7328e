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
#include "snapd/event_queue_internal.h"
#include "snapd/scheduler.h"

/** Payloads that are held in memory: by requests that wait for the disk, by events that are ready.
 */
enum { STORING_BYTES_MAX = 64 << 20, KEPT_BYTES_MAX = 4 << 20 };
enum { TRIM_BYTES = 1 << 20 };

const char *const event_state_names[] = {
	[EVENT_STORING] = "storing", [EVENT_WAITING] = "waiting", [EVENT_READY] = "ready",
	[EVENT_LOADING] = "loading", [EVENT_RUNNING] = "running", [EVENT_SETTLING] = "settling",
};
static_assert(ARRAY_SIZE(event_state_names) == EVENT_STATE_COUNT, "a name for each state");

#define TO(state) (1u << (state))
static const unsigned allowed_next[] = {
	[EVENT_STORING] = TO(EVENT_READY) | TO(EVENT_WAITING), /* the latter: found at the start */
	[EVENT_WAITING] = TO(EVENT_READY),
	[EVENT_READY] = TO(EVENT_LOADING) | TO(EVENT_RUNNING) | TO(EVENT_SETTLING),
	[EVENT_LOADING] = TO(EVENT_RUNNING) | TO(EVENT_SETTLING),
	[EVENT_RUNNING] = TO(EVENT_SETTLING),
	[EVENT_SETTLING] = TO(EVENT_WAITING),
};
static_assert(ARRAY_SIZE(allowed_next) == EVENT_STATE_COUNT, "what may follow each state");

struct event_queue event_queue = {.destination_fd = -1};

void event_move(struct event *e, enum event_state next)
{
	assert(allowed_next[e->state] & TO(next));
	log_debug("event %s: %s, then %s", e->request_id, event_state_names[e->state],
		  event_state_names[next]);
	e->state = next;
}

/* ---- functions ------------------------------------------------------------------------------- */

struct event_function *event_function_get(struct function *f)
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
	unsigned half = (event_queue.params.concurrency + 1) / 2;
	int32_t reserved = ef->function->control.reserved_concurrency;

	return reserved > 0 ? MIN(half, (unsigned)reserved) : half;
}

/** Put it among those that can run an event, or out of them. */
void event_function_update(struct event_function *ef)
{
	bool active = !TAILQ_EMPTY(&ef->ready) && ef->in_flight < function_limit(ef);

	if (active && !ef->is_active)
		TAILQ_INSERT_TAIL(&event_queue.active, ef, active);
	if (!active && ef->is_active)
		TAILQ_REMOVE(&event_queue.active, ef, active);
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

void event_release_payload(struct event *e)
{
	if (e->state == EVENT_READY && e->payload)
		event_queue.kept_bytes -= e->payload_bytes;
	free(e->payload);
	free(e->trace_id);
	e->payload = e->trace_id = NULL;
}

struct event *event_new(struct event_function *ef, const char *qualifier, size_t n)
{
	struct event *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->qualifier = strdup(qualifier);
	if (!e->qualifier ||
	    event_heap_reserve(&event_queue.waiting, event_queue.stats.depth + 1)) {
		free(e->qualifier);
		free(e);
		return NULL;
	}
	e->owner = ef;
	e->payload_bytes = n;
	TAILQ_INSERT_TAIL(&ef->all, e, all);
	ef->depth++;
	event_queue.stats.depth++;
	event_queue.stats.bytes += n;
	return e;
}

/** It is in no list but its function's, and nobody uses it. */
void event_free(struct event *e)
{
	struct event_function *ef = e->owner;

	event_release_payload(e);
	TAILQ_REMOVE(&ef->all, e, all);
	ef->depth--;
	event_queue.stats.depth--;
	event_queue.stats.bytes -= e->payload_bytes;
	event_queue.removed_bytes += e->payload_bytes;
	if (e->op)
		event_deliveries_free(e->op->deliveries);
	free(e->op);
	free(e->qualifier);
	free(e);
	function_release(ef);
}

void event_make_ready(struct event *e)
{
	event_move(e, EVENT_READY);
	/* The payload of a new event is about to be used, unless there are many. */
	if (e->payload) {
		event_queue.kept_bytes += e->payload_bytes;
		if (event_queue.kept_bytes > KEPT_BYTES_MAX)
			event_release_payload(e);
	}
	TAILQ_INSERT_TAIL(&e->owner->ready, e, ready);
	event_function_update(e->owner);
}

void event_wait(struct event *e)
{
	event_move(e, EVENT_WAITING);
	event_heap_push(&event_queue.waiting, e);
}

uint64_t event_age_ns(const struct event *e, uint64_t now_ns)
{
	return (uint64_t)MAX((int64_t)now_ns - e->accepted_ns, (int64_t)0);
}

/* ---- accepting ------------------------------------------------------------------------------- */

static void on_added(struct event_op *op)
{
	struct event *e = op->arg;
	struct event_function *ef = e->owner;

	event_queue.storing_bytes -= e->payload_bytes;
	e->added(e->added_arg, e->request_id, op->err, op->error);
	if (!op->err && !e->dropped) {
		e->id = op->row.id;
		ef->counts.accepted++;
		event_queue.stats.counts.accepted++;
		free(e->op);
		e->op = NULL;
		event_make_ready(e);
		return;
	}
	event_free(e);
}

static struct event *new_event(struct function *f, const char *qualifier, const char *trace_id,
			       size_t n)
{
	struct event_function *ef = event_function_get(f);
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

	if (event_queue.stats.depth >= event_queue.params.events_max ||
	    n > event_queue.params.bytes_max -
			    MIN(event_queue.params.bytes_max, event_queue.stats.bytes) ||
	    n > STORING_BYTES_MAX - event_queue.storing_bytes) {
		event_queue.stats.refused++;
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
	event_queue.storing_bytes += n;
	event_queue_op(e, EVENT_OP_ADD, on_added);
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
			event_heap_remove(&event_queue.waiting, e);
		else if (e->state == EVENT_READY)
			TAILQ_REMOVE(&ef->ready, e, ready);
		else
			e->dropped = true;
		if (!e->dropped)
			event_free(e);
	}
	ef->depth--;
	event_function_update(ef);
	function_release(ef);
	function_put(f);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void on_trimmed(struct event_op *op)
{
	free(op);
	event_queue.trim = NULL;
}

/** The queue is empty, and its file is large. */
static void give_room_back(void)
{
	if (event_queue.stats.depth || event_queue.removed_bytes < TRIM_BYTES || event_queue.trim)
		return;
	event_queue.trim = calloc(1, sizeof(*event_queue.trim));
	if (!event_queue.trim)
		return;
	event_queue.removed_bytes = 0;
	event_queue.trim->kind = EVENT_OP_TRIM;
	event_queue.trim->done = on_trimmed;
	event_writer_queue(event_queue.trim);
}

void event_queue_turn(uint64_t now_ns)
{
	struct event *e;

	while ((e = event_heap_first(&event_queue.waiting)) && e->due_ns <= now_ns) {
		event_heap_remove(&event_queue.waiting, e);
		event_make_ready(e);
	}
	if (event_queue.blocked_ns <= now_ns) {
		event_queue.blocked_ns = 0;
		event_settle_again();
		event_take_ready(now_ns);
	}
	give_room_back();
	event_writer_turn();
}

uint64_t event_queue_next_ns(void)
{
	const struct event *first = event_heap_first(&event_queue.waiting);
	uint64_t next = first ? first->due_ns : UINT64_MAX;

	if (event_queue.ready_left)
		return 0;
	return event_queue.blocked_ns ? MIN(next, event_queue.blocked_ns) : next;
}

/* ---- start and end --------------------------------------------------------------------------- */

/**
 * struct times - now, on both clocks.
 * @unknown: events of functions that are not there; @dropped: the last such function
 */
struct times {
	uint64_t mono_ns, real_ms;
	size_t unknown;
	char dropped[FUNCTION_NAME_MAX + 1];
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
		if (strcmp(t->dropped, row->function) != 0)
			drop_rows(row->function);
		snprintf(t->dropped, sizeof(t->dropped), "%s", row->function);
		return 0;
	}
	ef = event_function_get(f);
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
	event_wait(e);
	return 0;
}

static int open_destination_dir(const char *dir)
{
	if (!*dir)
		return 0;
	event_queue.destination_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (event_queue.destination_fd >= 0)
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

	memset(&event_queue, 0, sizeof(event_queue));
	event_queue.params = *params;
	event_queue.params.path = NULL; /* the writer has it */
	event_queue.destination_fd = -1;
	TAILQ_INIT(&event_queue.unsettled);
	TAILQ_INIT(&event_queue.active);
	ret = open_destination_dir(params->destination_dir);
	if (!ret)
		ret = event_writer_init(params->path, event_queue.destination_fd);
	if (!ret)
		ret = event_writer_walk(take_up, &times);
	if (ret)
		return ret;
	if (times.unknown)
		log_warn("%s: %zu events of functions that do not exist are dropped", params->path,
			 times.unknown);
	if (event_queue.stats.depth)
		log_info("%s: %zu events are taken up", params->path, event_queue.stats.depth);
	return 0;
}

void event_queue_stop(void)
{
	event_queue.stopping = true;
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
	event_heap_free(&event_queue.waiting);
}

void event_queue_finish(void)
{
	event_settle_again();
	event_writer_finish();
	forget_all();
	if (event_queue.destination_fd >= 0)
		close(event_queue.destination_fd);
	event_queue.destination_fd = -1;
}

/* ---- what there is --------------------------------------------------------------------------- */

int event_queue_check_destination(const char *text, const char **ret_why)
{
	struct event_target target;

	return event_target_parse(text, event_queue.params.destination_dir, &target, ret_why);
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
		.oldest_age_ns = oldest ? event_age_ns(oldest, clock_mono_ns()) : 0,
	};
}

struct event_queue_stats event_queue_stats(void)
{
	struct event_queue_stats stats = event_queue.stats;

	for (const struct function *f = functions_first(); f; f = f->next) {
		uint64_t age = event_function_stats(f).oldest_age_ns;

		stats.oldest_age_ns = MAX(stats.oldest_age_ns, age);
	}
	return stats;
}
