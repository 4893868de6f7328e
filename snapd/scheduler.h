/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler.h - which instance serves an invocation, and how it is started */
#ifndef QUICKTHAW_SNAPD_SCHEDULER_H
#define QUICKTHAW_SNAPD_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapd/function.h"

enum { INVOCATIONS_MAX = 1024, REQUEST_ID_CHARS = 36, TRACE_ID_MAX = 255 };

/** How an instance came to serve an invocation. */
enum start_kind {
	START_ANY,
	START_WARM,	/**< it was running already */
	START_RESIDENT, /**< restored, working set in RAM */
	START_COLD,	/**< restored from the file */
	START_BOOT,	/**< booted, without a snapshot */
	START_KIND_COUNT
};
/** Names in replies: "warm", "resident-restore", "cold-restore", "cold-boot". */
extern const char *const start_kind_names[START_KIND_COUNT];

/** What went wrong: the function's own errors first, then whose request or host it was. */
enum invocation_failure {
	INVOCATION_SUCCEEDED,
	INVOCATION_FAILED_HANDLER,  /**< the function reported an error */
	INVOCATION_FAILED_EXIT,	    /**< its process exited or crashed */
	INVOCATION_FAILED_MEMORY,   /**< it used more than it may */
	INVOCATION_FAILED_INIT,	    /**< it could not be initialised */
	INVOCATION_FAILED_RESTORE,  /**< its restore hook failed */
	INVOCATION_FAILED_TIMEOUT,  /**< it took too long */
	INVOCATION_FAILED_RESPONSE, /**< its answer was too large */
	INVOCATION_FAILED_REQUEST,  /**< what was asked for cannot be had */
	INVOCATION_FAILED_SERVICE,  /**< the host or Quickthaw failed */
	INVOCATION_FAILURE_COUNT
};
/** Names as in metrics: "none", "handler", "exit", ... */
extern const char *const invocation_failure_names[INVOCATION_FAILURE_COUNT];

/** struct invocation_outcome - how it went. Pointers are valid during the call. */
struct invocation_outcome {
	unsigned status;	/**< of HTTP: 200 when the function was reached */
	const char *error_type; /**< exception of the API when status is not 200, else NULL */
	bool function_error;	/**< payload is an error of the function's */
	enum invocation_failure failure;
	unsigned retry_after_s; /**< of a 429: for Retry-After; else 0 */
	const void *payload;
	size_t payload_bytes;
	enum start_kind start;
	int pid;
	uint64_t faults, bytes_read, exits;
	uint64_t queue_ns; /**< until an instance was found */
	uint64_t restore_ns, run_ns, init_ns;
	uint64_t total_ns;
};

struct invocation;
typedef void (*invocation_done_fn)(struct invocation *inv, const struct invocation_outcome *out);

/**
 * struct invocation_request - what is wanted. Payload and context stay the caller's and valid until
 * @done, which is called exactly once, perhaps before scheduler_invoke() returns.
 */
struct invocation_request {
	struct version *version;
	const void *payload;
	size_t payload_bytes;
	const char *client_context; /**< "" for none */
	const char *trace_id;	    /**< "" for none; copied */
	const char *request_id;	    /**< of an event that is tried again; NULL: a new one; copied */
	enum start_kind force;
	bool keep;     /**< a forced start's instance is kept for others afterwards */
	bool internal; /**< our own: no limit of concurrency applies, and it predicts nothing */
	/** Parts of a response that is streamed, before @done, which has no payload then; NULL: the
	 * response is wanted whole. */
	void (*part)(struct invocation *inv, const void *data, size_t n);
	invocation_done_fn done;
	void *arg;
};

/**
 * struct scheduler_params - times in nanoseconds.
 * @keep_warm_ns: how long an idle instance is kept
 * @queue_timeout_ns: how long an invocation waits for an instance; @queue_max: how many may
 * @account_concurrency: invocations in flight; at most INVOCATIONS_MAX
 * @max_instances, @memory_budget_bytes: see budget_init()
 */
struct scheduler_params {
	uint64_t keep_warm_ns;
	uint64_t init_timeout_ns;
	uint64_t queue_timeout_ns;
	unsigned queue_max;
	unsigned account_concurrency;
	unsigned max_instances;
	uint64_t memory_budget_bytes;
};

int scheduler_init(const struct scheduler_params *params);

/** scheduler_invoke() - Return: 0, or -EBUSY when it is refused (done is not called):
 * scheduler_refusal() says why. */
int scheduler_invoke(const struct invocation_request *request);

/** struct scheduler_refusal - for TooManyRequestsException; strings are static. */
struct scheduler_refusal {
	const char *reason; /**< Lambda's Reason */
	const char *text;
	unsigned retry_after_s;
	bool overload; /**< the node has more to do than it can */
};
/** scheduler_refusal() - of the last scheduler_invoke() that returned -EBUSY. */
const struct scheduler_refusal *scheduler_refusal(void);
const char *invocation_request_id(const struct invocation *inv);
void *invocation_arg(const struct invocation *inv);
/** invocation_hold() - no further parts, until it goes on; the instance stands still meanwhile. */
void invocation_hold(struct invocation *inv, bool hold);

/** scheduler_pump() - something has changed: start what waits, if it can be. */
void scheduler_pump(void);
/** scheduler_turn() - once per turn of the loop. */
void scheduler_turn(uint64_t now_ns);
uint64_t scheduler_next_ns(void);
/** scheduler_is_busy() - a restore is under way, or was begun a moment ago. */
bool scheduler_is_busy(uint64_t now_ns);

/** scheduler_end_instances() - of one function: it is being deleted. */
void scheduler_end_instances(const struct function *f);

/** scheduler_retire_instances() - of a version that is deleted: each ends after its answer. */
void scheduler_retire_instances(const struct version *v);

/** scheduler_has_room() - is there room for one more instance of @v? Where not, the longest idle
 * ones make room, and templates in this turn and the next ones; then ask again. */
bool scheduler_has_room(const struct version *v);
/** scheduler_instance_bytes() - what one more instance of @v is expected to take for itself. */
uint64_t scheduler_instance_bytes(const struct version *v);
/** scheduler_learn_memory() - the guest of @inst has been seen to use so much. @own_bytes: of a
 * kernel guest: what of that is its own; what a process guest has is told from @used_bytes. */
void scheduler_learn_memory(struct instance *inst, uint64_t used_bytes, uint64_t own_bytes);

/** scheduler_unreserved_left() - how many more invocations of functions without a reservation may
 * be in flight. */
unsigned scheduler_unreserved_left(void);

/** function_reserved() - its reserved concurrency, or -1: none. */
static inline int function_reserved(const struct function *f)
{
	return f->control.reserved_concurrency;
}
/** scheduler_concurrency_limit() - invocations at a time, of all functions together. */
uint32_t scheduler_concurrency_limit(void);

/** scheduler_ram_class() - size class of the shells that can run a version, or -errno. */
int scheduler_ram_class(const struct function_settings *s);
/** scheduler_sizes_changed() - functions or versions are gone, or have other settings: shells of
 * sizes that none has any more are not kept. */
void scheduler_sizes_changed(void);

struct scheduler_stats {
	uint64_t starts[START_KIND_COUNT];
	uint64_t errors;
	unsigned under_way;
	unsigned queued;      /**< of them, without an instance */
	uint64_t resident_ns; /**< what resident restores take, an average */
};
extern struct scheduler_stats scheduler_stats;

#endif
