/* SPDX-License-Identifier: Apache-2.0 */
/* syscall_file.h - handlers of the tables syscalls_file and syscalls_path, by the file they are in
 */
#ifndef QUICKTHAW_PROCESS_SYSCALL_FILE_H
#define QUICKTHAW_PROCESS_SYSCALL_FILE_H

#include <stdint.h>

#include "vmm/process/syscall.h"
#include "vmm/process/vfs_node.h"

struct proc;
struct task;

#define SYSCALL_HANDLER(name)                                                                      \
	int64_t sys_##name(struct proc *p, struct task *t, const uint64_t a[6])

/* syscall_fd.c: descriptors */
SYSCALL_HANDLER(close);
SYSCALL_HANDLER(close_range);
SYSCALL_HANDLER(dup);
SYSCALL_HANDLER(dup2);
SYSCALL_HANDLER(dup3);
SYSCALL_HANDLER(fcntl);
SYSCALL_HANDLER(ioctl);
SYSCALL_HANDLER(flock);
SYSCALL_HANDLER(pipe);
SYSCALL_HANDLER(pipe2);
SYSCALL_HANDLER(eventfd);
SYSCALL_HANDLER(eventfd2);
SYSCALL_HANDLER(memfd_create);

/* syscall_stat.c: what a file is, and changes of that */
SYSCALL_HANDLER(stat);
SYSCALL_HANDLER(lstat);
SYSCALL_HANDLER(fstat);
SYSCALL_HANDLER(newfstatat);
SYSCALL_HANDLER(statx);
SYSCALL_HANDLER(statfs);
SYSCALL_HANDLER(fstatfs);
SYSCALL_HANDLER(access);
SYSCALL_HANDLER(faccessat);
SYSCALL_HANDLER(faccessat2);
SYSCALL_HANDLER(chmod);
SYSCALL_HANDLER(fchmod);
SYSCALL_HANDLER(fchmodat);
SYSCALL_HANDLER(chown);
SYSCALL_HANDLER(lchown);
SYSCALL_HANDLER(fchown);
SYSCALL_HANDLER(fchownat);
SYSCALL_HANDLER(utime);
SYSCALL_HANDLER(utimes);
SYSCALL_HANDLER(futimesat);
SYSCALL_HANDLER(utimensat);
SYSCALL_HANDLER(truncate);
SYSCALL_HANDLER(xattr_get);
SYSCALL_HANDLER(xattr_get_nofollow);
SYSCALL_HANDLER(xattr_fget);
SYSCALL_HANDLER(xattr_list);
SYSCALL_HANDLER(xattr_list_nofollow);
SYSCALL_HANDLER(xattr_flist);
SYSCALL_HANDLER(xattr_set);
SYSCALL_HANDLER(xattr_set_nofollow);
SYSCALL_HANDLER(xattr_fset);

/** path_in() - copy a path name of the program. Return: 0 or -errno. */
int path_in(struct proc *p, uint64_t addr, char path[VFS_PATH_MAX]);
/** fd_of() - an open description that is not O_PATH, or NULL (EBADF). */
struct file *fd_of(struct proc *p, uint64_t fd);
/** fd_give() - install a new description, or drop it. Return: fd or -errno. */
int64_t fd_give(struct proc *p, struct file *f, bool cloexec);

#endif
