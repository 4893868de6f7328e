/* SPDX-License-Identifier: Apache-2.0 */
/* jail_test.h - what the tests of the jail share: run jail_probe in one, or outside */
#ifndef QUICKTHAW_TESTS_JAIL_TEST_H
#define QUICKTHAW_TESTS_JAIL_TEST_H

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/sandbox.h"
#include "tests/unit/skip.h"

enum { OUTPUT_BYTES = 4096 };

static int probe_fd = -1;
static char probe_path[4096];
static const char *const no_env[] = {NULL};

static inline int jail_setup(void **state)
{
	char self[3072];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	(void)state;
	if (n < 0)
		return -1;
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	snprintf(probe_path, sizeof(probe_path), "%s/jail_probe", self);
	probe_fd = open(probe_path, O_PATH | O_CLOEXEC);
	/* What a child must not inherit. */
	signal(SIGPIPE, SIG_IGN);
	return probe_fd < 0 ? -1 : sandbox_init();
}

static inline int jail_teardown(void **state)
{
	(void)state;
	sandbox_finish();
	close(probe_fd);
	return 0;
}

static inline void read_output(int fd, char *output)
{
	ssize_t n = pread_full(fd, output, OUTPUT_BYTES - 1, 0);

	output[n < 0 ? 0 : n] = '\0';
	close(fd);
}

struct jailed {
	const int *fds;
	int fd_count;
	struct sandbox_limits limits;
	int status;
	bool oom_killed;
	char output[OUTPUT_BYTES];
};

static inline int run_jailed(struct jailed *j, const char *check, const char *arg)
{
	const char *const argv[] = {"jail_probe", check, arg, NULL};
	struct sandbox_child child = SANDBOX_CHILD_INIT;
	int log_fd = memfd_create("log", MFD_CLOEXEC);
	struct sandbox_spec spec = {
		.id = "test",
		.exe_fd = probe_fd,
		.argv = argv,
		.envp = no_env,
		.fds = j->fds,
		.fd_count = j->fd_count,
		.log_fd = log_fd,
		.limits = j->limits,
	};
	int err = sandbox_spawn(&spec, &child);

	if (!err) {
		struct pollfd done = {.fd = child.pidfd, .events = POLLIN};

		if (poll(&done, 1, 20000) != 1)
			sandbox_kill(&child);
		else
			j->oom_killed = sandbox_oom_killed(&child);
		err = sandbox_reap(&child, &j->status);
	}
	read_output(log_fd, j->output);
	return err;
}

/* The same check as root, in nothing but a mount namespace so that it cannot hurt the host. */
static inline int run_free(const char *check, const char *arg, char *output)
{
	int log_fd = memfd_create("log", MFD_CLOEXEC);
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
			_exit(99);
		dup2(log_fd, STDERR_FILENO);
		execl(probe_path, "jail_probe", check, arg, (char *)NULL);
		_exit(98);
	}
	waitpid(pid, &status, 0);
	read_output(log_fd, output);
	return status;
}

static inline void assert_exit(int status, int code, const char *output)
{
	if (!WIFEXITED(status) || WEXITSTATUS(status) != code)
		fail_msg("status %x instead of exit %d: %s", (unsigned)status, code, output);
}

#endif
