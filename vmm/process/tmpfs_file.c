/* SPDX-License-Identifier: Apache-2.0 */
/* tmpfs_file.c - data of in-memory files: frames, holes, and what open descriptions do with them */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/tmpfs.h"
#include "vmm/process/vfs_node.h"

/* ---- frames --------------------------------------------------------------------------------- */

uint32_t tmpfs_page_get(const struct tmpfs_inode *i, uint64_t index)
{
	uint64_t block = index / TMPFS_BLOCK_PAGES;

	if (block >= i->block_count || !i->blocks[block])
		return TMPFS_HOLE;
	return i->blocks[block][index % TMPFS_BLOCK_PAGES];
}

/* Room for the number of page @index. */
static int blocks_grow(struct tmpfs *fs, struct tmpfs_inode *i, uint64_t block)
{
	uint32_t count = (uint32_t)MAX(block + 1, (uint64_t)i->block_count * 2);
	size_t more = (count - i->block_count) * sizeof(i->blocks[0]);
	uint32_t **blocks;
	int err = tmpfs_meta_take(fs, more);

	if (err)
		return err;
	blocks = realloc(i->blocks, count * sizeof(*blocks));
	if (!blocks) {
		tmpfs_meta_give(fs, more);
		return -ENOMEM;
	}
	memset(blocks + i->block_count, 0, more);
	i->blocks = blocks;
	i->block_count = count;
	return 0;
}

static int slot_make(struct tmpfs *fs, struct tmpfs_inode *i, uint64_t index)
{
	uint64_t block = index / TMPFS_BLOCK_PAGES;
	int err = 0;

	if (index >= (uint64_t)TMPFS_FILE_BYTES_MAX / PAGE_BYTES)
		return -EFBIG;
	if (block >= i->block_count)
		err = blocks_grow(fs, i, block);
	if (err || i->blocks[block])
		return err;
	err = tmpfs_meta_take(fs, TMPFS_BLOCK_BYTES);
	if (err)
		return err;
	i->blocks[block] = malloc(TMPFS_BLOCK_BYTES);
	if (!i->blocks[block]) {
		tmpfs_meta_give(fs, TMPFS_BLOCK_BYTES);
		return -ENOMEM;
	}
	memset(i->blocks[block], 0xff, TMPFS_BLOCK_BYTES);
	return 0;
}

int tmpfs_page_set(struct tmpfs *fs, struct tmpfs_inode *i, uint64_t index, uint32_t page)
{
	int err = slot_make(fs, i, index);

	if (err)
		return err;
	if (tmpfs_page_get(i, index) != TMPFS_HOLE)
		return -EBADMSG;
	i->blocks[index / TMPFS_BLOCK_PAGES][index % TMPFS_BLOCK_PAGES] = page;
	i->pages++;
	return 0;
}

/* The frame of page @index; a hole gets a zeroed one. */
static int page_make(struct proc *p, struct tmpfs_inode *i, uint64_t index, uint32_t *ret)
{
	struct tmpfs *fs = tmpfs_of(p);
	int err;

	*ret = tmpfs_page_get(i, index);
	if (*ret != TMPFS_HOLE)
		return 0;
	if (fs->page_count >= p->tmp_bytes / PAGE_BYTES)
		return -ENOSPC;
	err = slot_make(fs, i, index);
	if (err)
		return err;
	if (frame_alloc(p, ret) < 0)
		return -ENOSPC;
	fs->page_count++;
	return tmpfs_page_set(fs, i, index, *ret);
}

static void *page_ptr(struct proc *p, uint32_t page)
{
	return guest_page_ptr(&p->vm->mem, page);
}

void tmpfs_pages_drop(struct proc *p, struct tmpfs_inode *i, uint64_t from, uint64_t to)
{
	struct tmpfs *fs = tmpfs_of(p);

	to = MIN(to, (uint64_t)i->block_count * TMPFS_BLOCK_PAGES);
	for (uint64_t index = from; index < to && i->pages; index++) {
		uint32_t *slot;

		if (!i->blocks[index / TMPFS_BLOCK_PAGES]) {
			index |= TMPFS_BLOCK_PAGES - 1;
			continue;
		}
		slot = &i->blocks[index / TMPFS_BLOCK_PAGES][index % TMPFS_BLOCK_PAGES];
		if (*slot == TMPFS_HOLE)
			continue;
		if (p->mm) /* at the end of a guest its frames go first */
			frame_put(p, *slot);
		*slot = TMPFS_HOLE;
		i->pages--;
		fs->page_count--;
	}
}

/* Zero [@from, @to) where there are frames. */
static void range_zero(struct proc *p, struct tmpfs_inode *i, int64_t from, int64_t to)
{
	while (from < to) {
		int64_t in_page = from % PAGE_BYTES;
		int64_t n = MIN((int64_t)PAGE_BYTES - in_page, to - from);
		uint32_t page = tmpfs_page_get(i, (uint64_t)from / PAGE_BYTES);

		if (page != TMPFS_HOLE)
			memset((uint8_t *)page_ptr(p, page) + in_page, 0, (size_t)n);
		from += n;
	}
}

static void inode_modified(struct tmpfs_inode *i)
{
	i->mtime_ns = i->ctime_ns = clock_real_ns();
}

int tmpfs_truncate(struct proc *p, struct tmpfs_inode *i, int64_t size)
{
	if (S_ISDIR(i->mode))
		return -EISDIR;
	if (!S_ISREG(i->mode) || size < 0)
		return -EINVAL;
	if (size > TMPFS_FILE_BYTES_MAX)
		return -EFBIG;
	if ((size < i->size && i->seals & F_SEAL_SHRINK) ||
	    (size > i->size && i->seals & F_SEAL_GROW))
		return -EPERM;
	if (size < i->size) {
		int64_t page_end = (int64_t)align_up((uint64_t)size, PAGE_BYTES);

		range_zero(p, i, size, page_end);
		if (i->refs && p->mm)
			mm_zap_file(p, i, (uint64_t)page_end, align_down(INT64_MAX, PAGE_BYTES));
		tmpfs_pages_drop(p, i, (uint64_t)page_end / PAGE_BYTES, UINT64_MAX);
	}
	i->size = size;
	inode_modified(i);
	return 0;
}

static int hole_punch(struct proc *p, struct tmpfs_inode *i, int64_t from, int64_t to)
{
	int64_t first = (int64_t)align_up((uint64_t)from, PAGE_BYTES);
	int64_t last = (int64_t)align_down((uint64_t)to, PAGE_BYTES);

	if (i->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EPERM;
	if (first > last) {
		range_zero(p, i, from, to);
		return 0;
	}
	range_zero(p, i, from, first);
	range_zero(p, i, last, to);
	if (i->refs && p->mm)
		mm_zap_file(p, i, (uint64_t)first, (uint64_t)last);
	tmpfs_pages_drop(p, i, (uint64_t)first / PAGE_BYTES, (uint64_t)last / PAGE_BYTES);
	return 0;
}

int tmpfs_fallocate(struct proc *p, struct tmpfs_inode *i, int mode, int64_t offset, int64_t n)
{
	int64_t end;
	int err = 0;

	if (S_ISDIR(i->mode))
		return -EISDIR;
	if (offset < 0 || n <= 0)
		return -EINVAL;
	if (!checked_add(offset, n, &end) || end > TMPFS_FILE_BYTES_MAX)
		return -EFBIG;
	if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
		err = hole_punch(p, i, offset, end);
		inode_modified(i);
		return err;
	}
	if (mode & ~FALLOC_FL_KEEP_SIZE)
		return -EOPNOTSUPP;
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > i->size && i->seals & F_SEAL_GROW)
		return -EPERM;
	if (pages_of((uint64_t)n) > p->tmp_bytes / PAGE_BYTES)
		return -ENOSPC;
	for (uint64_t at = (uint64_t)offset / PAGE_BYTES; !err && at < pages_of((uint64_t)end);
	     at++) {
		uint32_t page;

		err = page_make(p, i, at, &page);
	}
	if (err)
		return err;
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > i->size)
		i->size = end;
	inode_modified(i);
	return 0;
}

static struct timespec ts_of(uint64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / NSEC_PER_SEC),
				 .tv_nsec = (long)(ns % NSEC_PER_SEC)};
}

void tmpfs_stat(const struct tmpfs_inode *i, struct stat *ret)
{
	enum vfs_mount mount = i->tree == TMPFS_SHM ? VFS_SHM : VFS_TMP;

	memset(ret, 0, sizeof(*ret));
	ret->st_dev = i->tree == TMPFS_MEMFD ? makedev(0, 1) : vfs_dev(mount);
	ret->st_ino = i->ino;
	ret->st_mode = i->mode;
	ret->st_nlink = i->nlink;
	ret->st_uid = i->uid;
	ret->st_gid = i->gid;
	ret->st_size = i->size;
	ret->st_blksize = PAGE_BYTES;
	ret->st_blocks = (blkcnt_t)(i->pages * (PAGE_BYTES / 512));
	ret->st_atim = ts_of(i->atime_ns);
	ret->st_mtim = ts_of(i->mtime_ns);
	ret->st_ctim = ts_of(i->ctime_ns);
}

/* ---- open descriptions ---------------------------------------------------------------------- */

struct tmpfs_inode *tmpfs_inode_of(const struct file *f)
{
	return f->ops == &tmpfs_file_ops ? f->priv : NULL;
}

int tmpfs_open(struct proc *p, struct tmpfs_inode *i, int flags, const char *path,
	       struct file **ret)
{
	struct file *f = file_new(p, &tmpfs_file_ops, flags, i);

	if (!f)
		return -ENOMEM;
	tmpfs_inode_ref(i);
	if (path && !(f->path = strdup(path))) {
		file_put(p, f);
		return -ENOMEM;
	}
	*ret = f;
	return 0;
}

static int64_t tmpfs_read(struct proc *p, struct file *f, const struct iovec *iov, int n,
			  int64_t offset)
{
	struct tmpfs_inode *i = f->priv;
	int64_t at = offset < 0 ? f->pos : offset, start = at;

	if (S_ISDIR(i->mode))
		return -EISDIR;
	for (int k = 0; k < n && at < i->size; k++) {
		uint8_t *dst = iov[k].iov_base;
		int64_t left = MIN((int64_t)iov[k].iov_len, i->size - at);

		while (left > 0) {
			int64_t in_page = at % PAGE_BYTES;
			int64_t part = MIN((int64_t)PAGE_BYTES - in_page, left);
			uint32_t page = tmpfs_page_get(i, (uint64_t)at / PAGE_BYTES);

			if (page == TMPFS_HOLE)
				memset(dst, 0, (size_t)part);
			else
				memmove(dst, (uint8_t *)page_ptr(p, page) + in_page, (size_t)part);
			dst += part;
			at += part;
			left -= part;
		}
	}
	if (offset < 0)
		f->pos = at;
	return at - start;
}

/* Copy one iovec to @at. Return: bytes; fewer than asked with @ret_err set. */
static int64_t write_part(struct proc *p, struct tmpfs_inode *i, int64_t at,
			  const struct iovec *iov, int *ret_err)
{
	int64_t done = 0, n = (int64_t)iov->iov_len;

	while (done < n) {
		int64_t in_page = (at + done) % PAGE_BYTES;
		int64_t part = MIN((int64_t)PAGE_BYTES - in_page, n - done);
		uint32_t page;

		*ret_err = page_make(p, i, (uint64_t)(at + done) / PAGE_BYTES, &page);
		if (*ret_err)
			break;
		memmove((uint8_t *)page_ptr(p, page) + in_page, (uint8_t *)iov->iov_base + done,
			(size_t)part);
		done += part;
	}
	return done;
}

static int64_t tmpfs_write(struct proc *p, struct file *f, const struct iovec *iov, int n,
			   int64_t offset)
{
	struct tmpfs_inode *i = f->priv;
	int64_t start = offset < 0 ? f->pos : offset, at;
	int err = 0;

	if (f->flags & O_APPEND)
		start = i->size;
	if (i->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EPERM;
	if (start > TMPFS_FILE_BYTES_MAX)
		return -EFBIG;
	at = start;
	for (int k = 0; k < n && !err; k++) {
		struct iovec part = iov[k];
		int64_t limit = i->seals & F_SEAL_GROW ? i->size : TMPFS_FILE_BYTES_MAX;

		if (at + (int64_t)part.iov_len > limit) {
			part.iov_len = at < limit ? (size_t)(limit - at) : 0;
			err = i->seals & F_SEAL_GROW ? -EPERM : -EFBIG;
		}
		if (part.iov_len) {
			int part_err = 0;

			at += write_part(p, i, at, &part, &part_err);
			err = part_err ? part_err : err;
		}
	}
	if (at == start)
		return err;
	i->size = MAX(i->size, at);
	inode_modified(i);
	if (offset < 0)
		f->pos = at;
	return at - start;
}

static int tmpfs_file_stat(struct proc *p, struct file *f, struct stat *ret)
{
	(void)p;
	tmpfs_stat(f->priv, ret);
	return 0;
}

/* SEEK_DATA and SEEK_HOLE: the first page from @at on that has a frame or has none. */
static int64_t seek_extent(const struct tmpfs_inode *i, int64_t at, bool data)
{
	if (at < 0 || at >= i->size)
		return -ENXIO;
	while (at < i->size) {
		if ((tmpfs_page_get(i, (uint64_t)at / PAGE_BYTES) != TMPFS_HOLE) == data)
			return at;
		at = (int64_t)align_down((uint64_t)at, PAGE_BYTES) + PAGE_BYTES;
	}
	return data ? -ENXIO : i->size;
}

static int64_t tmpfs_seek(struct proc *p, struct file *f, int64_t offset, int whence)
{
	struct tmpfs_inode *i = f->priv;

	(void)p;
	if (S_ISREG(i->mode) && (whence == SEEK_DATA || whence == SEEK_HOLE)) {
		int64_t at = seek_extent(i, offset, whence == SEEK_DATA);

		if (at >= 0)
			f->pos = at;
		return at;
	}
	return file_seek_to(f, offset, whence, S_ISREG(i->mode) ? i->size : 0);
}

static int64_t tmpfs_getdents(struct proc *p, struct file *f, void *buf, size_t n)
{
	struct tmpfs_inode *dir = f->priv;
	struct dirent_buf out = {.buf = buf, .size = n};
	const struct tmpfs_inode *parent = dir->entry ? dir->entry->dir : dir;

	(void)p;
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	if (tmpfs_dir_removed(dir))
		return -ENOENT;
	if (f->pos == 0 && dirent_put(&out, dir->ino, 1, DT_DIR, "."))
		f->pos = 1;
	if (f->pos == 1 && dirent_put(&out, parent->ino, 2, DT_DIR, ".."))
		f->pos = 2;
	if (f->pos >= 2) {
		struct tmpfs_entry *e = dir->first;

		for (; e && e->seq < (uint64_t)f->pos; e = e->next)
			;
		for (; e; e = e->next) {
			if (!dirent_put(&out, e->inode->ino, (int64_t)e->seq + 1,
					IFTODT(e->inode->mode), e->name))
				break;
			f->pos = (int64_t)e->seq + 1;
		}
	}
	return dirent_result(&out);
}

static int tmpfs_file_truncate(struct proc *p, struct file *f, uint64_t bytes)
{
	if (bytes > INT64_MAX)
		return -EINVAL;
	return tmpfs_truncate(p, f->priv, (int64_t)bytes);
}

static int tmpfs_fill_page(struct proc *p, struct file *f, uint64_t offset, void *page)
{
	struct tmpfs_inode *i = f->priv;
	uint32_t from;

	if (!S_ISREG(i->mode))
		return -ENODEV;
	if (offset >= align_up((uint64_t)i->size, PAGE_BYTES))
		return -ENXIO;
	from = tmpfs_page_get(i, offset / PAGE_BYTES);
	if (from == TMPFS_HOLE)
		memset(page, 0, PAGE_BYTES);
	else
		memcpy(page, page_ptr(p, from), PAGE_BYTES);
	return 0;
}

static int tmpfs_shared_page(struct proc *p, struct file *f, uint64_t offset, uint32_t *ret_page)
{
	struct tmpfs_inode *i = f->priv;
	int err;

	if (!S_ISREG(i->mode))
		return -ENODEV;
	if (offset >= align_up((uint64_t)i->size, PAGE_BYTES))
		return -ENXIO;
	err = page_make(p, i, offset / PAGE_BYTES, ret_page);
	if (!err)
		frame_ref(p, *ret_page);
	return err;
}

static void tmpfs_release(struct proc *p, struct file *f)
{
	if (f->priv && p->vfs)
		tmpfs_inode_put(p, f->priv);
}

static int tmpfs_file_save(struct proc *p, struct file *f, struct state_writer *w)
{
	const struct tmpfs_inode *i = f->priv;

	(void)p;
	state_put_u32(w, i->id);
	return w->err;
}

static int tmpfs_file_load(struct proc *p, struct state_reader *r, struct file **ret)
{
	struct tmpfs_inode *i = tmpfs_by_id(p, state_get_u32(r));

	if (r->err || !i)
		return -EBADMSG;
	return tmpfs_open(p, i, 0, NULL, ret);
}

const struct file_ops tmpfs_file_ops = {
	.type = FILE_TMPFS,
	.name = "tmpfs",
	.read = tmpfs_read,
	.write = tmpfs_write,
	.stat = tmpfs_file_stat,
	.seek = tmpfs_seek,
	.getdents = tmpfs_getdents,
	.truncate = tmpfs_file_truncate,
	.fill_page = tmpfs_fill_page,
	.shared_page = tmpfs_shared_page,
	.release = tmpfs_release,
	.save = tmpfs_file_save,
	.load = tmpfs_file_load,
};
