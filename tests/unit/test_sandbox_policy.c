/* SPDX-License-Identifier: Apache-2.0 */
/* test_sandbox_policy.c - what a jailed process is shown of files, and what it may ask the kernel
 */
#include <dirent.h>
#include <errno.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/util.h"
#include "tests/unit/jail_test.h"

/* ---- the guest's file tree ------------------------------------------------------------------- */

static void test_guest_root(void **state)
{
	char dir[] = "/tmp/qt-root-XXXXXX";
	CLEANUP_FD int root = -1;
	struct jailed j = {.fds = &root, .fd_count = 1};
	struct statvfs fs;
	struct dirent *entry;
	struct stat st;
	DIR *list;
	char top[1024] = "";

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(sandbox_root_build(dir, NULL, &root), 0);
	assert_int_equal(run_jailed(&j, "guest_root", ""), 0);
	assert_exit(j.status, 0, j.output);

	list = fdopendir(openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	assert_non_null(list);
	while ((entry = readdir(list)))
		if (entry->d_name[0] != '.' && !strstr("bin dev etc home lib lib32 lib64 libx32 "
						       "opt proc root run sbin sys tmp usr var",
						       entry->d_name))
			strncat(top, entry->d_name, sizeof(top) - strlen(top) - 1);
	closedir(list);
	assert_string_equal(top, "");
	/* Links stay links; mounts are read-only, nosuid, nodev even for root. */
	assert_int_equal(fstatat(root, "bin", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(lstat("/bin", &(struct stat){0}), 0);
	assert_true(S_ISLNK(st.st_mode));
	list = fdopendir(openat(root, "usr", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	assert_non_null(list);
	assert_int_equal(fstatvfs(dirfd(list), &fs), 0);
	assert_int_equal(fs.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV),
			 ST_RDONLY | ST_NOSUID | ST_NODEV);
	assert_int_equal(openat(dirfd(list), "x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), -1);
	assert_int_equal(errno, EROFS);
	closedir(list);
	assert_int_equal(mkdirat(root, "x", 0700), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(fstatat(root, "tmp", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 01777);
	assert_int_equal(umount2(dir, MNT_DETACH), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void test_guest_root_refuses(void **state)
{
	static const char *const device[] = {"/dev/null", NULL};
	static const char *const relative[] = {"usr", NULL};
	static const char *const missing[] = {"/no/such/path", NULL};
	char dir[] = "/tmp/qt-root-XXXXXX";
	int root = -1;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(sandbox_root_build(dir, device, &root), -EINVAL);
	assert_int_equal(root, -1);
	umount2(dir, MNT_DETACH);
	assert_int_equal(sandbox_root_build(dir, relative, &root), -EINVAL);
	umount2(dir, MNT_DETACH);
	assert_int_equal(sandbox_root_build(dir, missing, &root), 0);
	assert_int_equal(faccessat(root, "no", F_OK, 0), -1);
	close(root);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
}

/* In a mount namespace that ends with it: the tree for whoever is at the other end of @sock. */
static void build_and_send(const char *dir, int sock)
{
	struct iovec iov = {(void *)(uintptr_t) "", 1};
	int root = -1;

	if (unshare(CLONE_NEWNS) || sandbox_root_build(dir, NULL, &root) ||
	    fdpass_send(sock, &iov, 1, &root, 1))
		_exit(1);
	_exit(0);
}

/* A guest may outlive the snapd that made its tree, and still has all of it. */
static void test_guest_root_outlives_its_maker(void **state)
{
	char dir[] = "/tmp/qt-root-XXXXXX", byte;
	int pair[2], fds[FDPASS_FDS_MAX], count = 0, status = -1;
	struct stat st;
	pid_t pid;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (!pid)
		build_and_send(dir, pair[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(fdpass_recv(pair[0], &byte, 1, fds, &count, 0), 1);
	assert_int_equal(count, 1);
	/* What is mounted below the top, directories and single files. */
	assert_int_equal(fstatat(fds[0], "usr/bin/env", &st, 0), 0);
	assert_int_equal(fstatat(fds[0], "etc/hosts", &st, 0), 0);
	assert_true(st.st_size > 0);
	assert_int_equal(mkdirat(fds[0], "x", 0700), -1);
	assert_int_equal(errno, EROFS);
	close(fds[0]);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(rmdir(dir), 0);
}

/* A directory of code: read-only, and ".." ends at its top whatever is above it. */
static void test_dir_open(void **state)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
	char dir[] = "/tmp/qt-dir-XXXXXX";
	char file[64];
	CLEANUP_FD int fd = -1;
	struct stat here, above;
	int out;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/main.py", dir);
	out = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(write(out, "x\n", 2), 2);
	close(out);
	assert_int_equal(sandbox_dir_open(dir, &fd), 0);
	out = (int)syscall(SYS_openat2, fd, "main.py", &how, sizeof(how));
	assert_true(out >= 0);
	close(out);
	assert_int_equal(openat(fd, "main.py", O_WRONLY | O_CLOEXEC), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(unlinkat(fd, "main.py", 0), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(fstat(fd, &here), 0);
	assert_int_equal(fstatat(fd, "..", &above, 0), 0);
	assert_int_equal(here.st_ino, above.st_ino);
	/* The host's view is as it was. */
	assert_int_equal(unlink(file), 0);
	assert_int_equal(sandbox_dir_open(file, &out), -ENOENT);
	assert_int_equal(rmdir(dir), 0);
}

/* ---- system calls ---------------------------------------------------------------------------- */

/** Each of @calls, made in the stage of @check, ends the process, and is named. */
static void check_denials(const char *check, const char *const *calls, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct jailed j = {0};
		char expected[64];

		assert_int_equal(run_jailed(&j, check, calls[i]), 0);
		if (!WIFSIGNALED(j.status) || WTERMSIG(j.status) != SIGSYS)
			fail_msg("%s: status %x: %s", calls[i], (unsigned)j.status, j.output);
		snprintf(expected, sizeof(expected), "system call %.*s (",
			 (int)strcspn(calls[i], "-"), calls[i]);
		if (!strstr(j.output, expected))
			fail_msg("%s is not named in: %s", calls[i], j.output);
	}
}

static void test_seccomp_denies(void **state)
{
	static const char *const calls[] = {
		"open",
		"openat-write",
		"openat-create",
		"execve",
		"execveat",
		"clone",
		"socket",
		"connect",
		"ptrace",
		"mount",
		"unshare",
		"setns",
		"bpf",
		"mmap",
		"mprotect",
		"fcntl",
		"prctl",
		"io_uring_setup",
		"rt_sigaction",
		"seccomp",
		"unknown",
		"ioctl-tiocsti",
		"ioctl-create-vm",
		"ioctl-uffd-copy",
		"fcntl-setfl",
		"memfd_create-huge",
	};

	static const char *const of_kernels[] = {
		"openat-read",	     "eventfd2",    "epoll_create1",
		"ioctl-create-vcpu", "ioctl-irqfd", "ioctl-ioeventfd",
	};

	(void)state;
	check_denials("deny", calls, ARRAY_SIZE(calls));
	check_denials("deny-kernel", calls, ARRAY_SIZE(calls));
	check_denials("deny-kernel", of_kernels, ARRAY_SIZE(of_kernels));
}

/* It is named also where a thread asks for it that leaves signals to others. */
static void test_seccomp_denies_in_threads(void **state)
{
	char output[OUTPUT_BYTES];
	int status;

	(void)state;
	status = run_free("deny-thread", "", output);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS ||
	    !strstr(output, "system call socket ("))
		fail_msg("status %x: %s", (unsigned)status, output);
}

static void test_seccomp_denies_other_abi(void **state)
{
	struct jailed j = {0};

	(void)state;
	assert_int_equal(run_jailed(&j, "deny", "x32"), 0);
	assert_true(WIFSIGNALED(j.status) && WTERMSIG(j.status) == SIGSYS);
}

static void test_seccomp_allows(void **state)
{
	CLEANUP_FD int filter = -1;
	struct jailed j = {.fds = &filter, .fd_count = 1};

	(void)state;
	assert_int_equal(sandbox_seccomp_export(SANDBOX_STAGE_GUEST, &filter), 0);
	/* Nobody can change a filter that many processes will load. */
	assert_int_equal(write(filter, "x", 1), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(run_jailed(&j, "allow", ""), 0);
	assert_exit(j.status, 0, j.output);
	assert_non_null(strstr(j.output, "allowed"));
}

/* What a thread asks for before its first line is on the list of whoever made it before the filter.
 */
static void test_seccomp_allows_threads_to_begin(void **state)
{
	static const char *const checks[] = {"threads", "threads-kernel"};
	char output[OUTPUT_BYTES];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		int status = run_free(checks[i], "", output);

		assert_exit(status, 0, output);
		assert_string_equal(output, "64 threads began\n");
	}
}

static void test_seccomp_load_refuses(void **state)
{
	CLEANUP_FD int empty = memfd_create("empty", MFD_CLOEXEC);
	CLEANUP_FD int odd = memfd_create("odd", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(sandbox_seccomp_load(empty), -EBADMSG);
	assert_int_equal(write(odd, "12345", 5), 5);
	assert_int_equal(sandbox_seccomp_load(odd), -EBADMSG);
	assert_int_equal(sandbox_seccomp_load(-1), -EBADF);
}

/* A program that jails itself: an unpacker. */
static void test_confine(void **state)
{
	char top[] = "/tmp/qt-confine-XXXXXX", path[64], output[OUTPUT_BYTES];
	int status, fd;

	(void)state;
	assert_non_null(mkdtemp(top));
	snprintf(path, sizeof(path), "%s/other", top);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	close(fd);
	snprintf(path, sizeof(path), "%s/tree", top);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/tree/closed", top);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(fchown(fd, 1, 1), 0);
	close(fd);
	snprintf(path, sizeof(path), "%s/tree", top);
	status = run_free("confine", path, output);
	assert_non_null(strstr(output, "confined"));
	assert_non_null(strstr(output, "system call socket ("));
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
		fail_msg("status %x: %s", (unsigned)status, output);
	snprintf(path, sizeof(path), "%s/tree/made", top);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "rm -r %s", top);
	assert_int_equal(system(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guest_root),
		cmocka_unit_test(test_guest_root_refuses),
		cmocka_unit_test(test_guest_root_outlives_its_maker),
		cmocka_unit_test(test_dir_open),
		cmocka_unit_test(test_seccomp_denies),
		cmocka_unit_test(test_seccomp_denies_in_threads),
		cmocka_unit_test(test_seccomp_denies_other_abi),
		cmocka_unit_test(test_seccomp_allows),
		cmocka_unit_test(test_seccomp_allows_threads_to_begin),
		cmocka_unit_test(test_seccomp_load_refuses),
		cmocka_unit_test(test_confine),
	};

	if (geteuid())
		return skip_without_root("test_sandbox_policy");
	return cmocka_run_group_tests(tests, jail_setup, jail_teardown);
}
