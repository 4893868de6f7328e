/* SPDX-License-Identifier: Apache-2.0 */
/* cases.c - what is measured on Quickthaw: starts, memory, the snapshot, CPU-bound work */
#include "bench/cases.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

enum { WARM_UP = 3, MEMORY_INSTANCES = 5, CPU_RUNS = 9, SETTLE_US = 30000 };

static const char cpu_event[] = "{\"rounds\": 200000}";

/** struct start_case - one kind of start. */
struct start_case {
	const char *name;
	const char *start; /**< X-Quickthaw-Start */
	int count;
	bool keep;
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

static int run_start_case(struct bench *b, const struct start_case *c, const char *name,
			  const char *event)
{
	static struct samples total, run, restore, faults, bytes;
	struct invoke_sample sample;

	total.n = run.n = restore.n = faults.n = bytes.n = 0;
	fprintf(stderr, "bench: %s %s x %d\n", name, c->name, c->count);
	for (int i = 0; i < c->count; i++) {
		int ret = service_invoke(&b->service, name, event, c->start, c->keep, &sample);

		if (ret)
			return ret;
		samples_add(&total, sample.ms);
		samples_add(&run, sample.run_ms);
		samples_add(&restore, sample.restore_ms);
		samples_add(&faults, sample.faults);
		samples_add(&bytes, sample.bytes_read);
		/* One at a time on an idle node: the instance before is gone, its shell replaced.
		 */
		usleep(c->start ? SETTLE_US : 0);
	}
	report(b, c, name, "", "ms", &total);
	report(b, c, name, "run", "ms", &run);
	report(b, c, name, "restore", "ms", &restore);
	report(b, c, name, "faults", "pages", &faults);
	report(b, c, name, "read", "bytes", &bytes);
	return 0;
}

int case_starts(struct bench *b, const char *name, const char *event)
{
	const struct start_case cases[] = {
		{"cold_boot", "boot", b->boots, false},
		{"cold_restore", "cold", b->colds, false},
		{"resident_restore", "resident", b->residents, false},
		{"warm", NULL, b->warms, true},
	};
	struct invoke_sample sample;
	int ret = 0;

	for (size_t i = 0; !ret && i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* The first ones of a kind fill caches and templates: not what is measured. */
		for (int k = 0; !ret && cases[i].start == NULL && k < WARM_UP; k++)
			ret = service_invoke(&b->service, name, event, NULL, true, &sample);
		for (int k = 0;
		     !ret && cases[i].start && !strcmp(cases[i].start, "resident") && k < WARM_UP;
		     k++)
			ret = service_invoke(&b->service, name, event, "resident", false, &sample);
		if (!ret)
			ret = run_start_case(b, &cases[i], name, event);
	}
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

double pss_private_bytes(int pid)
{
	return proc_number(pid, "smaps_rollup", "Private_Clean:") +
	       proc_number(pid, "smaps_rollup", "Private_Dirty:");
}

double rss_bytes(int pid)
{
	return proc_number(pid, "status", "VmRSS:");
}

static int stats_pid(struct service *s, const char *function, int *ret_pid, int *ret_snapd)
{
	json_t *stats = service_get(s, "/quickthaw/v1/stats");
	const json_t *row;
	size_t i;

	*ret_pid = 0;
	if (!stats)
		return -EPROTO;
	*ret_snapd = (int)json_integer_value(json_object_get(stats, "Pid"));
	json_array_foreach(json_object_get(stats, "Instances"), i, row)
	{
		const char *f = json_string_value(json_object_get(row, "FunctionName"));

		if (f && function && !strcmp(f, function))
			*ret_pid = (int)json_integer_value(json_object_get(row, "Pid"));
	}
	json_decref(stats);
	return 0;
}

int case_instance_memory(struct bench *b, const char *name, const char *event)
{
	struct row_key key = {"memory", "private_after_one_invoke", name, "process", "quickthaw",
			      "bytes"};
	static struct samples bytes;
	struct invoke_sample sample;
	int pid, snapd_pid, ret;

	bytes.n = 0;
	for (int i = 0; i < MEMORY_INSTANCES; i++) {
		ret = service_invoke(&b->service, name, event, "resident", true, &sample);
		if (!ret)
			ret = stats_pid(&b->service, name, &pid, &snapd_pid);
		if (ret)
			return ret;
		if (pid)
			samples_add(&bytes, pss_private_bytes(pid));
	}
	results_add(&b->results, &key, &bytes);
	return bytes.n ? 0 : -ENOENT;
}

int case_daemon_memory(struct bench *b)
{
	struct row_key key = {"daemon", "rss_without_instances", "none", "process", "quickthaw",
			      "bytes"};
	int pid, snapd_pid, ret = stats_pid(&b->service, NULL, &pid, &snapd_pid);

	if (!ret)
		results_add_value(&b->results, &key, rss_bytes(snapd_pid));
	return ret;
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
	versions = json_object_get(root, "Versions");
	snapshot = json_object_get(json_array_get(versions, json_array_size(versions) - 1),
				   "Snapshot");
	file = json_number_value(json_object_get(snapshot, "FileBytes"));
	resident = json_number_value(json_object_get(snapshot, "ResidentBytes"));
	working_set = json_number_value(json_object_get(snapshot, "WorkingSetPages"));
	json_decref(root);
	if (file <= 0 || resident <= 0) {
		fprintf(stderr, "bench: snapd says nothing about the snapshot of %s\n", name);
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
