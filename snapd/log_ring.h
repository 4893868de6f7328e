/* SPDX-License-Identifier: Apache-2.0 */
/* log_ring.h - the newest log lines of one function, bounded */
#ifndef QUICKTHAW_SNAPD_LOG_RING_H
#define QUICKTHAW_SNAPD_LOG_RING_H

#include <stddef.h>

struct log_ring;

/** log_ring_new() - room for @bytes of text. Return: NULL without memory. */
struct log_ring *log_ring_new(size_t bytes);
void log_ring_free(struct log_ring *ring);

/**
 * log_ring_add() - append text, line by line; each line gets the time and @tag in front.
 * What does not fit makes the oldest lines go. NULL rings take nothing.
 */
void log_ring_add(struct log_ring *ring, const char *tag, const char *text, size_t n);
void log_ring_printf(struct log_ring *ring, const char *tag, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** log_ring_text() - all lines, oldest first. @ret: malloc'ed, the caller's. Return: 0 or -ENOMEM.
 */
int log_ring_text(const struct log_ring *ring, char **ret, size_t *ret_n);

/**
 * log_ring_tail() - the newest lines with this tag, without time and tag.
 * @max: of bytes; a line in front that does not fit is cut at its beginning
 * @ret: malloc'ed, the caller's. Return: 0 or -ENOMEM.
 */
int log_ring_tail(const struct log_ring *ring, const char *tag, size_t max, char **ret,
		  size_t *ret_n);

#endif
