/* SPDX-License-Identifier: Apache-2.0 */
/* events.c - guest program: poll, select, epoll, timerfd, eventfd, pipes */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static long since_ms(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000;
}

static void *write_later(void *arg)
{
	usleep(10000);
	CHECK(write(*(int *)arg, "x", 1) == 1);
	return NULL;
}

static void test_poll(void)
{
	struct pollfd pfd = {.events = POLLIN};
	struct timespec start;
	int fds[2];
	pthread_t t;
	char c;

	CHECK(!pipe(fds));
	pfd.fd = fds[0];
	clock_gettime(CLOCK_MONOTONIC, &start);
	CHECK(poll(&pfd, 1, 30) == 0 && since_ms(&start) >= 29);
	CHECK(!pthread_create(&t, NULL, write_later, &fds[1]));
	CHECK(poll(&pfd, 1, 5000) == 1 && pfd.revents == POLLIN);
	CHECK(!pthread_join(t, NULL) && read(fds[0], &c, 1) == 1);
	close(fds[1]);
	CHECK(poll(&pfd, 1, -1) == 1 && (pfd.revents & POLLHUP));
	close(fds[0]);
	CHECK(poll(&pfd, 1, -1) == 1 && pfd.revents == POLLNVAL);
}

static void test_select(void)
{
	struct timeval tv = {0, 20000};
	int a[2], b[2];
	pthread_t t;
	fd_set r, w;

	CHECK(!pipe(a) && !pipe(b));
	FD_ZERO(&r);
	FD_SET(a[0], &r);
	FD_SET(b[0], &r);
	CHECK(select(b[0] + 1, &r, NULL, NULL, &tv) == 0 && !FD_ISSET(a[0], &r));
	CHECK(!pthread_create(&t, NULL, write_later, &b[1]));
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(a[0], &r);
	FD_SET(b[0], &r);
	CHECK(select(b[0] + 1, &r, &w, NULL, NULL) == 1 && FD_ISSET(b[0], &r) &&
	      !FD_ISSET(a[0], &r));
	CHECK(!pthread_join(t, NULL));
	for (int i = 0; i < 2; i++)
		close(a[i]), close(b[i]);
}

static void test_epoll(void)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 0x1122334455667788}, out[4];
	int ep = epoll_create1(0), outer = epoll_create1(0), fds[2];
	char buf[8];

	CHECK(ep >= 0 && outer >= 0 && !pipe(fds));
	CHECK(!epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], &ev));
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], &ev) == -1 && errno == EEXIST);
	CHECK(epoll_wait(ep, out, 4, 0) == 0);
	CHECK(write(fds[1], "ab", 2) == 2);
	for (int i = 0; i < 2; i++)
		CHECK(epoll_wait(ep, out, 4, -1) == 1 && out[0].data.u64 == ev.data.u64 &&
		      out[0].events == EPOLLIN);
	/* Sets in sets, but not in themselves. */
	CHECK(!epoll_ctl(outer, EPOLL_CTL_ADD, ep, &ev));
	CHECK(epoll_wait(outer, out, 4, -1) == 1);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, outer, &ev) == -1 && errno == ELOOP);
	/* Edge-triggered: once for each arrival. */
	ev.events = EPOLLIN | EPOLLET;
	CHECK(!epoll_ctl(ep, EPOLL_CTL_MOD, fds[0], &ev));
	CHECK(epoll_wait(ep, out, 4, 0) == 1 && epoll_wait(ep, out, 4, 0) == 0);
	CHECK(write(fds[1], "c", 1) == 1);
	CHECK(epoll_wait(ep, out, 4, 0) == 1 && epoll_wait(ep, out, 4, 0) == 0);
	/* One shot. */
	ev.events = EPOLLIN | EPOLLONESHOT;
	CHECK(!epoll_ctl(ep, EPOLL_CTL_MOD, fds[0], &ev));
	CHECK(epoll_wait(ep, out, 4, 0) == 1 && epoll_wait(ep, out, 4, 0) == 0);
	CHECK(!epoll_ctl(ep, EPOLL_CTL_MOD, fds[0], &ev) && epoll_wait(ep, out, 4, 0) == 1);
	CHECK(read(fds[0], buf, 8) == 3);
	/* The last close ends the watch. */
	ev.events = EPOLLIN;
	CHECK(!epoll_ctl(ep, EPOLL_CTL_MOD, fds[0], &ev));
	close(fds[1]);
	CHECK(epoll_wait(ep, out, 4, 0) == 1 && (out[0].events & EPOLLHUP));
	close(fds[0]);
	CHECK(epoll_wait(ep, out, 4, 0) == 0);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], &ev) == -1 && errno == EBADF);
	close(ep);
	close(outer);
}

static void test_timerfd(void)
{
	struct itimerspec spec = {.it_value = {0, 5000000}, .it_interval = {0, 5000000}}, left;
	struct epoll_event ev = {.events = EPOLLIN}, out;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), ep = epoll_create1(0);
	struct timespec start, now;
	uint64_t n, sum = 0;

	CHECK(fd >= 0 && read(fd, &n, 8) == -1 && errno == EAGAIN);
	clock_gettime(CLOCK_MONOTONIC, &start);
	CHECK(!timerfd_settime(fd, 0, &spec, NULL) && !timerfd_gettime(fd, &left));
	CHECK(left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 5000000);
	CHECK(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	while (sum < 4) {
		CHECK(epoll_wait(ep, &out, 1, 5000) == 1 && read(fd, &n, 8) == 8);
		sum += n;
	}
	CHECK(since_ms(&start) >= 19);
	close(fd);
	fd = timerfd_create(CLOCK_REALTIME, 0);
	clock_gettime(CLOCK_REALTIME, &now);
	spec.it_value.tv_sec = now.tv_sec;
	spec.it_value.tv_nsec = now.tv_nsec + 10000000;
	if (spec.it_value.tv_nsec >= 1000000000)
		spec.it_value.tv_sec++, spec.it_value.tv_nsec -= 1000000000;
	spec.it_interval.tv_nsec = 0;
	CHECK(!timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL) && read(fd, &n, 8) == 8 &&
	      n == 1);
	close(fd);
	close(ep);
}

static void test_eventfd(void)
{
	int fd = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
	uint64_t n;

	for (int i = 0; i < 3; i++)
		CHECK(read(fd, &n, 8) == 8 && n == 1);
	CHECK(read(fd, &n, 8) == -1 && errno == EAGAIN);
	close(fd);
}

int main(void)
{
	test_poll();
	test_select();
	test_epoll();
	test_timerfd();
	test_eventfd();
	puts("events ok");
	return 0;
}
