/* SPDX-License-Identifier: Apache-2.0 */
/* test_snapd_parts.c - snapd's parts that need no guest: store, settings, runs, logs, errors */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "snapd/base64.h"
#include "snapd/function.h"
#include "snapd/function_store.h"
#include "snapd/host.h"
#include "snapd/log_ring.h"
#include "snapd/outcome.h"
#include "snapd/populate.h"
#include "snapd/runtime.h"
#include "snapd/tree.h"

/* ---- populate -------------------------------------------------------------------------------- */

static void test_runs_join_neighbours_of_one_kind(void **state)
{
	const struct snapshot_ws_entry ws[] = {
		{9, 0}, {3, SNAPSHOT_WS_WRITTEN}, {10, 0}, {4, 0}, {2, SNAPSHOT_WS_WRITTEN}, {5, 0},
	};
	CLEANUP_FREE struct proto_populate *runs = NULL;
	uint32_t count, seen[16] = {0};

	(void)state;
	assert_int_equal(populate_runs(ws, ARRAY_SIZE(ws), &runs, &count), 0);
	assert_true(count < ARRAY_SIZE(ws));
	for (uint32_t i = 0; i < count; i++) {
		uint32_t pages = runs[i].count_flags & ~PROTO_POPULATE_WRITE;

		for (uint32_t page = runs[i].page; page < runs[i].page + pages; page++)
			seen[page] += runs[i].count_flags & PROTO_POPULATE_WRITE ? 100 : 1;
	}
	/* Every page once, as what it is, and no other page. */
	for (uint32_t page = 0; page < ARRAY_SIZE(seen); page++) {
		uint32_t wanted = 0;

		for (size_t i = 0; i < ARRAY_SIZE(ws); i++)
			if (ws[i].page == page)
				wanted = ws[i].flags & SNAPSHOT_WS_WRITTEN ? 100 : 1;
		assert_int_equal(seen[page], wanted);
	}
	free(steal_ptr(runs));
	assert_int_equal(populate_runs(NULL, 0, &runs, &count), 0);
	assert_int_equal(count, 0);
}

/* ---- log ring -------------------------------------------------------------------------------- */

static void test_log_keeps_the_newest_whole_lines(void **state)
{
	struct log_ring *ring = log_ring_new(1000);
	CLEANUP_FREE char *text = NULL;
	size_t n;

	(void)state;
	for (int i = 0; i < 500; i++)
		log_ring_printf(ring, "tag", "line %d", i);
	assert_int_equal(log_ring_text(ring, &text, &n), 0);
	assert_true(n > 800 && n <= 1000);
	assert_non_null(strstr(text, "tag line 499\n"));
	assert_null(strstr(text, "line 100\n"));
	assert_int_equal(text[4], '-'); /* the first line is whole: it starts with a date */
	assert_int_equal(text[n - 1], '\n');
	log_ring_free(ring);
}

static void test_log_splits_and_cuts_lines(void **state)
{
	struct log_ring *ring = log_ring_new(64 << 10);
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FREE char *long_line = malloc(20000);
	size_t n;

	(void)state;
	log_ring_add(ring, "a", "one\ntwo\n\nthree", 14);
	memset(long_line, 'x', 20000);
	log_ring_add(ring, "b", long_line, 20000);
	log_ring_add(NULL, "c", "nowhere", 7);
	assert_int_equal(log_ring_text(ring, &text, &n), 0);
	assert_non_null(strstr(text, "a one\n"));
	assert_non_null(strstr(text, "a two\n"));
	assert_non_null(strstr(text, "a \n"));
	assert_non_null(strstr(text, "a three\n"));
	assert_true(n < 9000);
	log_ring_free(ring);
}

static void test_log_keeps_the_end_of_more_lines_than_it_has_room_for(void **state)
{
	enum { BYTES = 128 << 10 };
	struct log_ring *ring = log_ring_new(BYTES);
	CLEANUP_FREE char *lines = malloc(BYTES);
	CLEANUP_FREE char *text = NULL;
	size_t n;

	(void)state;
	memset(lines, '\n', BYTES);
	memcpy(lines + BYTES - 6, "\nlast\n", 6);
	log_ring_add(ring, "a", "first\n", 6);
	log_ring_add(ring, "a", lines, BYTES); /* with the prefixes some 4 MiB */
	assert_int_equal(log_ring_text(ring, &text, &n), 0);
	assert_true(n > BYTES - 100 && n <= BYTES);
	assert_memory_equal(text + n - 7, "a last\n", 7);
	assert_null(memmem(text, n, "first", 5));
	log_ring_free(ring);
}

/* ---- base64 ---------------------------------------------------------------------------------- */

static void test_base64(void **state)
{
	static const char *const bad[] = {"A", "AAA", "A===", "AA=A", "A A=", "AAAA====", "%%%%"};
	char *out = NULL;
	size_t n;

	(void)state;
	assert_int_equal(base64_decode("eyJhIjoxfQ==", &out, &n), 0);
	assert_string_equal(out, "{\"a\":1}");
	assert_int_equal(n, 7);
	free(out);
	assert_int_equal(base64_decode("", &out, &n), 0);
	assert_int_equal(n, 0);
	free(out);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(base64_decode(bad[i], &out, &n), -EINVAL);
}

/* ---- settings -------------------------------------------------------------------------------- */

static int parse(const char *text, struct function_settings *s, struct field_error *e)
{
	json_t *root = json_loads(text, 0, NULL);
	int ret = function_settings_parse(root, s, e);

	json_decref(root);
	return ret;
}

/* ---- runtime --------------------------------------------------------------------------------- */

static bool has_env(const struct runtime_command *c, const char *text)
{
	for (int i = 0; i < c->envc; i++)
		if (!strcmp(c->envp[i], text))
			return true;
	return false;
}

static void test_environment(void **state)
{
	struct function *f = function_new("hello");
	struct runtime_command c;
	struct version *v;
	struct field_error e;

	(void)state;
	assert_int_equal(parse("{\"Handler\": \"app.handler\", \"Environment\": {\"Variables\": "
			       "{\"STAGE\": \"x=y\", \"LANG\": \"C\", \"_HANDLER\": \"evil\", "
			       "\"AWS_LAMBDA_RUNTIME_API\": \"evil\"}}}",
			       &f->latest.settings, &e),
			 0);
	v = function_add_version(f, 3);
	assert_int_equal(runtime_command_make(v, &c), 0);
	assert_string_equal(c.argv[0], "/usr/bin/python3");
	assert_true(has_env(&c, "_HANDLER=app.handler"));
	assert_true(has_env(&c, "AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001"));
	assert_true(has_env(&c, "AWS_LAMBDA_FUNCTION_NAME=hello"));
	assert_true(has_env(&c, "AWS_LAMBDA_FUNCTION_VERSION=3"));
	assert_true(has_env(&c, "AWS_LAMBDA_INITIALIZATION_TYPE=snap-start"));
	assert_true(has_env(&c, "STAGE=x=y"));
	assert_true(has_env(&c, "LANG=C"));
	assert_false(has_env(&c, "LANG=C.UTF-8"));
	assert_false(has_env(&c, "_HANDLER=evil"));
	runtime_command_free(&c);
	assert_int_equal(runtime_command_make(&f->latest, &c), 0);
	assert_true(has_env(&c, "AWS_LAMBDA_INITIALIZATION_TYPE=on-demand"));
	assert_true(has_env(&c, "AWS_LAMBDA_FUNCTION_VERSION=$LATEST"));
	runtime_command_free(&c);
	function_put(f);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static json_t *failure_json(int kind, int code, const char *text, bool init,
			    struct invocation_outcome *out)
{
	const struct session_failure failure = {kind, code, text, strlen(text)};
	char buf[OUTCOME_TEXT_MAX];
	json_t *root;

	*out = (struct invocation_outcome){0};
	outcome_of_failure(&failure, "id-1", 3, init, buf, out);
	root = json_loadb(out->payload, out->payload_bytes, 0, NULL);
	assert_non_null(root);
	return root;
}

static void check_failure(int kind, int code, const char *text, bool init, const char *type,
			  const char *message)
{
	struct invocation_outcome out;
	json_t *root = failure_json(kind, code, text, init, &out);
	const char *got_type = json_string_value(json_object_get(root, "errorType"));

	assert_int_equal(out.status, 200);
	assert_true(out.function_error);
	if (type)
		assert_string_equal(got_type, type);
	assert_non_null(strstr(json_string_value(json_object_get(root, "errorMessage")), message));
	json_decref(root);
}

static void test_failures_in_lambdas_words(void **state)
{
	struct invocation_outcome out;
	json_t *root;

	(void)state;
	check_failure(SESSION_FAILED_TIMEOUT, 0, "", false, NULL,
		      " id-1 Task timed out after 3.00 seconds");
	check_failure(SESSION_FAILED_TIMEOUT, 0, "", true, "Sandbox.Timedout", "initialisation");
	check_failure(PROTO_FAILED_EXIT, 1, "", false, "Runtime.ExitError",
		      "RequestId: id-1 Error: Runtime exited with error: exit status 1");
	check_failure(PROTO_FAILED_EXIT, 0, "", false, "Runtime.ExitError",
		      "Runtime exited without providing a reason");
	check_failure(PROTO_FAILED_SIGNAL, SIGKILL, "", false, "Runtime.ExitError",
		      "signal: killed");
	check_failure(PROTO_FAILED_SIGNAL, SIGSEGV, "", false, "Runtime.ExitError",
		      "signal: segmentation fault");
	check_failure(PROTO_FAILED_KERNEL, 0, "the guest's kernel panicked: no \"init\"", false,
		      "Runtime.ExitError", "Error: the guest's kernel panicked: no \"init\"");
	check_failure(PROTO_FAILED_MEMORY, 0, "", false, "Runtime.OutOfMemory", "signal: killed");
	check_failure(PROTO_FAILED_INIT, 0,
		      "{\"errorType\": \"ImportError\", \"errorMessage\": \"no module\"}", true,
		      "ImportError", "no module");
	check_failure(PROTO_FAILED_RESTORE, 0, "not json \"quoted\"", false, "Runtime.RestoreError",
		      "not json \"quoted\"");

	root = failure_json(SESSION_FAILED_LOST, 0, "f/snapshot.qt: chunk 3", false, &out);
	assert_int_equal(out.status, 500);
	assert_string_equal(out.error_type, "ServiceException");
	assert_non_null(strstr(json_string_value(json_object_get(root, "Message")), "chunk 3"));
	json_decref(root);
}

/** A start that fails says what, why it matters and what to do, in one line, and exits 2. */
static void check_io_uring_message(int err, const char *what, const char *todo)
{
	char text[1000] = "";
	int out[2], status;
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	pid = fork();
	if (!pid) {
		dup2(out[1], STDERR_FILENO);
		host_die_io_uring(err);
	}
	close(out[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 2);
	assert_true(read(out[0], text, sizeof(text) - 1) > 0);
	close(out[0]);
	assert_non_null(strstr(text, what));
	assert_non_null(strstr(text, "snapd waits and reads through it"));
	assert_non_null(strstr(text, todo));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void test_without_io_uring(void **state)
{
	(void)state;
	check_io_uring_message(-EPERM, "io_uring: no permission", "kernel.io_uring_disabled=0");
	check_io_uring_message(-ENOSYS, "io_uring: not in this kernel", "CONFIG_IO_URING");
	check_io_uring_message(-ENOMEM, "Cannot allocate memory", "RLIMIT_MEMLOCK");
}

/* ---- store ----------------------------------------------------------------------------------- */

static char dir[] = "/tmp/test_snapd_parts.XXXXXX";

static void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void shell(const char *fmt, ...)
{
	char command[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
}

static void forget_all(void)
{
	while (functions_first())
		functions_remove(functions_first());
}

static int create(const char *name, const char *settings, const char *path)
{
	struct store_code code = {.source = {.kind = CODE_DIRECTORY, .path = strdup(path)}};
	int ret = store_create(name, settings, NULL, &code);

	code_source_free(&code.source);
	return ret;
}

static void test_store_survives_and_cleans_up(void **state)
{
	const char *settings = "{\"Handler\": \"app.handler\", \"Timeout\": 7}";
	struct store_code code = {.source.kind = CODE_DIRECTORY, .keep_layers = true};
	int dirfd = -1, tmp_fd = -1;
	struct function *f;

	(void)state;
	shell("mkdir -p %s/code/sub && echo 'x = 1' >%s/code/app.py && ln -s app.py "
	      "%s/code/sub/link && chmod 0700 %s/code/app.py",
	      dir, dir, dir, dir);
	shell("mkdir %s/state", dir);
	char path[200];

	snprintf(path, sizeof(path), "%s/state", dir);
	assert_int_equal(store_open(path), 0);
	snprintf(path, sizeof(path), "%s/code", dir);
	assert_int_equal(create("one", settings, path), 0);
	assert_int_equal(create("one", settings, path), -EEXIST);
	assert_int_equal(create("two", settings, path), 0);
	assert_int_equal(create("three", settings, "/nonexistent"), -ENOENT);
	shell("test -x %s/state/functions/one/package/tree/app.py", dir);
	shell("test $(stat -c %%a %s/state/functions/one/package/tree/app.py) = 755", dir);
	shell("test -L %s/state/functions/one/package/tree/sub/link", dir);

	/* Version 1 is whole, version 2 was left half made, as after kill -9. */
	assert_int_equal(store_version_prepare("one", 1, &dirfd, &tmp_fd), 0);
	assert_int_equal(store_version_install(dirfd, tmp_fd, settings, NULL), 0);
	close(dirfd);
	close(tmp_fd);
	assert_int_equal(store_version_prepare("one", 2, &dirfd, &tmp_fd), 0);
	close(dirfd);
	close(tmp_fd);
	shell("mkdir -p %s/state/functions/.new-x/code %s/state/functions/four", dir, dir);
	shell("touch %s/state/functions/one/versions/1/.snapshot.qt.tmp", dir);
	shell("mkdir %s/state/functions/lost+found && touch %s/state/functions/README", dir, dir);

	assert_int_equal(store_load(), 0);
	f = functions_find("one");
	assert_non_null(f);
	assert_non_null(functions_find("two"));
	assert_null(functions_find("three"));
	assert_null(functions_find("four"));
	assert_int_equal(f->latest.settings.timeout_s, 7);
	assert_non_null(function_version(f, 1));
	assert_null(function_version(f, 2));
	assert_int_equal(f->last_number, 1);
	assert_ptr_equal(function_newest(f), function_version(f, 1));
	shell("cd %s/state/functions && test -e lost+found && test -e README", dir);
	shell("cd %s/state/functions && test ! -e .new-x && test ! -e four && "
	      "test ! -e one/versions/2 && test ! -e one/versions/1/.snapshot.qt.tmp",
	      dir);

	assert_int_equal(store_remove("two"), 0);
	assert_int_equal(store_remove("two"), 0);
	shell("test ! -e %s/state/functions/two", dir);
	shell("echo 'x = 2' >%s/code/app.py", dir);
	code.source.path = strdup(path);
	assert_int_equal(store_update("one", "{\"Handler\": \"app.other\"}", &code), 0);
	code_source_free(&code.source);
	shell("grep -q 'x = 2' %s/state/functions/one/package/tree/app.py", dir);
	shell("grep -q 'x = 1' %s/state/functions/one/versions/1/package/tree/app.py", dir);
	shell("test ! -e %s/state/functions/one/.package", dir);
	forget_all();
	store_close();
}

static void test_store_is_locked(void **state)
{
	char path[200];
	pid_t pid;
	int status;

	(void)state;
	snprintf(path, sizeof(path), "%s/locked", dir);
	assert_int_equal(store_open(path), 0);
	pid = fork();
	if (!pid) {
		store_inherit_lock(-1); /* another snapd has none yet */
		_exit(store_open(path) == -EBUSY ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	store_close();
}

static void test_tree_copy_is_bounded(void **state)
{
	int from, to;

	(void)state;
	shell("mkdir -p %s/big %s/to && head -c 5000 /dev/zero >%s/big/f && mkfifo %s/big/fifo",
	      dir, dir, dir, dir);
	char path[200];

	snprintf(path, sizeof(path), "%s/big", dir);
	from = open(path, O_RDONLY | O_DIRECTORY);
	snprintf(path, sizeof(path), "%s/to", dir);
	to = open(path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(tree_copy(from, to, 4999), -EFBIG);
	shell("rm -f %s/to/f", dir);
	assert_int_equal(tree_copy(from, to, 5000), 0);
	shell("cmp %s/to/f %s/big/f && test ! -e %s/to/fifo", dir, dir, dir);
	close(from);
	close(to);
}

static void test_what_can_be_created_can_be_removed(void **state)
{
	char path[200];
	int depth = 0;

	(void)state;
	snprintf(path, sizeof(path), "%s/deep-state", dir);
	assert_int_equal(store_open(path), 0);
	/* Deeper and deeper, until it is refused: then nothing is left of that, either. */
	snprintf(path, sizeof(path), "%s/deep", dir);
	shell("mkdir %s", path);
	for (int ret = 0; !ret; depth++) {
		ret = create("deep", "{\"Handler\": \"app.handler\"}", path);
		if (ret)
			assert_int_equal(ret, -ELOOP);
		assert_int_equal(store_remove("deep"), 0);
		shell("test -z \"$(ls -A %s/deep-state/functions)\"", dir);
		if (depth > 100)
			fail_msg("no limit");
		shell("cd %s && mkdir up && mv deep up/d && mv up deep", dir);
	}
	assert_true(depth > 60);
	store_close();
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	shell("rm -rf %s", dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs_join_neighbours_of_one_kind),
		cmocka_unit_test(test_log_keeps_the_newest_whole_lines),
		cmocka_unit_test(test_log_splits_and_cuts_lines),
		cmocka_unit_test(test_log_keeps_the_end_of_more_lines_than_it_has_room_for),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_failures_in_lambdas_words),
		cmocka_unit_test(test_without_io_uring),
		cmocka_unit_test(test_store_survives_and_cleans_up),
		cmocka_unit_test(test_store_is_locked),
		cmocka_unit_test(test_tree_copy_is_bounded),
		cmocka_unit_test(test_what_can_be_created_can_be_removed),
	};

	return cmocka_run_group_tests_name("snapd_parts", tests, setup, teardown);
}
