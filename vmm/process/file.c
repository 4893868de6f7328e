/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - open file descriptions, the descriptor table, and both in a saved state */
#include "vmm/process/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/process/clock.h"
#include "vmm/process/epoll.h"
#include "vmm/process/file_table.h"
#include "vmm/process/proc.h"
#include "vmm/process/syscall.h"
#include "vmm/process/task.h"

enum {
	FILES_LOAD_MAX = 16384, /* descriptions: more than descriptors, as mappings hold some too */
	FILE_PATH_MAX = 4096 + 16,
	/* What a saved description may have in its flags. */
	FILE_FLAGS_KNOWN = O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_ASYNC | O_DIRECT |
			   O_DIRECTORY | O_NOFOLLOW | O_NOATIME | __O_TMPFILE | O_PATH | O_SYNC |
			   O_NOCTTY | O_LARGEFILE | 0100000
};

static const struct file_ops *const ops_by_type[FILE_TYPE_COUNT] = {
	[FILE_HOST] = &host_file_ops,	    [FILE_TMPFS] = &tmpfs_file_ops,
	[FILE_SYNTH] = &synth_file_ops,	    [FILE_STDIO] = &stdio_file_ops,
	[FILE_PIPE] = &pipe_file_ops,	    [FILE_EVENTFD] = &eventfd_file_ops,
	[FILE_TIMERFD] = &timerfd_file_ops, [FILE_SIGNALFD] = &signalfd_file_ops,
	[FILE_EPOLL] = &epoll_file_ops,	    [FILE_SOCKET] = &socket_file_ops,
};

int files_new(struct proc *p)
{
	p->files = calloc(1, sizeof(*p->files));
	if (!p->files)
		return -ENOMEM;
	p->files->next_serial = 4; /* the pipes of stdio are 1 to 3 */
	return 0;
}

/* Last references that nobody will drop: sets of files first, since they refer to others. */
static void files_release_left(struct proc *p, bool epoll_only)
{
	struct file *f = p->files->head;

	while (f) {
		if (epoll_only && f->ops->type != FILE_EPOLL) {
			f = f->next;
			continue;
		}
		f->refs = 1;
		file_put(p, f);
		f = p->files->head; /* a release may have dropped others */
	}
}

void files_free(struct proc *p)
{
	int fd = -1;

	if (!p->files)
		return;
	while ((fd = fd_next(p, fd)) >= 0)
		fd_close(p, fd);
	files_release_left(p, true);
	files_release_left(p, false);
	free(p->files->by_id);
	free(p->files);
	p->files = NULL;
}

struct file *file_new(struct proc *p, const struct file_ops *ops, int flags, void *priv)
{
	struct file_table *ft = p->files;
	struct file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->ops = ops;
	f->refs = 1;
	f->flags = flags;
	f->priv = priv;
	f->wait_key = wait_key(f);
	f->id = UINT32_MAX;
	f->prev = ft->tail;
	if (ft->tail)
		ft->tail->next = f;
	else
		ft->head = f;
	ft->tail = f;
	return f;
}

void file_put(struct proc *p, struct file *f)
{
	struct file_table *ft = p->files;

	if (!f)
		return;
	if (f->refs > 1) {
		f->refs--;
		return;
	}
	f->refs = 0;
	if (f->prev)
		f->prev->next = f->next;
	else
		ft->head = f->next;
	if (f->next)
		f->next->prev = f->prev;
	else
		ft->tail = f->prev;
	if (ft->by_id && f->id < ft->by_id_count && ft->by_id[f->id] == f)
		ft->by_id[f->id] = NULL;
	epoll_forget(p, f);
	if (f->ops->release)
		f->ops->release(p, f);
	free(f->path);
	free(f);
}

struct file *file_by_id(struct proc *p, uint32_t id)
{
	return id < p->files->by_id_count ? p->files->by_id[id] : NULL;
}

uint64_t file_serial(struct proc *p)
{
	return p->files->next_serial++;
}

/* ---- descriptors ---------------------------------------------------------------------------- */

static bool bit_test(const uint64_t *map, int i)
{
	return map[i / 64] >> (i % 64) & 1;
}

static void bit_set(uint64_t *map, int i, bool on)
{
	if (on)
		map[i / 64] |= 1ull << (i % 64);
	else
		map[i / 64] &= ~(1ull << (i % 64));
}

int fd_install(struct proc *p, struct file *f, int min, bool cloexec)
{
	struct file_table *ft = p->files;

	if (min < 0)
		return -EINVAL;
	for (int word = min / 64; word < FILES_MAX / 64; word++) {
		uint64_t unused = ~ft->open[word];
		int fd;

		if (word == min / 64)
			unused &= ~0ull << (min % 64);
		if (!unused)
			continue;
		fd = word * 64 + __builtin_ctzll(unused);
		fd_install_at(p, f, fd, cloexec);
		return fd;
	}
	return -EMFILE;
}

void fd_install_at(struct proc *p, struct file *f, int fd, bool cloexec)
{
	struct file_table *ft = p->files;

	ft->fds[fd] = f;
	bit_set(ft->open, fd, true);
	bit_set(ft->cloexec, fd, cloexec);
}

struct file *fd_get(struct proc *p, int fd)
{
	return fd >= 0 && fd < FILES_MAX ? p->files->fds[fd] : NULL;
}

int fd_close(struct proc *p, int fd)
{
	struct file *f = fd_get(p, fd);

	if (!f)
		return -EBADF;
	p->files->fds[fd] = NULL;
	bit_set(p->files->open, fd, false);
	bit_set(p->files->cloexec, fd, false);
	file_put(p, f);
	return 0;
}

bool fd_cloexec(struct proc *p, int fd)
{
	return fd_get(p, fd) && bit_test(p->files->cloexec, fd);
}

void fd_set_cloexec(struct proc *p, int fd, bool on)
{
	if (fd_get(p, fd))
		bit_set(p->files->cloexec, fd, on);
}

int fd_next(struct proc *p, int after)
{
	for (int fd = after + 1; fd >= 0 && fd < FILES_MAX; fd++) {
		if (!p->files->open[fd / 64]) {
			fd |= 63;
			continue;
		}
		if (p->files->fds[fd])
			return fd;
	}
	return -1;
}

/* ---- waiting -------------------------------------------------------------------------------- */

int64_t file_wait(struct proc *p, struct task *t, struct file *f, uint64_t timeout_ns)
{
	uint64_t deadline = WAIT_FOREVER;

	if (f->flags & O_NONBLOCK)
		return -EAGAIN;
	if (t->wait.outcome == WAIT_TIMEOUT)
		return -EAGAIN;
	if (t->wait.outcome == WAIT_SIGNAL)
		return -EINTR;
	if (timeout_ns != WAIT_FOREVER && !checked_add(guest_mono_ns(p), timeout_ns, &deadline))
		deadline = WAIT_FOREVER;
	task_wait(p, t, f->wait_key, deadline);
	return SYS_BLOCKED;
}

/* ---- saved state ---------------------------------------------------------------------------- */

/*
 * u64 next serial; u32 count of descriptions, each {u8 type, u32 flags, u64 pos, u8 has_path,
 * [str path], the type's own}; u32 count of descriptors, each {u32 fd, u32 id, u8 cloexec}.
 */
int files_save(struct proc *p, struct state_writer *w)
{
	struct file_table *ft = p->files;
	uint32_t count = 0, fds = 0;
	int err;

	for (struct file *f = ft->head; f; f = f->next)
		f->id = count++;
	ft->save_pass++;
	state_put_u64(w, ft->next_serial);
	state_put_u32(w, count);
	for (struct file *f = ft->head; f; f = f->next) {
		state_put_u8(w, (uint8_t)f->ops->type);
		state_put_u32(w, (uint32_t)f->flags);
		state_put_u64(w, (uint64_t)f->pos);
		state_put_u8(w, f->path != NULL);
		if (f->path)
			state_put_str(w, f->path);
		err = f->ops->save ? f->ops->save(p, f, w) : -EOPNOTSUPP;
		if (err) {
			log_error("file of type %s cannot be saved: %s", f->ops->name,
				  strerror(-err));
			return err;
		}
	}
	for (int fd = -1; (fd = fd_next(p, fd)) >= 0;)
		fds++;
	state_put_u32(w, fds);
	for (int fd = -1; (fd = fd_next(p, fd)) >= 0;) {
		state_put_u32(w, (uint32_t)fd);
		state_put_u32(w, ft->fds[fd]->id);
		state_put_u8(w, fd_cloexec(p, fd));
	}
	return w->err;
}

static int file_load(struct proc *p, struct state_reader *r, uint32_t id)
{
	uint8_t type = state_get_u8(r);
	uint32_t flags = state_get_u32(r);
	int64_t pos = (int64_t)state_get_u64(r);
	bool has_path = state_get_u8(r);
	char path[FILE_PATH_MAX];
	struct file *f = NULL;
	int err;

	if (has_path)
		state_get_str(r, path, sizeof(path));
	if (r->err)
		return r->err;
	if (type >= FILE_TYPE_COUNT || !ops_by_type[type] || !ops_by_type[type]->load || pos < 0 ||
	    (flags & ~(uint32_t)FILE_FLAGS_KNOWN))
		return -EBADMSG;
	err = ops_by_type[type]->load(p, r, &f);
	if (err)
		return err;
	/* Holders (descriptors, mappings, sets) take their references as they are loaded. */
	f->refs = 0;
	f->flags = (int)flags;
	f->pos = pos;
	f->id = id;
	p->files->by_id[id] = f;
	if (has_path) {
		free(f->path);
		f->path = strdup(path);
		if (!f->path)
			return -ENOMEM;
	}
	return r->err;
}

static int fds_load(struct proc *p, struct state_reader *r)
{
	uint32_t count = state_get_count(r, 9);

	for (uint32_t i = 0; i < count; i++) {
		uint32_t fd = state_get_u32(r);
		struct file *f = file_by_id(p, state_get_u32(r));
		bool cloexec = state_get_u8(r);

		if (r->err)
			return r->err;
		if (fd >= FILES_MAX || !f || p->files->fds[fd])
			return -EBADMSG;
		fd_install_at(p, file_ref(f), (int)fd, cloexec);
	}
	return r->err;
}

int files_load(struct proc *p, struct state_reader *r)
{
	struct file_table *ft = p->files;
	uint64_t next_serial = state_get_u64(r);
	uint32_t count = state_get_count(r, 14);
	int err;

	if (r->err)
		return r->err;
	if (count > FILES_LOAD_MAX || ft->head || !next_serial || next_serial >> 62)
		return -EBADMSG;
	ft->next_serial = next_serial;
	ft->by_id = calloc(count ? count : 1, sizeof(*ft->by_id));
	if (!ft->by_id)
		return -ENOMEM;
	ft->by_id_count = count;
	for (uint32_t id = 0; id < count; id++) {
		err = file_load(p, r, id);
		if (err)
			return err;
	}
	err = fds_load(p, r);
	for (uint32_t id = 0; !err && id < count; id++) {
		struct file *f = ft->by_id[id];

		if (f && f->ops->link)
			err = f->ops->link(p, f);
	}
	return err;
}
