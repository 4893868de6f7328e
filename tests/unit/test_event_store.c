/* SPDX-License-Identifier: Apache-2.0 */
/* test_event_store.c - accepted events survive kill -9, damage and a full disk */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/util.h"
#include "snapd/event_store.h"
#include "snapd/tree.h"

enum { IDS_MAX = 100000 };

static char dir[64], path[96];

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/quickthaw-events.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/events.db", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	return tree_remove(AT_FDCWD, dir);
}

static struct event_store *must_open(void)
{
	struct event_store *s = NULL;
	char why[EVENT_STORE_ERROR_MAX] = "";

	if (event_store_open(path, &s, why))
		fail_msg("%s: %s", path, why);
	return s;
}

/** A payload that tells its id: @n bytes. */
static char *payload_of(uint64_t number, size_t n)
{
	char *payload = malloc(n + 32);

	assert_non_null(payload);
	memset(payload, 'a' + (int)(number % 26), n + 32);
	snprintf(payload, 32, "{\"n\": %llu}", (unsigned long long)number);
	payload[n] = '\0';
	return payload;
}

static int add(struct event_store *s, const char *function, uint64_t number, size_t n,
	       int64_t *ret_id)
{
	CLEANUP_FREE char *payload = payload_of(number, n);
	struct event_row row = {
		.request_id = "5f1c3f2e-5d5c-4d7e-9d2b-5b8a1f0c9e11",
		.function = function,
		.qualifier = "live",
		.trace_id = "Root=1-2-3",
		.accepted_ms = 1000 + number,
		.due_ms = 2000 + number,
		.payload = payload,
		.payload_bytes = n,
	};
	int ret = event_store_add(s, &row);

	if (!ret && ret_id)
		*ret_id = row.id;
	return ret;
}

/** One event in a transaction of its own. */
static int64_t must_add(struct event_store *s, const char *function, uint64_t number, size_t n)
{
	int64_t id = 0;

	assert_int_equal(event_store_begin(s), 0);
	assert_int_equal(add(s, function, number, n, &id), 0);
	assert_int_equal(event_store_commit(s), 0);
	return id;
}

static void assert_loads(struct event_store *s, int64_t id, uint64_t number, size_t n)
{
	CLEANUP_FREE char *wanted = payload_of(number, n);
	CLEANUP_FREE char *payload = NULL;
	CLEANUP_FREE char *trace = NULL;
	size_t bytes;

	assert_int_equal(event_store_load(s, id, &payload, &bytes, &trace), 0);
	assert_int_equal(bytes, n);
	assert_memory_equal(payload, wanted, n);
	assert_string_equal(trace, "Root=1-2-3");
}

static int count_row(const struct event_row *row, void *arg)
{
	assert_true(row->id > 0);
	*(size_t *)arg += 1;
	return 0;
}

static size_t count(struct event_store *s)
{
	size_t n = 0;

	assert_int_equal(event_store_walk(s, count_row, &n), 0);
	return n;
}

/* ---- what it keeps --------------------------------------------------------------------------- */

static int check_row(const struct event_row *row, void *arg)
{
	(void)arg;
	assert_string_equal(row->request_id, "5f1c3f2e-5d5c-4d7e-9d2b-5b8a1f0c9e11");
	assert_string_equal(row->function, "hello");
	assert_string_equal(row->qualifier, "live");
	assert_string_equal(row->trace_id, "Root=1-2-3");
	assert_int_equal(row->accepted_ms, 1007);
	assert_int_equal(row->due_ms, 99000);
	assert_int_equal(row->errors, 2);
	assert_int_equal(row->setbacks, 3);
	assert_int_equal(row->payload_bytes, 5000);
	return 0;
}

static void test_events_are_kept_as_they_were(void **state)
{
	struct event_store *s = must_open();
	int64_t id = must_add(s, "hello", 7, 5000), empty;
	CLEANUP_FREE char *payload = NULL;
	CLEANUP_FREE char *trace = NULL;
	size_t n = 1;

	(void)state;
	assert_int_equal(event_store_retry(s, id, 99000, 2, 3), 0);
	event_store_close(s);
	s = must_open();
	assert_int_equal(count(s), 1);
	assert_int_equal(event_store_walk(s, check_row, NULL), 0);
	assert_loads(s, id, 7, 5000);
	empty = must_add(s, "hello", 8, 0);
	assert_int_equal(event_store_load(s, empty, &payload, &n, &trace), 0);
	assert_int_equal(n, 0);
	assert_int_equal(event_store_load(s, empty + 1, &payload, &n, &trace), -ENOENT);
	event_store_close(s);
}

static void test_ids_are_never_given_twice(void **state)
{
	struct event_store *s = must_open();
	int64_t first = must_add(s, "a", 1, 10);

	(void)state;
	assert_int_equal(event_store_remove(s, first), 0);
	event_store_close(s);
	s = must_open();
	assert_true(must_add(s, "a", 2, 10) > first);
	event_store_close(s);
}

static void test_a_functions_events_go_with_it(void **state)
{
	struct event_store *s = must_open();

	(void)state;
	for (uint64_t i = 0; i < 10; i++)
		must_add(s, i % 2 ? "odd" : "even", i, 100);
	assert_int_equal(event_store_remove_function(s, "odd"), 0);
	assert_int_equal(event_store_remove_function(s, "none"), 0);
	assert_int_equal(count(s), 5);
	event_store_close(s);
}

static void test_what_is_rolled_back_was_never_there(void **state)
{
	struct event_store *s = must_open();

	(void)state;
	must_add(s, "a", 1, 10);
	assert_int_equal(event_store_begin(s), 0);
	assert_int_equal(add(s, "a", 2, 10, NULL), 0);
	event_store_rollback(s);
	event_store_rollback(s); /* harmless */
	assert_int_equal(count(s), 1);
	event_store_close(s);
}

static void test_room_is_given_back(void **state)
{
	struct event_store *s = must_open();
	struct stat before, after;

	(void)state;
	assert_int_equal(event_store_begin(s), 0);
	for (uint64_t i = 0; i < 64; i++)
		assert_int_equal(add(s, "a", i, 100000, NULL), 0);
	assert_int_equal(event_store_commit(s), 0);
	event_store_close(s);
	assert_int_equal(stat(path, &before), 0);
	s = must_open();
	assert_int_equal(event_store_remove_function(s, "a"), 0);
	assert_int_equal(event_store_trim(s), 0);
	event_store_close(s);
	assert_int_equal(stat(path, &after), 0);
	assert_true(before.st_size > 6400000);
	assert_true(after.st_size < 100000);
}

static void test_json_is_shortened_and_its_numbers_stay(void **state)
{
	static const char *const bad[] = {"", "{", "{'a':1}", "nul", "[1,]", "\"\n\"", "1 2"};
	static const char text[] = "{ \"a\" :\n\t[ 1.10, 123456789012345678901234567890, \"x y\" ],"
				   " \"b\":null }\r\n";
	struct event_store *s = must_open();
	CLEANUP_FREE char *json = NULL;

	(void)state;
	assert_int_equal(event_store_json(s, text, sizeof(text) - 1, &json), 0);
	assert_string_equal(json, "{\"a\":[1.10,123456789012345678901234567890,\"x y\"],"
				  "\"b\":null}");
	assert_int_equal(event_store_json(s, text, sizeof(text) - 1, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *none;

		assert_int_equal(event_store_json(s, bad[i], strlen(bad[i]), NULL), -EINVAL);
		assert_int_equal(event_store_json(s, bad[i], strlen(bad[i]), &none), -EINVAL);
	}
	assert_int_equal(event_store_json(s, "1\0", 2, &json), -EINVAL);
	event_store_close(s);
}

/* ---- kill -9 --------------------------------------------------------------------------------- */

/** struct note - what the child says once it is committed. */
struct note {
	int64_t id;
	uint64_t number;
	uint32_t bytes;
	uint32_t removed;
};

/** Add events in groups of many sizes and remove every third, telling what is committed. A child
 * must not fail by an assertion: it would go on with the tests. */
static _Noreturn void write_until_killed(int fd, unsigned seed)
{
	char why[EVENT_STORE_ERROR_MAX];
	struct event_store *s;
	struct note notes[20];
	int ret = event_store_open(path, &s, why);

	for (uint64_t number = (uint64_t)seed << 32; !ret;) {
		int n = 1 + rand_r(&seed) % (int)ARRAY_SIZE(notes);

		ret = event_store_begin(s);
		for (int i = 0; i < n && !ret; i++, number++) {
			struct note *note = &notes[i];

			*note = (struct note){
				.number = number,
				.bytes = 16 + (uint32_t)rand_r(&seed) % 20000,
				.removed = number % 3 == 0,
			};
			ret = add(s, "f", number, note->bytes, &note->id);
			if (!ret && note->removed)
				ret = event_store_remove(s, note->id);
		}
		if (!ret)
			ret = event_store_commit(s);
		if (!ret)
			ret = write_full(fd, notes, (size_t)n * sizeof(*notes));
	}
	_exit(1);
}

static struct note *acknowledged;
static size_t acknowledged_n;

/** One child: it writes until it has told of some events and a moment more, then it is killed. */
static void run_and_kill(unsigned seed)
{
	struct note note;
	int fds[2], status, target = 1 + rand_r(&seed) % 60;
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		close(fds[0]);
		write_until_killed(fds[1], seed);
	}
	close(fds[1]);
	for (int told = 0; read_full(fds[0], &note, sizeof(note)) == sizeof(note); told++) {
		assert_true(acknowledged_n < IDS_MAX);
		acknowledged[acknowledged_n++] = note;
		if (told == target) {
			/* Anywhere within the next transactions. */
			usleep((useconds_t)(rand_r(&seed) % 4000));
			kill(pid, SIGKILL);
		}
	}
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_kill_9_loses_nothing_that_was_committed(void **state)
{
	struct event_store *s;
	char *payload, *trace;
	size_t n;

	(void)state;
	acknowledged = calloc(IDS_MAX, sizeof(*acknowledged));
	assert_non_null(acknowledged);
	acknowledged_n = 0;
	for (unsigned round = 0; round < 25; round++)
		run_and_kill(round * 7919 + 1);
	s = must_open();
	for (size_t i = 0; i < acknowledged_n; i++) {
		const struct note *note = &acknowledged[i];

		if (note->removed)
			assert_int_equal(event_store_load(s, note->id, &payload, &n, &trace),
					 -ENOENT);
		else
			assert_loads(s, note->id, note->number, note->bytes);
	}
	assert_true(acknowledged_n > 25);
	event_store_close(s);
	free(acknowledged);
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void overwrite(uint64_t offset, const void *data, size_t n)
{
	CLEANUP_FD int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite_full(fd, data, n, offset), 0);
}

/** @n events of @bytes, all in the database's file and none in its log. */
static void fill(uint64_t n, size_t bytes)
{
	struct event_store *s = must_open();

	assert_int_equal(event_store_begin(s), 0);
	for (uint64_t i = 1; i <= n; i++)
		assert_int_equal(add(s, "f", i, bytes, NULL), 0);
	assert_int_equal(event_store_commit(s), 0);
	event_store_close(s);
}

/** Open, recover if need be. Return: events saved. */
static size_t recover(void)
{
	struct event_store *s = NULL;
	char aside[PATH_MAX] = "", why[EVENT_STORE_ERROR_MAX];
	size_t saved = 0;

	assert_int_equal(event_store_recover(path, &s, &saved, aside), 0);
	assert_int_equal(count(s), saved);
	must_add(s, "f", 9999, 100); /* it can be used */
	event_store_close(s);
	assert_int_equal(access(aside, F_OK), 0);
	s = NULL;
	assert_int_equal(event_store_open(path, &s, why), 0);
	assert_int_equal(count(s), saved + 1);
	event_store_close(s);
	return saved;
}

static void test_what_is_no_database_is_refused(void **state)
{
	struct event_store *s = NULL;
	char why[EVENT_STORE_ERROR_MAX] = "";
	char rubbish[8192];

	(void)state;
	memset(rubbish, 'x', sizeof(rubbish));
	fill(10, 100);
	overwrite(0, rubbish, sizeof(rubbish));
	assert_int_equal(event_store_open(path, &s, why), -EBADMSG);
	assert_non_null(strstr(why, "not a database"));
	assert_null(s);
	assert_int_equal(recover(), 0);
}

static void test_somebody_elses_database_is_refused(void **state)
{
	struct event_store *s = NULL;
	char why[EVENT_STORE_ERROR_MAX] = "";
	sqlite3 *db;

	(void)state;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "CREATE TABLE t (a)", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	assert_int_equal(event_store_open(path, &s, why), -EBADMSG);
	assert_non_null(strstr(why, "not a database of events"));
}

static void test_a_newer_database_is_refused(void **state)
{
	struct event_store *s = NULL;
	char why[EVENT_STORE_ERROR_MAX] = "";
	sqlite3 *db;

	(void)state;
	fill(1, 10);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 2", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	assert_int_equal(event_store_open(path, &s, why), -EPROTO);
	assert_non_null(strstr(why, "newer"));
}

static void test_events_before_and_after_a_damaged_page_are_saved(void **state)
{
	uint8_t rubbish[4096];
	struct stat st;
	size_t saved;

	(void)state;
	memset(rubbish, 0xee, sizeof(rubbish));
	fill(2000, 300);
	assert_int_equal(stat(path, &st), 0);
	overwrite(align_down((uint64_t)st.st_size / 2, 4096), rubbish, sizeof(rubbish));
	saved = recover();
	/* One page of leaves has about a dozen. */
	assert_true(saved >= 1950 && saved < 2000);
}

/** Where the first event's payload is in the file. */
static uint64_t find_payload(const char *text)
{
	CLEANUP_FREE char *data = NULL;
	size_t n;
	const char *at;

	assert_int_equal(read_file(AT_FDCWD, path, 1 << 20, &data, &n), 0);
	at = memmem(data, n, text, strlen(text));
	assert_non_null(at);
	return (uint64_t)(at - data);
}

static void test_a_payload_that_was_changed_is_noticed(void **state)
{
	struct event_store *s;
	char *payload, *trace;
	size_t n;

	(void)state;
	fill(3, 100);
	overwrite(find_payload("{\"n\": 2}") + 6, "7", 1);
	s = must_open();
	assert_loads(s, 1, 1, 100);
	assert_int_equal(event_store_load(s, 2, &payload, &n, &trace), -EBADMSG);
	assert_non_null(strstr(event_store_error(s), "checksum"));
	event_store_close(s);
	assert_int_equal(recover(), 2);
}

/** Any single damaged byte: an error or a recovery, never a crash, and never a wrong payload. */
static void test_damage_anywhere_is_survived(void **state)
{
	CLEANUP_FREE char *good = NULL;
	unsigned seed = 1;
	size_t size;

	(void)state;
	fill(40, 700);
	assert_int_equal(read_file(AT_FDCWD, path, 1 << 20, &good, &size), 0);
	for (int i = 0; i < 300; i++) {
		struct event_store *s = NULL;
		char why[EVENT_STORE_ERROR_MAX];
		uint8_t byte = (uint8_t)rand_r(&seed);
		size_t n = 0;
		int ret;

		overwrite(0, good, size);
		overwrite((uint64_t)rand_r(&seed) % size, &byte, 1);
		ret = event_store_open(path, &s, why);
		if (!ret)
			ret = event_store_walk(s, count_row, &n);
		for (int64_t id = 1; !ret && id <= 40; id++) {
			CLEANUP_FREE char *wanted = payload_of((uint64_t)id, 700);
			CLEANUP_FREE char *payload = NULL;
			CLEANUP_FREE char *trace = NULL;

			if (!event_store_load(s, id, &payload, &n, &trace))
				assert_memory_equal(payload, wanted, 700);
		}
		event_store_close(s);
	}
	overwrite(0, good, size);
	assert_int_equal(recover(), 40);
}

/* ---- a full disk ----------------------------------------------------------------------------- */

static void test_a_full_disk_fails_one_transaction_and_loses_nothing(void **state)
{
	struct event_store *s;
	uint64_t n = 0;
	int ret = 0;

	(void)state;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", dir, "tmpfs", 0, "size=3m")) {
		print_message("mounting a small file system: %s\n", strerror(errno));
		skip();
	}
	s = must_open();
	while (!ret && n < 1000) {
		ret = event_store_begin(s);
		if (!ret)
			ret = add(s, "f", n, 20000, NULL);
		if (!ret)
			ret = event_store_commit(s);
		if (ret)
			event_store_rollback(s);
		else
			n++;
	}
	assert_int_equal(ret, -ENOSPC);
	assert_true(n > 10);
	assert_non_null(strstr(event_store_error(s), "full"));
	/* They are there, now and after the next start. */
	assert_int_equal(count(s), n);
	event_store_close(s);
	s = must_open();
	assert_int_equal(count(s), n);
	for (uint64_t i = 0; i < n; i++)
		assert_loads(s, (int64_t)i + 1, i, 20000);
	event_store_close(s);
	assert_int_equal(umount2(dir, MNT_DETACH), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_events_are_kept_as_they_were),
		TEST(test_ids_are_never_given_twice),
		TEST(test_a_functions_events_go_with_it),
		TEST(test_what_is_rolled_back_was_never_there),
		TEST(test_room_is_given_back),
		TEST(test_json_is_shortened_and_its_numbers_stay),
		TEST(test_kill_9_loses_nothing_that_was_committed),
		TEST(test_what_is_no_database_is_refused),
		TEST(test_somebody_elses_database_is_refused),
		TEST(test_a_newer_database_is_refused),
		TEST(test_events_before_and_after_a_damaged_page_are_saved),
		TEST(test_a_payload_that_was_changed_is_noticed),
		TEST(test_damage_anywhere_is_survived),
		TEST(test_a_full_disk_fails_one_transaction_and_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
