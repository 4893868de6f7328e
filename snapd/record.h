/* SPDX-License-Identifier: Apache-2.0 */
/* record.h - learn the working set of a version from its invocations, and reorder its snapshot */
#ifndef QUICKTHAW_SNAPD_RECORD_H
#define QUICKTHAW_SNAPD_RECORD_H

#include <stdbool.h>

#include "snapd/session.h"

/**
 * record_wanted() - should the next restore of @v record? Nobody does, and either its snapshot has
 * no working set yet, and its template is empty, so that every first touch will be seen; or it is a
 * kernel guest's, does not know which pages are written, and all of it is resident.
 */
bool record_wanted(const struct version *v);
/** record_begin() - @v's template records from now on. Return: 0 or -ENOMEM. */
int record_begin(struct version *v);
/** record_finish() - its instance has answered and told which pages it touched (@fd as in
 * PROTO_WORKING_SET): the worker rewrites the snapshot, then the template goes on with that. */
void record_finish(struct version *v, int fd);
/** record_abort() - the recording is of no use: the next restore starts again. */
void record_abort(struct version *v);

#endif
