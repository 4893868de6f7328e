/* SPDX-License-Identifier: Apache-2.0 */
/* test_config.c - snapd's settings: the table against itself, its file and its example */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/util.h"
#include "snapd/options.h"

static struct options o;
static char error[OPTIONS_ERROR_MAX];
static char path[] = "/tmp/quickthaw-config.XXXXXX";

static int setup(void **state)
{
	(void)state;
	options_default(&o);
	strcpy(strrchr(path, '.'), ".XXXXXX");
	close(mkstemp(path));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path);
}

static bool read_text(const char *text)
{
	FILE *f = fopen(path, "w");

	fputs(text, f);
	fclose(f);
	return options_read_file(&o, path, error);
}

static void assert_refused(const char *text, unsigned line, const char *why)
{
	char want[OPTIONS_ERROR_MAX];

	snprintf(want, sizeof(want), "%s:%u: %s", path, line, why);
	assert_false(read_text(text));
	assert_string_equal(error, want);
}

static void test_file(void **state)
{
	(void)state;
	assert_true(read_text("# a comment\n"
			      "\n"
			      "shells = 7\n"
			      "  keep-warm=0  \n"
			      "\tcpu-baseline\t=\tx86-64-v3\n"
			      "state = /a path/with = in it"));
	assert_int_equal(o.shells, 7);
	assert_int_equal(o.keep_warm_s, 0);
	assert_string_equal(o.cpu_baseline, "x86-64-v3");
	assert_string_equal(o.state, "/a path/with = in it");
}

static void test_mistakes_name_file_and_line(void **state)
{
	(void)state;
	assert_refused("shells = 4\nshels = 4\n", 2, "unknown key 'shels': did you mean 'shells'?");
	assert_refused("keepwarm = 4\n", 1, "unknown key 'keepwarm': did you mean 'keep-warm'?");
	assert_refused("sokcet = /x\n", 1, "unknown key 'sokcet': did you mean 'socket'?");
	assert_refused("\n\nshells\n", 3, "shells: a line is `key = value`");
	assert_refused("shells = 0\n", 1, "shells 0: give a number from 1 to 64");
	assert_refused("shells = 65\n", 1, "shells 65: give a number from 1 to 64");
	assert_refused("shells = 4x\n", 1, "shells 4x: give a number from 1 to 64");
	assert_refused("shells = -1\n", 1, "shells -1: give a number from 1 to 64");
	assert_refused("shells = 99999999999999999999\n", 1,
		       "shells 99999999999999999999: give a number from 1 to 64");
	assert_refused("shells =\n", 1, "shells : give a number from 1 to 64");
	assert_refused("cpu-baseline = hos\n", 1, "cpu-baseline hos: give one of host|x86-64-v3");
	assert_refused("state =\n", 1, "state: give a path");
}

static void test_file_names_no_other_file(void **state)
{
	(void)state;
	assert_false(read_text("config = /etc/passwd\n"));
}

static void test_long_lines_are_refused(void **state)
{
	static char text[20000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	assert_refused(text, 1, "the line is too long");
	memset(text, '#', sizeof(text) - 1);
	assert_refused(text, 1, "the line is too long");
}

static void test_missing_file(void **state)
{
	(void)state;
	assert_false(options_read_file(&o, "/nowhere/snapd.conf", error));
	assert_string_equal(error, "/nowhere/snapd.conf: No such file or directory");
}

static void test_command_line_wins(void **state)
{
	static char words[][16] = {"snapd", "--shells", "9", "--config", "", "--vmm", "/v"};
	char *argv[ARRAY_SIZE(words) + 1] = {NULL};

	(void)state;
	assert_true(read_text("shells = 7\nkeep-warm = 8\nvmm = /file\nruntime-dir = /r\n"));
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		argv[i] = *words[i] ? words[i] : path;
	options_parse(&o, ARRAY_SIZE(words), argv);
	assert_int_equal(o.shells, 9);
	assert_int_equal(o.keep_warm_s, 8);
	assert_int_equal(o.init_timeout_s, 60);
	assert_string_equal(o.vmm, "/v");
	assert_string_equal(o.runtime_dir, "/r");
}

static void test_names_are_unique_and_short(void **state)
{
	size_t n;
	const struct option_info *table = options_table(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		assert_true(strlen(table[i].name) <= 40);
		assert_true((table[i].type == OPTION_FLAG) == !table[i].argument);
		for (size_t j = 0; j < i; j++) {
			assert_string_not_equal(table[i].name, table[j].name);
			assert_int_not_equal(table[i].offset, table[j].offset);
		}
	}
}

static void test_example_has_every_setting_with_its_default(void **state)
{
	size_t n;
	const struct option_info *table = options_table(&n);
	char *text, line[PATH_MAX + 64];

	(void)state;
	assert_int_equal(read_file(AT_FDCWD, "examples/snapd.conf", 1 << 20, &text, NULL), 0);
	for (size_t i = 0; i < n; i++) {
		const char *initial = table[i].initial;

		if (table[i].offset == offsetof(struct options, config))
			continue;
		if (table[i].type == OPTION_FLAG)
			initial = "no";
		snprintf(line, sizeof(line), "\n#%s =%s%s\n", table[i].name, initial ? " " : "",
			 initial ? initial : "");
		if (!strstr(text, line))
			fail_msg("examples/snapd.conf has no line: %s", line);
	}
	free(text);
}

/** Texts are compared as texts, for they lie at other addresses. */
static void assert_same_options(const struct options *a, const struct options *b)
{
	size_t n;
	const struct option_info *table = options_table(&n);

	for (size_t i = 0; i < n; i++) {
		const char *x = (const char *)a + table[i].offset;
		const char *y = (const char *)b + table[i].offset;

		if (table[i].type == OPTION_CHOICE || table[i].type == OPTION_TEXT) {
			x = *(const char *const *)(const void *)x;
			y = *(const char *const *)(const void *)y;
			assert_true((x == NULL) == (y == NULL));
			if (x)
				assert_string_equal(x, y);
		} else if (table[i].type == OPTION_PATH) {
			assert_string_equal(x, y);
		} else {
			assert_memory_equal(
				x, y, table[i].type == OPTION_FLAG ? sizeof(bool) : sizeof(int));
		}
	}
}

/** The example with every default in force is the same as no file at all. */
static void test_example_changes_nothing(void **state)
{
	static struct options initial;
	char *text, *to;

	(void)state;
	assert_int_equal(read_file(AT_FDCWD, "examples/snapd.conf", 1 << 20, &text, NULL), 0);
	to = text;
	for (char *at = text; *at;) {
		char *end = strchr(at, '\n') + 1;
		bool setting = *at == '#' && at[1] != ' ' && at[1] != '\n' && end[-2] != '=';

		if (setting) {
			memmove(to, at + 1, (size_t)(end - at - 1));
			to += end - at - 1;
		} else {
			assert_true(*at == '#' || *at == '\n');
		}
		at = end;
	}
	*to = '\0';
	if (!read_text(text))
		fail_msg("%s", error);
	options_default(&initial);
	assert_same_options(&o, &initial);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mistakes_name_file_and_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_names_no_other_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_lines_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_command_line_wins, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_are_unique_and_short, setup, teardown),
		cmocka_unit_test_setup_teardown(test_example_has_every_setting_with_its_default,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_example_changes_nothing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
