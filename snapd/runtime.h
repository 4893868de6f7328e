/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.h - which program runs a function, and what it is told in its environment */
#ifndef QUICKTHAW_SNAPD_RUNTIME_H
#define QUICKTHAW_SNAPD_RUNTIME_H

#include "snapd/function.h"

enum { RUNTIME_ENV_MAX = 200 };

/** struct runtime_command - NULL-terminated vectors; the strings of @envp are malloc'ed. */
struct runtime_command {
	const char *argv[4];
	char *envp[RUNTIME_ENV_MAX + 1];
	int envc;
};

/**
 * runtime_command_make() - the Lambda environment: docs.aws.amazon.com, "Using Lambda environment
 * variables", reserved and unreserved ones, then the user's own.
 * Return: 0, -E2BIG or -ENOMEM. Free it in any case.
 */
int runtime_command_make(const struct version *v, struct runtime_command *ret);
void runtime_command_free(struct runtime_command *c);

#endif
