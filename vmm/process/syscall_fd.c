/* SPDX-License-Identifier: Apache-2.0 */
/* syscall_fd.c - system calls on descriptors: dup, close, fcntl, ioctl, and makers of nameless
 * files
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>

#include "common/util.h"
#include "vmm/process/file_table.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/syscall_file.h"

enum { SETFL_CHANGEABLE = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME };

struct file *fd_of(struct proc *p, uint64_t fd)
{
	struct file *f = fd_get(p, (int)fd);

	return f && !(f->flags & O_PATH) ? f : NULL;
}

int64_t fd_give(struct proc *p, struct file *f, bool cloexec)
{
	int fd = fd_install(p, f, 0, cloexec);

	if (fd < 0)
		file_put(p, f);
	return fd;
}

int64_t sys_close(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return fd_close(p, (int)a[0]);
}

int64_t sys_close_range(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint32_t first = (uint32_t)a[0], last = (uint32_t)a[1], flags = (uint32_t)a[2];

	(void)t;
	if (first > last || flags & ~(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE))
		return -EINVAL;
	if (first >= FILES_MAX)
		return 0;
	for (int fd = (int)first - 1; (fd = fd_next(p, fd)) >= 0 && (uint32_t)fd <= last;) {
		if (flags & CLOSE_RANGE_CLOEXEC)
			fd_set_cloexec(p, fd, true);
		else
			fd_close(p, fd);
	}
	return 0;
}

static int64_t dup_from(struct proc *p, uint64_t fd, int min, bool cloexec)
{
	struct file *f = fd_get(p, (int)fd);
	int ret;

	if (!f)
		return -EBADF;
	ret = fd_install(p, file_ref(f), min, cloexec);
	if (ret < 0)
		file_put(p, f);
	return ret;
}

int64_t sys_dup(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return dup_from(p, a[0], 0, false);
}

static int64_t dup_to(struct proc *p, int from, int to, bool cloexec)
{
	struct file *f = fd_get(p, from);

	if (!f || to < 0 || to >= FILES_MAX)
		return -EBADF;
	file_ref(f);
	if (fd_get(p, to))
		fd_close(p, to);
	fd_install_at(p, f, to, cloexec);
	return to;
}

int64_t sys_dup2(struct proc *p, struct task *t, const uint64_t a[6])
{
	int from = (int)a[0], to = (int)a[1];

	(void)t;
	if (from == to)
		return fd_get(p, from) ? to : -EBADF;
	return dup_to(p, from, to, false);
}

int64_t sys_dup3(struct proc *p, struct task *t, const uint64_t a[6])
{
	int from = (int)a[0], to = (int)a[1], flags = (int)a[2];

	(void)t;
	if (flags & ~O_CLOEXEC || from == to)
		return -EINVAL;
	return dup_to(p, from, to, flags & O_CLOEXEC);
}

/* ---- fcntl ---------------------------------------------------------------------------------- */

/* One process: it never stands in its own way. What is asked for must still make sense. */
static int64_t fcntl_lock(struct proc *p, struct file *f, int cmd, uint64_t arg)
{
	struct flock lock;
	int acc = f->flags & O_ACCMODE;
	int err = mm_copy_in(p, &lock, arg, sizeof(lock));

	if (err)
		return err;
	if (lock.l_type != F_RDLCK && lock.l_type != F_WRLCK && lock.l_type != F_UNLCK)
		return -EINVAL;
	if (lock.l_whence < SEEK_SET || lock.l_whence > SEEK_END)
		return -EINVAL;
	if (cmd == F_GETLK || cmd == F_OFD_GETLK) {
		lock.l_type = F_UNLCK;
		return mm_copy_out(p, arg, &lock, sizeof(lock));
	}
	if ((lock.l_type == F_RDLCK && acc == O_WRONLY) ||
	    (lock.l_type == F_WRLCK && acc == O_RDONLY))
		return -EBADF;
	return 0;
}

static int64_t fcntl_seals(struct file *f, bool add, uint32_t seals)
{
	struct tmpfs_inode *i = tmpfs_inode_of(f);
	const uint32_t known =
		F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;

	if (!i || i->tree != TMPFS_MEMFD)
		return -EINVAL;
	if (!add)
		return i->seals;
	if (seals & ~known)
		return -EINVAL;
	if ((f->flags & O_ACCMODE) == O_RDONLY || i->seals & F_SEAL_SEAL)
		return -EPERM;
	i->seals |= seals;
	return 0;
}

static int64_t fcntl_pipe(struct proc *p, struct file *f, int cmd, uint64_t arg)
{
	if (f->ops->type == FILE_STDIO && cmd == F_GETPIPE_SZ)
		return 65536;
	if (f->ops->type != FILE_PIPE)
		return -EBADF;
	return cmd == F_GETPIPE_SZ ? pipe_bytes(f) : pipe_resize(p, f, (uint32_t)arg);
}

static int64_t fcntl_on_open(struct proc *p, struct file *f, int cmd, uint64_t arg)
{
	switch (cmd) {
	case F_SETFL:
		f->flags = (f->flags & ~SETFL_CHANGEABLE) | ((int)arg & SETFL_CHANGEABLE);
		return 0;
	case F_GETLK:
	case F_SETLK:
	case F_SETLKW:
	case F_OFD_GETLK:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		return fcntl_lock(p, f, cmd, arg);
	case F_GETOWN:
	case F_SETOWN:
	case F_GETSIG:
	case F_SETSIG:
		return 0; /* SIGIO is never sent */
	case F_GETLEASE:
		return F_UNLCK;
	case F_SETLEASE:
	case F_NOTIFY:
		return -EINVAL;
	case F_GETPIPE_SZ:
	case F_SETPIPE_SZ:
		return fcntl_pipe(p, f, cmd, arg);
	case F_ADD_SEALS:
	case F_GET_SEALS:
		return fcntl_seals(f, cmd == F_ADD_SEALS, (uint32_t)arg);
	default:
		return -EINVAL;
	}
}

int64_t sys_fcntl(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct file *f = fd_get(p, (int)a[0]);
	int cmd = (int)a[1];

	(void)t;
	if (!f)
		return -EBADF;
	switch (cmd) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		if ((int)a[2] < 0 || (int)a[2] >= FILES_MAX)
			return -EINVAL;
		return dup_from(p, a[0], (int)a[2], cmd == F_DUPFD_CLOEXEC);
	case F_GETFD:
		return fd_cloexec(p, (int)a[0]) ? FD_CLOEXEC : 0;
	case F_SETFD:
		fd_set_cloexec(p, (int)a[0], a[2] & FD_CLOEXEC);
		return 0;
	case F_GETFL:
		return f->flags;
	default:
		return f->flags & O_PATH ? -EBADF : fcntl_on_open(p, f, cmd, a[2]);
	}
}

/* ---- ioctl ---------------------------------------------------------------------------------- */

static int64_t ioctl_flag(struct proc *p, struct file *f, int flag, uint64_t arg)
{
	int on;
	int err = mm_copy_in(p, &on, arg, sizeof(on));

	if (!err)
		f->flags = on ? f->flags | flag : f->flags & ~flag;
	return err;
}

static int64_t ioctl_bytes_left(struct proc *p, struct file *f, uint64_t arg)
{
	struct stat st = {0};
	int left;

	if (!f->ops->stat || f->ops->stat(p, f, &st) < 0 || !S_ISREG(st.st_mode))
		return -ENOTTY;
	left = (int)MIN(MAX(st.st_size - f->pos, (int64_t)0), (int64_t)INT32_MAX);
	return mm_copy_out(p, arg, &left, sizeof(left));
}

int64_t sys_ioctl(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct file *f = fd_of(p, a[0]);
	uint64_t request = (uint32_t)a[1];

	(void)t;
	if (!f)
		return -EBADF;
	switch (request) {
	case FIOCLEX:
	case FIONCLEX:
		fd_set_cloexec(p, (int)a[0], request == FIOCLEX);
		return 0;
	case FIONBIO:
		return ioctl_flag(p, f, O_NONBLOCK, a[2]);
	case FIOASYNC:
		return ioctl_flag(p, f, O_ASYNC, a[2]);
	default:
		if (f->ops->ioctl)
			return f->ops->ioctl(p, f, request, a[2]);
		return request == FIONREAD ? ioctl_bytes_left(p, f, a[2]) : -ENOTTY;
	}
}

/* Nobody else is there to hold a lock. */
int64_t sys_flock(struct proc *p, struct task *t, const uint64_t a[6])
{
	int op = (int)a[1] & ~LOCK_NB;

	(void)t;
	if (op != LOCK_SH && op != LOCK_EX && op != LOCK_UN)
		return -EINVAL;
	return fd_of(p, a[0]) ? 0 : -EBADF;
}

/* ---- files without a name ------------------------------------------------------------------- */

static int64_t pipe_make(struct proc *p, uint64_t to, int flags)
{
	struct file *ends[2];
	int fds[2] = {-1, -1};
	int64_t err;

	if (flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT))
		return -EINVAL;
	err = pipe_new(p, flags, &ends[0], &ends[1]);
	if (err)
		return err;
	for (int i = 0; i < 2; i++) {
		int64_t fd = fd_give(p, ends[i], flags & O_CLOEXEC);

		fds[i] = (int)MAX(fd, (int64_t)-1);
		err = fd < 0 ? fd : err;
	}
	if (!err)
		err = mm_copy_out(p, to, fds, sizeof(fds));
	for (int i = 0; i < 2 && err; i++)
		if (fds[i] >= 0)
			fd_close(p, fds[i]);
	return err;
}

int64_t sys_pipe(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return pipe_make(p, a[0], 0);
}

int64_t sys_pipe2(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return pipe_make(p, a[0], (int)a[1]);
}

static int64_t eventfd_make(struct proc *p, uint64_t value, int flags)
{
	struct file *f;
	int err;

	if (flags & ~(EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC))
		return -EINVAL;
	err = eventfd_new(p, (uint32_t)value, flags, &f);
	return err ? err : fd_give(p, f, flags & EFD_CLOEXEC);
}

int64_t sys_eventfd(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return eventfd_make(p, a[0], 0);
}

int64_t sys_eventfd2(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return eventfd_make(p, a[0], (int)a[1]);
}

int64_t sys_memfd_create(struct proc *p, struct task *t, const uint64_t a[6])
{
	const unsigned known =
		MFD_CLOEXEC | MFD_ALLOW_SEALING | 0x8u /* MFD_NOEXEC_SEAL */ | 0x10u /* MFD_EXEC */;
	unsigned flags = (unsigned)a[1];
	char name[250], path[sizeof(name) + 8];
	struct tmpfs_inode *i;
	struct file *f;
	int err = mm_copy_in_str(p, name, a[0], sizeof(name));

	(void)t;
	if (err < 0)
		return err == -ENAMETOOLONG ? -EINVAL : err;
	if (flags & ~known || (flags & 0x18u) == 0x18u)
		return -EINVAL;
	err = tmpfs_inode_new(p, TMPFS_MEMFD, S_IFREG | 0777, &i);
	if (err)
		return err;
	i->seals = flags & (MFD_ALLOW_SEALING | 0x8u) ? 0 : F_SEAL_SEAL;
	tmpfs_inode_ref(i);
	snprintf(path, sizeof(path), "/memfd:%s", name);
	err = tmpfs_open(p, i, O_RDWR | 0100000, path, &f);
	tmpfs_inode_put(p, i);
	return err ? err : fd_give(p, f, flags & MFD_CLOEXEC);
}
