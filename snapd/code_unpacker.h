/* SPDX-License-Identifier: Apache-2.0 */
/* code_unpacker.h - archives are read by a jailed process (include/unpacker_abi.h) */
#ifndef QUICKTHAW_SNAPD_CODE_UNPACKER_H
#define QUICKTHAW_SNAPD_CODE_UNPACKER_H

#include "include/unpacker_abi.h"

/** code_unpacker_init() - @path: of the program, a copy is kept. Call it before other threads
 * exist. Return: 0 or -errno: it is not there, or nobody may execute it. */
int code_unpacker_init(const char *path);

/** code_unpacker_stop() - end those that run, and those that are started from now on: snapd ends.
 */
void code_unpacker_stop(void);

/**
 * code_unpacker_run() - one job in a process of its own. Blocks until it has ended, for minutes at
 * most: for the worker. Safe in any thread.
 * @job: UNPACKER_JOB_*
 * @from, @to: become its descriptors; they stay the caller's, too
 * @ret: checked: an error has a text, and a process that ended without a word has -EIO
 * Return: @ret->err.
 */
int code_unpacker_run(const char *job, int from, int to, struct unpacker_result *ret);

#endif
