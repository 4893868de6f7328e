/* SPDX-License-Identifier: Apache-2.0 */
/* session.h - one instance from its jail's start to its end, over the control socket */
#ifndef QUICKTHAW_SNAPD_SESSION_H
#define QUICKTHAW_SNAPD_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/sandbox.h"
#include "include/guest_abi.h"
#include "include/snapd_proto.h"
#include "snapd/function.h"
#include "snapd/handover_record.h"
#include "snapd/page_in.h"
#include "snapd/template.h"
#include "snapd/worker.h"

/** What a vmm may take besides its guest's memory: page tables of the kernel, buffers, its own
 * data. */
#define SESSION_EXTRA_MIB 64u
#define INSTANCES_MAX	  PAGE_IN_CLIENTS_MAX

/** See session.c for the diagram. */
enum instance_state {
	INSTANCE_FREE,
	INSTANCE_SPAWNING,
	INSTANCE_SHELL,
	INSTANCE_BOOTING,
	INSTANCE_READY,
	INSTANCE_CAPTURING,
	INSTANCE_RESTORING,
	INSTANCE_INVOKING,
	INSTANCE_TRACING,
	INSTANCE_IDLE,
	INSTANCE_ENDING,
	INSTANCE_STATE_COUNT
};
extern const char *const instance_state_names[INSTANCE_STATE_COUNT];

/** Why an instance ended while it had work; the first ones are enum proto_failure. */
enum session_failure_kind {
	SESSION_FAILED_TIMEOUT = 100, /**< its time was over */
	SESSION_FAILED_LOST,	      /**< the vmm is gone, or broke the rules */
	SESSION_FAILED_STOPPED,	      /**< ended from here: shutdown, or its function was deleted */
};

/** struct session_failure - text is for people, or Lambda error JSON for INIT and RESTORE. */
struct session_failure {
	int kind;
	int code;
	const char *text;
	size_t text_bytes;
};

/**
 * struct session_result - an answer.
 * @payload: valid during the call
 * @resident_pages: memory that the guest has, its template's included; of a kernel guest what its
 * process has of both. 0: not known
 * @own_pages: of a kernel guest: of those, what it shares with nobody
 */
struct session_result {
	enum proto_result_kind kind;
	const void *payload;
	size_t payload_bytes;
	uint64_t run_ns;
	uint64_t restore_ns;
	uint64_t resident_pages, own_pages;
	uint64_t exits;
};

struct instance;

/**
 * struct session_events - what the owner of an instance is told. NULL: not expected, a breach.
 * @ready: READY came after BOOT (state READY)
 * @captured: state READY again
 * @result: state IDLE, unless the callee moves on
 * @part: of a response that is streamed, before its result
 * @working_set: state IDLE again; @fd is closed after the call
 * @failed: the instance had work and has failed; it is ENDING. Told once.
 */
struct session_events {
	void (*ready)(struct instance *inst, const struct proto_ready *ready);
	void (*captured)(struct instance *inst, const struct proto_captured *captured);
	void (*result)(struct instance *inst, const struct session_result *result);
	void (*part)(struct instance *inst, const void *data, size_t n);
	void (*working_set)(struct instance *inst, int fd, uint64_t template_pages);
	void (*failed)(struct instance *inst, const struct session_failure *failure);
};

/** struct session_call - one invocation as INVOKE wants it. All strings NUL-terminated. */
struct session_call {
	const char *request_id;
	const char *arn;
	const char *trace_id;
	const char *client_context;
	const void *payload;
	size_t payload_bytes;
	uint64_t timeout_ns;
	bool stream; /**< a response that is streamed is wanted in parts */
};

/**
 * struct instance - one vmm process and what it is to us.
 * @slot: its number everywhere: page_in client, tag of its events
 * @generation: of its slot; events of an earlier one are dropped
 * @kind: of the guest that it is or can become
 * @ram_mib: size class of its RAM
 * @owner, @events: who has it; both NULL in the pool
 * @function, @version: what it runs; holds a reference to the function
 * @template: what its RAM is a private mapping of, or NULL; holds a reference
 * @deadline_ns: when it will be ended if nothing happens; UINT64_MAX: never
 * @kept, @idle_link, @list_link: keep.c's while it is IDLE; @list_link is shell_pool.c's in SHELL
 * @provisioned: one of those that are to wait for their version's invocations
 * @charge_bytes: what the budget counts for it
 * @unread: its socket has had more than a turn's share of messages
 * @held: its messages are left unread: whoever wants them is behind
 */
struct instance {
	enum instance_state state;
	uint32_t slot;
	uint32_t generation;
	char id[SANDBOX_ID_MAX + 1];
	enum guest_kind kind;
	uint32_t ram_mib;
	int ram_class;
	int control;
	int uffd;
	uint64_t ram_base;
	uint64_t cpu_features[8];
	uint64_t state_version; /**< as in HELLO; 0: not known */
	uint64_t deadline_ns;
	void *owner;
	const struct session_events *events;
	struct function *function;
	struct version *version;
	struct template *template;
	char request_id[48];
	uint32_t call_serial; /**< of its last INVOKE */
	uint64_t invocations;
	bool stored, recorded; /**< handover.c's */
	bool kept, provisioned;
	LIST_ENTRY(instance) idle_link;
	TAILQ_ENTRY(instance) list_link;
	uint64_t charge_bytes;
	bool unread;
	bool held;
	bool single_use; /**< ends when it is idle: its start was forced, for measuring */
	uint64_t requested_ns, spawned_ns, changed_ns, provisioned_ns;
	struct sandbox_child child;
	struct work reap;
	/* Being spawned: valid until the spawner is done. */
	struct sandbox_job job;
	int child_end;
	char ram_text[16], vcpu_text[8];
	const char *argv[13];
};

/**
 * struct session_hooks - what the table of instances tells the rest.
 * @shell: an instance came into state SHELL
 * @moved: (or NULL) it has left state @from; it still has all that it had there
 * @gone: a slot is free again, or an instance is about to be: there may be room now
 * @changed: its state or its deadline has changed, before the vmm is told; an instance that is
 *	ENDING has its descriptors still. NULL: nobody needs to know.
 */
struct session_hooks {
	void (*shell)(struct instance *inst);
	void (*moved)(struct instance *inst, enum instance_state from);
	void (*gone)(void);
	void (*changed)(struct instance *inst);
};

int session_init(const struct session_hooks *hooks, int root_fd, int runtime_fd);
/** session_finish() - end and reap all; blocks until they are gone. */
void session_finish(void);

/** session_new() - a free slot, or NULL. Its state is SPAWNING. */
struct instance *session_new(void);
/** session_spawned() - the jail runs: listen to it. */
void session_spawned(struct instance *inst, int control);
/** session_spawn_failed() - there will be no such instance. */
void session_spawn_failed(struct instance *inst);

/**
 * struct session_revival - an instance that a snapd before this one has left.
 * @entry: what is known of it; handover_instance_ok()
 * @version, @template, @events: NULL for a shell; @template: NULL for one that was booted, too
 */
struct session_revival {
	const struct handover_instance *entry;
	int control, uffd, pidfd;
	struct version *version;
	struct template *template;
	const struct session_events *events;
};

/**
 * session_revive() - go on with it, in the state in which it was left. Faults that wait are served.
 * Return: the instance, whose descriptors are the instance's then; NULL: no slot is free.
 */
struct instance *session_revive(const struct session_revival *from);
/** session_describe() - what a later session_revive() needs to know; HANDOVER_NONE: it cannot be
 * revived in its state. */
void session_describe(const struct instance *inst, struct handover_instance *ret);

/** session_give() - another snapd gets it: from now on nothing is started in it here, and no
 * deadline ends it. SHELL or IDLE. session_forget() - and it is ours no more: nothing happens to
 * it. */
void session_give(struct instance *inst);
void session_forget(struct instance *inst);

/** session_instance() - by slot, for walks: every slot, FREE ones too. */
struct instance *session_instance(uint32_t slot);
unsigned session_count(enum instance_state state);

/** session_boot() - SHELL to BOOTING. @argv, @envp: NULL-terminated. Return: 0 or -errno; on error
 * the instance is ENDING. */
int session_boot(struct instance *inst, const char *const *argv, const char *const *envp,
		 uint64_t memory_bytes, uint64_t tmp_bytes, uint64_t timeout_ns);
/** session_boot_base() - the same of a kernel guest that is to be the base of its version's: it
 * runs nothing, and is READY when its agent is there. */
int session_boot_base(struct instance *inst, uint64_t timeout_ns);
/** session_start() - the same from such a base: RESTORE of @base and START at once. */
int session_start(struct instance *inst, struct template *base, const char *const *argv,
		  const char *const *envp, uint64_t timeout_ns);
/** session_restore() - SHELL to RESTORING: RESTORE and INVOKE at once; without a @call to IDLE,
 * for INVOKE may come whenever it likes. Return: 0 or -errno; on error the instance is ENDING. */
int session_restore(struct instance *inst, struct template *t, const struct session_call *call);
/** session_invoke() - IDLE or READY to INVOKING. Return as above. */
int session_invoke(struct instance *inst, const struct session_call *call);
/**
 * session_capture() - READY to CAPTURING. Return as above.
 * @fd: empty file; @metadata: JSON
 * @base_name: what was given to session_start() has this name beside the new file, which is to be a
 *	diff on it; NULL: it is to be whole
 */
int session_capture(struct instance *inst, int fd, const char *metadata, const char *base_name);
/** session_trace() - IDLE to TRACING. Return: 0 or -errno; on error the instance is IDLE still, or
 * ENDING when it does not read. */
int session_trace(struct instance *inst);
/** session_adopt() - before BOOT or RESTORE: whose code it will run. */
void session_adopt(struct instance *inst, struct version *v, void *owner,
		   const struct session_events *events);
/** session_limit_memory() - the jail's limit is that of its function, no longer that of its class.
 * To be called when the guest is on its way: it takes a while. */
void session_limit_memory(const struct instance *inst);
/** session_hold() - leave the messages of an instance unread for a while, which makes its vmm stand
 * still when the socket is full; or go on. Its end is noticed all the same. */
void session_hold(struct instance *inst, bool hold);
/** session_idle_until() - an IDLE instance ends at this time. */
void session_idle_until(struct instance *inst, uint64_t deadline_ns);
/** session_end() - whatever it does; its owner is not told. */
void session_end(struct instance *inst);
/** session_stop() - the same, but an owner who waits for something is told (STOPPED). */
void session_stop(struct instance *inst);

/** session_work() - once per turn of the loop: messages that the turn before had no time for.
 * Return: true when there may be more, so the loop should not sleep. */
bool session_work(void);
/** session_next_deadline_ns(), session_check_deadlines(): for the loop. */
uint64_t session_next_deadline_ns(void);
void session_check_deadlines(uint64_t now_ns);

#endif
