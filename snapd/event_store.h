/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_store.h - accepted events on disk: STATE/events.db, an SQLite database
 *
 * Write-ahead log, synchronous=FULL: what event_store_commit() has confirmed survives a kill -9 and
 * a loss of power. Payloads carry a checksum (XXH3): SQLite notices damage of its own structure,
 * not of what it stores.
 *
 * All functions block and return 0 or -errno: -ENOSPC (disk full; the transaction is to be rolled
 * back, what was committed before it is there), -EBADMSG (damaged: event_store_recover()), -ENOMEM,
 * -EIO. One thread at a time may use a store.
 */
#ifndef QUICKTHAW_SNAPD_EVENT_STORE_H
#define QUICKTHAW_SNAPD_EVENT_STORE_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

enum { EVENT_STORE_ERROR_MAX = 320 };

struct event_store;

/**
 * struct event_row - one event. Texts are the caller's, or malloc'ed where they are returned.
 * @id: in order of acceptance; given by event_store_add()
 * @qualifier: as the caller of Invoke gave it, "" for none
 * @accepted_ms, @due_ms: wall time
 * @errors, @setbacks: as in struct event_history
 */
struct event_row {
	int64_t id;
	const char *request_id;
	const char *function;
	const char *qualifier;
	const char *trace_id;
	uint64_t accepted_ms, due_ms;
	uint32_t errors, setbacks;
	const void *payload;
	size_t payload_bytes;
};

/**
 * event_store_open() - open or make the database.
 * @why: filled on error: what is wrong, for people
 * Return: -EBADMSG when it is damaged or no database of ours, -EPROTO when a newer snapd made it.
 */
int event_store_open(const char *path, struct event_store **ret, char why[EVENT_STORE_ERROR_MAX]);
/** event_store_close() - NULL is legal. */
void event_store_close(struct event_store *s);
/** event_store_error() - what went wrong last, for people. */
const char *event_store_error(const struct event_store *s);

/**
 * event_store_recover() - a damaged database is set aside as PATH.damaged-TIME, and what can be
 * read of it is copied into a new one, under the same ids. Nobody has it open.
 * @ret_saved: events that were copied; @aside: where the old one is now
 * Return: 0 or -errno; on error the old one is where it was.
 */
int event_store_recover(const char *path, struct event_store **ret, size_t *ret_saved,
			char aside[PATH_MAX]);

/** typedef event_row_fn - Return: 0 to go on, or an error that ends the walk. */
typedef int (*event_row_fn)(const struct event_row *row, void *arg);
/** event_store_walk() - all events in order of acceptance, without their payloads (NULL, but
 * payload_bytes is set). */
int event_store_walk(struct event_store *s, event_row_fn fn, void *arg);

int event_store_begin(struct event_store *s);
int event_store_commit(struct event_store *s);
/** event_store_rollback() - also when SQLite has done it already. */
void event_store_rollback(struct event_store *s);

/** event_store_add() - @row->id is set. */
int event_store_add(struct event_store *s, struct event_row *row);
/** event_store_load() - payload and trace id of an event. Return: -ENOENT: it is not there;
 * -EBADMSG also when the payload does not have its checksum. */
int event_store_load(struct event_store *s, int64_t id, char **ret_payload, size_t *ret_bytes,
		     char **ret_trace_id);
/** event_store_retry() - it is to be tried again. */
int event_store_retry(struct event_store *s, int64_t id, uint64_t due_ms, uint32_t errors,
		      uint32_t setbacks);
int event_store_remove(struct event_store *s, int64_t id);
/** event_store_remove_function() - all events of a function. */
int event_store_remove_function(struct event_store *s, const char *function);
/** event_store_trim() - give pages that are free back to the file system. */
int event_store_trim(struct event_store *s);

/**
 * event_store_json() - JSON in its shortest form: one line, numbers as they are written.
 * SQLite's functions: the text needs no tree of objects in memory.
 * @ret: malloc'ed; NULL: only say whether it is JSON
 * Return: -EINVAL when it is no JSON.
 */
int event_store_json(struct event_store *s, const void *text, size_t n, char **ret);

#endif
