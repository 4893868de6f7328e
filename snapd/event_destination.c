/* SPDX-License-Identifier: Apache-2.0 */
/* event_destination.c - where the record of an event goes when it is over */
#include "snapd/event_destination.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "snapd/event_store.h"

/* ---- what a destination says ----------------------------------------------------------------- */

static const char file_scheme[] = "file://";
static const char arn_scheme[] = "arn:";

static int parse_file(const char *path, const char *dir, struct event_target *t, const char **why)
{
	size_t n = strlen(dir);

	if (!n) {
		*why = "files are no destinations here: start snapd with --destination-dir DIR";
		return -EINVAL;
	}
	while (n > 1 && dir[n - 1] == '/')
		n--;
	if (strncmp(path, dir, n) || path[n] != '/' || !path[n + 1] ||
	    path[strlen(path) - 1] == '/' || strstr(path, "/../") || strstr(path, "//")) {
		*why = "a file as a destination must be below snapd's --destination-dir";
		return -EINVAL;
	}
	if (snprintf(t->path, sizeof(t->path), "%s", path + n + 1) >= (int)sizeof(t->path)) {
		*why = "the path of the file is too long";
		return -EINVAL;
	}
	t->kind = EVENT_TARGET_FILE;
	return 0;
}

int event_target_parse(const char *text, const char *allowed_dir, struct event_target *ret,
		       const char **ret_why)
{
	*ret = (struct event_target){.kind = EVENT_TARGET_NONE};
	if (!*text)
		return 0;
	if (!strncmp(text, file_scheme, strlen(file_scheme)))
		return parse_file(text + strlen(file_scheme), allowed_dir, ret, ret_why);
	if (!strncmp(text, arn_scheme, strlen(arn_scheme)) &&
	    !function_ref_parse(text, strlen(text), &ret->function)) {
		ret->kind = EVENT_TARGET_FUNCTION;
		return 0;
	}
	*ret_why =
		"a destination is the ARN of a function or file:///PATH; queues, topics, buckets "
		"and buses are not supported";
	return -EINVAL;
}

/* ---- the record ------------------------------------------------------------------------------ */

/** Text that is no JSON, as a JSON string; bytes of a text that is not UTF-8 become '?'. */
static char *string_json(const char *text, size_t n)
{
	json_t *string = json_stringn(text, n);
	char *json;

	if (!string) {
		CLEANUP_FREE char *ascii = malloc(n + 1);

		for (size_t i = 0; ascii && i < n; i++)
			ascii[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
		string = ascii ? json_stringn(ascii, n) : NULL;
	}
	json = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
	json_decref(string);
	return json;
}

/** A payload as part of a line of JSON. */
static int embed(struct event_store *store, const void *text, size_t n, char **ret_json)
{
	json_t *utf8 = n ? json_stringn(text, n) : NULL;
	int ret = utf8 ? event_store_json(store, text, n, ret_json) : -EINVAL;

	json_decref(utf8);
	if (ret != -EINVAL)
		return ret;
	*ret_json = n ? string_json(text, n) : strdup("null");
	return *ret_json ? 0 : -ENOMEM;
}

static void print_time(FILE *out, uint64_t ms)
{
	time_t seconds = (time_t)(ms / 1000);
	struct tm tm;
	char text[32];

	gmtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	fprintf(out, "%s.%03uZ", text, (unsigned)(ms % 1000));
}

/* Names and ids consist of characters that JSON takes as they are. */
static void print_report(FILE *out, const struct event_report *r, const char *payload,
			 const char *response)
{
	fputs("{\"version\":\"1.0\",\"timestamp\":\"", out);
	print_time(out, r->time_ms);
	fprintf(out,
		"\",\"requestContext\":{\"requestId\":\"%s\",\"functionArn\":\"%s\","
		"\"condition\":\"%s\",\"approximateInvokeCount\":%u},\"requestPayload\":%s",
		r->request_id, r->function_arn, event_condition_names[r->condition],
		r->invoke_count, payload);
	if (r->status) {
		fprintf(out, ",\"responseContext\":{\"statusCode\":%u", r->status);
		if (*r->executed_version)
			fprintf(out, ",\"executedVersion\":\"%s\"", r->executed_version);
		fputs(r->function_error ? ",\"functionError\":\"Unhandled\"}" : "}", out);
	}
	if (response)
		fprintf(out, ",\"responsePayload\":%s", response);
	fputc('}', out);
}

/** What a dead letter is: the event and nothing else. */
static int payload_text(struct event_store *store, const struct event_report *report,
			char **ret_text, size_t *ret_n)
{
	int ret = embed(store, report->payload, report->payload_bytes, ret_text);

	*ret_n = ret ? 0 : strlen(*ret_text);
	return ret;
}

int event_report_text(struct event_store *store, const struct event_report *report, char **ret_text,
		      size_t *ret_n)
{
	CLEANUP_FREE char *payload = NULL;
	CLEANUP_FREE char *response = NULL;
	CLEANUP_FREE char *text = NULL;
	FILE *out;
	size_t n = 0;
	int ret;

	if (report->payload_only)
		return payload_text(store, report, ret_text, ret_n);
	ret = embed(store, report->payload, report->payload_bytes, &payload);

	if (!ret && report->response)
		ret = embed(store, report->response, report->response_bytes, &response);
	if (ret)
		return ret;
	out = open_memstream(&text, &n);
	if (!out)
		return -ENOMEM;
	print_report(out, report, payload, response);
	if (fclose(out))
		return -ENOMEM;
	*ret_text = steal_ptr(text);
	*ret_n = n;
	return 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int open_beneath(int dir_fd, const char *path)
{
	/* O_NONBLOCK: a FIFO is refused, not waited for. */
	const struct open_how how = {
		.flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
		.mode = 0600,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	int fd = (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

int event_file_append(int dir_fd, const char *path, const char *text, size_t n)
{
	CLEANUP_FD int fd = open_beneath(dir_fd, path);
	CLEANUP_FREE char *line = NULL;
	struct stat st;
	int ret;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	line = malloc(n + 1);
	if (!line)
		return -ENOMEM;
	memcpy(line, text, n);
	line[n] = '\n';
	/* One write: others may append to the same file. */
	ret = write_full(fd, line, n + 1);
	if (!ret && fdatasync(fd))
		ret = -errno;
	if (ret && ftruncate(fd, st.st_size)) /* half a line would spoil the next one */
		ret = -errno;
	return ret;
}
