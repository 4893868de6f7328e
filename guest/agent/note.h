/* SPDX-License-Identifier: Apache-2.0 */
/* note.h - what the agent has to say, on the console (as a service: on stderr) */
#ifndef QUICKTHAW_AGENT_NOTE_H
#define QUICKTHAW_AGENT_NOTE_H

#include <stdio.h>
#include <unistd.h>

#define note(fmt, ...) dprintf(STDERR_FILENO, "agent: " fmt "\n", ##__VA_ARGS__)

#endif
