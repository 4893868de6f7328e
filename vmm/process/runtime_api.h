/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_api.h - AWS Lambda's Runtime API (2018-06-01) inside the vmm, for process guests
 *
 * A sock_service on 127.0.0.1:9001: GET /runtime/invocation/next, POST .../response, POST
 * .../error, POST /runtime/init/error, GET /runtime/restore/next, POST /runtime/restore/error.
 */
#ifndef QUICKTHAW_PROCESS_RUNTIME_API_H
#define QUICKTHAW_PROCESS_RUNTIME_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/state.h"
#include "include/snapd_proto.h"

struct proc;

#define RUNTIME_API_PORT 9001

/** struct invocation - one request for work. Strings and payload are copied. */
struct invocation {
	const char *request_id;
	const char *function_arn;
	const char *trace_id;
	const char *client_context; /**< "" for none */
	uint64_t deadline_real_ms;
	bool stream; /**< a response that the runtime streams is wanted in parts */
	const void *payload;
	size_t payload_bytes;
};

/**
 * struct runtime_api_events - where results go: the control socket, or the command line.
 * @parked: the guest waits in /next (restore = false) or /restore/next (true) for the first time
 * @result: one per invocation; @payload is valid during the call
 * @part: of a streamed response, before its result; may block. Only where it is wanted
 * @failed: init/error or restore/error was posted; @kind is enum proto_failure
 */
struct runtime_api_events {
	void (*parked)(struct proc *p, bool restore);
	void (*result)(struct proc *p, enum proto_result_kind kind, const void *payload, size_t n);
	void (*failed)(struct proc *p, enum proto_failure kind, const void *json, size_t n);
	void (*part)(struct proc *p, const void *data, size_t n);
};

int runtime_api_new(struct proc *p, const struct runtime_api_events *events);
void runtime_api_free(struct proc *p);
int runtime_api_save(struct proc *p, struct state_writer *w);
int runtime_api_load(struct proc *p, struct state_reader *r);

/** runtime_api_parked() - does the guest wait for work now? */
bool runtime_api_parked(const struct proc *p);
/** runtime_api_continue_restore() - answer a parked /restore/next: hooks run, then it asks for
 * /next. */
void runtime_api_continue_restore(struct proc *p);
/** runtime_api_invoke() - hand out one invocation: at once when parked in /next, else at the next
 * /next. Return: 0, -EBUSY while one is under way. */
int runtime_api_invoke(struct proc *p, const struct invocation *inv);

#endif
