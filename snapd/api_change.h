/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_change.h - change what is set for a function: one change at a time, on disk before the reply
 *
 * A change edits a copy, the worker writes the copy, and only then it takes the place of what was.
 * So a refused or failed change has changed nothing, and what was answered survives a kill -9.
 * Changes of one function wait for each other, in the order in which they came.
 */
#ifndef QUICKTHAW_SNAPD_API_CHANGE_H
#define QUICKTHAW_SNAPD_API_CHANGE_H

#include "snapd/api.h"

/**
 * struct api_edit - what an edit sees.
 * @body: of the request, an object
 * @control: the copy to be edited
 * @error: filled in when it refuses
 * @remove_version: for it to set: a version that goes with this change; 0: none
 * @reply: for it to set, a new reference; NULL: an empty reply
 */
struct api_edit {
	const struct api_call *call;
	const json_t *body;
	struct function_control *control;
	struct field_error error;
	uint32_t remove_version;
	json_t *reply;
};

/** typedef api_edit_fn - Return: 0, or a negative value: nothing is changed, the error is replied.
 */
typedef int (*api_edit_fn)(struct api_edit *edit);

/** api_change() - @status: of the reply when all went well. Replies, now or later. */
void api_change(const struct api_call *call, api_edit_fn edit, unsigned status);

/** api_edit_target() - the call's qualifier, or "$LATEST" without one. Return: NULL with the error
 * filled in when the function has no such version or alias. */
const char *api_edit_target(struct api_edit *edit);
/** api_edit_revision() - does the body's RevisionId, if there is one, still hold? Return: 0, or
 * -EINVAL (412, PreconditionFailedException). */
int api_edit_revision(const json_t *body, const char *revision, struct field_error *e);
/** api_edit_insert() - @entry goes into @list, or is the caller's still. Return: 0 or -EINVAL. */
int api_edit_insert(struct api_edit *edit, struct qualified **list, struct qualified *entry);

#endif
