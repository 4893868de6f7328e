/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent_proto.h - what a vmm and the agent inside its kernel guest say to each other
 *
 * One stream: the agent connects to vsock CID 2 (the host), port AGENT_CONTROL_PORT. Every message
 * is one struct agent_header, then its fixed body, then (where the body says so) bytes.
 *
 *   vmm                                          agent
 *     |           (kernel boots, root is mounted)  |  pid 1 connects
 *     | <--------------------------------- READY   |  up; also after each new connection
 *     |                                            |
 *     |  (RESUMED names, addresses --------------> |  if it was given any: before START
 *     | <-------------------------- RESUMED_DONE)  |
 *     |  START argv, envp -----------------------> |  mount its code, start the runtime
 *     | <-------------------------------- LOG ...  |  (any time: its stdout and stderr)
 *     | <=== port AGENT_API_PORT: GET .../next === |  the Runtime API, beside this stream
 *     |                                            |
 *     |  PREPARE --------------------------------> |  before a capture: give back what is cached
 *     | <------------------------------ PREPARED   |  then the vmm parks the vCPUs and captures
 *     |                                            |
 *     |  RESUMED clock, entropy, names ----------> |  first thing after a restore
 *     | <-------------------------- RESUMED_DONE   |  nothing is invoked before it; again, if the
 *     |                                            |  clock is behind because RESUMED took long
 *     |                                            |
 *     | <-------------------------------- EXITED   |  the runtime's main process has ended; it may
 *     |                                            |  be started again
 *     |  close ----------------------------------- |  see below
 *
 * The stream's end. A captured stream may not survive its restore (vhost-vsock and Firecracker
 * reset it), so an agent that loses it connects again, and says READY with AGENT_READY_RUNNING when
 * its runtime runs. LOG and EXITED that it could not write whole before come after that READY; what
 * it had written and the vmm has not read is lost. So may be the answer to PREPARE or RESUMED: then
 * the vmm says the same again. When nobody has taken the new connection within
 * AGENT_RECONNECT_MS, the machine has no owner any more: pid 1 resets it, which ends a vmm; as a
 * service, the agent exits.
 *
 * The Runtime API. The agent listens on 127.0.0.1:AGENT_API_PORT in the guest and connects each TCP
 * connection to a stream of its own to the vmm's vsock port of the same number.
 *
 * A guest is hostile: a vmm checks every header with agent_message_ok() and every field. A runtime
 * cannot be believed either, for it shares the guest with the agent. Integers are little-endian and
 * reserved fields are zero.
 */
#ifndef QUICKTHAW_AGENT_PROTO_H
#define QUICKTHAW_AGENT_PROTO_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#define AGENT_PROTO_VERSION 1u
#define AGENT_CONTROL_PORT  1024u
#define AGENT_API_PORT	    9001u
/** No message is longer, its header included. */
#define AGENT_MESSAGE_MAX  (64u << 10)
#define AGENT_STRINGS_MAX  1024u /**< argv and envp together */
#define AGENT_HOSTNAME_MAX 64u	 /**< its NUL included */
#define AGENT_RECONNECT_MS 3000u

enum agent_type {
	AGENT_READY = 1,
	AGENT_START,
	AGENT_LOG,
	AGENT_EXITED,
	AGENT_PREPARE,
	AGENT_PREPARED,
	AGENT_RESUMED,
	AGENT_RESUMED_DONE,
	AGENT_TYPE_END
};

struct agent_header {
	uint32_t type;	/**< enum agent_type */
	uint32_t bytes; /**< of the whole message, this header included */
};

/** The runtime runs, or its EXITED is still to come: this is not the first connection. */
#define AGENT_READY_RUNNING 1u

/** READY, agent to vmm. */
struct agent_ready {
	struct agent_header h;
	uint32_t version; /**< AGENT_PROTO_VERSION */
	uint32_t flags;	  /**< AGENT_READY_* */
	uint64_t boot_ns; /**< since the kernel started its clock */
};

/**
 * START, vmm to agent. After the body: @argc strings of argv, then @envc of envp, each
 * NUL-terminated, and nothing behind them. A second START while the runtime runs is a breach.
 */
struct agent_start {
	struct agent_header h;
	uint32_t argc; /**< at least 1; argv[0] is a path in the guest */
	uint32_t envc;
	uint32_t uid; /**< the runtime's user and group */
	uint32_t gid;
};

enum agent_stream { AGENT_STDOUT = 1, AGENT_STDERR = 2 };

/** LOG, agent to vmm. After the body: at least one byte of the stream, not cut at lines. */
struct agent_log {
	struct agent_header h;
	uint32_t stream; /**< enum agent_stream */
	uint32_t reserved;
};

/** EXITED, agent to vmm. */
struct agent_exited {
	struct agent_header h;
	int32_t error;	/**< -errno when it could not be started; the other fields are 0 then */
	int32_t code;	/**< its exit status, when @signal is 0 */
	int32_t signal; /**< the signal that ended it, or 0 */
	uint32_t reserved;
};

/** Fill free memory with zeros, so that a capture leaves it out even without a balloon. */
#define AGENT_PREPARE_ZERO_FREE 1u

/** PREPARE, vmm to agent: write back, drop caches, compact memory. */
struct agent_prepare {
	struct agent_header h;
	uint32_t flags;	    /**< AGENT_PREPARE_* */
	uint32_t report_ms; /**< then wait so long for free page reporting; at most 60,000 */
};

/** PREPARED, agent to vmm. */
struct agent_prepared {
	struct agent_header h;
	uint64_t free_bytes;
	uint64_t took_ns;
};

#define AGENT_RESUMED_HOSTNAME 1u /**< @hostname is to be set */
#define AGENT_RESUMED_MAC      2u /**< @mac is to be set on eth0 */
#define AGENT_RESUMED_IP       4u /**< @ip, @prefix and @gateway are to be set on eth0 */

/** RESUMED, vmm to agent. */
struct agent_resumed {
	struct agent_header h;
	uint64_t wall_ns; /**< since 1970, when this was sent; 0: leave the clock alone */
	uint8_t random[32];
	char hostname[AGENT_HOSTNAME_MAX]; /**< NUL-terminated */
	uint8_t mac[6];
	uint8_t prefix; /**< bits of @ip that are the network's: 1 to 32 */
	uint8_t reserved0;
	uint8_t ip[4];	    /**< as it is written: 10 0 0 2 */
	uint8_t gateway[4]; /**< all zero: none */
	uint32_t flags;	    /**< AGENT_RESUMED_* */
	uint32_t reserved;
};

/** RESUMED_DONE, agent to vmm. */
struct agent_resumed_done {
	struct agent_header h;
	uint64_t wall_ns; /**< the guest's clock now */
	int32_t error;	  /**< the first thing that failed, as -errno, or 0 */
	uint32_t reserved;
};

static_assert(sizeof(struct agent_header) == 8, "wire format");
static_assert(sizeof(struct agent_ready) == 24, "wire format");
static_assert(sizeof(struct agent_start) == 24, "wire format");
static_assert(sizeof(struct agent_log) == 16, "wire format");
static_assert(sizeof(struct agent_exited) == 24, "wire format");
static_assert(sizeof(struct agent_prepare) == 16, "wire format");
static_assert(sizeof(struct agent_prepared) == 24, "wire format");
static_assert(sizeof(struct agent_resumed) == 136, "wire format");
static_assert(sizeof(struct agent_resumed_done) == 24, "wire format");

/**
 * agent_message_ok() - has a message with header @h a known type, and a length that this type may
 * have? What sends it is not checked: each side takes only the types that are meant for it.
 */
static inline bool agent_message_ok(const struct agent_header *h)
{
	static const struct {
		uint32_t min, max;
	} lengths[AGENT_TYPE_END] = {
		[AGENT_READY] = {sizeof(struct agent_ready), sizeof(struct agent_ready)},
		[AGENT_START] = {sizeof(struct agent_start) + 2, AGENT_MESSAGE_MAX},
		[AGENT_LOG] = {sizeof(struct agent_log) + 1, AGENT_MESSAGE_MAX},
		[AGENT_EXITED] = {sizeof(struct agent_exited), sizeof(struct agent_exited)},
		[AGENT_PREPARE] = {sizeof(struct agent_prepare), sizeof(struct agent_prepare)},
		[AGENT_PREPARED] = {sizeof(struct agent_prepared), sizeof(struct agent_prepared)},
		[AGENT_RESUMED] = {sizeof(struct agent_resumed), sizeof(struct agent_resumed)},
		[AGENT_RESUMED_DONE] = {sizeof(struct agent_resumed_done),
					sizeof(struct agent_resumed_done)},
	};

	return h->type < AGENT_TYPE_END && lengths[h->type].max &&
	       h->bytes >= lengths[h->type].min && h->bytes <= lengths[h->type].max;
}

#endif
