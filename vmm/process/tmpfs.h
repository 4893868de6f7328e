/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tmpfs.h - the in-memory file system of /tmp, /dev/shm and memfd_create
 *
 * Inodes are the vmm's, data are guest frames: a capture writes them with the rest of RAM, and
 * instances share them until somebody writes. One set of limits holds for all of it.
 */
#ifndef QUICKTHAW_PROCESS_TMPFS_H
#define QUICKTHAW_PROCESS_TMPFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/state.h"
#include "vmm/process/file.h"

enum {
	TMPFS_NAME_MAX = 255,
	TMPFS_INODES_MAX = 65536,
	TMPFS_BLOCK_PAGES = 512,
	TMPFS_BLOCK_BYTES = TMPFS_BLOCK_PAGES * sizeof(uint32_t),
};
/** Largest file, holes included. */
#define TMPFS_FILE_BYTES_MAX (64ll << 30)
#define TMPFS_HOLE	     UINT32_MAX
/** What tables of pages and texts of links may take of the vmm's own memory: enough for
 * TMPFS_INODES_MAX files of a page each, and not for as many with a page at their far end. */
#define TMPFS_META_MAX (192u << 20)

/** Which tree an inode belongs to. Saved by number. */
enum tmpfs_tree { TMPFS_TMP, TMPFS_SHM, TMPFS_MEMFD, TMPFS_TREE_COUNT };

struct tmpfs_inode;

/** struct tmpfs_entry - a name in a directory. */
struct tmpfs_entry {
	struct tmpfs_inode *dir, *inode;
	struct tmpfs_entry *prev, *next; /**< in the directory, by seq */
	struct tmpfs_entry *hash_next;
	uint64_t seq; /**< its cookie for getdents */
	uint32_t hash;
	char name[];
};

/**
 * struct tmpfs_inode - a file, directory or symbolic link.
 * @refs: open descriptions and a current directory; it lives while refs or nlink is not 0
 * @blocks: page tables of TMPFS_BLOCK_PAGES frame numbers each; NULL or TMPFS_HOLE: a hole
 * @entry: a directory's own name, NULL for a root and a removed directory
 */
struct tmpfs_inode {
	uint64_t ino;
	uint32_t mode, nlink, uid, gid;
	unsigned refs;
	enum tmpfs_tree tree;
	uint32_t seals; /**< F_SEAL_* of a memfd */
	int64_t size;
	uint64_t pages; /**< frames held */
	uint64_t atime_ns, mtime_ns, ctime_ns;
	uint32_t **blocks;
	uint32_t block_count;
	char *target;
	struct tmpfs_entry *first, *last, *entry;
	uint64_t next_seq;
	bool root;
	uint32_t id; /**< valid during save and load */
	struct tmpfs_inode *prev, *next;
};

struct tmpfs {
	struct tmpfs_inode *roots[2]; /**< TMPFS_TMP, TMPFS_SHM */
	struct tmpfs_inode *head, *tail;
	uint32_t inode_count;
	uint64_t page_count;
	size_t meta_bytes; /**< at most TMPFS_META_MAX */
	uint64_t next_ino;
	struct tmpfs_entry **buckets;
	uint32_t bucket_count, entry_count;
	struct tmpfs_inode **by_id; /**< what tmpfs_load() made */
	uint32_t by_id_count;
};

int tmpfs_new(struct proc *p, struct tmpfs *fs);
void tmpfs_free(struct proc *p, struct tmpfs *fs);
int tmpfs_save(struct proc *p, struct tmpfs *fs, struct state_writer *w);
/** tmpfs_load() - into a new tmpfs. Frames keep the counts that mm loads. */
int tmpfs_load(struct proc *p, struct tmpfs *fs, struct state_reader *r);

/** tmpfs_of() - the file system of this guest. */
struct tmpfs *tmpfs_of(struct proc *p);

/** tmpfs_inode_new() - without a name and a reference. Return: 0, -ENOSPC, -ENOMEM. */
int tmpfs_inode_new(struct proc *p, enum tmpfs_tree tree, uint32_t mode, struct tmpfs_inode **ret);
/** tmpfs_inode_ref() / tmpfs_inode_put() - hold an inode; the last one frees it if it has no name.
 */
void tmpfs_inode_ref(struct tmpfs_inode *i);
void tmpfs_inode_put(struct proc *p, struct tmpfs_inode *i);
struct tmpfs_inode *tmpfs_by_id(struct proc *p, uint32_t id);

/* ---- names; errors as Linux gives them ------------------------------------------------------ */

/** tmpfs_lookup() - one name; "." and ".." are the caller's. Return: borrowed, or NULL. */
struct tmpfs_inode *tmpfs_lookup(struct tmpfs *fs, const struct tmpfs_inode *dir, const char *name);
/** tmpfs_create() - a new inode with a name; @target for symbolic links. */
int tmpfs_create(struct proc *p, struct tmpfs_inode *dir, const char *name, uint32_t mode,
		 const char *target, struct tmpfs_inode **ret);
int tmpfs_link(struct proc *p, struct tmpfs_inode *dir, const char *name, struct tmpfs_inode *i);
int tmpfs_unlink(struct proc *p, struct tmpfs_inode *dir, const char *name);
int tmpfs_rmdir(struct proc *p, struct tmpfs_inode *dir, const char *name);
/** tmpfs_rename() - @flags: RENAME_NOREPLACE or RENAME_EXCHANGE. */
int tmpfs_rename(struct proc *p, struct tmpfs_inode *from_dir, const char *from,
		 struct tmpfs_inode *to_dir, const char *to, unsigned flags);
/** tmpfs_dir_path() - absolute path of a directory. Return: 0, -ENOENT (removed), -ENAMETOOLONG. */
int tmpfs_dir_path(const struct tmpfs_inode *dir, char *buf, size_t n);
/** tmpfs_dir_removed() - is it a directory that has been removed? */
bool tmpfs_dir_removed(const struct tmpfs_inode *dir);

/* ---- data ----------------------------------------------------------------------------------- */

/** tmpfs_open() - a description of @i; @path as it is shown. */
int tmpfs_open(struct proc *p, struct tmpfs_inode *i, int flags, const char *path,
	       struct file **ret);
/** tmpfs_inode_of() - the inode of a description, or NULL if it is not a tmpfs one. */
struct tmpfs_inode *tmpfs_inode_of(const struct file *f);
void tmpfs_stat(const struct tmpfs_inode *i, struct stat *ret);
int tmpfs_truncate(struct proc *p, struct tmpfs_inode *i, int64_t size);
/** tmpfs_fallocate() - @mode: FALLOC_FL_*. */
int tmpfs_fallocate(struct proc *p, struct tmpfs_inode *i, int mode, int64_t offset, int64_t n);
/** tmpfs_page_get() - the frame of page @index, TMPFS_HOLE for a hole. */
uint32_t tmpfs_page_get(const struct tmpfs_inode *i, uint64_t index);
/** tmpfs_page_set() - during load: give page @index a frame. Return: 0, -ENOMEM, -ENOSPC or
 * -EBADMSG. */
int tmpfs_page_set(struct tmpfs *fs, struct tmpfs_inode *i, uint64_t index, uint32_t page);
/** tmpfs_meta_take() / tmpfs_meta_give() - account for TMPFS_META_MAX. Return: 0 or -ENOSPC. */
int tmpfs_meta_take(struct tmpfs *fs, size_t n);
void tmpfs_meta_give(struct tmpfs *fs, size_t n);
/** tmpfs_pages_drop() - free the frames of pages [@from, @to). */
void tmpfs_pages_drop(struct proc *p, struct tmpfs_inode *i, uint64_t from, uint64_t to);

#endif
