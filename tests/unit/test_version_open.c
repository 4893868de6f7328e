/* SPDX-License-Identifier: Apache-2.0 */
/* test_version_open.c - code on its way to an instance: directories and disks, and changes
 * meanwhile */
#include "tests/unit/code_fixture.h"

#include "common/clock.h"
#include "common/util.h"
#include "snapd/event_loop.h"
#include "snapd/function_store.h"
#include "snapd/version_open.h"
#include "snapd/worker.h"

/** struct node - a state directory with one function. */
struct node {
	struct fixture *f;
	struct function *function;
	struct version *latest;
};

static struct {
	unsigned count; /* of openings that are over */
	char text[256];
} opened;

static void on_opened(struct version *v, const char *text)
{
	(void)v;
	opened.count++;
	snprintf(opened.text, sizeof(opened.text), "%s", text ? text : "");
}

static int node_setup(void **state)
{
	static struct node n;
	struct store_code code = {.source = {.kind = CODE_DIRECTORY}};
	char path[128];

	assert_int_equal(fixture_setup((void **)&n.f), 0);
	assert_int_equal(mkdirat(n.f->dirfd, "code", 0755), 0);
	put_file(n.f, "code/app.py", "x = 1\n", 6);
	snprintf(path, sizeof(path), "%s/state", n.f->dir);
	assert_int_equal(store_open(path), 0);
	snprintf(path, sizeof(path), "%s/code", n.f->dir);
	code.source.path = path;
	assert_int_equal(store_create("f", "{}", NULL, &code), 0);
	assert_int_equal(event_loop_init(), 0);
	assert_int_equal(worker_init(), 0);
	n.function = function_new("f");
	n.latest = &n.function->latest;
	opened.count = 0;
	*state = &n;
	return 0;
}

static int node_teardown(void **state)
{
	struct node *n = *state;

	worker_finish();
	event_loop_finish();
	function_put(n->function);
	store_close();
	return fixture_teardown((void **)&n->f);
}

/** Bounded: a test that hangs has failed. */
static void run_until(const unsigned *count, unsigned wanted)
{
	for (int i = 0; i < 1000 && *count < wanted; i++)
		assert_int_equal(event_loop_turn(50 * NSEC_PER_MSEC), 0);
	assert_int_equal(*count, wanted);
}

static mode_t type_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_mode & S_IFMT;
}

/** As take_update() of api_function.c does it. */
static void change_kind(struct version *v, enum guest_kind kind)
{
	v->settings.guest_kind = kind;
	uuid_make(v->revision);
	version_close_dirs(v);
}

/* ---- changes --------------------------------------------------------------------------------- */

static void test_a_kind_that_changes_meanwhile(void **state)
{
	struct version *v = ((struct node *)*state)->latest;

	assert_int_equal(version_open(v, false, on_opened), 0);
	change_kind(v, GUEST_KIND_KERNEL);
	run_until(&opened.count, 1);
	assert_string_equal(opened.text, "");
	assert_false(v->opening);
	assert_int_equal(type_of(v->code_fd), S_IFREG);
	change_kind(v, GUEST_KIND_PROCESS);
	assert_int_equal(version_open(v, false, on_opened), 0);
	change_kind(v, GUEST_KIND_KERNEL);
	change_kind(v, GUEST_KIND_PROCESS);
	run_until(&opened.count, 2);
	assert_int_equal(type_of(v->code_fd), S_IFDIR);
}

static void test_layers_that_come_meanwhile(void **state)
{
	const struct node *n = *state;
	struct version *v = n->latest;

	change_kind(v, GUEST_KIND_KERNEL);
	assert_int_equal(mkdirat(n->f->dirfd, "state/functions/f/opt", 0755), 0);
	put_file(n->f, "state/functions/f/opt/lib.py", "y = 2\n", 6);
	assert_int_equal(version_open(v, false, on_opened), 0);
	v->settings.layers.count = 1;
	uuid_make(v->revision);
	run_until(&opened.count, 1);
	assert_int_equal(type_of(v->opt_fd), S_IFREG);
}

/** A version has copies of code and layers, and disks of its own. */
static void test_a_version_has_disks_of_its_own(void **state)
{
	const struct node *n = *state;
	struct version *v;
	int dirfd, tmp_fd;

	assert_int_equal(mkdirat(n->f->dirfd, "state/functions/f/opt", 0755), 0);
	put_file(n->f, "state/functions/f/opt/lib.py", "y = 2\n", 6);
	assert_int_equal(store_version_prepare("f", 1, &dirfd, &tmp_fd), 0);
	n->latest->settings.layers.count = 1;
	n->latest->settings.guest_kind = GUEST_KIND_KERNEL;
	n->latest->settings.env = json_object();
	v = function_add_version(n->function, 1);
	assert_int_equal(version_open(v, false, on_opened), 0);
	run_until(&opened.count, 1);
	assert_string_equal(opened.text, "");
	assert_int_equal(type_of(v->code_fd), S_IFREG);
	assert_int_equal(type_of(v->opt_fd), S_IFREG);
	assert_true(is_there(n->f, "state/functions/f/versions/1/opt.erofs"));
	close(dirfd);
	close(tmp_fd);
}

/* ---- disks ----------------------------------------------------------------------------------- */

static unsigned files_done;

static void no_run(struct work *work)
{
	(void)work;
}

static void count_done(struct work *work)
{
	(void)work;
	files_done++;
}

/** An unpacker that goes on when there is a file "go" and then does its work. */
static void slow_unpacker(const struct fixture *f)
{
	char path[128], text[PATH_MAX + 256], own[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
	int len;

	own[n] = '\0';
	strrchr(own, '/')[0] = '\0';
	len = snprintf(
		text, sizeof(text),
		"#!/bin/bash\ntouch %s/begun\nwhile [ ! -e %s/go ]; do read -t 0.01 <> <(:); "
		"done\nexec %s/../bin/unpacker \"$@\"\n",
		f->dir, f->dir, own);
	put_file(f, "slow", text, (size_t)len);
	assert_int_equal(fchmodat(f->dirfd, "slow", 0755, 0), 0);
	snprintf(path, sizeof(path), "%s/slow", f->dir);
	assert_int_equal(code_unpacker_init(path), 0);
}

/** A kernel function's disk takes long to make: nobody else waits for it. */
static void test_others_do_not_wait_for_a_disk(void **state)
{
	const struct node *n = *state;
	struct work other = {.run = no_run, .done = count_done};

	slow_unpacker(n->f);
	change_kind(n->latest, GUEST_KIND_KERNEL);
	assert_int_equal(version_open(n->latest, false, on_opened), 0);
	for (int i = 0; i < 1000 && faccessat(n->f->dirfd, "begun", F_OK, 0); i++)
		event_loop_turn(10 * NSEC_PER_MSEC);
	assert_int_equal(faccessat(n->f->dirfd, "begun", F_OK, 0), 0);
	files_done = 0;
	worker_queue(&other);
	run_until(&files_done, 1);
	assert_int_equal(opened.count, 0);
	assert_false(worker_is_idle());
	put_file(n->f, "go", "", 0);
	run_until(&opened.count, 1);
	assert_int_equal(type_of(n->latest->code_fd), S_IFREG);
	assert_true(worker_is_idle());
}

/** Code that is replaced while its disk is made: the disk is of the new code. */
static void test_code_that_changes_while_its_disk_is_made(void **state)
{
	const struct node *n = *state;
	struct store_code code = {.source = {.kind = CODE_DIRECTORY}, .keep_layers = true};
	struct version *v = n->latest;
	char path[128], buf[8192];
	bool found = false;
	int blocks = 0;

	slow_unpacker(n->f);
	change_kind(v, GUEST_KIND_KERNEL);
	assert_int_equal(version_open(v, false, on_opened), 0);
	for (int i = 0; i < 1000 && faccessat(n->f->dirfd, "begun", F_OK, 0); i++)
		event_loop_turn(10 * NSEC_PER_MSEC);
	assert_int_equal(mkdirat(n->f->dirfd, "new", 0755), 0);
	put_file(n->f, "new/app.py", "x = 'new'\n", 10);
	snprintf(path, sizeof(path), "%s/new", n->f->dir);
	code.source.path = path;
	assert_int_equal(store_update("f", "{}", &code), 0);
	change_kind(v, GUEST_KIND_KERNEL);
	put_file(n->f, "go", "", 0);
	run_until(&opened.count, 1);
	assert_string_equal(opened.text, "");
	while (pread(v->code_fd, buf, 4096, 4096 * blocks++) > 0)
		found |= !memcmp(buf, "x = 'new'\n", 10);
	assert_true(found);
}

/** When snapd ends, what makes disks does, too. */
static void test_a_disk_is_not_waited_for_at_the_end(void **state)
{
	const struct node *n = *state;

	slow_unpacker(n->f);
	change_kind(n->latest, GUEST_KIND_KERNEL);
	assert_int_equal(version_open(n->latest, false, on_opened), 0);
	for (int i = 0; i < 1000 && faccessat(n->f->dirfd, "begun", F_OK, 0); i++)
		event_loop_turn(10 * NSEC_PER_MSEC);
	code_unpacker_stop();
	run_until(&opened.count, 1);
	assert_non_null(strstr(opened.text, "its disk cannot be made"));
	assert_int_equal(n->latest->code_fd, -1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, node_setup, node_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_kind_that_changes_meanwhile),
		TEST(test_layers_that_come_meanwhile),
		TEST(test_a_version_has_disks_of_its_own),
		TEST(test_others_do_not_wait_for_a_disk),
		TEST(test_code_that_changes_while_its_disk_is_made),
		TEST(test_a_disk_is_not_waited_for_at_the_end),
	};

	if (geteuid())
		return skip_without_root("test_version_open");
	return cmocka_run_group_tests_name("version_open", tests, NULL, NULL);
}
