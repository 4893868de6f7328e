/* SPDX-License-Identifier: Apache-2.0 */
/* command.h - the program that START names, with its arguments and environment */
#ifndef QUICKTHAW_AGENT_COMMAND_H
#define QUICKTHAW_AGENT_COMMAND_H

#include "include/agent_proto.h"

struct command {
	const char *argv[AGENT_STRINGS_MAX + 1];
	const char *envp[AGENT_STRINGS_MAX + 1];
	uint32_t uid, gid;
};

/**
 * command_parse() - the strings of a START, whose length agent_message_ok() has accepted.
 * @ret: points into @start
 * Return: 0, or -EBADMSG when there are not exactly the strings that it promises.
 */
int command_parse(struct command *ret, const struct agent_start *start);

#endif
