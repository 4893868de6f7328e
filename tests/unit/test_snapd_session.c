/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_snapd_session.c - instances whose vmm is hostile: this test is at the other end of their
 * sockets, and a process that only waits is in the place of each vmm
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/util.h"
#include "snapd/event_loop.h"
#include "snapd/session.h"
#include "snapd/worker.h"

enum { FLOOD_S = 4, PATIENCE_S = 2 };

static int slash_fd = -1;
static struct function *function;
static int failed_kind;
static unsigned results, parts;
static size_t part_bytes;

/* ---- a vmm ----------------------------------------------------------------------------------- */

static void on_shell(struct instance *inst)
{
	(void)inst;
}

static void on_gone(void)
{
}

static void on_ready(struct instance *inst, const struct proto_ready *ready)
{
	const struct session_call call = {
		"id", "arn", "", "", "{}", 2, 10 * NSEC_PER_SEC, true,
	};

	(void)ready;
	assert_int_equal(session_invoke(inst, &call), 0);
}

static void on_result(struct instance *inst, const struct session_result *result)
{
	(void)inst;
	(void)result;
	results++;
}

static void on_part(struct instance *inst, const void *data, size_t n)
{
	(void)inst;
	(void)data;
	parts++;
	part_bytes += n;
}

static void on_failed(struct instance *inst, const struct session_failure *failure)
{
	(void)inst;
	failed_kind = failure->kind;
}

static const struct session_events events = {
	.ready = on_ready,
	.result = on_result,
	.part = on_part,
	.failed = on_failed,
};

static void turn(void)
{
	uint64_t wait_ns = session_work() ? 0 : 5000000;

	assert_int_equal(event_loop_turn(wait_ns), 0);
}

/** An instance in SPAWNING. @ret_vmm: its end of the socket. */
static struct instance *spawn(int *ret_vmm)
{
	struct instance *inst = session_new();
	int pair[2];
	pid_t pid;

	assert_non_null(inst);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	inst->kind = GUEST_KIND_PROCESS;
	inst->job.child.pid = pid;
	inst->job.child.pidfd = pidfd_open(pid, 0);
	session_spawned(inst, pair[0]);
	*ret_vmm = pair[1];
	return inst;
}

/** Send bytes, with @fd_count descriptors of no use. */
static void say(int vmm, const void *data, size_t n, int fd_count)
{
	struct iovec iov = {(void *)(uintptr_t)data, n};
	int fds[FDPASS_FDS_MAX] = {0};

	for (int i = 0; i < fd_count; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(fdpass_send(vmm, &iov, 1, fds, fd_count), 0);
	for (int i = 0; i < fd_count; i++)
		close(fds[i]);
}

static void say_hello(int vmm)
{
	const struct proto_hello hello = {
		.h = {PROTO_HELLO, sizeof(hello)},
		.version = PROTO_VERSION,
		.ram_base = 1 << 20,
		.ram_bytes = 1 << 30,
		.guest_kind = GUEST_KIND_PROCESS,
	};

	say(vmm, &hello, sizeof(hello), 1);
}

static void wait_for(const struct instance *inst, enum instance_state state)
{
	uint64_t deadline = clock_mono_ns() + 10 * NSEC_PER_SEC;

	while (inst->state != state) {
		turn();
		if (clock_mono_ns() > deadline)
			fail_msg("the instance stays in state %s",
				 instance_state_names[inst->state]);
	}
}

static unsigned open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* ---- what it may send ------------------------------------------------------------------------ */

static void test_wrong_messages_end_it_and_leak_nothing(void **state)
{
	static const struct {
		uint32_t type, says, bytes;
		int fds;
	} messages[] = {
		{0, 0, 0, 8},		/* nothing, with descriptors */
		{PROTO_LOG, 4, 4, 8},	/* shorter than a header */
		{PROTO_LOG, 20, 16, 3}, /* another length than it says */
		{PROTO_LOG, 16, 16, 8}, /* before there is a function */
		{99, 8, 8, 8},		/* of no kind */
		{PROTO_BOOT, 8, 8, 0},	/* of the other side */
		{PROTO_HELLO, 8, 8, 1}, /* too short */
		{PROTO_READY, sizeof(struct proto_ready), sizeof(struct proto_ready), 1},
		{PROTO_CAPTURED, sizeof(struct proto_captured), sizeof(struct proto_captured), 2},
		{PROTO_RESULT, sizeof(struct proto_result), sizeof(struct proto_result), 1},
		{PROTO_WORKING_SET, 16, 16, 1},
		{PROTO_FAILED, 8, 8, 1},
	};
	unsigned before;

	(void)state;
	turn();
	before = open_descriptors();
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
		uint32_t data[64] = {messages[i].type, messages[i].says};
		struct instance *inst;
		int vmm;

		inst = spawn(&vmm);
		say_hello(vmm);
		wait_for(inst, INSTANCE_SHELL);
		say(vmm, data, messages[i].bytes, messages[i].fds);
		wait_for(inst, INSTANCE_FREE);
		close(vmm);
		if (open_descriptors() != before)
			fail_msg("message %zu: %u descriptors are open, not %u", i,
				 open_descriptors(), before);
	}
}

struct flood {
	int vmm;
	atomic_bool stop;
};

static void *flood_main(void *arg)
{
	const struct proto_log log = {.h = {PROTO_LOG, sizeof(log)}, .stream = 1};
	uint64_t end = clock_mono_ns() + FLOOD_S * NSEC_PER_SEC;
	struct flood *flood = arg;

	while (!flood->stop && clock_mono_ns() < end)
		if (send(flood->vmm, &log, sizeof(log), MSG_NOSIGNAL) < 0)
			break;
	return NULL;
}

static void test_a_flood_of_messages_does_not_stop_the_others(void **state)
{
	uint64_t start = clock_mono_ns();
	struct instance *noisy, *other;
	struct flood floods[2] = {{.vmm = -1}};
	pthread_t threads[2];
	int vmm;

	(void)state;
	noisy = spawn(&floods[0].vmm);
	floods[1].vmm = floods[0].vmm;
	say_hello(floods[0].vmm);
	wait_for(noisy, INSTANCE_SHELL);
	session_adopt(noisy, &function->latest, NULL, &events);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, flood_main, &floods[i]), 0);
	other = spawn(&vmm);
	say_hello(vmm);
	wait_for(other, INSTANCE_SHELL);
	assert_true(clock_mono_ns() - start < PATIENCE_S * NSEC_PER_SEC);
	assert_int_equal(noisy->state, INSTANCE_SHELL);
	floods[0].stop = floods[1].stop = true;
	session_end(noisy);
	session_end(other);
	wait_for(noisy, INSTANCE_FREE);
	wait_for(other, INSTANCE_FREE);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	close(floods[0].vmm);
	close(vmm);
}

/** Boot and invoke; the answer's payload is in @fd. */
static void answer_with(int fd, uint32_t payload_bytes, uint32_t serial)
{
	static const char *const none[] = {NULL};
	const struct proto_ready ready = {.h = {PROTO_READY, sizeof(ready)}};
	const struct proto_result result = {
		.h = {PROTO_RESULT, sizeof(result)},
		.payload_bytes = payload_bytes,
		.payload_fd = 1,
		.serial = serial,
	};
	struct iovec iov = {(void *)(uintptr_t)&result, sizeof(result)};
	struct instance *inst;
	int vmm;

	failed_kind = 0;
	results = 0;
	inst = spawn(&vmm);
	say_hello(vmm);
	wait_for(inst, INSTANCE_SHELL);
	session_adopt(inst, &function->latest, NULL, &events);
	assert_int_equal(session_boot(inst, none, none, 1 << 27, 1 << 24, 10 * NSEC_PER_SEC), 0);
	say(vmm, &ready, sizeof(ready), 0);
	wait_for(inst, INSTANCE_INVOKING);
	assert_int_equal(fdpass_send(vmm, &iov, 1, &fd, 1), 0);
	while (!results && !failed_kind)
		turn();
	if (inst->state != INSTANCE_ENDING)
		session_end(inst);
	wait_for(inst, INSTANCE_FREE);
	close(vmm);
}

static void test_payloads_that_could_change_are_refused(void **state)
{
	int sealed = memfd_from_buffer("payload", "{}", 2);
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int event = eventfd(0, EFD_CLOEXEC);

	(void)state;
	answer_with(sealed, 2, 1);
	assert_int_equal(results, 1);
	answer_with(sealed, 3, 1);
	assert_int_equal(failed_kind, SESSION_FAILED_LOST);
	answer_with(file, 2, 1); /* has no seals: whoever may write it could cut it short */
	assert_int_equal(failed_kind, SESSION_FAILED_LOST);
	answer_with(event, 2, 1);
	assert_int_equal(failed_kind, SESSION_FAILED_LOST);
	answer_with(sealed, 2, 0); /* an answer to another question */
	assert_int_equal(failed_kind, SESSION_FAILED_LOST);
	assert_int_equal(results, 0);
	close(sealed);
	close(file);
	close(event);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void test_a_slow_spawner_keeps_its_slot(void **state)
{
	struct instance *inst = session_new();

	(void)state;
	inst->control = dup(slash_fd); /* it has one as soon as the job is queued */
	session_check_deadlines(clock_mono_ns() + 60 * NSEC_PER_SEC);
	assert_int_equal(inst->state, INSTANCE_SPAWNING);
	close(inst->control);
	inst->control = -1;
	session_spawn_failed(inst);
}

static void test_silence_is_ended(void **state)
{
	struct instance *inst;
	int vmm;

	(void)state;
	inst = spawn(&vmm);
	turn();
	session_check_deadlines(clock_mono_ns() + 60 * NSEC_PER_SEC);
	wait_for(inst, INSTANCE_FREE);
	close(vmm);
}

/** A vmm that is killed says nothing: what killed it is in snapd's log. */
static void test_what_killed_it_is_told(void **state)
{
	int vmm, log = memfd_create("log", MFD_CLOEXEC), before = fcntl(2, F_DUPFD_CLOEXEC, 0);
	struct instance *inst = spawn(&vmm);
	char text[1024] = "";

	(void)state;
	assert_int_equal(dup2(log, 2), 2);
	kill(inst->child.pid, SIGTRAP);
	wait_for(inst, INSTANCE_FREE);
	dup2(before, 2);
	assert_true(pread_full(log, text, sizeof(text) - 1, 0) > 0);
	assert_non_null(strstr(text, "its vmm was killed by signal 5 (SIGTRAP)"));
	close(before);
	close(log);
	close(vmm);
}

static void test_one_that_is_only_starting_is_ended_at_the_finish(void **state)
{
	struct instance *inst;
	pid_t pid;
	int vmm;

	(void)state;
	inst = spawn(&vmm);
	pid = inst->child.pid;
	session_finish();
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
	close(vmm);
}

static int setup(void **state)
{
	static const struct session_hooks hooks = {.shell = on_shell, .gone = on_gone};

	(void)state;
	slash_fd = open("/", O_PATH | O_CLOEXEC);
	function = function_new("f");
	if (event_loop_init()) {
		print_message("io_uring: cannot be used here\n");
		return -1;
	}
	function->latest.code_fd = dup(slash_fd);
	return session_init(&hooks, slash_fd, slash_fd) || worker_init() ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	worker_finish();
	session_finish();
	page_in_finish();
	event_loop_finish();
	function_put(function);
	close(slash_fd);
	return 0;
}

/* ---- responses in parts ---------------------------------------------------------------------- */

/** An instance in INVOKING. */
static struct instance *invoking(int *ret_vmm)
{
	static const char *const none[] = {NULL};
	const struct proto_ready ready = {.h = {PROTO_READY, sizeof(ready)}};
	struct instance *inst = spawn(ret_vmm);

	say_hello(*ret_vmm);
	wait_for(inst, INSTANCE_SHELL);
	session_adopt(inst, &function->latest, NULL, &events);
	assert_int_equal(session_boot(inst, none, none, 1, 1, 10 * NSEC_PER_SEC), 0);
	say(*ret_vmm, &ready, sizeof(ready), 0);
	wait_for(inst, INSTANCE_INVOKING);
	parts = 0;
	part_bytes = 0;
	results = 0;
	return inst;
}

static void say_part(int vmm, uint32_t serial, size_t bytes)
{
	static uint8_t data[sizeof(struct proto_result_part) + 1000];
	const struct proto_result_part part = {
		.h = {PROTO_RESULT_PART, (uint32_t)(sizeof(part) + bytes)},
		.serial = serial,
	};

	memcpy(data, &part, sizeof(part));
	say(vmm, data, sizeof(part) + bytes, 0);
}

static void end(struct instance *inst, int vmm)
{
	if (inst->state != INSTANCE_ENDING)
		session_end(inst);
	wait_for(inst, INSTANCE_FREE);
	close(vmm);
}

static void test_parts(void **state)
{
	int vmm;
	struct instance *inst = invoking(&vmm);
	const struct proto_result result = {
		.h = {PROTO_RESULT, sizeof(result)},
		.serial = inst->call_serial,
	};

	(void)state;
	for (int i = 0; i < 40; i++)
		say_part(vmm, inst->call_serial, 1000);
	say(vmm, &result, sizeof(result), 0);
	wait_for(inst, INSTANCE_IDLE);
	assert_int_equal(parts, 40);
	assert_int_equal(part_bytes, 40000);
	assert_int_equal(results, 1);
	end(inst, vmm);
}

/* Nothing is read while it is held, and nothing is lost by that. */
static void test_held(void **state)
{
	int vmm;
	struct instance *inst = invoking(&vmm);

	(void)state;
	session_hold(inst, true);
	for (int i = 0; i < 40; i++)
		say_part(vmm, inst->call_serial, 1000);
	for (int i = 0; i < 20; i++)
		turn();
	assert_int_equal(parts, 0);
	session_hold(inst, false);
	for (int i = 0; i < 20; i++)
		turn();
	assert_int_equal(parts, 40);
	/* Held between two of a turn's share. */
	session_hold(inst, true);
	say_part(vmm, inst->call_serial, 1);
	turn();
	session_hold(inst, false);
	turn();
	turn();
	assert_int_equal(parts, 41);
	end(inst, vmm);
}

/* A vmm that is held and dies is noticed by its process's end. */
static void test_held_and_lost(void **state)
{
	int vmm;
	struct instance *inst = invoking(&vmm);

	(void)state;
	session_hold(inst, true);
	failed_kind = 0;
	close(vmm);
	kill(inst->child.pid, SIGKILL);
	wait_for(inst, INSTANCE_FREE);
	assert_int_equal(failed_kind, SESSION_FAILED_LOST);
}

static void test_parts_that_do_not_fit(void **state)
{
	int vmm;
	struct instance *inst = invoking(&vmm);

	(void)state;
	failed_kind = 0;
	say_part(vmm, inst->call_serial + 1, 10); /* of another question */
	wait_for(inst, INSTANCE_FREE);
	assert_int_equal(failed_kind, SESSION_FAILED_LOST);
	assert_int_equal(parts, 0);
	close(vmm);

	inst = spawn(&vmm);
	say_hello(vmm);
	wait_for(inst, INSTANCE_SHELL);
	say_part(vmm, 0, 10); /* nobody has asked */
	wait_for(inst, INSTANCE_FREE);
	close(vmm);
}

/* ---- kinds of guests ------------------------------------------------------------------------- */

/** A shell that was asked for as one of this kind says HELLO as one for process guests. */
static struct instance *asked_for(enum guest_kind kind, int *ret_vmm)
{
	struct instance *inst = spawn(ret_vmm);

	inst->kind = kind;
	say_hello(*ret_vmm);
	return inst;
}

static void test_a_shell_of_the_other_kind_is_none(void **state)
{
	struct instance *inst;
	int vmm;

	(void)state;
	inst = asked_for(GUEST_KIND_KERNEL, &vmm);
	wait_for(inst, INSTANCE_FREE);
	close(vmm);
	inst = asked_for(GUEST_KIND_PROCESS, &vmm);
	wait_for(inst, INSTANCE_SHELL);
	session_end(inst);
	wait_for(inst, INSTANCE_FREE);
	close(vmm);
}

static void test_without_images_no_kernel_is_booted(void **state)
{
	static const char *const none[] = {NULL};

	(void)state;
	for (int base = 0; base < 2; base++) {
		struct instance *inst;
		int vmm;

		inst = asked_for(GUEST_KIND_PROCESS, &vmm);
		wait_for(inst, INSTANCE_SHELL);
		function->latest.settings.guest_kind = GUEST_KIND_KERNEL;
		session_adopt(inst, &function->latest, NULL, &events);
		assert_int_equal(base ? session_boot_base(inst, NSEC_PER_SEC)
				      : session_boot(inst, none, none, 1, 1, NSEC_PER_SEC),
				 -ENOTSUP);
		function->latest.settings.guest_kind = GUEST_KIND_PROCESS;
		wait_for(inst, INSTANCE_FREE);
		close(vmm);
	}
}

static void test_a_program_is_not_longer_than_a_message(void **state)
{
	static const char *list[1001];
	struct instance *inst;
	int vmm;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(list) - 1; i++)
		list[i] = "A=b";
	inst = asked_for(GUEST_KIND_PROCESS, &vmm);
	wait_for(inst, INSTANCE_SHELL);
	session_adopt(inst, &function->latest, NULL, &events);
	assert_int_equal(session_boot(inst, list, list, 1, 1, NSEC_PER_SEC), -E2BIG);
	wait_for(inst, INSTANCE_FREE);
	close(vmm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong_messages_end_it_and_leak_nothing),
		cmocka_unit_test(test_a_flood_of_messages_does_not_stop_the_others),
		cmocka_unit_test(test_payloads_that_could_change_are_refused),
		cmocka_unit_test(test_a_slow_spawner_keeps_its_slot),
		cmocka_unit_test(test_silence_is_ended),
		/* the last: it ends all of them */
		cmocka_unit_test(test_what_killed_it_is_told),
		cmocka_unit_test(test_one_that_is_only_starting_is_ended_at_the_finish),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_held_and_lost),
		cmocka_unit_test(test_parts_that_do_not_fit),
		cmocka_unit_test(test_a_shell_of_the_other_kind_is_none),
		cmocka_unit_test(test_without_images_no_kernel_is_booted),
		cmocka_unit_test(test_a_program_is_not_longer_than_a_message),
	};

	return cmocka_run_group_tests_name("session", tests, setup, teardown);
}
