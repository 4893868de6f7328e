/* SPDX-License-Identifier: Apache-2.0 */
/* test_futex.c - wait, wake, bitsets, requeue, wake-op, priority inheritance, robust lists */
#include <linux/futex.h>

#include "tests/unit/fake_cpu.h"

#define W1	      (ARENA + 0x100)
#define W2	      (ARENA + 0x200)
#define PRIV	      FUTEX_PRIVATE_FLAG
#define WAIT(word, v) CALL(futex, word, FUTEX_WAIT | PRIV, v)
#define WAKE(word, n) CALL(futex, word, FUTEX_WAKE | PRIV, n)

static struct guest *the_guest;
static int woken;

static void set_w1(struct kvm_regs *regs)
{
	(void)regs;
	put_u32(the_guest, W1, 1);
}

static void count_woken(struct kvm_regs *regs)
{
	(void)regs;
	woken++;
}

static int setup(void **state)
{
	int ret = guest_setup(state);

	the_guest = *state;
	woken = 0;
	return ret;
}

static void test_wait_and_wake(void **state)
{
	struct guest *g = *state;

	TASK(g, WAIT(W1, 1), EXPECT(-EAGAIN), WAIT(W1, 0), EXPECT(0), EXIT(0));
	TASK(g, WAIT(W1, 0), EXPECT(0), EXIT(0));
	TASK(g, CALL(sched_yield), WAKE(W2, 9), EXPECT(0), WAKE(W1, 1), EXPECT(1), WAKE(W1, 9),
	     EXPECT(1), WAKE(W1, 9), EXPECT(0), EXIT(0));
	run_all(g);
}

static void test_private_and_shared_are_apart(void **state)
{
	struct guest *g = *state;

	TASK(g, CALL(futex, W1, FUTEX_WAIT, 0), EXPECT(0), EXIT(0));
	TASK(g, WAKE(W1, 1), EXPECT(0), CALL(futex, W1, FUTEX_WAKE, 1), EXPECT(1), EXIT(0));
	run_all(g);
}

static void test_bad_addresses(void **state)
{
	struct guest *g = *state;

	TASK(g, WAIT(W1 + 1, 0), EXPECT(-EINVAL), WAIT(0x10, 0), EXPECT(-EFAULT),
	     CALL(futex, W1, 99, 0), EXPECT(-ENOSYS),
	     CALL(futex, W1, FUTEX_WAIT_BITSET | PRIV, 0, 0, 0, 0), EXPECT(-EINVAL),
	     CALL(futex, 0xffffffffffff0000, FUTEX_WAKE, 1), EXPECT(-EFAULT), EXIT(0));
	run_all(g);
}

static void test_timeouts(void **state)
{
	struct guest *g = *state;
	const int bitset = FUTEX_WAIT_BITSET | PRIV;

	put_timespec(g, ARENA, 3000000);
	put_timespec(g, ARENA + 16, guest_mono_ns(&g->p) + 3000000);
	put_timespec(g, ARENA + 32, guest_real_ns(&g->p) + 3000000);
	put_timespec(g, ARENA + 48, 1);
	put_u64(g, ARENA + 72, 1000000000); /* not a number of nanoseconds */
	TASK(g, CALL(futex, W1, FUTEX_WAIT | PRIV, 0, ARENA), EXPECT(-ETIMEDOUT),
	     CALL(futex, W1, bitset, 0, ARENA + 16, 0, ~0u), EXPECT(-ETIMEDOUT),
	     CALL(futex, W1, bitset | FUTEX_CLOCK_REALTIME, 0, ARENA + 32, 0, ~0u),
	     EXPECT(-ETIMEDOUT), CALL(futex, W1, bitset, 0, ARENA + 48, 0, ~0u), EXPECT(-ETIMEDOUT),
	     CALL(futex, W1, FUTEX_WAIT | PRIV, 0, ARENA + 64), EXPECT(-EINVAL), EXIT(0));
	run_all(g);
}

static void test_bitset(void **state)
{
	struct guest *g = *state;
	const int wait = FUTEX_WAIT_BITSET | PRIV, wake = FUTEX_WAKE_BITSET | PRIV;

	TASK(g, CALL(futex, W1, wait, 0, 0, 0, 1), DO(count_woken), EXIT(0));
	TASK(g, CALL(futex, W1, wait, 0, 0, 0, 6), DO(count_woken), EXIT(0));
	TASK(g, CALL(futex, W1, wake, 9, 0, 0, 8), EXPECT(0), CALL(futex, W1, wake, 9, 0, 0, 4),
	     EXPECT(1), CALL(futex, W1, wake, 9, 0, 0, 3), EXPECT(1), EXIT(0));
	run_all(g);
	assert_int_equal(woken, 2);
}

static void test_requeue(void **state)
{
	struct guest *g = *state;
	const int cmp = FUTEX_CMP_REQUEUE | PRIV;

	for (int i = 0; i < 4; i++)
		TASK(g, WAIT(W1, 0), EXPECT(0), DO(count_woken), EXIT(0));
	TASK(g, CALL(futex, W1, cmp, 1, 2, W2, 7), EXPECT(-EAGAIN),
	     CALL(futex, W1, cmp, 1, 2, W2, 0), EXPECT(3), WAKE(W2, 9), EXPECT(2), WAKE(W1, 9),
	     EXPECT(1), EXIT(0));
	run_all(g);
	assert_int_equal(woken, 4);
}

static void test_wake_op(void **state)
{
	struct guest *g = *state;
	/* *W2 += 5, and wake there when the old value was over 1 */
	const uint64_t op = (uint64_t)FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_GT, 1) & 0xffffffff;
	const int nr = FUTEX_WAKE_OP | PRIV;

	TASK(g, WAIT(W1, 0), EXPECT(0), EXIT(0));
	TASK(g, WAIT(W2, 0), EXPECT(0), EXIT(0));
	TASK(g, CALL(futex, W1, nr, 1, 1, W2, op), EXPECT(1), CALL(futex, W1, nr, 1, 1, W2, op),
	     EXPECT(1), EXIT(0));
	run_all(g);
	assert_int_equal(get_u32(g, W2), 10);
}

static void test_priority_inheritance(void **state)
{
	struct guest *g = *state;
	const int lock = FUTEX_LOCK_PI | PRIV, unlock = FUTEX_UNLOCK_PI | PRIV;

	TASK(g, CALL(futex, W1, lock), EXPECT(0), CALL(futex, W1, lock), EXPECT(-EDEADLK),
	     CALL(sched_yield), CALL(futex, W1, unlock), EXPECT(0), EXIT(0));
	TASK(g, CALL(futex, W1, FUTEX_TRYLOCK_PI | PRIV), EXPECT(-EAGAIN), CALL(futex, W1, unlock),
	     EXPECT(-EPERM), CALL(futex, W1, lock), EXPECT(0), CALL(futex, W1, unlock), EXPECT(0),
	     EXIT(0));
	run_all(g);
	assert_int_equal(get_u32(g, W1), 0);
}

static void test_exit_wakes(void **state)
{
	struct guest *g = *state;
	struct task *t;

	/* clear_child_tid: pthread_join's futex */
	put_u32(g, W1, 7);
	t = TASK(g, CALL(sched_yield), EXIT(0));
	t->clear_child_tid = W1;
	TASK(g, CALL(futex, W1, FUTEX_WAIT, 7), EXPECT(0), EXIT(0));
	run_all(g);
	assert_int_equal(get_u32(g, W1), 0);
}

static void test_robust_list(void **state)
{
	struct guest *g = *state;
	struct task *t;

	/* head {next, offset, pending}; one entry, its lock 16 bytes behind it */
	put_u64(g, ARENA + 0x300, ARENA + 0x400);
	put_u64(g, ARENA + 0x308, 16);
	put_u64(g, ARENA + 0x310, 0);
	put_u64(g, ARENA + 0x400, ARENA + 0x300);
	t = TASK(g, CALL(set_robust_list, ARENA + 0x300, 24), EXPECT(0), CALL(sched_yield),
		 EXIT(0));
	put_u32(g, ARENA + 0x410, (uint32_t)t->tid | FUTEX_WAITERS);
	TASK(g, WAIT(ARENA + 0x410, (uint32_t)t->tid | FUTEX_WAITERS), EXPECT(0), EXIT(0));
	run_all(g);
	assert_int_equal(get_u32(g, ARENA + 0x410), FUTEX_WAITERS | FUTEX_OWNER_DIED);
}

static void test_hostile_robust_list(void **state)
{
	struct guest *g = *state;

	/* A list that never ends. */
	put_u64(g, ARENA + 0x300, ARENA + 0x400);
	put_u64(g, ARENA + 0x308, ~0ull);
	put_u64(g, ARENA + 0x310, ~0ull);
	put_u64(g, ARENA + 0x400, ARENA + 0x400);
	TASK(g, CALL(set_robust_list, ARENA + 0x300, 24), EXIT(0));
	run_all(g);
}

static bool waits(struct proc *p)
{
	return p->sched->blocked.count == 1 && !p->sched->ready.count && !p->sched->current;
}

static void test_restore_looks_again(void **state)
{
	struct guest *g = *state;
	struct state_writer w = {0};
	struct state_reader r;

	TASK(g, WAIT(W1, 0), EXPECT(-EAGAIN), EXIT(0));
	sched_run(&g->p, waits);
	sched_park(&g->p);
	assert_int_equal(sched_save(&g->p, &w), 0);
	sched_free(&g->p);
	assert_int_equal(sched_new(&g->p), 0);
	r = (struct state_reader){.data = w.data, .left = w.used};
	assert_int_equal(sched_load(&g->p, &r), 0);
	set_w1(NULL);
	run_all(g);
	state_writer_free(&w);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, guest_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_wait_and_wake),
		T(test_private_and_shared_are_apart),
		T(test_bad_addresses),
		T(test_timeouts),
		T(test_bitset),
		T(test_requeue),
		T(test_wake_op),
		T(test_priority_inheritance),
		T(test_exit_wakes),
		T(test_robust_list),
		T(test_hostile_robust_list),
		T(test_restore_looks_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
