/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lifeline.c - a vmm whose thread sits in a page fault that nobody serves ends when the last
 * copy of the other end of its socket is closed, and not before
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/util.h"
#include "vmm/lifeline.h"

static int new_uffd(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	CLEANUP_FD int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	CLEANUP_FD int fd = dev < 0 ? -1 : ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

	return fd < 0 || ioctl(fd, UFFDIO_API, &api) ? -1 : steal_fd(&fd);
}

/** In the place of a vmm: tell the userfaultfd, then fault on a page that never comes. */
static _Noreturn void be_vmm(int sock)
{
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	void *ram = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec iov = {(void *)(uintptr_t) "", 1};
	int uffd = new_uffd();

	reg.range.start = (uintptr_t)ram;
	reg.range.len = PAGE_BYTES;
	if (lifeline_init(sock) || ioctl(uffd, UFFDIO_REGISTER, &reg) ||
	    fdpass_send(sock, &iov, 1, &uffd, 1))
		_exit(2);
	(void)*(volatile uint8_t *)ram;
	_exit(3); /* the fault was served? */
}

static void test_ends_with_the_last_holder(void **state)
{
	int pair[2], copy, probe = new_uffd(), fds[FDPASS_FDS_MAX], count, status = -1;
	struct pollfd fault = {.events = POLLIN}, gone = {.events = POLLIN};
	char byte;
	pid_t pid;

	(void)state;
	if (probe < 0) {
		print_message("userfaultfd: /dev/userfaultfd cannot be used here\n");
		skip();
	}
	close(probe);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	copy = fcntl(pair[0], F_DUPFD_CLOEXEC, 0);
	pid = fork();
	if (!pid) {
		close(pair[0]);
		close(copy);
		be_vmm(pair[1]);
	}
	close(pair[1]);
	gone.fd = pidfd_open(pid, 0);
	assert_int_equal(fdpass_recv(pair[0], &byte, 1, fds, &count, 0), 1);
	fault.fd = fds[0];
	assert_int_equal(poll(&fault, 1, 10000), 1);
	close(pair[0]);
	assert_int_equal(poll(&gone, 1, 200), 0);
	close(copy);
	assert_int_equal(poll(&gone, 1, 5000), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	close(gone.fd);
	close(fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends_with_the_last_holder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
