/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - snapd's settings: one table for the command line, the file and --help */
#ifndef QUICKTHAW_SNAPD_OPTIONS_H
#define QUICKTHAW_SNAPD_OPTIONS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define OPTIONS_FILE "/etc/quickthaw/snapd.conf"

enum { OPTION_LIST_MAX = 16 };

/** struct option_list - a setting that may be given several times; the strings live for ever. */
struct option_list {
	const char *items[OPTION_LIST_MAX];
	unsigned count;
};

struct options {
	char config[PATH_MAX];
	char state[PATH_MAX];
	char socket[PATH_MAX];
	unsigned socket_mode;
	const char *socket_group; /**< NULL: snapd's */
	struct option_list listen, url_listen;
	char keys[PATH_MAX]; /**< "": none */
	bool unsigned_status;
	unsigned connections, connections_per_peer;
	unsigned client_timeout_s, client_rate_kib;
	bool take_over;
	char vmm[PATH_MAX];
	char unpacker[PATH_MAX]; /**< beside the vmm; no option */
	char runtime_dir[PATH_MAX];
	char kernel_guests[PATH_MAX]; /**< "": none are run here */
	const char *cpu_baseline;     /**< what the vmm calls it */
	unsigned shells;
	unsigned keep_warm_s;
	unsigned keep_versions, disk_budget_mib, check_runtime_s;
	unsigned init_timeout_s, publish_wait_s;
	unsigned queue_timeout_s, queue_max;
	unsigned account_concurrency, max_instances;
	unsigned memory_budget_mib; /**< 0: a share of what the host has */
	unsigned event_queue;
	unsigned event_concurrency;
	unsigned event_retry_delay_s;
	char destination_dir[PATH_MAX]; /**< "" for none */
	const char *log_format;		/**< "text" or "json" */
};

/** How a setting's text becomes a field of struct options. */
enum option_type {
	OPTION_PATH,   /**< char[PATH_MAX], not empty */
	OPTION_NUMBER, /**< unsigned, from min to max */
	OPTION_OCTAL,  /**< the same in octal, for modes of files */
	OPTION_CHOICE, /**< const char *: one of `choices` */
	OPTION_TEXT,   /**< const char * */
	OPTION_FLAG,   /**< bool: no argument on the command line, yes or no in the file */
	OPTION_LIST,   /**< struct option_list: each time adds one */
};

/**
 * struct option_info - one setting. `name` is its long option and its key in the file.
 * @argument: what --help calls its value; NULL for a flag
 * @initial: its value where nobody says one, as text; NULL: none
 * @choices: separated by '|'
 * @help: one paragraph; --help breaks its lines
 */
struct option_info {
	const char *name, *argument;
	enum option_type type;
	size_t offset;
	const char *initial;
	unsigned min, max;
	const char *choices;
	const char *help;
};

/** options_table() - all settings, in the order of --help. */
const struct option_info *options_table(size_t *ret_count);

enum { OPTIONS_ERROR_MAX = 512 };

/**
 * options_default() - every setting as if nobody had said anything.
 * options_set() - one setting from text. Return: false with a message in @error.
 * options_read_file() - `key = value` lines of a file. Return: false with a message, which begins
 * with FILE:LINE.
 */
void options_default(struct options *o);
bool options_set(struct options *o, const struct option_info *info, const char *text,
		 char error[OPTIONS_ERROR_MAX]);
bool options_read_file(struct options *o, const char *path, char error[OPTIONS_ERROR_MAX]);

/**
 * options_parse() - the defaults, then the file, then the command line, which wins.
 * Exits 0 after --help and 2 after a mistake, with a message.
 */
void options_parse(struct options *o, int argc, char **argv);

#endif
