/* SPDX-License-Identifier: Apache-2.0 */
/* resume.h - after a restore: a clock that is right, random numbers and names of one's own */
#ifndef QUICKTHAW_AGENT_RESUME_H
#define QUICKTHAW_AGENT_RESUME_H

#include "include/agent_proto.h"

/**
 * resume() - do what RESUMED asks for. All of it is tried; @ret says what failed first.
 * Return: 0 with @ret filled in, or -EBADMSG, and nothing was done.
 */
int resume(const struct agent_resumed *msg, struct agent_resumed_done *ret);

#endif
