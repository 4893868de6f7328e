/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serial_out.h - where a guest's console goes: a descriptor, at a rate that hurts nobody
 *
 * The guest decides how much it writes, so nothing here waits and nothing grows: bytes pass a token
 * bucket into a ring, the ring is written out as the descriptor takes it, and what has no room is
 * counted and dropped. A panic's line is kept, for the report of how the guest ended.
 */
#ifndef QUICKTHAW_KERNEL_SERIAL_OUT_H
#define QUICKTHAW_KERNEL_SERIAL_OUT_H

#include <stdbool.h>
#include <stdint.h>

enum { SERIAL_RING_BYTES = 64 << 10, SERIAL_LINE_MAX = 160 };

/** What a guest may write: so much at once, and so much a second from then on. */
#define SERIAL_BURST_BYTES (1u << 20)
#define SERIAL_RATE_BYTES  (256u << 10)

/**
 * struct serial_out - fields are this module's.
 * @fd: -1: nobody wants to see the console
 * @opened: @fd is this module's own
 * @tokens: bytes that may still pass
 * @line: what came since the last line break, cut at its end
 * @panic: the first line that tells of a panic, or ""
 */
struct serial_out {
	int fd;
	bool opened, socket;
	uint64_t tokens, filled_ns;
	uint64_t dropped_bytes, told_bytes;
	uint32_t head, used;
	uint8_t ring[SERIAL_RING_BYTES];
	char line[SERIAL_LINE_MAX];
	unsigned line_bytes;
	char panic[SERIAL_LINE_MAX];
};

/**
 * serial_out_init() - @fd: stays the caller's, with its flags as they are: other programs may share
 * them. A terminal or a pipe is opened a second time, so as to be written to without waiting.
 */
void serial_out_init(struct serial_out *o, int fd);
/** serial_out_free() - close what serial_out_init() opened; what did not come out is counted in the
 * log. */
void serial_out_free(struct serial_out *o);
/** serial_out_byte() - one byte of the guest's. The signature is struct serial's. */
void serial_out_byte(void *out, uint8_t byte);
/** serial_out_waits() - are there bytes for serial_out_flush()? */
bool serial_out_waits(const struct serial_out *o);
/** serial_out_flush() - write what the descriptor takes without waiting. Says in the console itself
 * how much was dropped. */
void serial_out_flush(struct serial_out *o);

#endif
