/* SPDX-License-Identifier: Apache-2.0 */
/* test_bench.c - percentiles, result rows, comparing results, naming a guest's pages */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/harness.h"
#include "bench/report.h"
#include "bench/trace/page_notes.h"

static struct samples samples;

static const struct row_key ms_key = {"invoke", "warm", "hello", "process", "quickthaw", "ms"};

static void fill(const double *v, size_t n)
{
	samples.n = 0;
	for (size_t i = 0; i < n; i++)
		samples_add(&samples, v[i]);
}

/* ---- percentiles ---- */

static void test_percentile_is_nearest_rank(void **state)
{
	(void)state;
	samples.n = 0;
	for (int i = 100; i >= 1; i--) /* any order */
		samples_add(&samples, i);
	assert_true(samples_percentile(&samples, 0) == 1);
	assert_true(samples_percentile(&samples, 1) == 1);
	assert_true(samples_percentile(&samples, 1.5) == 2);
	assert_true(samples_percentile(&samples, 50) == 50);
	assert_true(samples_percentile(&samples, 90) == 90);
	assert_true(samples_percentile(&samples, 99) == 99);
	assert_true(samples_percentile(&samples, 99.1) == 100);
	assert_true(samples_percentile(&samples, 100) == 100);
}

static void test_percentile_of_few_samples(void **state)
{
	static const double one[] = {7}, two[] = {9, 3}, five[] = {5, 1, 4, 2, 3};

	(void)state;
	samples.n = 0;
	assert_true(samples_percentile(&samples, 50) == 0);
	fill(one, 1);
	assert_true(samples_percentile(&samples, 0) == 7);
	assert_true(samples_percentile(&samples, 50) == 7);
	assert_true(samples_percentile(&samples, 99) == 7);
	fill(two, 2);
	assert_true(samples_percentile(&samples, 50) == 3);
	assert_true(samples_percentile(&samples, 51) == 9);
	fill(five, 5);
	assert_true(samples_percentile(&samples, 50) == 3);
	assert_true(samples_percentile(&samples, 90) == 5);
}

static void test_samples_past_the_end_are_dropped(void **state)
{
	(void)state;
	samples.n = 0;
	for (int i = 0; i < SAMPLES_MAX + 10; i++)
		samples_add(&samples, i);
	assert_int_equal(samples.n, SAMPLES_MAX);
	assert_true(samples_percentile(&samples, 100) == SAMPLES_MAX - 1);
}

/* ---- rows ---- */

static void test_row_has_every_member(void **state)
{
	static const char *const texts[][2] = {
		{"stage", "invoke"},  {"case", "warm"},	       {"workload", "hello"},
		{"guest", "process"}, {"system", "quickthaw"}, {"unit", "ms"},
	};
	static const double v[] = {4, 1, 3, 2};
	struct results r;
	const json_t *row;

	(void)state;
	assert_int_equal(results_init(&r), 0);
	fill(v, 4);
	results_add(&r, &ms_key, &samples);
	row = results_find(&r, "warm", "quickthaw", "hello");
	assert_non_null(row);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_string_equal(json_string_value(json_object_get(row, texts[i][0])),
				    texts[i][1]);
	assert_int_equal(json_integer_value(json_object_get(row, "n")), 4);
	assert_true(json_number_value(json_object_get(row, "min")) == 1);
	assert_true(json_number_value(json_object_get(row, "p50")) == 2);
	assert_true(json_number_value(json_object_get(row, "p90")) == 4);
	assert_true(json_number_value(json_object_get(row, "p99")) == 4);
	assert_int_equal(json_object_size(row), 11);
	results_free(&r);
}

static void test_rows_are_found_by_what_they_are(void **state)
{
	struct row_key key = ms_key;
	struct results r;

	(void)state;
	assert_int_equal(results_init(&r), 0);
	results_add_value(&r, &key, 2.5);
	key.system = "bare-process";
	results_add_value(&r, &key, 20);
	assert_true(results_p50(&r, "warm", "quickthaw", "hello") == 2.5);
	assert_true(results_p50(&r, "warm", "bare-process", "hello") == 20);
	assert_true(isnan(results_p50(&r, "warm", "bubblewrap", "hello")));
	assert_true(isnan(results_p50(&r, "warm", "quickthaw", "other")));
	assert_true(isnan(results_p50(&r, "cold_boot", "quickthaw", "hello")));
	results_add_value(&r, &key, NAN); /* no number in JSON: no row */
	assert_int_equal(json_array_size(r.rows), 2);
	results_free(&r);
}

/* ---- files ---- */

static char dir[] = "/tmp/test_bench.XXXXXX";

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static const char *in_dir(const char *name)
{
	static char paths[4][128];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static void test_results_survive_a_file(void **state)
{
	struct row_key key = ms_key;
	struct results r;
	json_t *root;

	(void)state;
	assert_int_equal(results_init(&r), 0);
	key.unit = "bytes";
	results_add_value(&r, &key, 3837952);
	results_host(&r, "cpus", 2);
	results_host_text(&r, "kind", "pvm");
	report_add_goals(&r);
	assert_int_equal(results_write(&r, in_dir("new/results.json")), 0);
	results_free(&r);
	root = json_load_file(in_dir("new/results.json"), 0, NULL);
	assert_non_null(root);
	assert_true(json_number_value(json_object_get(
			    json_array_get(json_object_get(root, "rows"), 0), "p50")) == 3837952);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(root, "host"), "kind")), "pvm");
	assert_true(json_array_size(json_object_get(root, "goals")) > 0);
	json_decref(root);
}

static void test_results_cannot_be_written(void **state)
{
	struct results r;

	(void)state;
	assert_int_equal(results_init(&r), 0);
	assert_int_equal(results_write(&r, "/proc/none/results.json"), -ENOENT);
	assert_int_equal(results_write(&r, "/dev/full"), -ENOSPC);
	results_free(&r);
}

static const char *write_one(const char *name, const struct row_key *key, double v)
{
	struct results r;
	const char *path = in_dir(name);

	assert_int_equal(results_init(&r), 0);
	results_add_value(&r, key, v);
	assert_int_equal(results_write(&r, path), 0);
	results_free(&r);
	return path;
}

static void test_compare_says_what_grew(void **state)
{
	struct row_key key = ms_key, bound = ms_key;

	(void)state;
	assert_int_equal(report_compare(write_one("a", &key, 10), write_one("b", &key, 11.9)), 0);
	assert_int_equal(report_compare(write_one("a", &key, 10), write_one("b", &key, 12.1)), 1);
	assert_int_equal(report_compare(write_one("a", &key, 10), write_one("b", &key, 1)), 0);
	assert_int_equal(report_compare(write_one("a", &key, 0), write_one("b", &key, 1)), 1);
	assert_int_equal(report_compare(write_one("a", &key, 0), write_one("b", &key, 0)), 0);
	/* What the host allows is no growth of ours. */
	bound.stage = "bound";
	assert_int_equal(report_compare(write_one("a", &bound, 1), write_one("b", &bound, 9)), 0);
	/* Other rows are not compared with each other. */
	key.workload = "other";
	assert_int_equal(report_compare(write_one("a", &key, 1), write_one("b", &ms_key, 9)), 0);
}

static void write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_compare_refuses_what_is_no_result(void **state)
{
	static const char *const texts[] = {"", "{", "[]", "{}", "{\"rows\": 1}", "\x7f\x45LF"};
	const char *good = write_one("good", &ms_key, 1);

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		write_text(in_dir("bad"), texts[i]);
		assert_int_equal(report_compare(in_dir("bad"), good), 2);
		assert_int_equal(report_compare(good, in_dir("bad")), 2);
	}
	assert_int_equal(report_compare(in_dir("none"), good), 2);
	/* Rows without the members of a row compare as nothing. */
	write_text(in_dir("odd"), "{\"rows\": [1, {}, {\"case\": 3, \"p50\": \"x\"}]}");
	assert_int_equal(report_compare(in_dir("odd"), in_dir("odd")), 0);
}

/* ---- goals ---- */

/** What report_targets() prints of a run with a slow resident restore and a large snapshot. */
static char *print_targets(bool emulated)
{
	struct row_key key = {"invoke",	 "resident_restore", "hello-python",
			      "process", "quickthaw",	     "ms"};
	char *text = calloc(1, 8192);
	struct results r;
	int saved = dup(STDOUT_FILENO), fd;

	assert_non_null(text);
	assert_int_equal(results_init(&r), 0);
	results_add_value(&r, &key, 100);
	key.system = "bare-process";
	key.name = "process";
	results_add_value(&r, &key, 400);
	key = (struct row_key){"snapshot", "file_to_resident", "hello-python",
			       "process",  "quickthaw",	       "ratio"};
	results_add_value(&r, &key, 0.5);
	if (emulated)
		json_object_set_new(r.host, "emulated", json_true());
	fflush(stdout);
	fd = open(in_dir("table"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && saved >= 0);
	dup2(fd, STDOUT_FILENO);
	report_targets(&r);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	assert_true(pread(fd, text, 8191, 0) > 0);
	close(fd);
	close(saved);
	results_free(&r);
	return text;
}

static void test_times_of_an_emulated_host_are_not_judged(void **state)
{
	char *here = print_targets(false), *there = print_targets(true);

	(void)state;
	assert_non_null(strstr(here, "100.0 ms  MISSED"));
	assert_null(strstr(there, "100.0 ms  MISSED"));
	assert_non_null(strstr(there, "100.0 ms  not judged: emulated host"));
	/* What is no time is judged on both, and so are ratios of times. */
	assert_non_null(strstr(here, "0.500 x  MISSED"));
	assert_non_null(strstr(there, "0.500 x  MISSED"));
	assert_non_null(strstr(here, "0.250 x  met"));
	assert_non_null(strstr(there, "0.250 x  met"));
	free(here);
	free(there);
}

/* ---- pages of a guest ---- */

static void test_notes_name_pages_and_addresses(void **state)
{
	struct page_notes n = {0};

	(void)state;
	assert_int_equal(page_notes_parse(&n, "2000 7fff00001000 rw- [heap]\n"), 0);
	assert_int_equal(page_notes_parse(&n, "5 400000 r-x /usr/bin/a b\n"), 0);
	assert_int_equal(page_notes_parse(&n, "6 7fff00004000 rw- [heap]\n"), 0);
	assert_int_equal(page_notes_sort(&n), 0);
	assert_int_equal(page_notes_page(&n, 5)->gva, 0x400000);
	assert_string_equal(page_notes_page(&n, 5)->mapping, "r-x /usr/bin/a b");
	assert_null(page_notes_page(&n, 4));
	assert_null(page_notes_page(&n, 1ull << 40));
	assert_null(page_notes_mapping_at(&n, 0x3fffff));
	assert_string_equal(page_notes_mapping_at(&n, 0x400fff), "r-x /usr/bin/a b");
	assert_null(page_notes_mapping_at(&n, 0x401000)); /* between two mappings */
	assert_string_equal(page_notes_mapping_at(&n, 0x7fff00002345),
			    "rw- [heap]"); /* inside one */
	assert_null(page_notes_mapping_at(&n, 0x7fff00005000));
	page_notes_free(&n);
}

static void test_notes_ignore_other_lines(void **state)
{
	static const char *const lines[] = {
		"",
		"\n",
		"vmm: no such file\n",
		"5\n",
		"5 zz\n",
		"5 400000\n",
		"99999999999999999999 400000 r-- x\n",
		"-1 400000 r-- x\n",
	};
	struct page_notes n = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_int_equal(page_notes_parse(&n, lines[i]), 0);
	assert_int_equal(page_notes_sort(&n), 0);
	assert_int_equal(n.by_gva_count, 0);
	assert_null(page_notes_mapping_at(&n, 0x400000));
	page_notes_free(&n);
}

static void test_notes_need_a_vmm(void **state)
{
	struct page_notes n = {0};

	(void)state;
	assert_int_equal(page_notes_read(&n, "/bin/false", "x"), -EIO);
	assert_int_equal(page_notes_read(&n, "/bin/false", "it's"), -EINVAL);
	page_notes_free(&n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_percentile_is_nearest_rank),
		cmocka_unit_test(test_percentile_of_few_samples),
		cmocka_unit_test(test_samples_past_the_end_are_dropped),
		cmocka_unit_test(test_row_has_every_member),
		cmocka_unit_test(test_rows_are_found_by_what_they_are),
		cmocka_unit_test(test_results_survive_a_file),
		cmocka_unit_test(test_results_cannot_be_written),
		cmocka_unit_test(test_compare_says_what_grew),
		cmocka_unit_test(test_compare_refuses_what_is_no_result),
		cmocka_unit_test(test_times_of_an_emulated_host_are_not_judged),
		cmocka_unit_test(test_notes_name_pages_and_addresses),
		cmocka_unit_test(test_notes_ignore_other_lines),
		cmocka_unit_test(test_notes_need_a_vmm),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
