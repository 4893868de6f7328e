/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eventstream.h - frames of application/vnd.amazon.eventstream
 *
 *   total bytes (4) | bytes of headers (4) | CRC-32 of these 8 (4) | headers | payload | CRC-32 (4)
 *
 * A header is: bytes of name (1) | name | 7, for text | bytes of value (2) | value. Numbers are
 * big-endian; the last CRC is of all before it.
 *
 * Source: https://smithy.io/2.0/aws/amazon-eventstream.html
 */
#ifndef QUICKTHAW_SNAPD_EVENTSTREAM_H
#define QUICKTHAW_SNAPD_EVENTSTREAM_H

#include <stddef.h>
#include <stdint.h>

enum { EVENTSTREAM_HEAD_MAX = 192, EVENTSTREAM_PAYLOAD_MAX = 16 << 20 };

/** struct eventstream_frame - what stands before and behind a payload. */
struct eventstream_frame {
	uint8_t head[EVENTSTREAM_HEAD_MAX];
	size_t head_bytes;
	uint8_t tail[4];
};

/**
 * eventstream_frame_make() - frame an event.
 * @type, @content_type: 32 characters each at most
 * @payload: EVENTSTREAM_PAYLOAD_MAX bytes at most
 */
void eventstream_frame_make(struct eventstream_frame *frame, const char *type,
			    const char *content_type, const void *payload, size_t n);

#endif
