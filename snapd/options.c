/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c - snapd's settings: one table for the command line, the file and --help
 *
 * A setting is one line of the table. Its name is the long option and the key in the file; --help
 * is printed from it, and tests hold docs/man/snapd.8 and examples/snapd.conf against it.
 */
#include "snapd/options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/util.h"

enum { LINE_MAX_BYTES = 8192, HELP_INDENT = 24, HELP_WIDTH = 80, NAME_CHARS_MAX = 40 };

#define FIELD(name) offsetof(struct options, name)

static const struct option_info table[] = {
	{"config", "FILE", OPTION_PATH, FIELD(config), NULL, 0, 0, NULL,
	 "settings, one `key = value` a line; keys are the long options. What the command line "
	 "says "
	 "wins (default /etc/quickthaw/snapd.conf, if it is there)"},
	{"state", "DIR", OPTION_PATH, FIELD(state), "/var/lib/quickthaw", 0, 0, NULL,
	 "functions and their snapshots live here"},
	{"socket", "PATH", OPTION_PATH, FIELD(socket), "/run/quickthaw/snapd.sock", 0, 0, NULL,
	 "where to serve; who may write to it may do everything"},
	{"socket-mode", "MODE", OPTION_OCTAL, FIELD(socket_mode), "600", 0, 0777, NULL,
	 "the socket's mode, in octal"},
	{"socket-group", "GROUP", OPTION_TEXT, FIELD(socket_group), NULL, 0, 0, NULL,
	 "the socket's group: with mode 660 its members may use it"},
	{"listen", "HOST:PORT", OPTION_LIST, FIELD(listen), NULL, 0, 0, NULL,
	 "serve on TCP, too, for requests that are signed (AWS Signature Version 4); may be given "
	 "several times; needs a keys file"},
	{"url-listen", "HOST:PORT", OPTION_LIST, FIELD(url_listen), NULL, 0, 0, NULL,
	 "serve the URLs of functions; may be given several times. Whether they have to be signed "
	 "is "
	 "set for each URL"},
	{"keys", "FILE", OPTION_PATH, FIELD(keys), NULL, 0, 0, NULL,
	 "who may sign: lines of `ACCESS-KEY-ID SECRET [OPTION...]`; read again at SIGHUP"},
	{"unsigned-status", NULL, OPTION_FLAG, FIELD(unsigned_status), NULL, 0, 0, NULL,
	 "on TCP, /metrics, the status page and what it shows need no signature"},
	{"connections", "N", OPTION_NUMBER, FIELD(connections), "1024", 1, 8192, NULL,
	 "how many clients may be connected to each socket"},
	{"connections-per-peer", "N", OPTION_NUMBER, FIELD(connections_per_peer), "256", 1, 8192,
	 NULL, "how many of them from one address, over TCP"},
	{"client-timeout", "SECONDS", OPTION_NUMBER, FIELD(client_timeout_s), "10", 1, 3600, NULL,
	 "how long a client may take to send a header, and how long its body and its reading of a "
	 "reply may be behind"},
	{"client-rate", "KIB", OPTION_NUMBER, FIELD(client_rate_kib), "16", 1, 1048576, NULL,
	 "KiB that a client has to send of its body, or read of its reply, each second"},
	{"take-over", NULL, OPTION_FLAG, FIELD(take_over), NULL, 0, 0, NULL,
	 "go on in the place of the snapd that serves from the same --state, if there is one, "
	 "without a pause: an upgrade"},
	{"vmm", "PATH", OPTION_PATH, FIELD(vmm), NULL, 0, 0, NULL,
	 "the vmm program (default: beside snapd, or in ../libexec)"},
	{"runtime-dir", "DIR", OPTION_PATH, FIELD(runtime_dir), NULL, 0, 0, NULL,
	 "the guests' /var/runtime, with bootstrap.py (default: ../share/quickthaw, or guest/ of a "
	 "source tree)"},
	{"kernel-guests", "DIR", OPTION_PATH, FIELD(kernel_guests), NULL, 0, 0, NULL,
	 "run kernel guests, too: vmlinuz, initramfs and root images (NAME.erofs) are there; made "
	 "by make guest-images. Needs hardware KVM"},
	{"shells", "N", OPTION_NUMBER, FIELD(shells), "4", 1, 64, NULL,
	 "microVMs to keep ready: more serve bursts better and take about 2 MiB each"},
	{"keep-warm", "SECONDS", OPTION_NUMBER, FIELD(keep_warm_s), "60", 0, 86400, NULL,
	 "how long an idle instance is kept for the next invocation; 0: every invocation restores"},
	{"keep-versions", "N", OPTION_NUMBER, FIELD(keep_versions), "0", 0, 100000, NULL,
	 "delete published versions of a function but the newest N, and those that an alias or a "
	 "configuration of their own names; 0: keep all"},
	{"disk-budget", "MIB", OPTION_NUMBER, FIELD(disk_budget_mib), "0", 0, 1073741824, NULL,
	 "what snapshots may take together; over it those used least recently are removed, and "
	 "made "
	 "again when they are needed; 0: no limit"},
	{"check-runtime", "SECONDS", OPTION_NUMBER, FIELD(check_runtime_s), "60", 0, 86400, NULL,
	 "how often to look whether the runtime's files have changed, so that snapshots have to be "
	 "made again; 0: at start only"},
	{"memory-budget", "MIB", OPTION_NUMBER, FIELD(memory_budget_mib), NULL, 16, 4194304, NULL,
	 "what instances and templates may take together (default: three quarters of what the "
	 "host, or the cgroup of snapd, has)"},
	{"max-instances", "N", OPTION_NUMBER, FIELD(max_instances), "400", 1, 448, NULL,
	 "how many instances there may be at a time, idle ones included"},
	{"account-concurrency", "N", OPTION_NUMBER, FIELD(account_concurrency), "1000", 1, 1024,
	 NULL, "how many invocations may be under way at a time; over it 429 is the answer"},
	{"queue-max", "N", OPTION_NUMBER, FIELD(queue_max), "512", 1, 1024, NULL,
	 "how many invocations may wait for an instance; of one function half as many"},
	{"queue-timeout", "SECONDS", OPTION_NUMBER, FIELD(queue_timeout_s), "60", 1, 900, NULL,
	 "how long an invocation waits for an instance before 429 is the answer"},
	{"init-timeout", "SECONDS", OPTION_NUMBER, FIELD(init_timeout_s), "60", 1, 3600, NULL,
	 "how long a runtime may take to start"},
	{"publish-wait", "SECONDS", OPTION_NUMBER, FIELD(publish_wait_s), "30", 0, 3600, NULL,
	 "how long PublishVersion may take; then the version is Pending, and goes on"},
	{"event-queue", "N", OPTION_NUMBER, FIELD(event_queue), "50000", 1, 1000000, NULL,
	 "asynchronous invocations that may wait or run; more are refused"},
	{"event-concurrency", "N", OPTION_NUMBER, FIELD(event_concurrency), "16", 1, 256, NULL,
	 "how many of them run at a time; one function has half of that at most"},
	{"event-retry-delay", "SECONDS", OPTION_NUMBER, FIELD(event_retry_delay_s), "60", 0, 3600,
	 NULL,
	 "wait so long before the first retry of one that failed, and twice that before the "
	 "second"},
	{"destination-dir", "DIR", OPTION_PATH, FIELD(destination_dir), NULL, 0, 0, NULL,
	 "their destinations may be files below this directory (default: no files)"},
	{"cpu-baseline", "B", OPTION_CHOICE, FIELD(cpu_baseline), "host", 0, 0, "host|x86-64-v3",
	 "limit what functions may use of the CPU, so that what is published here can be restored "
	 "on other CPUs, too"},
	{"log-format", "FORMAT", OPTION_CHOICE, FIELD(log_format), "text", 0, 0, "text|json",
	 "text, or json: one object a line, with time, level, program, instance, request and "
	 "message"},
};

static const char usage_head[] =
	"Usage: snapd [OPTION]...\n"
	"\n"
	"Serve functions: boot each once, capture it, and restore it for every invocation.\n"
	"The API is AWS Lambda's, on a unix socket; snapctl speaks it, and so do AWS SDKs.\n"
	"\n";

static const char usage_tail[] =
	"\n"
	"Environment: QUICKTHAW_LOG=error|warn|info|debug (default info).\n"
	"snapd needs root: every guest lives in a jail of its own (namespaces, no\n"
	"privileges, a system call filter). It needs /dev/kvm, /dev/userfaultfd and\n"
	"io_uring. SIGTERM ends it; functions and snapshots survive.\n"
	"\n"
	"Example:\n"
	"  snapd --state build/state --socket build/snapd.sock &\n"
	"  export QUICKTHAW_SOCKET=build/snapd.sock\n"
	"  snapctl deploy hello --dir examples/hello-python --publish\n"
	"  snapctl invoke hello '{\"name\": \"you\"}'\n";

const struct option_info *options_table(size_t *ret_count)
{
	*ret_count = ARRAY_SIZE(table);
	return table;
}

/* ---- one setting ----------------------------------------------------------------------------- */

static bool set_path(char *to, const char *text)
{
	return *text && snprintf(to, PATH_MAX, "%s", text) < PATH_MAX;
}

static bool set_number(unsigned *to, const struct option_info *info, const char *text)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, info->type == OPTION_OCTAL ? 8 : 10);
	if (errno || !isdigit((unsigned char)*text) || *end || v < info->min || v > info->max)
		return false;
	*to = (unsigned)v;
	return true;
}

/** A choice with an end of its own; the same each time, for they are few. */
static const char *keep_choice(const char *text, size_t n)
{
	static char kept[16][16];

	for (size_t i = 0; i < ARRAY_SIZE(kept) && n < sizeof(kept[0]); i++) {
		if (!kept[i][0])
			memcpy(kept[i], text, n);
		if (!strncmp(kept[i], text, n) && !kept[i][n])
			return kept[i];
	}
	return NULL;
}

static bool set_choice(const char **ret, const struct option_info *info, const char *text)
{
	const char *at = info->choices;
	size_t n = strlen(text);

	while (at) {
		const char *end = strchr(at, '|');
		size_t length = end ? (size_t)(end - at) : strlen(at);

		if (length == n && !memcmp(at, text, n)) {
			*ret = keep_choice(at, n);
			return *ret;
		}
		at = end ? end + 1 : NULL;
	}
	return false;
}

static bool set_flag(bool *to, const char *text)
{
	*to = !strcmp(text, "yes");
	return *to || !strcmp(text, "no");
}

static bool set_text(const char **to, const char *text)
{
	*to = strdup(text);
	return *to;
}

static bool add_item(struct option_list *list, const char *text)
{
	if (!*text || list->count == OPTION_LIST_MAX)
		return false;
	return set_text(&list->items[list->count++], text);
}

static void explain(const struct option_info *info, const char *text, char *error)
{
	switch (info->type) {
	case OPTION_NUMBER:
		snprintf(error, OPTIONS_ERROR_MAX, "%s %s: give a number from %u to %u", info->name,
			 text, info->min, info->max);
		break;
	case OPTION_OCTAL:
		snprintf(error, OPTIONS_ERROR_MAX, "%s %s: give an octal number from %o to %o",
			 info->name, text, info->min, info->max);
		break;
	case OPTION_CHOICE:
		snprintf(error, OPTIONS_ERROR_MAX, "%s %s: give one of %s", info->name, text,
			 info->choices);
		break;
	case OPTION_FLAG:
		snprintf(error, OPTIONS_ERROR_MAX, "%s %s: give yes or no", info->name, text);
		break;
	case OPTION_LIST:
		snprintf(error, OPTIONS_ERROR_MAX, "%s %s: give one each time, %d at most",
			 info->name, text, OPTION_LIST_MAX);
		break;
	default:
		snprintf(error, OPTIONS_ERROR_MAX, "%s: give a %s", info->name,
			 info->type == OPTION_PATH ? "path" : "value");
	}
}

bool options_set(struct options *o, const struct option_info *info, const char *text,
		 char error[OPTIONS_ERROR_MAX])
{
	void *field = (char *)o + info->offset;
	bool ok = false;

	switch (info->type) {
	case OPTION_PATH:
		ok = set_path(field, text);
		break;
	case OPTION_NUMBER:
	case OPTION_OCTAL:
		ok = set_number(field, info, text);
		break;
	case OPTION_CHOICE:
		ok = set_choice(field, info, text);
		break;
	case OPTION_TEXT:
		ok = set_text(field, text);
		break;
	case OPTION_FLAG:
		ok = set_flag(field, text);
		break;
	case OPTION_LIST:
		ok = add_item(field, text);
		break;
	}
	if (!ok)
		explain(info, text, error);
	return ok;
}

void options_default(struct options *o)
{
	char error[OPTIONS_ERROR_MAX];

	memset(o, 0, sizeof(*o));
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		bool ok = !table[i].initial || options_set(o, &table[i], table[i].initial, error);

		assert(ok); /* the table holds against itself */
		(void)ok;
	}
}

/* ---- the file -------------------------------------------------------------------------------- */

static const struct option_info *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (!strcmp(table[i].name, name))
			return &table[i];
	return NULL;
}

/** How many letters have to be put in, taken out or changed to make @b of @a (Levenshtein). */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[NAME_CHARS_MAX + 1], n = (unsigned)strlen(b);

	assert(n <= NAME_CHARS_MAX);
	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= n; j++) {
			unsigned above = row[j];
			unsigned change = diagonal + (a[i - 1] != b[j - 1]);
			unsigned add = MIN(above, row[j - 1]) + 1;

			row[j] = MIN(add, change);
			diagonal = above;
		}
	}
	return row[n];
}

static const char *nearest(const char *name)
{
	const char *best = table[0].name;
	unsigned least = UINT_MAX;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		unsigned d = distance(name, table[i].name);

		if (d < least) {
			least = d;
			best = table[i].name;
		}
	}
	return best;
}

/** Cut white space off both ends, in place. */
static char *trim(char *text)
{
	size_t n;

	while (isspace((unsigned char)*text))
		text++;
	n = strlen(text);
	while (n && isspace((unsigned char)text[n - 1]))
		text[--n] = '\0';
	return text;
}

static bool read_line(struct options *o, char *line, char error[OPTIONS_ERROR_MAX])
{
	const struct option_info *info;
	char *value, *key = trim(line);

	if (!*key || *key == '#')
		return true;
	value = strchr(key, '=');
	if (!value) {
		snprintf(error, OPTIONS_ERROR_MAX, "%.60s: a line is `key = value`", key);
		return false;
	}
	*value++ = '\0';
	key = trim(key);
	info = find(key);
	if (!info || info->offset == FIELD(config)) {
		snprintf(error, OPTIONS_ERROR_MAX, "unknown key '%.60s': did you mean '%s'?", key,
			 nearest(key));
		return false;
	}
	return options_set(o, info, trim(value), error);
}

bool options_read_file(struct options *o, const char *path, char error[OPTIONS_ERROR_MAX])
{
	CLEANUP_FILE FILE *f = fopen(path, "re");
	char line[LINE_MAX_BYTES], why[OPTIONS_ERROR_MAX];
	unsigned number = 0;

	if (!f) {
		snprintf(error, OPTIONS_ERROR_MAX, "%.300s: %m", path);
		return false;
	}
	while (fgets(line, sizeof(line), f)) {
		bool whole = strchr(line, '\n') || feof(f);

		number++;
		if (whole && read_line(o, line, why))
			continue;
		snprintf(error, OPTIONS_ERROR_MAX, "%.120s:%u: %.350s", path, number,
			 whole ? why : "the line is too long");
		return false;
	}
	return true;
}

/* ---- the command line ------------------------------------------------------------------------ */

/** One paragraph, from column HELP_INDENT on; @used columns of the first line are taken. */
static void print_paragraph(const char *text, int used)
{
	while (*text) {
		int room = HELP_WIDTH - HELP_INDENT, n = (int)strlen(text);

		if (n > room) {
			n = room;
			while (n && text[n] != ' ')
				n--;
		}
		printf("%*s%.*s\n", HELP_INDENT - used, "", n, text);
		text += n;
		text += *text == ' ';
		used = 0;
	}
}

/** What values there are, and which it has where nobody says one. */
static void describe_values(const struct option_info *info, char *to, size_t n)
{
	if (info->type == OPTION_NUMBER && info->initial)
		snprintf(to, n, " (%u to %u; default %s)", info->min, info->max, info->initial);
	else if (info->type == OPTION_NUMBER)
		snprintf(to, n, " (%u to %u)", info->min, info->max);
	else if (info->type == OPTION_CHOICE)
		snprintf(to, n, " (%s; default %s)", info->choices, info->initial);
	else if (info->initial && info->type != OPTION_FLAG)
		snprintf(to, n, " (default %s)", info->initial);
	else
		*to = '\0';
}

static void print_option(const struct option_info *info)
{
	char text[1024], values[PATH_MAX];
	int used;

	describe_values(info, values, sizeof(values));
	snprintf(text, sizeof(text), "%s%.200s", info->help, values);
	used = printf("  --%s%s%s", info->name, info->argument ? " " : "",
		      info->argument ? info->argument : "");
	if (used > HELP_INDENT - 2) {
		printf("\n");
		used = 0;
	}
	print_paragraph(text, used);
}

static void print_help(void)
{
	fputs(usage_head, stdout);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		print_option(&table[i]);
	printf("  -h, --help            this text\n");
	printf("  --version             which Quickthaw this is\n");
	fputs(usage_tail, stdout);
}

/** What getopt wants to know, made from the table; a long option's value is its index. */
static const struct option *long_options(void)
{
	static struct option list[ARRAY_SIZE(table) + 2];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		list[i] = (struct option){table[i].name,
					  table[i].argument ? required_argument : no_argument, NULL,
					  (int)i};
	list[ARRAY_SIZE(table)] = (struct option){"help", no_argument, NULL, 'h' << 8};
	return list;
}

/** A list of the command line stands in the place of the file's, not behind it. */
static void forget_list(struct options *o, const struct option_info *info, bool *seen)
{
	if (info->type == OPTION_LIST && !*seen)
		((struct option_list *)(void *)((char *)o + info->offset))->count = 0;
	*seen = true;
}

/** @only_config: look for --config and --help, the rest comes when the file was read. */
static void parse_line(struct options *o, int argc, char **argv, bool only_config)
{
	bool seen[ARRAY_SIZE(table)] = {false};
	char error[OPTIONS_ERROR_MAX];
	int c;

	optind = 1;
	while ((c = getopt_long(argc, argv, "h", long_options(), NULL)) != -1) {
		const struct option_info *info;

		if (c == 'h' || c == 'h' << 8) {
			print_help();
			exit(0);
		}
		if (c == '?') {
			fprintf(stderr, "Try 'snapd --help'.\n");
			exit(2);
		}
		info = &table[c];
		if (only_config && info->offset != FIELD(config))
			continue;
		forget_list(o, info, &seen[c]);
		if (!options_set(o, info, info->argument ? optarg : "yes", error))
			die("--%s", error);
	}
	if (optind < argc)
		die("%s: snapd takes options only; try --help", argv[optind]);
}

static void read_config(struct options *o)
{
	char error[OPTIONS_ERROR_MAX];

	if (!*o->config && access(OPTIONS_FILE, F_OK))
		return;
	if (!options_read_file(o, *o->config ? o->config : OPTIONS_FILE, error))
		die("%s", error);
}

/** The first of two places, relative to snapd itself, where @probe can be read. */
static void find_beside(char *ret, const char *first, const char *second, const char *probe)
{
	const char *places[] = {first, second};
	char self[PATH_MAX], path[PATH_MAX + 256];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n < 0)
		return;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return;
	*slash = '\0';
	for (int i = 0; i < 2 && !*ret; i++) {
		snprintf(path, sizeof(path), "%s/%s%s", self, places[i], probe);
		if (!access(path, R_OK) && strlen(path) < PATH_MAX)
			snprintf(ret, PATH_MAX, "%.*s", (int)(strlen(path) - strlen(probe)), path);
	}
}

void options_parse(struct options *o, int argc, char **argv)
{
	options_default(o);
	parse_line(o, argc, argv, true);
	read_config(o);
	parse_line(o, argc, argv, false);
	if (!*o->vmm)
		find_beside(o->vmm, "vmm", "../libexec/quickthaw/vmm", "");
	find_beside(o->unpacker, "unpacker", "../libexec/quickthaw/unpacker", "");
	if (!*o->runtime_dir)
		find_beside(o->runtime_dir, "../share/quickthaw", "../../guest", "/bootstrap.py");
	if (!*o->vmm)
		die("vmm: not found beside snapd: say where it is with --vmm PATH");
	if (!*o->runtime_dir)
		die("bootstrap.py: not found: say in which directory it is with --runtime-dir DIR");
}
