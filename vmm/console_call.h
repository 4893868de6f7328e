/* SPDX-License-Identifier: Apache-2.0 */
/* console_call.h - what a command line hands to a function and shows of it, in guests of any kind
 */
#ifndef QUICKTHAW_VMM_CONSOLE_CALL_H
#define QUICKTHAW_VMM_CONSOLE_CALL_H

#include "vmm/process/runtime_api.h"

/** struct console_call - an invocation, and the text that it points to. */
struct console_call {
	char request_id[64];
	struct invocation invocation;
};

/** console_call_make() - the command line's @number-th. @payload: JSON, stays the caller's. */
void console_call_make(struct console_call *c, int number, const char *payload);

/** console_call_result() - to stdout. Return: the exit status that it makes, 0 or 1. */
int console_call_result(enum proto_result_kind kind, const void *payload, size_t n);

/** console_call_failed() - what a runtime reported by init/error or restore/error, to the log. */
void console_call_failed(enum proto_failure kind, const void *json, size_t n);

#endif
