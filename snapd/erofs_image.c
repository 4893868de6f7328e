/* SPDX-License-Identifier: Apache-2.0 */
/* erofs_image.c - a directory becomes a read-only disk image, for kernel guests */
#include "snapd/erofs_image.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/util.h"

#define MAKER "mkfs.erofs"
/* One for all: an image is known by its place, and the same tree makes the same bytes. */
#define IMAGE_UUID  "51756963-6b74-4861-8765-726f66730000"
#define TEMP_PREFIX "."

enum { RUN_MAX_S = 600, NAME_BYTES = 64 };

/** In its directory, with nothing but snapd's stderr open. Return: 0 or -errno. */
static int spawn(int dirfd, const char *tree, const char *image, pid_t *ret_pid)
{
	/* Times of files are the tree's, for interpreters compare them; owners are not. */
	const char *const argv[] = {
		MAKER,	      "--quiet", "-x-1",     "-T",  "0",  "--preserve-mtime",
		"--all-root", "-U",	 IMAGE_UUID, image, tree, NULL};
	const char *const envp[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
	posix_spawn_file_actions_t actions;
	int err;

	posix_spawn_file_actions_init(&actions);
	err = posix_spawn_file_actions_addfchdir_np(&actions, dirfd);
	if (!err)
		err = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null",
						       O_WRONLY, 0);
	if (!err)
		err = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
	if (!err)
		err = posix_spawnp(ret_pid, MAKER, &actions, NULL, (char *const *)(uintptr_t)argv,
				   (char *const *)(uintptr_t)envp);
	posix_spawn_file_actions_destroy(&actions);
	return -err;
}

/** Return: whether it ended well in time. */
static bool wait_for(pid_t pid)
{
	CLEANUP_FD int pidfd = pidfd_open(pid, 0);
	struct pollfd gone = {.fd = pidfd, .events = POLLIN};
	int status = 0;

	if (pidfd >= 0 && poll(&gone, 1, RUN_MAX_S * 1000) == 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

static int make(int dirfd, const char *tree, const char *name)
{
	char temp[NAME_BYTES];
	pid_t pid = -1;
	int err;

	snprintf(temp, sizeof(temp), TEMP_PREFIX "%s", name);
	unlinkat(dirfd, temp, 0);
	err = spawn(dirfd, tree, temp, &pid);
	if (err) {
		log_error(MAKER ": %s: it makes the disks of kernel guests: install erofs-utils",
			  strerror(-err));
		return err;
	}
	if (!wait_for(pid)) {
		log_error(MAKER ": it made no image of %s: is the disk full?", tree);
		unlinkat(dirfd, temp, 0);
		return -EIO;
	}
	return renameat(dirfd, temp, dirfd, name) ? -errno : 0;
}

int erofs_image_open(int dirfd, const char *tree, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC), err;

	if (fd >= 0 || errno != ENOENT)
		return fd < 0 ? -errno : fd;
	err = make(dirfd, tree, name);
	if (err)
		return err;
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
