/* SPDX-License-Identifier: Apache-2.0 */
/* test_bench_load.c - the load generator against a server that answers well, late, twice, or not */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/load.h"
#include "bench/service_load.h"
#include "common/util.h"

enum { THREADS_MAX = 64 };

static char dir[] = "/tmp/test_load.XXXXXX";
static char path[64];
static int listener = -1;

/* What the server does with the request of a number. */
static enum { WELL, REFUSE_ODD, SAME_ID, OTHER_BODY, HANG_UP_AT_5, SPLIT } manner;

static void answer(int fd, unsigned number)
{
	char text[512], body[64];
	unsigned id = manner == SAME_ID ? 7 : number;
	bool refuse = manner == REFUSE_ODD && number % 2;
	int n;

	snprintf(body, sizeof(body), "{\"message\": \"Hello, #%u#!\"}",
		 manner == OTHER_BODY ? number + 1 : number);
	n = snprintf(text, sizeof(text),
		     "HTTP/1.1 %s\r\nX-Amzn-RequestId: id-%u\r\nContent-Length: %zu\r\n\r\n%s",
		     refuse ? "429 Too Many Requests" : "200 OK", id, strlen(body), body);
	if (manner == SPLIT) {
		for (int i = 0; i < n; i += 7) {
			send(fd, text + i, (size_t)MIN(7, n - i), MSG_NOSIGNAL);
			usleep(100);
		}
		return;
	}
	send(fd, text, (size_t)n, MSG_NOSIGNAL);
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char text[1024];
	ssize_t n;

	while ((n = recv(fd, text, sizeof(text) - 1, 0)) > 0) {
		const char *at;
		unsigned number;

		text[n] = '\0';
		at = strchr(text, '#');
		number = at ? (unsigned)strtoul(at + 1, NULL, 10) : 0;
		if (manner == HANG_UP_AT_5 && number == 5)
			break;
		answer(fd, number);
	}
	close(fd);
	return NULL;
}

static void *accept_all(void *arg)
{
	pthread_t threads[THREADS_MAX];
	unsigned count = 0;
	int fd;

	while (count < THREADS_MAX && (fd = accept(listener, NULL, NULL)) >= 0)
		pthread_create(&threads[count++], NULL, serve, (void *)(intptr_t)fd);
	while (count)
		pthread_join(threads[--count], NULL);
	return arg;
}

static struct load_result load(int how, const struct load_plan *like)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct load_plan plan = *like;
	struct load_result r;
	pthread_t server;

	manner = how;
	unlink(path);
	memcpy(address.sun_path, path, sizeof(path));
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 64), 0);
	assert_int_equal(pthread_create(&server, NULL, accept_all, NULL), 0);
	plan.socket_path = path;
	plan.name = "hello";
	assert_int_equal(load_run(&plan, &r), 0);
	shutdown(listener, SHUT_RDWR);
	pthread_join(server, NULL);
	close(listener);
	return r;
}

static void test_every_answer_is_counted(void **state)
{
	const struct load_plan plan = {.connections = 8, .count = 500};
	struct load_result r = load(WELL, &plan);

	(void)state;
	assert_int_equal(r.ok, 500);
	assert_int_equal(r.throttled + r.failed + r.lost + r.duplicated, 0);
	assert_true(load_percentile(&r, 50) > 0);
	assert_true(load_percentile(&r, 50) <= load_percentile(&r, 99));
	assert_true(r.seconds > 0);
	load_result_free(&r);
	r = load(SPLIT, &(struct load_plan){.connections = 3, .count = 20});
	assert_int_equal(r.ok, 20);
	load_result_free(&r);
}

static void test_what_is_wrong_is_seen(void **state)
{
	const struct load_plan plan = {.connections = 4, .count = 100};
	struct load_result r = load(REFUSE_ODD, &plan);

	(void)state;
	assert_int_equal(r.ok, 50);
	assert_int_equal(r.throttled, 50);
	load_result_free(&r);
	r = load(SAME_ID, &plan);
	assert_int_equal(r.ok, 1);
	assert_int_equal(r.duplicated, 99);
	load_result_free(&r);
	r = load(OTHER_BODY, &plan);
	assert_int_equal(r.ok, 0);
	assert_int_equal(r.failed, 100);
	load_result_free(&r);
	/* One is not answered; its connection is replaced, and the others go on. */
	r = load(HANG_UP_AT_5, &plan);
	assert_int_equal(r.ok, 99);
	assert_int_equal(r.lost, 1);
	load_result_free(&r);
}

static void test_an_open_loop_keeps_its_rate(void **state)
{
	const struct load_plan plan = {.connections = 8, .seconds = 1, .rate = 200};
	struct load_result r = load(WELL, &plan);

	(void)state;
	assert_int_equal(r.ok + r.unsent, 200);
	assert_int_equal(r.lost, 0);
	assert_true(r.seconds >= 0.9);
	load_result_free(&r);
}

static void test_sizes_scale_down_to_something(void **state)
{
	struct service_sizes all = service_sizes_scaled(100), least = service_sizes_scaled(1);

	(void)state;
	assert_int_equal(all.burst, 200);
	assert_int_equal(all.churn, 10000);
	assert_int_equal(all.functions, 50);
	assert_true(all.overload_s == 60);
	assert_true(least.burst >= 2 && least.churn >= least.functions && least.fresh > 0);
	assert_true(least.overload_s >= 1);
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/socket", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_answer_is_counted),
		cmocka_unit_test(test_what_is_wrong_is_seen),
		cmocka_unit_test(test_an_open_loop_keeps_its_rate),
		cmocka_unit_test(test_sizes_scale_down_to_something),
	};

	return cmocka_run_group_tests_name("bench_load", tests, setup, teardown);
}
