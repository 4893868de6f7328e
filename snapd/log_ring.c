/* SPDX-License-Identifier: Apache-2.0 */
/* log_ring.c - the newest log lines of one function, bounded */
#include "snapd/log_ring.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/util.h"

enum { LINE_PREFIX_MAX = 128, LINE_MAX_BYTES = 8192 };

struct log_ring {
	size_t size;
	size_t start, used; /* of data; wraps */
	char data[];
};

struct log_ring *log_ring_new(size_t bytes)
{
	struct log_ring *ring = malloc(sizeof(*ring) + bytes);

	if (ring)
		*ring = (struct log_ring){.size = bytes};
	return ring;
}

void log_ring_free(struct log_ring *ring)
{
	free(ring);
}

static void drop_oldest_line(struct log_ring *r)
{
	while (r->used) {
		char c = r->data[r->start];

		r->start = (r->start + 1) % r->size;
		r->used--;
		if (c == '\n')
			return;
	}
}

static void put(struct log_ring *r, const char *text, size_t n)
{
	for (size_t done = 0; done < n;) {
		size_t at = (r->start + r->used) % r->size;
		size_t part = MIN(n - done, r->size - at);

		memcpy(r->data + at, text + done, part);
		r->used += part;
		done += part;
	}
}

/** "2026-01-31T12:34:56.789Z tag " */
static size_t make_prefix(char *buf, size_t size, const char *tag)
{
	uint64_t now = clock_real_ns();
	time_t seconds = (time_t)(now / NSEC_PER_SEC);
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(buf + n, size - n, ".%03uZ %s ",
			      (unsigned)(now % NSEC_PER_SEC / 1000000), tag);
	return MIN(n, size - 1);
}

/** Lines that later ones of the same text would push out again are not worth the time: a guest can
 * print a hundred thousand at once. Return: where the lines that will stay begin. */
static size_t skip_pushed_out(const struct log_ring *ring, const char *text, size_t n,
			      size_t prefix_bytes)
{
	size_t start = n, room = ring->size;

	while (start) {
		const char *end = start > 1 ? memrchr(text, '\n', start - 1) : NULL;
		size_t begin = end ? (size_t)(end + 1 - text) : 0;
		size_t line = start - begin - (text[start - 1] == '\n');
		size_t takes = prefix_bytes + MIN(line, (size_t)LINE_MAX_BYTES) + 1;

		if (takes > room)
			break;
		room -= takes;
		start = begin;
	}
	return start;
}

void log_ring_add(struct log_ring *ring, const char *tag, const char *text, size_t n)
{
	char prefix[LINE_PREFIX_MAX];
	size_t prefix_bytes, skip;

	if (!ring || !n)
		return;
	prefix_bytes = make_prefix(prefix, sizeof(prefix), tag);
	skip = skip_pushed_out(ring, text, n, prefix_bytes);
	text += skip;
	n -= skip;
	while (n) {
		const char *end = memchr(text, '\n', n);
		size_t line = end ? (size_t)(end - text) : n;
		size_t kept = MIN(line, (size_t)LINE_MAX_BYTES);

		while (ring->size - ring->used < prefix_bytes + kept + 1)
			drop_oldest_line(ring);
		put(ring, prefix, prefix_bytes);
		put(ring, text, kept);
		put(ring, "\n", 1);
		text += line + (end ? 1 : 0);
		n -= line + (end ? 1 : 0);
	}
}

void log_ring_printf(struct log_ring *ring, const char *tag, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0)
		log_ring_add(ring, tag, text, MIN((size_t)n, sizeof(text) - 1));
}

int log_ring_text(const struct log_ring *ring, char **ret, size_t *ret_n)
{
	size_t used = ring ? ring->used : 0, first;
	char *text = malloc(used + 1);

	if (!text)
		return -ENOMEM;
	if (used) {
		first = MIN(used, ring->size - ring->start);
		memcpy(text, ring->data + ring->start, first);
		memcpy(text + first, ring->data, used - first);
	}
	text[used] = '\0';
	*ret = text;
	*ret_n = used;
	return 0;
}

/** The text of a line behind its time and @tag; NULL: it has another tag. */
static const char *text_of(const char *line, const char *end, const char *tag)
{
	size_t n = strlen(tag);
	const char *at = memchr(line, ' ', (size_t)(end - line));

	if (!at || (size_t)(end - ++at) < n + 1 || memcmp(at, tag, n) || at[n] != ' ')
		return NULL;
	return at + n + 1;
}

int log_ring_tail(const struct log_ring *ring, const char *tag, size_t max, char **ret,
		  size_t *ret_n)
{
	char *text, *to, *line;
	size_t n;
	int err = log_ring_text(ring, &text, &n);

	if (err)
		return err;
	/* From the last line to the first, gathered at the end of the same memory. */
	to = text + n;
	for (char *end = text + n; end > text; end = line) {
		const char *newline = memrchr(text, '\n', (size_t)(end - text) - 1);
		const char *from;
		size_t bytes;

		line = newline ? text + (newline + 1 - text) : text;
		from = text_of(line, end, tag);
		if (!from)
			continue;
		bytes = MIN((size_t)(end - from), max - (size_t)(text + n - to));
		to -= bytes;
		memmove(to, end - bytes, bytes);
	}
	*ret_n = (size_t)(text + n - to);
	memmove(text, to, *ret_n);
	text[*ret_n] = '\0';
	*ret = text;
	return 0;
}
