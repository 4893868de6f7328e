/* SPDX-License-Identifier: Apache-2.0 */
/* mounts.c - from an initramfs to the root file system */
#include "guest/agent/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "guest/agent/note.h"

#define LOWER "/lower"
#define UPPER "/upper"
#define ROOT  "/root"

enum { DEVICE_WAIT_MS = 2000, IMAGE_WAIT_MS = 20000, DEVICE_RETRY_MS = 10 };

int mounts_early(void)
{
	static const struct {
		const char *type, *at;
	} mounts[] = {{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}};

	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		mkdir(mounts[i].at, 0755);
		if (mount(mounts[i].type, mounts[i].at, mounts[i].type, MS_NOSUID, NULL) &&
		    errno != EBUSY)
			return -errno;
	}
	return 0;
}

/** Some drivers find their device a little after their module is loaded. */
static void await_device(const char *path)
{
	if (!path[0])
		return;
	for (int ms = 0; access(path, F_OK) && ms < DEVICE_WAIT_MS; ms += DEVICE_RETRY_MS)
		poll(NULL, 0, DEVICE_RETRY_MS);
}

/** Mount an image of whichever kind it is, read-only. */
static int mount_image(const char *device, const char *at)
{
	static const char *const types[] = {"erofs", "ext4", "squashfs"};
	int err = -ENODEV;

	await_device(device);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (!mount(device, at, types[i], MS_RDONLY | MS_NODEV, NULL))
			return 0;
		/* EINVAL: not of this kind. ENODEV: the kernel does not know the kind. */
		if (errno != ENODEV && (errno != EINVAL || err == -ENODEV))
			err = -errno;
	}
	note("no file system on %s that could be mounted: error %d", device, -err);
	return err;
}

static int mount_upper(const char *device)
{
	int err;

	await_device(device);
	err = device[0] ? mount(device, UPPER, "ext4", MS_NODEV | MS_NOATIME, NULL)
			: mount("upper", UPPER, "tmpfs", MS_NODEV, "mode=755");
	if (err || (mkdir(UPPER "/data", 0755) && errno != EEXIST) ||
	    (mkdir(UPPER "/work", 0755) && errno != EEXIST)) {
		err = -errno;
		note("%s cannot take what is written: error %d", device[0] ? device : "memory",
		     -err);
		return err;
	}
	return 0;
}

/** /tmp and the like of the new root; the image need not have the directories. */
static int mount_memory(void)
{
	static const struct {
		const char *at, *type, *options;
		unsigned long flags;
	} mounts[] = {
		{ROOT "/tmp", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
		{ROOT "/run", "tmpfs", "mode=755", MS_NOSUID | MS_NODEV},
		{ROOT "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
		{ROOT "/dev/pts", "devpts", "mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC},
	};

	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		mkdir(mounts[i].at, 0755);
		if (mount(mounts[i].type, mounts[i].at, mounts[i].type, mounts[i].flags,
			  mounts[i].options))
			return -errno;
	}
	/* As udev makes them. */
	(void)!symlink("/proc/self/fd", ROOT "/dev/fd");
	(void)!symlink("/proc/self/fd/0", ROOT "/dev/stdin");
	(void)!symlink("/proc/self/fd/1", ROOT "/dev/stdout");
	(void)!symlink("/proc/self/fd/2", ROOT "/dev/stderr");
	return 0;
}

static int mount_move(const char *from, const char *to)
{
	mkdir(to, 0755);
	return mount(from, to, NULL, MS_MOVE, NULL) ? -errno : 0;
}

/* ---- the function's code and its layers, which come as disks of their own ---- */

/** Is it a drive without an image? One that cannot be opened is for mount() to complain about. */
static bool is_empty_drive(const char *device)
{
	CLEANUP_FD int fd = open(device, O_RDONLY | O_CLOEXEC);
	uint64_t bytes = 1;

	return fd >= 0 && !ioctl(fd, BLKGETSIZE64, &bytes) && !bytes;
}

/** The driver hears of an image by an interrupt, and looks at it in its own time. */
static int await_image(const char *device)
{
	for (int ms = 0; is_empty_drive(device); ms += DEVICE_RETRY_MS) {
		if (ms >= IMAGE_WAIT_MS) {
			note("there is no image in %s", device);
			return -ENOMEDIUM;
		}
		poll(NULL, 0, DEVICE_RETRY_MS);
	}
	return 0;
}

/** @device: "" once it is mounted */
static int mount_drive(char *device, const char *at)
{
	int err;

	mkdir(at, 0755);
	err = mount_image(device, at);
	if (!err)
		device[0] = '\0';
	return err;
}

/** What has an image by now. */
static int mount_early_code(struct options *o)
{
	int err = 0;

	await_device(o->task);
	await_device(o->opt);
	mkdir(ROOT "/var", 0755);
	if (o->task[0] && !is_empty_drive(o->task))
		err = mount_drive(o->task, ROOT "/var/task");
	if (!err && o->opt[0] && !is_empty_drive(o->opt))
		err = mount_drive(o->opt, ROOT "/opt");
	return err;
}

int mounts_code(struct options *o)
{
	int err = 0;

	if (o->task[0])
		err = await_image(o->task) ?: mount_drive(o->task, "/var/task");
	if (!err && o->opt[0])
		err = await_image(o->opt) ?: mount_drive(o->opt, "/opt");
	return err;
}

/* ---- all of it ---- */

static int switch_root(void)
{
	unlink("/init");
	if (chdir(ROOT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		return -errno;
	return 0;
}

int mounts_root(struct options *o)
{
	int err;

	mkdir(LOWER, 0755);
	mkdir(UPPER, 0755);
	mkdir(ROOT, 0755);
	if ((err = mount_image(o->root, LOWER)) || (err = mount_upper(o->upper)))
		return err;
	if (mount("root", ROOT, "overlay", 0,
		  "lowerdir=" LOWER ",upperdir=" UPPER "/data,workdir=" UPPER "/work")) {
		err = -errno;
		note("no overlay above %s: error %d", o->root, -err);
		return err;
	}
	if ((err = mount_early_code(o)))
		return err;
	if ((err = mount_move("/proc", ROOT "/proc")) || (err = mount_move("/sys", ROOT "/sys")) ||
	    (err = mount_move("/dev", ROOT "/dev")) || (err = mount_memory()) ||
	    (err = switch_root()))
		note("the root file system cannot be set up: error %d", -err);
	return err;
}
