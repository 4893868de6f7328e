/* SPDX-License-Identifier: Apache-2.0 */
/* console.h - where the agent's notes go */
#ifndef QUICKTHAW_AGENT_CONSOLE_H
#define QUICKTHAW_AGENT_CONSOLE_H

/**
 * console_open() - whichever of the descriptors 0 to 2 is closed becomes @path, or else /dev/null.
 * A kernel whose console has no driver starts pid 1 without them; what it opened first would then
 * get its notes.
 * Return: 0 or -errno.
 */
int console_open(const char *path);

#endif
