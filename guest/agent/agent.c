/* SPDX-License-Identifier: Apache-2.0 */
/* agent.c - the agent's one loop: messages, the runtime's output, the Runtime API, dead children */
#include "guest/agent/agent.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "guest/agent/mounts.h"
#include "guest/agent/note.h"
#include "guest/agent/prepare.h"
#include "guest/agent/resume.h"

enum {
	POLL_SIGNALS,
	POLL_CONTROL,
	POLL_STDOUT,
	POLL_STDERR,
	POLL_BRIDGE,
	POLL_COUNT = POLL_BRIDGE + BRIDGE_POLLS_MAX
};

int agent_init(struct agent *a)
{
	sigset_t set;
	int err;

	control_init(&a->control, -1);
	runtime_init(&a->runtime);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (a->options.service)
		sigaddset(&set, SIGTERM);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	a->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	err = a->signals < 0 ? -errno : bridge_init(&a->bridge, a->options.listen, &a->options.api);
	if (err)
		note("cannot listen on port %u: error %d", a->options.listen, -err);
	return err;
}

/** A stream to the vmm, READY on it, and what the last one has not taken. Return: 0 or -errno. */
static int connect_control(struct agent *a)
{
	struct agent_ready ready = {
		.version = AGENT_PROTO_VERSION,
		.flags = runtime_is_busy(&a->runtime) ? AGENT_READY_RUNNING : 0,
	};
	int fd = endpoint_connect_wait(&a->options.control, AGENT_RECONNECT_MS);

	if (fd < 0) {
		note("nobody takes the connection: error %d", -fd);
		return fd;
	}
	ready.boot_ns = clock_get_ns(CLOCK_BOOTTIME);
	control_reopen(&a->control, fd, &ready);
	return 0;
}

static int handle_start(struct agent *a, const struct agent_start *msg)
{
	static struct command cmd;
	struct agent_exited exited = {0};

	if (runtime_is_busy(&a->runtime) || command_parse(&cmd, msg))
		return -EBADMSG;
	/* A service's system mounts what it has. */
	exited.error = a->options.service ? 0 : mounts_code(&a->options);
	if (!exited.error)
		exited.error = runtime_start(&a->runtime, &cmd);
	if (!exited.error)
		return 0;
	note("%s does not start: error %d", cmd.argv[0], -exited.error);
	return control_send(&a->control, AGENT_EXITED, &exited, sizeof(exited), NULL, 0);
}

static int handle_message(struct agent *a, const struct agent_header *h)
{
	struct agent_prepared prepared = {0};
	struct agent_resumed_done done = {0};
	int err;

	switch (h->type) {
	case AGENT_START:
		return handle_start(a, (const struct agent_start *)h);
	case AGENT_PREPARE:
		err = prepare((const struct agent_prepare *)h, &prepared);
		return err ? err
			   : control_send(&a->control, AGENT_PREPARED, &prepared, sizeof(prepared),
					  NULL, 0);
	case AGENT_RESUMED:
		err = resume((const struct agent_resumed *)h, &done);
		return err ? err
			   : control_send(&a->control, AGENT_RESUMED_DONE, &done, sizeof(done),
					  NULL, 0);
	default:
		return -EBADMSG;
	}
}

static int handle_control(struct agent *a)
{
	const struct agent_header *h;
	int err = control_receive(&a->control), more;

	while ((more = control_next(&a->control, &h)) > 0) {
		int failed = handle_message(a, h);

		if (failed)
			return failed;
		control_consume(&a->control);
	}
	return more < 0 ? more : err;
}

/** Reap whatever has ended: as pid 1, also what others have left behind. Return: false at SIGTERM.
 */
static bool handle_signals(struct agent *a)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(a->signals, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo == SIGTERM)
			return false;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == a->runtime.pid)
			runtime_ended(&a->runtime, status);
	return true;
}

static void fill_polls(const struct agent *a, struct pollfd *polls)
{
	bool log = control_log_room(&a->control) > 0 && !a->runtime.ended;
	bool out = a->control.out_bytes || a->runtime.ended;

	polls[POLL_SIGNALS] = (struct pollfd){.fd = a->signals, .events = POLLIN};
	polls[POLL_CONTROL] = (struct pollfd){
		.fd = a->control.fd,
		.events = (short)(out ? POLLIN | POLLOUT : POLLIN),
	};
	/* A vmm that does not read makes the runtime wait, and nothing is lost. */
	for (int i = 0; i < 2; i++)
		polls[POLL_STDOUT + i] = (struct pollfd){
			.fd = log ? a->runtime.output[i] : -1,
			.events = POLLIN,
		};
	bridge_poll(&a->bridge, &polls[POLL_BRIDGE]);
}

int agent_run(struct agent *a)
{
	struct pollfd polls[POLL_COUNT];
	int err;

	for (;;) {
		if (a->control.fd < 0 && (err = connect_control(a)))
			return err;
		runtime_finish(&a->runtime, &a->control);
		err = control_flush(&a->control);
		fill_polls(a, polls);
		if (!err && poll(polls, POLL_COUNT, -1) < 0 && errno != EINTR)
			return -errno;
		if (!err && polls[POLL_CONTROL].revents)
			err = handle_control(a);
		if (err) {
			note("the connection to the vmm is lost: error %d", -err);
			control_close(&a->control);
			continue;
		}
		for (int i = 0; i < 2; i++)
			if (polls[POLL_STDOUT + i].revents)
				runtime_forward(&a->runtime, i, &a->control);
		if (polls[POLL_SIGNALS].revents && !handle_signals(a))
			return 0;
		bridge_handle(&a->bridge, &polls[POLL_BRIDGE]);
	}
}
