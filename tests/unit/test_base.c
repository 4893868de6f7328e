/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_base.c - the runtimes' bases: when they are made, for whom, and what is made again; no KVM:
 * this file is the shell pool, and each guest's vmm
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/base.h"
#include "snapd/budget.h"
#include "snapd/event_loop.h"
#include "snapd/function_store.h"
#include "snapd/recapture.h"
#include "snapd/scheduler.h"
#include "snapd/session.h"
#include "snapd/shell_pool.h"
#include "snapd/worker.h"

enum { RAM_MIB = 256, PAGES = 64, WAITERS_MAX = 4 };

/* ---- this file stands in for shells and their guests ---- */

static struct instance shell = {.kind = GUEST_KIND_KERNEL, .ram_mib = RAM_MIB, .state_version = 1};
static bool no_shell; /* is ready */
static unsigned boots;
static int capture_fd;
static char *capture_metadata;

#define STAND_IN(type, name, ...)                                                                  \
	type __wrap_##name(__VA_ARGS__);                                                           \
	type __wrap_##name(__VA_ARGS__)

STAND_IN(struct instance *, shell_pool_take, int class, unsigned waiting)
{
	(void)class;
	(void)waiting;
	return no_shell ? NULL : &shell;
}

STAND_IN(int, scheduler_ram_class, const struct function_settings *s)
{
	(void)s;
	return 0;
}

STAND_IN(bool, scheduler_has_room, const struct version *v)
{
	(void)v;
	return true;
}

STAND_IN(uint64_t, scheduler_instance_bytes, const struct version *v)
{
	(void)v;
	return 0;
}

STAND_IN(void, budget_charge, struct instance *inst, uint64_t bytes)
{
	(void)inst;
	(void)bytes;
}

STAND_IN(void, recapture_origin, const struct instance *inst, const struct version *v,
	 struct origin *ret)
{
	(void)v;
	*ret = (struct origin){
		.known = true, .mapped = 1, .state_version = inst->state_version, .format = 1};
}

STAND_IN(bool, recapture_root_origin, const struct instance *inst, unsigned root,
	 struct origin *ret)
{
	__wrap_recapture_origin(inst, NULL, ret);
	return root == 0;
}

STAND_IN(void, session_adopt, struct instance *inst, struct version *v, void *owner,
	 const struct session_events *events)
{
	inst->version = v;
	inst->owner = owner;
	inst->events = events;
}

STAND_IN(int, session_boot_base, struct instance *inst, uint64_t timeout_ns)
{
	(void)inst;
	(void)timeout_ns;
	boots++;
	return 0;
}

STAND_IN(void, session_limit_memory, const struct instance *inst)
{
	(void)inst;
}

STAND_IN(int, session_capture, struct instance *inst, int fd, const char *metadata,
	 const char *base_name)
{
	(void)inst;
	assert_null(base_name);
	capture_fd = fd;
	free(capture_metadata);
	capture_metadata = strdup(metadata);
	return 0;
}

STAND_IN(void, session_end, struct instance *inst)
{
	inst->owner = NULL;
	inst->events = NULL;
}

/* ---- a node ---- */

static char dir[32];
static struct function *function;

/** struct waiter - somebody who wants the base. */
static struct waiter {
	struct base_wait wait;
	unsigned told;
	struct template *base;
} waiters[WAITERS_MAX];

static void on_done(struct base_wait *w, struct template *base)
{
	struct waiter *self = container_of(w, struct waiter, wait);

	self->told++;
	self->base = base ? template_get(base) : NULL;
}

static void run_shell(const char *fmt, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	if (system(command)) /* NOLINT(cert-env33-c): paths of this test's own */
		fail_msg("%s", command);
}

static void open_bases(const char *baseline)
{
	CLEANUP_FD int vmm = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	const struct base_store_params params = {
		.state_dir = dir, .vmm_fd = vmm, .cpu_baseline = baseline};

	assert_int_equal(base_init(&params, NSEC_PER_SEC), 0);
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/quickthaw-base.XXXXXX");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(event_loop_init(), 0);
	assert_int_equal(worker_init(), 0);
	open_bases("host");
	function = function_new("f");
	function->latest.settings.guest_kind = GUEST_KIND_KERNEL;
	memset(waiters, 0, sizeof(waiters));
	boots = 0;
	no_shell = false;
	shell.state_version = 1;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < WAITERS_MAX; i++)
		template_put(waiters[i].base);
	worker_finish();
	event_loop_finish();
	function_put(function);
	base_finish();
	run_shell("rm -r %s", dir);
	return 0;
}

static void want(unsigned i)
{
	waiters[i] = (struct waiter){.wait = {.version = &function->latest, .done = on_done}};
	assert_int_equal(base_want(&shell, &waiters[i].wait), 0);
}

/** Until the worker has done what there is. Bounded: a test that hangs has failed. */
static void settle(void)
{
	for (int i = 0; i < 1000 && !worker_is_idle(); i++)
		assert_int_equal(event_loop_turn(50 * NSEC_PER_MSEC), 0);
	assert_true(worker_is_idle());
}

static void say_ready(void)
{
	const struct proto_ready ready = {.init_ns = 1};

	assert_non_null(shell.events);
	shell.events->ready(&shell, &ready);
}

/** What a vmm writes, with pages that cannot be compressed. */
static void write_snapshot(int fd, const char *metadata)
{
	const struct snapshot_params params = {.ram_pages = PAGES,
					       .template_pages = PAGES,
					       .guest_kind = GUEST_KIND_KERNEL,
					       .created_ns = clock_real_ns()};
	static uint32_t data[PAGE_BYTES / sizeof(uint32_t)];
	struct snapshot_writer *w;
	uint32_t random = 1;

	assert_int_equal(snapshot_writer_new(fd, &params, &w), 0);
	assert_int_equal(snapshot_writer_section(w, SNAPSHOT_SECTION_STATE, "state", 5), 0);
	assert_int_equal(
		snapshot_writer_section(w, SNAPSHOT_SECTION_METADATA, metadata, strlen(metadata)),
		0);
	for (uint32_t page = 0; page < PAGES; page++) {
		for (size_t i = 0; i < ARRAY_SIZE(data); i++)
			data[i] = random = random * 1664525 + 1013904223;
		assert_int_equal(snapshot_writer_chunk(w, &page, 1, data, false), 0);
	}
	assert_int_equal(snapshot_writer_finish(w), 0);
	snapshot_writer_free(w);
}

static void say_captured(int error)
{
	const struct proto_captured captured = {.error = error};

	if (!error)
		write_snapshot(capture_fd, capture_metadata);
	shell.events->captured(&shell, &captured);
}

static void say_failed(int kind, const char *text)
{
	const struct session_failure failure = {
		.kind = kind, .text = text, .text_bytes = strlen(text)};

	shell.events->failed(&shell, &failure);
}

/** A base from nothing. */
static void make_base(unsigned i)
{
	want(i);
	settle();
	say_ready();
	say_captured(0);
	settle();
	assert_int_equal(waiters[i].told, 1);
	assert_non_null(waiters[i].base);
}

static void expect_files(unsigned count)
{
	run_shell("test $(ls -A %s/bases | wc -l) = %u", dir, count);
}

/* ---- tests ---- */

static void test_made_once_for_all(void **state)
{
	(void)state;
	want(0);
	want(1);
	settle();
	assert_int_equal(boots, 1);
	want(2);
	assert_string_equal(function->latest.stage, "booting the runtime's base");
	say_ready();
	assert_string_equal(function->latest.stage, "capturing the runtime's base");
	say_captured(0);
	settle();
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(waiters[i].told, 1);
		assert_ptr_equal(waiters[i].base, waiters[0].base);
		assert_true(base_is_for(&waiters[i].wait, &shell));
	}
	assert_non_null(waiters[0].base);
	assert_int_equal(waiters[0].base->pages, PAGES);
	/* And not again. */
	want(3);
	settle();
	assert_int_equal(waiters[3].told, 1);
	assert_non_null(waiters[3].base);
	assert_int_equal(boots, 1);
	expect_files(1);
}

static void test_waits_for_a_shell(void **state)
{
	(void)state;
	no_shell = true;
	want(0);
	settle();
	base_pump();
	assert_int_equal(boots, 0);
	assert_string_equal(function->latest.stage, "waiting for a shell for the runtime's base");
	no_shell = false;
	base_pump();
	assert_int_equal(boots, 1);
	say_failed(SESSION_FAILED_STOPPED, "stopped");
	settle();
	assert_int_equal(waiters[0].told, 1);
}

/* Every one is told, nothing of it stays, and the next one begins anew. */
static void test_failures_are_everybodys(void **state)
{
	static const struct {
		int kind;
		const char *text, *says;
	} failures[] = {
		{SESSION_FAILED_TIMEOUT, "its time is over", "--init-timeout"},
		{PROTO_FAILED_KERNEL, "the guest's kernel reset the machine", "make guest-images"},
		{SESSION_FAILED_LOST, "the vmm ended", "booting the runtime's base: the vmm ended"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
		want(0);
		want(1);
		settle();
		assert_int_equal(boots, i + 1);
		say_failed(failures[i].kind, failures[i].text);
		settle();
		for (unsigned k = 0; k < 2; k++) {
			assert_int_equal(waiters[k].told, 1);
			assert_null(waiters[k].base);
			assert_int_equal(waiters[k].wait.verdict.status, 500);
			assert_non_null(strstr(waiters[k].wait.verdict.text, failures[i].says));
		}
		expect_files(0);
	}
	make_base(0);
}

static void test_a_full_disk(void **state)
{
	(void)state;
	want(0);
	settle();
	say_ready();
	say_captured(-ENOSPC);
	settle();
	assert_null(waiters[0].base);
	assert_string_equal(waiters[0].wait.verdict.error_type, "CodeStorageExceededException");
	assert_string_equal(waiters[0].wait.verdict.text,
			    "capturing the runtime's base: No space left on device");
	expect_files(0);
}

/** Put something else in the base's place, and expect it to be made again. */
static void expect_made_again(const char *command)
{
	unsigned before = boots;

	run_shell("cd %s/bases && b=$(ls) && %s", dir, command);
	want(1);
	settle();
	assert_int_equal(boots, before + 1);
	say_ready();
	say_captured(0);
	settle();
	assert_non_null(waiters[1].base);
	template_put(waiters[1].base);
	waiters[1].base = NULL;
	want(1);
	settle();
	assert_int_equal(boots, before + 1);
	expect_files(1);
	template_put(waiters[1].base);
	waiters[1].base = NULL;
}

static void test_what_is_of_no_use_is_made_again(void **state)
{
	(void)state;
	make_base(0);
	expect_made_again("rm $b");
	expect_made_again(": >$b");
	expect_made_again("truncate -s 4096 $b");
	/* A byte of the last chunk, which opening it does not look at. */
	expect_made_again("n=$(stat -c %s $b) && "
			  "printf X | dd of=$b bs=1 seek=$((n - 5000)) conv=notrunc status=none");
	expect_made_again("rm $b && mkfifo $b");
	expect_made_again("mv $b .x && ln -s .x $b && rm .x");
}

/* A good snapshot, and not this one. */
static void test_one_of_another_name_is_not_taken(void **state)
{
	char name[BASE_NAME_MAX], other[BASE_NAME_MAX];

	(void)state;
	make_base(0);
	memcpy(name, waiters[0].wait.name, sizeof(name));
	shell.state_version = 2;
	assert_false(base_is_for(&waiters[0].wait, &shell));
	want(1);
	memcpy(other, waiters[1].wait.name, sizeof(other));
	assert_string_not_equal(name, other);
	run_shell("cp %s/bases/%s %s/bases/%s", dir, name, dir, other);
	settle();
	assert_int_equal(boots, 2);
	say_failed(SESSION_FAILED_STOPPED, "stopped");
	settle();
}

/* A shell that an earlier vmm has made, and one of another. */
static void test_a_shell_of_another_vmm(void **state)
{
	(void)state;
	no_shell = true;
	want(0);
	settle();
	no_shell = false;
	shell.state_version = 2;
	base_pump();
	assert_int_equal(boots, 0);
	assert_int_equal(waiters[0].told, 1);
	assert_null(waiters[0].base);
	assert_int_equal(waiters[0].wait.verdict.status, 0);
	make_base(0);
}

static void test_names_have_all_that_it_is_made_with(void **state)
{
	const struct origin origins[] = {
		{.mapped = 1},
		{.mapped = 2},
		{.mapped = 1, .read = 1},
		{.mapped = 1, .state_version = 1},
		{.mapped = 1, .format = 1},
		{.mapped = 1, .cpu = {1}},
		{.mapped = 1, .cpu = {0, 0, 0, 0, 0, 0, 0, 1}},
	};
	char names[ARRAY_SIZE(origins) + 2][BASE_NAME_MAX];
	size_t n = 0;

	(void)state;
	for (; n < ARRAY_SIZE(origins); n++)
		base_store_name(&origins[n], 256, names[n]);
	base_store_name(&origins[0], 320, names[n++]);
	base_finish();
	open_bases("x86-64-v3");
	base_store_name(&origins[0], 256, names[n++]);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(names[i], names[k]);
}

/* At the start: what was not finished; with the first shell: what would be made in another way. */
static void test_what_nobody_will_want_is_removed(void **state)
{
	(void)state;
	make_base(0);
	run_shell("cd %s/bases && touch 0123456789abcdef-256.qt .0123456789abcdef-256.qt README",
		  dir);
	base_finish();
	open_bases("host");
	expect_files(3);
	base_on_shell(&shell);
	settle();
	run_shell("test -e %s/bases/README && test -e %s/bases/%s", dir, dir, waiters[0].wait.name);
	expect_files(2);
}

/* ---- a version's own link ---- */

static const struct store_base *link_of(const struct template *base)
{
	static char name[BASE_LINK_NAME_MAX];
	static struct store_base ret;

	base_store_link_name(base, name);
	ret = (struct store_base){.fd = base->file->fd, .name = name};
	return &ret;
}

static void install(int dirfd, const struct store_base *base)
{
	CLEANUP_FD int fd = openat(dirfd, STORE_SNAPSHOT_TMP, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(store_version_install(dirfd, fd, "{}", base), 0);
}

static void test_a_version_has_its_base_as_long_as_it_needs_it(void **state)
{
	CLEANUP_FD int dirfd = -1, tmp_fd = -1;
	char version[128];

	(void)state;
	snprintf(version, sizeof(version), "%s/functions/f/versions/1", dir);
	run_shell("mkdir -p %s %s/functions/f/package", version, dir);
	assert_int_equal(store_open(dir), 0);
	assert_int_equal(store_version_prepare("f", 1, &dirfd, &tmp_fd), 0);
	make_base(0);
	install(dirfd, link_of(waiters[0].base));
	run_shell("test %s/base-*.qt -ef %s/bases/%s", version, dir, waiters[0].wait.name);
	/* Installed again on the same one, and with a copy in the link's place. */
	install(dirfd, link_of(waiters[0].base));
	run_shell("cd %s && cp base-*.qt copy && mv copy base-*.qt", version);
	install(dirfd, link_of(waiters[0].base));
	run_shell("test %s/base-*.qt -ef %s/bases/%s", version, dir, waiters[0].wait.name);
	/* Whoever removes the base takes nothing away. */
	run_shell("rm %s/bases/* && test -s %s/base-*.qt", dir, version);
	/* On another one: the old one goes. */
	make_base(1);
	install(dirfd, link_of(waiters[1].base));
	run_shell("test %s/base-*.qt -ef %s/bases/%s", version, dir, waiters[1].wait.name);
	run_shell("test $(ls -A %s | wc -l) = 4", version); /* package, config.json */
	/* One that nobody has any more cannot be had by its descriptor. */
	close(tmp_fd);
	tmp_fd = openat(dirfd, STORE_SNAPSHOT_TMP, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(store_version_install(dirfd, tmp_fd, "{}", link_of(waiters[0].base)),
			 -ENOENT);
	/* A snapshot that is removed, or whole, needs none. */
	assert_int_equal(store_snapshot_remove("f", 1), 0);
	run_shell("test ! -e %s/base-*.qt", version);
	install(dirfd, link_of(waiters[1].base));
	install(dirfd, NULL);
	run_shell("test ! -e %s/base-*.qt", version);
	store_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_made_once_for_all, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waits_for_a_shell, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failures_are_everybodys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_of_no_use_is_made_again, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_one_of_another_name_is_not_taken, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_shell_of_another_vmm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_have_all_that_it_is_made_with, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_what_nobody_will_want_is_removed, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_version_has_its_base_as_long_as_it_needs_it,
						setup, teardown),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
