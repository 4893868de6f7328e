/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_manager.c - what snapd and systemd tell each other, over a real socket
 *
 * `test_service_manager --activated` is the program that systemd-socket-activate starts.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/util.h"
#include "snapd/service_manager.h"

static char dir[] = "/tmp/quickthaw-notify.XXXXXX";
static char notify_path[64];
static int manager = -1; /* systemd's end */

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	assert_true(strlen(path) < sizeof(a.sun_path));
	memcpy(a.sun_path, path, strlen(path) + 1);
	return a;
}

static int set_up(void **state)
{
	struct sockaddr_un a;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(notify_path, sizeof(notify_path), "%s/notify", dir);
	a = address_of(notify_path);
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return bind(manager, (struct sockaddr *)&a, sizeof(a));
}

static int tear_down(void **state)
{
	(void)state;
	close(manager);
	unlink(notify_path);
	return rmdir(dir);
}

/** The next message, with its descriptors. Return: how many, or -1: there is no message. */
static int next_message(char *text, size_t size, int *fds)
{
	char control[CMSG_SPACE(SERVICE_FDS_PER_MESSAGE * sizeof(int))];
	struct iovec iov = {.iov_base = text, .iov_len = size - 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(manager, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *header;
	size_t bytes;

	if (n < 0)
		return -1;
	text[n] = '\0';
	assert_int_equal(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC), 0);
	header = CMSG_FIRSTHDR(&msg);
	if (!header)
		return 0;
	bytes = header->cmsg_len - CMSG_LEN(0);
	memcpy(fds, CMSG_DATA(header), bytes);
	return (int)(bytes / sizeof(int));
}

static void expect_message(const char *wanted)
{
	char text[2048];

	assert_int_equal(next_message(text, sizeof(text), NULL), 0);
	assert_string_equal(text, wanted);
}

static void expect_silence(void)
{
	char text[2048];

	assert_int_equal(next_message(text, sizeof(text), NULL), -1);
}

static void start(void)
{
	setenv("NOTIFY_SOCKET", notify_path, 1);
	assert_int_equal(service_manager_init(), 0);
}

static void test_alone_nothing_happens(void **state)
{
	const struct service_fd *fds;
	int fd = 0;

	(void)state;
	assert_int_equal(service_manager_init(), 0);
	service_manager_ready("serving");
	service_manager_turn(UINT64_MAX);
	service_manager_stopping();
	assert_true(service_manager_next_ns() == UINT64_MAX);
	assert_int_equal(service_manager_fds(&fds), 0);
	assert_int_equal(service_manager_take_fd("api"), -ENOENT);
	assert_int_equal(service_manager_store_fds("name", &fd, 1), -ENOTCONN);
	assert_false(service_manager_stores_fds());
	service_manager_close_rest();
	service_manager_finish();
	expect_silence();
}

static void test_states_are_told(void **state)
{
	char wide[2000];

	(void)state;
	start();
	assert_null(getenv("NOTIFY_SOCKET"));
	service_manager_ready("serving %d functions", 3);
	expect_message("READY=1\nSTATUS=serving 3 functions\n");
	/* A name with a line feed makes no message of its own. */
	service_manager_status("%s", "one\nMAINPID=1");
	expect_message("STATUS=one\n");
	memset(wide, 'x', sizeof(wide));
	wide[sizeof(wide) - 1] = '\0';
	service_manager_status("%s", wide);
	memcpy(wide, "STATUS=", 7);
	memcpy(wide + 7 + 511, "\n", 2);
	expect_message(wide);
	service_manager_stopping();
	expect_message("STOPPING=1\nSTATUS=stopping\n");
	service_manager_finish();
}

static void test_the_watchdog_is_told_twice_as_often_as_it_asks(void **state)
{
	uint64_t now = NSEC_PER_SEC * 1000;

	(void)state;
	setenv("WATCHDOG_USEC", "10000000", 1);
	start();
	service_manager_turn(now);
	expect_message("WATCHDOG=1\n");
	assert_true(service_manager_next_ns() == now + 5 * NSEC_PER_SEC);
	service_manager_turn(now + 5 * NSEC_PER_SEC - 1);
	expect_silence();
	service_manager_turn(now + 5 * NSEC_PER_SEC);
	expect_message("WATCHDOG=1\n");
	service_manager_finish();
	/* Meant for another process, or nonsense. */
	setenv("WATCHDOG_USEC", "10000000", 1);
	setenv("WATCHDOG_PID", "1", 1);
	start();
	assert_true(service_manager_next_ns() == UINT64_MAX);
	service_manager_finish();
	setenv("WATCHDOG_USEC", "-5", 1);
	start();
	assert_true(service_manager_next_ns() == UINT64_MAX);
	service_manager_finish();
}

static void test_a_full_socket_does_not_stop_the_loop(void **state)
{
	char text[2048];
	int received = 0;

	(void)state;
	setenv("WATCHDOG_USEC", "2", 1);
	start();
	/* As fast as it can be asked for. It returns: nothing waits for the reader. */
	for (int i = 1; i < 5000; i++)
		service_manager_turn((uint64_t)i * NSEC_PER_SEC);
	while (next_message(text, sizeof(text), NULL) == 0)
		received++;
	assert_in_range(received, 1, 4999);
	service_manager_finish();
}

static void test_descriptors_are_stored_and_dropped(void **state)
{
	int many[SERVICE_FDS_PER_MESSAGE + 2], fds[SERVICE_FDS_PER_MESSAGE], pair[2], n;
	char text[2048], c = 'x';

	(void)state;
	start();
	assert_true(service_manager_stores_fds());
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	assert_int_equal(service_manager_store_fds("i7-uffd", pair, 2), 0);
	assert_int_equal(next_message(text, sizeof(text), fds), 2);
	assert_string_equal(text, "FDSTORE=1\nFDPOLL=0\nFDNAME=i7-uffd\n");
	/* They are the same pipe. */
	assert_int_equal(write(fds[1], &c, 1), 1);
	c = 0;
	assert_int_equal(read(pair[0], &c, 1), 1);
	assert_int_equal(c, 'x');
	close(fds[0]);
	close(fds[1]);
	/* More than fit one message. */
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = pair[i % 2];
	assert_int_equal(service_manager_store_fds("many", many, ARRAY_SIZE(many)), 0);
	for (size_t left = ARRAY_SIZE(many); left; left -= (size_t)n) {
		n = next_message(text, sizeof(text), fds);
		assert_in_range(n, 1, left);
		for (int i = 0; i < n; i++)
			close(fds[i]);
	}
	assert_int_equal(service_manager_drop_fds("many"), 0);
	expect_message("FDSTOREREMOVE=1\nFDNAME=many\n");
	assert_int_equal(service_manager_store_fds("a\nb", pair, 1), -EINVAL);
	assert_int_equal(service_manager_store_fds("a:b", pair, 1), -EINVAL);
	assert_int_equal(service_manager_store_fds("", pair, 1), -EINVAL);
	close(pair[0]);
	close(pair[1]);
	service_manager_finish();
}

/** In a child, as systemd would start it: pipes at 3, 4 and 5. Return: its exit status. */
static int in_child(const char *pid, const char *count, const char *names, int (*run)(void))
{
	pid_t child = fork();
	int status, pair[2];

	assert_true(child >= 0);
	if (!child) {
		char own[16];

		snprintf(own, sizeof(own), "%d", (int)getpid());
		if (pipe(pair))
			_exit(100);
		for (int fd = 5; fd >= 3; fd--)
			if (dup2(pair[0], fd) < 0)
				_exit(101);
		setenv("LISTEN_PID", pid ? pid : own, 1);
		setenv("LISTEN_FDS", count, 1);
		if (names)
			setenv("LISTEN_FDNAMES", names, 1);
		_exit(run());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int take_by_name(void)
{
	const struct service_fd *fds;

	if (service_manager_init() || service_manager_fds(&fds) != 3)
		return 1;
	if (strcmp(fds[0].name, "api") != 0 || strcmp(fds[1].name, "i7") != 0 ||
	    strcmp(fds[2].name, "i7") != 0)
		return 2;
	if (service_manager_take_fd("i7") != 4 || service_manager_take_fd("i7") != 5 ||
	    service_manager_take_fd("i7") != -ENOENT)
		return 3;
	if (fcntl(4, F_GETFD) != FD_CLOEXEC || getenv("LISTEN_FDS"))
		return 4;
	service_manager_close_rest();
	return fcntl(3, F_GETFD) == -1 && fcntl(4, F_GETFD) >= 0 ? 0 : 5;
}

static int take_without_names(void)
{
	const struct service_fd *fds;

	if (service_manager_init() || service_manager_fds(&fds) != 3)
		return 1;
	return strcmp(fds[0].name, "first") != 0 || *fds[1].name || *fds[2].name;
}

static int nothing_is_there(void)
{
	const struct service_fd *fds;

	return service_manager_init() || service_manager_fds(&fds) != 0 || getenv("LISTEN_FDS");
}

static int refused(void)
{
	return service_manager_init() >= 0;
}

static void test_descriptors_are_passed(void **state)
{
	(void)state;
	assert_int_equal(in_child(NULL, "3", "api:i7:i7", take_by_name), 0);
	assert_int_equal(in_child(NULL, "3", "first", take_without_names), 0);
	/* Meant for another process, or nonsense. */
	assert_int_equal(in_child("1", "3", "api:i7:i7", nothing_is_there), 0);
	assert_int_equal(in_child("x", "3", NULL, nothing_is_there), 0);
	assert_int_equal(in_child(NULL, "0", NULL, nothing_is_there), 0);
	assert_int_equal(in_child(NULL, "-1", NULL, nothing_is_there), 0);
	assert_int_equal(in_child(NULL, "99999999999999999999", NULL, nothing_is_there), 0);
	assert_int_equal(in_child(NULL, "5000", NULL, refused), 0);
	/* More than there are. */
	assert_int_equal(in_child(NULL, "4000", NULL, refused), 0);
}

/* ---- a real service manager's program -------------------------------------------------------- */

/** Started by systemd-socket-activate: greet the first client. */
static int activated(void)
{
	int fd, client;

	if (service_manager_init())
		return 1;
	fd = service_manager_take_fd(SERVICE_SOCKET_NAME);
	client = fd < 0 ? -1 : accept(fd, NULL, NULL);
	return client < 0 || write(client, "hello", 5) != 5;
}

static int connect_to(const char *path)
{
	struct sockaddr_un a = address_of(path);

	for (int i = 0; i < 500; i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
			return fd;
		close(fd);
		usleep(10000);
	}
	return -1;
}

static void test_systemd_socket_activate(void **state)
{
	CLEANUP_FD int client = -1;
	char path[80], self[256], text[8] = "";
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int status;
	pid_t child;

	(void)state;
	if (system("command -v systemd-socket-activate >/dev/null") !=
	    0) { /* NOLINT(cert-env33-c) */
		print_message("no systemd-socket-activate on this host\n");
		skip();
	}
	assert_true(n > 0);
	self[n] = '\0';
	snprintf(path, sizeof(path), "%s/socket", dir);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		execlp("systemd-socket-activate", "systemd-socket-activate", "-l", path,
		       "--fdname=" SERVICE_SOCKET_NAME, self, "--activated", NULL);
		_exit(127);
	}
	client = connect_to(path);
	assert_true(client >= 0);
	assert_int_equal(read(client, text, sizeof(text)), 5);
	assert_string_equal(text, "hello");
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	unlink(path);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone_nothing_happens),
		cmocka_unit_test(test_states_are_told),
		cmocka_unit_test(test_the_watchdog_is_told_twice_as_often_as_it_asks),
		cmocka_unit_test(test_a_full_socket_does_not_stop_the_loop),
		cmocka_unit_test(test_descriptors_are_stored_and_dropped),
		cmocka_unit_test(test_descriptors_are_passed),
		cmocka_unit_test(test_systemd_socket_activate),
	};

	if (argc > 1 && !strcmp(argv[1], "--activated"))
		return activated();
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
