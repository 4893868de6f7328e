/* SPDX-License-Identifier: Apache-2.0 */
/* warm.c - snapctl warm: load a version's memory before somebody waits for it */
#include <stdio.h>
#include <string.h>

#include "snapd/snapctl/snapctl.h"

static const struct option options[] = {
	COMMON_OPTIONS,
	{"all", no_argument, NULL, 'a'},
	{0},
};

static double number(const json_t *root, const char *key)
{
	return json_number_value(json_object_get(root, key));
}

static void print_result(const json_t *root)
{
	printf("%s:%s: %.0f of %.0f pages are in memory, an invocation would be a %s (about %.1f "
	       "ms more than warm)\n",
	       json_text(root, "FunctionName"), json_text(root, "Version"),
	       number(root, "ResidentPages"), number(root, "SnapshotPages"),
	       json_text(root, "Start"), number(root, "StartUs") / 1000);
}

/** NAME or NAME:VERSION. */
static bool target_ok(const char *target)
{
	char name[128];
	size_t n = strcspn(target, ":");

	if (n >= sizeof(name))
		return false;
	memcpy(name, target, n);
	name[n] = '\0';
	return snapctl_name_ok(name) && (!target[n] || target[n + 1]);
}

static int run(struct snapctl *s, int argc, char **argv)
{
	char path[384], doing[160];
	const char *all = "";
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'a')
			all = "?Whole=true";
		else
			snapctl_option(s, &command_warm, c);
	}
	if (argc - optind != 1 || !target_ok(argv[optind]))
		snapctl_usage_error(&command_warm,
				    "give the name of one function, NAME or NAME:VERSION");
	snprintf(path, sizeof(path), "/quickthaw/v1/functions/%.200s/warm%s", argv[optind], all);
	snprintf(doing, sizeof(doing), "loading %.100s", argv[optind]);
	if (!snapctl_call(s, doing, "POST", path, "", 0, NULL))
		return 1;
	return snapctl_show_reply(s, print_result);
}

const struct subcommand command_warm = {
	.name = "warm",
	.summary = "load a version's memory before somebody waits for it",
	.usage =
		"Usage: snapctl warm NAME[:VERSION] [OPTION]...\n\n"
		"Bring the memory that invocations of a version touch into this host's memory, so "
		"that\n"
		"the next one restores without reading the snapshot. No instance is made. It stays "
		"until\n"
		"memory is short.\n\n"
		"  --all          all of the snapshot, not only what invocations "
		"touch\n" SNAPCTL_COMMON_HELP "\n"
		"Example:\n"
		"  snapctl warm hello\n",
	.run = run,
};
