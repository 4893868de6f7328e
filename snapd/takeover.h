/* SPDX-License-Identifier: Apache-2.0 */
/* takeover.h - a snapd takes over from another one that runs, for an upgrade without a pause */
#ifndef QUICKTHAW_SNAPD_TAKEOVER_H
#define QUICKTHAW_SNAPD_TAKEOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "snapd/session.h"

/**
 * takeover_request() - ask the snapd that serves from this state directory, if there is one, to
 * hand over, and wait until it has: its sockets, locks, instances and templates are ours to take up
 * (inherit.c) then. After event_loop_init() and before sandbox_init(). Dies when it refuses.
 */
void takeover_request(const char *state);
/** takeover_done() - everything serves: the snapd before may let go. */
void takeover_done(void);

/**
 * struct takeover_hooks - what the snapd that hands over has to do beyond instances and sockets.
 * @pause: close what the next one opens
 * @take_back: the next one has died before it served: this instance is ours again
 * @resume: and what pause() has closed is to be opened
 */
struct takeover_hooks {
	void (*pause)(void);
	void (*take_back)(struct instance *inst);
	void (*resume)(void);
};

/** takeover_listen() - from now on this snapd can be asked. Return: 0 or -errno. */
int takeover_listen(const char *state, const struct takeover_hooks *hooks);
/** takeover_turn() - once per turn of the loop: hand over as soon as nothing short is under way. */
void takeover_turn(uint64_t now_ns);
/** takeover_next_ns() - when it has to be called though nothing happens. */
uint64_t takeover_next_ns(void);
/** takeover_is_given() - nothing new is to be begun here any more: another snapd serves, or will.
 */
bool takeover_is_given(void);
/** takeover_is_over() - another snapd serves: only what is under way here is still ours. */
bool takeover_is_over(void);
/** takeover_guard() - the last thing: stay until the instances that were handed over have ended, or
 * their snapd has. Their life depends on this process's. */
void takeover_guard(void);

#endif
