/* SPDX-License-Identifier: Apache-2.0 */
/* prepare.h - before a capture: leave as little in memory as possible */
#ifndef QUICKTHAW_AGENT_PREPARE_H
#define QUICKTHAW_AGENT_PREPARE_H

#include "include/agent_proto.h"

/**
 * prepare() - do what PREPARE asks for; blocks until it is done.
 * Return: 0 with @ret filled in, or -EBADMSG. A step that the kernel refuses is passed over: the
 * snapshot gets larger, and is as good.
 */
int prepare(const struct agent_prepare *msg, struct agent_prepared *ret);

#endif
