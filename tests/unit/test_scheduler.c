/* SPDX-License-Identifier: Apache-2.0 */
/* test_scheduler.c - the scheduler's decisions, on plain structs: queue, admission, pace, arrivals
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/util.h"
#include "snapd/admission.h"
#include "snapd/arrivals.h"
#include "snapd/pace.h"
#include "snapd/report.h"
#include "snapd/waiting.h"

#define MS NSEC_PER_MSEC
#define S  NSEC_PER_SEC

/* ---- waiting --------------------------------------------------------------------------------- */

enum { FUNCTIONS = 4, LANES = 2, ENTRIES = 600 };

struct job {
	struct waiting_entry waiting;
	int function, lane, number;
};

static struct {
	struct waiting waiting;
	struct waiting_function functions[FUNCTIONS];
	struct waiting_lane lanes[FUNCTIONS][LANES];
	struct job jobs[ENTRIES];
	unsigned jobs_used;
	unsigned tickets, tries; /* starts that are still possible; calls of try_job() */
	bool blocked[FUNCTIONS][LANES];
	struct job *started[ENTRIES];
	unsigned started_count;
} q;

static void queue_reset(void)
{
	memset(&q, 0, sizeof(q));
	waiting_init(&q.waiting);
	for (int f = 0; f < FUNCTIONS; f++) {
		waiting_function_init(&q.functions[f]);
		for (int l = 0; l < LANES; l++)
			waiting_lane_init(&q.lanes[f][l], &q.functions[f]);
	}
}

static struct job *queue_add(int function, int lane)
{
	struct job *job = &q.jobs[q.jobs_used];

	*job = (struct job){.function = function, .lane = lane, .number = (int)q.jobs_used++};
	waiting_push(&q.waiting, &q.lanes[function][lane], &job->waiting, q.jobs_used);
	return job;
}

static bool try_job(struct waiting_entry *e)
{
	struct job *job = container_of(e, struct job, waiting);

	q.tries++;
	if (q.blocked[job->function][job->lane] || !q.tickets)
		return false;
	q.tickets--;
	waiting_remove(&q.waiting, e);
	q.started[q.started_count++] = job;
	return true;
}

static void give(unsigned tickets)
{
	q.tickets += tickets;
	waiting_walk(&q.waiting, try_job);
}

static void test_one_function_is_served_in_order(void **state)
{
	(void)state;
	queue_reset();
	for (int i = 0; i < 50; i++)
		queue_add(0, 0);
	for (int i = 0; i < 50; i++)
		give(1);
	assert_int_equal(q.started_count, 50);
	for (int i = 0; i < 50; i++)
		assert_int_equal(q.started[i]->number, i);
	assert_int_equal(q.waiting.count, 0);
	assert_int_equal(q.waiting.function_count, 0);
}

static void test_a_burst_of_one_function_does_not_starve_another(void **state)
{
	(void)state;
	queue_reset();
	for (int i = 0; i < 200; i++)
		queue_add(0, 0);
	for (int i = 0; i < 3; i++)
		queue_add(1, 0);
	/* Tickets come one at a time, as shells do: every second one is the other function's. */
	for (int i = 0; i < 6; i++)
		give(1);
	assert_int_equal(q.functions[1].count, 0);
	assert_int_equal(q.functions[0].count, 197);
	/* Who comes later than the burst waits for one start of it, not for all. */
	queue_add(2, 0);
	give(2);
	assert_int_equal(q.functions[2].count, 0);
}

static void test_versions_of_a_function_share_its_part(void **state)
{
	(void)state;
	queue_reset();
	for (int i = 0; i < 20; i++) {
		queue_add(0, 0);
		queue_add(0, 1);
		queue_add(1, 0);
	}
	give(20);
	assert_int_equal(q.functions[0].count, 30);
	assert_int_equal(q.functions[1].count, 10);
	assert_int_equal(q.lanes[0][0].count, 15);
	assert_int_equal(q.lanes[0][1].count, 15);
}

static void test_what_is_blocked_holds_up_nobody_else(void **state)
{
	(void)state;
	queue_reset();
	for (int i = 0; i < 100; i++)
		queue_add(0, 0);
	queue_add(0, 1);
	queue_add(1, 0);
	q.blocked[0][0] = true; /* say, its template is being opened */
	give(10);
	assert_int_equal(q.started_count, 2);
	assert_int_equal(q.waiting.count, 100);
	q.blocked[0][0] = false;
	give(0);
	assert_int_equal(q.started_count, 10);
}

static void test_a_walk_costs_a_try_for_each_start_and_lane(void **state)
{
	(void)state;
	queue_reset();
	for (int i = 0; i < 200; i++)
		queue_add(i % FUNCTIONS, 0);
	for (int i = 0; i < 200; i++)
		give(1);
	assert_int_equal(q.waiting.count, 0);
	/* One try for the start, and one for each function that finds nothing more. */
	assert_in_range(q.tries, 200, 200 * (FUNCTIONS + 1));
}

static void test_any_order_of_leaving_is_fine(void **state)
{
	struct job *list[ENTRIES];
	unsigned seed = 3;

	(void)state;
	queue_reset();
	for (int i = 0; i < ENTRIES; i++)
		list[i] = queue_add(rand_r(&seed) % FUNCTIONS, rand_r(&seed) % LANES);
	for (int i = ENTRIES - 1; i >= 0; i--) {
		int j = rand_r(&seed) % (i + 1);
		struct job *gone = list[j];

		list[j] = list[i];
		waiting_remove(&q.waiting, &gone->waiting);
		assert_int_equal(q.waiting.count, i);
	}
	for (int f = 0; f < FUNCTIONS; f++)
		assert_int_equal(q.functions[f].count, 0);
	assert_true(TAILQ_EMPTY(&q.waiting.functions));
}

/* ---- admission ------------------------------------------------------------------------------- */

static struct admission_view calm(void)
{
	return (struct admission_view){
		.account_limit = 100,
		.reserved = -1,
		.waiting_max = 64,
		.calm_ns = UINT64_MAX,
		.burst_ns = 200 * MS,
		.function_least = 3,
		.alone_ns = 10 * MS,
	};
}

static void test_concurrency_is_lambdas(void **state)
{
	struct admission_view v = calm();

	(void)state;
	v.unreserved = 99;
	assert_int_equal(admission_decide(&v), ADMISSION_GRANTED);
	v.unreserved = 100;
	assert_int_equal(admission_decide(&v), ADMISSION_ACCOUNT);
	assert_string_equal(admission_reasons[ADMISSION_ACCOUNT],
			    "ConcurrentInvocationLimitExceeded");
	/* What others have reserved is not for all. */
	v.unreserved = 60;
	v.reserved_total = 40;
	assert_int_equal(admission_decide(&v), ADMISSION_ACCOUNT);
	v.reserved_total = 400;
	v.unreserved = 0;
	assert_int_equal(admission_decide(&v), ADMISSION_ACCOUNT);
	/* A reservation is a right and a limit. */
	v.unreserved = 100;
	v.reserved = 40;
	v.function = 39;
	assert_int_equal(admission_decide(&v), ADMISSION_GRANTED);
	v.function = 40;
	assert_int_equal(admission_decide(&v), ADMISSION_RESERVED);
	v.reserved = v.function = 0;
	assert_int_equal(admission_decide(&v), ADMISSION_RESERVED);
	assert_string_equal(admission_reasons[ADMISSION_RESERVED],
			    "ReservedFunctionConcurrentInvocationLimitExceeded");
	assert_int_equal(admission_retry_after_s(ADMISSION_RESERVED, &v), 1);
}

static void test_the_queue_is_bounded_and_one_function_has_half(void **state)
{
	struct admission_view v = calm();

	(void)state;
	v.waiting = v.function_waiting = 31;
	assert_int_equal(admission_decide(&v), ADMISSION_GRANTED);
	v.waiting = v.function_waiting = 32;
	assert_int_equal(admission_decide(&v), ADMISSION_QUEUE);
	v.function_waiting = 0; /* another one's turn */
	assert_int_equal(admission_decide(&v), ADMISSION_GRANTED);
	v.waiting = 64;
	assert_int_equal(admission_decide(&v), ADMISSION_QUEUE);
	v = calm();
	v.waiting_max = 1;
	assert_int_equal(admission_decide(&v), ADMISSION_GRANTED);
}

static void test_a_burst_queues_and_an_overload_does_not(void **state)
{
	struct admission_view v = calm();

	(void)state;
	v.function = 33;
	v.function_waiting = 30;
	v.answer_gap_ns = 7 * MS;
	v.standing_ns = 150 * MS;
	assert_int_equal(admission_decide(&v), ADMISSION_GRANTED);
	v.standing_ns = 201 * MS;
	assert_int_equal(admission_decide(&v), ADMISSION_OVERLOAD);
	/* It drains: whoever would be served within twice the time that it takes alone may come in.
	 */
	v.function = 4;
	v.function_waiting = 1;
	assert_int_equal(admission_decide(&v), ADMISSION_OVERLOAD);
	v.answer_gap_ns = 4 * MS;
	assert_int_equal(admission_decide(&v), ADMISSION_GRANTED);
	/* Nothing waits for it, but the overload may not be over. */
	v.answer_gap_ns = 7 * MS;
	v.function_waiting = 0;
	v.standing_ns = 0;
	assert_int_equal(admission_decide(&v), ADMISSION_GRANTED);
	v.calm_ns = 1900 * MS;
	assert_int_equal(admission_decide(&v), ADMISSION_OVERLOAD);
	/* Some may always: the CPUs have work, and what is next is there. */
	v.function = 2;
	assert_int_equal(admission_decide(&v), ADMISSION_GRANTED);
	v.answer_gap_ns = 5 * MS;
	v.function = v.function_waiting = 999;
	v.waiting_max = 4000;
	assert_int_equal(admission_retry_after_s(ADMISSION_OVERLOAD, &v), 5);
}

static void test_a_slow_host_is_not_an_overloaded_one(void **state)
{
	struct admission_view v = calm();

	(void)state;
	assert_int_equal(admission_burst_ns(0, 60 * S), 100 * MS);
	assert_int_equal(admission_burst_ns(5 * MS, 60 * S), 100 * MS);
	assert_int_equal(admission_burst_ns(300 * MS, 60 * S), 2400 * MS);
	assert_int_equal(admission_burst_ns(30 * S, 60 * S), 60 * S);
	v.burst_ns = 60 * S; /* and one that has just started was never overloaded */
	v.standing_ns = 50 * S;
	v.function = v.function_waiting = 30;
	v.answer_gap_ns = S;
	assert_int_equal(admission_decide(&v), ADMISSION_GRANTED);
}

/*
 * A node that serves one in 5 ms gets one each 2.5 ms, for a minute: those who get in are answered
 * within three times what one takes that is alone, but for the first ones; and the node is never
 * idle.
 */
static void test_overload_keeps_those_admitted_fast(void **state)
{
	const uint64_t service_ns = 5 * MS, gap_ns = service_ns / 2, end_ns = 60 * S;
	static uint64_t arrived[1 << 15], took[1 << 15];
	unsigned head = 0, tail = 0, served = 0, refused = 0, slow = 0;
	uint64_t free_ns = 0, since_ns = 0, answer_gap_ns = 0, last_ns = 0, refused_ns = 0;

	(void)state;
	for (uint64_t now = gap_ns; now < end_ns; now += gap_ns) {
		struct admission_view v = calm();

		while (head != tail && MAX(free_ns, arrived[head]) + service_ns <= now) {
			free_ns = MAX(free_ns, arrived[head]) + service_ns;
			if (tail - head >= v.function_least && last_ns)
				average_add(&answer_gap_ns, free_ns - last_ns);
			last_ns = tail - head >= v.function_least ? free_ns : 0;
			took[served++] = free_ns - arrived[head++];
		}
		v.waiting_max = 512;
		v.function = tail - head;
		v.function_waiting = v.waiting = v.function ? v.function - 1 : 0;
		v.standing_ns = v.waiting ? now - since_ns : 0;
		v.answer_gap_ns = answer_gap_ns;
		v.alone_ns = service_ns;
		v.calm_ns = now + 100 * S - refused_ns;
		if (admission_decide(&v) != ADMISSION_GRANTED) {
			refused++;
			refused_ns = now + 100 * S;
			continue;
		}
		if (!v.waiting)
			since_ns = now;
		arrived[tail++] = now;
	}
	for (unsigned i = 0; i < served; i++)
		slow += took[i] > 3 * service_ns;
	assert_in_range(served, end_ns / service_ns * 95 / 100, end_ns / service_ns);
	assert_in_range(refused, served * 9 / 10, served * 11 / 10);
	assert_true(slow * 100 < served); /* p99 */
}

/* ---- pace ------------------------------------------------------------------------------------ */

static void test_only_so_many_are_young_at_once(void **state)
{
	struct pace_entry e[5] = {{.start_ns = 0}};
	struct pace p;

	(void)state;
	pace_init(&p, 3);
	assert_int_equal(pace_next_ns(&p), UINT64_MAX);
	for (int i = 0; i < 3; i++) {
		assert_true(pace_may_start(&p, S + (uint64_t)i * MS));
		pace_begin(&p, &e[i], S + (uint64_t)i * MS);
	}
	assert_false(pace_may_start(&p, S + 3 * MS));
	assert_int_equal(pace_next_ns(&p), S + PACE_YOUNG_MS * MS);
	pace_end(&p, &e[1]);
	assert_true(pace_may_start(&p, S + 3 * MS));
	pace_begin(&p, &e[3], S + 3 * MS);
	assert_false(pace_may_start(&p, S + (PACE_YOUNG_MS - 1) * MS));
	/* Who runs for longer waits for something else than a CPU. */
	assert_true(pace_may_start(&p, S + PACE_YOUNG_MS * MS));
	pace_end(&p, &e[0]); /* forgotten already */
	pace_end(&p, &e[2]);
	pace_end(&p, &e[3]);
	assert_int_equal(p.count, 0);
}

/* ---- arrivals -------------------------------------------------------------------------------- */

static void test_a_timer_is_foreseen(void **state)
{
	struct arrivals a = {.last_ns = 0};
	uint64_t now = 1000 * S;

	(void)state;
	assert_int_equal(arrivals_percent(&a, now, S), 0);
	for (int i = 0; i < 12; i++, now += 300 * S)
		arrivals_add(&a, now);
	now -= 300 * S;
	assert_int_equal(arrivals_percent(&a, now + 10 * S, 10 * S), 0);
	assert_int_equal(arrivals_percent(&a, now + 200 * S, 10 * S), 0);
	assert_int_equal(arrivals_percent(&a, now + 289 * S, 10 * S), 0);
	assert_int_equal(arrivals_percent(&a, now + 291 * S, 10 * S), 100);
	/* It is late; it has never been silent for so long. */
	assert_int_equal(arrivals_percent(&a, now + 330 * S, 10 * S), 100);
	assert_int_equal(arrivals_percent(&a, now + 360 * S, 10 * S), 0);
	assert_int_equal(arrivals_percent(&a, now + 3000 * S, 60 * S), 0);
}

static void test_an_outlier_is_forgotten(void **state)
{
	struct arrivals a = {.last_ns = 0};
	uint64_t now = 1000 * S;

	(void)state;
	arrivals_add(&a, now);
	arrivals_add(&a, now += 500 * S); /* in the bin of the others */
	for (int i = 0; i < 40; i++)
		arrivals_add(&a, now += 300 * S);
	/* It could come at any time between the two. */
	assert_in_range(arrivals_percent(&a, now + 291 * S, 60 * S), 10, 40);
	for (int i = 0; i < 5000; i++)
		arrivals_add(&a, now += 300 * S);
	assert_true(arrivals_percent(&a, now + 291 * S, 10 * S) > 90);
}

static void test_a_stream_is_foreseen_by_its_rate(void **state)
{
	struct arrivals a = {.last_ns = 0};
	uint64_t now = 1000 * S;

	(void)state;
	for (int i = 0; i < 3; i++, now += 2 * S)
		arrivals_add(&a, now); /* too few gaps for a histogram */
	assert_in_range(arrivals_percent(&a, now, 30 * S), 60, 100);
	assert_true(arrivals_percent(&a, now + 600 * S, 30 * S) < 5);
	for (int i = 0; i < 2000; i++, now += S / 2)
		arrivals_add(&a, now);
	assert_true(arrivals_rate(&a, now) > 1.7 && arrivals_rate(&a, now) < 2.3);
	assert_true(arrivals_percent(&a, now, 10 * S) > 90);
	assert_true(arrivals_rate(&a, now + 120 * S) < 0.6);
	assert_true(arrivals_rate(&a, now + 100000 * S) < 1e-6);
}

/* ---- REPORT ---------------------------------------------------------------------------------- */

static void test_report_has_cloudwatchs_fields(void **state)
{
	struct report r = {
		.request_id = "8f5d",
		.start = START_WARM,
		.serve_ns = 1234567,
		.memory_mib = 128,
		.used_bytes = MIB(29) + 1,
	};
	char buf[REPORT_MAX];

	(void)state;
	assert_string_equal(report_line(&r, buf),
			    "REPORT RequestId: 8f5d\tDuration: 1.23 ms\tBilled Duration: 2 ms\t"
			    "Memory Size: 128 MB\tMax Memory Used: 30 MB");
	r.start = START_BOOT;
	r.init_ns = 95200000;
	r.serve_ns = 96200000;
	assert_string_equal(report_line(&r, buf),
			    "REPORT RequestId: 8f5d\tDuration: 1.00 ms\tBilled Duration: 1 ms\t"
			    "Memory Size: 128 MB\tMax Memory Used: 30 MB\tInit Duration: 95.20 ms");
	r.start = START_RESIDENT;
	r.init_ns = 0;
	r.restore_ns = 1020000;
	r.serve_ns = 4520001;
	assert_string_equal(report_line(&r, buf),
			    "REPORT RequestId: 8f5d\tDuration: 3.50 ms\tBilled Duration: 4 ms\t"
			    "Memory Size: 128 MB\tMax Memory Used: 30 MB\t"
			    "Restore Duration: 1.02 ms\tBilled Restore Duration: 2 ms");
	r.start = START_COLD;
	r.serve_ns = 1; /* a clock may be read a moment too early */
	assert_non_null(strstr(report_line(&r, buf), "\tDuration: 0.00 ms"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_function_is_served_in_order),
		cmocka_unit_test(test_a_burst_of_one_function_does_not_starve_another),
		cmocka_unit_test(test_versions_of_a_function_share_its_part),
		cmocka_unit_test(test_what_is_blocked_holds_up_nobody_else),
		cmocka_unit_test(test_a_walk_costs_a_try_for_each_start_and_lane),
		cmocka_unit_test(test_any_order_of_leaving_is_fine),
		cmocka_unit_test(test_concurrency_is_lambdas),
		cmocka_unit_test(test_the_queue_is_bounded_and_one_function_has_half),
		cmocka_unit_test(test_a_burst_queues_and_an_overload_does_not),
		cmocka_unit_test(test_a_slow_host_is_not_an_overloaded_one),
		cmocka_unit_test(test_overload_keeps_those_admitted_fast),
		cmocka_unit_test(test_only_so_many_are_young_at_once),
		cmocka_unit_test(test_a_timer_is_foreseen),
		cmocka_unit_test(test_an_outlier_is_forgotten),
		cmocka_unit_test(test_a_stream_is_foreseen_by_its_rate),
		cmocka_unit_test(test_report_has_cloudwatchs_fields),
	};

	return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
