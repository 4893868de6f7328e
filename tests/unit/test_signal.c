/* SPDX-License-Identifier: Apache-2.0 */
/* test_signal.c - delivery, frames, masks, restarts, queues, and all of it in a saved state */
#include <signal.h>

#include "tests/unit/fake_cpu.h"

enum { RESTORER = 0x04000000, QUEUE_FILL = 2000 };

static struct guest *the_guest;
static unsigned handled;
static struct kvm_regs handler_regs;

static int setup(void **state)
{
	int ret = guest_setup(state);

	the_guest = *state;
	handled = 0;
	return ret;
}

static void in_handler(struct kvm_regs *regs)
{
	handled++;
	handler_regs = *regs;
	/* RET takes the restorer's address off the stack. */
	regs->rsp += 8;
}

static void spoil(struct kvm_regs *regs)
{
	regs->rbx = regs->r15 = 0xbad;
	memset(cpu_xsave, 0xee, 16);
}

/** install() - a handler that counts and returns. */
static void install(struct guest *g, int sig, uint64_t flags, uint64_t mask)
{
	uint64_t rip = STEPS(DO(in_handler), DO(spoil), CALL(rt_sigreturn));

	g->p.signals->actions[sig] = (struct signal_action){
		.handler = rip,
		.flags = flags | RESTORER,
		.restorer = rip + 4,
		.mask = mask,
	};
}

static void check_regs(struct kvm_regs *regs)
{
	assert_int_equal(regs->rbx, 0x5555);
	assert_int_equal(cpu_xsave[0], 0x7f);
}

static void set_regs(struct kvm_regs *regs)
{
	regs->rbx = 0x5555;
}

static void test_handler_and_return(void **state)
{
	struct guest *g = *state;
	struct task *t;
	uint64_t rsp;
	int32_t sig;

	install(g, SIGUSR1, SA_SIGINFO, 0);
	t = TASK(g, DO(set_regs), CALL(kill, GUEST_PID, SIGUSR1), EXPECT(0), DO(check_regs),
		 EXIT(0));
	rsp = t->user.regs.rsp;
	run_all(g);
	assert_int_equal(handled, 1);
	assert_int_equal(handler_regs.rdi, SIGUSR1);
	assert_int_equal(handler_regs.rsp % 16, 8);
	assert_true(handler_regs.rsp < rsp - 128);
	get(g, handler_regs.rsi, &sig, sizeof(sig));
	assert_int_equal(sig, SIGUSR1);
}

static void test_default_actions(void **state)
{
	struct guest *g = *state;

	TASK(g, CALL(kill, GUEST_PID, SIGCHLD), EXPECT(0), CALL(kill, GUEST_PID, SIGWINCH),
	     EXPECT(0), CALL(kill, GUEST_PID, SIGTSTP), EXPECT(0), CALL(kill, GUEST_PID, 0),
	     EXPECT(0), CALL(kill, GUEST_PID, 65), EXPECT(-EINVAL), CALL(kill, 77, 1),
	     EXPECT(-ESRCH), CALL(tgkill, GUEST_PID, 99, 1), EXPECT(-ESRCH),
	     CALL(kill, GUEST_PID, SIGTERM), SPIN);
	sched_run(&g->p, NULL);
	assert_int_equal(g->p.end, PROC_SIGNALED);
	assert_int_equal(g->p.end_code, SIGTERM);
}

static void test_kill_cannot_be_stopped(void **state)
{
	struct guest *g = *state;
	uint64_t all = ~0ull;

	put_u64(g, ARENA, all);
	TASK(g, CALL(rt_sigprocmask, SIG_SETMASK, ARENA, 0, 8), EXPECT(0),
	     CALL(rt_sigaction, SIGKILL, ARENA, 0, 8), EXPECT(-EINVAL),
	     CALL(kill, GUEST_PID, SIGKILL), SPIN);
	sched_run(&g->p, NULL);
	assert_int_equal(g->p.end_code, SIGKILL);
}

static void test_mask_holds_back(void **state)
{
	struct guest *g = *state;

	install(g, SIGUSR1, 0, 0);
	put_u64(g, ARENA, SIGNAL_BIT(SIGUSR1));
	TASK(g, CALL(rt_sigprocmask, SIG_BLOCK, ARENA, 0, 8), CALL(kill, GUEST_PID, SIGUSR1),
	     CALL(kill, GUEST_PID, SIGUSR1), CALL(rt_sigpending, ARENA + 8, 8), EXPECT(0),
	     CALL(rt_sigprocmask, SIG_UNBLOCK, ARENA, ARENA + 16, 8), EXPECT(0), EXIT(0));
	run_all(g);
	/* Standard signals do not queue. */
	assert_int_equal(handled, 1);
	assert_int_equal(get_u32(g, ARENA + 8), SIGNAL_BIT(SIGUSR1));
	assert_int_equal(get_u32(g, ARENA + 16), SIGNAL_BIT(SIGUSR1));
}

static void test_realtime_queue(void **state)
{
	struct guest *g = *state;
	struct signal_info info = {.sig = 40, .code = SI_QUEUE};
	int queued = 0;

	install(g, 40, 0, 0);
	put_u64(g, ARENA, SIGNAL_BIT(40));
	for (int i = 0; i < QUEUE_FILL; i++) {
		info.fields[1] = (uint64_t)i;
		if (!signal_queue(&g->p, NULL, &info))
			queued++;
	}
	assert_int_equal(queued, SIGNAL_QUEUE_MAX);
	TASK(g, CALL(getpid), EXPECT(GUEST_PID), EXIT(0));
	run_all(g);
	assert_int_equal(handled, SIGNAL_QUEUE_MAX);
}

static void test_interrupted_call(void **state)
{
	struct guest *g = *state;

	install(g, SIGUSR1, 0, 0);
	TASK(g, CALL(futex, ARENA, 128, 0), EXPECT(-EINTR), EXIT(0));
	TASK(g, CALL(tgkill, GUEST_PID, GUEST_PID, SIGUSR1), EXPECT(0), EXIT(0));
	run_all(g);
	assert_int_equal(handled, 1);
}

static void test_restarted_call(void **state)
{
	struct guest *g = *state;

	install(g, SIGUSR1, SA_RESTART, 0);
	TASK(g, CALL(futex, ARENA, 128, 0), EXPECT(0), EXIT(0));
	TASK(g, CALL(tgkill, GUEST_PID, GUEST_PID, SIGUSR1), EXPECT(0), CALL(sched_yield),
	     CALL(futex, ARENA, 129, 1), EXPECT(1), EXIT(0));
	run_all(g);
	assert_int_equal(handled, 1);
}

static void test_never_restarted_call(void **state)
{
	struct guest *g = *state;

	install(g, SIGUSR1, SA_RESTART, 0);
	put_timespec(g, ARENA, 3600ull * 1000000000);
	TASK(g, CALL(nanosleep, ARENA, ARENA + 16), EXPECT(-EINTR), EXIT(0));
	TASK(g, CALL(tgkill, GUEST_PID, GUEST_PID, SIGUSR1), EXIT(0));
	run_all(g);
	assert_int_equal(handled, 1);
	assert_in_range(get_u32(g, ARENA + 16), 3590, 3600); /* what is left */
}

static void test_sigsuspend(void **state)
{
	struct guest *g = *state;
	struct task *t;

	install(g, SIGUSR1, 0, 0);
	put_u64(g, ARENA, SIGNAL_BIT(SIGUSR1) | SIGNAL_BIT(SIGUSR2));
	put_u64(g, ARENA + 8, SIGNAL_BIT(SIGUSR2));
	t = TASK(g, CALL(rt_sigprocmask, SIG_SETMASK, ARENA, 0, 8),
		 CALL(rt_sigsuspend, ARENA + 8, 8), EXPECT(-EINTR),
		 CALL(rt_sigprocmask, SIG_SETMASK, 0, ARENA + 16, 8), EXIT(0));
	TASK(g, CALL(tgkill, GUEST_PID, GUEST_PID, SIGUSR2), CALL(sched_yield),
	     CALL(tgkill, GUEST_PID, GUEST_PID, SIGUSR1), EXIT(0));
	(void)t;
	run_all(g);
	assert_int_equal(handled, 1);
	/* The mask from before the call is back. */
	assert_int_equal(get_u32(g, ARENA + 16), get_u32(g, ARENA));
}

static void test_sigtimedwait(void **state)
{
	struct guest *g = *state;

	put_u64(g, ARENA, SIGNAL_BIT(SIGUSR1));
	put_timespec(g, ARENA + 16, 3000000);
	TASK(g, CALL(rt_sigprocmask, SIG_BLOCK, ARENA, 0, 8),
	     CALL(rt_sigtimedwait, ARENA, 0, ARENA + 16, 8), EXPECT(-EAGAIN),
	     CALL(rt_sigtimedwait, ARENA, ARENA + 32, 0, 8), EXPECT(SIGUSR1), EXIT(0));
	TASK(g, CALL(rt_sigprocmask, SIG_BLOCK, ARENA, 0, 8), CALL(nanosleep, ARENA + 16),
	     CALL(nanosleep, ARENA + 16), CALL(kill, GUEST_PID, SIGUSR1), EXIT(0));
	run_all(g);
	assert_int_equal(get_u32(g, ARENA + 32), SIGUSR1);
}

static void test_altstack(void **state)
{
	struct guest *g = *state;
	const uint64_t stack[3] = {ARENA + 0x40000, 0, 0x8000};

	install(g, SIGUSR1, SA_ONSTACK | SA_SIGINFO, 0);
	put(g, ARENA, stack, sizeof(stack));
	TASK(g, CALL(sigaltstack, ARENA, 0), EXPECT(0), CALL(kill, GUEST_PID, SIGUSR1), EXPECT(0),
	     CALL(sigaltstack, 0, ARENA + 64), EXPECT(0), EXIT(0));
	run_all(g);
	assert_in_range(handler_regs.rsp, ARENA + 0x40000, ARENA + 0x48000);
	assert_int_equal(get_u32(g, ARENA + 64), stack[0]);
}

static void skip_fault(struct kvm_regs *regs)
{
	uint64_t rip;

	handled++;
	/* rip in the saved context: uc_mcontext at 40, rip is the 17th register */
	get(the_guest, regs->rdx + 40 + 16 * 8, &rip, sizeof(rip));
	rip += 2;
	put(the_guest, regs->rdx + 40 + 16 * 8, &rip, sizeof(rip));
	regs->rsp += 8;
}

static void test_fault_is_handled(void **state)
{
	struct guest *g = *state;
	uint64_t rip = STEPS(DO(skip_fault), CALL(rt_sigreturn));

	g->p.signals->actions[SIGSEGV] = (struct signal_action){
		.handler = rip,
		.flags = RESTORER | SA_SIGINFO,
		.restorer = rip + 2,
	};
	TASK(g, FAULT(14, 0x1234), EXIT(5));
	run_all(g);
	assert_int_equal(g->p.end_code, 5);
	assert_int_equal(handled, 1);
}

static void test_fault_kills(void **state)
{
	struct guest *g = *state;

	TASK(g, FAULT(0, 0), EXIT(5));
	sched_run(&g->p, NULL);
	assert_int_equal(g->p.end, PROC_SIGNALED);
	assert_int_equal(g->p.end_code, SIGFPE);
	assert_non_null(strstr(g->p.end_text, "division error"));
	assert_non_null(strstr(g->p.end_text, "memory map"));
}

static void test_blocked_fault_kills(void **state)
{
	struct guest *g = *state;

	install(g, SIGSEGV, 0, 0);
	put_u64(g, ARENA, ~0ull);
	TASK(g, CALL(rt_sigprocmask, SIG_SETMASK, ARENA, 0, 8), FAULT(14, 0x10), EXIT(5));
	sched_run(&g->p, NULL);
	assert_int_equal(g->p.end_code, SIGSEGV);
	assert_int_equal(handled, 0);
}

static void to_nowhere(struct kvm_regs *regs)
{
	regs->rsp = 0x1000;
}

static void test_bad_frames(void **state)
{
	struct guest *g = *state;

	/* Every byte of the frame is nonsense; then there is no frame. */
	for (uint64_t at = ARENA + 0x20000; at < ARENA + 0x60000; at += 8)
		put_u64(g, at, 0xf7f7f7f7f7f7f7f7);
	TASK(g, CALL(rt_sigreturn), EXIT(0));
	sched_run(&g->p, NULL);
	assert_int_equal(g->p.end_code, SIGSEGV);
	g->p.end = PROC_RUNS;
	install(g, SIGUSR1, 0, 0);
	task_exit(&g->p, task_next(&g->p, NULL), 0);
	g->p.end = PROC_RUNS;
	TASK(g, DO(to_nowhere), CALL(kill, GUEST_PID, SIGUSR1), EXIT(0));
	sched_run(&g->p, NULL);
	assert_int_equal(g->p.end, PROC_SIGNALED);
	assert_int_equal(g->p.end_code, SIGSEGV);
}

static void test_itimer(void **state)
{
	struct guest *g = *state;
	const uint64_t value[4] = {0, 2000, 0, 2000};

	install(g, SIGALRM, 0, 0);
	put(g, ARENA, value, sizeof(value));
	TASK(g, CALL(setitimer, 0, ARENA, 0), EXPECT(0), CALL(pause), EXPECT(-EINTR), CALL(pause),
	     EXPECT(-EINTR), CALL(setitimer, 0, 0, 0), CALL(alarm, 10), EXPECT(0), CALL(alarm, 0),
	     EXPECT(10), EXIT(0));
	run_all(g);
	assert_int_equal(handled, 2);
}

static void test_restore(void **state)
{
	struct guest *g = *state, *fresh = calloc(1, sizeof(*fresh));
	struct signal_info info = {.sig = 40, .code = SI_QUEUE, .fields = {1, 77}}, out;
	struct state_writer w = {0}, tasks = {0};
	struct state_reader r;
	struct task *t;
	int code;
	uint64_t value;

	install(g, SIGUSR1, SA_RESTART, 0x4600);
	t = TASK(g, EXIT(0));
	t->signal_mask = SIGNAL_BIT(40) | SIGNAL_BIT(SIGUSR1);
	assert_int_equal(signal_queue(&g->p, NULL, &info), 0);
	assert_int_equal(signal_queue(&g->p, t, &info), 0);
	signal_send(&g->p, t, SIGUSR1, SI_TKILL, 5);
	assert_int_equal(signals_save(&g->p, &w), 0);
	assert_int_equal(sched_save(&g->p, &tasks), 0);

	guest_start(fresh);
	r = (struct state_reader){.data = w.data, .left = w.used};
	assert_int_equal(signals_load(&fresh->p, &r), 0);
	r = (struct state_reader){.data = tasks.data, .left = tasks.used};
	assert_int_equal(sched_load(&fresh->p, &r), 0);
	assert_memory_equal(&fresh->p.signals->actions[SIGUSR1], &g->p.signals->actions[SIGUSR1],
			    sizeof(struct signal_action));
	t = task_next(&fresh->p, NULL);
	assert_true(signal_dequeue(&fresh->p, t, ~0ull, &out));
	assert_int_equal(out.sig, SIGUSR1);
	assert_int_equal(signal_take(&fresh->p, t, ~0ull, &code, &value), 40);
	assert_int_equal(value, 77);
	assert_int_equal(signal_take(&fresh->p, t, ~0ull, &code, &value), 40);
	assert_int_equal(signal_take(&fresh->p, t, ~0ull, &code, &value), 0);
	guest_stop(fresh);
	free(fresh);
	load_damaged(g, &w, signals_load, NULL);
	state_writer_free(&w);
	state_writer_free(&tasks);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, guest_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_handler_and_return),
		T(test_default_actions),
		T(test_kill_cannot_be_stopped),
		T(test_mask_holds_back),
		T(test_realtime_queue),
		T(test_interrupted_call),
		T(test_restarted_call),
		T(test_never_restarted_call),
		T(test_sigsuspend),
		T(test_sigtimedwait),
		T(test_altstack),
		T(test_fault_is_handled),
		T(test_fault_kills),
		T(test_blocked_fault_kills),
		T(test_bad_frames),
		T(test_itimer),
		T(test_restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
