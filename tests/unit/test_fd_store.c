/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fd_store.c - descriptors in the care of a service manager: one that keeps them, one that
 * does not, one that is slow, one that is silent
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/util.h"
#include "snapd/fd_store.h"
#include "snapd/service_manager.h"

static char dir[] = "/tmp/test_fd_store.XXXXXX";
static int manager_fd = -1;

/* ---- a service manager ----------------------------------------------------------------------- */

/** struct kept - what it keeps, by name. */
struct kept {
	char name[64];
	int fd;
};

static struct {
	bool keeps; /* else it closes what it gets, as a unit without FileDescriptorStoreMax= */
	struct kept kept[4096];
	unsigned count;
	unsigned messages;
} manager;

static void drop_name(const char *name)
{
	unsigned n = 0;

	for (unsigned i = 0; i < manager.count; i++) {
		if (strcmp(manager.kept[i].name, name) != 0)
			manager.kept[n++] = manager.kept[i];
		else
			close(manager.kept[i].fd);
	}
	manager.count = n;
}

static void keep(const char *name, int fd)
{
	struct kept *k = &manager.kept[manager.count++];

	assert_true(manager.count < ARRAY_SIZE(manager.kept));
	snprintf(k->name, sizeof(k->name), "%s", name);
	k->fd = fd;
}

/** Act on one message. Return: false when there is none. */
static bool manager_read(int flags)
{
	int fds[FDPASS_FDS_MAX], count;
	char text[1024], name[64] = "";
	const char *at;
	ssize_t n = fdpass_recv(manager_fd, text, sizeof(text) - 1, fds, &count, flags);

	if (n <= 0)
		return false;
	text[n] = '\0';
	manager.messages++;
	at = strstr(text, "FDNAME=");
	if (at)
		sscanf(at, "FDNAME=%63[^\n]", name); /* NOLINT(cert-err34-c) */
	if (strstr(text, "FDSTOREREMOVE=1"))
		drop_name(name);
	for (int i = 0; i < count; i++) {
		if (manager.keeps && strstr(text, "FDSTORE=1"))
			keep(name, fds[i]);
		else
			close(fds[i]);
	}
	return true;
}

static atomic_bool manager_stops;

static void *manager_main(void *arg)
{
	(void)arg;
	while (!manager_stops)
		manager_read(0);
	return NULL;
}

/** As snapd starts: with a service manager that reads until the answer is there. */
static bool open_store(bool keeps)
{
	struct timeval tick = {.tv_usec = 20000};
	pthread_t thread;
	bool is_open;

	manager.keeps = keeps;
	manager_stops = false;
	setsockopt(manager_fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof(tick));
	pthread_create(&thread, NULL, manager_main, NULL);
	is_open = fd_store_open();
	manager_stops = true;
	pthread_join(thread, NULL);
	return is_open;
}

static unsigned kept_under(const char *name)
{
	unsigned n = 0;

	for (unsigned i = 0; i < manager.count; i++)
		n += !strcmp(manager.kept[i].name, name);
	return n;
}

static void read_all(void)
{
	while (manager_read(MSG_DONTWAIT))
		;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_without_a_service_manager(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	(void)state;
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(service_manager_init(), 0);
	assert_false(fd_store_open());
	fd_store_keep("i1", &fd, 1); /* no-ops */
	fd_store_drop("i1");
	assert_int_equal(fd_store_next_ns(), UINT64_MAX);
	service_manager_finish();
	close(fd);
}

static int with_manager(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)state;
	manager_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", dir);
	unlink(address.sun_path);
	if (bind(manager_fd, (struct sockaddr *)&address, sizeof(address)))
		return -1;
	setenv("NOTIFY_SOCKET", address.sun_path, 1);
	return service_manager_init();
}

static int without_manager(void **state)
{
	(void)state;
	fd_store_close();
	service_manager_finish();
	while (manager.count)
		drop_name(manager.kept[0].name);
	close(manager_fd);
	return 0;
}

static void test_one_that_keeps_nothing_is_found_out(void **state)
{
	(void)state;
	assert_true(service_manager_stores_fds()); /* so an old systemd lets one believe */
	assert_false(open_store(false));
	assert_false(fd_store_is_open());
}

static void test_a_silent_one_is_not_waited_for_for_ever(void **state)
{
	(void)state;
	assert_false(fd_store_open());
}

static void test_what_is_kept_is_there_until_it_is_dropped(void **state)
{
	int fds[3] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
	uint64_t value = 0;

	(void)state;
	assert_true(open_store(true));
	read_all();
	assert_int_equal(manager.count, 0); /* the probe is not left there */
	fd_store_keep("i17", fds, 3);
	fd_store_keep("t2", fds, 1);
	read_all();
	assert_int_equal(kept_under("i17"), 3);
	assert_int_equal(kept_under("t2"), 1);
	/* They are copies of the same. */
	assert_int_equal(eventfd_write(fds[1], 42), 0);
	assert_int_equal(eventfd_read(manager.kept[1].fd, &value), 0);
	assert_int_equal(value, 42);
	fd_store_drop("i17");
	read_all();
	assert_int_equal(kept_under("i17"), 0);
	assert_int_equal(kept_under("t2"), 1);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

/* Nothing blocks, nothing comes out of order, and what was taken back before it could be sent, with
 * its descriptors closed, is not sent at all. */
static void test_a_slow_one_gets_everything_in_the_end(void **state)
{
	enum { NAMES = 700 };
	int fd = eventfd(0, EFD_CLOEXEC), doomed;
	char name[32];

	(void)state;
	assert_true(open_store(true));
	read_all();
	for (int i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "i%d", i);
		fd_store_keep(name, &fd, 1);
	}
	assert_true(fd_store_next_ns() != UINT64_MAX);
	doomed = eventfd(0, EFD_CLOEXEC);
	fd_store_keep("i9999", &doomed, 1);
	fd_store_drop("i9999");
	close(doomed);
	fd_store_drop("i0"); /* it was sent: so is this, after it */
	for (int i = 0; i < NAMES && fd_store_next_ns() != UINT64_MAX; i++) {
		read_all();
		fd_store_turn(fd_store_next_ns());
	}
	read_all();
	assert_int_equal(fd_store_next_ns(), UINT64_MAX);
	assert_int_equal(manager.count, NAMES - 1);
	assert_int_equal(kept_under("i0"), 0);
	assert_int_equal(kept_under("i1"), 1);
	assert_int_equal(kept_under("i699"), 1);
	assert_int_equal(kept_under("i9999"), 0);
	close(fd);
}

static void test_one_that_never_reads_is_not_remembered_for_ever(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	char name[32];

	(void)state;
	assert_true(open_store(true));
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "i%d", i);
		fd_store_keep(name, &fd, 1);
		fd_store_turn(clock_mono_ns());
	}
	close(fd);
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char path[100];

	(void)state;
	snprintf(path, sizeof(path), "%s/notify", dir);
	unlink(path);
	return rmdir(dir);
}

#define WITH_MANAGER(test) cmocka_unit_test_setup_teardown(test, with_manager, without_manager)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_a_service_manager),
		WITH_MANAGER(test_one_that_keeps_nothing_is_found_out),
		WITH_MANAGER(test_a_silent_one_is_not_waited_for_for_ever),
		WITH_MANAGER(test_what_is_kept_is_there_until_it_is_dropped),
		WITH_MANAGER(test_a_slow_one_gets_everything_in_the_end),
		WITH_MANAGER(test_one_that_never_reads_is_not_remembered_for_ever),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
