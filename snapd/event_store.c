/* SPDX-License-Identifier: Apache-2.0 */
/* event_store.c - accepted events on disk: STATE/events.db, an SQLite database */
#include "snapd/event_store.h"

#include <assert.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/util.h"

#define APPLICATION_ID 0x51746576 /* "Qtev": file(1) shows it */

enum { SCHEMA_VERSION = 1 };

/*
 * Exclusive locking keeps the index of the write-ahead log in memory: a file for it, shared and
 * mapped, would end the process by SIGBUS where the disk is full. A small cache: events are written
 * once and read once.
 */
static const char setup_sql[] = "PRAGMA locking_mode = EXCLUSIVE;"
				"PRAGMA cell_size_check = ON;"
				"PRAGMA trusted_schema = OFF;"
				"PRAGMA temp_store = MEMORY;"
				"PRAGMA cache_size = -256;"
				"PRAGMA journal_size_limit = 4194304;";

/* Before the first table; auto_vacuum cannot be changed later. */
static const char create_sql[] = "PRAGMA auto_vacuum = INCREMENTAL;"
				 "BEGIN IMMEDIATE;"
				 "CREATE TABLE event ("
				 " id INTEGER PRIMARY KEY AUTOINCREMENT,"
				 " request_id TEXT NOT NULL,"
				 " function TEXT NOT NULL,"
				 " qualifier TEXT NOT NULL,"
				 " trace_id TEXT NOT NULL,"
				 " accepted_ms INTEGER NOT NULL,"
				 " due_ms INTEGER NOT NULL,"
				 " errors INTEGER NOT NULL,"
				 " setbacks INTEGER NOT NULL,"
				 " checksum INTEGER NOT NULL,"
				 " payload BLOB NOT NULL);"
				 "PRAGMA application_id = 0x51746576;"
				 "PRAGMA user_version = 1;"
				 "COMMIT;";
static_assert(SCHEMA_VERSION == 1 && APPLICATION_ID == 0x51746576, "as in create_sql");

enum statement {
	SQL_BEGIN,
	SQL_COMMIT,
	SQL_ADD,
	SQL_LOAD,
	SQL_RETRY,
	SQL_REMOVE,
	SQL_REMOVE_FUNCTION,
	SQL_TRIM,
	SQL_JSON,
	SQL_IS_JSON,
	SQL_COUNT
};

static const char *const sql[] = {
	[SQL_BEGIN] = "BEGIN IMMEDIATE",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ADD] = "INSERT INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
	[SQL_LOAD] = "SELECT trace_id, checksum, payload FROM event WHERE id = ?1",
	[SQL_RETRY] = "UPDATE event SET due_ms = ?2, errors = ?3, setbacks = ?4 WHERE id = ?1",
	[SQL_REMOVE] = "DELETE FROM event WHERE id = ?1",
	[SQL_REMOVE_FUNCTION] = "DELETE FROM event WHERE function = ?1",
	[SQL_TRIM] = "PRAGMA incremental_vacuum(4096)",
	[SQL_JSON] = "SELECT json(?1) WHERE json_valid(?1)",
	[SQL_IS_JSON] = "SELECT 1 WHERE json_valid(?1)",
};
static_assert(ARRAY_SIZE(sql) == SQL_COUNT, "a text for each statement");

struct event_store {
	sqlite3 *db;
	sqlite3_stmt *statements[SQL_COUNT];
	char error[EVENT_STORE_ERROR_MAX];
};

/* ---- errors ---------------------------------------------------------------------------------- */

static int errno_of(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EBADMSG;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
		return -EACCES;
	case SQLITE_TOOBIG:
		return -E2BIG;
	default:
		return -EIO;
	}
}

/** Keep SQLite's words for @rc, if it is an error. Return: 0 or -errno. */
static int check(struct event_store *s, int rc)
{
	int ret = errno_of(rc);

	if (ret == -EIO && sqlite3_system_errno(s->db) == ENOSPC)
		ret = -ENOSPC;
	if (ret)
		snprintf(s->error, sizeof(s->error), "%s", sqlite3_errmsg(s->db));
	return ret;
}

const char *event_store_error(const struct event_store *s)
{
	return s->error;
}

/** For damage that SQLite does not see. */
static int damaged(struct event_store *s, int64_t id, const char *what)
{
	snprintf(s->error, sizeof(s->error), "event %lld: %s", (long long)id, what);
	return -EBADMSG;
}

/* ---- statements ------------------------------------------------------------------------------ */

static int prepare(struct event_store *s, enum statement which, sqlite3_stmt **ret)
{
	int ret_err = 0;

	if (!s->statements[which])
		ret_err = check(s,
				sqlite3_prepare_v3(s->db, sql[which], -1, SQLITE_PREPARE_PERSISTENT,
						   &s->statements[which], NULL));
	*ret = s->statements[which];
	return ret_err;
}

/** Run a statement that returns no rows, and reset it. */
static int finish(struct event_store *s, sqlite3_stmt *stmt)
{
	int rc, ret;

	do {
		rc = sqlite3_step(stmt);
	} while (rc == SQLITE_ROW);
	ret = check(s, rc);
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return ret;
}

static int run(struct event_store *s, enum statement which)
{
	sqlite3_stmt *stmt;
	int ret = prepare(s, which, &stmt);

	return ret ? ret : finish(s, stmt);
}

int event_store_begin(struct event_store *s)
{
	return run(s, SQL_BEGIN);
}

int event_store_commit(struct event_store *s)
{
	return run(s, SQL_COMMIT);
}

void event_store_rollback(struct event_store *s)
{
	if (!sqlite3_get_autocommit(s->db))
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

static void bind_text(sqlite3_stmt *stmt, int i, const char *text)
{
	sqlite3_bind_text(stmt, i, text, -1, SQLITE_STATIC);
}

static sqlite3_int64 checksum(const void *payload, size_t n)
{
	return (sqlite3_int64)XXH3_64bits(payload, n);
}

int event_store_add(struct event_store *s, struct event_row *row)
{
	sqlite3_stmt *stmt;
	int ret = prepare(s, SQL_ADD, &stmt);

	if (ret)
		return ret;
	if (row->id)
		sqlite3_bind_int64(stmt, 1, row->id);
	bind_text(stmt, 2, row->request_id);
	bind_text(stmt, 3, row->function);
	bind_text(stmt, 4, row->qualifier);
	bind_text(stmt, 5, row->trace_id);
	sqlite3_bind_int64(stmt, 6, (sqlite3_int64)row->accepted_ms);
	sqlite3_bind_int64(stmt, 7, (sqlite3_int64)row->due_ms);
	sqlite3_bind_int64(stmt, 8, row->errors);
	sqlite3_bind_int64(stmt, 9, row->setbacks);
	sqlite3_bind_int64(stmt, 10, checksum(row->payload, row->payload_bytes));
	sqlite3_bind_blob64(stmt, 11, row->payload, row->payload_bytes, SQLITE_STATIC);
	ret = finish(s, stmt);
	if (!ret)
		row->id = sqlite3_last_insert_rowid(s->db);
	return ret;
}

/** The row that a stepped SQL_LOAD has. */
static int copy_cargo(struct event_store *s, int64_t id, sqlite3_stmt *stmt, char **ret_payload,
		      size_t *ret_bytes, char **ret_trace_id)
{
	const char *trace = (const char *)sqlite3_column_text(stmt, 0);
	sqlite3_int64 sum = sqlite3_column_int64(stmt, 1);
	const void *blob = sqlite3_column_blob(stmt, 2);
	size_t n = (size_t)sqlite3_column_bytes(stmt, 2);
	CLEANUP_FREE char *payload = NULL;
	CLEANUP_FREE char *trace_id = NULL;

	if (sqlite3_errcode(s->db) == SQLITE_NOMEM)
		return -ENOMEM;
	if (!trace || (!blob && n))
		return damaged(s, id, "it cannot be read");
	if (checksum(blob ? blob : "", n) != sum)
		return damaged(s, id, "its payload does not have its checksum");
	payload = malloc(n + 1);
	trace_id = strdup(trace);
	if (!payload || !trace_id)
		return -ENOMEM;
	if (n)
		memcpy(payload, blob, n);
	payload[n] = '\0';
	*ret_payload = steal_ptr(payload);
	*ret_trace_id = steal_ptr(trace_id);
	*ret_bytes = n;
	return 0;
}

int event_store_load(struct event_store *s, int64_t id, char **ret_payload, size_t *ret_bytes,
		     char **ret_trace_id)
{
	sqlite3_stmt *stmt;
	int ret = prepare(s, SQL_LOAD, &stmt), rc;

	if (ret)
		return ret;
	sqlite3_bind_int64(stmt, 1, id);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		ret = copy_cargo(s, id, stmt, ret_payload, ret_bytes, ret_trace_id);
	else
		ret = rc == SQLITE_DONE ? -ENOENT : check(s, rc);
	sqlite3_reset(stmt);
	return ret;
}

int event_store_retry(struct event_store *s, int64_t id, uint64_t due_ms, uint32_t errors,
		      uint32_t setbacks)
{
	sqlite3_stmt *stmt;
	int ret = prepare(s, SQL_RETRY, &stmt);

	if (ret)
		return ret;
	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)due_ms);
	sqlite3_bind_int64(stmt, 3, errors);
	sqlite3_bind_int64(stmt, 4, setbacks);
	return finish(s, stmt);
}

int event_store_remove(struct event_store *s, int64_t id)
{
	sqlite3_stmt *stmt;
	int ret = prepare(s, SQL_REMOVE, &stmt);

	if (ret)
		return ret;
	sqlite3_bind_int64(stmt, 1, id);
	return finish(s, stmt);
}

int event_store_remove_function(struct event_store *s, const char *function)
{
	sqlite3_stmt *stmt;
	int ret = prepare(s, SQL_REMOVE_FUNCTION, &stmt);

	if (ret)
		return ret;
	bind_text(stmt, 1, function);
	return finish(s, stmt);
}

int event_store_trim(struct event_store *s)
{
	return run(s, SQL_TRIM);
}

int event_store_json(struct event_store *s, const void *text, size_t n, char **ret_json)
{
	sqlite3_stmt *stmt;
	int ret = prepare(s, ret_json ? SQL_JSON : SQL_IS_JSON, &stmt), rc;

	if (ret)
		return ret;
	/* Text with a NUL in it is no JSON, but to SQLite it would end there. */
	if (memchr(text, '\0', n))
		return -EINVAL;
	sqlite3_bind_text64(stmt, 1, text, n, SQLITE_STATIC, SQLITE_UTF8);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW && ret_json) {
		const char *json = (const char *)sqlite3_column_text(stmt, 0);

		*ret_json = json ? strdup(json) : NULL;
		ret = *ret_json ? 0 : -ENOMEM;
	} else if (rc != SQLITE_ROW) {
		ret = rc == SQLITE_DONE ? -EINVAL : check(s, rc);
	}
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return ret;
}

/* ---- walking --------------------------------------------------------------------------------- */

/** Return: false when the row says what no event says. */
static bool row_of(sqlite3_stmt *stmt, struct event_row *row)
{
	*row = (struct event_row){
		.id = sqlite3_column_int64(stmt, 0),
		.request_id = (const char *)sqlite3_column_text(stmt, 1),
		.function = (const char *)sqlite3_column_text(stmt, 2),
		.qualifier = (const char *)sqlite3_column_text(stmt, 3),
		.trace_id = (const char *)sqlite3_column_text(stmt, 4),
		.accepted_ms = (uint64_t)sqlite3_column_int64(stmt, 5),
		.due_ms = (uint64_t)sqlite3_column_int64(stmt, 6),
		.errors = (uint32_t)sqlite3_column_int64(stmt, 7),
		.setbacks = (uint32_t)sqlite3_column_int64(stmt, 8),
		.payload_bytes = (size_t)sqlite3_column_int64(stmt, 9),
	};
	return row->request_id && row->function && row->qualifier && row->trace_id;
}

static int walk(struct event_store *s, const char *order, event_row_fn fn, void *arg)
{
	sqlite3_stmt *stmt = NULL;
	struct event_row row;
	char text[256];
	int ret, rc = SQLITE_DONE;

	/* length() of a blob reads its header, not the blob. */
	snprintf(text, sizeof(text),
		 "SELECT id, request_id, function, qualifier, trace_id, accepted_ms, due_ms,"
		 " errors, setbacks, length(payload) FROM event ORDER BY id %s",
		 order);
	ret = check(s, sqlite3_prepare_v2(s->db, text, -1, &stmt, NULL));
	while (!ret && (rc = sqlite3_step(stmt)) == SQLITE_ROW)
		ret = row_of(stmt, &row) ? fn(&row, arg) : damaged(s, row.id, "it cannot be read");
	if (!ret)
		ret = check(s, rc);
	sqlite3_finalize(stmt);
	return ret;
}

int event_store_walk(struct event_store *s, event_row_fn fn, void *arg)
{
	return walk(s, "ASC", fn, arg);
}

/* ---- opening --------------------------------------------------------------------------------- */

static int pragma_int(struct event_store *s, const char *text, int64_t *ret_value)
{
	sqlite3_stmt *stmt = NULL;
	int ret = check(s, sqlite3_prepare_v2(s->db, text, -1, &stmt, NULL));

	if (!ret)
		ret = check(s, sqlite3_step(stmt));
	if (!ret)
		*ret_value = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return ret;
}

static int exec(struct event_store *s, const char *text)
{
	return check(s, sqlite3_exec(s->db, text, NULL, NULL, NULL));
}

/** Is it ours, and of a version that we know? An empty one becomes ours. */
static int check_schema(struct event_store *s)
{
	int64_t application = 0, version = 0, pages = 0;
	int ret = pragma_int(s, "PRAGMA page_count", &pages);

	if (!ret && !pages)
		return exec(s, create_sql);
	if (!ret)
		ret = pragma_int(s, "PRAGMA application_id", &application);
	if (!ret)
		ret = pragma_int(s, "PRAGMA user_version", &version);
	if (ret)
		return ret;
	if (application != APPLICATION_ID || version < 1) {
		snprintf(s->error, sizeof(s->error), "it is not a database of events");
		return -EBADMSG;
	}
	if (version > SCHEMA_VERSION) {
		snprintf(s->error, sizeof(s->error),
			 "a newer snapd made it (version %lld, this one knows %d)",
			 (long long)version, SCHEMA_VERSION);
		return -EPROTO;
	}
	return 0;
}

static int open_db(struct event_store *s, const char *path)
{
	int ret = errno_of(sqlite3_open_v2(
		path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
		NULL));

	if (!s->db)
		return -ENOMEM;
	sqlite3_extended_result_codes(s->db, 1);
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_LOOKASIDE, NULL, 0, 0);
	if (ret)
		snprintf(s->error, sizeof(s->error), "%s", sqlite3_errmsg(s->db));
	else
		ret = exec(s, setup_sql);
	if (!ret)
		ret = check_schema(s);
	if (!ret)
		ret = exec(s, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
	return ret;
}

int event_store_open(const char *path, struct event_store **ret_store,
		     char why[EVENT_STORE_ERROR_MAX])
{
	struct event_store *s = calloc(1, sizeof(*s));
	int ret = s ? open_db(s, path) : -ENOMEM;

	if (ret) {
		snprintf(why, EVENT_STORE_ERROR_MAX, "%s",
			 s && *s->error ? s->error : strerror(-ret));
		event_store_close(s);
		return ret;
	}
	*ret_store = s;
	return 0;
}

void event_store_close(struct event_store *s)
{
	if (!s)
		return;
	for (int i = 0; i < SQL_COUNT; i++)
		sqlite3_finalize(s->statements[i]);
	sqlite3_close(s->db);
	free(s);
}

/* ---- recovery -------------------------------------------------------------------------------- */

/** struct rescue - what is copied out of a damaged database. @last: the highest id so far. */
struct rescue {
	struct event_store *from, *to;
	int64_t last;
	size_t saved;
};

/** Copies one event, if it is whole. */
static int rescue_row(const struct event_row *row, void *arg)
{
	struct rescue *r = arg;
	struct event_row copy = *row;
	CLEANUP_FREE char *payload = NULL;
	CLEANUP_FREE char *trace_id = NULL;
	size_t n = 0;
	int ret;

	if (row->id <= r->last)
		return -EEXIST; /* going back, we meet what going forth has copied */
	if (event_store_load(r->from, row->id, &payload, &n, &trace_id))
		return 0;
	copy.payload = payload;
	copy.payload_bytes = n;
	ret = event_store_add(r->to, &copy);
	r->saved += !ret;
	return ret;
}

static int rescue_forth(const struct event_row *row, void *arg)
{
	int ret = rescue_row(row, arg);

	((struct rescue *)arg)->last = row->id;
	return ret;
}

/** From both ends, up to the damage. Return: an error of the new database. */
static int rescue_all(struct rescue *r)
{
	int ret = event_store_begin(r->to);

	if (!ret)
		ret = walk(r->from, "ASC", rescue_forth, r);
	/* Its own error, or that of the damaged one? */
	if (ret && !*r->to->error)
		walk(r->from, "DESC", rescue_row, r);
	if (*r->to->error) {
		event_store_rollback(r->to);
		return -EIO;
	}
	return event_store_commit(r->to);
}

/** Rename a database together with its log. */
static int rename_database(const char *from, const char *to)
{
	char wal_from[PATH_MAX], wal_to[PATH_MAX];

	if (snprintf(wal_from, sizeof(wal_from), "%s-wal", from) >= PATH_MAX ||
	    snprintf(wal_to, sizeof(wal_to), "%s-wal", to) >= PATH_MAX)
		return -ENAMETOOLONG;
	/* The log first: under its old name it would be taken for that of a new database. */
	if (rename(wal_from, wal_to) && errno != ENOENT)
		return -errno;
	return rename(from, to) ? -errno : 0;
}

int event_store_recover(const char *path, struct event_store **ret_store, size_t *ret_saved,
			char aside[PATH_MAX])
{
	struct rescue rescue = {.from = NULL};
	char why[EVENT_STORE_ERROR_MAX];
	int ret;

	if (snprintf(aside, PATH_MAX, "%s.damaged-%llu", path,
		     (unsigned long long)(clock_real_ns() / 1000000)) >= PATH_MAX)
		return -ENAMETOOLONG;
	ret = rename_database(path, aside);
	if (ret)
		return ret;
	ret = event_store_open(path, &rescue.to, why);
	/* Where the old one cannot even be opened, nothing can be saved. */
	if (!ret && !event_store_open(aside, &rescue.from, why))
		ret = rescue_all(&rescue);
	event_store_close(rescue.from);
	if (ret) {
		event_store_close(rescue.to);
		rename_database(aside, path);
		return ret;
	}
	*ret_store = rescue.to;
	*ret_saved = rescue.saved;
	return 0;
}
