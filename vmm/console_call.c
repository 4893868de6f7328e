/* SPDX-License-Identifier: Apache-2.0 */
/* console_call.c - what a command line hands to a function and shows of it, in guests of any kind
 */
#include "vmm/console_call.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"

enum { DEADLINE_MS = 900000 };

void console_call_make(struct console_call *c, int number, const char *payload)
{
	c->invocation = (struct invocation){
		.request_id = c->request_id,
		.function_arn = "arn:aws:lambda:local:000000000000:function:console",
		.trace_id = "",
		.client_context = "",
		.deadline_real_ms = clock_real_ns() / 1000000 + DEADLINE_MS,
		.payload = payload,
		.payload_bytes = strlen(payload),
	};
	snprintf(c->request_id, sizeof(c->request_id), "00000000-0000-4000-8000-%012d", number);
}

int console_call_result(enum proto_result_kind kind, const void *payload, size_t n)
{
	if (kind == PROTO_RESULT_TOO_LARGE)
		log_error("invoke: the response is larger than 6 MiB");
	if (write_full(STDOUT_FILENO, payload, n) || write_full(STDOUT_FILENO, "\n", 1))
		return 1;
	return kind != PROTO_RESULT_OK;
}

void console_call_failed(enum proto_failure kind, const void *json, size_t n)
{
	log_error("%s: %.*s", kind == PROTO_FAILED_INIT ? "init" : "restore hook", (int)n,
		  (const char *)json);
}
