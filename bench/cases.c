/* SPDX-License-Identifier: Apache-2.0 */
/* cases.c - what is measured on Quickthaw: starts, memory, the snapshot, CPU-bound work */
#include "bench/cases.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/util.h"

enum { WARM_UP = 3, MEMORY_INSTANCES = 5, CPU_RUNS = 9 };

static const char cpu_event[] = "{\"rounds\": 200000}";

/** struct start_case - one kind of start. */
struct start_case {
	const char *name;
	const char *start; /**< X-Quickthaw-Start */
	int count;
	int warm_up; /**< starts before, which fill caches and templates and are not measured */
};

static void report(struct bench *b, const struct start_case *c, const char *workload,
		   const char *what, const char *unit, struct samples *s)
{
	char name[64];
	struct row_key key = {.stage = "invoke", .guest = "process", .system = "quickthaw"};

	snprintf(name, sizeof(name), "%s%s%s", c->name, *what ? "." : "", what);
	key.name = name;
	key.workload = workload;
	key.unit = unit;
	results_add(&b->results, &key, s);
}

/** struct start_samples - what is measured of each start. */
struct start_samples {
	struct samples total, run, restore, faults, bytes;
};

static void add_sample(struct start_samples *s, const struct invoke_sample *one)
{
	samples_add(&s->total, one->ms);
	samples_add(&s->run, one->run_ms);
	samples_add(&s->restore, one->restore_ms);
	samples_add(&s->faults, one->faults);
	samples_add(&s->bytes, one->bytes_read);
}

static int run_start_case(struct bench *b, const struct start_case *c, const char *name,
			  const char *event)
{
	static struct start_samples s;
	struct invoke_sample sample;

	s.total.n = s.run.n = s.restore.n = s.faults.n = s.bytes.n = 0;
	fprintf(stderr, "bench: %s %s x %d\n", name, c->name, c->count);
	for (int i = 0; i < c->warm_up + c->count; i++) {
		int ret = service_invoke(&b->service, name, event, c->start, !c->start, &sample);

		if (ret)
			return ret;
		if (i >= c->warm_up)
			add_sample(&s, &sample);
		if (c->start)
			service_settle(&b->service);
	}
	report(b, c, name, "", "ms", &s.total);
	report(b, c, name, "run", "ms", &s.run);
	report(b, c, name, "restore", "ms", &s.restore);
	report(b, c, name, "faults", "pages", &s.faults);
	report(b, c, name, "read", "bytes", &s.bytes);
	return 0;
}

int case_starts(struct bench *b, const char *name, const char *event)
{
	const struct start_case cases[] = {
		{"cold_boot", "boot", b->boots, 1},
		{"cold_restore", "cold", b->colds, 1},
		{"resident_restore", "resident", b->residents, WARM_UP},
		{"warm", NULL, b->warms, WARM_UP}, /* instances stay, so the next one is warm */
	};
	int ret = 0;

	for (size_t i = 0; !ret && i < ARRAY_SIZE(cases); i++)
		ret = run_start_case(b, &cases[i], name, event);
	return ret;
}

/* ---- memory ---- */

static double proc_number(int pid, const char *file, const char *field)
{
	CLEANUP_FREE char *text = NULL;
	const char *at;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	if (read_file(AT_FDCWD, path, 1 << 20, &text, NULL))
		return 0;
	at = strstr(text, field);
	return at ? strtod(at + strlen(field), NULL) * 1024 : 0;
}

double process_private_bytes(int pid)
{
	return proc_number(pid, "smaps_rollup", "Private_Clean:") +
	       proc_number(pid, "smaps_rollup", "Private_Dirty:");
}

int case_instance_memory(struct bench *b, const char *name, const char *event)
{
	struct row_key key = {"memory", "private_after_one_invoke", name, "process", "quickthaw",
			      "bytes"};
	static struct samples bytes;
	struct invoke_sample sample;
	double v;
	int ret;

	bytes.n = 0;
	for (int i = 0; i < MEMORY_INSTANCES; i++) {
		ret = service_invoke(&b->service, name, event, "resident", true, &sample);
		if (ret)
			return ret;
		v = process_private_bytes((int)sample.pid);
		if (v > 0)
			samples_add(&bytes, v);
	}
	if (!bytes.n) {
		fprintf(stderr,
			"bench: %s: /proc does not show the memory of its instances (run "
			"as root, on the machine of snapd)\n",
			name);
		return -ENOENT;
	}
	results_add(&b->results, &key, &bytes);
	return 0;
}

int case_daemon_memory(struct bench *b)
{
	struct row_key key = {"daemon", "rss_without_instances", "none", "process", "quickthaw",
			      "bytes"};
	json_t *stats = service_get(&b->service, "/quickthaw/v1/stats");
	int pid = (int)json_integer_value(json_object_get(stats, "Pid"));

	json_decref(stats);
	if (!pid)
		return -EPROTO;
	results_add_value(&b->results, &key, proc_number(pid, "status", "VmRSS:"));
	return 0;
}

/* ---- the snapshot ---- */

int case_snapshot(struct bench *b, const char *name)
{
	struct row_key key = {"snapshot", "", name, "process", "quickthaw", "bytes"};
	const json_t *versions, *snapshot;
	double file, resident, working_set;
	char path[256];
	json_t *root;

	snprintf(path, sizeof(path), "/2015-03-31/functions/%s/versions", name);
	root = service_get(&b->service, path);
	if (!root)
		return -EPROTO;
	versions = json_object_get(root, "Versions");
	snapshot = json_object_get(json_array_get(versions, json_array_size(versions) - 1),
				   "Snapshot");
	file = json_number_value(json_object_get(snapshot, "FileBytes"));
	resident = json_number_value(json_object_get(snapshot, "ResidentBytes"));
	working_set = json_number_value(json_object_get(snapshot, "WorkingSetPages"));
	json_decref(root);
	if (file <= 0 || resident <= 0) {
		fprintf(stderr, "bench: %s has no published version (snapctl publish %s)\n", name,
			name);
		return -EPROTO;
	}
	key.name = "snapshot_file";
	results_add_value(&b->results, &key, file);
	key.name = "resident_at_capture";
	results_add_value(&b->results, &key, resident);
	key.name = "working_set";
	key.unit = "pages";
	results_add_value(&b->results, &key, working_set);
	key.name = "file_to_resident";
	key.unit = "ratio";
	results_add_value(&b->results, &key, file / resident);
	return 0;
}

/* ---- CPU-bound work ---- */

/** One run in a bare python3 process: the handler itself tells how long the work took. */
static int bare_cpu_ms(const struct bench *b, double *ret_ms)
{
	char command[512], line[256] = "";
	const char *at;
	FILE *f;

	snprintf(command, sizeof(command),
		 "echo '%s' | /usr/bin/python3 %s/bench/peers/bare_handler.py "
		 "%s/examples/cpu-python app.handler",
		 cpu_event, b->source_dir, b->source_dir);
	f = popen(command, "r");
	if (!f)
		return -errno;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	if (pclose(f))
		return -EIO;
	at = strstr(line, "\"ms\": ");
	if (!at)
		return -EPROTO;
	*ret_ms = strtod(at + 6, NULL);
	return 0;
}

static int guest_cpu_ms(struct bench *b, double *ret_ms)
{
	struct invoke_sample sample;
	int ret = service_invoke(&b->service, "cpu-python", cpu_event, NULL, true, &sample);
	json_t *root = ret ? NULL : json_loads(b->service.reply.body, 0, NULL);

	*ret_ms = json_number_value(json_object_get(root, "ms"));
	json_decref(root);
	return ret;
}

/* Guest and bare take turns, so that a change of the machine's speed meets both. */
int case_cpu_bound(struct bench *b)
{
	struct row_key key = {"run", "cpu_bound", "cpu-python", "process", "quickthaw", "ms"};
	static struct samples guest, bare;
	double guest_ms = 0, bare_ms = 0;
	char dir[256];
	int ret;

	guest.n = bare.n = 0;
	snprintf(dir, sizeof(dir), "%s/examples/cpu-python", b->source_dir);
	fprintf(stderr, "bench: cpu-python against bare python3 x %d\n", CPU_RUNS);
	ret = service_deploy(&b->service, "cpu-python", dir, "{\"rounds\": 1000}");
	for (int i = 0; !ret && i < CPU_RUNS; i++) {
		ret = guest_cpu_ms(b, &guest_ms);
		if (!ret)
			ret = bare_cpu_ms(b, &bare_ms);
		if (!ret && i) { /* the first is the instance's start */
			samples_add(&guest, guest_ms);
			samples_add(&bare, bare_ms);
		}
	}
	if (ret)
		return ret;
	results_add(&b->results, &key, &guest);
	key.system = "bare-process";
	results_add(&b->results, &key, &bare);
	key.system = "quickthaw";
	key.name = "cpu_bound_to_bare";
	key.unit = "ratio";
	results_add_value(&b->results, &key,
			  samples_percentile(&guest, 50) / samples_percentile(&bare, 50));
	return 0;
}
