/* SPDX-License-Identifier: Apache-2.0 */
/* function.h - functions and their versions, in memory */
#ifndef QUICKTHAW_SNAPD_FUNCTION_H
#define QUICKTHAW_SNAPD_FUNCTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "snapd/arrivals.h"
#include "snapd/code.h"
#include "snapd/function_control.h"
#include "snapd/function_name.h"
#include "snapd/function_settings.h"
#include "snapd/log_ring.h"
#include "snapd/origin.h"
#include "snapd/template.h"
#include "snapd/waiting.h"

enum { FUNCTION_LOG_BYTES = 128 << 10, TIME_TEXT_CHARS = 28 };

enum version_state { VERSION_PENDING, VERSION_ACTIVE, VERSION_FAILED, VERSION_STATE_COUNT };
extern const char *const version_state_names[VERSION_STATE_COUNT];

/** struct version_snapshot - figures of a version's capture. */
struct version_snapshot {
	uint64_t boot_ms, capture_ms;
	uint64_t resident_bytes, file_bytes;
	uint64_t working_set_pages; /**< 0: not recorded yet, or not looked at since the start */
	struct origin origin;
};

struct function;
struct instance;
LIST_HEAD(instance_list, instance);

/** struct version_idle - a version's idle instances, the newest first; keep.c's. */
struct version_idle {
	struct instance_list provisioned, others;
	unsigned provisioned_count, other_count;
};

/**
 * struct version_load - what the scheduler knows of a version; all averages are moving ones.
 * @lane: its invocations that wait
 * @arrivals: when they have come, for pre-warming
 * @running: instances with an invocation
 * @warm_ns, @resident_ns: from an instance found to the answer, by kind of start; 0: not known
 * @boot_ns: initialisation of a cold boot; the same
 * @private_bytes: the most that an instance of it has had of its own; 0: not known
 * @provision: what provision.c has made of what was asked for
 */
struct version_load {
	struct waiting_lane lane;
	struct arrivals arrivals;
	unsigned running;
	uint64_t warm_ns, resident_ns, resident_alone_ns, boot_ns;
	uint64_t private_bytes;
	struct version_provision {
		bool listed;
		unsigned wanted, live, failures;
		uint64_t retry_ns;
		char reason[128];
	} provision;
};

/**
 * struct function_load - the same of a function.
 * @in_flight: admitted and not answered
 * @alone_ns: from the request to the answer of those that were alone on the node, an average
 * @answer_gap_ns: between two answers of it while it had all CPUs busy, an average
 * @last_answer_ns: the last answer, if it did
 * @overload_ns: when one was last refused for overload; 0: never
 * @start_gap_ns: between two starts of it while it waited, an average; @last_start_ns: the last
 */
struct function_load {
	struct waiting_function waiting;
	unsigned in_flight;
	uint64_t alone_ns, answer_gap_ns, last_answer_ns;
	uint64_t start_gap_ns, last_start_ns, overload_ns;
};
struct api_change;

/**
 * struct version - a frozen copy of a function, or $LATEST (number 0).
 * @stage: what publishing is at: "booting", "capturing", ...; "" when it is over
 * @revision: RevisionId: changes with every change
 * @source_revision: of a published version: the revision of $LATEST that it was made from, or ""
 * @code: CodeSha256 and CodeSize
 * @updating: a change of $LATEST is being written
 * @code_fd: view of the code directory, or of a kernel guest the image; -1: not opened yet
 * @opt_fd: the same of the merged layers, or -1: it has none
 * @template: memory of the snapshot, or NULL; one of its references is the version's
 * @opening: the worker is at opening code and template; invocations wait
 * @open_err: of its snapshot, at the last time; 0 or -errno
 * @record_tries: recordings of the working set that were begun
 * @cold_boot: its snapshot cannot be restored: it is booted, until it was captured again
 * @snapshot_removed: there is none, to save room; an invocation brings it back
 * @recapture: what recapture.c is at
 */
struct version {
	struct function *function;
	uint32_t number;
	struct function_settings settings;
	enum version_state state;
	const char *stage;
	char reason[256];
	uint64_t modified_ns;
	char revision[UUID_CHARS + 1];
	char source_revision[UUID_CHARS + 1];
	struct code_info code;
	bool updating;
	struct version_snapshot snapshot;
	int code_fd, opt_fd;
	struct template *template;
	bool opening;
	int open_err;
	bool recording;
	unsigned record_tries;
	bool cold_boot, snapshot_removed;
	struct version_recapture {
		bool wanted, under_way;
		unsigned failures;
		uint64_t retry_ns;
	} recapture;
	struct version_idle idle;
	struct version_load load;
	LIST_ENTRY(version) provision_link;
	struct version *next;
};

/**
 * struct function - a function by name.
 * @refs: the store's, and one per instance, invocation and job that uses it or a version of it
 * @last_number: the highest version number that was given out
 * @changes: of control: the first is being written, the others wait for it (api_change.h)
 * @versions: published ones, newest first; @retired: deleted ones that something may still use
 * @busy_publishing: one publish at a time
 */
struct function {
	char name[FUNCTION_NAME_MAX + 1];
	unsigned refs;
	bool deleted;
	bool busy_publishing;
	uint32_t last_number;
	struct function_control control;
	struct function_load load;
	struct api_change *changes;
	struct version latest;
	struct version *versions, *retired;
	struct log_ring *log;
	struct event_function *events;
	struct function *next;
};

struct function *function_new(const char *name);
struct function *function_get(struct function *f);
/** function_put() - NULL is legal. */
void function_put(struct function *f);

/** function_add_version() - a new version with a copy of $LATEST's settings; NULL: no memory. */
struct version *function_add_version(struct function *f, uint32_t number);
/** function_remove_version() - forget a version that nothing uses. */
void function_remove_version(struct function *f, struct version *v);

/** function_retire_version() - a version is deleted: it is not found any more, and goes when
 * nothing uses it. */
void function_retire_version(struct function *f, struct version *v);

/** function_version() - by number; 0: $LATEST. NULL: there is none. */
struct version *function_version(struct function *f, uint32_t number);
/** function_newest() - the newest version that can be invoked, else $LATEST. */
struct version *function_newest(struct function *f);

/** function_resolve() - by version number, "$LATEST" or alias (its FunctionVersion); NULL: none. */
struct version *function_resolve(struct function *f, const char *qualifier);
/** function_route() - the same for an invocation: an alias with weights chooses at random. */
struct version *function_route(struct function *f, const char *qualifier);

/** function_log() - its log, made when first needed; NULL without memory (log_ring_add takes it).
 */
struct log_ring *function_log(struct function *f);

/** version_close_dirs() - its code or layers are others now: the next start opens them again. */
void version_close_dirs(struct version *v);

/** version_name() - "$LATEST" or the number, into @buf. Return: @buf. */
const char *version_name(const struct version *v, char buf[16]);
/** time_text() - wall time as Lambda's configurations have it, into @buf. Return: @buf. */
const char *time_text(uint64_t ns, char buf[TIME_TEXT_CHARS + 1]);
/** version_json() - its configuration as the Lambda API shows it; a new reference, or NULL. */
json_t *version_json(const struct version *v);

/* ---- all functions ---- */

/** functions_first() - walk with ->next; sorted by nothing. */
struct function *functions_first(void);
struct function *functions_find(const char *name);
/** functions_add() - takes over the caller's reference. */
void functions_add(struct function *f);
/** functions_remove() - marks it deleted and drops the store's reference. */
void functions_remove(struct function *f);

#endif
