/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_loop.c - one io_uring, one thread, one dispatch over tagged completions
 *
 * Theory of operation
 *
 * Everything that snapd waits for is a request in one ring: polls of descriptors and reads of
 * snapshot files. A request's user_data is {operation, generation, slot}: the operation finds the
 * handler, the slot finds the entry in the handler's table, and the generation tells a live entry
 * from a completion which was on its way when the entry was given up.
 *
 * Requests are collected and go to the kernel together with the wait, so a turn of the loop costs
 * one system call. With DEFER_TASKRUN the kernel does its part of the work in that call too, and
 * nothing interrupts a handler.
 */
#include "snapd/event_loop.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>

#include "common/clock.h"

enum { SQ_ENTRIES = 128, CQ_ENTRIES = 1024 };

static struct {
	struct io_uring ring;
	loop_handler handlers[LOOP_OP_COUNT];
	bool ready;
	bool stop;
} loop;

/* ---- tags: operation in bits 56-63, generation in 32-55, slot in 0-31 ---- */

static uint64_t tag_of(enum loop_op op, uint32_t slot, uint32_t generation)
{
	return (uint64_t)op << 56 | (uint64_t)(generation & LOOP_GENERATION_MASK) << 32 | slot;
}

int event_loop_init(void)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN,
		.cq_entries = CQ_ENTRIES,
	};
	int ret = io_uring_queue_init_params(SQ_ENTRIES, &loop.ring, &params);

	if (ret == -EINVAL) { /* a kernel before 6.1 */
		params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
		ret = io_uring_queue_init_params(SQ_ENTRIES, &loop.ring, &params);
	}
	if (ret)
		return ret;
	loop.ready = true;
	loop.stop = false;
	return 0;
}

void event_loop_finish(void)
{
	if (loop.ready)
		io_uring_queue_exit(&loop.ring);
	loop.ready = false;
}

void event_loop_handle(enum loop_op op, loop_handler handler)
{
	loop.handlers[op] = handler;
}

static struct io_uring_sqe *next_sqe(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop.ring);

	while (!sqe) { /* the queue is full: hand it over early */
		io_uring_submit(&loop.ring);
		sqe = io_uring_get_sqe(&loop.ring);
	}
	return sqe;
}

void event_loop_poll(enum loop_op op, uint32_t slot, uint32_t generation, int fd)
{
	struct io_uring_sqe *sqe = next_sqe();

	io_uring_prep_poll_multishot(sqe, fd, POLLIN);
	io_uring_sqe_set_data64(sqe, tag_of(op, slot, generation));
}

void event_loop_poll_once(enum loop_op op, uint32_t slot, uint32_t generation, int fd)
{
	struct io_uring_sqe *sqe = next_sqe();

	io_uring_prep_poll_add(sqe, fd, POLLIN);
	io_uring_sqe_set_data64(sqe, tag_of(op, slot, generation));
}

void event_loop_read(enum loop_op op, uint32_t slot, uint32_t generation, int fd, void *buf,
		     uint32_t bytes, uint64_t offset)
{
	struct io_uring_sqe *sqe = next_sqe();

	io_uring_prep_read(sqe, fd, buf, bytes, offset);
	io_uring_sqe_set_data64(sqe, tag_of(op, slot, generation));
}

void event_loop_submit(void)
{
	io_uring_submit(&loop.ring);
}

void event_loop_cancel(enum loop_op op, uint32_t slot, uint32_t generation)
{
	struct io_uring_sqe *sqe = next_sqe();

	io_uring_prep_cancel64(sqe, tag_of(op, slot, generation), IORING_ASYNC_CANCEL_ALL);
	io_uring_sqe_set_data64(sqe, tag_of(LOOP_NOBODY, 0, 0));
}

static void dispatch(const struct io_uring_cqe *cqe)
{
	uint64_t tag = io_uring_cqe_get_data64(cqe);
	enum loop_op op = tag >> 56;
	struct loop_event event = {
		.slot = (uint32_t)tag,
		.generation = (uint32_t)(tag >> 32) & LOOP_GENERATION_MASK,
		.res = cqe->res,
		.more = cqe->flags & IORING_CQE_F_MORE,
	};

	assert(op < LOOP_OP_COUNT);
	if (loop.handlers[op])
		loop.handlers[op](&event);
}

int event_loop_turn(uint64_t wait_ns)
{
	struct __kernel_timespec ts = {
		.tv_sec = (long long)(wait_ns / NSEC_PER_SEC),
		.tv_nsec = (long long)(wait_ns % NSEC_PER_SEC),
	};
	struct io_uring_cqe *cqe;
	unsigned head, seen = 0;
	int ret;

	ret = io_uring_submit_and_wait_timeout(&loop.ring, &cqe, 1,
					       wait_ns == UINT64_MAX ? NULL : &ts, NULL);
	if (ret < 0 && ret != -ETIME && ret != -EINTR && ret != -EAGAIN && ret != -EBUSY)
		return ret;
	io_uring_for_each_cqe(&loop.ring, head, cqe)
	{
		dispatch(cqe);
		seen++;
	}
	io_uring_cq_advance(&loop.ring, seen);
	return 0;
}

int event_loop_run(const struct loop_hooks *hooks)
{
	int ret = 0;

	while (!ret && !loop.stop) {
		hooks->turn();
		if (!loop.stop)
			ret = event_loop_turn(hooks->wait_ns());
	}
	return ret;
}

void event_loop_stop(void)
{
	loop.stop = true;
}
