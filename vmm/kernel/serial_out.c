/* SPDX-License-Identifier: Apache-2.0 */
/* serial_out.c - where a guest's console goes: a descriptor, at a rate that hurts nobody */
#include "vmm/kernel/serial_out.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"

/* A pipe takes that much at once when poll() says that it is writable (pipe(7), PIPE_BUF). */
enum { WRITE_MAX = 4096 };

/**
 * A description of this module's own of what @fd is: O_NONBLOCK on the caller's would be on that of
 * its shell, too. Not of a file, which would begin at its start, and never waits.
 * Return: a descriptor, or -1: there is no other way than to write to @fd.
 */
static int open_again(int fd, mode_t type)
{
	char path[32];

	if (!S_ISCHR(type) && !S_ISFIFO(type))
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

void serial_out_init(struct serial_out *o, int fd)
{
	struct stat st;
	int again = -1;

	memset(o, 0, sizeof(*o));
	o->fd = fd;
	if (fd >= 0 && !fstat(fd, &st)) {
		o->socket = S_ISSOCK(st.st_mode);
		again = open_again(fd, st.st_mode);
	}
	if (again >= 0) {
		o->fd = again;
		o->opened = true;
	}
	o->tokens = SERIAL_BURST_BYTES;
	o->filled_ns = clock_mono_ns();
}

void serial_out_free(struct serial_out *o)
{
	uint64_t lost = o->dropped_bytes - o->told_bytes + o->used;

	if (lost)
		log_warn("serial: %llu bytes of the console were dropped: more than %u KiB a "
			 "second, or more than was read",
			 (unsigned long long)lost, SERIAL_RATE_BYTES >> 10);
	o->told_bytes = o->dropped_bytes;
	o->used = 0;
	if (o->opened)
		close(o->fd);
	o->fd = -1;
	o->opened = false;
}

static void refill(struct serial_out *o)
{
	uint64_t now = clock_mono_ns();
	uint64_t passed_ns = MIN(now - o->filled_ns, 60 * NSEC_PER_SEC);
	uint64_t granted = passed_ns * SERIAL_RATE_BYTES / NSEC_PER_SEC;

	if (o->tokens + granted >= SERIAL_BURST_BYTES) {
		o->tokens = SERIAL_BURST_BYTES;
		o->filled_ns = now;
		return;
	}
	/* Only the time that was paid out: a flood asks more often than there is a token. */
	o->tokens += granted;
	o->filled_ns += granted * NSEC_PER_SEC / SERIAL_RATE_BYTES;
}

/** Text is the guest's: what is printed in a report has no control characters. */
static void end_line(struct serial_out *o)
{
	char *panic;

	o->line[o->line_bytes] = '\0';
	o->line_bytes = 0;
	panic = strstr(o->line, "Kernel panic - not syncing");
	if (panic && !o->panic[0])
		memcpy(o->panic, panic, strlen(panic) + 1);
}

static void watch_line(struct serial_out *o, uint8_t byte)
{
	if (byte == '\n')
		end_line(o);
	else if (byte >= 0x20 && byte < 0x7f && o->line_bytes < SERIAL_LINE_MAX - 1)
		o->line[o->line_bytes++] = (char)byte;
}

static void put(struct serial_out *o, uint8_t byte)
{
	o->ring[(o->head + o->used++) % SERIAL_RING_BYTES] = byte;
}

void serial_out_byte(void *out, uint8_t byte)
{
	struct serial_out *o = out;

	watch_line(o, byte);
	if (o->fd < 0)
		return;
	if (!o->tokens)
		refill(o);
	if (!o->tokens || o->used == SERIAL_RING_BYTES) {
		o->dropped_bytes++;
		return;
	}
	o->tokens--;
	put(o, byte);
}

bool serial_out_waits(const struct serial_out *o)
{
	return o->used || o->dropped_bytes != o->told_bytes;
}

static void tell_dropped(struct serial_out *o)
{
	char text[80];
	int n = snprintf(text, sizeof(text), "\n[%llu bytes of the console were dropped]\n",
			 (unsigned long long)(o->dropped_bytes - o->told_bytes));

	if (o->dropped_bytes == o->told_bytes || o->used + (uint32_t)n > SERIAL_RING_BYTES)
		return;
	for (int i = 0; i < n; i++)
		put(o, (uint8_t)text[i]);
	o->told_bytes = o->dropped_bytes;
}

static ssize_t write_some(const struct serial_out *o, const void *data, size_t n)
{
	return o->socket ? send(o->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL)
			 : write(o->fd, data, n);
}

void serial_out_flush(struct serial_out *o)
{
	refill(o);
	/* Not in the middle of a flood: one word for all of it. */
	if (o->tokens)
		tell_dropped(o);
	while (o->used) {
		struct pollfd p = {.fd = o->fd, .events = POLLOUT};
		uint32_t n = MIN(o->used, SERIAL_RING_BYTES - o->head);
		ssize_t wrote;

		n = MIN(n, (uint32_t)WRITE_MAX);
		if (poll(&p, 1, 0) != 1 || !(p.revents & (POLLOUT | POLLERR)))
			return;
		wrote = write_some(o, o->ring + o->head, n);
		if (wrote < 0 && (errno == EINTR || errno == EAGAIN))
			return;
		if (wrote < 0) {
			log_warn("serial: the console's output ends: %s", strerror(errno));
			serial_out_free(o);
			return;
		}
		o->head = (o->head + (uint32_t)wrote) % SERIAL_RING_BYTES;
		o->used -= (uint32_t)wrote;
	}
}
