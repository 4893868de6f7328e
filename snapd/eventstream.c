/* SPDX-License-Identifier: Apache-2.0 */
/* eventstream.c - frames of application/vnd.amazon.eventstream */
#include "snapd/eventstream.h"

#include <assert.h>
#include <endian.h>
#include <string.h>
#include <zlib.h>

enum { PRELUDE_BYTES = 12, HEADER_TEXT = 7 };

static void put_u32(uint8_t *to, uint32_t value)
{
	value = htobe32(value);
	memcpy(to, &value, sizeof(value));
}

/** Return: where the next bytes go. */
static uint8_t *put_bytes(uint8_t *at, const void *data, size_t n)
{
	memcpy(at, data, n);
	return at + n;
}

static void put_header(struct eventstream_frame *f, const char *name, const char *value)
{
	size_t name_bytes = strlen(name), value_bytes = strlen(value);
	uint8_t *at = f->head + f->head_bytes;

	assert(f->head_bytes + 1 + name_bytes + 3 + value_bytes <= sizeof(f->head));
	*at++ = (uint8_t)name_bytes;
	at = put_bytes(at, name, name_bytes);
	*at++ = HEADER_TEXT;
	*at++ = (uint8_t)(value_bytes >> 8);
	*at++ = (uint8_t)value_bytes;
	at = put_bytes(at, value, value_bytes);
	f->head_bytes = (size_t)(at - f->head);
}

void eventstream_frame_make(struct eventstream_frame *f, const char *type, const char *content_type,
			    const void *payload, size_t n)
{
	uLong crc;

	assert(n <= EVENTSTREAM_PAYLOAD_MAX);
	f->head_bytes = PRELUDE_BYTES;
	put_header(f, ":event-type", type);
	put_header(f, ":content-type", content_type);
	put_header(f, ":message-type", "event");
	put_u32(f->head, (uint32_t)(f->head_bytes + n + sizeof(f->tail)));
	put_u32(f->head + 4, (uint32_t)(f->head_bytes - PRELUDE_BYTES));
	put_u32(f->head + 8, (uint32_t)crc32(0, f->head, 8));
	crc = crc32(0, f->head, (uInt)f->head_bytes);
	if (n)
		crc = crc32(crc, payload, (uInt)n);
	put_u32(f->tail, (uint32_t)crc);
}
