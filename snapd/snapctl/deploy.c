/* SPDX-License-Identifier: Apache-2.0 */
/* deploy.c - snapctl deploy: create or replace a function from a directory or a zip file */
#include <errno.h>
#include <fcntl.h>
#include <nettle/base64.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "snapd/snapctl/snapctl.h"

enum { ZIP_BYTES_MAX = 50 << 20 };

/** struct deploy - @code: the API's Code: {Directory} or {ZipFile}; @from: the same for people */
struct deploy {
	const char *dir, *zip, *image;
	json_t *code;
	const char *from;
	json_t *layers;
	const char *handler;
	const char *runtime;
	int timeout_s;
	int memory_mib;
	const char *guest, *root_image;
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
	{"zip", required_argument, NULL, 'z'},
	{"image", required_argument, NULL, 'i'},
	{"layer", required_argument, NULL, 'l'},
	{"handler", required_argument, NULL, 'H'},
	{"runtime", required_argument, NULL, 'r'},
	{"timeout", required_argument, NULL, 't'},
	{"memory", required_argument, NULL, 'm'},
	{"env", required_argument, NULL, 'e'},
	{"guest", required_argument, NULL, 'g'},
	{"root-image", required_argument, NULL, 'R'},
	{"publish", no_argument, NULL, 'p'},
	{0},
};

static void parse_option(struct snapctl *s, struct deploy *d, int c)
{
	switch (c) {
	case 'd':
		d->dir = optarg;
		break;
	case 'z':
		d->zip = optarg;
		break;
	case 'i':
		d->image = optarg;
		break;
	case 'l':
		json_array_append_new(d->layers, json_string(optarg));
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
	case 'g':
		if (strcmp(optarg, "process") && strcmp(optarg, "kernel"))
			snapctl_usage_error(&command_deploy, "--guest %s: give process or kernel",
					    optarg);
		d->guest = optarg;
		break;
	case 'R':
		d->root_image = optarg;
		break;
	case 'p':
		d->publish = true;
		break;
	default:
		snapctl_option(s, &command_deploy, c);
	}
}

/** A path for snapd, which may be in another directory. */
static json_t *absolute(const char *option, const char *path)
{
	CLEANUP_FREE char *full = realpath(path, NULL);

	if (!full)
		snapctl_usage_error(&command_deploy, "%s %s: no such directory", option, path);
	return json_string(full);
}

static json_t *zip_text(const char *path)
{
	CLEANUP_FREE char *data = NULL, *text = NULL;
	size_t n;
	int ret = read_file(AT_FDCWD, path, ZIP_BYTES_MAX, &data, &n);

	if (ret == -EFBIG)
		snapctl_usage_error(&command_deploy, "--zip %s: larger than 50 MiB", path);
	if (ret)
		snapctl_usage_error(&command_deploy, "--zip %s: %s", path, strerror(-ret));
	text = malloc(BASE64_ENCODE_RAW_LENGTH(n) + 1);
	if (!text)
		return NULL;
	base64_encode_raw(text, n, (const uint8_t *)data);
	return json_stringn(text, BASE64_ENCODE_RAW_LENGTH(n));
}

/** Exactly one of --dir, --zip and --image. */
static void take_code(struct deploy *d)
{
	if (!!d->dir + !!d->zip + !!d->image != 1)
		snapctl_usage_error(&command_deploy, "give one of --dir, --zip and --image");
	d->from = d->dir ? d->dir : d->zip ? d->zip : d->image;
	if (d->dir)
		d->code = json_pack("{s:o}", "Directory", absolute("--dir", d->dir));
	else if (d->zip)
		d->code = json_pack("{s:o}", "ZipFile", zip_text(d->zip));
	else
		d->code = json_pack("{s:o}", "OciImage", absolute("--image", d->image));
}

static json_t *request_body(const char *name, const struct deploy *d)
{
	json_t *root = json_pack("{s:s, s:s, s:s, s:i, s:i, s:{s:O}, s:O, s:b}", "FunctionName",
				 name, "Runtime", d->runtime, "Handler", d->handler, "Timeout",
				 d->timeout_s, "MemorySize", d->memory_mib, "Environment",
				 "Variables", d->env, "Code", d->code, "Publish", d->publish);

	json_object_set_new(root, "GuestKind", json_string(d->guest));
	/* A process guest has none: "" takes one away that was set before. */
	json_object_set_new(root, "RootImage", json_string(d->root_image));
	if (root && json_array_size(d->layers))
		json_object_set(root, "Layers", d->layers);
	return root;
}

/** The function is there already: give it the settings, then the code. */
static bool replace(struct snapctl *s, const char *name, const struct deploy *d)
{
	char path[256];
	json_t *settings = request_body(name, d);
	bool ok;

	json_object_del(settings, "FunctionName");
	json_object_del(settings, "Code");
	json_object_del(settings, "Publish");
	snprintf(path, sizeof(path), API_FUNCTIONS "/%s/configuration", name);
	ok = snapctl_call_json(s, NULL, "PUT", path, settings);
	snprintf(path, sizeof(path), API_FUNCTIONS "/%s/code", name);
	ok = ok && snapctl_call_json(s, "deploying", "PUT", path, json_incref(d->code));
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
			   .memory_mib = 128,
			   .guest = "process",
			   .root_image = ""};
	int c;

	d.env = json_object();
	d.layers = json_array();
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
		parse_option(s, &d, c);
	if (argc - optind != 1)
		snapctl_usage_error(&command_deploy, "give a function's name and its code");
	if (!snapctl_name_ok(argv[optind]))
		snapctl_usage_error(&command_deploy,
				    "%s: a name is 1 to 64 letters, digits, - and _", argv[optind]);
	take_code(&d);
	if (exists(s, argv[optind]))
		ok = replace(s, argv[optind], &d);
	else
		ok = snapctl_call_json(s, d.publish ? "deploying and publishing" : "deploying",
				       "POST", API_FUNCTIONS, request_body(argv[optind], &d));
	json_decref(d.env);
	json_decref(d.code);
	json_decref(d.layers);
	if (!ok)
		return 1;
	if (s->json)
		printf("%s\n", s->reply.body);
	else
		printf("deployed %s from %s (%s, %s%d MiB, %d s)\n", argv[optind], d.from,
		       d.runtime, strcmp(d.guest, "kernel") ? "" : "kernel guest, ", d.memory_mib,
		       d.timeout_s);
	return 0;
}

const struct subcommand command_deploy = {
	.name = "deploy",
	.summary = "create a function, or replace its code",
	.usage =
		"Usage: snapctl deploy NAME --dir DIR|--zip FILE|--image DIR [OPTION]...\n\n"
		"Create function NAME; if there is one by that name, replace its code and "
		"settings.\n"
		"Published versions stay as they are.\n\n"
		"  --dir DIR                  the function's code, copied: app.py and what it "
		"imports\n"
		"  --zip FILE                 the same as a zip file of at most 50 MiB\n"
		"  --image DIR                the same in an OCI image layout, below its "
		"WorkingDir or\n"
		"                             /var/task\n"
		"  --layer ARN                a layer's version, repeatable, at most 5: later ones "
		"hide\n"
		"                             files of earlier ones; without it they stay as they "
		"are\n"
		"  --handler MODULE.FUNCTION  what to call (default app.handler)\n"
		"  --runtime RUNTIME          default python3.11\n"
		"  --guest KIND               process (the default), or kernel: a whole Linux "
		"kernel "
		"of\n"
		"                             its own; 128 to 3072 MiB\n"
		"  --root-image NAME          of a kernel guest: its root file system, where the "
		"node has\n"
		"                             NAME.erofs (default: that of the runtime)\n"
		"  --memory MIB               memory limit, 64 to 10240 (default 128)\n"
		"  --timeout SECONDS          1 to 900 (default 3)\n"
		"  --env NAME=VALUE           environment variable, repeatable\n"
		"  --publish                  publish a version at once\n" SNAPCTL_COMMON_HELP "\n"
		"Example:\n"
		"  snapctl deploy hello --dir examples/hello-python --memory 256\n"
		"  snapctl deploy hello --zip hello.zip "
		"--layer arn:aws:lambda:local:000000000000:layer:libs:1\n",
	.run = run,
};
