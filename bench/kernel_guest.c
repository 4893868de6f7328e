/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_guest.c - a kernel guest that is measured, and the process that runs it */
#include "bench/kernel_guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/util.h"

enum { WAIT_S = 300, RETRY_US = 200, IN_FD = 9 };

extern char **environ;

int kernel_guest_init(struct kernel_guest *g, const char *build_dir)
{
	CLEANUP_FREE char *root = realpath(build_dir, NULL);

	*g = (struct kernel_guest){.control = -1,
				   .api = -1,
				   .control_listen = -1,
				   .api_listen = -1,
				   .monitor = -1,
				   .out = -1};
	if (!root || (size_t)snprintf(g->dir, sizeof(g->dir), "%s/bench/guest.XXXXXX", root) >=
			     sizeof(g->dir)) {
		g->dir[0] = 0;
		return root ? -ENAMETOOLONG : -errno;
	}
	return mkdtemp(g->dir) ? 0 : -errno;
}

static void remove_dir(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(path);
}

void kernel_guest_free(struct kernel_guest *g)
{
	if (g->pid > 0) {
		kill(g->pid, SIGKILL);
		waitpid(g->pid, NULL, 0);
	}
	g->pid = 0;
	cleanup_fd(&g->control);
	cleanup_fd(&g->api);
	cleanup_fd(&g->control_listen);
	cleanup_fd(&g->api_listen);
	cleanup_fd(&g->monitor);
	cleanup_fd(&g->out);
	g->control = g->api = g->control_listen = g->api_listen = g->monitor = g->out = -1;
	if (g->dir[0])
		remove_dir(g->dir);
	g->dir[0] = 0;
}

/* ---- its process ---- */

static int set_output(struct kernel_guest *g, const struct kernel_spawn *how,
		      posix_spawn_file_actions_t *actions, int *ret_end)
{
	char log[192];
	int ends[2];

	*ret_end = -1;
	if (!how->read_output) {
		snprintf(log, sizeof(log), "%s/log", g->dir);
		posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, log,
						 O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
	} else if (pipe2(ends, O_CLOEXEC)) {
		return -errno;
	} else {
		g->out = ends[0];
		*ret_end = ends[1];
		posix_spawn_file_actions_adddup2(actions, ends[1], STDOUT_FILENO);
	}
	posix_spawn_file_actions_adddup2(actions, STDOUT_FILENO, STDERR_FILENO);
	return 0;
}

int kernel_guest_spawn(struct kernel_guest *g, const char *const argv[],
		       const struct kernel_spawn *how)
{
	posix_spawn_file_actions_t actions;
	CLEANUP_FD int out = -1;
	int err;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	err = -set_output(g, how, &actions, &out);
	if (how->in_path)
		posix_spawn_file_actions_addopen(&actions, IN_FD, how->in_path, O_RDONLY, 0);
	if (how->in_dir)
		posix_spawn_file_actions_addchdir_np(&actions, g->dir);
	if (!err)
		err = posix_spawnp(&g->pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv,
				   environ);
	posix_spawn_file_actions_destroy(&actions);
	if (!err)
		return 0;
	fprintf(stderr, "bench: %s: %s\n", argv[0], strerror(err));
	g->pid = 0;
	return -err;
}

/** What is said is kept, for when it ends badly. */
static void keep_line(const struct kernel_guest *g, size_t n)
{
	char path[192];
	CLEANUP_FD int fd = -1;

	snprintf(path, sizeof(path), "%s/log", g->dir);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd >= 0 && !write_full(fd, g->line, n))
		write_full(fd, "\n", 1);
}

/** Into g->line. Return: 0 or -errno: -ENODATA at the end. */
static int next_line(struct kernel_guest *g)
{
	struct pollfd p = {.fd = g->out, .events = POLLIN};

	memmove(g->line, g->line + g->line_next, g->line_bytes - g->line_next);
	g->line_bytes -= g->line_next;
	g->line_next = 0;
	for (;;) {
		char *end = memchr(g->line, '\n', g->line_bytes);
		ssize_t n;

		if (end || g->line_bytes == sizeof(g->line) - 1) {
			if (!end)
				end = g->line + g->line_bytes - 1; /* cut: nobody looks for that */
			*end = 0;
			g->line_next = (size_t)(end - g->line) + 1;
			keep_line(g, g->line_next - 1);
			return 0;
		}
		if (poll(&p, 1, WAIT_S * 1000) <= 0)
			return -ETIMEDOUT;
		n = read(g->out, g->line + g->line_bytes, sizeof(g->line) - 1 - g->line_bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENODATA;
		g->line_bytes += (size_t)n;
	}
}

int kernel_guest_await_line(struct kernel_guest *g, const char *text)
{
	int err;

	while (!(err = next_line(g)))
		if (strstr(g->line, text))
			return 0;
	fprintf(stderr, "bench: the machine %s before it said '%s'\n",
		err == -ENODATA ? "ended" : "waited too long", text);
	return err;
}

int kernel_guest_await_exit(struct kernel_guest *g)
{
	int status;

	while (waitpid(g->pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	g->pid = 0;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	fprintf(stderr, "bench: the machine ended badly: status %#x\n", (unsigned)status);
	return -ECHILD;
}

/* ---- streams ---- */

static int open_socket(const struct kernel_guest *g, const char *name, struct sockaddr_un *ret)
{
	int fd;

	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if ((size_t)snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/%s", g->dir, name) >=
	    sizeof(ret->sun_path)) {
		fprintf(stderr,
			"bench: %s/%s: too long for a unix socket: give a shorter --build\n",
			g->dir, name);
		return -ENAMETOOLONG;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

static void limit_waits(int fd)
{
	struct timeval limit = {.tv_sec = WAIT_S};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

int kernel_guest_connect(struct kernel_guest *g, const char *name, int *ret_fd)
{
	uint64_t end_ns = clock_mono_ns() + WAIT_S * NSEC_PER_SEC;
	struct sockaddr_un at;
	CLEANUP_FD int fd = open_socket(g, name, &at);

	if (fd < 0)
		return fd;
	while (connect(fd, (struct sockaddr *)&at, sizeof(at))) {
		bool ended = waitpid(g->pid, NULL, WNOHANG) == g->pid;

		if (ended)
			g->pid = 0;
		if (ended || clock_mono_ns() > end_ns) {
			fprintf(stderr, "bench: the machine ended before it listened at %s\n",
				at.sun_path);
			return -ECHILD;
		}
		usleep(RETRY_US);
	}
	limit_waits(fd);
	*ret_fd = steal_fd(&fd);
	return 0;
}

int kernel_guest_listen(struct kernel_guest *g, const char *name, int *ret_fd)
{
	struct sockaddr_un at;
	CLEANUP_FD int fd = open_socket(g, name, &at);

	if (fd < 0)
		return fd;
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 8)) {
		fprintf(stderr, "bench: %s: %s\n", at.sun_path, strerror(errno));
		return -errno;
	}
	*ret_fd = steal_fd(&fd);
	return 0;
}

int kernel_guest_accept(struct kernel_guest *g, int listener, int *ret_fd)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	int fd = poll(&p, 1, WAIT_S * 1000) > 0 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;

	if (fd < 0) {
		fprintf(stderr, "bench: the guest in %s does not connect\n", g->dir);
		return -ETIMEDOUT;
	}
	limit_waits(fd);
	*ret_fd = fd;
	return 0;
}
