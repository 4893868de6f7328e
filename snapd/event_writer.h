/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_writer.h - the thread that writes the store of events, many changes in one transaction
 *
 * The loop queues operations; what has come together when the thread is free becomes one batch: one
 * transaction, one fsync. An operation is done when its batch is on the disk.
 */
#ifndef QUICKTHAW_SNAPD_EVENT_WRITER_H
#define QUICKTHAW_SNAPD_EVENT_WRITER_H

#include <stdbool.h>

#include "snapd/event_destination.h"
#include "snapd/event_store.h"

/** An event is at most this long, a record for a function too: Lambda's limit. */
#define EVENT_PAYLOAD_MAX (1u << 20)

enum event_op_kind {
	EVENT_OP_ADD,	/**< a new event: row */
	EVENT_OP_LOAD,	/**< payload and trace id of row.id */
	EVENT_OP_RETRY, /**< row.id is to be tried again */
	EVENT_OP_END,	/**< deliver, if need be, and remove row.id */
	EVENT_OP_DROP,	/**< remove all of row.function */
	EVENT_OP_TRIM,	/**< the queue is empty: give room back */
	EVENT_OP_KIND_COUNT
};

/**
 * struct event_delivery - part of EVENT_OP_END: a record on its way to one destination.
 * @report: payload NULL: the thread reads it
 * @response: what report.response points to; malloc'ed or NULL
 * @child: EVENT_TARGET_FUNCTION: the new event as it was added
 * @payload: of the child; malloc'ed
 * @done: it was delivered, or could not be; it is not tried again
 * @err: why it could not be
 * @next: another one of the same event
 */
struct event_delivery {
	struct event_target target;
	struct event_report report;
	char function_arn[FUNCTION_NAME_ARN_MAX + 1];
	char executed_version[16];
	char *response;
	struct event_row child;
	char child_request_id[37];
	char *payload;
	bool done;
	int err;
	struct event_delivery *next;
};

/**
 * struct event_op - one change. What it points to stays valid until @done is called, in the loop's
 * thread, with @err and, where that is set, @error for people (valid during the call).
 * @payload, @trace_id: EVENT_OP_LOAD: what was read; malloc'ed, the caller's
 * @deliveries: EVENT_OP_END: where the record goes; NULL: nowhere
 */
struct event_op {
	enum event_op_kind kind;
	struct event_row row;
	char *payload, *trace_id;
	struct event_delivery *deliveries;
	int err;
	const char *error;
	void (*done)(struct event_op *op);
	void *arg;
	struct event_op *next;
};

/** event_deliveries_free() - all of a list; NULL is legal. */
void event_deliveries_free(struct event_delivery *d);

/**
 * event_writer_init() - use the database at @path. One that exists is opened, and recovered where
 * it is damaged, which is logged; else it is made when the first event comes. Blocks.
 * @destination_fd: directory of destinations that are files, or -1; stays the caller's
 * Return: 0 or -errno; logged.
 */
int event_writer_init(const char *path, int destination_fd);
/** event_writer_walk() - event_store_walk(), before the first operation is queued. */
int event_writer_walk(event_row_fn fn, void *arg);

/** event_writer_queue() - @op becomes part of a later batch. Never blocks. */
void event_writer_queue(struct event_op *op);
/** event_writer_turn() - once per turn of the loop: hand a batch to the thread, if it is free. */
void event_writer_turn(void);
/** event_writer_finish() - end the thread, write what is queued, close the database. Blocks. */
void event_writer_finish(void);

#endif
