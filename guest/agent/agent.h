/* SPDX-License-Identifier: Apache-2.0 */
/* agent.h - the agent's one loop */
#ifndef QUICKTHAW_AGENT_H
#define QUICKTHAW_AGENT_H

#include "guest/agent/bridge.h"
#include "guest/agent/control.h"
#include "guest/agent/options.h"
#include "guest/agent/runtime.h"

struct agent {
	struct options options;
	struct control control;
	struct runtime runtime;
	struct bridge bridge;
	int signals; /**< signalfd: SIGCHLD, and SIGTERM for a service */
};

/** agent_init() - after the options are known and loopback is up. Return: 0 or -errno, noted. */
int agent_init(struct agent *a);

/**
 * agent_run() - serve until the machine has no owner any more (include/agent_proto.h), or SIGTERM
 * ends a service. Return: 0, or the -errno of the last attempt to connect.
 */
int agent_run(struct agent *a);

#endif
