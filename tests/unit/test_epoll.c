/* SPDX-License-Identifier: Apache-2.0 */
/* test_epoll.c - epoll, poll, select, timerfd, signalfd, and all of it in a saved state */
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "tests/unit/fake_cpu.h"
#include "vmm/process/epoll.h"

enum { EVENT = ARENA, OUT = ARENA + 0x100, FDS = ARENA + 0x200, BUF = ARENA + 0x1000 };

struct event {
	uint32_t events;
	uint64_t data;
} __attribute__((packed));

static struct guest *the_guest;
static struct task *me;

static int setup(void **state)
{
	int ret = guest_setup(state);

	the_guest = *state;
	me = TASK(the_guest, EXIT(0));
	return ret;
}

#define DO_CALL(n, ...) NOW(the_guest, me, n, __VA_ARGS__)

static void pair(uint64_t fds[2])
{
	assert_int_equal(DO_CALL(socketpair, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, FDS), 0);
	fds[0] = get_u32(the_guest, FDS);
	fds[1] = get_u32(the_guest, FDS + 4);
}

static int64_t control(uint64_t ep, int op, uint64_t fd, uint32_t events, uint64_t data)
{
	const struct event e = {events, data};

	put(the_guest, EVENT, &e, sizeof(e));
	return DO_CALL(epoll_ctl, ep, (uint64_t)op, fd, EVENT);
}

static int64_t wait_now(uint64_t ep)
{
	return DO_CALL(epoll_wait, ep, OUT, 8, 0);
}

static struct event out(int i)
{
	struct event e;

	get(the_guest, OUT + (uint64_t)i * sizeof(e), &e, sizeof(e));
	return e;
}

static void send_byte(uint64_t fd)
{
	assert_int_equal(DO_CALL(sendto, fd, BUF, 1, 0, 0, 0), 1);
}

static void test_level(void **state)
{
	uint64_t fds[2], ep = (uint64_t)DO_CALL(epoll_create1, 0);

	(void)state;
	pair(fds);
	assert_int_equal(control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 0x123456789abcull), 0);
	assert_int_equal(wait_now(ep), 0);
	send_byte(fds[1]);
	assert_int_equal(wait_now(ep), 1);
	assert_int_equal(wait_now(ep), 1);
	assert_int_equal(out(0).events, EPOLLIN);
	assert_int_equal(out(0).data, 0x123456789abcull);
	assert_int_equal(control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 0), -EEXIST);
	assert_int_equal(control(ep, EPOLL_CTL_MOD, fds[1], EPOLLIN, 0), -ENOENT);
	assert_int_equal(control(ep, EPOLL_CTL_ADD, 99, EPOLLIN, 0), -EBADF);
	assert_int_equal(control(ep, EPOLL_CTL_ADD, ep, EPOLLIN, 0), -EINVAL);
	assert_int_equal(DO_CALL(epoll_wait, ep, OUT, 0, 0), -EINVAL);
	assert_int_equal(DO_CALL(epoll_wait, fds[0], OUT, 1, 0), -EINVAL);
	assert_int_equal(control(ep, EPOLL_CTL_DEL, fds[0], 0, 0), 0);
	assert_int_equal(wait_now(ep), 0);
}

static void test_edge(void **state)
{
	uint64_t fds[2], ep = (uint64_t)DO_CALL(epoll_create1, 0);

	(void)state;
	pair(fds);
	send_byte(fds[1]);
	assert_int_equal(control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN | EPOLLET, 1), 0);
	assert_int_equal(wait_now(ep), 1);
	assert_int_equal(wait_now(ep), 0);
	/* More arrives while the first byte is still there. */
	send_byte(fds[1]);
	assert_int_equal(wait_now(ep), 1);
	assert_int_equal(wait_now(ep), 0);
	assert_int_equal(DO_CALL(close, fds[1]), 0);
	assert_int_equal(wait_now(ep), 1);
	assert_true(out(0).events & EPOLLHUP);
}

static void test_one_shot(void **state)
{
	uint64_t fds[2], ep = (uint64_t)DO_CALL(epoll_create1, 0);

	(void)state;
	pair(fds);
	send_byte(fds[1]);
	assert_int_equal(control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN | EPOLLONESHOT, 1), 0);
	assert_int_equal(wait_now(ep), 1);
	assert_int_equal(DO_CALL(close, fds[1]), 0);
	assert_int_equal(wait_now(ep), 0);
	assert_int_equal(control(ep, EPOLL_CTL_MOD, fds[0], EPOLLIN | EPOLLONESHOT, 1), 0);
	assert_int_equal(wait_now(ep), 1);
}

static void test_sets_in_sets(void **state)
{
	uint64_t fds[2], ep[8];

	(void)state;
	pair(fds);
	for (int i = 0; i < 8; i++)
		ep[i] = (uint64_t)DO_CALL(epoll_create1, 0);
	assert_int_equal(control(ep[0], EPOLL_CTL_ADD, fds[0], EPOLLIN, 1), 0);
	for (int i = 1; i < 5; i++)
		assert_int_equal(control(ep[i], EPOLL_CTL_ADD, ep[i - 1], EPOLLIN, 1), 0);
	assert_int_equal(control(ep[6], EPOLL_CTL_ADD, ep[4], EPOLLIN, 1), -ELOOP);
	assert_int_equal(control(ep[0], EPOLL_CTL_ADD, ep[2], EPOLLIN, 1), -ELOOP);
	assert_int_equal(wait_now(ep[3]), 0);
	send_byte(fds[1]);
	assert_int_equal(wait_now(ep[3]), 1);
}

/* Many ways from one set to another would be walked one by one, at every level once more. */
static void test_ways_through_sets(void **state)
{
	uint64_t inner, outer, copy;
	int64_t ret = 0;
	int added = 0;

	(void)state;
	inner = (uint64_t)DO_CALL(epoll_create1, 0);
	outer = (uint64_t)DO_CALL(epoll_create1, 0);
	for (; !ret && added < 100; added += !ret) {
		copy = (uint64_t)DO_CALL(dup, inner);
		ret = control(outer, EPOLL_CTL_ADD, copy, EPOLLIN, 1);
	}
	assert_int_equal(ret, -EINVAL);
	assert_int_equal(added, 8);
}

static void test_close_ends_the_watch(void **state)
{
	uint64_t fds[2], ep = (uint64_t)DO_CALL(epoll_create1, 0);

	(void)state;
	pair(fds);
	assert_int_equal(control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN, 1), 0);
	assert_int_equal(DO_CALL(close, fds[0]), 0);
	assert_int_equal(wait_now(ep), 0);
	/* The other end learns of it although the set knew the file. */
	assert_int_equal(DO_CALL(recvfrom, fds[1], BUF, 1, 0, 0, 0), 0);
}

static void test_many_are_reported_in_turn(void **state)
{
	uint64_t fds[8], ep = (uint64_t)DO_CALL(epoll_create1, 0), seen = 0;

	(void)state;
	for (int i = 0; i < 8; i += 2) {
		pair(fds + i);
		send_byte(fds[i + 1]);
		assert_int_equal(control(ep, EPOLL_CTL_ADD, fds[i], EPOLLIN, (uint64_t)i), 0);
	}
	for (int i = 0; i < 4; i++) {
		assert_int_equal(DO_CALL(epoll_wait, ep, OUT, 1, 0), 1);
		seen |= 1ull << out(0).data;
	}
	assert_int_equal(seen, 0x55);
}

static void test_blocking(void **state)
{
	struct guest *g = *state;
	const struct event e = {EPOLLIN, 9};
	uint64_t fds[2], ep = (uint64_t)DO_CALL(epoll_create1, 0);
	struct pollfd pfd;

	pair(fds);
	assert_int_equal(control(ep, EPOLL_CTL_ADD, fds[0], e.events, e.data), 0);
	pfd = (struct pollfd){.fd = (int)fds[0], .events = POLLIN};
	put(g, FDS, &pfd, sizeof(pfd));
	put_u64(g, FDS + 64, 1ull << fds[0]);
	task_exit(&g->p, me, 0);
	g->p.end = PROC_RUNS;
	put_timespec(g, ARENA + 0x300, 2000000);
	TASK(g, CALL(epoll_wait, ep, OUT, 8, (uint64_t)-1), EXPECT(1), EXIT(0));
	TASK(g, CALL(poll, FDS, 1, (uint64_t)-1), EXPECT(1), EXIT(0));
	TASK(g, CALL(select, fds[0] + 1, FDS + 64, 0, 0, 0), EXPECT(1), EXIT(0));
	TASK(g, CALL(epoll_wait, ep, OUT + 64, 8, 1), EXPECT(0), EXIT(0));
	TASK(g, CALL(ppoll, FDS + 32, 1, ARENA + 0x300, 0, 8), EXPECT(1),
	     CALL(nanosleep, ARENA + 0x300), CALL(sendto, fds[1], BUF, 1), EXPECT(1), EXIT(0));
	pfd.fd = 77;
	put(g, FDS + 32, &pfd, sizeof(pfd));
	run_all(g);
}

static void test_timerfd(void **state)
{
	struct guest *g = *state;
	uint64_t fd = (uint64_t)DO_CALL(timerfd_create, 1, 0), n;

	put_timespec(g, ARENA + 0x300, 2000000);
	put_timespec(g, ARENA + 0x310, 2000000);
	assert_int_equal(DO_CALL(timerfd_settime, fd, 0, ARENA + 0x300, 0), 0);
	assert_int_equal(DO_CALL(timerfd_settime, fd, 64, ARENA + 0x300, 0), -EINVAL);
	assert_int_equal(DO_CALL(timerfd_gettime, fd, ARENA + 0x320), 0);
	assert_in_range(get_u32(g, ARENA + 0x338), 1, 2000000);
	assert_int_equal(DO_CALL(timerfd_create, 99, 0), -EINVAL);
	while (!timerfd_file_ops.poll(&g->p, fd_get(&g->p, (int)fd))) {
		usleep(500);
		sched_expire(&g->p);
	}
	assert_int_equal(timerfd_file_ops.read(&g->p, fd_get(&g->p, (int)fd),
					       &(struct iovec){&n, sizeof(n)}, 1, -1),
			 sizeof(n));
	assert_true(n >= 1);
	assert_int_equal(DO_CALL(close, fd), 0);
	assert_int_equal(g->p.sched->timer_count, 0);
}

/* Left of a timerfd of wall time that is armed for in ten seconds, after a restore that took a
 * while. */
static double left_after_restore(struct guest *g, bool absolute)
{
	const struct timespec away = {0, 500000000};
	struct itimerspec spec = {.it_value.tv_sec = 10}, left;
	uint64_t fd = (uint64_t)DO_CALL(timerfd_create, CLOCK_REALTIME, 0);
	struct state_writer clock = {0}, timer = {0};
	struct file *loaded = NULL;
	struct state_reader r;

	if (absolute) {
		clock_gettime(CLOCK_REALTIME, &spec.it_value);
		spec.it_value.tv_sec += 10;
	}
	assert_int_equal(mm_copy_out(&g->p, ARENA + 0x300, &spec, sizeof(spec)), 0);
	assert_int_equal(
		DO_CALL(timerfd_settime, fd, absolute ? TFD_TIMER_ABSTIME : 0, ARENA + 0x300, 0),
		0);
	assert_int_equal(guest_clock_save(&g->p, &clock), 0);
	assert_int_equal(timerfd_file_ops.save(&g->p, fd_get(&g->p, (int)fd), &timer), 0);
	nanosleep(&away, NULL);
	r = (struct state_reader){.data = clock.data, .left = clock.used};
	assert_int_equal(guest_clock_load(&g->p, &r), 0);
	r = (struct state_reader){.data = timer.data, .left = timer.used};
	assert_int_equal(timerfd_file_ops.load(&g->p, &r, &loaded), 0);
	fd = (uint64_t)fd_install(&g->p, loaded, 0, false);
	assert_int_equal(DO_CALL(timerfd_gettime, fd, ARENA + 0x340), 0);
	assert_int_equal(mm_copy_in(&g->p, &left, ARENA + 0x340, sizeof(left)), 0);
	state_writer_free(&clock);
	state_writer_free(&timer);
	return (double)left.it_value.tv_sec + (double)left.it_value.tv_nsec / 1e9;
}

/* Wall time jumps over a restore: times of day come nearer by it, "in ten seconds" does not. */
static void test_timerfd_of_wall_time(void **state)
{
	double relative = left_after_restore(*state, false);

	assert_true(relative > 9.6 && relative <= 10.0);
	assert_true(left_after_restore(*state, true) <= 9.5);
}

static void test_signalfd(void **state)
{
	struct guest *g = *state;
	uint64_t fd, ep = (uint64_t)DO_CALL(epoll_create1, 0);
	uint32_t info[32];

	put_u64(g, ARENA, SIGNAL_BIT(SIGUSR1));
	assert_int_equal(DO_CALL(rt_sigprocmask, SIG_BLOCK, ARENA, 0, 8), 0);
	fd = (uint64_t)DO_CALL(signalfd4, (uint64_t)-1, ARENA, 8, 0);
	assert_int_equal(control(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 1), 0);
	assert_int_equal(wait_now(ep), 0);
	assert_int_equal(DO_CALL(kill, GUEST_PID, SIGUSR1), 0);
	assert_int_equal(wait_now(ep), 1);
	assert_int_equal(signalfd_file_ops.read(&g->p, fd_get(&g->p, (int)fd),
						&(struct iovec){info, sizeof(info)}, 1, -1),
			 128);
	assert_int_equal(info[0], SIGUSR1);
	assert_int_equal(info[3], GUEST_PID);
	assert_int_equal(wait_now(ep), 0);
}

static struct state_writer net_state;

static int load_net_first(struct proc *p)
{
	struct state_reader r = {.data = net_state.data, .left = net_state.used};

	return net_load(p, &r);
}

static void test_restore(void **state)
{
	struct guest *g = *state, *fresh = calloc(1, sizeof(*fresh));
	uint64_t fds[2], ep = (uint64_t)DO_CALL(epoll_create1, 0), outer, timer;
	struct state_writer w = {0};
	struct state_reader r;

	outer = (uint64_t)DO_CALL(epoll_create1, EPOLL_CLOEXEC);
	timer = (uint64_t)DO_CALL(timerfd_create, 1, TFD_NONBLOCK);
	pair(fds);
	put_timespec(g, ARENA + 0x300, 0);
	put_timespec(g, ARENA + 0x310, 1000000);
	assert_int_equal(DO_CALL(timerfd_settime, timer, 0, ARENA + 0x300, 0), 0);
	assert_int_equal(control(ep, EPOLL_CTL_ADD, fds[0], EPOLLIN | EPOLLET, 5), 0);
	assert_int_equal(control(ep, EPOLL_CTL_ADD, timer, EPOLLIN | EPOLLONESHOT, 6), 0);
	assert_int_equal(control(outer, EPOLL_CTL_ADD, ep, EPOLLIN, 7), 0);
	send_byte(fds[1]);
	net_state = (struct state_writer){0};
	assert_int_equal(net_save(&g->p, &net_state), 0);
	assert_int_equal(files_save(&g->p, &w), 0);

	guest_start(fresh);
	assert_int_equal(load_net_first(&fresh->p), 0);
	r = (struct state_reader){.data = w.data, .left = w.used};
	assert_int_equal(files_load(&fresh->p, &r), 0);
	assert_int_equal(mm_new(&fresh->p), 0);
	assert_int_equal(mm_map(&fresh->p, ARENA, ARENA_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0),
			 ARENA);
	the_guest = fresh;
	me = TASK(fresh, EXIT(0));
	/* Times are those of the saved guest's clock; this one has just begun. */
	while (!timerfd_file_ops.poll(&fresh->p, fd_get(&fresh->p, (int)timer))) {
		usleep(1000);
		sched_expire(&fresh->p);
	}
	assert_int_equal(wait_now(outer), 1);
	assert_int_equal(wait_now(ep), 2);
	assert_int_equal(wait_now(ep), 0);
	guest_stop(fresh);
	free(fresh);
	load_damaged(g, &w, files_load, load_net_first);
	state_writer_free(&w);
	state_writer_free(&net_state);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, guest_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_level),
		T(test_edge),
		T(test_one_shot),
		T(test_sets_in_sets),
		T(test_ways_through_sets),
		T(test_close_ends_the_watch),
		T(test_many_are_reported_in_turn),
		T(test_blocking),
		T(test_timerfd),
		T(test_timerfd_of_wall_time),
		T(test_signalfd),
		T(test_restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
