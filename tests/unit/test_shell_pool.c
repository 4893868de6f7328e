/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_shell_pool.c - shells of many sizes for many who wait
 *
 * The pool and the table of instances are the real ones; what is spawned is a shell as soon as the
 * test says so, and one that ends is gone at once.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/util.h"
#include "snapd/event_loop.h"
#include "snapd/session_internal.h"
#include "snapd/shell_pool.h"

enum { ROUNDS_MAX = 20000 };

static uint64_t now_ns;

void __wrap_sandbox_spawn_queue(struct sandbox_job *job);

void __wrap_sandbox_spawn_queue(struct sandbox_job *job)
{
	(void)job;
}

static void on_moved(struct instance *inst, enum instance_state from)
{
	if (from == INSTANCE_SPAWNING || from == INSTANCE_SHELL)
		shell_pool_moved(inst, from);
}

static void on_gone(void)
{
}

static const struct session_hooks hooks = {
	.shell = shell_pool_on_shell, .moved = on_moved, .gone = on_gone};

static int setup(void **state)
{
	(void)state;
	assert_int_equal(event_loop_init(), 0);
	assert_int_equal(session_init(&hooks, open("/", O_PATH | O_DIRECTORY), -1), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	event_loop_finish();
	return 0;
}

/** Nothing is left of the test before. */
static void new_pool(unsigned ready_per_class)
{
	struct shell_pool_params params = {
		.ready_per_class = ready_per_class, .kernel_guests = true, .cpu_baseline = "host"};

	for (uint32_t i = 0; i < INSTANCES_MAX; i++) {
		struct instance *inst = session_instance(i);

		if (inst->state == INSTANCE_SPAWNING)
			session_is_shell(inst);
		if (inst->state != INSTANCE_FREE && inst->state != INSTANCE_ENDING)
			session_end(inst);
		if (inst->state == INSTANCE_ENDING)
			session_enter(inst, INSTANCE_FREE);
	}
	assert_int_equal(session_count(INSTANCE_FREE), INSTANCES_MAX);
	assert_int_equal(shell_pool_init(&params), 0);
	now_ns = 1;
}

static void becomes_shell(struct instance *inst)
{
	close(inst->child_end);
	session_is_shell(inst);
}

/** One of those that are spawned is a shell; what ends is gone. */
static void go_on(void)
{
	unsigned skip = session_count(INSTANCE_SPAWNING);

	skip = skip ? (unsigned)rand() % skip : 0;
	for (uint32_t i = 0; i < INSTANCES_MAX; i++) {
		struct instance *inst = session_instance(i);

		if (inst->state == INSTANCE_SPAWNING && !skip--)
			becomes_shell(inst);
		else if (inst->state == INSTANCE_ENDING)
			session_enter(inst, INSTANCE_FREE);
	}
	now_ns += 10000000;
}

static unsigned count_shells(int class)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < INSTANCES_MAX; i++)
		n += session_instance(i)->state == INSTANCE_SHELL &&
		     session_instance(i)->ram_class == class;
	return n;
}

/** Who waits takes a shell as soon as there is one. Return: how many still wait. */
static unsigned pump(unsigned waiting[SHELL_POOL_CLASSES])
{
	unsigned left = 0;

	for (int class = 0; class < SHELL_POOL_CLASSES; class ++) {
		struct instance *inst;

		while (waiting[class] && (inst = shell_pool_take(class, waiting[class]))) {
			assert_int_equal(inst->ram_class, class);
			session_end(inst);
			waiting[class]--;
		}
		left += waiting[class];
	}
	return left;
}

static void serve(unsigned waiting[SHELL_POOL_CLASSES])
{
	unsigned rounds = 0;

	while (pump(waiting)) {
		assert_true(rounds++ < ROUNDS_MAX);
		shell_pool_refill(true, now_ns);
		go_on();
	}
}

/* ---- which class ----------------------------------------------------------------------------- */

static void test_sizes(void **state)
{
	(void)state;
	new_pool(1);
	for (uint32_t mib = KERNEL_GUEST_MEMORY_MIN_MIB; mib <= KERNEL_GUEST_MEMORY_MAX_MIB;
	     mib++) {
		int class = shell_pool_class(GUEST_KIND_KERNEL, mib);

		assert_in_range(class, SHELL_POOL_PROCESS_CLASSES, SHELL_POOL_CLASSES - 1);
		assert_in_range(shell_pool_ram_mib(class), mib,
				mib + KERNEL_GUEST_MEMORY_STEP_MIB - 1);
		/* Questions change nothing. */
		assert_int_equal(shell_pool_target(class), 0);
	}
	assert_int_equal(shell_pool_ram_mib(SHELL_POOL_CLASSES - 1), KERNEL_GUEST_MEMORY_MAX_MIB);
}

/* ---- who waits ------------------------------------------------------------------------------- */

/** Whoever asks for as many sizes as there are: each is served, and no shell is made in vain. */
static void test_all_sizes_are_served(void **state)
{
	unsigned waiting[SHELL_POOL_CLASSES];

	(void)state;
	new_pool(1);
	for (int class = 0; class < SHELL_POOL_CLASSES; class ++)
		waiting[class] = 1;
	serve(waiting);
	for (int class = 0; class < SHELL_POOL_CLASSES; class ++)
		assert_int_equal(count_shells(class), 0);
}

/** One size with a crowd does not keep another from its own. */
static void test_a_crowd_does_not_hold_up_another_size(void **state)
{
	unsigned waiting[SHELL_POOL_CLASSES] = {0}, rounds = 0;
	int other = shell_pool_class(GUEST_KIND_KERNEL, 2048);

	(void)state;
	new_pool(1);
	for (waiting[other] = 1; waiting[other]; rounds++) {
		waiting[0] = waiting[1] = waiting[5] = 100; /* more come as others are served */
		pump(waiting);
		shell_pool_refill(true, now_ns);
		go_on();
		assert_true(rounds < 50);
	}
}

/* ---- what is kept ---------------------------------------------------------------------------- */

static void fill(unsigned rounds)
{
	while (rounds--) {
		shell_pool_refill(false, now_ns);
		go_on();
	}
}

static void test_sizes_that_no_function_has_any_more_are_given_up(void **state)
{
	bool in_use[SHELL_POOL_CLASSES] = {false};
	int first, second;

	(void)state;
	new_pool(4);
	first = shell_pool_class(GUEST_KIND_KERNEL, 256);
	second = shell_pool_class(GUEST_KIND_KERNEL, 512);
	shell_pool_want_class(first);
	shell_pool_want_class(second);
	fill(100);
	assert_int_equal(shell_pool_ready(first), 4);
	assert_int_equal(shell_pool_ready(second), 4);
	in_use[second] = true;
	shell_pool_keep_classes(in_use);
	fill(100);
	assert_int_equal(count_shells(first), 0);
	assert_int_equal(shell_pool_target(first), 0);
	assert_int_equal(shell_pool_ready(second), 4);
	assert_int_equal(shell_pool_ready(0), 4); /* the smallest is for whatever comes */
}

/** Shells that nobody waits for do not take all slots, and give way. */
static void test_there_is_room_for_a_size_that_is_waited_for(void **state)
{
	unsigned waiting[SHELL_POOL_CLASSES] = {0};

	(void)state;
	new_pool(64);
	for (int class = 1; class < SHELL_POOL_CLASSES - 1; class ++)
		shell_pool_want_class(class);
	fill(2000);
	assert_in_range(session_count(INSTANCE_FREE), 1, INSTANCES_MAX / 8);
	/* As if those were taken by instances that live. */
	while (session_count(INSTANCE_FREE))
		assert_non_null(session_new());
	for (uint32_t i = 0; i < INSTANCES_MAX; i++)
		if (session_instance(i)->state == INSTANCE_SPAWNING) {
			session_instance(i)->ram_class = 0;
			shell_pool_on_shell(session_instance(i));
			session_enter(session_instance(i), INSTANCE_SHELL);
		}
	waiting[SHELL_POOL_CLASSES - 1] = 3;
	serve(waiting);
}

/* ---- what is said of it ---------------------------------------------------------------------- */

static void fail_all(enum guest_kind kind)
{
	for (uint32_t i = 0; i < INSTANCES_MAX; i++)
		if (session_instance(i)->state == INSTANCE_SPAWNING &&
		    session_instance(i)->kind == kind)
			session_end(session_instance(i));
}

static void test_a_kind_that_cannot_be_made_is_said(void **state)
{
	int kernel;

	(void)state;
	new_pool(1);
	fill(10);
	assert_null(shell_pool_trouble());
	kernel = shell_pool_class(GUEST_KIND_KERNEL, 256);
	shell_pool_want_class(kernel);
	shell_pool_refill(false, now_ns);
	fail_all(GUEST_KIND_KERNEL);
	assert_non_null(strstr(shell_pool_trouble(), "kernel guests"));
	now_ns = UINT64_MAX / 2;
	fill(10);
	assert_int_equal(shell_pool_ready(kernel), 1);
	assert_null(shell_pool_trouble());
	assert_int_not_equal(shell_pool_make_ns(GUEST_KIND_KERNEL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_all_sizes_are_served),
		cmocka_unit_test(test_a_crowd_does_not_hold_up_another_size),
		cmocka_unit_test(test_sizes_that_no_function_has_any_more_are_given_up),
		cmocka_unit_test(test_there_is_room_for_a_size_that_is_waited_for),
		cmocka_unit_test(test_a_kind_that_cannot_be_made_is_said),
	};

	return cmocka_run_group_tests_name("shell_pool", tests, setup, teardown);
}
