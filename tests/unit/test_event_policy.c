/* SPDX-License-Identifier: Apache-2.0 */
/* test_event_policy.c - retries, back-off and age of events */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/util.h"
#include "snapd/event_policy.h"

#define SECONDS(n) ((n)*NSEC_PER_SEC)

static const struct event_policy lambda = {
	.retries = EVENT_RETRIES_MAX,
	.max_age_ns = SECONDS(EVENT_AGE_MAX_S),
	.retry_delay_ns = SECONDS(EVENT_RETRY_DELAY_S),
};

static struct event_verdict judge(const struct event_policy *policy, uint32_t errors,
				  uint32_t setbacks, uint64_t age_ns, enum event_result result)
{
	const struct event_history history = {errors, setbacks, age_ns};

	return event_policy_judge(policy, &history, result);
}

static void test_an_error_is_tried_again_after_one_and_two_minutes(void **state)
{
	struct event_verdict v;

	(void)state;
	v = judge(&lambda, 1, 0, SECONDS(1), EVENT_FUNCTION_ERROR);
	assert_int_equal(v.condition, EVENT_RETRY);
	assert_int_equal(v.delay_ns, SECONDS(60));
	v = judge(&lambda, 2, 0, SECONDS(62), EVENT_FUNCTION_ERROR);
	assert_int_equal(v.condition, EVENT_RETRY);
	assert_int_equal(v.delay_ns, SECONDS(120));
	v = judge(&lambda, 3, 0, SECONDS(183), EVENT_FUNCTION_ERROR);
	assert_int_equal(v.condition, EVENT_RETRIES_EXHAUSTED);
	assert_string_equal(event_condition_names[v.condition], "RetriesExhausted");
}

static void test_the_number_of_retries_is_the_functions(void **state)
{
	(void)state;
	for (uint32_t retries = 0; retries <= EVENT_RETRIES_MAX; retries++) {
		struct event_policy policy = lambda;
		uint32_t attempts = 1;

		policy.retries = retries;
		while (judge(&policy, attempts, 0, 0, EVENT_FUNCTION_ERROR).condition ==
		       EVENT_RETRY)
			attempts++;
		assert_int_equal(attempts, retries + 1);
	}
}

static void test_success_ends_it_however_late(void **state)
{
	struct event_policy policy = lambda;

	(void)state;
	policy.max_age_ns = SECONDS(60);
	assert_int_equal(judge(&policy, 2, 9, SECONDS(600), EVENT_SUCCEEDED).condition,
			 EVENT_SUCCESS);
}

static void test_setbacks_double_from_one_second_to_five_minutes(void **state)
{
	const uint64_t wanted_s[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300};

	(void)state;
	for (uint32_t i = 0; i < ARRAY_SIZE(wanted_s); i++) {
		struct event_verdict v = judge(&lambda, 0, i + 1, 0, EVENT_NOT_RUN);

		assert_int_equal(v.condition, EVENT_RETRY);
		assert_int_equal(v.delay_ns, SECONDS(wanted_s[i]));
	}
	/* Setbacks have no limit but the age, and never overflow. */
	assert_int_equal(judge(&lambda, 0, UINT32_MAX, 0, EVENT_NOT_RUN).delay_ns, SECONDS(300));
	/* They do not use up retries. */
	assert_int_equal(judge(&lambda, 2, 50, 0, EVENT_NOT_RUN).condition, EVENT_RETRY);
}

static void test_age_ends_it(void **state)
{
	struct event_policy policy = lambda;
	struct event_verdict v;

	(void)state;
	policy.max_age_ns = SECONDS(60);
	assert_false(event_policy_is_too_old(&policy, SECONDS(60) - 1));
	assert_true(event_policy_is_too_old(&policy, SECONDS(60)));
	v = judge(&policy, 1, 0, SECONDS(60), EVENT_FUNCTION_ERROR);
	assert_int_equal(v.condition, EVENT_AGE_EXCEEDED);
	v = judge(&policy, 0, 1, SECONDS(60), EVENT_NOT_RUN);
	assert_int_equal(v.condition, EVENT_AGE_EXCEEDED);
	/* The last error is what is told, though it is too old as well. */
	v = judge(&policy, 3, 0, SECONDS(61), EVENT_FUNCTION_ERROR);
	assert_int_equal(v.condition, EVENT_RETRIES_EXHAUSTED);
	/* No delay leads past the end of its life. */
	v = judge(&policy, 1, 0, SECONDS(50), EVENT_FUNCTION_ERROR);
	assert_int_equal(v.condition, EVENT_RETRY);
	assert_int_equal(v.delay_ns, SECONDS(10));
}

static void test_what_can_never_run_is_not_tried_again(void **state)
{
	(void)state;
	assert_int_equal(judge(&lambda, 0, 1, 0, EVENT_REFUSED).condition, EVENT_RETRIES_EXHAUSTED);
}

static void test_a_delay_of_zero_and_one_without_end(void **state)
{
	struct event_policy policy = lambda;

	(void)state;
	policy.retry_delay_ns = 0;
	assert_int_equal(judge(&policy, 2, 0, 0, EVENT_FUNCTION_ERROR).delay_ns, 0);
	policy.retry_delay_ns = UINT64_MAX;
	assert_int_equal(judge(&policy, 2, 0, 0, EVENT_FUNCTION_ERROR).delay_ns, policy.max_age_ns);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_error_is_tried_again_after_one_and_two_minutes),
		cmocka_unit_test(test_the_number_of_retries_is_the_functions),
		cmocka_unit_test(test_success_ends_it_however_late),
		cmocka_unit_test(test_setbacks_double_from_one_second_to_five_minutes),
		cmocka_unit_test(test_age_ends_it),
		cmocka_unit_test(test_what_can_never_run_is_not_tried_again),
		cmocka_unit_test(test_a_delay_of_zero_and_one_without_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
