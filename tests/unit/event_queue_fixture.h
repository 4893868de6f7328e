/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_queue_fixture.h - an event queue with its thread, its database and its loop
 *
 * All of them are the real ones. Invocations need a guest, so here the test is the scheduler: it
 * says how each attempt ends.
 */
#ifndef QUICKTHAW_EVENT_QUEUE_FIXTURE_H
#define QUICKTHAW_EVENT_QUEUE_FIXTURE_H

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

static inline void end_attempt(struct attempt *a, unsigned status, bool function_error,
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

static inline void succeed(struct attempt *a)
{
	end_attempt(a, 200, false, "\"fine\"");
}

static inline void fail_attempt(struct attempt *a)
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

static inline void start_queue(void)
{
	assert_int_equal(event_loop_init(), 0);
	assert_int_equal(worker_init(), 0);
	attempts_n = 0;
	throttle = 0;
	assert_int_equal(event_queue_init(&params), 0);
}

static inline void end_queue(void)
{
	event_queue_stop();
	event_queue_finish();
	worker_finish();
	event_loop_finish();
}

static inline int set_up(void **state)
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

static inline int tear_down(void **state)
{
	(void)state;
	end_queue();
	if (functions_find("hello"))
		functions_remove(hello);
	functions_remove(other);
	return tree_remove(AT_FDCWD, dir);
}

static inline void turn(void)
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

static inline void on_added(void *arg, const char *request_id, int err, const char *error)
{
	(void)error;
	if (arg)
		*(int *)arg = err;
	accepted += !err;
	refused += err != 0;
	snprintf(last_id, sizeof(last_id), "%s", request_id);
}

static inline int add(struct function *f, const char *qualifier, const char *payload, int *ret_err)
{
	char *copy = strdup(payload);
	int ret = event_queue_add(f, qualifier, "Root=1", copy, strlen(copy), on_added, ret_err);

	if (ret)
		free(copy);
	return ret;
}

/** Accept one event; it is on disk when this returns. */
static inline void must_add(struct function *f, const char *payload)
{
	int before = accepted;

	assert_int_equal(add(f, "", payload, NULL), 0);
	TURN_UNTIL(accepted > before);
}

static inline size_t depth(void)
{
	return event_queue_stats().depth;
}

static inline struct event_invoke_config *configure(struct function *f, const char *qualifier)
{
	struct event_invoke_config *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	event_invoke_config_init(c);
	snprintf(c->entry.qualifier, sizeof(c->entry.qualifier), "%s", qualifier);
	assert_int_equal(qualified_insert(&f->control.event_invokes, &c->entry), 0);
	return c;
}

/** Line @n of a destination file, from 0. */
static inline json_t *record(const char *name, int n)
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

static inline const char *context(const json_t *root, const char *key)
{
	return json_string_value(json_object_get(json_object_get(root, "requestContext"), key));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
