/* SPDX-License-Identifier: Apache-2.0 */
/* failure_log.c - the newest invocations that failed, for people who look at this snapd */
#include "snapd/failure_log.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/util.h"

enum { MESSAGE_MAX = 200, PARSED_MAX = 4096 };

struct failure {
	uint64_t real_ns; /**< 0: no entry */
	char function[FUNCTION_NAME_MAX + 1];
	char version[16];
	char request_id[REQUEST_ID_CHARS + 1];
	char message[MESSAGE_MAX + 1];
	enum invocation_failure kind;
	enum start_kind start;
};

static struct failure entries[FAILURE_LOG_ENTRIES];
static unsigned next;

/** As much as there is room for, and no half of a character. */
static void copy_utf8(char to[MESSAGE_MAX + 1], const char *text)
{
	size_t n = strlen(text);

	if (n > MESSAGE_MAX) {
		n = MESSAGE_MAX;
		while (n && ((unsigned char)text[n] & 0xc0) == 0x80)
			n--;
	}
	memcpy(to, text, n);
	to[n] = '\0';
}

/** A function may send anything for an error: what is no text would make no JSON later. */
static void copy_raw(char to[MESSAGE_MAX + 1], const char *text, size_t n)
{
	n = MIN(n, (size_t)MESSAGE_MAX);
	for (size_t i = 0; i < n; i++)
		to[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	to[n] = '\0';
}

/** The message in {"errorMessage": ...} of a function or {"Message": ...} of the service. */
static void copy_message(char to[MESSAGE_MAX + 1], const char *payload, size_t n)
{
	json_t *root = n <= PARSED_MAX ? json_loadb(payload, n, 0, NULL) : NULL;
	const char *text = json_string_value(json_object_get(root, "errorMessage"));

	if (!text)
		text = json_string_value(json_object_get(root, "Message"));
	if (text)
		copy_utf8(to, text);
	else
		copy_raw(to, payload, n);
	json_decref(root);
}

void failure_log_add(const struct version *v, const char *request_id,
		     const struct invocation_outcome *out)
{
	struct failure *f = &entries[next];

	next = (next + 1) % FAILURE_LOG_ENTRIES;
	*f = (struct failure){
		.real_ns = clock_real_ns(),
		.kind = out->failure,
		.start = out->start,
	};
	snprintf(f->function, sizeof(f->function), "%s", v->function->name);
	version_name(v, f->version);
	snprintf(f->request_id, sizeof(f->request_id), "%s", request_id);
	copy_message(f->message, out->payload, out->payload_bytes);
}

json_t *failure_log_json(void)
{
	json_t *list = json_array();

	for (unsigned i = 1; i <= FAILURE_LOG_ENTRIES; i++) {
		const struct failure *f =
			&entries[(next + FAILURE_LOG_ENTRIES - i) % FAILURE_LOG_ENTRIES];

		if (f->real_ns)
			json_array_append_new(
				list, json_pack("{s:f, s:s, s:s, s:s, s:s, s:s, s:s}", "Time",
						(double)f->real_ns / NSEC_PER_SEC, "FunctionName",
						f->function, "Version", f->version, "RequestId",
						f->request_id, "Kind",
						invocation_failure_names[f->kind], "Start",
						start_kind_names[f->start], "Message", f->message));
	}
	return list;
}
