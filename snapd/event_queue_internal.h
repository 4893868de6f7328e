/* SPDX-License-Identifier: Apache-2.0 */
/* event_queue_internal.h - what event_queue.c and event_flight.c share */
#ifndef QUICKTHAW_SNAPD_EVENT_QUEUE_INTERNAL_H
#define QUICKTHAW_SNAPD_EVENT_QUEUE_INTERNAL_H

#include "snapd/event.h"

/**
 * struct event_queue - the queue.
 * @destination_fd: directory of destinations that are files, or -1
 * @waiting: events that are not due
 * @unsettled: SETTLING, and could not be written
 * @active: functions that can run an event now, in the order of their turns
 * @storing_bytes: payloads of requests that wait for the disk
 * @kept_bytes: payloads of events that are READY
 * @removed_bytes: payloads removed from the database since room was given back
 * @blocked_ns: nothing is started before: the disk cannot take its outcome; 0: it can
 * @trim: under way, or NULL
 * @ready_left: more than a turn's share is ready
 */
struct event_queue {
	struct event_queue_params params;
	int destination_fd;
	struct event_queue_stats stats;
	struct event_heap waiting;
	struct event_list unsettled;
	struct event_function_list active;
	size_t storing_bytes, kept_bytes;
	uint64_t removed_bytes;
	uint64_t blocked_ns;
	struct event_op *trim;
	bool ready_left;
	bool stopping;
};
extern struct event_queue event_queue;

/** event_move() - the one way from state to state. */
void event_move(struct event *e, enum event_state next);

/** event_function_get() - the entry of a function, made with its first event; NULL: no memory. */
struct event_function *event_function_get(struct function *f);
/** event_function_update() - put it among those that can run an event, or out of them. */
void event_function_update(struct event_function *ef);

/** event_new() - in its function's list, and STORING. NULL: no memory. */
struct event *event_new(struct event_function *ef, const char *qualifier, size_t payload_bytes);
/** event_free() - it is in no list but its function's, and nobody uses it. */
void event_free(struct event *e);
void event_release_payload(struct event *e);
/** event_make_ready() - it is due. */
void event_make_ready(struct event *e);
/** event_wait() - until due_ns. */
void event_wait(struct event *e);
uint64_t event_age_ns(const struct event *e, uint64_t now_ns);

/** event_queue_op() - hand its operation to the writer. */
void event_queue_op(struct event *e, enum event_op_kind kind, void (*done)(struct event_op *op));
/** event_take_ready() - start what is ready, as far as the limits allow. */
void event_take_ready(uint64_t now_ns);
/** event_settle_again() - write outcomes for which there was no room. */
void event_settle_again(void);

#endif
