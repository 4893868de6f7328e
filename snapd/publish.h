/* SPDX-License-Identifier: Apache-2.0 */
/* publish.h - a function becomes a version: cold boot, capture, install */
#ifndef QUICKTHAW_SNAPD_PUBLISH_H
#define QUICKTHAW_SNAPD_PUBLISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapd/function.h"

/**
 * typedef publish_done_fn - the end of a publication, or that it takes longer than the caller
 * waits.
 * @v: the new version, Pending when that is not over; or NULL
 * @status, @error_type, @text: for the caller when there is none: of HTTP, exception, what happened
 */
typedef void (*publish_done_fn)(void *arg, struct version *v, unsigned status,
				const char *error_type, const char *text);

/** @wait_ns: how long callers wait who have not asked to wait for the end */
void publish_init(uint64_t init_timeout_ns, uint64_t wait_ns);

/**
 * publish_start() - make the next version of @f.
 * @train: event to invoke it with once, so that its working set is known; malloc'ed, taken over;
 *	NULL: the first invocation will be recorded
 * @to_the_end: @done is called when it is over, however long that takes
 * Return: 0, -EBUSY while one is under way, or -ENOMEM; @done is not called then.
 */
int publish_start(struct function *f, char *train, size_t train_bytes, bool to_the_end,
		  publish_done_fn done, void *arg);

/**
 * publish_again() - make the snapshot of @v again, which serves meanwhile, unless v->cold_boot. It
 * changes in nothing else, and when this fails in nothing at all. Not while it is opening or
 * recording.
 * Return: 0 or -ENOMEM; @done is not called then.
 */
int publish_again(struct version *v, publish_done_fn done, void *arg);

/** publish_turn() - tell callers who have waited for long enough; publish_next_ns(): when that is.
 */
void publish_turn(uint64_t now_ns);
uint64_t publish_next_ns(void);

/** publish_pump() - something has changed: a shell may be there, a recording may be over. */
void publish_pump(void);

#endif
