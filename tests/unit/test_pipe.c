/* SPDX-License-Identifier: Apache-2.0 */
/* test_pipe.c - pipes and eventfds: blocking, atomicity, hang-up, and both in a saved state */
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "tests/unit/vfs_fixture.h"

enum { PIPE_ROOM = 65536 };

static void pipe_open(struct guest *g, int flags, int fds[2])
{
	assert_int_equal(SYS(g, pipe2, ARENA, flags), 0);
	get(g, 0, fds, 2 * sizeof(int));
}

/* The blocked call runs again, as the run loop does once its task was woken. */
static int64_t again(struct guest *g, long nr, uint64_t a0, uint64_t a1, uint64_t a2,
		     enum wait_outcome why)
{
	const uint64_t a[6] = {a0, a1, a2};

	g->task->state = TASK_RUNNABLE;
	g->task->wait.outcome = why;
	return syscall_dispatch(&g->p, g->task, (uint64_t)nr, a);
}

static void test_bytes(void **state)
{
	struct guest *g = *state;
	char buf[16] = "";
	int fds[2], n;

	pipe_open(g, 0, fds);
	assert_int_equal(SYS(g, write, fds[1], put(g, 0, "hello", 5), 5), 5);
	assert_int_equal(SYS(g, ioctl, fds[0], FIONREAD, ARENA), 0);
	get(g, 0, &n, sizeof(n));
	assert_int_equal(n, 5);
	assert_int_equal(SYS(g, read, fds[0], ARENA, 3), 3);
	assert_int_equal(SYS(g, read, fds[0], ARENA + 3, 10), 2);
	get(g, 0, buf, 5);
	assert_string_equal(buf, "hello");
	assert_int_equal(SYS(g, read, fds[1], ARENA, 1), -EBADF);
	assert_int_equal(SYS(g, write, fds[0], ARENA, 1), -EBADF);
	assert_int_equal(SYS(g, lseek, fds[0], 0, SEEK_SET), -ESPIPE);
	assert_int_equal(SYS(g, pread64, fds[0], ARENA, 1, 0), -ESPIPE);
	assert_int_equal(SYS(g, close, fds[1]), 0);
	assert_int_equal(SYS(g, read, fds[0], ARENA, 10), 0);
	assert_int_equal(pipe_file_ops.poll(&g->p, fd_get(&g->p, fds[0])), POLLHUP);
}

static void test_nonblock_and_atomic(void **state)
{
	struct guest *g = *state;
	int fds[2];

	pipe_open(g, O_NONBLOCK, fds);
	assert_int_equal(SYS(g, read, fds[0], ARENA, 1), -EAGAIN);
	assert_int_equal(SYS(g, write, fds[1], ARENA, 2 * PIPE_ROOM), PIPE_ROOM);
	assert_int_equal(SYS(g, write, fds[1], ARENA, 1), -EAGAIN);
	assert_int_equal(SYS(g, read, fds[0], ARENA, 100), 100);
	assert_int_equal(SYS(g, write, fds[1], ARENA, 4096), -EAGAIN);
	assert_int_equal(SYS(g, write, fds[1], ARENA, 4097), 100);
	assert_int_equal(SYS(g, read, fds[0], ARENA, 4096), 4096);
	assert_int_equal(SYS(g, write, fds[1], ARENA, 4096), 4096);
	assert_int_equal(SYS(g, fcntl, fds[0], F_GETPIPE_SZ), PIPE_ROOM);
	assert_int_equal(SYS(g, fcntl, fds[0], F_SETPIPE_SZ, 4096), -EBUSY);
	assert_int_equal(SYS(g, fcntl, fds[0], F_SETPIPE_SZ, 100000), 131072);
	assert_int_equal(SYS(g, write, fds[1], ARENA, 65536), 65536);
	assert_int_equal(SYS(g, fcntl, fds[0], F_SETPIPE_SZ, 1 << 30), -EPERM);
}

/* All pipes together: 64 MiB, as an ordinary user has them on Linux. */
static void test_room_is_limited(void **state)
{
	struct guest *g = *state;
	int64_t room = 0, ret = 1 << 20;
	int fds[2], last[2] = {-1, -1};

	for (int i = 0; ret == 1 << 20 && i < 200; i++) {
		pipe_open(g, 0, fds);
		ret = SYS(g, fcntl, fds[0], F_SETPIPE_SZ, 1 << 20);
		room += ret > 0 ? ret : 0;
		memcpy(last, ret > 0 ? fds : last, sizeof(last));
	}
	assert_int_equal(ret, -EPERM);
	assert_true(room <= 64 << 20);
	assert_int_equal(SYS(g, close, last[0]), 0);
	assert_int_equal(SYS(g, close, last[1]), 0);
	assert_int_equal(SYS(g, fcntl, fds[0], F_SETPIPE_SZ, 1 << 20), 1 << 20);
}

static void test_blocking_read(void **state)
{
	struct guest *g = *state;
	int fds[2];

	pipe_open(g, 0, fds);
	assert_true(SYS(g, read, fds[0], ARENA, 8) == SYS_BLOCKED);
	assert_int_equal(g->task->state, TASK_BLOCKED);
	assert_true(g->task->wait.key == fd_get(&g->p, fds[1])->wait_key);
	assert_int_equal(again(g, SYS_read, (uint64_t)fds[0], ARENA, 8, WAIT_SIGNAL), -EINTR);
	assert_true(SYS(g, read, fds[0], ARENA, 8) == SYS_BLOCKED);
	g->task->state = TASK_RUNNABLE;
	assert_int_equal(SYS(g, write, fds[1], ARENA, 3), 3);
	assert_int_equal(again(g, SYS_read, (uint64_t)fds[0], ARENA, 8, WAIT_WOKEN), 3);
}

/* A large write goes in as the reader makes room; the position survives each wait. */
static void test_blocking_write(void **state)
{
	struct guest *g = *state;
	enum { TOTAL = 3 * PIPE_ROOM + 1000 };
	uint8_t *data = malloc(TOTAL), *back = malloc(TOTAL);
	uint64_t cookie;
	int64_t ret;
	size_t got = 0;
	int fds[2];

	pipe_open(g, 0, fds);
	for (size_t i = 0; i < TOTAL; i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	put(g, 0, data, TOTAL);
	ret = SYS(g, write, fds[1], ARENA, TOTAL);
	while (ret == SYS_BLOCKED) {
		cookie = g->task->wait.cookie;
		g->task->state = TASK_RUNNABLE;
		ret = SYS(g, read, fds[0], ARENA + 0x200000, 50000);
		assert_true(ret > 0);
		get(g, 0x200000, back + got, (size_t)ret);
		got += (size_t)ret;
		g->task->wait.cookie = cookie;
		ret = again(g, SYS_write, (uint64_t)fds[1], ARENA, TOTAL, WAIT_WOKEN);
	}
	assert_int_equal(ret, TOTAL);
	while (got < TOTAL) {
		ret = SYS(g, read, fds[0], ARENA + 0x200000, 50000);
		assert_true(ret > 0);
		get(g, 0x200000, back + got, (size_t)ret);
		got += (size_t)ret;
	}
	assert_memory_equal(data, back, TOTAL);
	/* A signal in the middle: what went in so far is the result. */
	assert_true(SYS(g, write, fds[1], ARENA, TOTAL) == SYS_BLOCKED);
	assert_int_equal(again(g, SYS_write, (uint64_t)fds[1], ARENA, TOTAL, WAIT_SIGNAL),
			 PIPE_ROOM);
	free(data);
	free(back);
}

static void test_broken_pipe(void **state)
{
	struct guest *g = *state;
	int fds[2];

	pipe_open(g, 0, fds);
	assert_int_equal(SYS(g, close, fds[0]), 0);
	assert_int_equal(pipe_file_ops.poll(&g->p, fd_get(&g->p, fds[1])) & POLLERR, POLLERR);
	assert_int_equal(SYS(g, write, fds[1], ARENA, 1), -EPIPE);
}

static void test_eventfd(void **state)
{
	struct guest *g = *state;
	uint64_t value = 5;
	int64_t fd = SYS(g, eventfd2, 2, EFD_NONBLOCK), sem;

	assert_int_equal(SYS(g, write, fd, put(g, 0, &value, 8), 8), 8);
	assert_int_equal(SYS(g, read, fd, ARENA, 7), -EINVAL);
	assert_int_equal(SYS(g, read, fd, ARENA, 8), 8);
	get(g, 0, &value, 8);
	assert_int_equal(value, 7);
	assert_int_equal(SYS(g, read, fd, ARENA, 8), -EAGAIN);
	value = UINT64_MAX;
	assert_int_equal(SYS(g, write, fd, put(g, 0, &value, 8), 8), -EINVAL);
	value = UINT64_MAX - 1;
	assert_int_equal(SYS(g, write, fd, put(g, 0, &value, 8), 8), 8);
	value = 1;
	assert_int_equal(SYS(g, write, fd, put(g, 0, &value, 8), 8), -EAGAIN);
	sem = SYS(g, eventfd2, 2, EFD_SEMAPHORE);
	assert_int_equal(SYS(g, read, sem, ARENA, 8), 8);
	get(g, 0, &value, 8);
	assert_int_equal(value, 1);
	assert_int_equal(SYS(g, read, sem, ARENA, 8), 8);
	assert_true(SYS(g, read, sem, ARENA, 8) == SYS_BLOCKED);
	assert_int_equal(SYS(g, eventfd2, 0, 0x10), -EINVAL);
}

/* Both ends, a duplicate, contents across the ring's end, and an eventfd come back. */
static void test_restore(void **state)
{
	struct guest *g = *state;
	struct guest *to = calloc(1, sizeof(*to));
	char buf[16] = "";
	int64_t event = SYS(g, eventfd2, 9, EFD_NONBLOCK), copy;
	uint64_t value;
	int fds[2];

	pipe_open(g, O_NONBLOCK, fds);
	assert_int_equal(SYS(g, write, fds[1], ARENA, PIPE_ROOM - 3), PIPE_ROOM - 3);
	assert_int_equal(SYS(g, read, fds[0], ARENA, PIPE_ROOM - 3), PIPE_ROOM - 3);
	assert_int_equal(SYS(g, write, fds[1], put(g, 0, "wrapped", 8), 8), 8);
	copy = SYS(g, dup, fds[1]);
	guest_move(g, to);
	assert_int_equal(SYS(to, read, fds[0], ARENA, 16), 8);
	get(to, 0, buf, 8);
	assert_string_equal(buf, "wrapped");
	assert_int_equal(SYS(to, read, fds[0], ARENA, 16), -EAGAIN);
	assert_int_equal(SYS(to, close, fds[1]), 0);
	assert_int_equal(SYS(to, read, fds[0], ARENA, 16), -EAGAIN);
	assert_int_equal(SYS(to, write, copy, ARENA, 2), 2);
	assert_int_equal(SYS(to, read, fds[0], ARENA, 16), 2);
	assert_int_equal(SYS(to, close, copy), 0);
	assert_int_equal(SYS(to, read, fds[0], ARENA, 16), 0);
	assert_int_equal(SYS(to, read, event, ARENA, 8), 8);
	get(to, 0, &value, 8);
	assert_int_equal(value, 9);
	guest_stop(to);
	free(to);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_bytes),	   TEST(test_nonblock_and_atomic), TEST(test_blocking_read),
		TEST(test_blocking_write), TEST(test_broken_pipe),	   TEST(test_eventfd),
		TEST(test_restore),	   TEST(test_room_is_limited),
	};

	return cmocka_run_group_tests_name("pipe", tests, NULL, NULL);
}
