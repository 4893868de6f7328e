/* SPDX-License-Identifier: Apache-2.0 */
/* recapture.h - make snapshots again that are stale or cannot be restored, in the background */
#ifndef QUICKTHAW_SNAPD_RECAPTURE_H
#define QUICKTHAW_SNAPD_RECAPTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "snapd/function.h"
#include "snapd/session.h"

/** struct recapture_params - @check_ns: how often to look at the runtime's files; 0: at start only
 */
struct recapture_params {
	const char *runtime_dir;
	uint64_t check_ns;
};

/** recapture_init() - look at the runtime's files. Blocks: for the start. Return: 0 or -errno. */
int recapture_init(const struct recapture_params *params);

/** recapture_origin() - what a snapshot of @v would be made with, if it boots in @inst now. */
void recapture_origin(const struct instance *inst, const struct version *v, struct origin *ret);

/** recapture_root_origin() - the same of all kernel guests with this root image, from 0 on. Return:
 * false: there is none of that number. */
bool recapture_root_origin(const struct instance *shell, unsigned root, struct origin *ret);

/**
 * recapture_replace() - @v's snapshot cannot be restored, or is not there: from here on its
 * invocations boot, until it was made again, as soon as there is time for that.
 */
void recapture_replace(struct version *v, const char *why);

/** recapture_on_shell() - a shell is ready, which tells what snapshots would be made with. */
void recapture_on_shell(const struct instance *inst);
/** recapture_turn() - once per turn of the loop. */
void recapture_turn(uint64_t now_ns);
uint64_t recapture_next_ns(void);

#endif
