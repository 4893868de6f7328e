/* SPDX-License-Identifier: Apache-2.0 */
/* list.c - snapctl list: functions, or the versions of one */
#include <stdio.h>
#include <stdlib.h>

#include "snapd/snapctl/snapctl.h"

static const struct option options[] = {
	COMMON_OPTIONS,
	{0},
};

static void print_table(const json_t *rows)
{
	const json_t *row;
	size_t i;

	printf("%-24s %-9s %-12s %-8s %-20s %6s %7s %s\n", "NAME", "VERSION", "RUNTIME", "GUEST",
	       "HANDLER", "MiB", "TIMEOUT", "STATE");
	json_array_foreach(rows, i, row) printf(
		"%-24s %-9s %-12s %-8s %-20s %6lld %5llds  %s\n", json_text(row, "FunctionName"),
		json_text(row, "Version"), json_text(row, "Runtime"), json_text(row, "GuestKind"),
		json_text(row, "Handler"),
		(long long)json_integer_value(json_object_get(row, "MemorySize")),
		(long long)json_integer_value(json_object_get(row, "Timeout")),
		json_text(row, "State"));
}

/** The lists of all pages in one, a new reference; NULL after an error message. */
static json_t *all_pages(struct snapctl *s, const char *path, const char *name)
{
	json_t *rows = json_array();
	char marker[256] = "", page[600];

	for (;;) {
		json_t *root = NULL;
		bool more;

		snprintf(page, sizeof(page), "%s%s%s", path, *marker ? "?Marker=" : "", marker);
		if (snapctl_call(s, NULL, "GET", page, NULL, 0, NULL))
			root = snapctl_reply_json(s);
		if (!root || json_array_extend(rows, json_object_get(root, name))) {
			json_decref(root);
			json_decref(rows);
			return NULL;
		}
		/* A marker is a name and a number: nothing to be escaped. */
		more = json_object_get(root, "NextMarker");
		snprintf(marker, sizeof(marker), "%s", json_text(root, "NextMarker"));
		json_decref(root);
		if (!more)
			return rows;
	}
}

static void print_json(json_t *rows, const char *name)
{
	json_t *root = json_pack("{s:O}", name, rows);
	char *text = json_dumps(root, JSON_COMPACT);

	printf("%s\n", text ? text : "");
	free(text);
	json_decref(root);
}

static int run(struct snapctl *s, int argc, char **argv)
{
	char path[256];
	json_t *rows;
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
		snapctl_option(s, &command_list, c);
	if (argc - optind > 1 || (argc > optind && !snapctl_name_ok(argv[optind])))
		snapctl_usage_error(&command_list, "give no name, or one function's");
	if (argc > optind)
		snprintf(path, sizeof(path), API_FUNCTIONS "/%s/versions", argv[optind]);
	else
		snprintf(path, sizeof(path), API_FUNCTIONS);
	rows = all_pages(s, path, argc > optind ? "Versions" : "Functions");
	if (!rows)
		return 1;
	if (s->json)
		print_json(rows, argc > optind ? "Versions" : "Functions");
	else if (!json_array_size(rows))
		printf("nothing is deployed yet: snapctl deploy NAME --dir DIR\n");
	else
		print_table(rows);
	json_decref(rows);
	return 0;
}

const struct subcommand command_list = {
	.name = "list",
	.summary = "list functions, or the versions of one",
	.usage = "Usage: snapctl list [NAME] [OPTION]...\n\n"
		 "List all functions, or the versions of function NAME.\n\n" SNAPCTL_COMMON_HELP
		 "\nExample:\n"
		 "  snapctl list\n"
		 "  snapctl list hello --json\n",
	.run = run,
};
