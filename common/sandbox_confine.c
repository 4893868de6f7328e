/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_confine.c - a program jails itself before it reads what nobody trusts
 *
 * Less than what sandbox_spawn() gives a vmm, and enough for a process that lives for one archive:
 * the program is linked dynamically and keeps its user, so that what it makes belongs to whom it
 * should; it holds nothing but a few descriptors, in an empty root, without a network.
 */
#include <cap-ng.h>
#include <errno.h>
#include <linux/mount.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/sandbox_internal.h"

/** In the place of a directory: a view of it that is attached nowhere, so that ".." ends at its
 * top. */
static int detach_dir(int dirfd, bool read_only)
{
	struct mount_attr attr = {
		.attr_set =
			MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (read_only ? MOUNT_ATTR_RDONLY : 0u),
		.propagation = MS_PRIVATE,
	};
	CLEANUP_FD int view =
		open_tree(dirfd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	if (view < 0 || mount_setattr(view, "", AT_EMPTY_PATH, &attr, sizeof(attr)) ||
	    dup3(view, dirfd, O_CLOEXEC) < 0)
		return -errno;
	return 0;
}

static int detach_dirs(const struct sandbox_confinement *c)
{
	for (int i = 0; i < c->fd_count; i++) {
		struct stat st;
		int err = fstat(c->fds[i].fd, &st) ? -errno : 0;

		if (!err && S_ISDIR(st.st_mode))
			err = detach_dir(c->fds[i].fd, c->fds[i].read_only);
		if (err)
			return err;
	}
	return 0;
}

static int drop_capabilities(const struct sandbox_confinement *c)
{
	capng_clear(CAPNG_SELECT_ALL);
	if (c->read_all &&
	    capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_DAC_READ_SEARCH))
		return -EINVAL;
	/* The ambient set falls with the permitted one. */
	return capng_apply(CAPNG_SELECT_BOTH) ? -EPERM : 0;
}

int sandbox_confine(const struct sandbox_confinement *c)
{
	const char *step = "its directories";
	int err = detach_dirs(c);

	if (!err) {
		step = "namespaces";
		err = unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) ? -errno : 0;
	}
	if (!err) {
		step = "an empty root";
		err = sandbox_empty_root_enter();
	}
	if (!err) {
		step = "capabilities";
		err = drop_capabilities(c);
	}
	if (err) {
		log_error("cannot enter a jail: %s: %s: it needs root", step, strerror(-err));
		return err;
	}
	return sandbox_seccomp_enter(c->stage);
}
