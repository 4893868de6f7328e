/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_cgroup.c - one memory cgroup per jail, on version 1 and version 2 hosts
 *
 * Groups are quickthaw/<pid of snapd>/<id of the jail> below the root of the hierarchy that has the
 * memory controller. A running snapd holds a lock (flock) on its directory, so the next one can
 * tell what a killed one left behind, whatever the pids are by then, and clears it away.
 *
 * The lock is the open file's, not the process's: a snapd that adopts the jails of another gets
 * that descriptor with them and goes on in the same directory, under its old name. Should a later
 * snapd have that pid, its directory gets a name of its own, PID-N.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/sandbox_internal.h"
#include "common/util.h"

#define CGROUP_PARENT "quickthaw"
/* How long processes of a dead snapd may take to die. */
#define STALE_WAIT_NS (2 * NSEC_PER_SEC)

enum { CGROUP_NONE, CGROUP_V1, CGROUP_V2 };

static struct {
	int version;
	int root_fd; /* quickthaw */
	int fd;	     /* quickthaw/<name>, locked */
	char name[NAME_MAX + 1];
} cgroup = {.root_fd = -1, .fd = -1};

static int write_value(int dirfd, const char *name, const char *value)
{
	CLEANUP_FD int fd = openat(dirfd, name, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write_full(fd, value, strlen(value));
}

/* Does the version 2 hierarchy at @dir offer the memory controller to its children? */
static bool v2_has_memory(const char *dir)
{
	CLEANUP_FD int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FREE char *text = NULL;
	const char *at;

	if (fd < 0 || read_file(fd, "cgroup.controllers", 4096, &text, NULL))
		return false;
	at = strstr(text, "memory");
	return at && (at == text || at[-1] == ' ') && strchr(" \n", at[strlen("memory")]);
}

static int find_hierarchy(char *path, size_t path_size)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	int version = CGROUP_NONE;
	struct mntent *m;

	while (mounts && version == CGROUP_NONE && (m = getmntent(mounts))) {
		if (!strcmp(m->mnt_type, "cgroup") && hasmntopt(m, "memory"))
			version = CGROUP_V1;
		else if (!strcmp(m->mnt_type, "cgroup2") && v2_has_memory(m->mnt_dir))
			version = CGROUP_V2;
		else
			continue;
		snprintf(path, path_size, "%s", m->mnt_dir);
	}
	if (mounts)
		endmntent(mounts);
	return version;
}

static void kill_members(int dirfd)
{
	CLEANUP_FREE char *text = NULL;
	char *rest, *line;

	if (read_file(dirfd, "cgroup.procs", 1 << 16, &text, NULL))
		return;
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		long pid = strtol(line, NULL, 10);

		if (pid > 1)
			kill((pid_t)pid, SIGKILL);
	}
}

/* Remove a group of one jail whose snapd is dead, with whatever still lives in it. */
static int remove_stale_jail(int parent, const char *name, uint64_t deadline)
{
	while (unlinkat(parent, name, AT_REMOVEDIR)) {
		CLEANUP_FD int fd = -1;

		if (errno == ENOENT)
			return 0;
		if (errno != EBUSY || clock_mono_ns() > deadline)
			return -errno;
		fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			kill_members(fd);
		usleep(2000);
	}
	return 0;
}

void sandbox_sweep_cgroups(bool (*is_ours)(const char *id))
{
	uint64_t deadline = clock_mono_ns() + STALE_WAIT_NS;
	struct dirent *entry;
	DIR *dir;
	int fd;

	if (cgroup.fd < 0)
		return;
	fd = openat(cgroup.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir && fd >= 0)
		close(fd);
	while (dir && (entry = readdir(dir)))
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.' && !is_ours(entry->d_name) &&
		    remove_stale_jail(fd, entry->d_name, deadline))
			log_warn("jail %s: its cgroup stays behind until the next start",
				 entry->d_name);
	if (dir)
		closedir(dir);
}

/* A group quickthaw/<pid>: leave it if its snapd runs, else take it down. */
static void remove_stale_parent(int root, const char *name)
{
	uint64_t deadline = clock_mono_ns() + STALE_WAIT_NS;
	int fd = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned removed = 0;
	struct dirent *entry;
	DIR *dir;
	int err = 0;

	if (fd < 0)
		return;
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		close(fd);
		return;
	}
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return;
	}
	while (!err && (entry = readdir(dir))) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		err = remove_stale_jail(fd, entry->d_name, deadline);
		removed++;
	}
	if (!err && unlinkat(root, name, AT_REMOVEDIR))
		err = -errno;
	if (err)
		log_warn("cannot remove the cgroup " CGROUP_PARENT "/%s of an earlier run: %s",
			 name, strerror(-err));
	else
		log_info("removed the cgroup of an earlier run, jails in it: %u", removed);
	closedir(dir);
}

static void remove_stale(int root)
{
	int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			remove_stale_parent(root, entry->d_name);
	closedir(dir);
}

static int open_group(int parent, const char *name)
{
	int fd;

	if (mkdirat(parent, name, 0755) && errno != EEXIST)
		return -errno;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/** Is cgroup.name below @root the directory @fd? */
static bool is_named(int root, int fd)
{
	struct stat ours, named;

	return !fstat(fd, &ours) && !fstatat(root, cgroup.name, &named, 0) &&
	       named.st_ino == ours.st_ino && named.st_dev == ours.st_dev;
}

/* Open and lock quickthaw/<pid>. Another snapd that starts may take the group for a stale one
 * before it is locked; then it is gone by the time it is ours, and is made again. */
static int lock_group(int root)
{
	int n = snprintf(cgroup.name, sizeof(cgroup.name), "%d", (int)getpid());

	for (int tries = 0; tries < 10; tries++) {
		CLEANUP_FD int fd = open_group(root, cgroup.name);

		if (fd < 0)
			return fd;
		if (!flock(fd, LOCK_EX | LOCK_NB)) {
			if (is_named(root, fd))
				return steal_fd(&fd);
		} else if (errno == EWOULDBLOCK) {
			snprintf(cgroup.name + n, sizeof(cgroup.name) - (size_t)n, "-%d", tries);
		} else {
			return -errno;
		}
	}
	return -EBUSY;
}

void sandbox_adopt_cgroups(int fd)
{
	cgroup.fd = fd;
}

int sandbox_cgroups(void)
{
	return cgroup.fd;
}

/** The directory that was adopted, if it is one of ours. */
static bool adopted_group(int root)
{
	char link[64], path[PATH_MAX];
	const char *name;
	ssize_t n;

	if (cgroup.fd < 0)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", cgroup.fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[MAX(n, 0)] = '\0';
	name = strrchr(path, '/');
	if (name && name[1] &&
	    snprintf(cgroup.name, sizeof(cgroup.name), "%s", name + 1) <= NAME_MAX &&
	    is_named(root, cgroup.fd))
		return true;
	log_warn("the cgroups of the snapd before are not those of this host: %s", path);
	close(cgroup.fd);
	cgroup.fd = -1;
	return false;
}

static int make_parents(const char *hierarchy)
{
	CLEANUP_FD int top = open(hierarchy, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int root = -1;
	int err = 0;

	if (top < 0)
		return -errno;
	root = open_group(top, CGROUP_PARENT);
	if (root < 0)
		return root;
	remove_stale(root);
	if (!adopted_group(root))
		cgroup.fd = lock_group(root);
	if (cgroup.fd < 0)
		return cgroup.fd;
	cgroup.root_fd = fcntl(root, F_DUPFD_CLOEXEC, 0);
	if (cgroup.version == CGROUP_V2) {
		err = write_value(top, "cgroup.subtree_control", "+memory");
		if (!err)
			err = write_value(root, "cgroup.subtree_control", "+memory");
		if (!err)
			err = write_value(cgroup.fd, "cgroup.subtree_control", "+memory");
	}
	return err;
}

int sandbox_cgroup_init(void)
{
	char hierarchy[PATH_MAX] = "";
	int err;

	cgroup.version = find_hierarchy(hierarchy, sizeof(hierarchy));
	if (cgroup.version == CGROUP_NONE) {
		log_warn("no memory cgroup on this host: guests are bound by the limits inside the "
			 "vmm only");
		return 0;
	}
	err = make_parents(hierarchy);
	if (err) {
		log_warn("cannot use the memory cgroup at %s: %s: guests are bound by the limits "
			 "inside the vmm only",
			 hierarchy, strerror(-err));
		if (cgroup.fd >= 0)
			close(cgroup.fd);
		cgroup.fd = -1;
		cgroup.version = CGROUP_NONE;
	}
	return 0;
}

/* No way out through swap, either; hosts without swap accounting do not have those files. */
static int set_memory(int fd, uint64_t memory_bytes)
{
	char text[32];
	int err;

	snprintf(text, sizeof(text), "%llu", (unsigned long long)memory_bytes);
	if (cgroup.version == CGROUP_V2) {
		err = write_value(fd, "memory.max", text);
		if (!err)
			err = write_value(fd, "memory.swap.max", "0");
		return err == -ENOENT ? 0 : err;
	}
	/* memory + swap can never be below memory: out of the way first. */
	err = write_value(fd, "memory.memsw.limit_in_bytes", "-1");
	if (err && err != -ENOENT)
		return err;
	err = write_value(fd, "memory.limit_in_bytes", text);
	if (!err)
		err = write_value(fd, "memory.memsw.limit_in_bytes", text);
	return err == -ENOENT ? 0 : err;
}

int sandbox_cgroup_new(const char *id, uint64_t memory_bytes, int *ret_tasks_fd, int *ret_cgroup_fd)
{
	CLEANUP_FD int fd = -1;
	int err = 0;

	*ret_tasks_fd = -1;
	*ret_cgroup_fd = -1;
	if (cgroup.version == CGROUP_NONE)
		return 0;
	if (mkdirat(cgroup.fd, id, 0755))
		return -errno;
	fd = openat(cgroup.fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		err = -errno;
	if (!err && memory_bytes)
		err = set_memory(fd, memory_bytes);
	if (!err && cgroup.version == CGROUP_V1) {
		*ret_tasks_fd = openat(fd, "tasks", O_WRONLY | O_CLOEXEC);
		if (*ret_tasks_fd < 0)
			err = -errno;
	} else if (!err) {
		*ret_cgroup_fd = steal_fd(&fd);
	}
	if (err)
		unlinkat(cgroup.fd, id, AT_REMOVEDIR);
	return err;
}

int sandbox_cgroup_set_memory(const char *id, uint64_t memory_bytes)
{
	CLEANUP_FD int fd = -1;

	if (cgroup.version == CGROUP_NONE)
		return -ENOTSUP;
	fd = openat(cgroup.fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return set_memory(fd, memory_bytes);
}

bool sandbox_cgroup_oom_killed(const char *id)
{
	CLEANUP_FD int fd = -1;
	CLEANUP_FREE char *text = NULL;
	const char *at;

	if (cgroup.version == CGROUP_NONE)
		return false;
	fd = openat(cgroup.fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read_file(fd, cgroup.version == CGROUP_V1 ? "memory.oom_control" : "memory.events",
		      4096, &text, NULL))
		return false;
	at = strstr(text, "oom_kill ");
	return at && strtoul(at + strlen("oom_kill "), NULL, 10) > 0;
}

int sandbox_cgroup_remove(const char *id)
{
	uint64_t deadline = clock_mono_ns() + STALE_WAIT_NS;

	if (cgroup.version == CGROUP_NONE || !id[0])
		return 0;
	/* A reaped process may still be counted for a moment. */
	while (unlinkat(cgroup.fd, id, AT_REMOVEDIR)) {
		if (errno == ENOENT)
			return 0;
		if (errno != EBUSY || clock_mono_ns() > deadline)
			return -errno;
		usleep(200);
	}
	return 0;
}

void sandbox_cgroup_finish(void)
{
	if (cgroup.version == CGROUP_NONE)
		return;
	unlinkat(cgroup.root_fd, cgroup.name, AT_REMOVEDIR);
	close(cgroup.fd);
	close(cgroup.root_fd);
	cgroup.fd = cgroup.root_fd = -1;
	cgroup.version = CGROUP_NONE;
}
