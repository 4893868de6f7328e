/* SPDX-License-Identifier: Apache-2.0 */
/* events.c - snapctl events: the queue of asynchronous invocations */
#include <stdio.h>

#include "snapd/snapctl/snapctl.h"

static const struct option options[] = {
	COMMON_OPTIONS,
	{0},
};

static long long number(const json_t *row, const char *key)
{
	return (long long)json_integer_value(json_object_get(row, key));
}

static void print_row(const char *name, const json_t *row)
{
	printf("%-24s %7lld %9lld %9.0fs %9lld %9lld %8lld %8lld %6lld\n", name,
	       number(row, "Depth"), number(row, "InFlight"),
	       json_number_value(json_object_get(row, "OldestAgeSeconds")), number(row, "Accepted"),
	       number(row, "Succeeded"), number(row, "Retried"), number(row, "SetBack"),
	       number(row, "RetriesExhausted") + number(row, "EventAgeExceeded") +
		       number(row, "Lost"));
}

static void print_table(const json_t *root)
{
	const json_t *row;
	size_t i;

	printf("%-24s %7s %9s %10s %9s %9s %8s %8s %6s\n", "FUNCTION", "QUEUED", "IN FLIGHT",
	       "OLDEST", "ACCEPTED", "SUCCEEDED", "RETRIED", "SET BACK", "DEAD");
	json_array_foreach(json_object_get(root, "Functions"), i, row)
		print_row(json_text(row, "FunctionName"), row);
	print_row("(all)", root);
	if (number(root, "Refused"))
		printf("%lld were refused because the queue was full\n", number(root, "Refused"));
	if (number(root, "DeliveryFailures"))
		printf("%lld records did not reach their destination; snapd's log says why\n",
		       number(root, "DeliveryFailures"));
}

static int run(struct snapctl *s, int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
		snapctl_option(s, &command_events, c);
	if (argc > optind)
		snapctl_usage_error(&command_events, "it takes no names");
	if (!snapctl_call(s, NULL, "GET", "/quickthaw/v1/events", NULL, 0, NULL))
		return 1;
	return snapctl_show_reply(s, print_table);
}

const struct subcommand command_events = {
	.name = "events",
	.summary = "show the queue of asynchronous invocations",
	.usage = "Usage: snapctl events [OPTION]...\n\n"
		 "Show how many asynchronous invocations wait and run, how old the oldest is,\n"
		 "and what became of those that snapd has accepted since it "
		 "started.\n\n" SNAPCTL_COMMON_HELP "\nExample:\n"
		 "  snapctl events\n"
		 "  snapctl events --json\n",
	.run = run,
};
