/* SPDX-License-Identifier: Apache-2.0 */
/* handover.h - what a snapd leaves to the next one: its instances and templates */
#ifndef QUICKTHAW_SNAPD_HANDOVER_H
#define QUICKTHAW_SNAPD_HANDOVER_H

#include <stdbool.h>

#include "snapd/session.h"

/**
 * handover_find() - is there a store for descriptors, and has a snapd before this one left some?
 * After service_manager_init() and before sandbox_init(), which goes on in its cgroups then.
 * Blocks for up to 2 s.
 */
void handover_find(void);

/** handover_is_kept() - do instances outlive this process? */
bool handover_is_kept(void);

/**
 * handover_begin() - keep all instances and templates from now on, and go on with those that were
 * left. What cannot be taken up is ended, with a line that says why. When all else is ready, before
 * the first request. Blocks: it opens snapshots.
 * @shell: (as in struct session_hooks) told of each shell that was left
 */
void handover_begin(void (*shell)(struct instance *inst));

/** handover_changed() - struct session_hooks.changed. Off the fault path; a memory write and, once
 * in the life of an instance, a message each for keeping and for dropping it. */
void handover_changed(struct instance *inst);

/** handover_leave() - at the end: what could not be sent yet. The instances stay as they are. */
void handover_leave(void);

#endif
