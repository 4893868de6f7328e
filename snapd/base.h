/* SPDX-License-Identifier: Apache-2.0 */
/* base.h - the booted guest on which kernel guests' snapshots are diffs, made by whom needs it
 * first */
#ifndef QUICKTHAW_SNAPD_BASE_H
#define QUICKTHAW_SNAPD_BASE_H

#include <stdbool.h>
#include <stdint.h>

#include "snapd/base_store.h"
#include "snapd/function.h"
#include "snapd/outcome.h"

/** struct base_verdict - why there is no base: as for publish_done_fn. @status 0: ask again, with
 * another shell. */
struct base_verdict {
	unsigned status;
	const char *error_type;
	char text[OUTCOME_TEXT_MAX];
};

/**
 * struct base_wait - somebody who needs a base; stays valid until @done.
 * @version: whose base it is, and whose stage tells what it waits for
 * @name: of the base
 * @done: once, later than base_want(), in the loop's thread. @base: lent for the call, or NULL, for
 *	the reason in @verdict
 */
struct base_wait {
	struct version *version;
	char name[BASE_NAME_MAX];
	void (*done)(struct base_wait *w, struct template *base);
	struct base_verdict verdict;
	struct base_wait *next;
};

/** base_init() - @init_timeout_ns: for its boot. Return: 0 or -errno. */
int base_init(const struct base_store_params *params, uint64_t init_timeout_ns);
void base_finish(void);

/**
 * base_want() - have the base read, or made if it is not there or of no use. However many want it
 * at once, it is made once.
 * @shell: whose host and vmm it is for; it is not used up
 * @w: @version and @done are set
 * Return: 0 or -ENOMEM; @w->done is not called then.
 */
int base_want(const struct instance *shell, struct base_wait *w);

/** base_is_for() - is the base that @w has got the one for @shell? */
bool base_is_for(const struct base_wait *w, const struct instance *shell);

/** base_pump() - there may be a shell. */
void base_pump(void);
/** base_on_shell() - HELLO arrived: the first one of a kernel guest tells which bases are outdated.
 */
void base_on_shell(const struct instance *shell);

#endif
