/* SPDX-License-Identifier: Apache-2.0 */
/* code_unpacker.c - archives are read by a jailed process */
#include "snapd/code_unpacker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/util.h"

enum { RUN_S_MAX = 900, PARK_FD_MIN = 64 };

static char program[PATH_MAX];
static int stop_fd = -1; /* readable: all are to end */

int code_unpacker_init(const char *path)
{
	if (snprintf(program, sizeof(program), "%s", path) >= (int)sizeof(program))
		return -ENAMETOOLONG;
	cleanup_fd(&stop_fd);
	stop_fd = eventfd(0, EFD_CLOEXEC);
	if (stop_fd < 0)
		return -errno;
	return access(program, X_OK) ? -errno : 0;
}

void code_unpacker_stop(void)
{
	const uint64_t one = 1;

	if (stop_fd >= 0 && write(stop_fd, &one, sizeof(one)) < 0)
		log_error("unpacker: eventfd: %m");
}

/** Signals as in a fresh process: threads that start one have all of them blocked. */
static int reset_signals(posix_spawnattr_t *attr)
{
	sigset_t none, all;
	int err;

	sigemptyset(&none);
	sigfillset(&all);
	err = posix_spawnattr_setsigmask(attr, &none);
	if (!err)
		err = posix_spawnattr_setsigdefault(attr, &all);
	if (!err)
		err = posix_spawnattr_setflags(attr,
					       POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	return err;
}

/** Copies above the fixed numbers: filling those must not overwrite what is still to be moved. */
static int spawn(const char *job, const int fds[3], pid_t *ret_pid)
{
	const char *const argv[] = {"unpacker", job, NULL};
	char *const envp[] = {NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int parked[3] = {-1, -1, -1}, err;

	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	err = reset_signals(&attr);
	for (int i = 0; !err && i < 3; i++) {
		parked[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, PARK_FD_MIN);
		err = parked[i] < 0 ? errno
				    : posix_spawn_file_actions_adddup2(&actions, parked[i],
								       UNPACKER_FD_FROM + i);
	}
	if (!err)
		err = posix_spawn_file_actions_addclosefrom_np(&actions, UNPACKER_FD_RESULT + 1);
	if (!err)
		err = posix_spawn(ret_pid, program, &actions, &attr, (char *const *)(uintptr_t)argv,
				  envp);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	for (int i = 0; i < 3; i++)
		cleanup_fd(&parked[i]);
	return -err;
}

/** The whole result, or less when the process has ended. */
static size_t read_result(int fd, struct unpacker_result *ret)
{
	uint64_t end = clock_mono_ns() + RUN_S_MAX * NSEC_PER_SEC;
	size_t have = 0;

	while (have < sizeof(*ret)) {
		struct pollfd p[] = {{.fd = fd, .events = POLLIN},
				     {.fd = stop_fd, .events = POLLIN}};
		uint64_t now = clock_mono_ns();
		ssize_t n;

		if (now >= end ||
		    (poll(p, 2, (int)((end - now) / 1000000) + 1) < 0 && errno != EINTR) ||
		    p[1].revents)
			break;
		if (!p[0].revents)
			continue;
		n = read(fd, (char *)ret + have, sizeof(*ret) - have);
		if (n <= 0 && errno != EINTR)
			break;
		have += n > 0 ? (size_t)n : 0;
	}
	return have;
}

static bool is_sound(const struct unpacker_result *r)
{
	const char *end = memchr(r->error, '\0', sizeof(r->error));

	return end && r->err <= 0 && r->err >= -4095 && !r->reserved && !r->err == !*r->error;
}

/** A hostile archive may have made it say anything. */
static void check_result(const char *job, size_t have, int status, struct unpacker_result *ret)
{
	if (have == sizeof(*ret) && is_sound(ret)) {
		for (char *at = ret->error; *at; at++)
			if (*at < 0x20 || *at >= 0x7f)
				*at = '?';
		return;
	}
	if (WIFSIGNALED(status))
		log_warn("unpacker %s: ended by signal %d", job, WTERMSIG(status));
	*ret = (struct unpacker_result){.err = -EIO};
	snprintf(ret->error, sizeof(ret->error),
		 "the unpacker ended without a word (snapd's log may say why)");
}

int code_unpacker_run(const char *job, int from, int to, struct unpacker_result *ret)
{
	CLEANUP_FD int result = -1;
	CLEANUP_FD int result_end = -1;
	int ends[2] = {-1, -1}, status = 0, err;
	pid_t pid = -1;
	size_t have;

	*ret = (struct unpacker_result){0};
	err = pipe2(ends, O_CLOEXEC) ? -errno : 0;
	if (!err) {
		result = ends[0];
		result_end = ends[1];
		err = spawn(job, (const int[]){from, to, result_end}, &pid);
	}
	if (err) {
		ret->err = err;
		snprintf(ret->error, sizeof(ret->error), "the unpacker cannot be started: %s",
			 strerror(-err));
		log_error("%.200s: %s", program, strerror(-err));
		return err;
	}
	close(steal_fd(&result_end));
	have = read_result(result, ret);
	if (have < sizeof(*ret))
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	check_result(job, have, status, ret);
	return ret->err;
}
