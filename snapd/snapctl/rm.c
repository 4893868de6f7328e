/* SPDX-License-Identifier: Apache-2.0 */
/* rm.c - snapctl rm: delete a function with all its versions and snapshots */
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
		snapctl_option(s, &command_rm, c);
	if (argc - optind != 1 || !snapctl_name_ok(argv[optind]))
		snapctl_usage_error(&command_rm, "give the name of one function");
	snprintf(path, sizeof(path), API_FUNCTIONS "/%s", argv[optind]);
	if (!snapctl_call(s, NULL, "DELETE", path, NULL, 0, NULL))
		return 1;
	if (s->json)
		printf("{\"Deleted\": \"%s\"}\n", argv[optind]);
	else
		printf("deleted %s\n", argv[optind]);
	return 0;
}

const struct subcommand command_rm = {
	.name = "rm",
	.summary = "delete a function, its versions and their snapshots",
	.usage = "Usage: snapctl rm NAME [OPTION]...\n\n"
		 "Delete function NAME with all versions and snapshots. Running invocations "
		 "end.\n\n" SNAPCTL_COMMON_HELP "\nExample:\n"
		 "  snapctl rm hello\n",
	.run = run,
};
