/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - bench: cold, restored and warm starts side by side */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/cases.h"
#include "bench/kernel_case.h"
#include "bench/report.h"
#include "bench/service_load.h"
#include "bench/trace/trace.h"
#include "common/io.h"
#include "common/util.h"
#include "common/version.h"

extern char **environ;

enum { EVENT_BYTES_MAX = 6 << 20 };

#define SOCKET_DEFAULT "/run/quickthaw/snapd.sock"

static const char usage_text[] =
	"Usage: bench run [OPTION]...\n"
	"       bench measure --function NAME [OPTION]...\n"
	"       bench service [OPTION]...\n"
	"       bench kernel [OPTION]...\n"
	"       bench trace --function NAME [OPTION]...\n"
	"       bench compare A.json B.json\n"
	"\n"
	"Measure how functions start, each figure as a caller sees it: from the request sent to\n"
	"the answer read, over HTTP on snapd's unix socket.\n"
	"\n"
	"  run      start a snapd of its own, deploy the examples, measure everything: starts,\n"
	"           memory, the snapshot, CPU-bound work, peers, and the bound that this host's\n"
	"           own operations set. Prints tables, writes results as JSON and a picture\n"
	"  measure  one published function of a running snapd, as one table\n"
	"  service  start a snapd of its own and load it from this process: throughput on fresh\n"
	"           and on warm instances, bursts, many functions, more than it can do\n"
	"  kernel   kernel guests of this vmm and of others on the same images (make "
	"guest-images):\n"
	"           cold boot, restore to response, snapshot, memory of clones; needs hardware "
	"KVM\n"
	"  trace    one invocation's page mappings, exits and template fills on a time line,\n"
	"           with guest addresses and mappings (needs BPF)\n"
	"  compare  two result files, row by row; exit 1 when a p50 grew by more than a fifth\n"
	"\n"
	"Kinds of start:\n"
	"  cold boot         no snapshot: the runtime starts from nothing\n"
	"  cold restore      the snapshot is on disk only, page cache dropped\n"
	"  resident restore  its memory is on this host already: the usual start\n"
	"  warm              the instance runs and waits\n"
	"\n"
	"Options of run and measure:\n"
	"  --boots N      cold boots to measure (default 5)\n"
	"  --colds N      cold restores (default 20)\n"
	"  --residents N  resident restores (default 200)\n"
	"  --warms N      warm invocations (default 500)\n"
	"  --out FILE     where the JSON goes (run: default BUILD/bench/results.json; measure:\n"
	"                 default nowhere)\n"
	"Options of measure and trace:\n"
	"  --socket PATH      snapd's (default $QUICKTHAW_SOCKET, else\n"
	"                     " SOCKET_DEFAULT ")\n"
	"  --function NAME    what to invoke\n"
	"  --event JSON|@FILE what to send (default {})\n"
	"  --start KIND       trace: boot, cold, resident (default) or warm\n"
	"Options of service:\n"
	"  --scale PERCENT    of the sizes that the goals are for, 1 to 100 (default 100; on the\n"
	"                     emulated host 1)\n"
	"  --only PART        fresh, warm, burst or churn; may be given several times\n"
	"  --out FILE         as of run (default BUILD/bench/service.json)\n"
	"Options of kernel:\n"
	"  --boots N, --colds N  cold boots and restores of each system\n"
	"  --clones N     clones alive at once (default 8)\n"
	"  --memory MIB   of each guest (default 256)\n"
	"  --tcg          QEMU emulates the CPU: no KVM is needed, and times mean nothing\n"
	"  --out FILE     as of run (default BUILD/bench/kernel.json)\n"
	"Options of all:\n"
	"  --build DIR    where bin/ and scratch files are (default build)\n"
	"  --source DIR   where examples/, guest/ and bench/ are (default .)\n"
	"  --help         this text\n"
	"  --version      which Quickthaw this is\n"
	"\n"
	"Examples:\n"
	"  bench run --residents 50\n"
	"  bench compare before.json build/bench/results.json\n"
	"  bench trace --function hello --event '{\"name\": \"you\"}' --start cold\n"
	"\n"
	"Exit status: 0 done, 1 something failed or grew, 2 wrong usage, a file that is no "
	"result,\n"
	"or no BPF.\n";

/** struct options - the command line, parsed. */
struct options {
	struct bench bench;
	const char *out;
	const char *socket_path;
	const char *function;
	const char *event;
	const char *start;
	unsigned scale;
	unsigned clones;
	bool tcg;
	unsigned memory_mib;
	unsigned parts; /**< enum service_part; 0: all */
	char bin_dir[256];
	char out_default[280];
	char *event_text; /**< of --event @FILE */
};

static const struct option long_options[] = {
	{"out", required_argument, NULL, 'o'},
	{"boots", required_argument, NULL, 'b'},
	{"colds", required_argument, NULL, 'c'},
	{"residents", required_argument, NULL, 'r'},
	{"warms", required_argument, NULL, 'w'},
	{"socket", required_argument, NULL, 'S'},
	{"function", required_argument, NULL, 'f'},
	{"event", required_argument, NULL, 'e'},
	{"start", required_argument, NULL, 's'},
	{"scale", required_argument, NULL, 'p'},
	{"tcg", no_argument, NULL, 'T'},
	{"clones", required_argument, NULL, 'C'},
	{"memory", required_argument, NULL, 'm'},
	{"build", required_argument, NULL, 'B'},
	{"source", required_argument, NULL, 'D'},
	{"only", required_argument, NULL, 'O'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int number(const char *option, const char *text, int max)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < 1 || n > max) {
		fprintf(stderr, "bench: --%s %s: give a count from 1 to %d\n", option, text, max);
		exit(2);
	}
	return (int)n;
}

static int count(const char *option, const char *text)
{
	return number(option, text, SAMPLES_MAX);
}

static void set_start(struct options *o, const char *start)
{
	static const char *const kinds[] = {"boot", "cold", "resident", "warm"};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(start, kinds[i]))
			o->start = kinds[i];
	if (!o->start || strcmp(o->start, start) != 0) {
		fprintf(stderr, "bench: --start %s: give boot, cold, resident or warm\n", start);
		exit(2);
	}
}

static void add_part(struct options *o, const char *name)
{
	unsigned part = service_part_named(name);

	if (!part) {
		fprintf(stderr, "bench: --only %s: give fresh, warm, burst or churn\n", name);
		exit(2);
	}
	o->parts |= part;
}

static void set_event(struct options *o, const char *text)
{
	json_error_t err;
	json_t *root;
	int ret = 0;

	o->event = text;
	if (*text == '@') {
		free(o->event_text);
		o->event_text = NULL;
		ret = read_file(AT_FDCWD, text + 1, EVENT_BYTES_MAX, &o->event_text, NULL);
		o->event = o->event_text;
	}
	if (ret) {
		fprintf(stderr, "bench: --event %s: %s\n", text, strerror(-ret));
		exit(2);
	}
	root = json_loads(o->event, JSON_DECODE_ANY, &err);
	if (!root) {
		fprintf(stderr, "bench: --event: not JSON: %s at line %d\n", err.text, err.line);
		exit(2);
	}
	json_decref(root);
}

static void parse_option(struct options *o, int c)
{
	switch (c) {
	case 'o':
		o->out = optarg;
		break;
	case 'b':
		o->bench.boots = count("boots", optarg);
		break;
	case 'c':
		o->bench.colds = count("colds", optarg);
		break;
	case 'r':
		o->bench.residents = count("residents", optarg);
		break;
	case 'w':
		o->bench.warms = count("warms", optarg);
		break;
	case 'S':
		o->socket_path = optarg;
		break;
	case 'f':
		o->function = optarg;
		break;
	case 'e':
		set_event(o, optarg);
		break;
	case 's':
		set_start(o, optarg);
		break;
	case 'p':
		o->scale = (unsigned)number("scale", optarg, 100);
		break;
	case 'O':
		add_part(o, optarg);
		break;
	case 'T':
		o->tcg = true;
		break;
	case 'C':
		o->clones = (unsigned)number("clones", optarg, 16);
		break;
	case 'm':
		o->memory_mib = (unsigned)number("memory", optarg, 3072);
		break;
	case 'B':
		o->bench.build_dir = optarg;
		break;
	case 'D':
		o->bench.source_dir = optarg;
		break;
	case 'h':
		fputs(usage_text, stdout);
		exit(0);
	default:
		fprintf(stderr, "Try 'bench --help'.\n");
		exit(2);
	}
}

static int run_cases(struct bench *b)
{
	static const char event[] = "{\"name\": \"Quickthaw\"}";
	char dir[256];
	int ret;

	snprintf(dir, sizeof(dir), "%s/examples/hello-python", b->source_dir);
	ret = case_daemon_memory(b);
	if (!ret) {
		fprintf(stderr, "bench: deploy and publish hello-python\n");
		ret = service_deploy(&b->service, "hello-python", dir, event);
	}
	if (!ret)
		ret = case_snapshot(b, "hello-python");
	if (!ret)
		ret = case_starts(b, "hello-python", event);
	if (!ret)
		ret = case_instance_memory(b, "hello-python", event);
	if (!ret)
		ret = case_cpu_bound(b);
	if (!ret)
		ret = case_bare_process(b);
	return ret ? ret : case_bubblewrap(b);
}

static int write_results(const struct bench *b, const char *path)
{
	int ret = results_write(&b->results, path);

	if (ret)
		fprintf(stderr, "bench: %s: %s\n", path, strerror(-ret));
	else
		printf("\nresults: %s\n", path);
	return ret;
}

/** The picture is a script's work; without gnuplot it says so, and nothing else is missing. */
static void plot(const struct bench *b, const char *results)
{
	char script[280];
	char *const argv[] = {script, (char *)(uintptr_t)results, NULL};
	pid_t pid;

	snprintf(script, sizeof(script), "%s/bench/plot", b->source_dir);
	fflush(stdout);
	if (posix_spawn(&pid, script, NULL, NULL, argv, environ))
		fprintf(stderr, "bench: %s: %s: no picture\n", script, strerror(errno));
	else
		waitpid(pid, NULL, 0);
}

static int command_run(struct options *o)
{
	struct bench *b = &o->bench;
	char runtime[256];
	int ret;

	if (!o->out) {
		snprintf(o->out_default, sizeof(o->out_default), "%s/bench/results.json",
			 b->build_dir);
		o->out = o->out_default;
	}
	snprintf(runtime, sizeof(runtime), "%s/guest", b->source_dir);
	host_describe(b);
	report_add_goals(&b->results);
	ret = host_costs_measure(b);
	if (!ret)
		ret = service_start(&b->service, b->build_dir, b->bin_dir, runtime, NULL);
	if (!ret)
		ret = run_cases(b);
	service_stop(&b->service);
	if (ret)
		return 1;
	bound_add(b);
	report_table(&b->results);
	report_targets(&b->results);
	if (write_results(b, o->out))
		return 1;
	plot(b, o->out);
	return 0;
}

static int command_service(struct options *o)
{
	struct service_sizes sizes = service_sizes_scaled(o->scale);
	struct bench *b = &o->bench;
	char runtime[256];

	if (!o->out) {
		snprintf(o->out_default, sizeof(o->out_default), "%s/bench/service.json",
			 b->build_dir);
		o->out = o->out_default;
	}
	snprintf(runtime, sizeof(runtime), "%s/guest", b->source_dir);
	host_describe(b);
	report_add_service_goals(&b->results);
	if (service_load_run(b, &sizes, o->parts ? o->parts : SERVICE_ALL, runtime))
		return 1;
	report_table(&b->results);
	report_service_targets(&b->results);
	if (o->scale < 100)
		printf("at %u %% of the sizes that the goals are for\n", o->scale);
	return write_results(b, o->out) ? 1 : 0;
}

static int command_kernel(struct options *o)
{
	struct bench *b = &o->bench;

	if (!o->out) {
		snprintf(o->out_default, sizeof(o->out_default), "%s/bench/kernel.json",
			 b->build_dir);
		o->out = o->out_default;
	}
	host_describe(b);
	if (kernel_case_run(b, o->memory_mib, o->clones, o->tcg))
		return 1;
	report_add_kernel_goals(&b->results);
	report_table(&b->results);
	report_kernel_targets(&b->results);
	return write_results(b, o->out) ? 1 : 0;
}

static int attach(struct options *o, const char *command)
{
	const char *env = getenv("QUICKTHAW_SOCKET");

	if (!o->function) {
		fprintf(stderr, "bench %s: give --function NAME\n", command);
		return 2;
	}
	if (!o->socket_path)
		o->socket_path = env ? env : SOCKET_DEFAULT;
	return service_attach(&o->bench.service, o->socket_path) ? 1 : 0;
}

static int command_measure(struct options *o)
{
	struct bench *b = &o->bench;
	int status = attach(o, "measure");

	if (status)
		return status;
	host_describe(b);
	if (case_snapshot(b, o->function) || case_starts(b, o->function, o->event) ||
	    case_instance_memory(b, o->function, o->event) ||
	    (!strcmp(o->function, "hello-python") && case_bare_process(b)))
		return 1;
	service_stop(&b->service);
	report_summary(&b->results, o->function);
	return o->out && write_results(b, o->out) ? 1 : 0;
}

static int command_trace(struct options *o)
{
	int status = attach(o, "trace");

	return status ? status : trace_invoke(&o->bench, o->function, o->event, o->start);
}

static int no_arguments(const char *command, int argc, char **argv)
{
	if (!argc)
		return 0;
	fprintf(stderr, "bench %s: %s: nothing is expected there. Try 'bench --help'.\n", command,
		argv[0]);
	return 2;
}

/** @argv[0] is the command, as is @command. */
static int dispatch(struct options *o, const char *command, int argc, char **argv)
{
	static char program[] = "bench";
	int c, status;

	argv[0] = program; /* getopt's messages begin with it */
	while ((c = getopt_long(argc, argv, "h", long_options, NULL)) != -1)
		parse_option(o, c);
	snprintf(o->bin_dir, sizeof(o->bin_dir), "%s/bin", o->bench.build_dir);
	o->bench.bin_dir = o->bin_dir;
	argc -= optind;
	argv += optind;
	if (!strcmp(command, "compare") && argc == 2)
		return report_compare(argv[0], argv[1]);
	if (!strcmp(command, "compare")) {
		fprintf(stderr, "bench compare: give two result files\n");
		return 2;
	}
	if (!strcmp(command, "run") || !strcmp(command, "measure") || !strcmp(command, "trace") ||
	    !strcmp(command, "service") || !strcmp(command, "kernel")) {
		status = no_arguments(command, argc, argv);
		if (status)
			return status;
	}
	if (!strcmp(command, "run"))
		return command_run(o);
	if (!strcmp(command, "service"))
		return command_service(o);
	if (!strcmp(command, "kernel"))
		return command_kernel(o);
	if (!strcmp(command, "measure"))
		return command_measure(o);
	if (!strcmp(command, "trace"))
		return command_trace(o);
	fprintf(stderr, "bench: unknown command '%s'. Try 'bench --help'.\n", command);
	return 2;
}

int main(int argc, char **argv)
{
	static struct options o = {
		.bench = {.build_dir = "build",
			  .source_dir = ".",
			  .boots = 5,
			  .colds = 20,
			  .residents = 200,
			  .warms = 500},
		.event = "{}",
		.start = "resident",
		.clones = 8,
		.memory_mib = 256,
	};
	const char *command = argc > 1 ? argv[1] : "";
	int status;

	/* On the emulated host everything takes ten times as long and more. */
	o.scale = getenv("HWKVM") ? 1 : 100;

	if (version_asked("bench", argc, argv))
		return 0;
	if (argc < 2 || !strcmp(command, "--help") || !strcmp(command, "-h") ||
	    !strcmp(command, "help")) {
		fputs(usage_text, argc < 2 ? stderr : stdout);
		return argc < 2 ? 2 : 0;
	}
	if (results_init(&o.bench.results))
		return 1;
	status = dispatch(&o, command, argc - 1, argv + 1);
	results_free(&o.bench.results);
	free(o.event_text);
	return status;
}
