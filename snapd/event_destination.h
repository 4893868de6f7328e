/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_destination.h - where the record of an event goes when it is over
 *
 * A destination is the ARN of a function of this snapd, which is invoked with the record as its
 * event, or, as an extension, a file: file:///PATH below snapd's --destination-dir. The record is
 * Lambda's (developer guide, "Capturing records of Lambda asynchronous invocations").
 */
#ifndef QUICKTHAW_SNAPD_EVENT_DESTINATION_H
#define QUICKTHAW_SNAPD_EVENT_DESTINATION_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapd/event_policy.h"
#include "snapd/function_name.h"

struct event_store;

enum event_target_kind { EVENT_TARGET_NONE, EVENT_TARGET_FILE, EVENT_TARGET_FUNCTION };

/**
 * struct event_target - a destination.
 * @path: of a file, relative to the directory that is allowed
 */
struct event_target {
	enum event_target_kind kind;
	char path[PATH_MAX];
	struct function_ref function;
};

/**
 * event_target_parse() - understand a destination.
 * @allowed_dir: absolute path of the directory that files may be in, "" for none
 * @ret_why: set on -EINVAL: what is wrong, for the caller
 * Return: 0 or -EINVAL.
 */
int event_target_parse(const char *text, const char *allowed_dir, struct event_target *ret,
		       const char **ret_why);

/**
 * struct event_report - what a record tells. All the caller's.
 * @invoke_count: attempts that reached the function
 * @status: of the last attempt as Invoke would have told it, 0: there was none that said anything
 * @executed_version: "" where nothing was run
 * @response: what the function returned, or its error; NULL for nothing
 * @payload_only: it is a dead letter, which tells nothing but the event
 */
struct event_report {
	uint64_t time_ms;
	const char *request_id;
	const char *function_arn;
	enum event_condition condition;
	uint32_t invoke_count;
	unsigned status;
	const char *executed_version;
	bool function_error;
	bool payload_only;
	const void *payload, *response;
	size_t payload_bytes, response_bytes;
};

/**
 * event_report_text() - the record as one line of JSON, without its end of line.
 * Payloads that are no JSON become strings. @store: its SQLite shortens them.
 * @ret: malloc'ed, NUL-terminated
 * Return: 0, -ENOMEM or an error of the store.
 */
int event_report_text(struct event_store *store, const struct event_report *report, char **ret,
		      size_t *ret_n);

/**
 * event_file_append() - add one line to a file and wait until it is on the disk. Makes the file
 * (0600), not its directories; follows no symbolic link, and leaves @dir_fd by none. Blocks.
 * Return: 0, -EINVAL when it is no regular file, or -errno; on error the file is as it was.
 */
int event_file_append(int dir_fd, const char *path, const char *text, size_t n);

#endif
