/* SPDX-License-Identifier: Apache-2.0 */
/* populate.h - a working set as runs of pages, for RESTORE */
#ifndef QUICKTHAW_SNAPD_POPULATE_H
#define QUICKTHAW_SNAPD_POPULATE_H

#include <stddef.h>
#include <stdint.h>

#include "include/snapd_proto.h"
#include "snapshot-format/snapshot.h"

/**
 * populate_runs() - join neighbours of one kind: first what was written, then what was only
 * read, each in order of first touch.
 * Neighbours of a page come with it, whenever they were touched themselves.
 * @ret_runs: malloc'ed, the caller's; NULL when there are none
 * Return: 0 or -ENOMEM.
 */
int populate_runs(const struct snapshot_ws_entry *ws, size_t count,
		  struct proto_populate **ret_runs, uint32_t *ret_count);

#endif
