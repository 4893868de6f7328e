/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent_link.h - the vmm's end of what the agent in a kernel guest says, and its Runtime API
 *
 * Two vsock services: AGENT_CONTROL_PORT for include/agent_proto.h, AGENT_API_PORT for the Runtime
 * API, whose streams the agent bridges. A guest is hostile: a message that breaks the protocol ends
 * the connection, and the agent may connect again. What it was asked for and has not answered it is
 * then asked for again: PREPARED and RESUMED_DONE are always of this run of the machine.
 */
#ifndef QUICKTHAW_KERNEL_AGENT_LINK_H
#define QUICKTHAW_KERNEL_AGENT_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/state.h"
#include "include/agent_proto.h"
#include "vmm/process/runtime_api.h"
#include "vmm/process/runtime_http.h"

struct machine;
struct virtio_device;
struct vsock_conn;

/**
 * struct agent_identity - who a guest is to be from now on; all zero: who it is already.
 * @hostname: or NULL
 * @has_mac, @has_ip: of its first network card
 * @gateway: all zero: none
 */
struct agent_identity {
	const char *hostname;
	bool has_mac, has_ip;
	uint8_t mac[6];
	uint8_t ip[4], prefix, gateway[4];
};

/** agent_identity_empty() - is there nothing that an agent had to be told? */
bool agent_identity_empty(const struct agent_identity *who);

/**
 * struct agent_link - fields are this module's, but for those that others may read.
 * @argv, @envp: what the agent is to start; see agent_link_start()
 * @identity: what it is told before it starts that, and at a restore; strings are the caller's
 * @log: takes what the program writes to @stream, 1 or 2; NULL: that goes to this process's own
 * @ready: the agent is connected
 * @preparing, @resuming: from agent_link_prepare(), agent_link_resume() until the agent has done it
 */
struct agent_link {
	struct machine *machine;
	struct virtio_device *vsock;
	struct vsock_conn *conn;
	char *const *argv, *const *envp;
	struct agent_identity identity;
	void (*log)(void *arg, int stream, const void *data, size_t n);
	void *log_arg;
	bool ready, preparing, resuming;
	unsigned clock_sets; /**< since the restore */
	unsigned complaints; /**< that were logged */
	bool announced;	     /**< that it is ready, which a guest may say often */
	struct runtime_api *api;
	struct runtime_wire wire;
	uint32_t in_bytes;
	uint8_t in[AGENT_MESSAGE_MAX]
		__attribute__((aligned(8))); /**< bytes of a message under way */
};

/**
 * agent_link_new() - register both services, before the machine is booted or restored.
 * @events: of the Runtime API; they get @guest
 * Return: 0 or -errno with a log line.
 */
int agent_link_new(struct agent_link *a, struct machine *m, struct virtio_device *vsock,
		   const struct runtime_api_events *events, void *guest);
void agent_link_free(struct agent_link *a);

/**
 * agent_link_start() - have the agent start a program: now, or once it is ready.
 * @argv: stays the caller's, as @envp does, and lives as long as @a; NULL: nothing
 */
void agent_link_start(struct agent_link *a, char *const *argv, char *const *envp);
/** agent_link_prepare() - ask the agent to give back what it does not need; no longer @preparing:
 * it has. Return: 0, or -ENOTCONN: there is no agent now; one that connects is asked then. */
int agent_link_prepare(struct agent_link *a);
/**
 * agent_link_resume() - tell the agent of a restored machine what has changed: the time, and
 * @a->identity. No longer @resuming: it is done; an identity that it could not take ends the
 * machine. Return: 0, -ENOTCONN: there is no agent now, one that connects is told then; or -errno.
 */
int agent_link_resume(struct agent_link *a);

int agent_link_save(struct agent_link *a, struct state_writer *w);
int agent_link_load(struct agent_link *a, struct state_reader *r);

#endif
