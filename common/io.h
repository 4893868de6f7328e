/* SPDX-License-Identifier: Apache-2.0 */
/* io.h - the loops around short and interrupted I/O, written once */
#ifndef QUICKTHAW_COMMON_IO_H
#define QUICKTHAW_COMMON_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/** read_full() - read up to @n bytes, stopping only at end of file. Return: bytes read or -errno.
 */
ssize_t read_full(int fd, void *buf, size_t n);
/** pread_full() - the same at @offset, without moving the file position. */
ssize_t pread_full(int fd, void *buf, size_t n, uint64_t offset);
/** write_full() - write all @n bytes. Return: 0 or -errno. */
int write_full(int fd, const void *buf, size_t n);
/** pwrite_full() - write all @n bytes at @offset. Return: 0 or -errno. */
int pwrite_full(int fd, const void *buf, size_t n, uint64_t offset);

/**
 * read_file() - read a small file whole.
 * @dirfd: directory descriptor or AT_FDCWD
 * @max_bytes: -EFBIG when the file is larger
 * @ret_data: malloc'ed, NUL-terminated (the NUL is not counted); the caller frees it
 * @ret_bytes: may be NULL
 * Return: 0 or -errno.
 */
int read_file(int dirfd, const char *path, size_t max_bytes, char **ret_data, size_t *ret_bytes);

/**
 * write_file_atomic() - replace a file: temporary file, fsync, rename, fsync of the directory.
 * @dirfd: directory descriptor; @name: a plain name inside it
 * Return: 0 or -errno; on error the old file is untouched and the temporary one removed.
 */
int write_file_atomic(int dirfd, const char *name, const void *data, size_t n, mode_t mode);

enum { FDPASS_FDS_MAX = 8 };

/**
 * fdpass_send() - one message with descriptors over a unix socket.
 * @fds: @fd_count descriptors, at most FDPASS_FDS_MAX; they stay the caller's
 * Return: 0 or -errno (-EAGAIN on a full non-blocking socket; nothing was sent then).
 */
int fdpass_send(int sock, const struct iovec *iov, int iov_count, const int *fds, int fd_count);

/**
 * fdpass_recv() - receive one message and its descriptors (close-on-exec).
 * @ret_fds: FDPASS_FDS_MAX entries, filled with descriptors or -1; they become the caller's
 * @ret_fd_count: how many arrived
 * @flags: recvmsg flags, for example MSG_DONTWAIT
 * Return: bytes received, 0 at end of stream, -EMSGSIZE if the message or its descriptors were cut
 * (everything that came is closed), or -errno.
 */
ssize_t fdpass_recv(int sock, void *buf, size_t n, int *ret_fds, int *ret_fd_count, int flags);

/**
 * memfd_map_sealed() - map the first @n bytes of a memfd that came from somebody else, for reading.
 * It must be sealed against writes and shrinking: else it could change after it was checked, or
 * shrink and make a read end in SIGBUS.
 * @flags: MAP_POPULATE or 0
 * Return: 0, -EBADMSG when it is too short or not sealed, or -errno. munmap() the @n bytes after
 * use.
 */
int memfd_map_sealed(int fd, uint64_t n, int flags, const void **ret);

/**
 * memfd_from_buffer() - a sealed (no write, grow, shrink) memfd that holds @n bytes.
 * Return: descriptor or -errno.
 */
int memfd_from_buffer(const char *name, const void *data, size_t n);

#endif
