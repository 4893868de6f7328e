/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.c - the process that START started, and its output */
#include "guest/agent/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "guest/agent/text_file.h"

void runtime_init(struct runtime *r)
{
	*r = (struct runtime){.output = {-1, -1}};
}

bool runtime_is_busy(const struct runtime *r)
{
	return r->pid || r->ended;
}

/** The child: become the program, or say why not. */
static _Noreturn void become(const struct command *cmd, int out, int err, int failed)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;
	int error;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	text_file_write("/proc/self/oom_score_adj", "0"); /* the agent is spared */
	if (dup2(null, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
	    dup2(err, STDERR_FILENO) >= 0 && (chdir("/var/task") == 0 || chdir("/") == 0) &&
	    ((!cmd->uid && !cmd->gid) ||
	     (!setgroups(0, NULL) && !setgid(cmd->gid) && !setuid(cmd->uid))))
		execve(cmd->argv[0], (char *const *)(uintptr_t)cmd->argv,
		       (char *const *)(uintptr_t)cmd->envp);
	error = errno;
	(void)!write(failed, &error, sizeof(error));
	_exit(127);
}

int runtime_start(struct runtime *r, const struct command *cmd)
{
	int out[2] = {-1, -1}, err[2] = {-1, -1}, failed[2] = {-1, -1}, error = 0;
	pid_t pid = -1;

	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) || pipe2(failed, O_CLOEXEC) ||
	    fcntl(out[0], F_SETFL, O_NONBLOCK) || fcntl(err[0], F_SETFL, O_NONBLOCK) ||
	    (pid = fork()) < 0)
		error = errno;
	if (pid == 0)
		become(cmd, out[1], err[1], failed[1]);
	cleanup_fd(&out[1]);
	cleanup_fd(&err[1]);
	cleanup_fd(&failed[1]);
	/* The pipe closes without a word when exec has succeeded. */
	if (pid > 0 && read(failed[0], &error, sizeof(error)) > 0)
		waitpid(pid, NULL, 0);
	cleanup_fd(&failed[0]);
	if (error) {
		cleanup_fd(&out[0]);
		cleanup_fd(&err[0]);
		return -error;
	}
	*r = (struct runtime){.pid = pid, .output = {out[0], err[0]}};
	return 0;
}

/** Pass on at most @max bytes of stream @i. Return: how many; 0: none now, or none ever again. */
static size_t forward(struct runtime *r, int i, size_t max, struct control *c)
{
	static char buf[16 << 10];
	size_t room = MIN(control_log_room(c), sizeof(buf));
	struct agent_log log = {.stream = i ? AGENT_STDERR : AGENT_STDOUT};
	ssize_t n;

	if (r->output[i] < 0 || !room || !max)
		return 0;
	n = read(r->output[i], buf, MIN(room, max));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		close(r->output[i]);
		r->output[i] = -1;
		return 0;
	}
	control_send(c, AGENT_LOG, &log, sizeof(log), buf, (size_t)n);
	return (size_t)n;
}

void runtime_forward(struct runtime *r, int i, struct control *c)
{
	forward(r, i, SIZE_MAX, c);
}

void runtime_ended(struct runtime *r, int status)
{
	kill(-r->pid, SIGKILL);
	r->pid = 0;
	r->ended = true;
	r->exited = (struct agent_exited){
		.code = WIFEXITED(status) ? WEXITSTATUS(status) : 0,
		.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
	};
	for (int i = 0; i < 2; i++) {
		int left = 0;

		if (r->output[i] >= 0 && !ioctl(r->output[i], FIONREAD, &left))
			r->left_bytes[i] = (size_t)left;
	}
}

void runtime_finish(struct runtime *r, struct control *c)
{
	if (!r->ended)
		return;
	for (int i = 0; i < 2; i++) {
		size_t n;

		while ((n = forward(r, i, r->left_bytes[i], c)))
			r->left_bytes[i] -= n;
		if (r->left_bytes[i] && r->output[i] >= 0 && !control_log_room(c))
			return;
	}
	if (control_send(c, AGENT_EXITED, &r->exited, sizeof(r->exited), NULL, 0))
		return;
	for (int i = 0; i < 2; i++)
		cleanup_fd(&r->output[i]);
	runtime_init(r);
}
