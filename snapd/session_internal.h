/* SPDX-License-Identifier: Apache-2.0 */
/* session_internal.h - what session.c and session_message.c share */
#ifndef QUICKTHAW_SNAPD_SESSION_INTERNAL_H
#define QUICKTHAW_SNAPD_SESSION_INTERNAL_H

#include "common/clock.h"
#include "snapd/session.h"

#define SECONDS(n) ((uint64_t)(n)*NSEC_PER_SEC)

/** session_enter() - the one place that changes a state; the deadline goes to never. */
void session_enter(struct instance *inst, enum instance_state state);
void session_set_deadline(struct instance *inst, uint64_t at_ns);
/** session_is_shell() - HELLO has come. */
void session_is_shell(struct instance *inst);
/** session_fail() - end it; tell its owner when that one waits for something. */
void session_fail(struct instance *inst, const struct session_failure *failure);
/** session_breach() - it broke the rules, or is gone: the same, with our own words. */
void session_breach(struct instance *inst, const char *text);
/** session_lost() - its socket was closed without a word. */
void session_lost(struct instance *inst);

/** session_message_init() - the directories that every guest gets; they stay the caller's.
 * Return: 0 or -errno. */
int session_message_init(int root_fd, int runtime_fd);
/** session_receive_one() - receive and act on one message. Return: false when there is none, or the
 * instance has ended. */
bool session_receive_one(struct instance *inst);

#endif
