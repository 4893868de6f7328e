/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_guests.c - what kernel guests are booted from on this node */
#include "snapd/kernel_guests.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/cleanup.h"
#include "common/cpu_feature.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/erofs_image.h"

enum { MIB_PER_VCPU = 1769 };
#define ROOT_SUFFIX ".erofs"
#define EMPTY_TREE  ".empty"
#define EMPTY_IMAGE "empty.erofs"

/** struct root_image - a root file system by name. */
struct root_image {
	char name[FUNCTION_ROOT_IMAGE_MAX + 1];
	int fd;
	uint64_t hash;
};

static struct {
	char dir[256]; /* as it was given, for people; "": none */
	bool host_can;
	int kernel_fd, initrd_fd, empty_fd;
	uint64_t boot_hash;
	struct root_image roots[KERNEL_GUEST_ROOTS_MAX];
	unsigned root_count;
	char text[512];
} guests = {.kernel_fd = -1, .initrd_fd = -1, .empty_fd = -1};

/* ---- images ---------------------------------------------------------------------------------- */

/** Two images of one size and time of change are the same one. */
static uint64_t hash_stat(int fd, uint64_t seed)
{
	struct stat st = {.st_size = 0};
	uint64_t facts[3];

	if (fstat(fd, &st))
		return seed;
	facts[0] = (uint64_t)st.st_size;
	facts[1] = (uint64_t)st.st_mtim.tv_sec;
	facts[2] = (uint64_t)st.st_mtim.tv_nsec;
	return XXH3_64bits_withSeed(facts, sizeof(facts), seed);
}

static int open_image(int dirfd, const char *name, int *ret_fd)
{
	struct stat st;
	int err;

	*ret_fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	err = *ret_fd < 0 || fstat(*ret_fd, &st) ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
	if (err)
		log_error("kernel-guests %s: %s: %s: make it with make guest-images, or leave the "
			  "setting out",
			  guests.dir, name, strerror(-err));
	return err;
}

static int open_root(int dirfd, const char *name, size_t n)
{
	struct root_image *root = &guests.roots[guests.root_count];
	int err;

	if (guests.root_count == KERNEL_GUEST_ROOTS_MAX) {
		log_warn("kernel-guests %s: more than %d images: %s is left out", guests.dir,
			 KERNEL_GUEST_ROOTS_MAX, name);
		return 0;
	}
	err = open_image(dirfd, name, &root->fd);
	if (err)
		return err;
	snprintf(root->name, sizeof(root->name), "%.*s", (int)n, name);
	root->hash = hash_stat(root->fd, 0);
	guests.root_count++;
	return 0;
}

/** Every NAME.erofs of the directory. */
static int open_roots(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!dir) {
		err = -errno;
		cleanup_fd(&fd);
		return err;
	}
	while (!err && (entry = readdir(dir))) {
		size_t n = strlen(entry->d_name), suffix = strlen(ROOT_SUFFIX);

		if (n > suffix && n - suffix <= FUNCTION_ROOT_IMAGE_MAX &&
		    !strcmp(entry->d_name + n - suffix, ROOT_SUFFIX))
			err = open_root(dirfd, entry->d_name, n - suffix);
	}
	closedir(dir);
	return err;
}

static int make_empty(int dirfd)
{
	struct erofs_draft draft = EROFS_DRAFT_INIT;
	int fd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
	int ret = fd < 0 ? -errno : erofs_draft_make(&draft, fd, EMPTY_TREE, EMPTY_IMAGE);

	return ret ? ret : erofs_draft_install(&draft);
}

/** /opt of functions without layers. */
static int open_empty(const char *state_dir)
{
	CLEANUP_FD int dirfd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret;

	if (dirfd < 0)
		return -errno;
	guests.empty_fd = erofs_image_open(dirfd, EMPTY_IMAGE);
	if (guests.empty_fd != -ENOENT)
		return MIN(guests.empty_fd, 0);
	ret = mkdirat(dirfd, EMPTY_TREE, 0755) && errno != EEXIST ? -errno : 0;
	if (!ret)
		ret = make_empty(dirfd);
	unlinkat(dirfd, EMPTY_TREE, AT_REMOVEDIR);
	if (!ret)
		guests.empty_fd = erofs_image_open(dirfd, EMPTY_IMAGE);
	return ret ? ret : MIN(guests.empty_fd, 0);
}

int kernel_guests_init(const char *dir, const char *state_dir, bool host_can)
{
	CLEANUP_FD int dirfd = -1;
	int err;

	guests.host_can = host_can;
	snprintf(guests.dir, sizeof(guests.dir), "%s", dir);
	if (!*dir)
		return 0;
	if (!guests.host_can) {
		log_warn("kernel-guests %s: not used: %s", dir, CPU_NO_KERNELS_TEXT);
		return 0;
	}
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0) {
		err = -errno;
		log_error("kernel-guests %s: %s", dir, strerror(-err));
		return err;
	}
	err = open_image(dirfd, "vmlinuz", &guests.kernel_fd);
	if (!err)
		err = open_image(dirfd, "initramfs", &guests.initrd_fd);
	if (!err)
		err = open_roots(dirfd);
	if (!err)
		err = open_empty(state_dir);
	guests.boot_hash = hash_stat(guests.initrd_fd, hash_stat(guests.kernel_fd, 0));
	if (!err)
		log_info("kernel guests: %u root images of %s", guests.root_count, dir);
	return err;
}

void kernel_guests_finish(void)
{
	for (unsigned i = 0; i < guests.root_count; i++)
		cleanup_fd(&guests.roots[i].fd);
	cleanup_fd(&guests.kernel_fd);
	cleanup_fd(&guests.initrd_fd);
	cleanup_fd(&guests.empty_fd);
	guests.root_count = 0;
	guests.kernel_fd = guests.initrd_fd = guests.empty_fd = -1;
}

/* ---- which one for whom ---------------------------------------------------------------------- */

/** The image that it names, else that of its runtime's family: python3.11 is of python. */
static void root_name(const struct function_settings *s, char ret[FUNCTION_ROOT_IMAGE_MAX + 1])
{
	size_t n = 0;

	if (*s->root_image) {
		memcpy(ret, s->root_image, strlen(s->root_image) + 1);
		return;
	}
	while (n < FUNCTION_ROOT_IMAGE_MAX && isalpha((unsigned char)s->runtime[n]))
		n++;
	memcpy(ret, s->runtime, n);
	ret[n] = '\0';
}

static const struct root_image *find_root(const struct function_settings *s)
{
	char name[FUNCTION_ROOT_IMAGE_MAX + 1];

	root_name(s, name);
	for (unsigned i = 0; i < guests.root_count; i++)
		if (!strcmp(guests.roots[i].name, name))
			return &guests.roots[i];
	return NULL;
}

bool kernel_guests_run_here(void)
{
	return guests.kernel_fd >= 0;
}

const char *kernel_guests_trouble(const struct function_settings *s)
{
	char name[FUNCTION_ROOT_IMAGE_MAX + 1];

	if (s->guest_kind != GUEST_KIND_KERNEL)
		return NULL;
	if (!guests.host_can)
		return "GuestKind kernel: " CPU_NO_KERNELS_TEXT;
	if (!*guests.dir)
		return "GuestKind kernel: not set up on this node: make the images (make "
		       "guest-images) and start snapd with --kernel-guests DIR, or deploy it as a "
		       "process guest";
	if (find_root(s))
		return NULL;
	root_name(s, name);
	snprintf(guests.text, sizeof(guests.text),
		 "GuestKind kernel: no root image for %s: there is no %.300s/%s" ROOT_SUFFIX
		 " (or it came after snapd's start): make it with scripts/build-rootfs",
		 *s->root_image ? "RootImage" : s->runtime, guests.dir, name);
	return guests.text;
}

bool kernel_guests_images(const struct function_settings *s, struct kernel_images *ret)
{
	const struct root_image *root = find_root(s);

	if (!root)
		return false;
	*ret = (struct kernel_images){guests.kernel_fd, guests.initrd_fd, root->fd,
				      guests.empty_fd};
	return true;
}

static bool origin_of_root(const struct root_image *root, struct origin *ret)
{
	if (!root)
		return false;
	ret->mapped = root->hash;
	ret->read = guests.boot_hash;
	return true;
}

bool kernel_guests_origin(const struct function_settings *s, struct origin *ret)
{
	return origin_of_root(find_root(s), ret);
}

bool kernel_guests_root_origin(unsigned root, struct origin *ret)
{
	return origin_of_root(root < guests.root_count ? &guests.roots[root] : NULL, ret);
}

unsigned kernel_guests_vcpus(uint32_t memory_mib)
{
	unsigned n = (memory_mib + MIB_PER_VCPU - 1) / MIB_PER_VCPU;

	return MAX(1u, MIN(n, PROTO_KERNEL_VCPUS_MAX));
}
