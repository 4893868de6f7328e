/* SPDX-License-Identifier: Apache-2.0 */
/* deploy.c - snapctl deploy: create or replace a function from a directory */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "snapd/snapctl/snapctl.h"

struct deploy {
	const char *dir;
	const char *handler;
	const char *runtime;
	int timeout_s;
	int memory_mib;
	json_t *env;
	bool publish;
};

static int parse_number(const char *option, const char *text, long min, long max)
{
	char *end;
	long v = strtol(text, &end, 10);

	if (end == text || *end || v < min || v > max)
		snapctl_usage_error(&command_deploy, "%s %s: give a number from %ld to %ld", option,
				    text, min, max);
	return (int)v;
}

static void add_env(struct deploy *d, const char *text)
{
	const char *eq = strchr(text, '=');
	CLEANUP_FREE char *name = eq ? strndup(text, (size_t)(eq - text)) : NULL;

	if (!name || eq == text)
		snapctl_usage_error(&command_deploy, "--env %s: give NAME=VALUE", text);
	json_object_set_new(d->env, name, json_string(eq + 1));
}

static const struct option options[] = {
	COMMON_OPTIONS,
	{"dir", required_argument, NULL, 'd'},
	{"handler", required_argument, NULL, 'H'},
	{"runtime", required_argument, NULL, 'r'},
	{"timeout", required_argument, NULL, 't'},
	{"memory", required_argument, NULL, 'm'},
	{"env", required_argument, NULL, 'e'},
	{"publish", no_argument, NULL, 'p'},
	{0},
};

static void parse_option(struct snapctl *s, struct deploy *d, int c)
{
	switch (c) {
	case 'd':
		d->dir = optarg;
		break;
	case 'H':
		d->handler = optarg;
		break;
	case 'r':
		d->runtime = optarg;
		break;
	case 't':
		d->timeout_s = parse_number("--timeout", optarg, 1, 900);
		break;
	case 'm':
		d->memory_mib = parse_number("--memory", optarg, 64, 10240);
		break;
	case 'e':
		add_env(d, optarg);
		break;
	case 'p':
		d->publish = true;
		break;
	default:
		snapctl_option(s, &command_deploy, c);
	}
}

static json_t *request_body(const char *name, const struct deploy *d, const char *dir)
{
	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:{s:O}, s:{s:s}, s:b}", "FunctionName", name,
			 "Runtime", d->runtime, "Handler", d->handler, "Timeout", d->timeout_s,
			 "MemorySize", d->memory_mib, "Environment", "Variables", d->env, "Code",
			 "Directory", dir, "Publish", d->publish);
}

/** The function is there already: give it the settings, then the code. */
static bool replace(struct snapctl *s, const char *name, const struct deploy *d, const char *dir)
{
	char path[256];
	json_t *settings = request_body(name, d, dir);
	bool ok;

	json_object_del(settings, "FunctionName");
	json_object_del(settings, "Code");
	json_object_del(settings, "Publish");
	snprintf(path, sizeof(path), API_FUNCTIONS "/%s/configuration", name);
	ok = snapctl_call_json(s, NULL, "PUT", path, settings);
	snprintf(path, sizeof(path), API_FUNCTIONS "/%s/code", name);
	ok = ok &&
	     snapctl_call_json(s, "deploying", "PUT", path, json_pack("{s:s}", "Directory", dir));
	if (!ok || !d->publish)
		return ok;
	snprintf(path, sizeof(path), API_FUNCTIONS "/%s/versions", name);
	return snapctl_call_json(s, "publishing", "POST", path, json_object());
}

static bool exists(struct snapctl *s, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), API_FUNCTIONS "/%s", name);
	return snapctl_exists(s, path);
}

static int run(struct snapctl *s, int argc, char **argv)
{
	bool ok;
	struct deploy d = {.handler = "app.handler",
			   .runtime = "python3.11",
			   .timeout_s = 3,
			   .memory_mib = 128};
	CLEANUP_FREE char *dir = NULL;
	int c;

	d.env = json_object();
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
		parse_option(s, &d, c);
	if (argc - optind != 1 || !d.dir)
		snapctl_usage_error(&command_deploy, "give a function's name and --dir DIR");
	if (!snapctl_name_ok(argv[optind]))
		snapctl_usage_error(&command_deploy,
				    "%s: a name is 1 to 64 letters, digits, - and _", argv[optind]);
	dir = realpath(d.dir, NULL);
	if (!dir)
		snapctl_usage_error(&command_deploy, "--dir %s: no such directory", d.dir);
	if (exists(s, argv[optind]))
		ok = replace(s, argv[optind], &d, dir);
	else
		ok = snapctl_call_json(s, d.publish ? "deploying and publishing" : "deploying",
				       "POST", API_FUNCTIONS, request_body(argv[optind], &d, dir));
	json_decref(d.env);
	if (!ok)
		return 1;
	if (s->json)
		printf("%s\n", s->reply.body);
	else
		printf("deployed %s from %s (%s, %d MiB, %d s)\n", argv[optind], dir, d.runtime,
		       d.memory_mib, d.timeout_s);
	return 0;
}

const struct subcommand command_deploy = {
	.name = "deploy",
	.summary = "create a function from a directory, or replace its code",
	.usage = "Usage: snapctl deploy NAME --dir DIR [OPTION]...\n\n"
		 "Create function NAME from the code in DIR, which is copied; if there is one by "
		 "that\n"
		 "name, replace its code and settings. Published versions stay as they are.\n\n"
		 "  --dir DIR                  the function's code: app.py and what it imports\n"
		 "  --handler MODULE.FUNCTION  what to call (default app.handler)\n"
		 "  --runtime RUNTIME          default python3.11\n"
		 "  --memory MIB               memory limit, 64 to 10240 (default 128)\n"
		 "  --timeout SECONDS          1 to 900 (default 3)\n"
		 "  --env NAME=VALUE           environment variable, repeatable\n"
		 "  --publish                  publish a version at once\n" SNAPCTL_COMMON_HELP "\n"
		 "Example:\n"
		 "  snapctl deploy hello --dir examples/hello-python --memory 256\n",
	.run = run,
};
