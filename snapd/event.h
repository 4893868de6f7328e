/* SPDX-License-Identifier: Apache-2.0 */
/* event.h - one accepted event in memory, and the events of one function */
#ifndef QUICKTHAW_SNAPD_EVENT_H
#define QUICKTHAW_SNAPD_EVENT_H

#include <sys/queue.h>

#include "snapd/event_queue.h"
#include "snapd/event_writer.h"
#include "snapd/uuid.h"

struct version;

/** What an event is at; event_queue.c draws it. */
enum event_state {
	EVENT_STORING,	/**< on its way to the disk; nobody was told of it */
	EVENT_WAITING,	/**< until it is due */
	EVENT_READY,	/**< due; its function is at its limit, or all are */
	EVENT_LOADING,	/**< its payload is being read */
	EVENT_RUNNING,	/**< the scheduler has it */
	EVENT_SETTLING, /**< what became of it is on its way to the disk */
	EVENT_STATE_COUNT
};
extern const char *const event_state_names[EVENT_STATE_COUNT];

/**
 * struct event - one accepted event.
 * @id: of its row
 * @accepted_ns, @due_ns: monotonic; accepted before the host started: negative
 * @payload, @trace_id: NULL while they are on disk only
 * @running: what the scheduler was given; valid while it has it
 * @op: the writer's, or ready for it: from STORING to the acceptance, and while in flight
 * @heap_at: WAITING: where it is in the heap
 * @all: of its function, in order of acceptance; @ready: of its function, or unsettled
 * @dropped: its function was deleted: it goes when nobody uses it any more
 */
struct event {
	enum event_state state;
	struct event_function *owner;
	int64_t id;
	char request_id[UUID_CHARS + 1];
	char *qualifier;
	char *trace_id;
	char *payload;
	size_t payload_bytes;
	int64_t accepted_ns;
	uint64_t due_ns;
	uint32_t errors, setbacks;
	bool attempted;
	bool dropped;
	struct version *running;
	struct event_op *op;
	size_t heap_at;
	event_added_fn added;
	void *added_arg;
	TAILQ_ENTRY(event) all;
	TAILQ_ENTRY(event) ready;
};

TAILQ_HEAD(event_list, event);

/**
 * struct event_function - a function that has had events. Holds a reference to it.
 * @all: in order of acceptance; @ready: due and not in flight
 * @is_active: it is in the queue's list of those that can run an event now
 */
struct event_function {
	struct function *function;
	struct event_list all, ready;
	struct event_counts counts;
	size_t depth;
	unsigned in_flight;
	bool is_active;
	TAILQ_ENTRY(event_function) active;
};

TAILQ_HEAD(event_function_list, event_function);

/* ---- events that are not due yet: a heap by time ---- */

struct event_heap {
	struct event **events;
	size_t count, size;
};

/** event_heap_reserve() - room for @count events. Return: 0 or -ENOMEM. */
int event_heap_reserve(struct event_heap *h, size_t count);
/** event_heap_push() - there is room: reserved before. */
void event_heap_push(struct event_heap *h, struct event *e);
void event_heap_remove(struct event_heap *h, struct event *e);
/** event_heap_first() - the one that is due first, or NULL. */
struct event *event_heap_first(const struct event_heap *h);
void event_heap_free(struct event_heap *h);

#endif
