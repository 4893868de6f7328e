/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.h - the process that START started, and its output */
#ifndef QUICKTHAW_AGENT_RUNTIME_H
#define QUICKTHAW_AGENT_RUNTIME_H

#include <stdbool.h>
#include <sys/types.h>

#include "guest/agent/command.h"
#include "guest/agent/control.h"

struct runtime {
	pid_t pid;	      /**< 0 when none runs */
	int output[2];	      /**< read ends of its stdout and stderr, non-blocking, or -1 */
	bool ended;	      /**< and EXITED is to be said, after what @output still holds */
	size_t left_bytes[2]; /**< of it: something that escaped may write for ever */
	struct agent_exited exited;
};

void runtime_init(struct runtime *r);

/** runtime_is_busy() - does one run, or is there still something to say of one that has ended? */
bool runtime_is_busy(const struct runtime *r);

/**
 * runtime_start() - start a program, in a session of its own, in /var/task where that exists.
 * Signals are as a new process has them. Return: 0 or -errno, exec's included.
 */
int runtime_start(struct runtime *r, const struct command *cmd);

/** runtime_forward() - pass on what stream @i (0: stdout, 1: stderr) has, as far as there is room.
 */
void runtime_forward(struct runtime *r, int i, struct control *c);

/** runtime_ended() - its main process has ended with wait(2)'s @status: end what it left behind. */
void runtime_ended(struct runtime *r, int status);

/**
 * runtime_finish() - once it has ended: pass on the rest of its output, then say EXITED, as far as
 * there is room now. To be called again after each control_flush(), until runtime_is_busy() is
 * false.
 */
void runtime_finish(struct runtime *r, struct control *c);

#endif
