/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_guest.c - a kernel guest whose agent and runtime this process serves */
#include "bench/kernel_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/util.h"
#include "include/agent_proto.h"

enum { WAIT_S = 300, RETRY_US = 200, HTTP_BYTES_MAX = 64 << 10, IN_FD = 9 };

extern char **environ;

int kernel_guest_init(struct kernel_guest *g, const char *build_dir)
{
	*g = (struct kernel_guest){.control = -1, .api = -1, .monitor = -1};
	snprintf(g->dir, sizeof(g->dir), "%s/bench/guest.XXXXXX", build_dir);
	return mkdtemp(g->dir) ? 0 : -errno;
}

void kernel_guest_free(struct kernel_guest *g)
{
	static const char *const files[] = {"control", "api", "monitor", "console", "log"};
	char path[192];

	if (g->pid > 0) {
		kill(g->pid, SIGKILL);
		waitpid(g->pid, NULL, 0);
	}
	cleanup_fd(&g->control);
	cleanup_fd(&g->api);
	cleanup_fd(&g->monitor);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", g->dir, files[i]);
		unlink(path);
	}
	rmdir(g->dir);
	g->pid = 0;
	g->control = g->api = g->monitor = -1;
}

int kernel_guest_spawn(struct kernel_guest *g, const char *const argv[], const char *in_path)
{
	posix_spawn_file_actions_t actions;
	char log[192];
	int err;

	snprintf(log, sizeof(log), "%s/log", g->dir);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC,
					 0644);
	if (in_path)
		posix_spawn_file_actions_addopen(&actions, IN_FD, in_path, O_RDONLY, 0);
	err = posix_spawnp(&g->pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv,
			   environ);
	posix_spawn_file_actions_destroy(&actions);
	if (!err)
		return 0;
	fprintf(stderr, "bench: %s: %s\n", argv[0], strerror(err));
	g->pid = 0;
	return -err;
}

int kernel_guest_connect(struct kernel_guest *g, const char *name, int *ret_fd)
{
	struct timeval limit = {.tv_sec = WAIT_S};
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	uint64_t end_ns = clock_mono_ns() + WAIT_S * NSEC_PER_SEC;
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || (size_t)snprintf(at.sun_path, sizeof(at.sun_path), "%s/%s", g->dir, name) >=
			      sizeof(at.sun_path))
		return -EINVAL;
	while (connect(fd, (struct sockaddr *)&at, sizeof(at))) {
		if (waitpid(g->pid, NULL, WNOHANG) == g->pid || clock_mono_ns() > end_ns) {
			fprintf(stderr, "bench: the machine ended before it listened at %s\n",
				at.sun_path);
			return -ECHILD;
		}
		usleep(RETRY_US);
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* ---------------------------------------------------------------- the agent */

/** The next message that is not output, which goes to stderr. @ret: AGENT_MESSAGE_MAX bytes */
static int get(struct kernel_guest *g, enum agent_type wanted, void *ret)
{
	struct agent_header *h = ret;

	do {
		if (read_full(g->control, h, sizeof(*h)) != sizeof(*h) || !agent_message_ok(h) ||
		    read_full(g->control, h + 1, h->bytes - sizeof(*h)) !=
			    (ssize_t)(h->bytes - sizeof(*h))) {
			fprintf(stderr, "bench: no message from the agent\n");
			return -EPROTO;
		}
		if (h->type == AGENT_LOG)
			write_full(STDERR_FILENO, (char *)ret + sizeof(struct agent_log),
				   h->bytes - sizeof(struct agent_log));
	} while (h->type == AGENT_LOG);
	if (h->type == wanted)
		return 0;
	fprintf(stderr, "bench: message %u of the agent instead of %u\n", h->type, wanted);
	return -EPROTO;
}

static _Alignas(8) char message[AGENT_MESSAGE_MAX];

int kernel_guest_await_ready(struct kernel_guest *g)
{
	return get(g, AGENT_READY, message);
}

int kernel_guest_start(struct kernel_guest *g)
{
	static const char *const strings[] = {
		"/usr/bin/python3",
		"/var/runtime/bootstrap.py",
		"PATH=/usr/bin:/bin",
		"AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001",
		"AWS_LAMBDA_FUNCTION_NAME=hello-python",
		"LAMBDA_TASK_ROOT=/var/task",
		"_HANDLER=app.handler",
	};
	struct {
		struct agent_start start;
		char strings[512];
	} msg = {.start = {{AGENT_START, 0}, 2, ARRAY_SIZE(strings) - 2, 0, 0}};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
		memcpy(msg.strings + n, strings[i], strlen(strings[i]) + 1);
		n += strlen(strings[i]) + 1;
	}
	msg.start.h.bytes = (uint32_t)(sizeof(msg.start) + n);
	return write_full(g->control, &msg, msg.start.h.bytes);
}

int kernel_guest_prepare(struct kernel_guest *g)
{
	struct agent_prepare msg = {{AGENT_PREPARE, sizeof(msg)}, AGENT_PREPARE_ZERO_FREE, 0};
	int err = write_full(g->control, &msg, sizeof(msg));

	return err ? err : get(g, AGENT_PREPARED, message);
}

int kernel_guest_resume(struct kernel_guest *g)
{
	struct agent_resumed msg = {.h = {AGENT_RESUMED, sizeof(msg)}, .wall_ns = clock_real_ns()};
	int err;

	if (getrandom(msg.random, sizeof(msg.random), 0) != sizeof(msg.random))
		return -EIO;
	err = write_full(g->control, &msg, sizeof(msg));
	return err ? err : get(g, AGENT_RESUMED_DONE, message);
}

/* ---------------------------------------------------------------- the Runtime API */

static char http[HTTP_BYTES_MAX + 1];

/** Read a request's head. Return: bytes in the buffer, of which @ret_head are the head; or -errno.
 */
static ssize_t read_request(struct kernel_guest *g, size_t *ret_head)
{
	size_t n = 0;

	for (;;) {
		ssize_t r = n < HTTP_BYTES_MAX ? read(g->api, http + n, HTTP_BYTES_MAX - n) : 0;
		const char *end;

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			fprintf(stderr, "bench: no request from the guest's runtime\n");
			return -EPROTO;
		}
		n += (size_t)r;
		http[n] = 0;
		end = strstr(http, "\r\n\r\n");
		if (end) {
			*ret_head = (size_t)(end - http) + 4;
			return (ssize_t)n;
		}
	}
}

int kernel_guest_await_next(struct kernel_guest *g)
{
	size_t head;
	ssize_t n = read_request(g, &head);

	if (n < 0)
		return (int)n;
	if (!strncmp(http, "GET ", 4) && strstr(http, "/invocation/next"))
		return 0;
	fprintf(stderr, "bench: the guest's runtime says: %.200s\n", http);
	return -EPROTO;
}

int kernel_guest_invoke(struct kernel_guest *g, const char *event)
{
	static char answer[4096];
	int n = snprintf(
		answer, sizeof(answer),
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		"Lambda-Runtime-Aws-Request-Id: 1\r\n"
		"Lambda-Runtime-Deadline-Ms: 9999999999999\r\nContent-Length: %zu\r\n\r\n%s",
		strlen(event), event);
	int err = write_full(g->api, answer, (size_t)n);
	const char *length;
	size_t head;
	ssize_t got;

	if (err)
		return err;
	got = read_request(g, &head);
	if (got < 0)
		return (int)got;
	length = strcasestr(http, "\r\nContent-Length:");
	if (!strstr(http, "/response HTTP") || !length) {
		fprintf(stderr, "bench: the guest's runtime says: %.200s\n", http);
		return -EPROTO;
	}
	/* The next request for work may be there already; what counts is this response's end. */
	for (size_t end = head + strtoul(length + 17, NULL, 10); (size_t)got < end;) {
		ssize_t r = end <= HTTP_BYTES_MAX ? read(g->api, http + got, end - (size_t)got) : 0;

		if (r <= 0)
			return -EPROTO;
		got += r;
	}
	return 0;
}
