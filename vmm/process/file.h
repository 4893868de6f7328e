/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h - open file descriptions and the descriptor table
 *
 * struct file is what open(2) makes: an operations table, a position, flags, a reference count.
 * Descriptors, mappings and epoll sets hold references. Every live struct file is on one list in
 * the table: its place in that list is its id in a saved state, so that parts can name files that
 * they share.
 *
 * Operations never block: they return -EAGAIN, and the system call layer (file_wait) turns that
 * into a wait on file->wait_key when the description is not O_NONBLOCK. Whoever changes readiness
 * calls task_wake_all(p, file->wait_key).
 */
#ifndef QUICKTHAW_PROCESS_FILE_H
#define QUICKTHAW_PROCESS_FILE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "common/state.h"

struct proc;
struct task;
struct file;

enum { FILES_MAX = 1024 }; /* RLIMIT_NOFILE as in Lambda */

/** Types are saved by number: never reuse one. */
enum file_type {
	FILE_HOST = 1, /**< regular file or directory of a read-only root */
	FILE_TMPFS = 2,
	FILE_SYNTH = 3, /**< /proc and /dev */
	FILE_STDIO = 4, /**< 0, 1, 2: empty input, log lines */
	FILE_PIPE = 5,
	FILE_EVENTFD = 6,
	FILE_TIMERFD = 7,
	FILE_SIGNALFD = 8,
	FILE_EPOLL = 9,
	FILE_SOCKET = 10,
	FILE_TYPE_COUNT
};

/**
 * struct file_ops - what a type of file can do; NULL entries give the errno that Linux gives.
 * @read, @write: iovecs are host pointers; @offset is a position for pread/pwrite, or -1: use and
 *	advance file->pos. Return bytes, or -errno (-EAGAIN: not ready).
 * @poll: current POLL* readiness
 * @fill_page: contents of the page at @offset for a private mapping (short at end of file: the
 *	rest is zero)
 * @shared_page: the frame behind @offset for a shared mapping (tmpfs); reference is taken
 * @save, @load: state of this description beyond pos and flags; load returns a file whose
 *	references to other files are still unset; @link resolves them by id (file_by_id) once
 *	all are loaded
 */
struct file_ops {
	enum file_type type;
	const char *name;
	int64_t (*read)(struct proc *p, struct file *f, const struct iovec *iov, int n,
			int64_t offset);
	int64_t (*write)(struct proc *p, struct file *f, const struct iovec *iov, int n,
			 int64_t offset);
	short (*poll)(struct proc *p, struct file *f);
	int (*stat)(struct proc *p, struct file *f, struct stat *ret);
	int64_t (*seek)(struct proc *p, struct file *f, int64_t offset, int whence);
	int64_t (*getdents)(struct proc *p, struct file *f, void *buf, size_t n);
	int64_t (*ioctl)(struct proc *p, struct file *f, uint64_t request, uint64_t arg);
	int (*truncate)(struct proc *p, struct file *f, uint64_t bytes);
	int (*fill_page)(struct proc *p, struct file *f, uint64_t offset, void *page);
	int (*shared_page)(struct proc *p, struct file *f, uint64_t offset, uint32_t *ret_page);
	void (*release)(struct proc *p, struct file *f);
	int (*save)(struct proc *p, struct file *f, struct state_writer *w);
	int (*load)(struct proc *p, struct state_reader *r, struct file **ret);
	int (*link)(struct proc *p, struct file *f);
};

struct file {
	const struct file_ops *ops;
	unsigned refs;
	int flags; /**< O_* of open and F_SETFL */
	int64_t pos;
	uint64_t wait_key;
	char *path;  /**< as /proc/self/fd shows it; heap, may be NULL */
	void *priv;  /**< the type's own */
	uint32_t id; /**< place in the list, valid during save and load */
	struct file *prev, *next;
};

int files_new(struct proc *p);
void files_free(struct proc *p);
int files_save(struct proc *p, struct state_writer *w);
int files_load(struct proc *p, struct state_reader *r);

/** file_new() - one reference, on the list. Return: NULL when out of memory. */
struct file *file_new(struct proc *p, const struct file_ops *ops, int flags, void *priv);
static inline struct file *file_ref(struct file *f)
{
	f->refs++;
	return f;
}
/** file_put() - drop a reference; the last one calls ops->release. */
void file_put(struct proc *p, struct file *f);
/** file_by_id() - during load: the file that was saved as @id, or NULL. */
struct file *file_by_id(struct proc *p, uint32_t id);

/** fd_install() - lowest free descriptor >= @min takes the reference. Return: fd, or -EMFILE: then
 * the reference is still the caller's. */
int fd_install(struct proc *p, struct file *f, int min, bool cloexec);
/** fd_get() - borrowed pointer, or NULL (EBADF). */
struct file *fd_get(struct proc *p, int fd);
int fd_close(struct proc *p, int fd);
/** fd_cloexec() / fd_set_cloexec() - FD_CLOEXEC. */
bool fd_cloexec(struct proc *p, int fd);
void fd_set_cloexec(struct proc *p, int fd, bool on);
/** fd_for_each() - open descriptors in ascending order; start with -1, ends with -1. */
int fd_next(struct proc *p, int after);

/**
 * file_wait() - what a blocking read or write does on -EAGAIN.
 * @timeout_ns: relative, WAIT_FOREVER for none
 * Return: SYS_BLOCKED, or -EAGAIN (O_NONBLOCK or timed out), or -EINTR.
 */
int64_t file_wait(struct proc *p, struct task *t, struct file *f, uint64_t timeout_ns);

/** file_ops_of() - the table of a type, for load. Each type's file defines one of these. */
extern const struct file_ops host_file_ops, tmpfs_file_ops, synth_file_ops, stdio_file_ops,
	pipe_file_ops, eventfd_file_ops, timerfd_file_ops, signalfd_file_ops, epoll_file_ops,
	socket_file_ops;

#endif
