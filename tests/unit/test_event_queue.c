/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_event_queue.c - accepted events: run, tried again, given up, taken up after a kill
 *
 * The queue, its thread, its database and the loop are the real ones. Invocations need a guest, so
 * here the test is the scheduler: it says how each attempt ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
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
#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/event_loop.h"
#include "snapd/event_queue.h"
#include "snapd/scheduler.h"
#include "snapd/tree.h"
#include "snapd/worker.h"

enum { ATTEMPTS_MAX = 256, TURNS_MAX = 4000 };

static char dir[64], path[96], files[96];
static struct function *hello, *other;

/* ---- the scheduler --------------------------------------------------------------------------- */

/** struct attempt - an invocation that the queue has asked for. */
struct attempt {
	struct invocation_request request;
	char request_id[40];
	char payload[4096];
	bool over;
};

static struct attempt attempts[ATTEMPTS_MAX];
static size_t attempts_n;
static int throttle; /* that many invocations find no room */

int __wrap_scheduler_invoke(const struct invocation_request *request);
void *__wrap_invocation_arg(const struct invocation *inv);

int __wrap_scheduler_invoke(const struct invocation_request *request)
{
	struct attempt *a;

	if (throttle) {
		throttle--;
		return -EBUSY;
	}
	assert_true(attempts_n < ATTEMPTS_MAX);
	a = &attempts[attempts_n++];
	a->over = false;
	a->request = *request;
	snprintf(a->request_id, sizeof(a->request_id), "%s", request->request_id);
	snprintf(a->payload, sizeof(a->payload), "%.*s", (int)request->payload_bytes,
		 (const char *)request->payload);
	return 0;
}

void *__wrap_invocation_arg(const struct invocation *inv)
{
	return ((const struct attempt *)(const void *)inv)->request.arg;
}

static void end_attempt(struct attempt *a, unsigned status, bool function_error,
			const char *payload)
{
	const struct invocation_outcome out = {
		.status = status,
		.function_error = function_error,
		.payload = payload,
		.payload_bytes = strlen(payload),
	};

	assert_false(a->over);
	a->over = true;
	a->request.done((struct invocation *)(void *)a, &out);
}

static void succeed(struct attempt *a)
{
	end_attempt(a, 200, false, "\"fine\"");
}

static void fail_attempt(struct attempt *a)
{
	end_attempt(a, 200, true, "{\"errorMessage\":\"no\",\"errorType\":\"Oops\"}");
}

/* ---- snapd around it ------------------------------------------------------------------------- */

static struct event_queue_params params = {
	.path = path,
	.destination_dir = files,
	.events_max = 1000,
	.bytes_max = 64 << 20,
	.concurrency = 4,
	.retry_delay_ns = 20000000,
};

static void start_queue(void)
{
	assert_int_equal(event_loop_init(), 0);
	assert_int_equal(worker_init(), 0);
	attempts_n = 0;
	throttle = 0;
	assert_int_equal(event_queue_init(&params), 0);
}

static void end_queue(void)
{
	event_queue_stop();
	event_queue_finish();
	worker_finish();
	event_loop_finish();
}

static int set_up(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/quickthaw-events.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/events.db", dir);
	snprintf(files, sizeof(files), "%s/out", dir);
	assert_int_equal(mkdir(files, 0700), 0);
	params.events_max = 1000;
	hello = function_new("hello");
	other = function_new("other");
	functions_add(hello);
	functions_add(other);
	start_queue();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	end_queue();
	if (functions_find("hello"))
		functions_remove(hello);
	functions_remove(other);
	return tree_remove(AT_FDCWD, dir);
}

static void turn(void)
{
	uint64_t now = clock_mono_ns(), next;

	event_queue_turn(now);
	next = event_queue_next_ns();
	next = next > now ? next - now : 0;
	assert_int_equal(event_loop_turn(MIN(next, (uint64_t)5000000)), 0);
}

/** Run the loop until @x; a test that waits for what never comes fails. */
#define TURN_UNTIL(x)                                                                              \
	do {                                                                                       \
		int turns;                                                                         \
                                                                                                   \
		for (turns = 0; !(x) && turns < TURNS_MAX; turns++)                                \
			turn();                                                                    \
		assert_true(x);                                                                    \
	} while (0)

static int accepted, refused;
static char last_id[40];

static void on_added(void *arg, const char *request_id, int err, const char *error)
{
	(void)error;
	if (arg)
		*(int *)arg = err;
	accepted += !err;
	refused += err != 0;
	snprintf(last_id, sizeof(last_id), "%s", request_id);
}

static int add(struct function *f, const char *qualifier, const char *payload, int *ret_err)
{
	char *copy = strdup(payload);
	int ret = event_queue_add(f, qualifier, "Root=1", copy, strlen(copy), on_added, ret_err);

	if (ret)
		free(copy);
	return ret;
}

/** Accept one event; it is on disk when this returns. */
static void must_add(struct function *f, const char *payload)
{
	int before = accepted;

	assert_int_equal(add(f, "", payload, NULL), 0);
	TURN_UNTIL(accepted > before);
}

static size_t depth(void)
{
	return event_queue_stats().depth;
}

static struct event_invoke_config *configure(struct function *f, const char *qualifier)
{
	struct event_invoke_config *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	event_invoke_config_init(c);
	snprintf(c->entry.qualifier, sizeof(c->entry.qualifier), "%s", qualifier);
	assert_int_equal(qualified_insert(&f->control.event_invokes, &c->entry), 0);
	return c;
}

/** Line @n of a destination file, from 0. */
static json_t *record(const char *name, int n)
{
	CLEANUP_FREE char *data = NULL;
	char file[160], *line;

	snprintf(file, sizeof(file), "%s/%s", files, name);
	assert_int_equal(read_file(AT_FDCWD, file, 1 << 20, &data, NULL), 0);
	for (line = data; n; n--)
		line = strchr(line, '\n') + 1;
	*strchrnul(line, '\n') = '\0';
	return json_loads(line, 0, NULL);
}

static const char *context(const json_t *root, const char *key)
{
	return json_string_value(json_object_get(json_object_get(root, "requestContext"), key));
}

/* ---- the life of an event -------------------------------------------------------------------- */

static void test_an_event_is_accepted_run_and_over(void **state)
{
	(void)state;
	assert_int_not_equal(access(path, F_OK), 0); /* no database before it is needed */
	must_add(hello, "{\"n\": 1}");
	TURN_UNTIL(attempts_n == 1);
	assert_string_equal(attempts[0].payload, "{\"n\": 1}");
	assert_string_equal(attempts[0].request_id, last_id);
	assert_string_equal(attempts[0].request.trace_id, "Root=1");
	assert_int_equal(event_queue_stats().in_flight, 1);
	succeed(&attempts[0]);
	TURN_UNTIL(!depth());
	assert_int_equal(event_queue_stats().in_flight, 0);
	assert_int_equal(event_queue_stats().counts.succeeded, 1);
	assert_int_equal(event_queue_stats().bytes, 0);
	end_queue();
	start_queue();
	assert_int_equal(depth(), 0);
}

static void test_what_is_no_json_is_refused(void **state)
{
	int err = 0;

	(void)state;
	assert_int_equal(add(hello, "", "{\"n\": ", &err), 0);
	TURN_UNTIL(err);
	assert_int_equal(err, -EINVAL);
	assert_int_equal(depth(), 0);
	must_add(hello, "1");
	TURN_UNTIL(attempts_n == 1);
	succeed(&attempts[0]);
}

static void test_an_error_is_tried_again_and_then_given_up(void **state)
{
	struct event_invoke_config *c = configure(hello, QUALIFIER_LATEST);
	json_t *root;

	(void)state;
	snprintf(c->on_failure, sizeof(c->on_failure), "file://%s/dead", files);
	must_add(hello, "{\"n\": 2}");
	for (size_t i = 0; i < 3; i++) {
		TURN_UNTIL(attempts_n == i + 1);
		assert_string_equal(attempts[i].request_id, last_id);
		assert_string_equal(attempts[i].payload, "{\"n\": 2}");
		assert_string_equal(attempts[i].request.trace_id, "Root=1");
		fail_attempt(&attempts[i]);
	}
	TURN_UNTIL(!depth());
	assert_int_equal(attempts_n, 3);
	assert_int_equal(event_queue_stats().counts.retried, 2);
	assert_int_equal(event_queue_stats().counts.exhausted, 1);
	assert_int_equal(event_function_stats(hello).counts.exhausted, 1);
	assert_int_equal(event_function_stats(other).counts.exhausted, 0);
	root = record("dead", 0);
	assert_non_null(root);
	assert_string_equal(context(root, "requestId"), last_id);
	assert_string_equal(context(root, "condition"), "RetriesExhausted");
	assert_string_equal(context(root, "functionArn"),
			    "arn:aws:lambda:local:000000000000:function:hello:$LATEST");
	assert_string_equal(json_string_value(json_object_get(
				    json_object_get(root, "responsePayload"), "errorMessage")),
			    "no");
	json_decref(root);
}

static void test_no_retries_where_none_are_wanted(void **state)
{
	struct event_invoke_config *c = configure(hello, QUALIFIER_LATEST);

	(void)state;
	c->retries = 0;
	must_add(hello, "1");
	TURN_UNTIL(attempts_n == 1);
	fail_attempt(&attempts[0]);
	TURN_UNTIL(!depth());
	assert_int_equal(event_queue_stats().counts.retried, 0);
	assert_int_equal(event_queue_stats().counts.exhausted, 1);
}

static void test_throttles_are_no_retries(void **state)
{
	struct event_invoke_config *c = configure(hello, QUALIFIER_LATEST);

	(void)state;
	c->retries = 0;
	throttle = 1;
	must_add(hello, "1");
	TURN_UNTIL(event_queue_stats().counts.set_back == 1);
	TURN_UNTIL(attempts_n == 1); /* a second later */
	end_attempt(&attempts[0], 429, false, "{}");
	TURN_UNTIL(event_queue_stats().counts.set_back == 2);
	assert_int_equal(depth(), 1);
	assert_int_equal(event_queue_stats().in_flight, 1); /* until it is on disk */
	TURN_UNTIL(!event_queue_stats().in_flight);
}

static void test_an_old_event_is_given_up_without_an_attempt(void **state)
{
	struct event_invoke_config *c = configure(hello, QUALIFIER_LATEST);
	json_t *root;

	(void)state;
	c->max_age_s = 0;
	snprintf(c->on_failure, sizeof(c->on_failure), "file://%s/dead", files);
	must_add(hello, "{\"n\": 3}");
	TURN_UNTIL(!depth());
	assert_int_equal(attempts_n, 0);
	assert_int_equal(event_queue_stats().counts.expired, 1);
	root = record("dead", 0);
	assert_string_equal(context(root, "condition"), "EventAgeExceeded");
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(root, "requestPayload"), "n")),
		3);
	json_decref(root);
}

static void test_what_is_reserved_away_or_not_there_is_given_up_at_once(void **state)
{
	(void)state;
	hello->control.reserved_concurrency = 0;
	must_add(hello, "1");
	TURN_UNTIL(!depth());
	hello->control.reserved_concurrency = -1;
	assert_int_equal(add(hello, "77", "1", NULL), 0);
	TURN_UNTIL(event_queue_stats().counts.exhausted == 2);
	assert_int_equal(attempts_n, 0);
}

static void test_a_function_as_destination(void **state)
{
	struct event_invoke_config *c = configure(hello, QUALIFIER_LATEST);
	json_t *root;

	(void)state;
	snprintf(c->on_success, sizeof(c->on_success),
		 "arn:aws:lambda:local:000000000000:function:other");
	must_add(hello, "{\"n\": 4}");
	TURN_UNTIL(attempts_n == 1);
	succeed(&attempts[0]);
	TURN_UNTIL(attempts_n == 2);
	assert_ptr_equal(attempts[1].request.version, &other->latest);
	assert_string_not_equal(attempts[1].request_id, attempts[0].request_id);
	root = json_loads(attempts[1].payload, 0, NULL);
	assert_string_equal(context(root, "condition"), "Success");
	assert_string_equal(context(root, "requestId"), attempts[0].request_id);
	assert_string_equal(json_string_value(json_object_get(root, "responsePayload")), "fine");
	json_decref(root);
	succeed(&attempts[1]);
	TURN_UNTIL(!depth());
}

static void test_a_destination_that_cannot_be_reached(void **state)
{
	struct event_invoke_config *c = configure(hello, QUALIFIER_LATEST);

	(void)state;
	snprintf(c->on_success, sizeof(c->on_success), "file://%s/none/x", files);
	must_add(hello, "1");
	TURN_UNTIL(attempts_n == 1);
	succeed(&attempts[0]);
	TURN_UNTIL(!depth());
	assert_int_equal(event_queue_stats().delivery_failures, 1);
	snprintf(c->on_success, sizeof(c->on_success),
		 "arn:aws:lambda:local:000000000000:function:nobody");
	must_add(hello, "1");
	TURN_UNTIL(attempts_n == 2);
	succeed(&attempts[1]);
	TURN_UNTIL(!depth());
	assert_int_equal(event_queue_stats().delivery_failures, 2);
}

static void test_a_dead_letter_queue_that_is_a_file(void **state)
{
	json_t *root;

	(void)state;
	snprintf(hello->latest.settings.dead_letter, sizeof(hello->latest.settings.dead_letter),
		 "file://%s/letters", files);
	configure(hello, QUALIFIER_LATEST)->retries = 0;
	must_add(hello, "{\"n\": 5}");
	TURN_UNTIL(attempts_n == 1);
	fail_attempt(&attempts[0]);
	TURN_UNTIL(!depth());
	root = record("letters", 0);
	assert_int_equal(json_integer_value(json_object_get(root, "n")), 5);
	json_decref(root);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static size_t running(const struct function *f)
{
	size_t n = 0;

	for (size_t i = 0; i < attempts_n; i++)
		n += !attempts[i].over && attempts[i].request.version == &f->latest;
	return n;
}

static void test_events_leave_room_for_others(void **state)
{
	(void)state;
	accepted = 0;
	for (int i = 0; i < 20; i++)
		assert_int_equal(add(hello, "", "1", NULL), 0);
	TURN_UNTIL(accepted == 20);
	for (int i = 0; i < 20; i++)
		turn();
	/* Half of four, though nobody else wants anything. */
	assert_int_equal(running(hello), 2);
	for (int i = 0; i < 20; i++)
		assert_int_equal(add(other, "", "1", NULL), 0);
	TURN_UNTIL(accepted == 40);
	TURN_UNTIL(running(other) == 2);
	assert_int_equal(running(hello), 2);
	assert_int_equal(event_queue_stats().in_flight, 4);
	assert_int_equal(event_function_stats(hello).depth, 20);
	assert_int_equal(event_function_stats(hello).in_flight, 2);
	for (size_t i = 0; i < 40; i++) {
		TURN_UNTIL(attempts_n > i);
		assert_true(running(hello) <= 2 && running(other) <= 2);
		succeed(&attempts[i]);
	}
	TURN_UNTIL(!depth());
	assert_int_equal(event_queue_stats().counts.succeeded, 40);
}

static void test_reserved_concurrency_limits_events(void **state)
{
	(void)state;
	hello->control.reserved_concurrency = 1;
	accepted = 0;
	for (int i = 0; i < 4; i++)
		assert_int_equal(add(hello, "", "1", NULL), 0);
	TURN_UNTIL(accepted == 4);
	for (size_t i = 0; i < 4; i++) {
		TURN_UNTIL(attempts_n == i + 1);
		for (int j = 0; j < 5; j++)
			turn();
		assert_int_equal(attempts_n, i + 1);
		succeed(&attempts[i]);
	}
	TURN_UNTIL(!depth());
}

static void test_a_full_queue_refuses(void **state)
{
	(void)state;
	end_queue();
	params.events_max = 3;
	start_queue();
	accepted = 0;
	for (int i = 0; i < 3; i++)
		assert_int_equal(add(hello, "", "1", NULL), 0);
	assert_int_equal(add(hello, "", "1", NULL), -EBUSY);
	TURN_UNTIL(accepted == 3);
	assert_int_equal(event_queue_stats().refused, 1);
	TURN_UNTIL(attempts_n == 2);
	succeed(&attempts[0]);
	TURN_UNTIL(depth() == 2);
	assert_int_equal(add(hello, "", "1", NULL), 0);
	TURN_UNTIL(accepted == 4);
}

static void test_a_deleted_functions_events_go(void **state)
{
	(void)state;
	accepted = 0;
	for (int i = 0; i < 10; i++)
		assert_int_equal(add(i % 2 ? hello : other, "", "1", NULL), 0);
	TURN_UNTIL(accepted == 10);
	TURN_UNTIL(running(hello) == 2);
	assert_int_equal(add(hello, "", "1", NULL), 0); /* not on disk yet */
	function_get(hello);
	functions_remove(hello);
	event_queue_drop(hello);
	/* Those that run are told that they end; what they say counts for nothing. */
	for (size_t i = 0; i < attempts_n; i++)
		if (attempts[i].request.version == &hello->latest)
			end_attempt(&attempts[i], 503, false, "{}");
	TURN_UNTIL(depth() == 5);
	TURN_UNTIL(accepted == 11);
	assert_null(hello->events);
	function_put(hello);
	end_queue();
	start_queue();
	assert_int_equal(depth(), 5);
}

/* ---- stop, kill, damage, full disk ----------------------------------------------------------- */

static void test_what_runs_when_snapd_stops_runs_again(void **state)
{
	(void)state;
	must_add(hello, "{\"n\": 6}");
	TURN_UNTIL(attempts_n == 1);
	event_queue_stop();
	end_attempt(&attempts[0], 503, false, "{}");
	end_queue();
	start_queue();
	assert_int_equal(depth(), 1);
	TURN_UNTIL(attempts_n == 1);
	assert_string_equal(attempts[0].request_id, last_id);
	assert_string_equal(attempts[0].payload, "{\"n\": 6}");
	/* An outcome that is not on disk yet is written at the end. */
	succeed(&attempts[0]);
	end_queue();
	start_queue();
	assert_int_equal(depth(), 0);
}

static void test_attempts_are_counted_over_a_restart(void **state)
{
	(void)state;
	must_add(hello, "1");
	TURN_UNTIL(attempts_n == 1);
	fail_attempt(&attempts[0]);
	TURN_UNTIL(attempts_n == 2);
	fail_attempt(&attempts[1]);
	end_queue();
	start_queue();
	TURN_UNTIL(attempts_n == 1);
	fail_attempt(&attempts[0]);
	TURN_UNTIL(!depth());
	assert_int_equal(attempts_n, 1);
	assert_int_equal(event_queue_stats().counts.exhausted, 1);
}

enum { KILLED_EVENTS = 30 };

/** struct note - what the child that is killed says. */
struct note {
	char kind; /* 'a': accepted, 'e': its end is on disk */
	char request_id[40];
};

static int note_fd = -1;

static void tell(char kind, const char *request_id)
{
	struct note note = {.kind = kind};

	snprintf(note.request_id, sizeof(note.request_id), "%s", request_id);
	if (write_full(note_fd, &note, sizeof(note)))
		_exit(1);
}

static void on_added_tell(void *arg, const char *request_id, int err, const char *error)
{
	(void)arg;
	(void)error;
	if (!err)
		tell('a', request_id);
}

/** A snapd in a process of its own: accepts events and ends one after the other, until killed. */
static _Noreturn void serve_until_killed(unsigned seed)
{
	size_t ended = 0, depth_before;

	start_queue();
	for (int added = 0;;) {
		if (added < KILLED_EVENTS) {
			char *payload = strdup("{\"killed\": true}");

			event_queue_add(hello, "", "", payload, strlen(payload), on_added_tell,
					NULL);
			added++;
		}
		turn();
		if (ended == attempts_n || rand_r(&seed) % 2)
			continue;
		depth_before = depth();
		succeed(&attempts[ended]);
		while (depth() >= depth_before)
			turn();
		tell('e', attempts[ended++].request_id);
	}
}

static void test_kill_9_loses_none_and_none_runs_after_its_end(void **state)
{
	(void)state;
	end_queue();
	for (unsigned round = 0; round < 8; round++) {
		char over[KILLED_EVENTS * 9][40];
		char waiting[KILLED_EVENTS * 9][40];
		size_t over_n = 0, waiting_n = 0, found = 0;
		unsigned seed = round;
		struct note note;
		int fds[2], status, count = 0, target = 5 + rand_r(&seed) % 40;
		pid_t pid;

		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			note_fd = fds[1];
			close(fds[0]);
			serve_until_killed(seed);
		}
		close(fds[1]);
		while (read_full(fds[0], &note, sizeof(note)) == sizeof(note)) {
			char(*list)[40] = note.kind == 'a' ? waiting : over;
			size_t *n = note.kind == 'a' ? &waiting_n : &over_n;

			memcpy(list[(*n)++], note.request_id, 40);
			if (++count == target)
				kill(pid, SIGKILL);
		}
		close(fds[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		/* The next snapd runs everything that was accepted and is not over, and no more. */
		start_queue();
		for (size_t i = 0; depth(); i++) {
			TURN_UNTIL(attempts_n > i || !depth());
			if (attempts_n <= i)
				break;
			for (size_t j = 0; j < over_n; j++)
				assert_string_not_equal(attempts[i].request_id, over[j]);
			for (size_t j = 0; j < waiting_n; j++)
				found += !strcmp(attempts[i].request_id, waiting[j]);
			succeed(&attempts[i]);
		}
		/* The end of one may have been on disk before the child could say so. */
		assert_true(found + over_n == waiting_n || found + over_n + 1 == waiting_n);
		end_queue();
	}
	start_queue();
}

static void test_a_damaged_database_is_set_aside_and_its_events_run(void **state)
{
	CLEANUP_FD int fd = -1;
	char rubbish[64];

	(void)state;
	must_add(hello, "{\"n\": 7}");
	TURN_UNTIL(attempts_n == 1);
	end_queue();
	/* The header's counters and versions, after the magic string. */
	memset(rubbish, 0xff, sizeof(rubbish));
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite_full(fd, rubbish, sizeof(rubbish), 16), 0);
	start_queue();
	assert_int_equal(depth(), 0); /* nothing of it can be read */
	must_add(hello, "{\"n\": 8}");
	TURN_UNTIL(attempts_n == 1);
	succeed(&attempts[0]);
	TURN_UNTIL(!depth());
}

static void test_damage_that_is_found_later_ends_nothing(void **state)
{
	struct event_queue_params two = params;
	CLEANUP_FREE char *data = NULL;
	CLEANUP_FD int fd = -1;
	size_t n;
	char *at;

	(void)state;
	for (int i = 1; i <= 3; i++) {
		char payload[32];

		snprintf(payload, sizeof(payload), "{\"later\": %d}", i);
		must_add(other, payload);
	}
	end_queue();
	assert_int_equal(read_file(AT_FDCWD, path, 1 << 20, &data, &n), 0);
	at = memmem(data, n, "{\"later\": 2}", 12);
	assert_non_null(at);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite_full(fd, "9", 1, (uint64_t)(at - data) + 10), 0);
	params.concurrency = 1;
	start_queue();
	assert_int_equal(depth(), 3);
	for (size_t i = 0; i < 2; i++) {
		TURN_UNTIL(attempts_n == i + 1);
		assert_null(strstr(attempts[i].payload, "9"));
		succeed(&attempts[i]);
	}
	TURN_UNTIL(!depth());
	assert_int_equal(event_queue_stats().counts.lost, 1);
	params = two;
}

static void fill_disk(void)
{
	char block[4096] = {1}, file[160];
	CLEANUP_FD int fd = -1;

	snprintf(file, sizeof(file), "%s/ballast", dir);
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	while (write(fd, block, sizeof(block)) > 0)
		;
}

static void test_a_full_disk(void **state)
{
	char file[160];
	int err = 0;

	(void)state;
	end_queue();
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", dir, "tmpfs", 0, "size=2m")) {
		print_message("mounting a small file system: %s\n", strerror(errno));
		start_queue();
		skip();
	}
	params.destination_dir = "";
	start_queue();
	must_add(hello, "1");
	must_add(hello, "2");
	TURN_UNTIL(attempts_n == 2);
	fill_disk();
	/* A new one is refused, with the reason; outcomes are written when there is room. */
	assert_int_equal(add(hello, "", "3", &err), 0);
	TURN_UNTIL(err);
	assert_int_equal(err, -ENOSPC);
	succeed(&attempts[0]);
	for (int i = 0; i < 20; i++)
		turn();
	assert_int_equal(depth(), 2);
	snprintf(file, sizeof(file), "%s/ballast", dir);
	assert_int_equal(unlink(file), 0);
	TURN_UNTIL(depth() == 1);
	succeed(&attempts[1]);
	TURN_UNTIL(!depth());
	end_queue();
	start_queue();
	assert_int_equal(depth(), 0);
	end_queue();
	assert_int_equal(umount2(dir, MNT_DETACH), 0);
	params.destination_dir = files;
	start_queue();
}

static void test_many_at_once_are_few_transactions(void **state)
{
	(void)state;
	accepted = 0;
	for (int i = 0; i < 600; i++)
		assert_int_equal(add(hello, "", "{\"many\": true}", NULL), 0);
	/* What the thread has at a time, it commits together: two batches of at most 512. */
	assert_int_equal(accepted, 0);
	TURN_UNTIL(accepted == 600);
	assert_int_equal(depth(), 600);
	end_queue();
	start_queue();
	assert_int_equal(depth(), 600);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_an_event_is_accepted_run_and_over),
		TEST(test_what_is_no_json_is_refused),
		TEST(test_an_error_is_tried_again_and_then_given_up),
		TEST(test_no_retries_where_none_are_wanted),
		TEST(test_throttles_are_no_retries),
		TEST(test_an_old_event_is_given_up_without_an_attempt),
		TEST(test_what_is_reserved_away_or_not_there_is_given_up_at_once),
		TEST(test_a_function_as_destination),
		TEST(test_a_destination_that_cannot_be_reached),
		TEST(test_a_dead_letter_queue_that_is_a_file),
		TEST(test_events_leave_room_for_others),
		TEST(test_reserved_concurrency_limits_events),
		TEST(test_a_full_queue_refuses),
		TEST(test_a_deleted_functions_events_go),
		TEST(test_what_runs_when_snapd_stops_runs_again),
		TEST(test_attempts_are_counted_over_a_restart),
		TEST(test_kill_9_loses_none_and_none_runs_after_its_end),
		TEST(test_a_damaged_database_is_set_aside_and_its_events_run),
		TEST(test_damage_that_is_found_later_ends_nothing),
		TEST(test_a_full_disk),
		TEST(test_many_at_once_are_few_transactions),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
