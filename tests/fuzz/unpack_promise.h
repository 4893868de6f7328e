/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack_promise.h - what an archive may never do, whatever its bytes are
 *
 * The tree is beside a directory that has to stay empty. What unpacks has to keep the promises of
 * unpack.h: files and directories that everybody can read, links that stay inside.
 */
#ifndef QUICKTHAW_UNPACK_PROMISE_H
#define QUICKTHAW_UNPACK_PROMISE_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapd/tree.h"
#include "snapd/unpacker/unpack.h"

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

static inline int check_entry(const struct tree_entry *e, void *arg)
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

static inline int fail_if_any(const struct tree_entry *e, void *arg)
{
	(void)e;
	(void)arg;
	return 1;
}

static inline int open_dir(int dirfd, const char *name)
{
	int fd;

	PROMISE(!mkdirat(dirfd, name, 0755));
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	PROMISE(fd >= 0);
	return fd;
}

/** struct place - a directory of the input's own. */
struct place {
	char top[32];
	int topfd, tree, beside;
};

static inline void place_make(struct place *p)
{
	strcpy(p->top, "/dev/shm/qt-fuzz-XXXXXX");
	umask(077);
	PROMISE(mkdtemp(p->top));
	p->topfd = open(p->top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	p->tree = open_dir(p->topfd, "tree");
	p->beside = open_dir(p->topfd, "beside");
}

/** place_check() - @ret: what unpacking returned. Everything is removed. */
static inline void place_check(struct place *p, const struct unpack *u, int ret)
{
	struct found found = {.unpacked = !ret};

	PROMISE(ret ? u->error[0] : !u->error[0]);
	PROMISE(!tree_walk(p->tree, check_entry, &found));
	PROMISE(found.bytes <= BYTES_MAX && found.bytes <= u->bytes);
	PROMISE(!tree_walk(p->beside, fail_if_any, NULL));
	close(p->tree);
	close(p->beside);
	close(p->topfd);
	PROMISE(!tree_remove(AT_FDCWD, p->top));
}

#endif
