/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.h - the process that START started, and its output */
#ifndef QUICKTHAW_AGENT_RUNTIME_H
#define QUICKTHAW_AGENT_RUNTIME_H

#include <stdbool.h>
#include <sys/types.h>

#include "guest/agent/command.h"
#include "guest/agent/control.h"

struct runtime {
	pid_t pid;     /**< 0 when none runs */
	int output[2]; /**< read ends of its stdout and stderr, non-blocking, or -1 */
};

void runtime_init(struct runtime *r);

/**
 * runtime_start() - start a program, in a session of its own, in /var/task where that exists.
 * Signals are as a new process has them. Return: 0 or -errno, exec's included.
 */
int runtime_start(struct runtime *r, const struct command *cmd);

/**
 * runtime_forward() - pass on what stream @i (0: stdout, 1: stderr) has, as far as there is room.
 * Return: true as long as there may be more at once.
 */
bool runtime_forward(struct runtime *r, int i, struct control *c);

/**
 * runtime_ended() - its main process has ended with wait(2)'s @status: end what it has left behind,
 * pass on the rest of its output and say EXITED.
 */
void runtime_ended(struct runtime *r, int status, struct control *c);

#endif
