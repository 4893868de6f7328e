/* SPDX-License-Identifier: Apache-2.0 */
/* peers.c - the same handler without Quickthaw: a bare python3 process, and one under bubblewrap */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/cases.h"
#include "common/clock.h"

enum { PEER_RUNS = 40, PEER_WARM_UP = 3, PEER_ARGS_MAX = 24 };

extern char **environ;

/** Start, feed the event, wait for the end. Return: milliseconds, or -1 when it failed. */
static double run_once(const char *const argv[], const char *event_path)
{
	posix_spawn_file_actions_t actions;
	uint64_t begin_ns;
	int status = -1;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, event_path, O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	begin_ns = clock_mono_ns();
	if (!posix_spawn(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ))
		waitpid(pid, &status, 0);
	posix_spawn_file_actions_destroy(&actions);
	return WIFEXITED(status) && !WEXITSTATUS(status)
		       ? (double)(clock_mono_ns() - begin_ns) / 1e6
		       : -1;
}

static int measure(struct bench *b, const char *system, const char *const prefix[])
{
	struct row_key key = {"invoke", "process", "hello-python", "process", system, "ms"};
	char source[PATH_MAX], script[PATH_MAX + 32], task[PATH_MAX + 32], event[PATH_MAX + 64];
	const char *argv[PEER_ARGS_MAX];
	static struct samples ms;
	int n = 0;

	if (!realpath(b->source_dir, source)) /* the peer may have another working directory */
		return -errno;
	snprintf(script, sizeof(script), "%s/bench/peers/bare_handler.py", source);
	snprintf(task, sizeof(task), "%s/examples/hello-python", source);
	snprintf(event, sizeof(event), "%s/event.json", task);
	for (; prefix && prefix[n]; n++)
		argv[n] = prefix[n];
	argv[n++] = "/usr/bin/python3";
	argv[n++] = script;
	argv[n++] = task;
	argv[n++] = "app.handler";
	argv[n] = NULL;
	ms.n = 0;
	fprintf(stderr, "bench: hello-python as %s x %d\n", system, PEER_RUNS);
	for (int i = 0; i < PEER_WARM_UP + PEER_RUNS; i++) {
		double v = run_once(argv, event);

		if (v < 0) {
			fprintf(stderr, "bench: %s: the peer failed\n", system);
			return -ECHILD;
		}
		if (i >= PEER_WARM_UP)
			samples_add(&ms, v);
	}
	results_add(&b->results, &key, &ms);
	return 0;
}

int case_bare_process(struct bench *b)
{
	return measure(b, "bare-process", NULL);
}

int case_bubblewrap(struct bench *b)
{
	char source[PATH_MAX];
	/* The source again, in case it lies below /tmp. */
	const char *const prefix[] = {
		"/usr/bin/bwrap",
		"--ro-bind",
		"/",
		"/",
		"--unshare-all",
		"--proc",
		"/proc",
		"--dev",
		"/dev",
		"--tmpfs",
		"/tmp",
		"--ro-bind",
		source,
		source,
		"--chdir",
		"/",
		"--die-with-parent",
		NULL,
	};

	if (!realpath(b->source_dir, source))
		return -errno;
	if (access(prefix[0], X_OK)) {
		fprintf(stderr, "bench: no bubblewrap here (apt-get install bubblewrap): its rows "
				"are left out\n");
		return 0;
	}
	return measure(b, "bubblewrap", prefix);
}
