/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service_load.c - the service under load: throughput, bursts, churn, overload
 *
 * bench is the second process, and shares the CPUs with what it loads, as a client on the same host
 * would. Requests go over the unix socket and are checked one by one (load.c).
 */
#include "bench/service_load.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/load.h"
#include "common/clock.h"
#include "common/util.h"

enum {
	WARM_UP = 4,
	CHURN_CLIENTS = 32,
	OVERLOAD_CLIENTS = 512,
	QUIET_TRIES = 600,
	FRESH_ALONE = 200
};
#define QUIET_PAUSE_US 100000
#define OVERLOAD       2.0

static const char workload[] = "hello-python";
static const char event[] = "{\"name\": \"Quickthaw\"}";

static unsigned scaled(unsigned size, unsigned percent, unsigned least)
{
	return MAX((unsigned)((uint64_t)size * percent / 100), least);
}

struct service_sizes service_sizes_scaled(unsigned percent)
{
	return (struct service_sizes){
		.fresh = scaled(2000, percent, 20),
		.warm = scaled(20000, percent, 100),
		.burst = scaled(200, percent, 10),
		.bursts = scaled(5, percent, 2),
		.functions = scaled(50, percent, 3),
		.churn = scaled(10000, percent, 60),
		.overload_s = MAX(60.0 * percent / 100, 5.0),
	};
}

static void add_value(struct bench *b, const char *name, const char *unit, double v)
{
	struct row_key key = {"service", name, workload, "process", "quickthaw", unit};

	results_add_value(&b->results, &key, v);
}

/** Percentiles of what was answered; more samples than a row can hold are thinned out evenly. */
static void add_times(struct bench *b, const char *name, struct load_result *r)
{
	struct row_key key = {"service", name, workload, "process", "quickthaw", "ms"};
	static struct samples s;
	unsigned step = r->ok / SAMPLES_MAX + 1;

	load_percentile(r, 50); /* sorts */
	s.n = 0;
	for (unsigned i = step / 2; i < r->ok; i += step)
		samples_add(&s, r->ms[i]);
	results_add(&b->results, &key, &s);
}

/** Run a load of which every request is to be answered. */
static int load_all(const struct load_plan *plan, struct load_result *r)
{
	int ret = load_run(plan, r);

	if (!ret && r->ok != plan->count) {
		fprintf(stderr,
			"bench: of %u requests %u were answered, %u refused, %u failed, %u lost, "
			"%u answered twice\n",
			plan->count, r->ok, r->throttled, r->failed, r->lost, r->duplicated);
		ret = -EPROTO;
	}
	return ret;
}

/* ---- throughput ------------------------------------------------------------------------------ */

/** One for each CPU, and one that is next: with more it is an overload. */
static unsigned clients(void)
{
	return (unsigned)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L) + 1;
}

static int throughput(struct bench *b, const char *name, const char *start, unsigned count,
		      double *ret_rate)
{
	struct load_plan plan = {
		.socket_path = b->service.socket_path,
		.name = workload,
		.connections = clients(),
		.count = WARM_UP * clients(),
		.start = start,
	};
	struct load_result r = {0};
	char times[64];
	int ret = 0;

	fprintf(stderr, "bench: %s, %u clients x %u\n", name, plan.connections, count);
	if (!start) { /* the first ones make the instances that the others find */
		ret = load_all(&plan, &r);
		load_result_free(&r);
	}
	plan.count = count;
	if (!ret)
		ret = load_all(&plan, &r);
	if (!ret) {
		*ret_rate = r.ok / r.seconds;
		add_value(b, name, "per_s", *ret_rate);
		snprintf(times, sizeof(times), "%s.time", name);
		add_times(b, times, &r);
	}
	load_result_free(&r);
	return ret;
}

/** One client alone: what an unloaded node takes. */
static int alone(struct bench *b, const char *name, const char *start, unsigned count,
		 double *ret_p99)
{
	const struct load_plan plan = {
		.socket_path = b->service.socket_path,
		.name = workload,
		.connections = 1,
		.count = count,
		.start = start,
	};
	struct load_result r;
	int ret;

	fprintf(stderr, "bench: %s, one client x %u\n", name, count);
	ret = load_all(&plan, &r);
	*ret_p99 = ret ? 0 : load_percentile(&r, 99);
	if (!ret)
		add_times(b, name, &r);
	load_result_free(&r);
	return ret;
}

/* ---- an idle node ---------------------------------------------------------------------------- */

/** Numbers of what snapd has open or has made. */
struct holdings {
	unsigned processes, fds, memfds;
};

static pid_t parent_of(const char *pid)
{
	char path[300], line[512];
	const char *at;
	int parent = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	at = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	if (at)
		parent = (int)strtol(at + 4, NULL, 10);
	fclose(f);
	return parent;
}

static unsigned count_processes(pid_t parent)
{
	DIR *dir = opendir("/proc");
	const struct dirent *e;
	unsigned n = 0;

	while (dir && (e = readdir(dir)))
		n += e->d_name[0] >= '1' && e->d_name[0] <= '9' && parent_of(e->d_name) == parent;
	if (dir)
		closedir(dir);
	return n;
}

static void count_descriptors(pid_t pid, struct holdings *h)
{
	char path[300], target[64];
	const struct dirent *e;
	DIR *dir;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		h->fds++;
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, e->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		target[MAX(n, 0)] = '\0';
		h->memfds += !strncmp(target, "/memfd:", 7);
	}
	if (dir)
		closedir(dir);
}

static struct holdings holdings(const struct bench *b)
{
	struct holdings h = {.processes = count_processes(b->service.pid)};

	count_descriptors(b->service.pid, &h);
	return h;
}

static bool is_quiet(struct bench *b)
{
	json_t *stats = service_get(&b->service, "/quickthaw/v1/stats");
	const json_t *shells = json_object_get(stats, "Shells"), *instance;
	bool quiet = json_integer_value(json_object_get(shells, "Ready")) >=
			     json_integer_value(json_object_get(shells, "Target")) &&
		     !json_integer_value(json_object_get(shells, "Spawning"));
	size_t i;

	json_array_foreach(json_object_get(stats, "Instances"), i, instance) quiet &=
		!strcmp(json_string_value(json_object_get(instance, "State")), "shell");
	json_decref(stats);
	return stats && quiet;
}

/** Until every instance has ended and the shells are made. */
static int wait_quiet(struct bench *b)
{
	for (int i = 0; i < QUIET_TRIES; i++) {
		if (is_quiet(b))
			return 0;
		usleep(QUIET_PAUSE_US);
	}
	fprintf(stderr, "bench: the node does not come to rest: instances stay\n");
	return -ETIMEDOUT;
}

/* ---- bursts ---------------------------------------------------------------------------------- */

static int bursts(struct bench *b, const struct service_sizes *sizes)
{
	const struct load_plan plan = {
		.socket_path = b->service.socket_path,
		.name = workload,
		.connections = sizes->burst,
		.count = sizes->burst,
	};
	struct load_result r;
	double worst = 0;
	int ret = 0;

	fprintf(stderr, "bench: burst of %u at once on an idle node x %u\n", sizes->burst,
		sizes->bursts);
	for (unsigned i = 0; !ret && i < sizes->bursts; i++) {
		ret = wait_quiet(b);
		if (ret)
			break;
		ret = load_all(&plan, &r);
		worst = MAX(worst, load_percentile(&r, 99));
		if (!ret && i == sizes->bursts - 1)
			add_times(b, "burst.time", &r);
		load_result_free(&r);
	}
	if (!ret)
		add_value(b, "burst_p99", "ms", worst);
	return ret;
}

/* ---- churn ----------------------------------------------------------------------------------- */

static double starts(struct bench *b)
{
	json_t *stats = service_get(&b->service, "/quickthaw/v1/stats"), *value;
	double sum = 0;
	const char *key;

	json_object_foreach(json_object_get(stats, "Starts"), key, value) sum +=
		json_number_value(value);
	json_decref(stats);
	return sum;
}

static int deploy_many(struct bench *b, unsigned functions)
{
	char dir[280], name[64];
	int ret = 0;

	fprintf(stderr, "bench: deploy and publish %u functions\n", functions);
	snprintf(dir, sizeof(dir), "%s/examples/hello-python", b->source_dir);
	for (unsigned i = 0; !ret && i < functions; i++) {
		snprintf(name, sizeof(name), "churn%u", i);
		ret = service_deploy(&b->service, name, dir, event);
	}
	return ret;
}

static int churn(struct bench *b, const struct service_sizes *sizes)
{
	struct load_plan plan = {
		.socket_path = b->service.socket_path,
		.name = "churn",
		.functions = sizes->functions,
		.connections = CHURN_CLIENTS,
		.count = sizes->functions,
	};
	struct holdings before, after;
	struct load_result r = {0};
	double started = 0;
	int ret = deploy_many(b, sizes->functions);

	if (!ret)
		ret = load_all(&plan, &r); /* opens every template */
	load_result_free(&r);
	if (!ret)
		ret = wait_quiet(b);
	if (ret)
		return ret;
	before = holdings(b);
	plan.count = sizes->churn;
	fprintf(stderr, "bench: %u invocations over %u functions\n", plan.count, plan.functions);
	started = starts(b);
	ret = load_run(&plan, &r);
	if (!ret)
		ret = wait_quiet(b);
	after = holdings(b);
	started = starts(b) - started;
	add_value(b, "churn", "per_s", r.ok / r.seconds);
	add_value(b, "churn_not_served", "count", r.failed + r.throttled);
	add_value(b, "churn_lost", "count", r.lost);
	add_value(b, "churn_duplicated", "count",
		  r.duplicated + MAX(started - (double)plan.count, 0.0));
	add_value(b, "churn_leaked_processes", "count", (double)after.processes - before.processes);
	add_value(b, "churn_leaked_fds", "count", (double)after.fds - before.fds);
	add_value(b, "churn_leaked_memfds", "count", (double)after.memfds - before.memfds);
	load_result_free(&r);
	return ret;
}

/* ---- overload -------------------------------------------------------------------------------- */

/** Twice as much as it can do, for a while: those who get in are to be served as fast as alone. */
static int overload(struct bench *b, const char *name, const char *start, double rate, double p99,
		    double seconds)
{
	const struct load_plan plan = {
		.socket_path = b->service.socket_path,
		.name = workload,
		.connections = OVERLOAD_CLIENTS,
		.seconds = seconds,
		.rate = OVERLOAD * rate,
		.start = start,
	};
	struct load_result r;
	char text[64];
	int ret;

	fprintf(stderr, "bench: %s, %.0f requests a second for %.0f s\n", name, plan.rate, seconds);
	ret = load_run(&plan, &r);
	if (!ret && (r.failed || r.lost || !r.ok)) {
		fprintf(stderr, "bench: %s: %u served, %u failed, %u lost\n", name, r.ok, r.failed,
			r.lost);
		ret = -EPROTO;
	}
	if (!ret) {
		add_value(b, name, "ratio", load_percentile(&r, 99) / p99);
		snprintf(text, sizeof(text), "%s.served", name);
		add_value(b, text, "per_s", r.ok / r.seconds);
		snprintf(text, sizeof(text), "%s.refused", name);
		add_value(b, text, "per_s", r.throttled / r.seconds);
		snprintf(text, sizeof(text), "%s.unsent", name);
		add_value(b, text, "per_s", r.unsent / r.seconds);
		snprintf(text, sizeof(text), "%s.time", name);
		add_times(b, text, &r);
	}
	load_result_free(&r);
	return ret;
}

/* ---- all ------------------------------------------------------------------------------------- */

static int deploy_one(struct bench *b)
{
	char dir[280];

	snprintf(dir, sizeof(dir), "%s/examples/hello-python", b->source_dir);
	fprintf(stderr, "bench: deploy and publish hello-python\n");
	return service_deploy(&b->service, workload, dir, event);
}

/** On fresh instances: one client, as many as it can serve, twice as many. */
static int fresh_cases(struct bench *b, const struct service_sizes *sizes)
{
	double rate = 0, p99 = 0;
	int ret =
		alone(b, "fresh_alone", "resident", MIN(sizes->fresh, (unsigned)FRESH_ALONE), &p99);

	if (!ret)
		ret = throughput(b, "fresh_throughput", "resident", sizes->fresh, &rate);
	if (!ret)
		ret = overload(b, "overload_fresh_p99", "resident", rate, p99, sizes->overload_s);
	return ret ? ret : wait_quiet(b);
}

static int warm_cases(struct bench *b, const struct service_sizes *sizes)
{
	double rate = 0, p99 = 0;
	int ret = alone(b, "warm_alone", NULL, MIN(sizes->warm, (unsigned)SAMPLES_MAX), &p99);

	if (!ret)
		ret = throughput(b, "warm_throughput", NULL, sizes->warm, &rate);
	return ret ? ret : overload(b, "overload_warm_p99", NULL, rate, p99, sizes->overload_s);
}

static const struct {
	const char *name;
	unsigned part;
	int (*run)(struct bench *b, const struct service_sizes *sizes);
} parts_table[] = {
	{"fresh", SERVICE_FRESH, fresh_cases},
	{"warm", SERVICE_WARM, warm_cases},
	{"burst", SERVICE_BURST, bursts},
	{"churn", SERVICE_CHURN, churn},
};

unsigned service_part_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(parts_table); i++)
		if (!strcmp(name, parts_table[i].name))
			return parts_table[i].part;
	return 0;
}

int service_load_run(struct bench *b, const struct service_sizes *sizes, unsigned parts,
		     const char *runtime_dir)
{
	/* Instances come and go while it is measured: few are kept, and not for long. */
	static const char *const options[] = {"--keep-warm", "3", "--shells", "8", NULL};
	int ret = service_start(&b->service, b->build_dir, b->bin_dir, runtime_dir, options);

	if (!ret)
		ret = deploy_one(b);
	for (size_t i = 0; !ret && i < ARRAY_SIZE(parts_table); i++)
		if (parts & parts_table[i].part)
			ret = parts_table[i].run(b, sizes);
	service_stop(&b->service);
	return ret;
}
