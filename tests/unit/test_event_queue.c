/* SPDX-License-Identifier: Apache-2.0 */
/* test_event_queue.c - accepted events: run, tried again, given up; and their limits */
#include "tests/unit/event_queue_fixture.h"

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
		TEST(test_many_at_once_are_few_transactions),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
