/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_root.c - the file trees of a jail: the guest's read-only view, and the vmm's empty one
 *
 * A guest's "/" is a tmpfs with read-only bind mounts of a list of host paths. It is built in
 * snapd's private mount namespace, so the host never sees it, and it vanishes with snapd. A vmm
 * gets a descriptor of it: its own root is an empty tmpfs.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "common/sandbox_internal.h"
#include "common/util.h"

/* /etc is listed file by file: it is where a host keeps its secrets. */
const char *const sandbox_root_paths[] = {
	"/usr",
	"/bin",
	"/sbin",
	"/lib",
	"/lib32",
	"/lib64",
	"/libx32",
	"/etc/alternatives",
	"/etc/ca-certificates.conf",
	"/etc/debian_version",
	"/etc/fonts",
	"/etc/gai.conf",
	"/etc/host.conf",
	"/etc/java-17-openjdk",
	"/etc/ld.so.cache",
	"/etc/ld.so.conf",
	"/etc/ld.so.conf.d",
	"/etc/locale.alias",
	"/etc/localtime",
	"/etc/magic",
	"/etc/mime.types",
	"/etc/os-release",
	"/etc/protocols",
	"/etc/python3",
	"/etc/python3.11",
	"/etc/services",
	"/etc/ssl/certs",
	"/etc/ssl/openssl.cnf",
	"/etc/terminfo",
	"/etc/timezone",
	NULL,
};

/* Places that the vmm serves itself, or that must exist to be looked at. */
static const struct {
	const char *path;
	mode_t mode;
} empty_dirs[] = {
	{"dev", 0755}, {"home", 0755}, {"opt", 0755},  {"proc", 0555},	   {"root", 0755},
	{"run", 0755}, {"sys", 0555},  {"tmp", 01777}, {"var/task", 0755}, {"var/runtime", 0755},
};

/* What programs look up in every /etc, without a word about the host. */
static const struct {
	const char *path;
	const char *text;
} plain_files[] = {
	{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
		       "sandbox:x:1000:1000:function:/tmp:/bin/sh\n"
		       "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
	{"etc/group", "root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n"},
	{"etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n"},
	{"etc/hostname", "sandbox\n"},
	{"etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"
			      "protocols: files\nservices: files\n"},
};

/* mkdir -p of @rel below @root; with @parents_only its last component is left out. */
static int make_dirs(int root, const char *rel, bool parents_only)
{
	char path[PATH_MAX];
	char *at = path;

	if ((size_t)snprintf(path, sizeof(path), "%s", rel) >= sizeof(path))
		return -ENAMETOOLONG;
	while ((at = strchr(at, '/'))) {
		*at = '\0';
		if (mkdirat(root, path, 0755) && errno != EEXIST)
			return -errno;
		*at++ = '/';
	}
	if (!parents_only && mkdirat(root, path, 0755) && errno != EEXIST)
		return -errno;
	return 0;
}

/* A mount of @path alone (not of what is mounted below it), attached nowhere. */
static int clone_read_only(const char *path)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
		.propagation = MS_PRIVATE,
	};
	CLEANUP_FD int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)))
		return -errno;
	return steal_fd(&fd);
}

static int add_symlink(int root, const char *path, const char *rel)
{
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	return symlinkat(target, root, rel) ? -errno : 0;
}

static int add_mount(int root, const char *path, const char *rel, bool is_dir)
{
	CLEANUP_FD int tree = -1;

	if (is_dir) {
		if (mkdirat(root, rel, 0755) && errno != EEXIST)
			return -errno;
	} else {
		CLEANUP_FD int fd = openat(root, rel, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

		if (fd < 0)
			return -errno;
	}
	tree = clone_read_only(path);
	if (tree < 0)
		return tree;
	return move_mount(tree, "", root, rel, MOVE_MOUNT_F_EMPTY_PATH) ? -errno : 0;
}

static int add_host_path(int root, const char *path)
{
	const char *rel = path + 1;
	struct stat st;
	int err;

	if (path[0] != '/' || !path[1])
		return -EINVAL;
	if (lstat(path, &st))
		return errno == ENOENT ? 0 : -errno;
	err = make_dirs(root, rel, true);
	if (err)
		return err;
	if (S_ISLNK(st.st_mode))
		return add_symlink(root, path, rel);
	if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode))
		return add_mount(root, path, rel, S_ISDIR(st.st_mode));
	return -EINVAL; /* devices, sockets and pipes have no business in a guest */
}

static int add_own_files(int root)
{
	int err = 0;

	for (size_t i = 0; !err && i < ARRAY_SIZE(empty_dirs); i++) {
		err = make_dirs(root, empty_dirs[i].path, false);
		if (!err && fchmodat(root, empty_dirs[i].path, empty_dirs[i].mode, 0))
			err = -errno;
	}
	for (size_t i = 0; !err && i < ARRAY_SIZE(plain_files); i++) {
		CLEANUP_FD int fd = -1;

		err = make_dirs(root, plain_files[i].path, true);
		if (err)
			break;
		fd = openat(root, plain_files[i].path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
			    0644);
		if (fd < 0 && errno == EEXIST)
			continue; /* the caller's list has one */
		if (fd < 0 || fchmod(fd, 0644))
			err = -errno;
		else
			err = write_full(fd, plain_files[i].text, strlen(plain_files[i].text));
	}
	return err;
}

/* A new tmpfs mounted at @dir. Return: a descriptor of its top. */
static int mount_tmpfs(const char *dir)
{
	CLEANUP_FD int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	CLEANUP_FD int mnt = -1;
	int fd;

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", "quickthaw", 0) ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "size", "1m", 0) ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return -errno;
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	if (mnt < 0 || move_mount(mnt, "", AT_FDCWD, dir, MOVE_MOUNT_F_EMPTY_PATH))
		return -errno;
	if (mount(NULL, dir, NULL, MS_PRIVATE, NULL))
		return -errno;
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/*
 * The tree at @root, attached nowhere: a copy that lives as long as a descriptor of it. In the tree
 * that is mounted, the mounts below it would come apart with the mount namespace, which ends with
 * snapd; a guest that outlives its snapd holds the copy.
 */
static int detach_copy(int root)
{
	int fd = open_tree(root, "",
			   OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);

	return fd < 0 ? -errno : fd;
}

int sandbox_root_build(const char *dir, const char *const *paths, int *ret_dirfd)
{
	struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
	CLEANUP_FD int host_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int root = -1;
	mode_t mask = umask(0);
	int fd = -1, err = 0;

	*ret_dirfd = -1;
	if (dir[0] != '/')
		err = -EINVAL;
	if (!err)
		err = host_root < 0 ? -errno : make_dirs(host_root, dir + 1, false);
	if (!err) {
		root = mount_tmpfs(dir);
		err = root < 0 ? root : 0;
	}
	if (err)
		log_error("cannot mount the guests' file tree at %s: %s", dir, strerror(-err));
	for (const char *const *p = paths ? paths : sandbox_root_paths; !err && *p; p++) {
		err = add_host_path(root, *p);
		if (err)
			log_error("cannot show %s to guests: %s", *p, strerror(-err));
	}
	if (!err) {
		err = add_own_files(root);
		if (!err && mount_setattr(root, "", AT_EMPTY_PATH, &read_only, sizeof(read_only)))
			err = -errno;
		if (!err) {
			fd = detach_copy(root);
			err = fd < 0 ? fd : 0;
		}
		if (err)
			log_error("cannot finish the guests' file tree: %s", strerror(-err));
	}
	umask(mask);
	*ret_dirfd = fd;
	return err;
}

int sandbox_dir_open(const char *path, int *ret_dirfd)
{
	struct stat st;
	int fd;

	*ret_dirfd = -1;
	fd = stat(path, &st) ? -errno : S_ISDIR(st.st_mode) ? clone_read_only(path) : -ENOTDIR;
	if (fd < 0) {
		log_error("cannot open %s for guests: %s", path, strerror(-fd));
		return fd;
	}
	*ret_dirfd = fd;
	return 0;
}

int sandbox_empty_root_enter(void)
{
	/* Any directory does as the place to mount on: nobody else sees this namespace. */
	static const char place[] = "/proc";

	if (unshare(CLONE_FS | CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -errno;
	if (mount("quickthaw-empty", place, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  "mode=0555,size=4k,nr_inodes=1"))
		return -errno;
	if (chdir(place) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) ||
	    chdir("/"))
		return -errno;
	if (mount(NULL, "/", NULL,
		  MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		return -errno;
	return 0;
}
