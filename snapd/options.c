/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - snapd's command line */
#include "snapd/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

static const char usage_text[] =
	"Usage: snapd [OPTION]...\n"
	"\n"
	"Serve functions: boot each once, capture it, and restore it for every invocation.\n"
	"The API is AWS Lambda's, on a unix socket; snapctl speaks it, and so do AWS SDKs.\n"
	"\n"
	"  --state DIR           functions and their snapshots live here\n"
	"                        (default /var/lib/quickthaw)\n"
	"  --socket PATH         where to serve (default /run/quickthaw/snapd.sock)\n"
	"  --vmm PATH            the vmm program (default: beside snapd, or in ../libexec)\n"
	"  --runtime-dir DIR     the guests' /var/runtime, with bootstrap.py\n"
	"                        (default: ../share/quickthaw, or guest/ of a source tree)\n"
	"  --shells N            microVMs to keep ready, 1 to 64 (default 4): more serve\n"
	"                        bursts better and take about 2 MiB each\n"
	"  --keep-warm SECONDS   how long an idle instance is kept for the next invocation\n"
	"                        (default 60; 0: every invocation restores)\n"
	"  --init-timeout SECONDS\n"
	"                        how long a runtime may take to start (default 60)\n"
	"  --cpu-baseline B      host (default) or x86-64-v3: limit what functions may use\n"
	"                        of the CPU, so that what is published here can be restored\n"
	"                        on other CPUs, too\n"
	"  -h, --help            this text\n"
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

static const struct option long_options[] = {
	{"state", required_argument, NULL, 's'},
	{"socket", required_argument, NULL, 'S'},
	{"vmm", required_argument, NULL, 'v'},
	{"runtime-dir", required_argument, NULL, 'r'},
	{"shells", required_argument, NULL, 'n'},
	{"keep-warm", required_argument, NULL, 'k'},
	{"init-timeout", required_argument, NULL, 'i'},
	{"cpu-baseline", required_argument, NULL, 'b'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static void set_path(char *to, const char *option, const char *path)
{
	if (!*path || snprintf(to, PATH_MAX, "%s", path) >= PATH_MAX)
		die("--%s: give a path", option);
}

static unsigned parse_number(const char *option, const char *text, unsigned min, unsigned max)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (errno || end == text || *end || v < min || v > max || *text == '-')
		die("--%s %s: give a number from %u to %u", option, text, min, max);
	return (unsigned)v;
}

static const char *parse_baseline(const char *name)
{
	if (strcmp(name, "host") && strcmp(name, "x86-64-v3"))
		die("--cpu-baseline %s: give host or x86-64-v3", name);
	return name;
}

static void parse_option(struct options *o, int c)
{
	switch (c) {
	case 's':
		set_path(o->state, "state", optarg);
		break;
	case 'S':
		set_path(o->socket, "socket", optarg);
		break;
	case 'v':
		set_path(o->vmm, "vmm", optarg);
		break;
	case 'r':
		set_path(o->runtime_dir, "runtime-dir", optarg);
		break;
	case 'n':
		o->shells = parse_number("shells", optarg, 1, 64);
		break;
	case 'k':
		o->keep_warm_s = parse_number("keep-warm", optarg, 0, 86400);
		break;
	case 'i':
		o->init_timeout_s = parse_number("init-timeout", optarg, 1, 3600);
		break;
	case 'b':
		o->cpu_baseline = parse_baseline(optarg);
		break;
	case 'h':
		fputs(usage_text, stdout);
		exit(0);
	default:
		fprintf(stderr, "Try 'snapd --help'.\n");
		exit(2);
	}
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
	int c;

	*o = (struct options){
		.state = "/var/lib/quickthaw",
		.socket = "/run/quickthaw/snapd.sock",
		.shells = 4,
		.keep_warm_s = 60,
		.init_timeout_s = 60,
		.cpu_baseline = "host",
	};
	while ((c = getopt_long(argc, argv, "h", long_options, NULL)) != -1)
		parse_option(o, c);
	if (optind < argc)
		die("%s: snapd takes options only; try --help", argv[optind]);
	if (!*o->vmm)
		find_beside(o->vmm, "vmm", "../libexec/quickthaw/vmm", "");
	if (!*o->runtime_dir)
		find_beside(o->runtime_dir, "../share/quickthaw", "../../guest", "/bootstrap.py");
	if (!*o->vmm)
		die("vmm: not found beside snapd: say where it is with --vmm PATH");
	if (!*o->runtime_dir)
		die("bootstrap.py: not found: say in which directory it is with --runtime-dir DIR");
}
