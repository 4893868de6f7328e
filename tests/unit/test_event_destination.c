/* SPDX-License-Identifier: Apache-2.0 */
/* test_event_destination.c - destinations, the record of an event, and lines added to files */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/util.h"
#include "snapd/event_destination.h"
#include "snapd/event_store.h"
#include "snapd/tree.h"

static char dir[64];
static int dir_fd = -1;
static struct event_store *store;

static int set_up(void **state)
{
	char path[96], why[EVENT_STORE_ERROR_MAX];

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/quickthaw-events.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/events.db", dir);
	assert_int_equal(event_store_open(path, &store, why), 0);
	dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return dir_fd < 0;
}

static int tear_down(void **state)
{
	(void)state;
	event_store_close(store);
	close(dir_fd);
	return tree_remove(AT_FDCWD, dir);
}

/* ---- what a destination says ----------------------------------------------------------------- */

static void test_destinations_that_are_understood(void **state)
{
	struct event_target t;
	const char *why = NULL;

	(void)state;
	assert_int_equal(event_target_parse("", "", &t, &why), 0);
	assert_int_equal(t.kind, EVENT_TARGET_NONE);
	assert_int_equal(event_target_parse("file:///var/out/a/b.jsonl", "/var/out", &t, &why), 0);
	assert_int_equal(t.kind, EVENT_TARGET_FILE);
	assert_string_equal(t.path, "a/b.jsonl");
	assert_int_equal(event_target_parse("file:///var/out/x", "/var/out/", &t, &why), 0);
	assert_string_equal(t.path, "x");
	assert_int_equal(event_target_parse("arn:aws:lambda:local:000000000000:function:after:live",
					    "", &t, &why),
			 0);
	assert_int_equal(t.kind, EVENT_TARGET_FUNCTION);
	assert_string_equal(t.function.name, "after");
	assert_string_equal(t.function.qualifier, "live");
}

static void test_destinations_that_are_refused(void **state)
{
	static const char *const bad[] = {
		"file:///etc/passwd",	  "file:///var/out",
		"file:///var/out/",	  "file:///var/outer/x",
		"file:///var/out/../x",	  "file:///var/out/a/../../x",
		"file:///var/out//x",	  "file://localhost/var/out/x",
		"file:var/out/x",	  "arn:aws:sqs:us-east-1:123456789012:queue",
		"arn:aws:s3:::bucket",	  "arn:aws:lambda:local:000000000000:function:",
		"https://example.com/in",
	};
	struct event_target t;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const char *why = NULL;

		assert_int_equal(event_target_parse(bad[i], "/var/out", &t, &why), -EINVAL);
		assert_non_null(why);
		assert_int_equal(t.kind, EVENT_TARGET_NONE);
	}
	/* No directory, no files. */
	assert_int_equal(event_target_parse("file:///x", "", &t, &(const char *){NULL}), -EINVAL);
}

/* ---- the record ------------------------------------------------------------------------------ */

static json_t *record_of(const struct event_report *report)
{
	CLEANUP_FREE char *text = NULL;
	json_t *root;
	size_t n;

	assert_int_equal(event_report_text(store, report, &text, &n), 0);
	assert_int_equal(strlen(text), n);
	assert_null(strchr(text, '\n'));
	root = json_loads(text, JSON_DECODE_ANY, NULL);
	assert_non_null(root);
	return root;
}

static const char *text_at(const json_t *root, const char *a, const char *b)
{
	const json_t *at = json_object_get(root, a);

	return json_string_value(b ? json_object_get(at, b) : at);
}

#define PAYLOAD	 "{\"n\":\n 1.10}\n"
#define RESPONSE "{\"errorMessage\":\"no\"}"

static const struct event_report failed = {
	.time_ms = 1573755365568,
	.request_id = "e4b46cbf-b738-4de0-8880-a18cdf61200e",
	.function_arn = "arn:aws:lambda:local:000000000000:function:f:$LATEST",
	.condition = EVENT_RETRIES_EXHAUSTED,
	.invoke_count = 3,
	.status = 200,
	.executed_version = "$LATEST",
	.function_error = true,
	.payload = PAYLOAD,
	.payload_bytes = sizeof(PAYLOAD) - 1,
	.response = RESPONSE,
	.response_bytes = sizeof(RESPONSE) - 1,
};

static void test_the_record_is_lambdas(void **state)
{
	json_t *root = record_of(&failed);
	const json_t *context = json_object_get(root, "requestContext");
	const json_t *response = json_object_get(root, "responseContext");

	(void)state;
	assert_string_equal(text_at(root, "version", NULL), "1.0");
	assert_string_equal(text_at(root, "timestamp", NULL), "2019-11-14T18:16:05.568Z");
	assert_string_equal(json_string_value(json_object_get(context, "requestId")),
			    failed.request_id);
	assert_string_equal(json_string_value(json_object_get(context, "functionArn")),
			    failed.function_arn);
	assert_string_equal(json_string_value(json_object_get(context, "condition")),
			    "RetriesExhausted");
	assert_int_equal(json_integer_value(json_object_get(context, "approximateInvokeCount")), 3);
	assert_true(json_real_value(json_object_get(json_object_get(root, "requestPayload"), "n")) >
		    1.0);
	assert_int_equal(json_integer_value(json_object_get(response, "statusCode")), 200);
	assert_string_equal(json_string_value(json_object_get(response, "executedVersion")),
			    "$LATEST");
	assert_string_equal(json_string_value(json_object_get(response, "functionError")),
			    "Unhandled");
	assert_string_equal(text_at(root, "responsePayload", "errorMessage"), "no");
	json_decref(root);
}

static void test_a_record_of_success_and_one_of_an_event_that_never_ran(void **state)
{
	struct event_report report = failed;
	json_t *root;

	(void)state;
	report.condition = EVENT_SUCCESS;
	report.function_error = false;
	report.response = "";
	report.response_bytes = 0;
	root = record_of(&report);
	assert_string_equal(text_at(root, "requestContext", "condition"), "Success");
	assert_null(json_object_get(json_object_get(root, "responseContext"), "functionError"));
	assert_true(json_is_null(json_object_get(root, "responsePayload")));
	json_decref(root);
	report.condition = EVENT_AGE_EXCEEDED;
	report.status = 0;
	report.executed_version = "";
	report.response = NULL;
	root = record_of(&report);
	assert_string_equal(text_at(root, "requestContext", "condition"), "EventAgeExceeded");
	assert_null(json_object_get(root, "responseContext"));
	assert_null(json_object_get(root, "responsePayload"));
	json_decref(root);
}

static void test_what_a_function_returned_cannot_spoil_the_record(void **state)
{
	static const char *const hostile[] = {
		"\"}, \"version\": \"2", "{\"a\": 1}\n{\"b\": 2}", "nonsense \x01 \"\\",
		"\xff\xfe not UTF-8",	 "{\"a\": \"\xc3\x28\"}",  "[[[[",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
		struct event_report report = failed;
		json_t *root;

		report.response = hostile[i];
		report.response_bytes = strlen(hostile[i]);
		root = record_of(&report);
		assert_string_equal(text_at(root, "version", NULL), "1.0");
		assert_true(json_is_string(json_object_get(root, "responsePayload")));
		json_decref(root);
	}
}

static void test_a_dead_letter_is_the_event(void **state)
{
	struct event_report report = failed;
	CLEANUP_FREE char *text = NULL;
	size_t n;

	(void)state;
	report.payload_only = true;
	assert_int_equal(event_report_text(store, &report, &text, &n), 0);
	assert_string_equal(text, "{\"n\":1.10}");
	assert_int_equal(n, strlen(text));
}

/* ---- files ----------------------------------------------------------------------------------- */

static void assert_file(const char *name, const char *wanted)
{
	CLEANUP_FREE char *data = NULL;
	CLEANUP_FD int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(read_file(fd, name, 1 << 20, &data, NULL), 0);
	assert_string_equal(data, wanted);
}

static void test_lines_are_added(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(event_file_append(dir_fd, "out", "one", 3), 0);
	assert_int_equal(event_file_append(dir_fd, "out", "two", 3), 0);
	assert_file("out", "one\ntwo\n");
	assert_int_equal(fstatat(dir_fd, "out", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(event_file_append(dir_fd, "sub/out", "x", 1), -ENOENT);
	assert_int_equal(mkdirat(dir_fd, "sub", 0700), 0);
	assert_int_equal(event_file_append(dir_fd, "sub/out", "x", 1), 0);
}

static void test_nothing_but_files_below_the_directory_is_written(void **state)
{
	(void)state;
	assert_int_equal(symlinkat("/etc/hostname", dir_fd, "link"), 0);
	assert_int_equal(symlinkat("/tmp", dir_fd, "out_of_here"), 0);
	assert_int_equal(mkfifoat(dir_fd, "fifo", 0600), 0);
	assert_int_equal(event_file_append(dir_fd, "link", "x", 1), -ELOOP);
	assert_int_equal(event_file_append(dir_fd, "out_of_here/x", "x", 1), -ELOOP);
	assert_int_equal(event_file_append(dir_fd, "../x", "x", 1), -EXDEV);
	assert_int_equal(event_file_append(dir_fd, "/etc/x", "x", 1), -EXDEV);
	assert_int_equal(event_file_append(dir_fd, "fifo", "x", 1), -ENXIO); /* and does not wait */
	assert_int_not_equal(event_file_append(dir_fd, ".", "x", 1), 0);
}

static void test_no_half_line_stays(void **state)
{
	const struct rlimit small = {10, RLIM_INFINITY};
	struct rlimit old;
	int ret;

	(void)state;
	assert_int_equal(event_file_append(dir_fd, "out", "whole", 5), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	ret = event_file_append(dir_fd, "out", "this does not fit", 17);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(ret, -EFBIG);
	assert_file("out", "whole\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_destinations_that_are_understood),
		TEST(test_destinations_that_are_refused),
		TEST(test_the_record_is_lambdas),
		TEST(test_a_record_of_success_and_one_of_an_event_that_never_ran),
		TEST(test_what_a_function_returned_cannot_spoil_the_record),
		TEST(test_a_dead_letter_is_the_event),
		TEST(test_lines_are_added),
		TEST(test_nothing_but_files_below_the_directory_is_written),
		TEST(test_no_half_line_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
