/* SPDX-License-Identifier: Apache-2.0 */
/* test_metrics.c - what is counted comes out as Prometheus wants it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/util.h"
#include "snapd/api.h"
#include "snapd/budget.h"
#include "snapd/metrics.h"

#define MS(n) ((uint64_t)(n)*1000000)

/** All of it, as GET /metrics has it. */
static char *page(void)
{
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);

	assert_non_null(to);
	api_metrics_write(to);
	assert_int_equal(fclose(to), 0);
	return text;
}

/** The value of the line that begins with @series, or -1: there is none. */
static double value(const char *text, const char *series)
{
	size_t n = strlen(series);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, series, n) && line[n] == ' ')
			return strtod(line + n, NULL);
	}
	return -1;
}

static void test_an_outcome_is_counted_as_what_it_is(void **state)
{
	static const char pattern[] = "quickthaw_errors_total{kind=\"%s\"}";
	CLEANUP_FREE char *before = page();

	(void)state;
	for (int f = INVOCATION_FAILED_HANDLER; f < INVOCATION_FAILURE_COUNT; f++)
		for (int i = 0; i < f; i++)
			metrics_invocation(&(struct invocation_outcome){.failure = f});
	for (int f = INVOCATION_FAILED_HANDLER; f < INVOCATION_FAILURE_COUNT; f++) {
		CLEANUP_FREE char *after = page();
		char series[64];

		snprintf(series, sizeof(series), pattern, invocation_failure_names[f]);
		assert_true(value(before, series) >= 0);
		assert_true(value(after, series) - value(before, series) == f);
	}
}

static void test_times_go_to_their_kind_of_start(void **state)
{
	static const char name[] = "quickthaw_invoke_duration_seconds";
	CLEANUP_FREE char *before = page(), *after = NULL;
	char series[128];

	(void)state;
	for (int kind = START_WARM; kind < START_KIND_COUNT; kind++)
		metrics_invocation(&(struct invocation_outcome){
			.start = kind,
			.total_ns = MS(kind * 100),
			.restore_ns = MS(2),
			.init_ns = MS(80),
		});
	after = page();
	for (int kind = START_WARM; kind < START_KIND_COUNT; kind++) {
		snprintf(series, sizeof(series), "%s_count{start=\"%s\"}", name,
			 start_kind_names[kind]);
		assert_true(value(after, series) - value(before, series) == 1);
		snprintf(series, sizeof(series), "%s_sum{start=\"%s\"}", name,
			 start_kind_names[kind]);
		assert_true(value(after, series) - value(before, series) > 0.1 * kind - 1e-6);
		assert_true(value(after, series) - value(before, series) < 0.1 * kind + 1e-6);
	}
	snprintf(series, sizeof(series), "quickthaw_template_lookups_total{result=\"hit\"}");
	assert_true(value(after, series) - value(before, series) == 1);
	snprintf(series, sizeof(series), "quickthaw_template_lookups_total{result=\"miss\"}");
	assert_true(value(after, series) - value(before, series) == 1);
	snprintf(series, sizeof(series),
		 "quickthaw_restore_duration_seconds_count{start=\"cold-restore\"}");
	assert_true(value(after, series) - value(before, series) == 1);
	assert_true(value(after, "quickthaw_init_duration_seconds_count") -
			    value(before, "quickthaw_init_duration_seconds_count") ==
		    1);
}

/** Bounds are inclusive, buckets cumulative, and what is above the last bound is in +Inf. */
static void test_buckets(void **state)
{
	static const char name[] = "quickthaw_page_in_duration_seconds";
	const struct {
		uint64_t ns;
		const char *first; /* the smallest bucket that counts it */
		const char *below;
	} cases[] = {
		{0, "2.5e-05", NULL},
		{25000, "2.5e-05", NULL},
		{25001, "5e-05", "2.5e-05"},
		{MS(5), "0.005", "0.002"},
		{2 * NSEC_PER_SEC, "+Inf", "1"},
	};
	char series[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_FREE char *before = page(), *after = NULL;

		metrics_observe(METRIC_PAGE_IN, cases[i].ns);
		after = page();
		snprintf(series, sizeof(series), "%s_bucket{le=\"%s\"}", name, cases[i].first);
		assert_true(value(after, series) - value(before, series) == 1);
		if (cases[i].below) {
			snprintf(series, sizeof(series), "%s_bucket{le=\"%s\"}", name,
				 cases[i].below);
			assert_true(value(after, series) - value(before, series) == 0);
		}
		snprintf(series, sizeof(series), "%s_bucket{le=\"+Inf\"}", name);
		assert_true(value(after, series) - value(before, series) == 1);
	}
}

static void test_replies_by_status(void **state)
{
	CLEANUP_FREE char *before = page(), *after = NULL;

	(void)state;
	assert_true(value(before, "quickthaw_http_requests_total{code=\"599\"}") == -1);
	metrics_http(599);
	metrics_http(599);
	metrics_http(100);
	/* No such status: not counted, and nothing breaks. */
	metrics_http(0);
	metrics_http(99);
	metrics_http(600);
	metrics_http(UINT32_MAX);
	after = page();
	assert_true(value(after, "quickthaw_http_requests_total{code=\"599\"}") == 2);
	assert_true(value(after, "quickthaw_http_requests_total{code=\"100\"}") == 1);
	assert_null(strstr(after, "code=\"0\""));
	assert_null(strstr(after, "code=\"600\""));
}

static void test_promtool_finds_nothing(void **state)
{
	FILE *promtool;
	CLEANUP_FREE char *text = NULL;

	(void)state;
	if (system("command -v promtool >/dev/null") != 0) { /* NOLINT(cert-env33-c) */
		print_message("no promtool on this host: scripts/setup service\n");
		skip();
	}
	metrics_http(200);
	functions_add(function_new("hello"));
	text = page();
	promtool = popen("promtool check metrics", "w"); /* NOLINT(cert-env33-c) */
	assert_non_null(promtool);
	assert_int_equal(fputs(text, promtool) < 0, 0);
	assert_int_equal(pclose(promtool), 0);
}

/** Every figure that @text names is in @metrics. Return: how many names there were. */
static int check_names(const char *text, const char *metrics)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz_";
	static const char *const prefixes[] = {"quickthaw_", "process_"};
	int names = 0;

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		for (const char *at = strstr(text, prefixes[i]); at; at = strstr(at, prefixes[i])) {
			char name[128], head[128];
			size_t n = strspn(at, letters);

			assert_true(n < sizeof(name) - 16);
			snprintf(name, sizeof(name), "\n%.*s", (int)n, at);
			/* A figure by version has no line where there is no version. */
			snprintf(head, sizeof(head), "\n# HELP %.*s ", (int)n, at);
			if (!strstr(metrics, name) && !strstr(metrics, head))
				fail_msg("there is no figure %.*s", (int)n, at);
			at += n;
			names++;
		}
	return names;
}

/** The examples ask for nothing that does not exist. */
static void test_examples_name_what_there_is(void **state)
{
	static const char *const paths[] = {"examples/grafana-dashboard.json",
					    "examples/prometheus-alerts.yml"};
	CLEANUP_FREE char *metrics = NULL;

	(void)state;
	budget_init(0, 1);
	budget_sample();
	metrics = page();
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		CLEANUP_FREE char *text = calloc(1, 1 << 20);
		CLEANUP_FILE FILE *f = fopen(paths[i], "re");

		assert_non_null(f);
		assert_in_range(fread(text, 1, (1 << 20) - 1, f), 1, (1 << 20) - 2);
		assert_true(check_names(text, metrics) > 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_outcome_is_counted_as_what_it_is),
		cmocka_unit_test(test_times_go_to_their_kind_of_start),
		cmocka_unit_test(test_buckets),
		cmocka_unit_test(test_replies_by_status),
		cmocka_unit_test(test_promtool_finds_nothing),
		cmocka_unit_test(test_examples_name_what_there_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
