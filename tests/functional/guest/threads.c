/* SPDX-License-Identifier: Apache-2.0 */
/* threads.c - guest program: threads, mutexes, condition variables, pre-emption, robust locks */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

enum { THREADS = 8, ROUNDS = 2000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long counter;
static int turn;
static _Thread_local int mine;
static volatile int stop;

static void *count(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&lock);
		counter++;
		pthread_mutex_unlock(&lock);
		mine++;
	}
	CHECK(mine == ROUNDS);
	return arg;
}

static void *ping(void *arg)
{
	int me = arg != NULL;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < 200; i++) {
		while (turn != me)
			pthread_cond_wait(&cond, &lock);
		turn = !me;
		pthread_cond_broadcast(&cond);
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* Only pre-emption lets main go on: this one never makes a system call. */
static void *spin(void *arg)
{
	volatile double x = 1;

	while (!stop)
		x = x * 1.0000001 + 1e-9;
	*(double *)arg = x;
	return NULL;
}

static void *die_with_lock(void *arg)
{
	pthread_mutex_lock(arg);
	return NULL;
}

static void test_counter(void)
{
	pthread_t t[THREADS];
	void *ret;

	for (long i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&t[i], NULL, count, (void *)i));
	for (long i = 0; i < THREADS; i++) {
		CHECK(!pthread_join(t[i], &ret));
		CHECK(ret == (void *)i);
	}
	CHECK(counter == (long)THREADS * ROUNDS);
}

static void test_cond(void)
{
	pthread_t a, b;

	CHECK(!pthread_create(&a, NULL, ping, NULL));
	CHECK(!pthread_create(&b, NULL, ping, &turn));
	CHECK(!pthread_join(a, NULL) && !pthread_join(b, NULL));
}

static void test_preemption(void)
{
	struct timespec ts = {0, 20000000};
	double result = 0;
	pthread_t t;
	volatile double y = 3;

	CHECK(!pthread_create(&t, NULL, spin, &result));
	for (int i = 0; i < 3; i++) {
		nanosleep(&ts, NULL);
		for (int k = 0; k < 100000; k++)
			y = y * 0.5 + 1.5; /* 3 is where this stays */
	}
	stop = 1;
	CHECK(!pthread_join(t, NULL));
	CHECK(result > 1 && y == 3);
}

static void test_timeout(void)
{
	struct timespec at, now;
	sem_t sem;

	CHECK(!sem_init(&sem, 0, 0));
	clock_gettime(CLOCK_REALTIME, &at);
	at.tv_nsec += 30000000;
	if (at.tv_nsec >= 1000000000)
		at.tv_sec++, at.tv_nsec -= 1000000000;
	CHECK(sem_timedwait(&sem, &at) == -1 && errno == ETIMEDOUT);
	clock_gettime(CLOCK_REALTIME, &now);
	CHECK(now.tv_sec > at.tv_sec || (now.tv_sec == at.tv_sec && now.tv_nsec >= at.tv_nsec));
}

static void test_robust(void)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t m;
	pthread_t t;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&m, &attr);
	CHECK(!pthread_create(&t, NULL, die_with_lock, &m));
	CHECK(!pthread_join(t, NULL));
	CHECK(pthread_mutex_lock(&m) == EOWNERDEAD);
	CHECK(!pthread_mutex_consistent(&m) && !pthread_mutex_unlock(&m));
}

static void *wait_pi(void *arg)
{
	CHECK(!pthread_mutex_lock(arg));
	CHECK(!pthread_mutex_unlock(arg));
	return NULL;
}

static void test_pi(void)
{
	struct timespec ts = {0, 5000000};
	pthread_mutexattr_t attr;
	pthread_mutex_t m;
	pthread_t t[3];

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&m, &attr);
	pthread_mutex_lock(&m);
	for (int i = 0; i < 3; i++)
		CHECK(!pthread_create(&t[i], NULL, wait_pi, &m));
	nanosleep(&ts, NULL);
	CHECK(!pthread_mutex_unlock(&m));
	for (int i = 0; i < 3; i++)
		CHECK(!pthread_join(t[i], NULL));
}

int main(void)
{
	test_counter();
	test_cond();
	test_preemption();
	test_timeout();
	test_robust();
	test_pi();
	puts("threads ok");
	return 0;
}
