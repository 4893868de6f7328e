/* SPDX-License-Identifier: Apache-2.0 */
/* text_file.h - the small files of /proc and /sys */
#ifndef QUICKTHAW_AGENT_TEXT_FILE_H
#define QUICKTHAW_AGENT_TEXT_FILE_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

/** text_file_read() - as much of it as fits, NUL-terminated. Return: bytes or -errno. */
static inline ssize_t text_file_read(const char *path, char *buf, size_t room)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -errno : read_full(fd, buf, room - 1);

	buf[n > 0 ? n : 0] = 0;
	return n;
}

/** text_file_write() - write @text by one write(2). Return: 0 or -errno. */
static inline int text_file_write(const char *path, const char *text)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

#endif
