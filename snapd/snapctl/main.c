/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - snapctl: deploy, publish and invoke functions from a terminal */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/util.h"
#include "common/version.h"
#include "snapd/snapctl/snapctl.h"

#define SOCKET_DEFAULT "/run/quickthaw/snapd.sock"

enum { PAYLOAD_MAX = 16 << 20 };

static const struct subcommand *const commands[] = {
	&command_deploy, &command_publish, &command_invoke, &command_list,
	&command_logs,	 &command_warm,	   &command_rm,	    &command_events,
};

static void print_help(FILE *out)
{
	fprintf(out, "Usage: snapctl COMMAND [OPTION]...\n\n"
		     "Start functions in milliseconds, from snapshots.\n\nCommands:\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(out, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(out,
		"\nEvery command takes:\n"
		"  --socket PATH  snapd's socket (default $QUICKTHAW_SOCKET, else\n"
		"                 " SOCKET_DEFAULT ")\n"
		"  --json         print snapd's answer as JSON\n"
		"  --help         how to use the command, with an example\n"
		"\nsnapctl --version says which Quickthaw this is.\n"
		"\nThe first three commands, in order:\n"
		"  snapctl deploy hello --dir examples/hello-python\n"
		"  snapctl publish hello\n"
		"  snapctl invoke hello '{\"name\": \"you\"}'\n"
		"\nExit status: 0 done, 1 the function or snapd reported an error, 2 wrong usage,\n"
		"3 snapd cannot be reached.\n");
}

void snapctl_usage_error(const struct subcommand *command, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "snapctl %s: ", command->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry 'snapctl %s --help'.\n", command->name);
	exit(2);
}

void snapctl_option(struct snapctl *s, const struct subcommand *command, int c)
{
	switch (c) {
	case 'S':
		s->socket_path = optarg;
		return;
	case 'j':
		s->json = true;
		return;
	case 'h':
		fputs(command->usage, stdout);
		exit(0);
	default:
		fprintf(stderr, "Try 'snapctl %s --help'.\n", command->name);
		exit(2);
	}
}

/* ---- requests ---- */

/** struct progress - a line on the terminal while something takes longer than a second. */
struct progress {
	const char *doing;
	uint64_t start_ns;
	unsigned shown_s;
};

static void on_wait(void *arg)
{
	struct progress *p = arg;
	unsigned elapsed_s = (unsigned)((clock_mono_ns() - p->start_ns) / NSEC_PER_SEC);

	if (elapsed_s == p->shown_s)
		return;
	p->shown_s = elapsed_s;
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%s ... %u s ", p->doing, elapsed_s);
	else if (elapsed_s == 1)
		fprintf(stderr, "%s ...\n", p->doing);
}

static void connect_client(struct snapctl *s)
{
	if (s->client)
		return;
	s->client = http_client_new(s->socket_path);
	if (!s->client) {
		fprintf(stderr, "snapctl: out of memory\n");
		exit(3);
	}
}

static void print_error(struct snapctl *s)
{
	json_t *root = json_loads(s->reply.body ? s->reply.body : "", 0, NULL);
	const char *message = json_text(root, "Message");
	const char *type = http_reply_header(&s->reply, "x-amzn-errortype");

	if (s->json && root)
		printf("%s\n", s->reply.body);
	if (!*message)
		message = json_text(root, "message");
	fprintf(stderr, "snapctl: %s%s%s (HTTP %ld)\n", type ? type : "", type ? ": " : "",
		*message ? message : "snapd refused the request", s->reply.status);
	json_decref(root);
}

/** One request; ends the program when snapd cannot be reached. */
static void request(struct snapctl *s, const char *method, const char *path, const void *body,
		    size_t body_bytes, const char *const *headers)
{
	int ret =
		http_client_request(s->client, method, path, body, body_bytes, headers, &s->reply);

	if (!ret)
		return;
	fprintf(stderr, "snapctl: %s: %s: is snapd running? start it with: snapd --socket %s\n",
		s->socket_path,
		ret == -ECONNREFUSED ? "nobody listens" : http_client_error(s->client),
		s->socket_path);
	exit(3);
}

bool snapctl_exists(struct snapctl *s, const char *path)
{
	connect_client(s);
	request(s, "GET", path, NULL, 0, NULL);
	return s->reply.status == 200;
}

bool snapctl_call(struct snapctl *s, const char *doing, const char *method, const char *path,
		  const void *body, size_t body_bytes, const char *const *headers)
{
	struct progress progress = {.doing = doing, .start_ns = clock_mono_ns()};

	connect_client(s);
	http_client_on_wait(s->client, doing ? on_wait : NULL, &progress);
	request(s, method, path, body, body_bytes, headers);
	http_client_on_wait(s->client, NULL, NULL);
	if (progress.shown_s && isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
	if (s->reply.status >= 200 && s->reply.status < 300)
		return true;
	print_error(s);
	return false;
}

bool snapctl_call_json(struct snapctl *s, const char *doing, const char *method, const char *path,
		       json_t *body)
{
	/* Somebody looks at it: publishing may take what it takes. */
	static const char *const headers[] = {"X-Quickthaw-Wait: 1", NULL};
	char *text = json_dumps(body, JSON_COMPACT);
	bool ok;

	json_decref(body);
	if (!text) {
		fprintf(stderr, "snapctl: out of memory\n");
		exit(3);
	}
	ok = snapctl_call(s, doing, method, path, text, strlen(text), headers);
	free(text);
	return ok;
}

json_t *snapctl_reply_json(struct snapctl *s)
{
	json_error_t err;
	json_t *root = json_loads(s->reply.body ? s->reply.body : "", 0, &err);

	if (!root)
		fprintf(stderr, "snapctl: snapd's answer is not JSON: %s\n", err.text);
	return root;
}

int snapctl_show_reply(struct snapctl *s, void (*print)(const json_t *root))
{
	json_t *root;

	if (s->json) {
		printf("%s\n", s->reply.body);
		return 0;
	}
	root = snapctl_reply_json(s);
	if (!root)
		return 1;
	print(root);
	json_decref(root);
	return 0;
}

/* ---- arguments ---- */

static char *read_stdin(size_t *ret_n)
{
	char *data = malloc(PAYLOAD_MAX + 1);
	ssize_t n = data ? read_full(STDIN_FILENO, data, PAYLOAD_MAX) : -ENOMEM;

	if (n < 0) {
		fprintf(stderr, "snapctl: standard input: %s\n", strerror((int)-n));
		exit(2);
	}
	data[n] = '\0';
	*ret_n = (size_t)n;
	return data;
}

char *snapctl_read_payload(const struct subcommand *command, const char *argument, size_t *ret_n)
{
	char *data;
	int ret;

	if (!strcmp(argument, "-"))
		return read_stdin(ret_n);
	if (argument[0] == '@') {
		ret = read_file(AT_FDCWD, argument + 1, PAYLOAD_MAX, &data, ret_n);
		if (ret)
			snapctl_usage_error(command, "%s: %s", argument + 1, strerror(-ret));
		return data;
	}
	data = strdup(argument);
	if (!data)
		snapctl_usage_error(command, "out of memory");
	*ret_n = strlen(data);
	return data;
}

bool snapctl_name_ok(const char *name)
{
	size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");

	return n >= 1 && n <= 64 && !name[n];
}

const char *json_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

int main(int argc, char **argv)
{
	const char *env = getenv("QUICKTHAW_SOCKET");
	struct snapctl s = {.socket_path = env ? env : SOCKET_DEFAULT};
	char name[64];
	int status = 2;

	if (version_asked("snapctl", argc, argv))
		return 0;
	if (argc < 2) {
		print_help(stderr);
		return 2;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_help(stdout);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[1], commands[i]->name))
			continue;
		/* getopt's messages begin with it. */
		snprintf(name, sizeof(name), "snapctl %s", commands[i]->name);
		argv[1] = name;
		status = commands[i]->run(&s, argc - 1, argv + 1);
		http_reply_free(&s.reply);
		http_client_free(s.client);
		return status;
	}
	fprintf(stderr, "snapctl: unknown command '%s'. Try 'snapctl --help'.\n", argv[1]);
	return status;
}
