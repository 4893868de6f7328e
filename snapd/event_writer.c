/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_writer.c - the thread that writes the store of events, many changes in one transaction
 *
 * Theory of operation
 *
 * There are two lists of operations: queued, which is the loop's, and the batch, which is the
 * thread's while writer.busy is set. A batch is run in one transaction. If that fails, because the
 * disk is full for example, each of its operations gets a transaction of its own, so that only
 * those fail for which there is no room. If the database is damaged, it is recovered and the batch
 * is run once more.
 *
 * Invariants
 *  1. done() of an operation is called after its transaction was committed or given up, never
 *     before, and once.
 *  2. A record is delivered before its event is removed, and at most once by one process: what is
 *     killed in between may deliver it again.
 *  3. A destination which is a function gets its event in the transaction that removes the old one.
 */
#include "snapd/event_writer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/worker.h"

enum { BATCH_OPS_MAX = 512 };

struct op_list {
	struct event_op *first, **last;
	size_t count;
};

static struct {
	struct event_store *store; /**< NULL: not opened yet */
	char path[PATH_MAX];
	int destination_fd;
	struct op_list queued, batch;
	struct work work;
	bool busy;			   /**< the batch is the thread's */
	bool written;			   /**< set by the thread: the batch was run */
	char error[EVENT_STORE_ERROR_MAX]; /**< what went wrong last in the batch */
} writer = {.destination_fd = -1};

void event_deliveries_free(struct event_delivery *d)
{
	while (d) {
		struct event_delivery *next = d->next;

		free(d->response);
		free(d->payload);
		free(d);
		d = next;
	}
}

static void list_init(struct op_list *list)
{
	*list = (struct op_list){.last = &list->first};
}

static void list_push(struct op_list *list, struct event_op *op)
{
	op->next = NULL;
	*list->last = op;
	list->last = &op->next;
	list->count++;
}

static struct event_op *list_pop(struct op_list *list)
{
	struct event_op *op = list->first;

	if (!op)
		return NULL;
	list->first = op->next;
	if (!list->first)
		list->last = &list->first;
	list->count--;
	return op;
}

/* ---- the database ---------------------------------------------------------------------------- */

/** @why: may be the store's own text. */
static int recover(const char *why)
{
	char aside[PATH_MAX];
	size_t saved = 0;
	int ret;

	log_error("%s: damaged: %s", writer.path, why);
	snprintf(writer.error, sizeof(writer.error), "the queue's database is damaged");
	event_store_close(writer.store);
	writer.store = NULL;
	ret = event_store_recover(writer.path, &writer.store, &saved, aside);
	if (ret)
		log_error("%s: it could not be replaced: %s: move it away and start snapd again",
			  writer.path, strerror(-ret));
	else
		log_error(
			"%s: kept as %s; %zu events were saved from it, those in its damaged part "
			"are lost",
			writer.path, aside, saved);
	return ret;
}

static int ignore_row(const struct event_row *row, void *arg)
{
	(void)row;
	(void)arg;
	return 0;
}

/** Damage that a look at every event finds. */
static int check_all(void)
{
	int ret = event_store_walk(writer.store, ignore_row, NULL);

	return ret == -EBADMSG ? recover(event_store_error(writer.store)) : ret;
}

int event_writer_init(const char *path, int destination_fd)
{
	char why[EVENT_STORE_ERROR_MAX];
	int ret;

	list_init(&writer.queued);
	list_init(&writer.batch);
	writer.destination_fd = destination_fd;
	writer.busy = false;
	if (snprintf(writer.path, sizeof(writer.path), "%s", path) >= (int)sizeof(writer.path))
		return -ENAMETOOLONG;
	if (access(path, F_OK))
		return 0;
	ret = event_store_open(path, &writer.store, why);
	if (ret == -EBADMSG)
		ret = recover(why);
	else if (ret)
		log_error("%s: %s", path, why);
	return ret ? ret : check_all();
}

int event_writer_walk(event_row_fn fn, void *arg)
{
	return writer.store ? event_store_walk(writer.store, fn, arg) : 0;
}

/* ---- one operation, in the thread ------------------------------------------------------------ */

static int deliver_to_function(struct event_delivery *d, const char *record, size_t n)
{
	if (n > EVENT_PAYLOAD_MAX)
		return -E2BIG;
	free(d->payload);
	d->payload = strdup(record);
	if (!d->payload)
		return -ENOMEM;
	d->child.id = 0;
	d->child.payload = d->payload;
	d->child.payload_bytes = n;
	return event_store_add(writer.store, &d->child);
}

/** Return: an error of the store; d->err is that of the destination. */
static int deliver(const struct event_op *op, struct event_delivery *d)
{
	CLEANUP_FREE char *payload = NULL;
	CLEANUP_FREE char *trace_id = NULL;
	CLEANUP_FREE char *record = NULL;
	size_t n = 0;
	int ret = 0;

	if (d->done && d->target.kind == EVENT_TARGET_FILE)
		return 0;
	if (!d->report.payload) {
		ret = event_store_load(writer.store, op->row.id, &payload, &n, &trace_id);
		d->report.payload = payload;
		d->report.payload_bytes = n;
	}
	if (!ret)
		ret = event_report_text(writer.store, &d->report, &record, &n);
	if (payload)
		d->report.payload = NULL;
	if (ret) {
		d->err = ret; /* the event is lost: it has no record */
		return ret == -ENOENT ? 0 : ret;
	}
	d->done = true;
	if (d->target.kind == EVENT_TARGET_FILE) {
		d->err = event_file_append(writer.destination_fd, d->target.path, record, n);
		return 0;
	}
	ret = deliver_to_function(d, record, n);
	d->err = ret == -E2BIG ? ret : 0;
	return ret == -E2BIG ? 0 : ret;
}

static int run_add(struct event_op *op)
{
	int ret = event_store_json(writer.store, op->row.payload, op->row.payload_bytes, NULL);

	if (ret)
		return ret;
	op->row.id = 0;
	return event_store_add(writer.store, &op->row);
}

static int run_load(struct event_op *op)
{
	free(steal_ptr(op->payload));
	free(steal_ptr(op->trace_id));
	return event_store_load(writer.store, op->row.id, &op->payload, &op->row.payload_bytes,
				&op->trace_id);
}

static int run_end(struct event_op *op)
{
	int ret = 0;

	for (struct event_delivery *d = op->deliveries; d && !ret; d = d->next)
		ret = deliver(op, d);
	return ret ? ret : event_store_remove(writer.store, op->row.id);
}

static int run_op(struct event_op *op)
{
	const struct event_row *row = &op->row;

	switch (op->kind) {
	case EVENT_OP_ADD:
		return run_add(op);
	case EVENT_OP_LOAD:
		return run_load(op);
	case EVENT_OP_RETRY:
		return event_store_retry(writer.store, row->id, row->due_ms, row->errors,
					 row->setbacks);
	case EVENT_OP_END:
		return run_end(op);
	case EVENT_OP_DROP:
		return event_store_remove_function(writer.store, row->function);
	case EVENT_OP_TRIM:
		return event_store_trim(writer.store);
	default:
		return -EINVAL;
	}
}

/** What is wrong with the operation, not with the database: the transaction goes on. */
static bool is_its_own(int err)
{
	return err == -EINVAL || err == -ENOENT;
}

/* ---- a batch, in the thread ------------------------------------------------------------------ */

/** One transaction of @first and those after it, or of @first alone. Return: 0, or an error that
 * has undone all of it. */
static int run_transaction(struct event_op *first, bool alone)
{
	int ret = event_store_begin(writer.store);

	for (struct event_op *op = first; op && !ret; op = alone ? NULL : op->next) {
		op->err = run_op(op);
		if (op->err && !is_its_own(op->err))
			ret = op->err;
	}
	if (!ret)
		ret = event_store_commit(writer.store);
	if (ret)
		event_store_rollback(writer.store);
	return ret;
}

static void run_each(void)
{
	for (struct event_op *op = writer.batch.first; op; op = op->next) {
		int ret = run_transaction(op, true);

		if (!ret)
			continue;
		op->err = ret;
		op->error = writer.error;
		snprintf(writer.error, sizeof(writer.error), "%s", event_store_error(writer.store));
	}
}

static int open_store(void)
{
	char why[EVENT_STORE_ERROR_MAX];
	int ret;

	if (writer.store)
		return 0;
	ret = event_store_open(writer.path, &writer.store, why);
	if (ret == -EBADMSG)
		ret = recover(why);
	else if (ret)
		snprintf(writer.error, sizeof(writer.error), "%s", why);
	return ret;
}

/** There is no database, so nothing can be done. */
static void fail_batch(int err)
{
	for (struct event_op *op = writer.batch.first; op; op = op->next) {
		op->err = err;
		op->error = writer.error;
	}
}

static void run_batch(void)
{
	int ret = open_store();

	if (!ret)
		ret = run_transaction(writer.batch.first, false);
	if (ret == -EBADMSG && writer.store) {
		ret = recover(event_store_error(writer.store));
		if (!ret)
			ret = run_transaction(writer.batch.first, false);
	}
	if (ret && writer.store)
		run_each();
	else if (ret)
		fail_batch(ret);
	writer.written = true;
}

static void on_run(struct work *work)
{
	(void)work;
	run_batch();
}

/* ---- the loop's side ------------------------------------------------------------------------- */

static void finish_batch(void)
{
	struct event_op *op;
	struct op_list done = writer.batch;

	/* A callee may free the operation and queue new ones. */
	if (!done.count)
		done.last = &done.first;
	list_init(&writer.batch);
	writer.busy = false;
	while ((op = list_pop(&done)))
		op->done(op);
}

static void on_done(struct work *work)
{
	(void)work;
	finish_batch();
}

static void fill_batch(void)
{
	assert(!writer.busy && !writer.batch.count);
	while (writer.queued.first && writer.batch.count < BATCH_OPS_MAX)
		list_push(&writer.batch, list_pop(&writer.queued));
	writer.written = false;
}

void event_writer_queue(struct event_op *op)
{
	op->err = 0;
	op->error = "";
	list_push(&writer.queued, op);
}

void event_writer_turn(void)
{
	if (writer.busy || !writer.queued.first)
		return;
	fill_batch();
	writer.busy = true;
	writer.work = (struct work){.run = on_run, .done = on_done};
	worker_queue_on(WORKER_EVENTS, &writer.work);
}

void event_writer_finish(void)
{
	worker_stop(WORKER_EVENTS);
	if (writer.busy && !writer.written)
		run_batch();
	if (writer.busy)
		finish_batch();
	while (writer.queued.first) {
		fill_batch();
		run_batch();
		finish_batch();
	}
	event_store_close(writer.store);
	writer.store = NULL;
}
