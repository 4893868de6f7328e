/* SPDX-License-Identifier: Apache-2.0 */
/* control.h - the stream of messages to the vmm (include/agent_proto.h), without ever waiting for
 * it */
#ifndef QUICKTHAW_AGENT_CONTROL_H
#define QUICKTHAW_AGENT_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/agent_proto.h"

struct control {
	int fd; /**< non-blocking, or -1 */
	size_t in_bytes;
	size_t out_bytes;  /**< of whole messages, the first of them perhaps written in part */
	size_t sent_bytes; /**< of the first one */
	_Alignas(8) uint8_t in[AGENT_MESSAGE_MAX];
	uint8_t out[2 * AGENT_MESSAGE_MAX];
};

/** control_init() - a stream over @fd, which becomes its own; what was under way is forgotten. */
void control_init(struct control *c, int fd);
/** control_close() - end the stream; what it has not taken is kept for control_reopen(). */
void control_close(struct control *c);

/**
 * control_reopen() - go on with @fd after control_close(): READY, then each LOG and EXITED that
 * the former stream has not taken whole. Answers are dropped: they were meant for who asked.
 * @ready: its header is filled in here; AGENT_READY_RUNNING is added when there is an EXITED
 */
void control_reopen(struct control *c, int fd, struct agent_ready *ready);

/** control_receive() - read what has come. Return: 0, -EPIPE at the stream's end, or -errno. */
int control_receive(struct control *c);

/**
 * control_next() - the next whole message.
 * @ret: valid until control_consume()
 * Return: 1, 0 when more has to come, -EBADMSG when what came is no message: close the stream then.
 */
int control_next(struct control *c, const struct agent_header **ret);
/** control_consume() - done with the message of control_next(). */
void control_consume(struct control *c);

/**
 * control_send() - queue a message: @body (its header is filled in here), then @n bytes at @tail.
 * Return: 0, or -ENOBUFS: there is always room for one message of each type but LOG, for which one
 * asks control_log_room() first.
 */
int control_send(struct control *c, enum agent_type type, void *body, size_t body_bytes,
		 const void *tail, size_t n);
/** control_log_room() - how many bytes of output LOG may carry now; 0 when the vmm does not read.
 */
size_t control_log_room(const struct control *c);
/** control_flush() - write what is queued, as far as the vmm takes it. Return: 0 or -errno. */
int control_flush(struct control *c);

#endif
