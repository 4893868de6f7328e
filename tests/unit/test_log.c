/* SPDX-License-Identifier: Apache-2.0 */
/* test_log.c - log lines: as text, and as JSON whatever a message has in it */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/log.h"

static int stderr_fd = -1, file = -1;
static char text[16384];

/** What follows goes to a file instead of stderr, until caught(). */
static void catch_lines(void)
{
	stderr_fd = dup(STDERR_FILENO);
	file = memfd_create("log", MFD_CLOEXEC);
	assert_true(stderr_fd >= 0 && file >= 0);
	dup2(file, STDERR_FILENO);
}

static const char *caught(void)
{
	ssize_t n;

	dup2(stderr_fd, STDERR_FILENO);
	close(stderr_fd);
	n = pread(file, text, sizeof(text) - 1, 0);
	close(file);
	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

/** The one line that @text is, parsed. */
static json_t *parse_line(const char *line)
{
	const char *end = strchr(line, '\n');
	json_error_t err;
	json_t *root;

	assert_non_null(end);
	assert_string_equal(end, "\n");
	root = json_loads(line, JSON_REJECT_DUPLICATES, &err);
	if (!root)
		fail_msg("%s: %s", err.text, line);
	return root;
}

static void assert_member(const json_t *root, const char *name, const char *value)
{
	const char *is = json_string_value(json_object_get(root, name));

	assert_non_null(is);
	assert_string_equal(is, value);
}

static void test_text(void **state)
{
	(void)state;
	catch_lines();
	log_init("vmm", "i7");
	log_warn("%d is odd", 7);
	log_debug("not at this level");
	log_init("snapd", NULL);
	log_about(LOG_LEVEL_INFO, "i9", "a-request", "idle");
	assert_string_equal(caught(), "vmm[i7]: warn: 7 is odd\n"
				      "snapd: info: instance i9: idle\n");
}

static void test_json_has_who_and_what(void **state)
{
	const char *when;
	json_t *root;

	(void)state;
	log_init("snapd", NULL);
	log_set_format(LOG_FORMAT_JSON);
	assert_int_equal(log_format(), LOG_FORMAT_JSON);
	catch_lines();
	log_about(LOG_LEVEL_WARN, "i9", "a-request", "it took %u s", 3);
	root = parse_line(caught());
	assert_int_equal(json_object_size(root), 6);
	assert_member(root, "level", "warn");
	assert_member(root, "program", "snapd");
	assert_member(root, "instance", "i9");
	assert_member(root, "request", "a-request");
	assert_member(root, "message", "it took 3 s");
	when = json_string_value(json_object_get(root, "time"));
	assert_true(when && strlen(when) == strlen("2026-01-31T12:34:56.789Z") && when[10] == 'T');
	json_decref(root);

	/* What there is not is left out. */
	catch_lines();
	log_error("alone");
	root = parse_line(caught());
	assert_int_equal(json_object_size(root), 4);
	json_decref(root);
	log_init("vmm", "i7");
	catch_lines();
	log_error("own");
	root = parse_line(caught());
	assert_member(root, "instance", "i7");
	json_decref(root);
}

static void test_json_whatever_is_in_a_message(void **state)
{
	static const char quoted[] = "a \"quoted\" \\ line\nwith\ttabs \x1b[31m and \x7f";
	static const char utf8[] = "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\xa7\x8a";
	char every[256], cut[4096];
	json_t *root;

	(void)state;
	log_init("snapd", NULL);
	catch_lines();
	log_warn("%s", quoted);
	root = parse_line(caught());
	assert_member(root, "message", quoted);
	json_decref(root);
	catch_lines();
	log_warn("%s", utf8);
	root = parse_line(caught());
	assert_member(root, "message", utf8);
	json_decref(root);
	/* Bytes that are no UTF-8, and sequences that are cut, too long, or no characters. */
	for (int i = 0; i < 255; i++)
		every[i] = (char)(i + 1);
	every[255] = '\0';
	catch_lines();
	log_warn("%s\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82", every);
	json_decref(parse_line(caught()));
	/* Longer than a line: cut, and still an object. */
	memset(cut, '"', sizeof(cut) - 1);
	cut[sizeof(cut) - 1] = '\0';
	catch_lines();
	log_warn("%s", cut);
	json_decref(parse_line(caught()));
}

static int teardown(void **state)
{
	(void)state;
	log_set_format(LOG_FORMAT_TEXT);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_json_has_who_and_what),
		cmocka_unit_test(test_json_whatever_is_in_a_message),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, teardown);
}
