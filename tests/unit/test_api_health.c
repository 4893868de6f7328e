/* SPDX-License-Identifier: Apache-2.0 */
/* test_api_health.c - readiness and its reasons; the list of what failed */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/util.h"
#include "snapd/event_loop.h"
#include "snapd/failure_log.h"
#include "snapd/readiness.h"
#include "snapd/shell_pool.h"
#include "snapd/worker.h"

/* ---- readiness ------------------------------------------------------------------------------- */

static char state_dir[] = "/tmp/quickthaw-health.XXXXXX";

/** The reason once it is @wanted, for the disk is looked at behind the answer; else the last one.
 */
static const char *reason_like(const char *wanted)
{
	static char buf[256];
	const char *reason = NULL;

	for (int i = 0; i < 1000; i++) {
		reason = readiness_reason(buf, sizeof(buf));
		if (reason && strstr(reason, wanted))
			return reason;
		assert_int_equal(event_loop_turn(10 * 1000000ull), 0);
	}
	return reason;
}

static void test_ready_is_said_with_a_shell_and_a_disk(void **state)
{
	static const struct shell_pool_params pool = {.ready_per_class = 1};
	static struct instance shell;
	char buf[256];

	(void)state;
	assert_non_null(mkdtemp(state_dir));
	assert_int_equal(event_loop_init(), 0);
	assert_int_equal(worker_init(), 0);
	assert_int_equal(readiness_init("/nowhere/at/all"), -ENOENT);
	assert_int_equal(readiness_init(state_dir), 0);
	assert_non_null(strstr(readiness_reason(buf, sizeof(buf)), "starting"));
	assert_int_equal(shell_pool_init(&pool), 0);
	shell_pool_on_shell(&shell);
	assert_null(readiness_reason(buf, sizeof(buf)));
	assert_true(readiness_disk_free() > READINESS_DISK_MIN_BYTES);
}

static void test_a_full_disk_is_a_reason(void **state)
{
	const char *reason;

	(void)state;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", state_dir, "tmpfs", 0, "size=8m")) {
		print_message("needs root to mount a small file system\n");
		skip();
	}
	assert_int_equal(readiness_init(state_dir), 0);
	reason = reason_like("full");
	assert_non_null(reason);
	assert_non_null(strstr(reason, "8 MiB are left"));
	/* There is room again: the second look sees it. */
	assert_int_equal(mount(NULL, state_dir, NULL, MS_REMOUNT, "size=256m"), 0);
	for (int i = 0; readiness_disk_free() < READINESS_DISK_MIN_BYTES; i++) {
		assert_true(i < 1000);
		assert_int_equal(event_loop_turn(10 * 1000000ull), 0);
	}
	umount2(state_dir, MNT_DETACH);
}

static void test_stopping_is_the_last_word(void **state)
{
	char buf[256];

	(void)state;
	readiness_stop();
	assert_string_equal(readiness_reason(buf, sizeof(buf)), "stopping");
	worker_finish();
	event_loop_finish();
	rmdir(state_dir);
}

/* ---- what failed ----------------------------------------------------------------------------- */

static void add(struct version *v, const char *payload)
{
	failure_log_add(v, "00000000-0000-4000-8000-000000000000",
			&(struct invocation_outcome){
				.failure = INVOCATION_FAILED_HANDLER,
				.start = START_WARM,
				.payload = payload,
				.payload_bytes = strlen(payload),
			});
}

static const char *message(json_t *list, size_t i)
{
	return json_string_value(json_object_get(json_array_get(list, i), "Message"));
}

static void test_the_newest_failures_are_kept(void **state)
{
	struct function *f = function_new("broken");
	char payload[64];
	json_t *list = failure_log_json();

	(void)state;
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	for (int i = 0; i < FAILURE_LOG_ENTRIES + 5; i++) {
		snprintf(payload, sizeof(payload), "{\"errorMessage\": \"number %d\"}", i);
		add(&f->latest, payload);
	}
	list = failure_log_json();
	assert_int_equal(json_array_size(list), FAILURE_LOG_ENTRIES);
	snprintf(payload, sizeof(payload), "number %d", FAILURE_LOG_ENTRIES + 4);
	assert_string_equal(message(list, 0), payload);
	assert_string_equal(message(list, FAILURE_LOG_ENTRIES - 1), "number 5");
	assert_string_equal(
		json_string_value(json_object_get(json_array_get(list, 0), "FunctionName")),
		"broken");
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "Kind")),
			    "handler");
	json_decref(list);
	function_put(f);
}

/** A function may send whatever it likes for its error: the list stays JSON. */
static void test_any_error_makes_a_list(void **state)
{
	static char deep[3000], wide[8000];
	const char *const payloads[] = {
		"",
		"null",
		"{\"errorMessage\": 7}",
		"\x80\xff\xfe",
		"{\"errorMessage\": \"\xc3\"}",
		deep,
		wide,
		"{\"Message\": \"of the service\"}",
	};
	struct function *f = function_new("odd");
	json_t *list;

	(void)state;
	memset(deep, '[', sizeof(deep) - 1);
	/* Two bytes a character, so that any cut at an odd place halves one. */
	strcpy(wide, "{\"errorMessage\": \"x");
	for (size_t i = strlen(wide); i < 2000; i += 2)
		memcpy(wide + i, "\xc3\xa4", 3);
	strcat(wide, "\"}");
	for (size_t i = 0; i < ARRAY_SIZE(payloads); i++) {
		add(&f->latest, payloads[i]);
		list = failure_log_json();
		assert_non_null(message(list, 0));
		assert_true(strlen(message(list, 0)) <= 200);
		json_decref(list);
	}
	add(&f->latest, payloads[7]);
	list = failure_log_json();
	assert_string_equal(message(list, 0), "of the service");
	json_decref(list);
	function_put(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ready_is_said_with_a_shell_and_a_disk),
		cmocka_unit_test(test_a_full_disk_is_a_reason),
		cmocka_unit_test(test_stopping_is_the_last_word),
		cmocka_unit_test(test_the_newest_failures_are_kept),
		cmocka_unit_test(test_any_error_makes_a_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
