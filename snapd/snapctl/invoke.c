/* SPDX-License-Identifier: Apache-2.0 */
/* invoke.c - snapctl invoke: send an event, print the result */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "snapd/snapctl/snapctl.h"

static const struct option options[] = {
	COMMON_OPTIONS,
	{"version", required_argument, NULL, 'v'},
	{"start", required_argument, NULL, 's'},
	{"quiet", no_argument, NULL, 'q'},
	{0},
};

static bool start_ok(const char *start)
{
	return !strcmp(start, "warm") || !strcmp(start, "resident") || !strcmp(start, "cold") ||
	       !strcmp(start, "boot");
}

static const char *header_or(const struct http_reply *r, const char *name, const char *other)
{
	const char *value = http_reply_header(r, name);

	return value ? value : other;
}

/** Where the time went, on stderr: stdout is the function's result alone. */
static void print_timing(const struct snapctl *s, double elapsed_ms)
{
	const struct http_reply *r = &s->reply;

	fprintf(stderr, "%s start, %.2f ms", header_or(r, "x-quickthaw-start", "unknown"),
		elapsed_ms);
	if (http_reply_header(r, "x-quickthaw-faults"))
		fprintf(stderr, ", %s page faults, %s bytes read",
			http_reply_header(r, "x-quickthaw-faults"),
			header_or(r, "x-quickthaw-bytes-read", "0"));
	fprintf(stderr, "\n");
}

static int print_result(struct snapctl *s, double elapsed_ms, bool quiet)
{
	const char *error = http_reply_header(&s->reply, "x-amz-function-error");

	if (s->json)
		printf("{\"StatusCode\": %ld, \"FunctionError\": %s%s%s, \"Start\": \"%s\", "
		       "\"ElapsedMs\": %.3f, \"Payload\": %s}\n",
		       s->reply.status, error ? "\"" : "", error ? error : "null",
		       error ? "\"" : "", header_or(&s->reply, "x-quickthaw-start", "unknown"),
		       elapsed_ms, s->reply.body_bytes ? s->reply.body : "null");
	else
		printf("%s\n", s->reply.body ? s->reply.body : "");
	if (!quiet && !s->json)
		print_timing(s, elapsed_ms);
	if (error)
		fprintf(stderr, "snapctl: the function failed (%s); snapctl logs shows more\n",
			error);
	return error ? 1 : 0;
}

static int run(struct snapctl *s, int argc, char **argv)
{
	const char *version = NULL, *start = NULL, *headers[2] = {NULL, NULL};
	char path[320], start_header[64];
	bool quiet = false, ok;
	uint64_t begin_ns;
	size_t n = 0;
	char *payload;
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'v')
			version = optarg;
		else if (c == 's')
			start = optarg;
		else if (c == 'q')
			quiet = true;
		else
			snapctl_option(s, &command_invoke, c);
	}
	if (argc - optind < 1 || argc - optind > 2 || !snapctl_name_ok(argv[optind]))
		snapctl_usage_error(&command_invoke, "give a function's name and an event");
	if (start && !start_ok(start))
		snapctl_usage_error(&command_invoke, "--start %s: warm, resident, cold or boot",
				    start);
	payload = snapctl_read_payload(&command_invoke,
				       argc - optind == 2 ? argv[optind + 1] : "{}", &n);
	snprintf(path, sizeof(path), API_FUNCTIONS "/%s/invocations%s%s", argv[optind],
		 version ? "?Qualifier=" : "", version ? version : "");
	if (start) {
		snprintf(start_header, sizeof(start_header), "X-Quickthaw-Start: %s", start);
		headers[0] = start_header;
	}
	begin_ns = clock_mono_ns();
	ok = snapctl_call(s, "invoking", "POST", path, payload, n, headers);
	free(payload);
	return ok ? print_result(s, (double)(clock_mono_ns() - begin_ns) / 1e6, quiet) : 1;
}

const struct subcommand command_invoke = {
	.name = "invoke",
	.summary = "send an event to a function and print its result",
	.usage =
		"Usage: snapctl invoke NAME [JSON|@FILE|-] [OPTION]...\n\n"
		"Send an event (default {}) to function NAME. The result goes to standard output, "
		"how\n"
		"it was started and how long it took to standard error.\n\n"
		"  --version N    which published version (default: the newest, or the code as it\n"
		"                 is if none was published)\n"
		"  --start KIND   force a start: warm, resident, cold or boot; for measuring\n"
		"  --quiet        the result only\n" SNAPCTL_COMMON_HELP "\n"
		"Example:\n"
		"  snapctl invoke hello '{\"name\": \"you\"}'\n",
	.run = run,
};
