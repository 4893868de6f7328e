/* SPDX-License-Identifier: Apache-2.0 */
/*
 * futex.c - fast user-space locks: the part that waits
 *
 * Theory of operation
 *
 * A waiter waits for a key: the address for private futexes, the memory behind it for shared ones.
 * The bits of the key above all pointers keep futexes and objects of the vmm apart. FUTEX_REQUEUE
 * gives waiters another key. What a waiter needs besides is in its wait cookie: the bitset, and
 * for FUTEX_LOCK_PI nothing at all.
 *
 * A woken waiter's call runs again and returns 0. After a restore it looks at the word anew, as if
 * it was called for the first time; a program must expect that of any futex.
 *
 * Source: futex(2), Linux kernel/futex/.
 */
#include "vmm/process/futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <time.h>

#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/sched.h"
#include "vmm/process/signal.h"
#include "vmm/process/syscall.h"
#include "vmm/process/timer.h"

#define KEY_PRIVATE (1ull << 63)
#define KEY_SHARED  (1ull << 62)

enum { ROBUST_LIST_MAX = 2048 };

/** Return: 0: @addr is not one of a futex. */
static uint64_t futex_key(struct proc *p, uint64_t addr, bool shared, int *ret_err)
{
	uint64_t key;

	if (addr % sizeof(uint32_t)) {
		*ret_err = -EINVAL;
		return 0;
	}
	*ret_err = -EFAULT;
	if (!shared)
		return mm_user_u32(p, addr, false) ? KEY_PRIVATE | addr : 0;
	/* The frame behind a page that was never written may still change. */
	if (!mm_user_u32(p, addr, true) && !mm_user_u32(p, addr, false))
		return 0;
	key = mm_user_key(p, addr);
	return key ? KEY_SHARED | key : 0;
}

/** Wake up to @max waiters whose bitset has one of @bits. Other waiters do not look up. */
static int64_t wake(struct proc *p, uint64_t key, unsigned max, uint32_t bits)
{
	struct task *t = p->sched->blocked.head, *next;
	int64_t woken = 0;

	for (; t && woken < max; t = next) {
		next = t->queue_next;
		if (t->wait.key != key || !(t->wait.cookie & bits))
			continue;
		task_ready(p, t, WAIT_WOKEN);
		woken++;
	}
	return woken;
}

static int64_t wait(struct proc *p, struct task *t, uint64_t key, const uint64_t a[6],
		    uint32_t bits, uint64_t deadline_ns)
{
	const uint32_t *word;

	switch (t->wait.outcome) {
	case WAIT_WOKEN:
		return 0;
	case WAIT_TIMEOUT:
		return -ETIMEDOUT;
	case WAIT_SIGNAL:
		return -EINTR;
	case WAIT_NONE:
		break;
	}
	word = mm_user_u32(p, a[0], false);
	if (!word)
		return -EFAULT;
	if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != (uint32_t)a[2])
		return -EAGAIN;
	t->wait.cookie = bits;
	if (a[1] & FUTEX_CLOCK_REALTIME)
		task_wait_anew(t);
	task_wait(p, t, key, deadline_ns);
	return SYS_BLOCKED;
}

static int64_t requeue(struct proc *p, uint64_t from, uint64_t to, unsigned wake_max,
		       unsigned move_max)
{
	int64_t woken = wake(p, from, wake_max, UINT32_MAX);
	int64_t moved = 0;

	if (from == to)
		return woken;
	for (struct task *t = p->sched->blocked.head; t && moved < move_max; t = t->queue_next) {
		if (t->wait.key != from || !(uint32_t)t->wait.cookie)
			continue;
		t->wait.key = to;
		moved++;
	}
	return woken + moved;
}

static int64_t wake_op(struct proc *p, uint64_t key1, uint64_t key2, const uint64_t a[6])
{
	unsigned encoded = (unsigned)a[5];
	int32_t arg = (int32_t)(encoded << 8) >> 20, cmp_arg = (int32_t)(encoded << 20) >> 20;
	unsigned op = encoded >> 28 & 7, cmp = encoded >> 24 & 15;
	uint32_t *word = mm_user_u32(p, a[4], true);
	uint32_t old;
	int64_t woken;
	bool holds;

	if (!word)
		return -EFAULT;
	if (encoded >> 31)
		arg = (int32_t)(1u << (arg & 31));
	switch (op) {
	case FUTEX_OP_SET:
		old = __atomic_exchange_n(word, (uint32_t)arg, __ATOMIC_SEQ_CST);
		break;
	case FUTEX_OP_ADD:
		old = __atomic_fetch_add(word, (uint32_t)arg, __ATOMIC_SEQ_CST);
		break;
	case FUTEX_OP_OR:
		old = __atomic_fetch_or(word, (uint32_t)arg, __ATOMIC_SEQ_CST);
		break;
	case FUTEX_OP_ANDN:
		old = __atomic_fetch_and(word, ~(uint32_t)arg, __ATOMIC_SEQ_CST);
		break;
	case FUTEX_OP_XOR:
		old = __atomic_fetch_xor(word, (uint32_t)arg, __ATOMIC_SEQ_CST);
		break;
	default:
		return -ENOSYS;
	}
	switch (cmp) {
	case FUTEX_OP_CMP_EQ:
		holds = (int32_t)old == cmp_arg;
		break;
	case FUTEX_OP_CMP_NE:
		holds = (int32_t)old != cmp_arg;
		break;
	case FUTEX_OP_CMP_LT:
		holds = (int32_t)old < cmp_arg;
		break;
	case FUTEX_OP_CMP_GE:
		holds = (int32_t)old >= cmp_arg;
		break;
	case FUTEX_OP_CMP_LE:
		holds = (int32_t)old <= cmp_arg;
		break;
	case FUTEX_OP_CMP_GT:
		holds = (int32_t)old > cmp_arg;
		break;
	default:
		return -ENOSYS;
	}
	woken = wake(p, key1, (unsigned)a[2], UINT32_MAX);
	return holds ? woken + wake(p, key2, (unsigned)a[3], UINT32_MAX) : woken;
}

/* ---- priority inheritance: with one vCPU and no priorities it is the owner's tid in the word  */

static int64_t lock_pi(struct proc *p, struct task *t, uint64_t key, uint64_t addr,
		       uint64_t deadline_ns, bool try)
{
	uint32_t *word = mm_user_u32(p, addr, true);
	uint32_t owner;

	if (!word)
		return -EFAULT;
	owner = *word & FUTEX_TID_MASK;
	/* The unlocker has made this task the owner. */
	if (owner == (uint32_t)t->tid)
		return t->in_syscall ? 0 : -EDEADLK;
	if (!owner) {
		*word = (*word & FUTEX_OWNER_DIED) | (uint32_t)t->tid;
		return 0;
	}
	if (!task_by_tid(p, (int)owner))
		return -ESRCH;
	if (try)
		return -EAGAIN;
	if (t->wait.outcome == WAIT_TIMEOUT)
		return -ETIMEDOUT;
	/* Signals are handled and the call goes on: PI locks are not interruptible by EINTR. */
	if (t->wait.outcome == WAIT_SIGNAL)
		return -EINTR;
	*word |= FUTEX_WAITERS;
	t->wait.cookie = 0; /* not for FUTEX_WAKE */
	task_wait(p, t, key, deadline_ns);
	return SYS_BLOCKED;
}

static int64_t unlock_pi(struct proc *p, const struct task *t, uint64_t key, uint64_t addr)
{
	uint32_t *word = mm_user_u32(p, addr, true);
	struct task *heir = NULL;
	bool more = false;

	if (!word)
		return -EFAULT;
	if ((*word & FUTEX_TID_MASK) != (uint32_t)t->tid)
		return -EPERM;
	for (struct task *w = p->sched->blocked.head; w; w = w->queue_next) {
		if (w->wait.key != key || w->wait.cookie)
			continue;
		more = heir != NULL;
		if (more)
			break;
		heir = w;
	}
	if (!heir) {
		*word = 0;
		return 0;
	}
	*word = (uint32_t)heir->tid | (more ? FUTEX_WAITERS : 0);
	task_ready(p, heir, WAIT_WOKEN);
	return 0;
}

/* ---- the call ---- */

static bool op_has_timeout(int op)
{
	return op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET || op == FUTEX_LOCK_PI ||
	       op == FUTEX_LOCK_PI2;
}

static int futex_deadline(struct proc *p, int op, bool realtime, uint64_t addr, uint64_t *ret_ns)
{
	int ret;

	*ret_ns = WAIT_FOREVER;
	if (!op_has_timeout(op) || !addr)
		return 0;
	ret = user_timespec_get(p, addr, ret_ns);
	if (ret)
		return ret;
	if (op == FUTEX_WAIT)
		*ret_ns = deadline_after(p, *ret_ns);
	else if (op == FUTEX_LOCK_PI || realtime)
		*ret_ns = deadline_of(p, CLOCK_REALTIME, *ret_ns);
	return 0;
}

static int64_t futex_two(struct proc *p, int op, uint64_t key, bool shared, const uint64_t a[6])
{
	int err;
	uint64_t key2 = futex_key(p, a[4], shared, &err);
	const uint32_t *word;

	if (!key2)
		return err;
	if (op == FUTEX_WAKE_OP)
		return wake_op(p, key, key2, a);
	if ((int32_t)a[2] < 0 || (int32_t)a[3] < 0)
		return -EINVAL;
	if (op == FUTEX_CMP_REQUEUE) {
		word = mm_user_u32(p, a[0], false);
		if (!word)
			return -EFAULT;
		if (*word != (uint32_t)a[5])
			return -EAGAIN;
	}
	return requeue(p, key, key2, (unsigned)a[2], (unsigned)a[3]);
}

int64_t futex_call(struct proc *p, struct task *t, const uint64_t a[6])
{
	int op = (int)a[1] & FUTEX_CMD_MASK, err;
	bool shared = !(a[1] & FUTEX_PRIVATE_FLAG);
	bool bitset = op == FUTEX_WAIT_BITSET || op == FUTEX_WAKE_BITSET;
	uint32_t bits = bitset ? (uint32_t)a[5] : FUTEX_BITSET_MATCH_ANY;
	uint64_t key = futex_key(p, a[0], shared, &err), deadline_ns;

	if (!key)
		return err;
	if (!bits)
		return -EINVAL;
	err = futex_deadline(p, op, a[1] & FUTEX_CLOCK_REALTIME, a[3], &deadline_ns);
	if (err)
		return err;
	switch (op) {
	case FUTEX_WAIT:
	case FUTEX_WAIT_BITSET:
		return wait(p, t, key, a, bits, deadline_ns);
	case FUTEX_WAKE:
	case FUTEX_WAKE_BITSET:
		return wake(p, key, (unsigned)a[2], bits);
	case FUTEX_REQUEUE:
	case FUTEX_CMP_REQUEUE:
	case FUTEX_WAKE_OP:
		return futex_two(p, op, key, shared, a);
	case FUTEX_LOCK_PI:
	case FUTEX_LOCK_PI2:
	case FUTEX_TRYLOCK_PI:
		return lock_pi(p, t, key, a[0], deadline_ns, op == FUTEX_TRYLOCK_PI);
	case FUTEX_UNLOCK_PI:
		return unlock_pi(p, t, key, a[0]);
	}
	return -ENOSYS;
}

/* ---- the end of a task ---- */

void futex_wake_addr(struct proc *p, uint64_t addr, unsigned max)
{
	int err;
	uint64_t key = futex_key(p, addr, true, &err);

	if (key)
		wake(p, key, max, UINT32_MAX);
}

/** A lock that its owner cannot release any more: say so to the next one. */
static void owner_died(struct proc *p, const struct task *t, uint64_t addr)
{
	uint32_t *word = mm_user_u32(p, addr, true);
	int err;
	uint64_t key;

	if (!word || (*word & FUTEX_TID_MASK) != (uint32_t)t->tid)
		return;
	*word = (*word & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
	if (!(*word & FUTEX_WAITERS))
		return;
	/* It is not known here whether the program used it as private or as shared. */
	key = futex_key(p, addr, false, &err);
	if (key && wake(p, key, 1, UINT32_MAX))
		return;
	futex_wake_addr(p, addr, 1);
}

/** struct robust_list_head of linux/futex.h; the low bit of a pointer marks a PI lock. */
static void robust_list_walk(struct proc *p, const struct task *t)
{
	uint64_t head[3], at;

	if (!t->robust_list || mm_copy_in(p, head, t->robust_list, sizeof(head)))
		return;
	at = head[0];
	for (int i = 0; i < ROBUST_LIST_MAX && (at & ~1ull) != t->robust_list; i++) {
		uint64_t entry = at & ~1ull;

		if (mm_copy_in(p, &at, entry, sizeof(at)))
			return;
		if (entry != (head[2] & ~1ull))
			owner_died(p, t, entry + head[1]);
	}
	if (head[2] & ~1ull)
		owner_died(p, t, (head[2] & ~1ull) + head[1]);
}

void futex_task_exit(struct proc *p, struct task *t)
{
	static const uint32_t zero;

	robust_list_walk(p, t);
	if (t->clear_child_tid && !mm_copy_out(p, t->clear_child_tid, &zero, sizeof(zero)))
		futex_wake_addr(p, t->clear_child_tid, 1);
}
