/* SPDX-License-Identifier: Apache-2.0 */
/*
 * erofs.c - a tree as a read-only disk, for kernel guests
 *
 * Theory of operation
 *
 * Of EROFS (Linux, Documentation/filesystems/erofs.rst) this is the plainest part: nothing is
 * compressed, nothing packed into inodes, no extended attributes.
 *
 *      block 0        1024 bytes of nothing, the superblock
 *      block 1 ...    inodes, 64 bytes each, in the order of the walk; the first is the root
 *      then           content, in the same order: of files, links and directories, each from the
 *                     start of a block
 *
 * tree_walk() goes over the tree twice, in the same order: collect() learns names and sizes, from
 * which it follows where everything is, and write_content() writes. Everything is written from the
 * front to the back.
 */
#include "snapd/unpacker/erofs.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/util.h"
#include "include/erofs_super.h"
#include "snapd/tree.h"

enum {
	INODE_SHIFT = 5, /* a nid counts 32 bytes, from the start of the disk */
	NODES_AT = EROFS_BLOCK_BYTES,
	FORMAT_EXTENDED_PLAIN = 1,
	DEPTH_MAX = 80, /* more than tree_walk() follows */
	IO_BYTES = 64 << 10,
};

enum erofs_file_type { TYPE_FILE = 1, TYPE_DIRECTORY = 2, TYPE_LINK = 7 };

/** One for all: a disk is known by its place. */
static const uint8_t image_uuid[16] = "Quickthawerofs";

struct erofs_inode {
	uint16_t format, xattr_count, mode, reserved;
	uint64_t bytes;
	uint32_t block, number, uid, gid;
	uint64_t mtime_s;
	uint32_t mtime_ns, links;
	uint8_t reserved2[16];
};
static_assert(sizeof(struct erofs_inode) == 64, "on disk");

struct erofs_dirent {
	uint64_t nid;
	uint16_t name_at;
	uint8_t type, reserved;
} __attribute__((packed));
static_assert(sizeof(struct erofs_dirent) == 12, "on disk");

/**
 * struct node - one inode.
 * @first, @last: what is in a directory, by name; @next: in the same directory. 0: none, for the
 * root is in no directory.
 */
struct node {
	char *name;
	uint32_t parent, first, last, next;
	uint32_t block, links, mtime_ns;
	uint64_t bytes, mtime_s;
	uint16_t mode;
};

/** struct image - being made. @path: directories down to where the walk is; @at: of the second
 * walk */
struct image {
	int fd;
	struct node *nodes;
	uint32_t count, size, at;
	uint32_t path[DEPTH_MAX];
};

static uint64_t blocks_of(uint64_t bytes)
{
	return (bytes + EROFS_BLOCK_BYTES - 1) / EROFS_BLOCK_BYTES;
}

static uint64_t nid_of(uint32_t index)
{
	return (NODES_AT + (uint64_t)index * sizeof(struct erofs_inode)) >> INODE_SHIFT;
}

/* ---- directories ----------------------------------------------------------------------------- */

/** struct names - what is in a directory, in byte order, "." and ".." too. */
struct names {
	const struct image *image;
	uint32_t dir, child;
	int dots; /* how many of those two were given */
};

static struct names names_of(const struct image *image, uint32_t dir)
{
	return (struct names){.image = image, .dir = dir, .child = image->nodes[dir].first};
}

/** Return: the next name, or NULL. */
static const char *next_name(struct names *n, uint32_t *ret_node)
{
	static const char *const dots[] = {".", ".."};
	const struct node *nodes = n->image->nodes;
	const char *name = n->child ? nodes[n->child].name : NULL;

	if (n->dots < 2 && (!name || strcmp(dots[n->dots], name) < 0)) {
		*ret_node = n->dots ? nodes[n->dir].parent : n->dir;
		return dots[n->dots++];
	}
	*ret_node = n->child;
	if (name)
		n->child = nodes[n->child].next;
	return name;
}

static size_t entry_bytes(const char *name)
{
	return sizeof(struct erofs_dirent) + strlen(name);
}

/** An entry and its name are in one block. */
static uint64_t directory_bytes(const struct image *image, uint32_t dir)
{
	struct names n = names_of(image, dir);
	uint64_t blocks = 0;
	uint32_t node;
	size_t used = 0;

	for (const char *name; (name = next_name(&n, &node));) {
		if (used + entry_bytes(name) > EROFS_BLOCK_BYTES) {
			blocks++;
			used = 0;
		}
		used += entry_bytes(name);
	}
	return blocks * EROFS_BLOCK_BYTES + used;
}

static uint8_t type_of(uint16_t mode)
{
	return S_ISDIR(mode) ? TYPE_DIRECTORY : S_ISLNK(mode) ? TYPE_LINK : TYPE_FILE;
}

/** How many of the next names fit into a block. */
static unsigned count_fitting(struct names n)
{
	size_t used = 0;
	unsigned count = 0;
	uint32_t node;

	for (const char *name; (name = next_name(&n, &node)); count++) {
		used += entry_bytes(name);
		if (used > EROFS_BLOCK_BYTES)
			break;
	}
	return count;
}

/** First all entries, then all names. */
static void fill_block(struct names *n, unsigned count, uint8_t block[EROFS_BLOCK_BYTES])
{
	size_t at = count * sizeof(struct erofs_dirent);
	uint32_t node;

	memset(block, 0, EROFS_BLOCK_BYTES);
	for (unsigned i = 0; i < count; i++) {
		const char *name = next_name(n, &node);
		size_t name_bytes = entry_bytes(name) - sizeof(struct erofs_dirent);
		struct erofs_dirent entry = {
			.nid = nid_of(node),
			.name_at = (uint16_t)at,
			.type = type_of(n->image->nodes[node].mode),
		};

		memcpy(block + i * sizeof(entry), &entry, sizeof(entry));
		memcpy(block + at, name, name_bytes);
		at += name_bytes;
	}
}

static int write_directory(const struct image *image, uint32_t dir)
{
	struct names n = names_of(image, dir);
	uint8_t block[EROFS_BLOCK_BYTES];
	unsigned count;
	int err = 0;

	while (!err && (count = count_fitting(n))) {
		fill_block(&n, count, block);
		err = write_full(image->fd, block, sizeof(block));
	}
	return err;
}

/* ---- the first walk: what there is ----------------------------------------------------------- */

static int add_node(struct image *image, const char *name, const struct stat *st)
{
	uint32_t size = image->size ? 2 * image->size : 256;
	struct node *nodes;

	if (image->count == image->size) {
		nodes = reallocarray(image->nodes, size, sizeof(*nodes));
		if (!nodes)
			return -ENOMEM;
		image->nodes = nodes;
		image->size = size;
	}
	image->nodes[image->count] = (struct node){
		.name = strdup(name),
		.mode = (uint16_t)(st->st_mode & (S_IFMT | 0777)),
		.links = S_ISDIR(st->st_mode) ? 2 : 1,
		.bytes = S_ISDIR(st->st_mode) ? 0 : (uint64_t)st->st_size,
		.mtime_s = (uint64_t)st->st_mtim.tv_sec,
		.mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
	};
	return image->nodes[image->count].name ? (image->count++, 0) : -ENOMEM;
}

static void put_into(struct image *image, uint32_t parent, uint32_t child)
{
	struct node *dir = &image->nodes[parent];

	image->nodes[child].parent = parent;
	if (dir->first)
		image->nodes[dir->last].next = child;
	else
		dir->first = child;
	dir->last = child;
	dir->links += S_ISDIR(image->nodes[child].mode);
}

static int collect(const struct tree_entry *e, void *arg)
{
	struct image *image = arg;
	unsigned depth = 0;
	int err;

	for (const char *at = e->path; (at = strchr(at, '/')); at++)
		depth++;
	if (depth + 1 >= DEPTH_MAX)
		return -ELOOP;
	if (strlen(e->name) > EROFS_NAME_MAX)
		return -ENAMETOOLONG;
	if (!S_ISREG(e->st.st_mode) && !S_ISDIR(e->st.st_mode) && !S_ISLNK(e->st.st_mode))
		return -EINVAL;
	if ((uint64_t)e->st.st_size > EROFS_IMAGE_BYTES_MAX) /* so that sums stay small */
		return -EFBIG;
	err = add_node(image, e->name, &e->st);
	if (err)
		return err;
	put_into(image, image->path[depth], image->count - 1);
	image->path[depth + 1] = image->count - 1;
	return 0;
}

static int collect_all(struct image *image, int dirfd)
{
	struct stat st;
	int err = fstat(dirfd, &st) ? -errno : add_node(image, "", &st);

	return err ? err : tree_walk(dirfd, collect, image);
}

/** Where everything is. Return: blocks of all. */
static uint64_t place_all(struct image *image)
{
	uint64_t block = 1 + blocks_of(image->count * sizeof(struct erofs_inode));

	for (uint32_t i = 0; i < image->count; i++) {
		struct node *node = &image->nodes[i];

		if (S_ISDIR(node->mode))
			node->bytes = directory_bytes(image, i);
		node->block = (uint32_t)block;
		block += blocks_of(node->bytes);
	}
	return block;
}

/* ---- the second walk: write it --------------------------------------------------------------- */

static int write_super(const struct image *image, uint64_t blocks)
{
	uint8_t block[EROFS_BLOCK_BYTES] = {0};
	struct erofs_super super = {
		.magic = EROFS_MAGIC,
		.block_shift = EROFS_BLOCK_SHIFT,
		.root_nid = (uint16_t)nid_of(0),
		.inodes = image->count,
		.blocks = (uint32_t)blocks,
	};

	memcpy(super.uuid, image_uuid, sizeof(super.uuid));
	memcpy(block + EROFS_SUPER_AT, &super, sizeof(super));
	return write_full(image->fd, block, sizeof(block));
}

/** What is missing to the end of a block. */
static int write_padding(const struct image *image, uint64_t bytes)
{
	static const uint8_t zeros[EROFS_BLOCK_BYTES];

	return write_full(image->fd, zeros, blocks_of(bytes) * EROFS_BLOCK_BYTES - bytes);
}

static int write_inodes(const struct image *image)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < image->count; i++) {
		const struct node *node = &image->nodes[i];
		struct erofs_inode inode = {
			.format = FORMAT_EXTENDED_PLAIN,
			.mode = node->mode,
			.bytes = node->bytes,
			.block = node->block,
			.number = i + 1,
			.mtime_s = node->mtime_s,
			.mtime_ns = node->mtime_ns,
			.links = node->links,
		};

		err = write_full(image->fd, &inode, sizeof(inode));
	}
	return err ? err : write_padding(image, image->count * sizeof(struct erofs_inode));
}

static int write_file(const struct image *image, const struct node *node,
		      const struct tree_entry *e)
{
	CLEANUP_FD int fd = openat(e->dirfd, e->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	uint64_t left = node->bytes;
	char buf[IO_BYTES];
	int err = fd < 0 ? -errno : 0;

	while (!err && left) {
		ssize_t n = read_full(fd, buf, MIN(left, sizeof(buf)));

		err = n < 0 ? (int)n : n ? write_full(image->fd, buf, (size_t)n) : -ESTALE;
		left -= n > 0 ? (uint64_t)n : 0;
	}
	return err;
}

static int write_link(const struct image *image, const struct node *node,
		      const struct tree_entry *e)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(e->dirfd, e->name, target, sizeof(target));

	if (n < 0)
		return -errno;
	return (uint64_t)n == node->bytes ? write_full(image->fd, target, (size_t)n) : -ESTALE;
}

static int write_content(const struct tree_entry *e, void *arg)
{
	struct image *image = arg;
	const struct node *node;
	int err;

	/* It is the walk of before, unless somebody has changed the tree. */
	if (++image->at >= image->count)
		return -ESTALE;
	node = &image->nodes[image->at];
	if (strcmp(node->name, e->name) || (node->mode & S_IFMT) != (e->st.st_mode & S_IFMT))
		return -ESTALE;
	if (S_ISDIR(node->mode))
		return write_directory(image, image->at);
	err = S_ISLNK(node->mode) ? write_link(image, node, e) : write_file(image, node, e);
	return err ? err : write_padding(image, node->bytes);
}

static int write_all(struct image *image, int dirfd, uint64_t blocks)
{
	int err = write_super(image, blocks);

	if (!err)
		err = write_inodes(image);
	if (!err)
		err = write_directory(image, 0);
	if (!err)
		err = tree_walk(dirfd, write_content, image);
	return err ? err : image->at + 1 == image->count ? 0 : -ESTALE;
}

int erofs_pack(struct unpack *u, int dirfd, int fd)
{
	struct image image = {.fd = fd};
	uint64_t blocks;
	int err = collect_all(&image, dirfd);

	if (!err) {
		blocks = place_all(&image);
		err = blocks * EROFS_BLOCK_BYTES > EROFS_IMAGE_BYTES_MAX
			      ? -EFBIG
			      : write_all(&image, dirfd, blocks);
	}
	for (uint32_t i = 0; i < image.count; i++)
		free(image.nodes[i].name);
	free(image.nodes);
	return err ? unpack_refuse(u, err, NULL, "a disk of the files: %s", strerror(-err)) : 0;
}
