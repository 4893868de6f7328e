/* SPDX-License-Identifier: Apache-2.0 */
/* snapctl.h - what the subcommands share: the connection, output, errors */
#ifndef QUICKTHAW_SNAPCTL_H
#define QUICKTHAW_SNAPCTL_H

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>

#include "common/http_client.h"

#define API_FUNCTIONS "/2015-03-31/functions"

/** struct snapctl - one run of the program. */
struct snapctl {
	const char *socket_path;
	bool json; /**< print snapd's JSON instead of text for people */
	struct http_client *client;
	struct http_reply reply;
};

/** struct subcommand - one file each. */
struct subcommand {
	const char *name;
	const char *summary; /**< one line for snapctl --help */
	const char *usage;   /**< what NAME --help prints */
	/** @argv[0] is the subcommand. Return: the exit status. */
	int (*run)(struct snapctl *s, int argc, char **argv);
};

extern const struct subcommand command_deploy, command_publish, command_invoke, command_list,
	command_logs, command_warm, command_rm, command_events;

/** The end of every subcommand's list of options. */
#define SNAPCTL_COMMON_HELP                                                                        \
	"  --socket PATH  where snapd serves (default $QUICKTHAW_SOCKET, else\n"                   \
	"                 /run/quickthaw/snapd.sock)\n"                                            \
	"  --json         print JSON, for programs\n"                                              \
	"  --help         this text\n"

/** Options that every subcommand takes; put them first into its long options. */
#define COMMON_OPTIONS                                                                             \
	{"socket", required_argument, NULL, 'S'}, {"json", no_argument, NULL, 'j'},                \
	{                                                                                          \
		"help", no_argument, NULL, 'h'                                                     \
	}

/**
 * snapctl_option() - handle a common option, or refuse an unknown one.
 * Prints help and exits for -h; exits 2 with a hint for anything it does not know.
 */
void snapctl_option(struct snapctl *s, const struct subcommand *command, int c);
/** snapctl_usage_error() - one line, a hint at --help, exit 2. */
_Noreturn void snapctl_usage_error(const struct subcommand *command, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * snapctl_call() - one request; transport errors are explained and end the program with 3.
 * @doing: NULL, or what to show while it lasts longer than a second ("publishing hello")
 * Return: true for a 2xx status; otherwise the error was printed.
 */
bool snapctl_call(struct snapctl *s, const char *doing, const char *method, const char *path,
		  const void *body, size_t body_bytes, const char *const *headers);
/** snapctl_exists() - does GET @path answer 200? Other answers are no error. */
bool snapctl_exists(struct snapctl *s, const char *path);
/** snapctl_call_json() - the same with a JSON body, which is released. */
bool snapctl_call_json(struct snapctl *s, const char *doing, const char *method, const char *path,
		       json_t *body);
/** snapctl_reply_json() - the reply's body, the caller's; NULL after an error message. */
json_t *snapctl_reply_json(struct snapctl *s);
/** snapctl_show_reply() - as it is with --json, else by @print. Return: the exit status. */
int snapctl_show_reply(struct snapctl *s, void (*print)(const json_t *root));

/** snapctl_read_payload() - JSON given as text, as @FILE, or as - for standard input; malloc'ed. */
char *snapctl_read_payload(const struct subcommand *command, const char *argument, size_t *ret_n);
/** snapctl_name_ok() - function names as Lambda allows them: 1 to 64 of [A-Za-z0-9-_]. */
bool snapctl_name_ok(const char *name);
/** json_text() - a member as text, "" when it is not there. */
const char *json_text(const json_t *object, const char *key);

#endif
