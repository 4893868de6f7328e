/* SPDX-License-Identifier: Apache-2.0 */
/* report.c - results as tables for people */
#include "bench/report.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"

enum { BAR_MAX = 30 };

#define GROWTH_MAX 1.2

static const char *text(const json_t *row, const char *key)
{
	const char *s = json_string_value(json_object_get(row, key));

	return s ? s : "";
}

static double number(const json_t *row, const char *key)
{
	return json_number_value(json_object_get(row, key));
}

/** Bytes as KiB or MiB, the rest with three significant digits. */
static const char *pretty(double v, const char *unit, char *buf, size_t n)
{
	if (!strcmp(unit, "bytes") && v >= 1048576)
		snprintf(buf, n, "%.2f MiB", v / 1048576);
	else if (!strcmp(unit, "bytes") && v > 0)
		snprintf(buf, n, "%.1f KiB", v / 1024);
	else if (!strcmp(unit, "bytes"))
		snprintf(buf, n, "0");
	else if (!strcmp(unit, "pages"))
		snprintf(buf, n, "%.0f pages", v);
	else if (!strcmp(unit, "count"))
		snprintf(buf, n, "%.0f", v);
	else if (!strcmp(unit, "per_s"))
		snprintf(buf, n, "%.0f/s", v);
	else
		snprintf(buf, n, "%.*f %s", v < 10 ? 3 : 1, v, !strcmp(unit, "ratio") ? "x" : unit);
	return buf;
}

/* A logarithmic bar: each three characters are a factor of two above 0.1 ms. */
static void print_bar(double ms)
{
	int n = ms > 0.1 ? (int)(3 * log2(ms / 0.1)) : 0;

	for (int i = 0; i < MIN(n, (int)BAR_MAX); i++)
		putchar('#');
}

void report_table(const struct results *r)
{
	char p50[32], p99[32], min[32];
	const json_t *row;
	size_t i;

	printf("\n%-8s %-34s %-13s %-13s %5s %12s %12s %12s\n", "STAGE", "CASE", "WORKLOAD",
	       "SYSTEM", "N", "MIN", "P50", "P99");
	json_array_foreach(r->rows, i, row)
	{
		const char *unit = text(row, "unit");

		printf("%-8s %-34s %-13s %-13s %5.0f %12s %12s %12s ", text(row, "stage"),
		       text(row, "case"), text(row, "workload"), text(row, "system"),
		       number(row, "n"), pretty(number(row, "min"), unit, min, sizeof(min)),
		       pretty(number(row, "p50"), unit, p50, sizeof(p50)),
		       pretty(number(row, "p99"), unit, p99, sizeof(p99)));
		if (!strcmp(unit, "ms") && !strchr(text(row, "case"), '.'))
			print_bar(number(row, "p50"));
		putchar('\n');
	}
}

/* ---- a short table: one line a kind of start ---- */

static void print_cell(const json_t *row, const char *key, int width)
{
	char buf[32];

	if (row)
		printf("%*s", width, pretty(number(row, key), text(row, "unit"), buf, sizeof(buf)));
	else
		printf("%*s", width, "-");
}

static void print_start(const struct results *r, const char *what, const char *name,
			const char *system, const char *workload)
{
	const json_t *row = results_find(r, name, system, workload);
	char more[64];

	if (!row)
		return;
	printf("%-18s%5.0f", what, number(row, "n"));
	print_cell(row, "p50", 12);
	print_cell(row, "p99", 12);
	snprintf(more, sizeof(more), "%s.faults", name);
	row = results_find(r, more, system, workload);
	if (row)
		printf("%15.0f", number(row, "p50"));
	else
		printf("%15s", "-");
	snprintf(more, sizeof(more), "%s.read", name);
	print_cell(results_find(r, more, system, workload), "p50", 13);
	printf("  ");
	print_bar(results_p50(r, name, system, workload));
	putchar('\n');
}

void report_summary(const struct results *r, const char *workload)
{
	double file = results_p50(r, "snapshot_file", "quickthaw", workload);
	double resident = results_p50(r, "resident_at_capture", "quickthaw", workload);
	double memory = results_p50(r, "private_after_one_invoke", "quickthaw", workload);
	double restore = results_p50(r, "resident_restore", "quickthaw", workload);
	double bare = results_p50(r, "process", "bare-process", workload);
	char a[32], b[32];

	printf("\n%-18s%5s%12s%12s%15s%13s  %s\n", "START", "N", "P50", "P99", "PAGES FAULTED",
	       "BYTES READ", "P50, LOG SCALE");
	print_start(r, "cold boot", "cold_boot", "quickthaw", workload);
	print_start(r, "cold restore", "cold_restore", "quickthaw", workload);
	print_start(r, "resident restore", "resident_restore", "quickthaw", workload);
	print_start(r, "warm", "warm", "quickthaw", workload);
	print_start(r, "bare python3", "process", "bare-process", workload);
	printf("\n  snapshot        %s, %.1f %% of the %s in use at capture\n",
	       pretty(file, "bytes", a, sizeof(a)), 100 * file / resident,
	       pretty(resident, "bytes", b, sizeof(b)));
	printf("  private memory  %s in an instance after one invocation\n",
	       pretty(memory, "bytes", a, sizeof(a)));
	if (!isnan(bare))
		printf("  speed           a resident restore takes %.2f of the time of a bare "
		       "python3 process\n",
		       restore / bare);
}

/* ---- goals ---- */

/** struct target - a goal on the p50 of a row, in the row's unit: at most that, or of a rate
 * (per_s) at least. */
struct target {
	const char *what;
	const char *name;
	const char *workload;
	const char *unit;
	double must, stretch;
};

static const struct target targets[] = {
	{"resident restore to response", "resident_restore", "hello-python", "ms", 5, 2},
	{"cold restore to response", "cold_restore", "hello-python", "ms", 25, 8},
	{"warm invoke", "warm", "hello-python", "ms", 1.5, 0.4},
	{"CPU-bound Python to bare", "cpu_bound_to_bare", "cpu-python", "ratio", 1.1, 1.03},
	{"snapshot file to resident bytes", "file_to_resident", "hello-python", "ratio", 0.4, 0.2},
	{"private memory after one invoke", "private_after_one_invoke", "hello-python", "bytes",
	 4 << 20, 1 << 20},
	{"snapd without instances, RSS", "rss_without_instances", "none", "bytes", 16 << 20,
	 6 << 20},
};

/* Of the service under load: each row has one value, the worst. */
static const struct target service_targets[] = {
	{"every request on a fresh instance", "fresh_throughput", "hello-python", "per_s", 150,
	 400},
	{"warm throughput", "warm_throughput", "hello-python", "per_s", 2000, 8000},
	{"burst on an idle node, p99", "burst_p99", "hello-python", "ms", 2000, 600},
	{"churn: requests lost", "churn_lost", "hello-python", "count", 0, 0},
	{"churn: answered or run twice", "churn_duplicated", "hello-python", "count", 0, 0},
	{"churn: processes left", "churn_leaked_processes", "hello-python", "count", 0, 0},
	{"churn: descriptors left", "churn_leaked_fds", "hello-python", "count", 0, 0},
	{"churn: memfds left", "churn_leaked_memfds", "hello-python", "count", 0, 0},
	{"2x overload, p99 to alone, fresh", "overload_fresh_p99", "hello-python", "ratio", 3, 3},
	{"2x overload, p99 to alone, warm", "overload_warm_p99", "hello-python", "ratio", 3, 3},
};

/* Of kernel guests: what is compared was measured in one run, so that emulated hosts count, too. */
static const struct target kernel_targets[] = {
	{"cold boot to agent to QEMU's", "kernel_boot_to_agent/qemu-microvm", "hello-python",
	 "ratio", 0.9, 0.6},
	{"vmm restore to response to QEMU's", "kernel_restore_to_response/qemu-microvm",
	 "hello-python", "ratio", 0.3, 0.1},
	{"cold restore (snapd) to QEMU's", "kernel_cold_restore/qemu-microvm", "hello-python",
	 "ratio", 0.3, 0.1},
	{"resident restore (snapd) to QEMU's", "kernel_resident_restore/qemu-microvm",
	 "hello-python", "ratio", 0.3, 0.1},
	{"resident restore to own cold boot", "kernel_resident_to_own_boot", "hello-python",
	 "ratio", 0.05, 0.01},
	{"snapshot to memory", "kernel_snapshot_to_memory", "hello-python", "ratio", 0.15, 0.08},
	{"private memory of a second clone", "kernel_private_of_clones", "hello-python", "bytes",
	 12 << 20, 6 << 20},
};

static void add_goals(struct results *r, const struct target *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct target *t = &list[i];

		json_array_append_new(r->goals,
				      json_pack("{s:s, s:s, s:s, s:f, s:f}", "case", t->name,
						"workload", t->workload, "unit", t->unit, "must",
						t->must, "stretch", t->stretch));
	}
}

void report_add_goals(struct results *r)
{
	add_goals(r, targets, ARRAY_SIZE(targets));
}

void report_add_service_goals(struct results *r)
{
	add_goals(r, service_targets, ARRAY_SIZE(service_targets));
}

void report_add_kernel_goals(struct results *r)
{
	add_goals(r, kernel_targets, ARRAY_SIZE(kernel_targets));
}

static bool is_rate(const struct target *t)
{
	return !strcmp(t->unit, "per_s");
}

/** Its ratio is of times that a busy node takes. */
static bool is_overload(const struct target *t)
{
	return !strncmp(t->name, "overload_", strlen("overload_"));
}

/** Times of an emulated host are no times: only what is no time can be judged there. */
static const char *verdict(const struct target *t, double v, bool emulated)
{
	if (isnan(v))
		return "not measured";
	if (emulated && (!strcmp(t->unit, "ms") || is_rate(t) || is_overload(t)))
		return "not judged: emulated host";
	if (is_rate(t))
		return v >= t->stretch ? "stretch" : v >= t->must ? "met" : "MISSED";
	return v <= t->stretch ? "stretch" : v <= t->must ? "met" : "MISSED";
}

static void print_targets(const struct results *r, const struct target *list, size_t count)
{
	bool emulated = json_is_true(json_object_get(r->host, "emulated"));
	char must[32], stretch[32], got[32];

	for (size_t i = 0; i < count; i++) {
		const struct target *t = &list[i];
		double v = results_p50(r, t->name, "quickthaw", t->workload);

		printf("%-34s %12s %12s %12s  %s\n", t->what,
		       pretty(t->must, t->unit, must, sizeof(must)),
		       pretty(t->stretch, t->unit, stretch, sizeof(stretch)),
		       pretty(v, t->unit, got, sizeof(got)), verdict(t, v, emulated));
	}
}

void report_service_targets(const struct results *r)
{
	printf("\n%-34s %12s %12s %12s  %s\n", "GOAL", "MUST", "STRETCH", "MEASURED", "");
	print_targets(r, service_targets, ARRAY_SIZE(service_targets));
}

void report_kernel_targets(const struct results *r)
{
	printf("\n%-34s %12s %12s %12s  %s\n", "GOAL (p50)", "MUST", "STRETCH", "MEASURED", "");
	print_targets(r, kernel_targets, ARRAY_SIZE(kernel_targets));
}

/** One time of hello-python in another of the same run; @must: 0: there is no goal. */
static void print_ratio(const char *what, double v, double to, double must)
{
	char goal[32] = "";

	if (isnan(v) || isnan(to))
		return;
	if (must > 0)
		snprintf(goal, sizeof(goal), "%.1f x", must);
	printf("%-34s %12s %12s %10.3f x  %s\n", what, goal, "", v / to,
	       !(must > 0)	? ""
	       : v / to <= must ? "met"
				: "MISSED");
}

void report_targets(const struct results *r)
{
	static const char work[] = "hello-python";
	double bare = results_p50(r, "process", "bare-process", work);
	double boot = results_p50(r, "cold_boot", "quickthaw", work);

	printf("\n%-34s %12s %12s %12s  %s\n", "GOAL (p50)", "MUST", "STRETCH", "MEASURED", "");
	print_targets(r, targets, ARRAY_SIZE(targets));
	print_ratio("resident restore to bare python3",
		    results_p50(r, "resident_restore", "quickthaw", work), bare, 0.5);
	print_ratio("warm invoke to bare python3", results_p50(r, "warm", "quickthaw", work), bare,
		    0);
	print_ratio("resident restore to cold boot",
		    results_p50(r, "resident_restore", "quickthaw", work), boot, 0);
	print_ratio("cold restore to cold boot", results_p50(r, "cold_restore", "quickthaw", work),
		    boot, 0);
}

/* ---- compare ---- */

static const json_t *find_row(const json_t *rows, const json_t *like)
{
	static const char *const keys[] = {"stage", "case", "workload", "guest", "system", "unit"};
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		bool same = true;

		for (size_t k = 0; same && k < ARRAY_SIZE(keys); k++)
			same = !strcmp(text(row, keys[k]), text(like, keys[k]));
		if (same)
			return row;
	}
	return NULL;
}

static json_t *load(const char *path)
{
	json_error_t err;
	json_t *root = json_load_file(path, 0, &err);

	if (!root || !json_is_array(json_object_get(root, "rows"))) {
		fprintf(stderr, "bench: %s: %s\n", path,
			root ? "no rows: is it a result file of bench run?" : err.text);
		json_decref(root);
		return NULL;
	}
	return root;
}

/** Times, sizes and ratios that grew by over a fifth; what is derived from the host is no growth.
 */
static bool grew(const json_t *a, const json_t *b)
{
	if (!strcmp(text(a, "unit"), "per_s")) /* more is better */
		return number(b, "p50") * GROWTH_MAX < number(a, "p50");
	return strcmp(text(a, "stage"), "bound") != 0 &&
	       number(b, "p50") > number(a, "p50") * GROWTH_MAX;
}

static void print_pair(const json_t *a, const json_t *b)
{
	const char *unit = text(a, "unit");
	double from = number(a, "p50"), to = number(b, "p50");
	char pa[32], pb[32], ratio[32] = "-";

	if (from > 0)
		snprintf(ratio, sizeof(ratio), "%.3f", to / from);
	printf("%-32s %-13s %-13s %12s %12s %8s%s\n", text(a, "case"), text(a, "workload"),
	       text(a, "system"), pretty(from, unit, pa, sizeof(pa)),
	       pretty(to, unit, pb, sizeof(pb)), ratio,
	       grew(a, b)		? "  grew"
	       : to * GROWTH_MAX < from ? "  shrank"
					: "");
}

/** Name the rows of @rows that are not in @others. */
static void print_missing(const json_t *rows, const json_t *others, const char *where)
{
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		if (find_row(others, row))
			continue;
		printf("%-32s %-13s %-13s only in %s\n", text(row, "case"), text(row, "workload"),
		       text(row, "system"), where);
	}
}

static int compare_rows(const json_t *a, const json_t *b)
{
	const json_t *row, *other;
	size_t i, common = 0, growths = 0;

	printf("%-32s %-13s %-13s %12s %12s %8s\n", "CASE", "WORKLOAD", "SYSTEM", "A P50", "B P50",
	       "B/A");
	json_array_foreach(a, i, row)
	{
		other = find_row(b, row);
		if (!other)
			continue;
		common++;
		growths += grew(row, other);
		print_pair(row, other);
	}
	print_missing(a, b, "A");
	print_missing(b, a, "B");
	printf("\n%zu rows compared, %zu grew by more than a fifth\n", common, growths);
	return growths ? 1 : 0;
}

int report_compare(const char *path_a, const char *path_b)
{
	json_t *a = load(path_a), *b = a ? load(path_b) : NULL;
	int status = b ? compare_rows(json_object_get(a, "rows"), json_object_get(b, "rows")) : 2;

	json_decref(a);
	json_decref(b);
	return status;
}
