/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - device state as a byte stream: little-endian, bounded, sticky errors */
#ifndef QUICKTHAW_COMMON_STATE_H
#define QUICKTHAW_COMMON_STATE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/**
 * struct state_writer - grows a heap buffer. The first failure (-ENOMEM) sticks in @err and makes
 * later puts no-ops, so that a save function checks once at its end.
 */
struct state_writer {
	uint8_t *data;
	size_t used;
	size_t size;
	int err;
};

/**
 * struct state_reader - walks hostile bytes. A get past the end sets @err to -EBADMSG and yields
 * zeros from then on; load functions check @err before they act on counts, and at their end.
 */
struct state_reader {
	const uint8_t *data;
	size_t left;
	int err;
};

static inline void state_put(struct state_writer *w, const void *p, size_t n)
{
	if (w->err)
		return;
	if (w->size - w->used < n) {
		size_t size = w->size ? w->size : 4096;
		uint8_t *data;

		while (size - w->used < n)
			size *= 2;
		data = realloc(w->data, size);
		if (!data) {
			w->err = -ENOMEM;
			return;
		}
		w->data = data;
		w->size = size;
	}
	if (n)
		memcpy(w->data + w->used, p, n);
	w->used += n;
}

/** state_writer_free() - releases the buffer; legal on a zeroed writer. */
static inline void state_writer_free(struct state_writer *w)
{
	free(w->data);
	memset(w, 0, sizeof(*w));
}

static inline void state_put_u8(struct state_writer *w, uint8_t v)
{
	state_put(w, &v, sizeof(v));
}

static inline void state_put_u32(struct state_writer *w, uint32_t v)
{
	state_put(w, &v, sizeof(v)); /* x86-64 is little-endian */
}

static inline void state_put_u64(struct state_writer *w, uint64_t v)
{
	state_put(w, &v, sizeof(v));
}

/** state_put_bytes() - a u32 length, then the bytes. */
static inline void state_put_bytes(struct state_writer *w, const void *p, size_t n)
{
	state_put_u32(w, (uint32_t)n);
	state_put(w, p, n);
}

static inline void state_put_str(struct state_writer *w, const char *s)
{
	state_put_bytes(w, s, strlen(s));
}

/** state_get_view() - a pointer into the input, or NULL after an error. The input owns it. */
static inline const void *state_get_view(struct state_reader *r, size_t n)
{
	const void *p = r->data;

	if (r->err || r->left < n) {
		r->err = r->err ? r->err : -EBADMSG;
		return NULL;
	}
	r->data += n;
	r->left -= n;
	return p;
}

static inline void state_get(struct state_reader *r, void *p, size_t n)
{
	const void *src = state_get_view(r, n);

	if (src)
		memcpy(p, src, n);
	else
		memset(p, 0, n);
}

static inline uint8_t state_get_u8(struct state_reader *r)
{
	uint8_t v;

	state_get(r, &v, sizeof(v));
	return v;
}

static inline uint32_t state_get_u32(struct state_reader *r)
{
	uint32_t v;

	state_get(r, &v, sizeof(v));
	return v;
}

static inline uint64_t state_get_u64(struct state_reader *r)
{
	uint64_t v;

	state_get(r, &v, sizeof(v));
	return v;
}

/**
 * state_get_count() - a u32 that counts records of at least @record_bytes each.
 * Return: the count; 0 with -EBADMSG set when the rest of the input could not hold them.
 */
static inline uint32_t state_get_count(struct state_reader *r, size_t record_bytes)
{
	uint32_t n = state_get_u32(r);

	if (!r->err && record_bytes && n > r->left / record_bytes)
		r->err = -EBADMSG;
	return r->err ? 0 : n;
}

/** state_get_bytes() - view of a length-prefixed byte string of at most @max bytes. */
static inline const void *state_get_bytes(struct state_reader *r, size_t max, size_t *ret_n)
{
	uint32_t n = state_get_u32(r);

	*ret_n = 0;
	if (!r->err && n > max)
		r->err = -EBADMSG;
	if (r->err)
		return NULL;
	*ret_n = n;
	return state_get_view(r, n);
}

/** state_get_str() - copy a string into @buf of @size bytes, NUL-terminated; no inner NUL allowed.
 */
static inline void state_get_str(struct state_reader *r, char *buf, size_t size)
{
	size_t n;
	const char *p = state_get_bytes(r, size - 1, &n);

	buf[0] = '\0';
	if (!p)
		return;
	if (memchr(p, 0, n)) {
		r->err = -EBADMSG;
		return;
	}
	memcpy(buf, p, n);
	buf[n] = '\0';
}

#endif
