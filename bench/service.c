/* SPDX-License-Identifier: Apache-2.0 */
/* service.c - a snapd to measure: its own, or one that runs already */
#include "bench/service.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"

enum {
	READY_TRIES = 200,
	READY_PAUSE_US = 50000,
	SETTLE_US = 30000,
	SETTLE_TRIES = 2000,
	SETTLE_PAUSE_US = 10000,
	ARGS_MAX = 32,
};

extern char **environ;

static int connect_client(struct service *s)
{
	s->client = http_client_new(s->socket_path);
	return s->client ? 0 : -ENOMEM;
}

int service_attach(struct service *s, const char *socket_path)
{
	int ret;

	snprintf(s->socket_path, sizeof(s->socket_path), "%s", socket_path);
	ret = connect_client(s);
	if (!ret)
		ret = http_client_request(s->client, "GET", "/healthz", NULL, 0, NULL, &s->reply);
	if (ret)
		fprintf(stderr,
			"bench: %s: no snapd answers there: start one with: snapd --socket %s\n",
			socket_path, socket_path);
	return ret;
}

/* ---- when bench is interrupted ---- */

static struct {
	pid_t pid;
	char dir[128];
} owned; /* what the signal handler ends and removes */

/** Only async-signal-safe calls. */
static void on_end_signal(int signal)
{
	char *const argv[] = {(char[]){"rm"}, (char[]){"-rf"}, (char[]){"--"}, owned.dir, NULL};
	pid_t rm;

	kill(owned.pid, SIGTERM);
	waitpid(owned.pid, NULL, 0);
	rm = fork();
	if (!rm) {
		execv("/bin/rm", argv);
		_exit(127);
	}
	waitpid(rm, NULL, 0);
	_exit(128 + signal);
}

static void catch_end_signals(const struct service *s)
{
	struct sigaction action = {.sa_handler = on_end_signal};

	owned.pid = s->pid;
	snprintf(owned.dir, sizeof(owned.dir), "%s", s->dir);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

/** Before what they would end is gone: its pid may be another process's soon. */
static void release_end_signals(void)
{
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
}

static int wait_ready(struct service *s)
{
	for (int i = 0; i < READY_TRIES; i++) {
		if (!http_client_request(s->client, "GET", "/healthz", NULL, 0, NULL, &s->reply) &&
		    s->reply.status == 200)
			return 0;
		if (waitpid(s->pid, NULL, WNOHANG) == s->pid) {
			s->pid = 0;
			release_end_signals();
			fprintf(stderr, "bench: snapd ended at once; see %s/log\n", s->dir);
			return -ECHILD;
		}
		usleep(READY_PAUSE_US);
	}
	fprintf(stderr, "bench: snapd is not ready after 10 s; see %s/log\n", s->dir);
	return -ETIMEDOUT;
}

int service_start(struct service *s, const char *build_dir, const char *bin_dir,
		  const char *runtime_dir, const char *const *options)
{
	posix_spawn_file_actions_t actions;
	char snapd[192], vmm[192], state[192], log[192];
	const char *argv[ARGS_MAX] = {snapd,	  "--state",	   state,
				      "--socket", s->socket_path,  "--vmm",
				      vmm,	  "--runtime-dir", runtime_dir};
	int ret, n = 9;

	for (; options && *options && n < ARGS_MAX - 1; options++)
		argv[n++] = *options;

	snprintf(s->dir, sizeof(s->dir), "%s/bench.XXXXXX", build_dir);
	if (!mkdtemp(s->dir))
		return -errno;
	snprintf(snapd, sizeof(snapd), "%s/snapd", bin_dir);
	snprintf(vmm, sizeof(vmm), "%s/vmm", bin_dir);
	snprintf(state, sizeof(state), "%s/state", s->dir);
	snprintf(log, sizeof(log), "%s/log", s->dir);
	snprintf(s->socket_path, sizeof(s->socket_path), "%s/socket", s->dir);
	mkdir(state, 0700);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&actions, 1, 2);
	ret = -posix_spawn(&s->pid, snapd, &actions, NULL, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (ret) {
		fprintf(stderr, "bench: %s: %s (build it with make)\n", snapd, strerror(-ret));
		return ret;
	}
	catch_end_signals(s);
	ret = connect_client(s);
	return ret ? ret : wait_ready(s);
}

void service_stop(struct service *s)
{
	char command[256];

	if (s->pid > 0) {
		release_end_signals();
		kill(s->pid, SIGTERM);
		waitpid(s->pid, NULL, 0);
		snprintf(command, sizeof(command), "rm -rf -- '%s'", s->dir);
		if (system(command))
			fprintf(stderr, "bench: could not remove %s\n", s->dir);
	}
	http_client_free(s->client);
	http_reply_free(&s->reply);
	memset(s, 0, sizeof(*s));
}

static int check(struct service *s, int ret, const char *what)
{
	if (!ret && s->reply.status >= 200 && s->reply.status < 300)
		return 0;
	fprintf(stderr, "bench: %s: %s\n", what,
		ret		? http_client_error(s->client)
		: s->reply.body ? s->reply.body
				: "no answer");
	return ret ? ret : -EPROTO;
}

static int post_json(struct service *s, const char *path, json_t *body)
{
	char *text = json_dumps(body, JSON_COMPACT);
	int ret;

	json_decref(body);
	if (!text)
		return -ENOMEM;
	ret = http_client_request(s->client, "POST", path, text, strlen(text), NULL, &s->reply);
	free(text);
	return check(s, ret, path);
}

int service_deploy(struct service *s, const char *name, const char *dir, const char *event)
{
	return service_deploy_as(s, name, dir, event, "{}");
}

int service_deploy_as(struct service *s, const char *name, const char *dir, const char *event,
		      const char *settings)
{
	char path[256], *real = realpath(dir, NULL);
	json_t *train = json_loads(event, JSON_DECODE_ANY, NULL);
	json_t *others = json_loads(settings, 0, NULL), *body;
	int ret;

	if (!real || !train) {
		fprintf(stderr, "bench: %s: %s\n", dir,
			real ? "its event is not JSON" : strerror(errno));
		free(real);
		json_decref(train);
		json_decref(others);
		return -EINVAL;
	}
	body = json_pack("{s:s, s:s, s:s, s:i, s:i, s:{s:s}}", "FunctionName", name, "Runtime",
			 "python3.11", "Handler", "app.handler", "Timeout", 60, "MemorySize", 256,
			 "Code", "Directory", real);
	json_object_update(body, others);
	json_decref(others);
	ret = post_json(s, "/2015-03-31/functions", body);
	free(real);
	snprintf(path, sizeof(path), "/2015-03-31/functions/%s/versions", name);
	if (!ret)
		ret = post_json(s, path, json_pack("{s:O}", "TrainingPayload", train));
	json_decref(train);
	return ret;
}

static double header_number(const struct http_reply *r, const char *name)
{
	const char *text = http_reply_header(r, name);

	return text ? strtod(text, NULL) : 0;
}

int service_invoke(struct service *s, const char *name, const char *event, const char *start,
		   bool keep, struct invoke_sample *ret)
{
	const char *headers[3] = {NULL, NULL, NULL};
	char path[256], start_header[64];
	uint64_t begin_ns;
	int n = 0, err;

	snprintf(path, sizeof(path), "/2015-03-31/functions/%s/invocations", name);
	if (start) {
		snprintf(start_header, sizeof(start_header), "X-Quickthaw-Start: %s", start);
		headers[n++] = start_header;
	}
	if (keep)
		headers[n++] = "X-Quickthaw-Keep: 1";
	begin_ns = clock_mono_ns();
	err = http_client_request(s->client, "POST", path, event, strlen(event), headers,
				  &s->reply);
	ret->ms = (double)(clock_mono_ns() - begin_ns) / 1e6;
	err = check(s, err, path);
	if (!err && http_reply_header(&s->reply, "x-amz-function-error")) {
		fprintf(stderr, "bench: %s failed: %s\n", name, s->reply.body);
		err = -EPROTO;
	}
	ret->run_ms = header_number(&s->reply, "x-quickthaw-run-us") / 1e3;
	ret->restore_ms = header_number(&s->reply, "x-quickthaw-restore-us") / 1e3;
	ret->faults = header_number(&s->reply, "x-quickthaw-faults");
	ret->bytes_read = header_number(&s->reply, "x-quickthaw-bytes-read");
	ret->pid = (unsigned)header_number(&s->reply, "x-quickthaw-pid");
	start = http_reply_header(&s->reply, "x-quickthaw-start");
	snprintf(ret->start, sizeof(ret->start), "%s", start ? start : "");
	return err;
}

/** Are shells ready, no instance ending and no working set being written? */
static bool is_settled(const json_t *stats)
{
	const json_t *shells = json_object_get(stats, "Shells");
	const json_t *instances = json_object_get(stats, "Instances");
	const json_t *templates = json_object_get(stats, "Templates");
	bool settled = json_integer_value(json_object_get(shells, "Ready")) >=
		       json_integer_value(json_object_get(shells, "Target"));

	for (size_t i = 0; i < json_array_size(instances); i++) {
		const json_t *state = json_object_get(json_array_get(instances, i), "State");

		settled &= !json_is_string(state) || strcmp(json_string_value(state), "ending");
	}
	for (size_t i = 0; i < json_array_size(templates); i++)
		settled &=
			!json_is_true(json_object_get(json_array_get(templates, i), "Recording"));
	return settled;
}

void service_settle(struct service *s)
{
	usleep(SETTLE_US);
	for (int i = 0; i < SETTLE_TRIES; i++) {
		json_t *stats = service_get(s, "/quickthaw/v1/stats");
		bool settled = !stats || is_settled(stats);

		json_decref(stats);
		if (settled)
			return;
		usleep(SETTLE_PAUSE_US);
	}
}

json_t *service_get(struct service *s, const char *path)
{
	int ret = http_client_request(s->client, "GET", path, NULL, 0, NULL, &s->reply);

	if (check(s, ret, path))
		return NULL;
	return json_loads(s->reply.body ? s->reply.body : "", 0, NULL);
}
