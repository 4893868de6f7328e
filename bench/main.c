/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - bench: cold, restored and warm starts side by side */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/cases.h"
#include "bench/report.h"
#include "bench/trace/trace.h"

static const char usage_text[] =
	"Usage: bench run [--out FILE] [--boots N] [--colds N] [--residents N] [--warms N]\n"
	"       bench measure --socket PATH --function NAME [--event JSON] [the counts above]\n"
	"       bench compare A.json B.json\n"
	"       bench trace --socket PATH --function NAME [--event JSON] [--start KIND]\n"
	"\n"
	"Measure how functions start, each figure as a caller sees it: from the request sent to\n"
	"the answer read, over HTTP on snapd's unix socket.\n"
	"\n"
	"  run      start a snapd of its own, deploy the examples, measure everything: starts,\n"
	"           memory, the snapshot, CPU-bound work, peers, and the bound that this host's\n"
	"           own operations set; results go to FILE (default build/bench/results.json)\n"
	"  measure  one function of a running snapd, as a table\n"
	"  compare  two result files, row by row; exit 1 when a p50 grew by more than a fifth\n"
	"  trace    one invocation's faults and exits on a time line (needs BPF)\n"
	"\n"
	"  --build DIR   where programs and scratch files are (default build)\n"
	"  --source DIR  where examples/ and guest/ are (default .)\n"
	"\n"
	"The kinds of start: cold_boot (no snapshot), cold_restore (snapshot on disk only),\n"
	"resident_restore (template in memory), warm (the instance runs).\n";

/** struct options - the command line, parsed. */
struct options {
	struct bench bench;
	const char *out;
	const char *socket_path;
	const char *function;
	const char *event;
	const char *start;
	char bin_dir[256];
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
	{"build", required_argument, NULL, 'B'},
	{"source", required_argument, NULL, 'D'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int count(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < 1 || n > SAMPLES_MAX) {
		fprintf(stderr, "bench: %s: give a count from 1 to %d\n", text, SAMPLES_MAX);
		exit(2);
	}
	return (int)n;
}

static void parse_option(struct options *o, int c)
{
	switch (c) {
	case 'o':
		o->out = optarg;
		break;
	case 'b':
		o->bench.boots = count(optarg);
		break;
	case 'c':
		o->bench.colds = count(optarg);
		break;
	case 'r':
		o->bench.residents = count(optarg);
		break;
	case 'w':
		o->bench.warms = count(optarg);
		break;
	case 'S':
		o->socket_path = optarg;
		break;
	case 'f':
		o->function = optarg;
		break;
	case 'e':
		o->event = optarg;
		break;
	case 's':
		o->start = optarg;
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

static int command_run(struct options *o)
{
	struct bench *b = &o->bench;
	char runtime[256];
	int ret;

	snprintf(runtime, sizeof(runtime), "%s/guest", b->source_dir);
	ret = host_costs_measure(b);
	if (!ret)
		ret = service_start(&b->service, b->build_dir, b->bin_dir, runtime);
	if (!ret)
		ret = run_cases(b);
	service_stop(&b->service);
	if (ret)
		return 1;
	bound_add(b);
	ret = results_write(&b->results, o->out);
	if (ret) {
		fprintf(stderr, "bench: %s: %s\n", o->out, strerror(-ret));
		return 1;
	}
	report_table(&b->results);
	report_targets(&b->results);
	printf("\nresults: %s\n", o->out);
	return 0;
}

static int attach(struct options *o, const char *command)
{
	if (!o->socket_path || !o->function) {
		fprintf(stderr, "bench %s: give --socket and --function\n", command);
		return 2;
	}
	return service_attach(&o->bench.service, o->socket_path) ? 1 : 0;
}

static int command_measure(struct options *o)
{
	struct bench *b = &o->bench;
	int status = attach(o, "measure");

	if (status)
		return status;
	if (case_snapshot(b, o->function) || case_starts(b, o->function, o->event) ||
	    case_instance_memory(b, o->function, o->event) ||
	    (!strcmp(o->function, "hello-python") && case_bare_process(b)))
		return 1;
	service_stop(&b->service);
	report_table(&b->results);
	return 0;
}

static int command_trace(struct options *o)
{
	int status = attach(o, "trace");

	return status ? status : trace_invoke(&o->bench, o->function, o->event, o->start);
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
		.out = "build/bench/results.json",
		.event = "{}",
		.start = "resident",
	};
	const char *command = argc > 1 ? argv[1] : "";
	int c;

	if (argc < 2 || !strcmp(command, "--help") || !strcmp(command, "help")) {
		fputs(usage_text, argc < 2 ? stderr : stdout);
		return argc < 2 ? 2 : 0;
	}
	while ((c = getopt_long(argc - 1, argv + 1, "h", long_options, NULL)) != -1)
		parse_option(&o, c);
	snprintf(o.bin_dir, sizeof(o.bin_dir), "%s/bin", o.bench.build_dir);
	o.bench.bin_dir = o.bin_dir;
	if (results_init(&o.bench.results))
		return 1;
	argc -= 1 + optind;
	argv += 1 + optind;
	if (!strcmp(command, "run"))
		return command_run(&o);
	if (!strcmp(command, "measure"))
		return command_measure(&o);
	if (!strcmp(command, "compare") && argc == 2)
		return report_compare(argv[0], argv[1]);
	if (!strcmp(command, "trace"))
		return command_trace(&o);
	fprintf(stderr, "bench: unknown command '%s'. Try 'bench --help'.\n", command);
	return 2;
}
