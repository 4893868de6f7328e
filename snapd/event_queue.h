/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_queue.h - asynchronous invocations: accepted once on disk, run later, tried again
 *
 * Lambda's InvocationType=Event. An event that was accepted is not lost: it is run at least once,
 * or its life ends with a record at its function's on-failure destination. One whose end is on disk
 * never runs again; one that ran when snapd was killed may run once more.
 */
#ifndef QUICKTHAW_SNAPD_EVENT_QUEUE_H
#define QUICKTHAW_SNAPD_EVENT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapd/function.h"

enum { EVENTS_MAX = 50000 };
#define EVENT_BYTES_MAX (1ull << 30)

/**
 * struct event_queue_params - limits.
 * @path: of the database
 * @destination_dir: absolute path of the directory for destinations that are files, "" for none
 * @events_max, @bytes_max: what may be accepted and not be over, payloads in bytes
 * @concurrency: events that are run at a time; no function has more than half of them
 * @retry_delay_ns: before the first retry after an error of the function
 */
struct event_queue_params {
	const char *path;
	const char *destination_dir;
	size_t events_max;
	uint64_t bytes_max;
	unsigned concurrency;
	uint64_t retry_delay_ns;
};

/**
 * event_queue_init() - take up what an earlier snapd has accepted. After functions, scheduler and
 * worker; before anything is served. Blocks.
 * Return: 0 or -errno; logged.
 */
int event_queue_init(const struct event_queue_params *params);
/** event_queue_stop() - before the instances are ended: what they say from now on is not an event's
 * outcome. */
void event_queue_stop(void);
/** event_queue_finish() - after all instances: write what is known, close. Events that were not
 * over run when snapd starts again. Blocks. */
void event_queue_finish(void);

/**
 * typedef event_added_fn - an event is on disk, or is not and will not be run.
 * @err: 0, -EINVAL: the payload is no JSON, -ENOSPC: no room on the disk, or another error
 * @error: of the database, for people; "" for none
 */
typedef void (*event_added_fn)(void *arg, const char *request_id, int err, const char *error);

/**
 * event_queue_add() - accept an event.
 * @qualifier: "" for none; resolved anew at every attempt
 * @payload: malloc'ed, @n bytes, not 0; becomes the queue's unless an error is returned
 * @added: called later, once
 * Return: 0, -EBUSY when the queue is full, -ENOMEM.
 */
int event_queue_add(struct function *f, const char *qualifier, const char *trace_id, char *payload,
		    size_t n, event_added_fn added, void *arg);

/** event_queue_drop() - a function was deleted (functions_remove()): its events go with it. */
void event_queue_drop(struct function *f);

/** event_queue_check_destination() - may it be set? Return: 0, or -EINVAL with @ret_why. */
int event_queue_check_destination(const char *text, const char **ret_why);

/** event_queue_turn() - once per turn of the loop, after whatever may queue events or end
 * invocations. */
void event_queue_turn(uint64_t now_ns);
/** event_queue_next_ns() - when event_queue_turn() has to run though nothing happens. */
uint64_t event_queue_next_ns(void);

/**
 * struct event_counts - since snapd started.
 * @succeeded: run to the end without an error
 * @retried: attempts that ended with an error and are followed by another
 * @set_back: attempts that did not come to run: throttled, or an error of the service
 * @exhausted, @expired: given up: RetriesExhausted, EventAgeExceeded
 * @lost: in a damaged part of the database
 */
struct event_counts {
	uint64_t accepted, succeeded, retried, set_back, exhausted, expired, lost;
};

/**
 * struct event_queue_stats - what there is now.
 * @depth: accepted and not over; @bytes: their payloads
 * @in_flight: those of them that are being run
 * @oldest_age_ns: of those accepted first; 0 when there is none
 * @refused: for want of room in the queue
 * @delivery_failures: records that did not reach their destination
 * @first_age_sum_ns, @first_age_count: from acceptance to the first attempt (AsyncEventAge)
 */
struct event_queue_stats {
	struct event_counts counts;
	size_t depth;
	uint64_t bytes;
	unsigned in_flight;
	uint64_t oldest_age_ns;
	uint64_t refused;
	uint64_t delivery_failures;
	uint64_t first_age_sum_ns, first_age_count;
};
struct event_queue_stats event_queue_stats(void);

/** struct event_function_stats - the same of one function; all zero where it never had an event. */
struct event_function_stats {
	struct event_counts counts;
	size_t depth;
	unsigned in_flight;
	uint64_t oldest_age_ns;
};
struct event_function_stats event_function_stats(const struct function *f);

#endif
