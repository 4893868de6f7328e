/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_zip.c - any bytes are a zip file or none, and nothing is made outside of its tree
 *
 * The tree is beside a directory that has to stay empty. What unpacks has to keep the promises of
 * unpack.h: files and directories that everybody can read, links that stay inside.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapd/tree.h"
#include "snapd/unpacker/zip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { BYTES_MAX = 1 << 20 };

/** A promise of the header was broken: stop here, so that the fuzzer keeps the input. */
#define PROMISE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)

/** struct found - what is in the tree. */
struct found {
	uint64_t bytes;
	bool unpacked;
};

static int check_entry(const struct tree_entry *e, void *arg)
{
	struct found *found = arg;
	mode_t mode = e->st.st_mode;

	PROMISE(S_ISDIR(mode) || S_ISREG(mode) || S_ISLNK(mode));
	PROMISE(S_ISLNK(mode) || (mode & 07777) == 0755 ||
		(S_ISREG(mode) && (mode & 07777) == 0644));
	if (S_ISREG(mode))
		found->bytes += (uint64_t)e->st.st_size;
	if (S_ISLNK(mode) && found->unpacked) {
		char target[4096];
		ssize_t len = readlinkat(e->dirfd, e->name, target, sizeof(target));

		PROMISE(len > 0 && target[0] != '/');
	}
	return 0;
}

static int fail_if_any(const struct tree_entry *e, void *arg)
{
	(void)e;
	(void)arg;
	return 1;
}

static int open_dir(int dirfd, const char *name)
{
	int fd;

	PROMISE(!mkdirat(dirfd, name, 0755));
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	PROMISE(fd >= 0);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char top[] = "/dev/shm/qt-fuzz-XXXXXX";
	struct found found = {.bytes = 0};
	struct unpack u;
	int topfd, tree, beside, ret;

	umask(077);
	PROMISE(mkdtemp(top));
	topfd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	tree = open_dir(topfd, "tree");
	beside = open_dir(topfd, "beside");
	unpack_begin(&u, tree, BYTES_MAX);
	ret = zip_unpack(data, n, &u);
	found.unpacked = !ret;
	PROMISE(ret ? u.error[0] : !u.error[0]);
	PROMISE(!tree_walk(tree, check_entry, &found));
	PROMISE(found.bytes <= BYTES_MAX && found.bytes <= u.bytes);
	PROMISE(!tree_walk(beside, fail_if_any, NULL));
	close(tree);
	close(beside);
	close(topfd);
	PROMISE(!tree_remove(AT_FDCWD, top));
	return 0;
}
