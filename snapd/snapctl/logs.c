/* SPDX-License-Identifier: Apache-2.0 */
/* logs.c - snapctl logs: what a function printed, and the START, END and REPORT lines */
#include <stdio.h>

#include "snapd/snapctl/snapctl.h"

static const struct option options[] = {
	COMMON_OPTIONS,
	{0},
};

static int run(struct snapctl *s, int argc, char **argv)
{
	char path[256];
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
		snapctl_option(s, &command_logs, c);
	if (argc - optind != 1 || !snapctl_name_ok(argv[optind]))
		snapctl_usage_error(&command_logs, "give the name of one function");
	snprintf(path, sizeof(path), "/quickthaw/v1/functions/%s/logs", argv[optind]);
	if (!snapctl_call(s, NULL, "GET", path, NULL, 0, NULL))
		return 1;
	if (s->json) {
		json_t *lines =
			json_stringn(s->reply.body ? s->reply.body : "", s->reply.body_bytes);
		json_t *root = json_pack("{s:o}", "Log", lines ? lines : json_string(""));

		json_dumpf(root, stdout, JSON_COMPACT);
		printf("\n");
		json_decref(root);
		return 0;
	}
	fwrite(s->reply.body, 1, s->reply.body_bytes, stdout);
	return 0;
}

const struct subcommand command_logs = {
	.name = "logs",
	.summary = "show what a function logged",
	.usage = "Usage: snapctl logs NAME [OPTION]...\n\n"
		 "Print the newest log lines of function NAME: its output, and for each invocation "
		 "the\n"
		 "START, END and REPORT lines with its duration and memory.\n\n" SNAPCTL_COMMON_HELP
		 "\nExample:\n"
		 "  snapctl logs hello | tail -n 20\n",
	.run = run,
};
