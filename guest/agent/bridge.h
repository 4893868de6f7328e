/* SPDX-License-Identifier: Apache-2.0 */
/* bridge.h - connect TCP connections to a loopback port with streams to an endpoint outside */
#ifndef QUICKTHAW_AGENT_BRIDGE_H
#define QUICKTHAW_AGENT_BRIDGE_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/agent/endpoint.h"

enum {
	BRIDGE_LINKS_MAX = 16,
	BRIDGE_BUFFER_BYTES = 16 << 10,
	BRIDGE_POLLS_MAX = 1 + 2 * BRIDGE_LINKS_MAX
};

/** What came from one side and has not gone to the other: bytes [start, end). */
struct bridge_buffer {
	size_t start, end;
	bool eof;    /**< nothing more will come */
	bool closed; /**< the other side has been told so, or takes no more: the rest is dropped */
	uint8_t data[BRIDGE_BUFFER_BYTES];
};

/** One connection: fds[0] inside (TCP), fds[1] outside. from[i] came from fds[i]. */
struct bridge_link {
	int fds[2]; /**< -1: the link is free */
	bool connecting;
	struct bridge_buffer from[2];
};

struct bridge {
	struct endpoint outside;
	int listener; /**< -1: none */
	struct bridge_link links[BRIDGE_LINKS_MAX];
};

/**
 * bridge_init() - listen on 127.0.0.1:@port; more than BRIDGE_LINKS_MAX connections wait.
 * Return: 0 or -errno.
 */
int bridge_init(struct bridge *b, uint16_t port, const struct endpoint *outside);

/** bridge_poll() - what it waits for. @ret: BRIDGE_POLLS_MAX entries, all of them written. */
void bridge_poll(const struct bridge *b, struct pollfd *ret);

/** bridge_handle() - do what can be done, @polls being bridge_poll()'s after poll(2). */
void bridge_handle(struct bridge *b, const struct pollfd *polls);

#endif
