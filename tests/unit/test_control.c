/* SPDX-License-Identifier: Apache-2.0 */
/* test_control.c - messages that a vmm must not believe; no KVM: they are refused before a guest
 * runs */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/util.h"
#include "include/guest_abi.h"
#include "vmm/control.h"
#include "vmm/kernel/shell.h"
#include "vmm/vm.h"

enum { STATE_BYTES = 64, TEMPLATE_PAGES = 4 };

static struct {
	int sock;
	pid_t vmm;
} peer;

/** control_serve_process() serves once in the life of a process: so each test has a process of its
 * own. */
static int setup(void **state)
{
	int socks[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks), 0);
	peer.vmm = fork();
	assert_true(peer.vmm >= 0);
	if (!peer.vmm) {
		static struct vm vm;

		close(socks[0]);
		if (guest_mem_init(&vm.mem, MIB(1)))
			_exit(99);
		_exit(control_serve_process(&vm, socks[1], -1));
	}
	close(socks[1]);
	peer.sock = socks[0];
	return 0;
}

/** A kernel guest's, whose machine was not made: what is refused does not come to it. */
static int setup_kernel(void **state)
{
	int socks[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks), 0);
	peer.vmm = fork();
	assert_true(peer.vmm >= 0);
	if (!peer.vmm) {
		close(socks[0]);
		_exit(kernel_shell_serve(socks[1], -1));
	}
	close(socks[1]);
	peer.sock = socks[0];
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(peer.sock);
	return 0;
}

static int memfd_of(size_t bytes, bool sealed)
{
	uint8_t *data = calloc(1, bytes);
	int fd = -1;

	assert_non_null(data);
	if (sealed) {
		fd = memfd_from_buffer("test", data, bytes);
	} else {
		fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	}
	free(data);
	assert_true(fd >= 0);
	return fd;
}

/** A shell of kind @kind gets this message, and says in its last one why it does not take it. */
static void expect_failure(enum guest_kind kind, const void *m, size_t n, const int *fds,
			   int fd_count, const char *text)
{
	int got_fds[FDPASS_FDS_MAX], count, status;
	const struct iovec iov = {(void *)(uintptr_t)m, n};
	union {
		struct proto_hello hello;
		struct proto_failed failed;
		char bytes[4096];
	} u = {.bytes = {0}};

	assert_true(fdpass_recv(peer.sock, &u, sizeof(u), got_fds, &count, 0) > 0);
	assert_int_equal(u.hello.h.type, PROTO_HELLO);
	assert_int_equal(u.hello.guest_kind, kind);
	assert_int_equal(fdpass_send(peer.sock, &iov, 1, fds, fd_count), 0);
	memset(&u, 0, sizeof(u));
	assert_true(fdpass_recv(peer.sock, &u, sizeof(u) - 1, got_fds, &count, 0) > 0);
	assert_int_equal(u.failed.h.type, PROTO_FAILED);
	assert_int_equal(u.failed.reason, PROTO_FAILED_VMM);
	assert_non_null(strstr(u.bytes + sizeof(u.failed), text));
	assert_int_equal(waitpid(peer.vmm, &status, 0), peer.vmm);
	assert_true(WIFEXITED(status));
}

static void expect_refusal(const struct proto_restore *m, int state_fd, int template_fd,
			   const char *text)
{
	int fds[PROTO_DIR_COUNT + 2];

	for (int i = 0; i < PROTO_DIR_COUNT; i++)
		fds[i] = state_fd;
	fds[PROTO_DIR_COUNT] = template_fd;
	fds[PROTO_DIR_COUNT + 1] = state_fd;
	expect_failure(GUEST_KIND_PROCESS, m, sizeof(*m), fds, PROTO_DIR_COUNT + 2, text);
	close(state_fd);
	close(template_fd);
}

static struct proto_restore restore_message(void)
{
	return (struct proto_restore){
		.h = {PROTO_RESTORE, sizeof(struct proto_restore)},
		.template_pages = TEMPLATE_PAGES,
		.state_bytes = STATE_BYTES,
		.populate_count = 1,
	};
}

static int state_memfd(bool sealed)
{
	return memfd_of(STATE_BYTES + sizeof(struct proto_populate), sealed);
}

static int template_memfd(size_t pages)
{
	return memfd_of(pages * PAGE_BYTES, false);
}

static void test_state_size_wraps(void **state)
{
	struct proto_restore m = restore_message();

	(void)state;
	m.state_bytes = UINT64_MAX - 2;
	expect_refusal(&m, state_memfd(true), template_memfd(TEMPLATE_PAGES), "Bad message");
}

static void test_state_is_too_short(void **state)
{
	struct proto_restore m = restore_message();

	(void)state;
	m.populate_count = UINT32_MAX;
	expect_refusal(&m, state_memfd(true), template_memfd(TEMPLATE_PAGES), "Bad message");
}

static void test_state_is_not_sealed(void **state)
{
	struct proto_restore m = restore_message();

	(void)state;
	expect_refusal(&m, state_memfd(false), template_memfd(TEMPLATE_PAGES), "Bad message");
}

static void test_template_is_too_short(void **state)
{
	struct proto_restore m = restore_message();

	(void)state;
	expect_refusal(&m, state_memfd(true), template_memfd(TEMPLATE_PAGES - 1), "Bad message");
}

/* The one that is refused for what its state holds: so the others were not. */
static void test_state_is_looked_at(void **state)
{
	struct proto_restore m = restore_message();

	(void)state;
	expect_refusal(&m, state_memfd(true), template_memfd(TEMPLATE_PAGES), "set of devices");
}

/* ---- the same of kernel guests --------------------------------------------------------------- */

static void expect_kernel_refusal(const void *m, size_t n, int fd_count, bool sealed)
{
	int fds[FDPASS_FDS_MAX], fd = state_memfd(sealed);

	for (int i = 0; i < FDPASS_FDS_MAX; i++)
		fds[i] = fd;
	expect_failure(GUEST_KIND_KERNEL, m, n, fds, fd_count, "Bad message");
	close(fd);
}

/* As many as a process guest has: one too many. */
static void test_kernel_has_other_descriptors(void **state)
{
	struct proto_restore m = restore_message();

	(void)state;
	expect_kernel_refusal(&m, sizeof(m), PROTO_DIR_COUNT + 2, true);
}

static void test_kernel_state_is_not_sealed(void **state)
{
	struct proto_restore m = restore_message();

	(void)state;
	expect_kernel_refusal(&m, sizeof(m), PROTO_DISK_COUNT + 2, false);
}

static void test_kernel_boots_with_all_its_images(void **state)
{
	struct {
		struct proto_boot body;
		char strings[4];
	} m = {.body = {.h = {PROTO_BOOT, sizeof(m)}, .argc = 1}, .strings = "/x"};

	(void)state;
	expect_kernel_refusal(&m, sizeof(m), PROTO_DISK_COUNT + 1, true);
}

static void test_kernel_needs_all_strings(void **state)
{
	struct {
		struct proto_boot body;
		char strings[4];
	} m = {.body = {.h = {PROTO_BOOT, sizeof(m)}, .argc = 1, .envc = 1000},
	       .strings = {'/', 'x', 0, 'y'}};

	(void)state;
	expect_kernel_refusal(&m, sizeof(m), PROTO_DISK_COUNT + 2, true);
}

static void test_map_sealed(void **state)
{
	const void *map;
	int fd = state_memfd(true), ends[2];

	(void)state;
	assert_int_equal(memfd_map_sealed(fd, STATE_BYTES, 0, &map), 0);
	assert_int_equal(*(const char *)map, 0);
	munmap((void *)(uintptr_t)map, STATE_BYTES);
	assert_int_equal(memfd_map_sealed(fd, 0, 0, &map), -EBADMSG);
	assert_int_equal(memfd_map_sealed(fd, PAGE_BYTES, 0, &map), -EBADMSG);
	close(fd);
	/* What has no seals at all is not sealed. */
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(memfd_map_sealed(ends[0], 1, 0, &map), -EBADMSG);
	close(ends[0]);
	close(ends[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#define KERNEL(name) cmocka_unit_test_setup_teardown(name, setup_kernel, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_state_size_wraps),
		TEST(test_state_is_too_short),
		TEST(test_state_is_not_sealed),
		TEST(test_template_is_too_short),
		TEST(test_state_is_looked_at),
		cmocka_unit_test(test_map_sealed),
		KERNEL(test_kernel_has_other_descriptors),
		KERNEL(test_kernel_state_is_not_sealed),
		KERNEL(test_kernel_boots_with_all_its_images),
		KERNEL(test_kernel_needs_all_strings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
