/* SPDX-License-Identifier: Apache-2.0 */
/* publish.c - snapctl publish: start a function once and capture it */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapd/snapctl/snapctl.h"

static const struct option options[] = {
	COMMON_OPTIONS,
	{"train", required_argument, NULL, 't'},
	{0},
};

static json_t *request_body(const char *train, size_t train_bytes)
{
	/* Who says so wants a snapshot of what is there now: a newer Python, for example. */
	json_t *body = json_pack("{s:b}", "EvenIfUnchanged", 1), *payload;
	json_error_t err;

	if (!train)
		return body;
	payload = json_loadb(train, train_bytes, JSON_DECODE_ANY, &err);
	if (!payload)
		snapctl_usage_error(&command_publish, "--train: not JSON: %s at line %d", err.text,
				    err.line);
	json_object_set_new(body, "TrainingPayload", payload);
	return body;
}

static void print_result(const json_t *root)
{
	const json_t *snapshot = json_object_get(root, "Snapshot");

	printf("published %s:%s\n", json_text(root, "FunctionName"), json_text(root, "Version"));
	if (snapshot)
		printf("  start %.0f ms, capture %.0f ms, %.1f MiB in use -> %.1f MiB file\n",
		       json_number_value(json_object_get(snapshot, "BootMs")),
		       json_number_value(json_object_get(snapshot, "CaptureMs")),
		       json_number_value(json_object_get(snapshot, "ResidentBytes")) / 1048576,
		       json_number_value(json_object_get(snapshot, "FileBytes")) / 1048576);
}

static int run(struct snapctl *s, int argc, char **argv)
{
	char path[256], doing[128];
	char *train = NULL;
	size_t train_bytes = 0;
	bool ok;
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 't')
			train = snapctl_read_payload(&command_publish, optarg, &train_bytes);
		else
			snapctl_option(s, &command_publish, c);
	}
	if (argc - optind != 1 || !snapctl_name_ok(argv[optind]))
		snapctl_usage_error(&command_publish, "give the name of one function");
	snprintf(path, sizeof(path), API_FUNCTIONS "/%s/versions", argv[optind]);
	snprintf(doing, sizeof(doing), "publishing %s: start, then capture", argv[optind]);
	ok = snapctl_call_json(s, doing, "POST", path, request_body(train, train_bytes));
	free(train);
	if (!ok)
		return 1;
	return snapctl_show_reply(s, print_result);
}

const struct subcommand command_publish = {
	.name = "publish",
	.summary = "start a function once and capture it: the next version",
	.usage = "Usage: snapctl publish NAME [OPTION]...\n\n"
		 "Start function NAME, let it initialise, and capture it into a snapshot. "
		 "Invocations\n"
		 "of the new version start from that snapshot.\n\n"
		 "  --train JSON|@FILE|-  invoke the new version once with this event, to record "
		 "which\n"
		 "                        memory an invocation needs (otherwise the first "
		 "invocation\n"
		 "                        is recorded)\n" SNAPCTL_COMMON_HELP "\n"
		 "Example:\n"
		 "  snapctl publish hello --train @examples/hello-python/event.json\n",
	.run = run,
};
