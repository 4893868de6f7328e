/* SPDX-License-Identifier: Apache-2.0 */
/* tmpfs.c - inodes and names of the in-memory file system */
#include "vmm/process/tmpfs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/vfs_node.h"

enum { TMPFS_BUCKETS_MIN = 64, TMPFS_ENTRIES_MAX = 2 * TMPFS_INODES_MAX };

struct tmpfs *tmpfs_of(struct proc *p)
{
	return &p->vfs->tmpfs;
}

/* ---- inodes --------------------------------------------------------------------------------- */

static struct tmpfs_inode *inode_alloc(struct tmpfs *fs, enum tmpfs_tree tree, uint32_t mode)
{
	struct tmpfs_inode *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	i->ino = fs->next_ino++;
	i->mode = mode;
	i->tree = tree;
	i->next_seq = 2; /* 0 and 1 are "." and ".." */
	i->id = UINT32_MAX;
	i->atime_ns = i->mtime_ns = i->ctime_ns = clock_real_ns();
	i->prev = fs->tail;
	if (fs->tail)
		fs->tail->next = i;
	else
		fs->head = i;
	fs->tail = i;
	fs->inode_count++;
	return i;
}

int tmpfs_inode_new(struct proc *p, enum tmpfs_tree tree, uint32_t mode, struct tmpfs_inode **ret)
{
	struct tmpfs *fs = tmpfs_of(p);

	if (fs->inode_count >= TMPFS_INODES_MAX)
		return -ENOSPC;
	*ret = inode_alloc(fs, tree, mode);
	return *ret ? 0 : -ENOMEM;
}

int tmpfs_meta_take(struct tmpfs *fs, size_t n)
{
	if (n > TMPFS_META_MAX - fs->meta_bytes)
		return -ENOSPC;
	fs->meta_bytes += n;
	return 0;
}

void tmpfs_meta_give(struct tmpfs *fs, size_t n)
{
	fs->meta_bytes -= n;
}

static int target_set(struct tmpfs *fs, struct tmpfs_inode *i, const char *target)
{
	size_t n = strlen(target) + 1;
	int err = tmpfs_meta_take(fs, n);

	if (err)
		return err;
	i->target = strdup(target);
	if (!i->target) {
		tmpfs_meta_give(fs, n);
		return -ENOMEM;
	}
	i->size = (int64_t)n - 1;
	return 0;
}

static void inode_free(struct proc *p, struct tmpfs *fs, struct tmpfs_inode *i)
{
	tmpfs_pages_drop(p, i, 0, UINT64_MAX);
	for (uint32_t b = 0; b < i->block_count; b++) {
		if (i->blocks[b])
			tmpfs_meta_give(fs, TMPFS_BLOCK_BYTES);
		free(i->blocks[b]);
	}
	tmpfs_meta_give(fs, i->block_count * sizeof(i->blocks[0]));
	free(i->blocks);
	if (i->target)
		tmpfs_meta_give(fs, strlen(i->target) + 1);
	free(i->target);
	if (i->prev)
		i->prev->next = i->next;
	else
		fs->head = i->next;
	if (i->next)
		i->next->prev = i->prev;
	else
		fs->tail = i->prev;
	if (fs->by_id && i->id < fs->by_id_count && fs->by_id[i->id] == i)
		fs->by_id[i->id] = NULL;
	fs->inode_count--;
	free(i);
}

void tmpfs_inode_ref(struct tmpfs_inode *i)
{
	i->refs++;
}

static void inode_free_if_unused(struct proc *p, struct tmpfs_inode *i)
{
	if (!i->refs && !i->nlink && !i->root)
		inode_free(p, tmpfs_of(p), i);
}

void tmpfs_inode_put(struct proc *p, struct tmpfs_inode *i)
{
	if (!i)
		return;
	if (i->refs)
		i->refs--;
	inode_free_if_unused(p, i);
}

struct tmpfs_inode *tmpfs_by_id(struct proc *p, uint32_t id)
{
	struct tmpfs *fs = tmpfs_of(p);

	return id < fs->by_id_count ? fs->by_id[id] : NULL;
}

static int roots_new(struct tmpfs *fs)
{
	for (int t = TMPFS_TMP; t <= TMPFS_SHM; t++) {
		struct tmpfs_inode *root = inode_alloc(fs, (enum tmpfs_tree)t, S_IFDIR | 01777);

		if (!root)
			return -ENOMEM;
		root->root = true;
		root->nlink = 2;
		fs->roots[t] = root;
	}
	return 0;
}

int tmpfs_new(struct proc *p, struct tmpfs *fs)
{
	(void)p;
	memset(fs, 0, sizeof(*fs));
	fs->next_ino = 1;
	return roots_new(fs);
}

void tmpfs_free(struct proc *p, struct tmpfs *fs)
{
	for (uint32_t b = 0; b < fs->bucket_count; b++) {
		while (fs->buckets[b]) {
			struct tmpfs_entry *e = fs->buckets[b];

			fs->buckets[b] = e->hash_next;
			free(e);
		}
	}
	free(fs->buckets);
	while (fs->head)
		inode_free(p, fs, fs->head);
	free(fs->by_id);
	memset(fs, 0, sizeof(*fs));
}

/* ---- entries -------------------------------------------------------------------------------- */

static uint32_t name_hash(const struct tmpfs_inode *dir, const char *name)
{
	uint32_t h = 2166136261u ^ (uint32_t)dir->ino * 2654435761u;

	while (*name)
		h = (h ^ (uint8_t)*name++) * 16777619u;
	return h ^ h >> 15;
}

static struct tmpfs_entry *entry_find(const struct tmpfs *fs, const struct tmpfs_inode *dir,
				      const char *name)
{
	uint32_t hash = name_hash(dir, name);
	struct tmpfs_entry *e;

	if (!fs->bucket_count)
		return NULL;
	for (e = fs->buckets[hash & (fs->bucket_count - 1)]; e; e = e->hash_next)
		if (e->hash == hash && e->dir == dir && !strcmp(e->name, name))
			return e;
	return NULL;
}

static int buckets_grow(struct tmpfs *fs)
{
	uint32_t count = fs->bucket_count ? fs->bucket_count * 2 : TMPFS_BUCKETS_MIN;
	struct tmpfs_entry **buckets = calloc(count, sizeof(struct tmpfs_entry *));

	if (!buckets)
		return -ENOMEM;
	for (uint32_t b = 0; b < fs->bucket_count; b++) {
		while (fs->buckets[b]) {
			struct tmpfs_entry *e = fs->buckets[b];

			fs->buckets[b] = e->hash_next;
			e->hash_next = buckets[e->hash & (count - 1)];
			buckets[e->hash & (count - 1)] = e;
		}
	}
	free(fs->buckets);
	fs->buckets = buckets;
	fs->bucket_count = count;
	return 0;
}

static void dir_changed(struct tmpfs_inode *dir)
{
	dir->mtime_ns = dir->ctime_ns = clock_real_ns();
}

/* Make @i have the name; @i's link count and, for directories, the parent's grow. */
static int entry_add(struct tmpfs *fs, struct tmpfs_inode *dir, const char *name,
		     struct tmpfs_inode *i, uint64_t seq)
{
	size_t n = strlen(name) + 1;
	struct tmpfs_entry *e;

	if (fs->entry_count >= TMPFS_ENTRIES_MAX)
		return -ENOSPC;
	if (fs->entry_count >= fs->bucket_count && buckets_grow(fs) < 0)
		return -ENOMEM;
	e = calloc(1, sizeof(*e) + n);
	if (!e)
		return -ENOMEM;
	memcpy(e->name, name, n);
	e->dir = dir;
	e->inode = i;
	e->hash = name_hash(dir, name);
	e->seq = seq;
	e->hash_next = fs->buckets[e->hash & (fs->bucket_count - 1)];
	fs->buckets[e->hash & (fs->bucket_count - 1)] = e;
	e->prev = dir->last;
	if (dir->last)
		dir->last->next = e;
	else
		dir->first = e;
	dir->last = e;
	fs->entry_count++;
	if (S_ISDIR(i->mode)) {
		i->entry = e;
		i->nlink = 2 + (i->nlink ? i->nlink - 2 : 0);
		dir->nlink++;
	} else {
		i->nlink++;
	}
	return 0;
}

/* Take the name away; the inode stays even without one. */
static void entry_remove(struct tmpfs *fs, struct tmpfs_entry *e)
{
	struct tmpfs_entry **at = &fs->buckets[e->hash & (fs->bucket_count - 1)];
	struct tmpfs_inode *dir = e->dir, *i = e->inode;

	while (*at != e)
		at = &(*at)->hash_next;
	*at = e->hash_next;
	if (e->prev)
		e->prev->next = e->next;
	else
		dir->first = e->next;
	if (e->next)
		e->next->prev = e->prev;
	else
		dir->last = e->prev;
	fs->entry_count--;
	if (S_ISDIR(i->mode)) {
		i->entry = NULL;
		dir->nlink--;
	} else {
		i->nlink--;
	}
	free(e);
}

struct tmpfs_inode *tmpfs_lookup(struct tmpfs *fs, const struct tmpfs_inode *dir, const char *name)
{
	struct tmpfs_entry *e = entry_find(fs, dir, name);

	return e ? e->inode : NULL;
}

bool tmpfs_dir_removed(const struct tmpfs_inode *dir)
{
	return !dir->root && !dir->entry;
}

/* May @dir get a new @name? */
static int name_check(struct tmpfs *fs, const struct tmpfs_inode *dir, const char *name)
{
	if (tmpfs_dir_removed(dir))
		return -ENOENT;
	if (strlen(name) > TMPFS_NAME_MAX)
		return -ENAMETOOLONG;
	return entry_find(fs, dir, name) ? -EEXIST : 0;
}

int tmpfs_create(struct proc *p, struct tmpfs_inode *dir, const char *name, uint32_t mode,
		 const char *target, struct tmpfs_inode **ret)
{
	struct tmpfs *fs = tmpfs_of(p);
	struct tmpfs_inode *i;
	int err = name_check(fs, dir, name);

	if (!err)
		err = tmpfs_inode_new(p, dir->tree, mode, &i);
	if (err)
		return err;
	if (target)
		err = target_set(fs, i, target);
	if (!err)
		err = entry_add(fs, dir, name, i, dir->next_seq);
	if (err) {
		inode_free(p, fs, i);
		return err;
	}
	dir->next_seq++;
	dir_changed(dir);
	if (ret)
		*ret = i;
	return 0;
}

int tmpfs_link(struct proc *p, struct tmpfs_inode *dir, const char *name, struct tmpfs_inode *i)
{
	struct tmpfs *fs = tmpfs_of(p);
	int err;

	if (S_ISDIR(i->mode))
		return -EPERM;
	if (i->tree != dir->tree)
		return -EXDEV;
	err = name_check(fs, dir, name);
	if (!err)
		err = entry_add(fs, dir, name, i, dir->next_seq);
	if (err)
		return err;
	dir->next_seq++;
	i->ctime_ns = clock_real_ns();
	dir_changed(dir);
	return 0;
}

static void name_gone(struct proc *p, struct tmpfs_inode *dir, struct tmpfs_inode *i)
{
	i->ctime_ns = clock_real_ns();
	dir_changed(dir);
	inode_free_if_unused(p, i);
}

int tmpfs_unlink(struct proc *p, struct tmpfs_inode *dir, const char *name)
{
	struct tmpfs *fs = tmpfs_of(p);
	struct tmpfs_entry *e = entry_find(fs, dir, name);
	struct tmpfs_inode *i;

	if (!e)
		return -ENOENT;
	i = e->inode;
	if (S_ISDIR(i->mode))
		return -EISDIR;
	entry_remove(fs, e);
	name_gone(p, dir, i);
	return 0;
}

int tmpfs_rmdir(struct proc *p, struct tmpfs_inode *dir, const char *name)
{
	struct tmpfs *fs = tmpfs_of(p);
	struct tmpfs_entry *e = entry_find(fs, dir, name);
	struct tmpfs_inode *i;

	if (!e)
		return -ENOENT;
	i = e->inode;
	if (!S_ISDIR(i->mode))
		return -ENOTDIR;
	if (i->first)
		return -ENOTEMPTY;
	entry_remove(fs, e);
	i->nlink = 0;
	name_gone(p, dir, i);
	return 0;
}

/* Is @dir below or equal to @top? Directories form a tree, so the climb ends. */
static bool dir_below(const struct tmpfs_inode *dir, const struct tmpfs_inode *top)
{
	while (dir != top && dir->entry)
		dir = dir->entry->dir;
	return dir == top;
}

static int rename_check(const struct tmpfs_entry *from, const struct tmpfs_entry *to,
			const struct tmpfs_inode *to_dir, unsigned flags)
{
	if (tmpfs_dir_removed(to_dir))
		return -ENOENT;
	if (S_ISDIR(from->inode->mode) && dir_below(to_dir, from->inode))
		return -EINVAL;
	if (!to)
		return flags & RENAME_EXCHANGE ? -ENOENT : 0;
	if (flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (flags & RENAME_EXCHANGE)
		return S_ISDIR(to->inode->mode) && dir_below(from->dir, to->inode) ? -EINVAL : 0;
	if (S_ISDIR(to->inode->mode) && dir_below(from->dir, to->inode))
		return -ENOTEMPTY;
	if (S_ISDIR(from->inode->mode) && !S_ISDIR(to->inode->mode))
		return -ENOTDIR;
	if (!S_ISDIR(from->inode->mode) && S_ISDIR(to->inode->mode))
		return -EISDIR;
	return S_ISDIR(to->inode->mode) && to->inode->first ? -ENOTEMPTY : 0;
}

/* Both names stay, their inodes change places; so do the directories' shares of link counts. */
static void rename_exchange(struct tmpfs_entry *a, struct tmpfs_entry *b)
{
	struct tmpfs_inode *i = a->inode;

	if (S_ISDIR(a->inode->mode))
		a->dir->nlink--, b->dir->nlink++;
	if (S_ISDIR(b->inode->mode))
		b->dir->nlink--, a->dir->nlink++;
	a->inode = b->inode;
	b->inode = i;
	if (S_ISDIR(a->inode->mode))
		a->inode->entry = a;
	if (S_ISDIR(b->inode->mode))
		b->inode->entry = b;
	dir_changed(a->dir);
	dir_changed(b->dir);
}

int tmpfs_rename(struct proc *p, struct tmpfs_inode *from_dir, const char *from,
		 struct tmpfs_inode *to_dir, const char *to, unsigned flags)
{
	struct tmpfs *fs = tmpfs_of(p);
	struct tmpfs_entry *e = entry_find(fs, from_dir, from), *old, *own;
	struct tmpfs_inode *i, *old_inode;
	int err;

	if (!e)
		return -ENOENT;
	if (from_dir->tree != to_dir->tree)
		return -EXDEV;
	if (strlen(to) > TMPFS_NAME_MAX)
		return -ENAMETOOLONG;
	old = entry_find(fs, to_dir, to);
	if (old && old->inode == e->inode && !(flags & RENAME_NOREPLACE))
		return 0; /* two names of one file: POSIX wants both to stay */
	err = rename_check(e, old, to_dir, flags);
	if (err)
		return err;
	if (flags & RENAME_EXCHANGE) {
		rename_exchange(e, old);
		return 0;
	}
	i = e->inode;
	old_inode = old ? old->inode : NULL;
	/* The new name first: it is the only step that can fail. */
	err = entry_add(fs, to_dir, to, i, to_dir->next_seq);
	if (err)
		return err;
	to_dir->next_seq++;
	own = i->entry;
	entry_remove(fs, e);
	if (S_ISDIR(i->mode))
		i->entry = own;
	if (old) {
		entry_remove(fs, old);
		if (S_ISDIR(old_inode->mode))
			old_inode->nlink = 0;
	}
	i->ctime_ns = clock_real_ns();
	dir_changed(from_dir);
	if (old)
		name_gone(p, to_dir, old_inode);
	else
		dir_changed(to_dir);
	return 0;
}

int tmpfs_dir_path(const struct tmpfs_inode *dir, char *buf, size_t n)
{
	const char *mount = dir->tree == TMPFS_SHM ? "/dev/shm" : "/tmp";
	size_t at = n - 1, len;

	if (tmpfs_dir_removed(dir))
		return -ENOENT;
	buf[at] = '\0';
	for (; dir->entry; dir = dir->entry->dir) {
		len = strlen(dir->entry->name);
		if (at < len + 1)
			return -ENAMETOOLONG;
		at -= len + 1;
		buf[at] = '/';
		memcpy(buf + at + 1, dir->entry->name, len);
	}
	if (!dir->root)
		return -ENOENT; /* below a removed directory */
	len = strlen(mount);
	if (at < len)
		return -ENAMETOOLONG;
	at -= len;
	memcpy(buf + at, mount, len);
	memmove(buf, buf + at, n - at);
	return 0;
}

/* ---- saved state ---------------------------------------------------------------------------- */

/*
 * u64 next_ino; u32 count of inodes (the two roots first), each {u64 ino, u32 mode, uid, gid, u8
 * tree, u32 seals, u64 size, atime, mtime, ctime, next_seq, str target, u32 count of runs, each
 * {u32 index, u32 page, u32 pages}}; u32 count of names, parents before children, each {u32 dir,
 * u32 inode, u64 seq, str name}. Link counts follow from the names.
 */
enum { INODE_RECORD_MIN = 69, RUN_RECORD = 12, NAME_RECORD_MIN = 20 };

struct run {
	uint64_t index;
	uint32_t page, pages;
};

/* The next run of adjacent pages at or after @index. */
static bool run_next(const struct tmpfs_inode *i, uint64_t index, struct run *ret)
{
	uint64_t end = (uint64_t)i->block_count * TMPFS_BLOCK_PAGES;

	for (; index < end; index++) {
		uint32_t page;

		if (!i->blocks[index / TMPFS_BLOCK_PAGES]) {
			index |= TMPFS_BLOCK_PAGES - 1;
			continue;
		}
		page = tmpfs_page_get(i, index);
		if (page == TMPFS_HOLE)
			continue;
		*ret = (struct run){index, page, 1};
		while (ret->index + ret->pages < end &&
		       tmpfs_page_get(i, ret->index + ret->pages) == page + ret->pages)
			ret->pages++;
		return true;
	}
	return false;
}

static void inode_save(const struct tmpfs_inode *i, struct state_writer *w)
{
	struct run run;
	uint32_t runs = 0;

	state_put_u64(w, i->ino);
	state_put_u32(w, i->mode);
	state_put_u32(w, i->uid);
	state_put_u32(w, i->gid);
	state_put_u8(w, (uint8_t)i->tree);
	state_put_u32(w, i->seals);
	state_put_u64(w, (uint64_t)i->size);
	state_put_u64(w, i->atime_ns);
	state_put_u64(w, i->mtime_ns);
	state_put_u64(w, i->ctime_ns);
	state_put_u64(w, i->next_seq);
	state_put_str(w, i->target ? i->target : "");
	for (uint64_t at = 0; run_next(i, at, &run); at = run.index + run.pages)
		runs++;
	state_put_u32(w, runs);
	for (uint64_t at = 0; run_next(i, at, &run); at = run.index + run.pages) {
		state_put_u32(w, (uint32_t)run.index);
		state_put_u32(w, run.page);
		state_put_u32(w, run.pages);
	}
}

/* Names below @dir in pre-order, without recursion: trees may be deep. */
static void names_save(const struct tmpfs_inode *root, struct state_writer *w)
{
	const struct tmpfs_entry *e = root->first;

	while (e) {
		state_put_u32(w, e->dir->id);
		state_put_u32(w, e->inode->id);
		state_put_u64(w, e->seq);
		state_put_str(w, e->name);
		if (S_ISDIR(e->inode->mode) && e->inode->first) {
			e = e->inode->first;
			continue;
		}
		while (e && !e->next)
			e = e->dir->entry;
		e = e ? e->next : NULL;
	}
}

int tmpfs_save(struct proc *p, struct tmpfs *fs, struct state_writer *w)
{
	uint32_t id = 0;

	(void)p;
	for (struct tmpfs_inode *i = fs->head; i; i = i->next)
		i->id = id++;
	state_put_u64(w, fs->next_ino);
	state_put_u32(w, id);
	for (struct tmpfs_inode *i = fs->head; i; i = i->next)
		inode_save(i, w);
	state_put_u32(w, fs->entry_count);
	names_save(fs->roots[TMPFS_TMP], w);
	names_save(fs->roots[TMPFS_SHM], w);
	return w->err;
}

static int runs_load(struct proc *p, struct tmpfs_inode *i, struct state_reader *r)
{
	uint32_t count = state_get_count(r, RUN_RECORD);
	uint64_t ram_pages = p->vm->mem.ram_bytes / PAGE_BYTES;
	uint64_t last = (uint64_t)TMPFS_FILE_BYTES_MAX / PAGE_BYTES;

	if (count && !S_ISREG(i->mode))
		return -EBADMSG;
	for (uint32_t n = 0; n < count; n++) {
		uint64_t index = state_get_u32(r);
		uint64_t page = state_get_u32(r), pages = state_get_u32(r);

		if (r->err || index + pages > last || page + pages > ram_pages)
			return -EBADMSG;
		for (uint64_t k = 0; k < pages; k++) {
			int err = tmpfs_page_set(tmpfs_of(p), i, index + k, (uint32_t)(page + k));

			if (err)
				return err;
			tmpfs_of(p)->page_count++;
		}
		/* No frame twice: the sum can never be above RAM. */
		if (tmpfs_of(p)->page_count > ram_pages)
			return -EBADMSG;
	}
	return r->err;
}

static int inode_load(struct proc *p, struct tmpfs *fs, uint32_t id, struct state_reader *r)
{
	uint64_t ino = state_get_u64(r);
	uint32_t mode = state_get_u32(r), uid = state_get_u32(r), gid = state_get_u32(r);
	uint8_t tree = state_get_u8(r);
	bool root = id <= TMPFS_SHM;
	struct tmpfs_inode *i;
	char target[VFS_PATH_MAX];
	int err;

	if (r->err || tree >= TMPFS_TREE_COUNT || (mode & ~(uint32_t)(S_IFMT | 07777)) ||
	    (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode) && !S_ISSOCK(mode)) ||
	    (root && (!S_ISDIR(mode) || tree != id)) || (tree == TMPFS_MEMFD && !S_ISREG(mode)))
		return -EBADMSG;
	i = root ? fs->roots[id] : inode_alloc(fs, (enum tmpfs_tree)tree, mode);
	if (!i)
		return -ENOMEM;
	i->id = id;
	fs->by_id[id] = i;
	i->ino = ino;
	i->mode = mode;
	i->uid = uid;
	i->gid = gid;
	i->seals = state_get_u32(r);
	i->size = (int64_t)state_get_u64(r);
	i->atime_ns = state_get_u64(r);
	i->mtime_ns = state_get_u64(r);
	i->ctime_ns = state_get_u64(r);
	i->next_seq = state_get_u64(r);
	state_get_str(r, target, sizeof(target));
	if (r->err || i->size < 0 || i->size > TMPFS_FILE_BYTES_MAX || i->next_seq < 2 ||
	    i->next_seq >> 62)
		return -EBADMSG;
	err = S_ISLNK(mode) ? target_set(fs, i, target) : 0;
	return err ? err : runs_load(p, i, r);
}

static bool name_valid(const char *name)
{
	return *name && strcmp(name, ".") && strcmp(name, "..") && !strchr(name, '/');
}

static int name_load(struct proc *p, struct tmpfs *fs, struct state_reader *r)
{
	struct tmpfs_inode *dir = tmpfs_by_id(p, state_get_u32(r));
	struct tmpfs_inode *i = tmpfs_by_id(p, state_get_u32(r));
	uint64_t seq = state_get_u64(r);
	char name[TMPFS_NAME_MAX + 1];

	state_get_str(r, name, sizeof(name));
	if (r->err || !dir || !i || !S_ISDIR(dir->mode) || dir->tree != i->tree ||
	    !name_valid(name) || seq < 2 || seq >= dir->next_seq ||
	    (dir->last && dir->last->seq >= seq))
		return -EBADMSG;
	/* A parent is in the tree already, a directory has one name: so there are no cycles. */
	if (tmpfs_dir_removed(dir) || (S_ISDIR(i->mode) && (i->root || i->entry)))
		return -EBADMSG;
	if (entry_find(fs, dir, name))
		return -EBADMSG;
	return entry_add(fs, dir, name, i, seq);
}

int tmpfs_load(struct proc *p, struct tmpfs *fs, struct state_reader *r)
{
	uint64_t next_ino = state_get_u64(r);
	uint32_t count = state_get_count(r, INODE_RECORD_MIN);
	int err = 0;

	if (r->err || count < 2 || count > TMPFS_INODES_MAX || next_ino >> 62)
		return -EBADMSG;
	free(fs->by_id);
	fs->by_id = calloc(count, sizeof(struct tmpfs_inode *));
	if (!fs->by_id)
		return -ENOMEM;
	fs->by_id_count = count;
	for (uint32_t id = 0; !err && id < count; id++)
		err = inode_load(p, fs, id, r);
	if (err)
		return err;
	fs->next_ino = next_ino;
	count = state_get_count(r, NAME_RECORD_MIN);
	for (uint32_t n = 0; !err && n < count; n++)
		err = name_load(p, fs, r);
	return err ? err : r->err;
}
