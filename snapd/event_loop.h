/* SPDX-License-Identifier: Apache-2.0 */
/* event_loop.h - one io_uring, one thread, one dispatch over tagged completions */
#ifndef QUICKTHAW_SNAPD_EVENT_LOOP_H
#define QUICKTHAW_SNAPD_EVENT_LOOP_H

#include <stdbool.h>
#include <stdint.h>

/** Operations: who gets a completion. LOOP_NOBODY is for cancellations. */
enum loop_op {
	LOOP_NOBODY,
	LOOP_HTTP,     /**< the HTTP server's epoll descriptor is readable */
	LOOP_SIGNAL,   /**< signalfd */
	LOOP_WORKER,   /**< eventfd: the worker thread has finished something */
	LOOP_SPAWNED,  /**< eventfd: a jail was started */
	LOOP_CONTROL,  /**< an instance's control socket */
	LOOP_FAULT,    /**< an instance's userfaultfd */
	LOOP_EXITED,   /**< an instance's pidfd */
	LOOP_TAKEOVER, /**< another snapd */
	LOOP_READ,     /**< a read of a snapshot file has ended */
	LOOP_OP_COUNT
};

/**
 * struct loop_event - one completion.
 * @slot: index in the fixed table of the operation's owner
 * @generation: low 24 bits of the owner's generation when the operation was started; an owner drops
 *	events whose generation is not its entry's
 * @res: bytes or poll events, or -errno
 * @more: a multishot poll that goes on; when false the owner polls again or lets go
 */
struct loop_event {
	uint32_t slot;
	uint32_t generation;
	int res;
	bool more;
};

#define LOOP_GENERATION_MASK 0xffffffu

typedef void (*loop_handler)(const struct loop_event *event);

/**
 * event_loop_init() - make the ring. The calling thread is the only one that may use the loop.
 * Return: 0 or -errno (-ENOSYS, -EPERM where the host forbids io_uring).
 */
int event_loop_init(void);
void event_loop_finish(void);

/** event_loop_handle() - who gets the completions of @op. */
void event_loop_handle(enum loop_op op, loop_handler handler);

/**
 * event_loop_poll() - multishot poll for input. Edge-triggered: read until -EAGAIN.
 * Polling holds a reference to the file: event_loop_cancel() before the descriptor is closed.
 */
void event_loop_poll(enum loop_op op, uint32_t slot, uint32_t generation, int fd);
/** event_loop_poll_once() - one event, at once if there is input already. */
void event_loop_poll_once(enum loop_op op, uint32_t slot, uint32_t generation, int fd);
/** event_loop_read() - read from a file at @offset; @buf stays valid until the completion. */
void event_loop_read(enum loop_op op, uint32_t slot, uint32_t generation, int fd, void *buf,
		     uint32_t bytes, uint64_t offset);
/** event_loop_submit() - hand over what was started now, not with the next wait: for reads that are
 * to go on while the caller computes. */
void event_loop_submit(void);
/** event_loop_cancel() - stop what was started with this tag. */
void event_loop_cancel(enum loop_op op, uint32_t slot, uint32_t generation);

/**
 * struct loop_hooks - what runs once per turn of the loop.
 * @turn: after the completions of a turn, before waiting
 * @wait_ns: how long the loop may sleep; 0: not at all; UINT64_MAX: until something happens
 */
struct loop_hooks {
	void (*turn)(void);
	uint64_t (*wait_ns)(void);
};

/** event_loop_run() - serve until event_loop_stop(). Return: 0 or -errno of the ring. */
int event_loop_run(const struct loop_hooks *hooks);
void event_loop_stop(void);
/** event_loop_turn() - one turn, for tests: wait at most @wait_ns, dispatch what came. */
int event_loop_turn(uint64_t wait_ns);

#endif
