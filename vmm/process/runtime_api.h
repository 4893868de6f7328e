/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_api.h - AWS Lambda's Runtime API (2018-06-01) inside the vmm, for both kinds of guest
 *
 * A process guest reaches it at 127.0.0.1:9001 (runtime_sock.c); in a kernel guest the agent
 * listens there, and its streams come by vsock (vmm/kernel/agent_link.c). GET
 * /runtime/invocation/next, POST .../response, POST
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
struct runtime_api;
struct runtime_wire;

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
 * @guest: as given to runtime_api_new()
 * @parked: the guest waits in /next (restore = false) or /restore/next (true) for the first time
 * @result: one per invocation; @payload is valid during the call
 * @part: of a streamed response, before its result; may block. Only where it is wanted
 * @failed: init/error or restore/error was posted; @kind is enum proto_failure
 */
struct runtime_api_events {
	void (*parked)(void *guest, bool restore);
	void (*result)(void *guest, enum proto_result_kind kind, const void *payload, size_t n);
	void (*failed)(void *guest, enum proto_failure kind, const void *json, size_t n);
	void (*part)(void *guest, const void *data, size_t n);
};

/**
 * runtime_api_new() - @wire: how bytes get to the guest; both it and @events are kept.
 * Return: 0 with *@ret, or -ENOMEM.
 */
int runtime_api_new(const struct runtime_wire *wire, const struct runtime_api_events *events,
		    void *guest, struct runtime_api **ret);
void runtime_api_free(struct runtime_api *api);
int runtime_api_save(struct runtime_api *api, struct state_writer *w);
int runtime_api_load(struct runtime_api *api, struct state_reader *r);

/** runtime_sock_new() - p->api, by a service on the loopback of a process guest. */
int runtime_sock_new(struct proc *p, const struct runtime_api_events *events);

/** runtime_api_parked() - does the guest wait for work now? */
bool runtime_api_parked(const struct runtime_api *api);
/** runtime_api_continue_restore() - answer a parked /restore/next: hooks run, then it asks for
 * /next. */
void runtime_api_continue_restore(struct runtime_api *api);
/** runtime_api_invoke() - hand out one invocation: at once when parked in /next, else at the next
 * /next. Return: 0, -EBUSY while one is under way. */
int runtime_api_invoke(struct runtime_api *api, const struct invocation *inv);

#endif
