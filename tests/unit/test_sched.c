/* SPDX-License-Identifier: Apache-2.0 */
/* test_sched.c - tasks take turns, wait, sleep, are pre-empted, saved and loaded */
#include "tests/unit/fake_cpu.h"

static char trace[64];

static void note(char c)
{
	size_t n = strlen(trace);

	assert_true(n + 1 < sizeof(trace));
	trace[n] = c;
	trace[n + 1] = '\0';
}

static void note_a(struct kvm_regs *regs)
{
	(void)regs;
	note('a');
}

static void note_b(struct kvm_regs *regs)
{
	(void)regs;
	note('b');
}

static void note_c(struct kvm_regs *regs)
{
	(void)regs;
	note('c');
}

static int setup(void **state)
{
	trace[0] = '\0';
	return guest_setup(state);
}

static void test_yield_and_exit(void **state)
{
	struct guest *g = *state;

	assert_int_equal(TASK(g, DO(note_a), CALL(sched_yield), EXPECT(0), DO(note_a), CALL(gettid),
			      EXPECT(GUEST_PID), EXIT(1))
				 ->tid,
			 GUEST_PID);
	TASK(g, DO(note_b), CALL(sched_yield), DO(note_b), EXIT(2));
	TASK(g, DO(note_c), CALL(sched_yield), DO(note_c), EXIT(3));
	run_all(g);
	assert_string_equal(trace, "abcabc");
	/* The last task to go decides. */
	assert_int_equal(g->p.end_code, 3);
}

static void test_exit_group(void **state)
{
	struct guest *g = *state;

	TASK(g, CALL(sched_yield), SPIN);
	TASK(g, CALL(exit_group, 42));
	run_all(g);
	assert_int_equal(g->p.end_code, 42);
}

static void test_one_task_is_loaded_once(void **state)
{
	struct guest *g = *state;

	TASK(g, CALL(getpid), CALL(getuid), CALL(sched_yield), CALL(gettid), EXIT(0));
	run_all(g);
	assert_int_equal(cpu_loads, 1);
}

static void test_sleep_order(void **state)
{
	struct guest *g = *state;

	put_timespec(g, ARENA, 30000000);
	put_timespec(g, ARENA + 16, 10000000);
	put_timespec(g, ARENA + 32, 20000000);
	TASK(g, CALL(nanosleep, ARENA), EXPECT(0), DO(note_a), EXIT(0));
	TASK(g, CALL(nanosleep, ARENA + 16), EXPECT(0), DO(note_b), EXIT(0));
	TASK(g, CALL(nanosleep, ARENA + 32), EXPECT(0), DO(note_c), EXIT(0));
	run_all(g);
	assert_string_equal(trace, "bca");
}

static uint64_t spin_rip;

static void leave_spin(struct kvm_regs *regs)
{
	(void)regs;
	/* The spinning task goes on behind its loop. */
	program[(spin_rip - STEPS_AT) / 2] = (struct step){.op = STEP_DO, .fn = note_a};
}

static void test_preemption(void **state)
{
	struct guest *g = *state;

	spin_rip = STEPS(SPIN, EXIT(0));
	add_task_at(g, spin_rip);
	TASK(g, DO(note_b), DO(leave_spin), EXIT(0));
	run_all(g);
	assert_string_equal(trace, "ba");
	assert_true(cpu_spins >= 1);
}

static void test_timer_interrupts_busy_task(void **state)
{
	struct guest *g = *state;

	put_timespec(g, ARENA, 5000000);
	spin_rip = STEPS(SPIN, EXIT(0));
	TASK(g, CALL(nanosleep, ARENA), EXPECT(0), DO(leave_spin), EXIT(0));
	add_task_at(g, spin_rip);
	run_all(g);
	assert_string_equal(trace, "a");
}

static void test_deadlock(void **state)
{
	struct guest *g = *state;

	TASK(g, CALL(pause), EXIT(0));
	sched_run(&g->p, NULL);
	assert_int_equal(g->p.end, PROC_BROKEN);
	assert_non_null(strstr(g->p.end_text, "deadlock"));
}

static int fired;

static void on_timer(struct proc *p, void *arg)
{
	fired = fired * 10 + *(int *)arg;
	if (*(int *)arg == 3)
		proc_finish(p, PROC_EXITED, 0, "done");
}

static void test_timers(void **state)
{
	struct guest *g = *state;
	static int one = 1, two = 2, three = 3;
	uint64_t now = guest_mono_ns(&g->p);

	fired = 0;
	sched_timer_set(&g->p, on_timer, &two, now + 2000000);
	sched_timer_set(&g->p, on_timer, &three, now + 6000000);
	sched_timer_set(&g->p, on_timer, &one, now + 9000000);
	sched_timer_set(&g->p, on_timer, &one, now + 1000000); /* the same one, earlier */
	run_all(g);
	assert_int_equal(fired, 123);
	sched_timer_set(&g->p, on_timer, &one, now);
	sched_timer_set(&g->p, on_timer, &one, WAIT_FOREVER);
	assert_int_equal(g->p.sched->timer_count, 0);
}

static bool one_sleeps(struct proc *p)
{
	return p->sched->blocked.count == 1 && !p->sched->current && !p->sched->ready.count;
}

static void test_restore(void **state)
{
	struct guest *g = *state, *fresh = calloc(1, sizeof(*fresh));
	struct state_writer w = {0}, again = {0};
	struct state_reader r;
	struct task *t;
	uint64_t deadline;

	put_timespec(g, ARENA, 3600ull * 1000000000);
	t = TASK(g, CALL(nanosleep, ARENA), EXPECT(0), EXIT(9));
	t->user.regs.rbx = 0x1234;
	memcpy(t->name, "sleeper", 8);
	sched_run(&g->p, one_sleeps);
	deadline = t->wait.deadline_ns;
	assert_int_equal(sched_park(&g->p), 0);
	assert_int_equal(sched_save(&g->p, &w), 0);

	guest_start(fresh);
	r = (struct state_reader){.data = w.data, .left = w.used};
	assert_int_equal(sched_load(&fresh->p, &r), 0);
	assert_int_equal(r.left, 0);
	t = task_by_tid(&fresh->p, GUEST_PID);
	assert_non_null(t);
	assert_string_equal(t->name, "sleeper");
	assert_int_equal(t->user.regs.rbx, 0x1234);
	assert_true(t->in_syscall);
	assert_int_equal(t->nr, SYS_nanosleep);
	assert_int_equal(t->wait.deadline_ns, deadline);
	assert_int_equal(t->wait.outcome, WAIT_NONE);
	assert_int_equal(sched_save(&fresh->p, &again), 0);
	assert_int_equal(again.used, w.used);
	assert_memory_equal(again.data, w.data, w.used);
	guest_stop(fresh);
	free(fresh);
	load_damaged(g, &w, sched_load, NULL);
	state_writer_free(&w);
	state_writer_free(&again);
}

static void test_restored_sleep_keeps_its_deadline(void **state)
{
	struct guest *g = *state;
	struct state_writer w = {0};
	struct state_reader r;
	uint64_t start = guest_mono_ns(&g->p);

	put_timespec(g, ARENA, 20000000);
	TASK(g, CALL(nanosleep, ARENA), EXPECT(0), EXIT(9));
	sched_run(&g->p, one_sleeps);
	sched_park(&g->p);
	assert_int_equal(sched_save(&g->p, &w), 0);
	sched_free(&g->p);
	signals_free(&g->p);
	assert_int_equal(sched_new(&g->p), 0);
	assert_int_equal(signals_new(&g->p), 0);
	r = (struct state_reader){.data = w.data, .left = w.used};
	assert_int_equal(sched_load(&g->p, &r), 0);
	run_all(g);
	assert_int_equal(g->p.end_code, 9);
	assert_true(guest_mono_ns(&g->p) - start >= 20000000);
	state_writer_free(&w);
}

static void test_many_tasks(void **state)
{
	struct guest *g = *state;
	uint64_t rip = STEPS(CALL(sched_yield), EXIT(0));
	static const struct user_state none;

	for (int i = 0; i < TASKS_MAX; i++)
		add_task_at(g, rip);
	assert_null(task_new(&g->p, &none));
	run_all(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_yield_and_exit, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_exit_group, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_one_task_is_loaded_once, setup,
						guest_teardown),
		cmocka_unit_test_setup_teardown(test_sleep_order, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_preemption, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_timer_interrupts_busy_task, setup,
						guest_teardown),
		cmocka_unit_test_setup_teardown(test_deadlock, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_timers, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_restore, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_restored_sleep_keeps_its_deadline, setup,
						guest_teardown),
		cmocka_unit_test_setup_teardown(test_many_tasks, setup, guest_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
