/* SPDX-License-Identifier: Apache-2.0 */
/* test_code_retention.c - what is removed, and what is made again, and why */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "snapd/function.h"
#include "snapd/origin.h"
#include "snapd/retention.h"
#include "snapd/tree.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- retention ------------------------------------------------------------------------------- */

/** Items carry their place in @made_ns, since deciding sorts them. */
static const struct retention_item *item(const struct retention_item *items, size_t count,
					 uint64_t made_ns)
{
	for (size_t i = 0; i < count; i++)
		if (items[i].made_ns == made_ns)
			return &items[i];
	fail_msg("item %llu is gone", (unsigned long long)made_ns);
	return NULL;
}

static void test_keep_versions(void **state)
{
	struct retention_item items[] = {
		{.age = 0, .bytes = 10, .made_ns = 5},
		{.age = 1, .bytes = 10, .made_ns = 4},
		{.age = 2, .bytes = 10, .made_ns = 3, .named = true},
		{.age = 3, .bytes = 10, .made_ns = 2, .busy = true},
		{.age = 4, .bytes = 10, .made_ns = 1},
		{.age = 0, .bytes = 10, .made_ns = 6},
	};
	const struct retention_params two = {.keep_versions = 2}, all = {.keep_versions = 0};

	(void)state;
	assert_int_equal(retention_decide(items, COUNT(items), &all), 0);
	for (size_t i = 0; i < COUNT(items); i++)
		assert_int_equal(items[i].verdict, RETENTION_KEEP);
	assert_int_equal(retention_decide(items, COUNT(items), &two), 0);
	for (uint64_t made = 2; made <= 6; made++)
		assert_int_equal(item(items, COUNT(items), made)->verdict, RETENTION_KEEP);
	assert_int_equal(item(items, COUNT(items), 1)->verdict, RETENTION_REMOVE_VERSION);
}

static void test_disk_budget(void **state)
{
	const struct retention_item made[] = {
		{.age = 0, .bytes = 100, .used_ns = 1, .made_ns = 1}, /* newest, used long ago */
		{.age = 0, .bytes = 100, .used_ns = 9, .made_ns = 2},
		{.age = 1, .bytes = 100, .used_ns = 8, .made_ns = 3}, /* old, used just now */
		{.age = 1, .bytes = 100, .used_ns = 0, .made_ns = 4},
		{.age = 2, .bytes = 100, .used_ns = 0, .made_ns = 5, .named = true},
		{.age = 3, .bytes = 100, .used_ns = 0, .made_ns = 6, .busy = true},
		{.age = 4, .bytes = 0, .used_ns = 0, .made_ns = 7}, /* has none any more */
	};
	/* In this order they go, as the budget shrinks. */
	static const uint64_t order[] = {4, 3, 1, 2};
	struct retention_item items[COUNT(made)];

	(void)state;
	for (unsigned gone = 0; gone <= 6; gone++) {
		struct retention_params params = {.disk_bytes = 600 - gone * 100 + 1};
		uint64_t over;

		memcpy(items, made, sizeof(items));
		over = retention_decide(items, COUNT(items), &params);
		assert_int_equal(over, gone <= 4 ? 0 : (gone - 4) * 100 - 1);
		for (unsigned i = 0; i < COUNT(order); i++)
			assert_int_equal(item(items, COUNT(items), order[i])->verdict,
					 i < gone ? RETENTION_REMOVE_SNAPSHOT : RETENTION_KEEP);
		for (uint64_t kept = 5; kept <= 7; kept++)
			assert_int_equal(item(items, COUNT(items), kept)->verdict, RETENTION_KEEP);
	}
}

/* Both limits: what goes as a whole counts no more. */
static void test_both(void **state)
{
	struct retention_item items[] = {
		{.age = 0, .bytes = 60, .made_ns = 3},
		{.age = 1, .bytes = 60, .made_ns = 2},
		{.age = 2, .bytes = 60, .made_ns = 1},
	};
	const struct retention_params params = {.keep_versions = 2, .disk_bytes = 120};

	(void)state;
	assert_int_equal(retention_decide(items, COUNT(items), &params), 0);
	assert_int_equal(item(items, 3, 1)->verdict, RETENTION_REMOVE_VERSION);
	assert_int_equal(item(items, 3, 2)->verdict, RETENTION_KEEP);
	assert_int_equal(item(items, 3, 3)->verdict, RETENTION_KEEP);
}

static void test_named(void **state)
{
	static const char control[] =
		"{\"Aliases\": [{\"Qualifier\": \"prod\", \"Name\": \"prod\", \"FunctionVersion\": "
		"\"3\", \"RoutingConfig\": "
		"{\"AdditionalVersionWeights\": {\"4\": 0.1}}}]}";
	struct function *f = function_new("f");
	struct function_control parsed;
	struct field_error e;

	(void)state;
	assert_non_null(f);
	assert_int_equal(function_control_parse(control, &parsed, &e), 0);
	function_control_free(&f->control);
	f->control = parsed;
	assert_true(retention_named(f, 3));
	assert_true(retention_named(f, 4));
	assert_false(retention_named(f, 5));
	function_put(f);
}

/* ---- origins --------------------------------------------------------------------------------- */

static const struct origin here = {
	.known = true, .mapped = 1, .read = 2, .state_version = 3, .format = 1, .cpu = {0x6, 0x6}};

static void test_judge(void **state)
{
	struct origin was = here;
	char why[ORIGIN_WHY_MAX];

	(void)state;
	assert_int_equal(origin_judge(&was, &here, why), ORIGIN_GOOD);
	was.read++;
	assert_int_equal(origin_judge(&was, &here, why), ORIGIN_STALE);
	assert_non_null(strstr(why, "bootstrap"));
	was.mapped++;
	assert_int_equal(origin_judge(&was, &here, why), ORIGIN_DEAD);
	assert_non_null(strstr(why, "interpreter"));
	was = here;
	was.state_version++;
	assert_int_equal(origin_judge(&was, &here, why), ORIGIN_DEAD);
	was = here;
	was.format = 2;
	assert_int_equal(origin_judge(&was, &here, why), ORIGIN_DEAD);
	was.format = 0;
	assert_int_equal(origin_judge(&was, &here, why), ORIGIN_STALE);
	was = here;
	memset(was.cpu, 0xff, sizeof(was.cpu)); /* all there is */
	assert_int_equal(origin_judge(&was, &here, why), ORIGIN_DEAD);
	assert_non_null(strstr(why, "this host's CPU lacks "));
	memset(was.cpu, 0, sizeof(was.cpu)); /* a host that has more than was needed */
	assert_int_equal(origin_judge(&was, &here, why), ORIGIN_GOOD);
	was.known = false;
	assert_int_equal(origin_judge(&was, &here, why), ORIGIN_STALE);
}

static void test_origin_json(void **state)
{
	static const char *const bad[] = {
		"{}",
		"[]",
		"{\"Mapped\": 1}",
		"{\"Mapped\": \"0000000000000001\", \"Read\": \"1\", \"StateVersion\": "
		"\"0000000000000003\", \"Format\": 1, \"Cpu\": []}",
	};
	json_t *root = origin_json(&here);
	struct origin again;

	(void)state;
	origin_parse(root, &again);
	assert_true(again.known);
	assert_memory_equal(&again.cpu, &here.cpu, sizeof(here.cpu));
	assert_int_equal(again.mapped, 1);
	assert_int_equal(again.read, 2);
	assert_int_equal(again.state_version, 3);
	assert_int_equal(again.format, 1);
	json_object_set_new(root, "Format", json_integer(-1));
	origin_parse(root, &again);
	assert_false(again.known);
	json_decref(root);
	for (size_t i = 0; i < COUNT(bad); i++) {
		root = json_loads(bad[i], 0, NULL);
		again.known = true;
		origin_parse(root, &again);
		assert_false(again.known);
		json_decref(root);
	}
	origin_parse(NULL, &again);
	assert_false(again.known);
}

static void write_text(const char *dir, const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_files(void **state)
{
	char dir[] = "/tmp/qt-origin-XXXXXX", path[128];
	struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	struct origin a, b;

	(void)state;
	assert_non_null(mkdtemp(dir));
	write_text(dir, "bootstrap.py", "one");
	assert_int_equal(origin_read_files(dir, &a), 0);
	assert_int_equal(origin_read_files(dir, &b), 0);
	assert_true(a.mapped == b.mapped && a.read == b.read);
	/* What Python compiles for itself is no change. */
	snprintf(path, sizeof(path), "%s/__pycache__", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	write_text(dir, "__pycache__/bootstrap.pyc", "x");
	assert_int_equal(origin_read_files(dir, &b), 0);
	assert_true(a.mapped == b.mapped && a.read == b.read);
	/* The same size at another time; a new file; an extension module. */
	snprintf(path, sizeof(path), "%s/bootstrap.py", dir);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_int_equal(origin_read_files(dir, &b), 0);
	assert_true(a.mapped == b.mapped && a.read != b.read);
	a = b;
	write_text(dir, "new.py", "");
	assert_int_equal(origin_read_files(dir, &b), 0);
	assert_true(a.mapped == b.mapped && a.read != b.read);
	a = b;
	write_text(dir, "module.so", "");
	assert_int_equal(origin_read_files(dir, &b), 0);
	assert_true(a.mapped != b.mapped && a.read == b.read);
	assert_int_equal(tree_remove(AT_FDCWD, dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keep_versions), cmocka_unit_test(test_disk_budget),
		cmocka_unit_test(test_both),	      cmocka_unit_test(test_named),
		cmocka_unit_test(test_judge),	      cmocka_unit_test(test_origin_json),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests_name("code_retention", tests, NULL, NULL);
}
