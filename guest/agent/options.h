/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - what the agent is told: agent.NAME=VALUE on the kernel's command line, or
 * --NAME=VALUE */
#ifndef QUICKTHAW_AGENT_OPTIONS_H
#define QUICKTHAW_AGENT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/agent/endpoint.h"

struct options {
	bool service;	  /**< an ordinary process of a system that somebody else has set up */
	char root[64];	  /**< device with the root file system; "none": stay in the initramfs */
	char upper[64];	  /**< ext4 device that takes what is written; "": memory */
	char task[64];	  /**< device with the function's code, for /var/task, which is mounted at
			       START if it is empty before; "": there is none to mount */
	char opt[64];	  /**< the same of its layers, for /opt */
	char address[64]; /**< IP/PREFIX[,GATEWAY] for eth0; "": leave it down */
	struct endpoint control;
	struct endpoint api;
	uint16_t listen; /**< loopback port of the Runtime API */
};

/** options_init() - what holds where nothing is said. */
void options_init(struct options *o);
/** options_set() - take one NAME=VALUE. Return: 0, -ENOENT for no such name, -EINVAL for the value.
 */
int options_set(struct options *o, const char *setting);
/**
 * options_from_cmdline() - take each word of @line (it is cut into words) that begins with
 * "agent.". One that is wrong is noted and passed over: a guest that runs can say what is wrong
 * with it.
 */
void options_from_cmdline(struct options *o, char *line);

#endif
