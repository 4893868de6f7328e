/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service_manager.h - what snapd and systemd tell each other
 *
 *   systemd ── descriptors, with names ────────────────────────────► snapd   sd_listen_fds(3)
 *           ◄─ READY=1, STATUS=..., WATCHDOG=1, STOPPING=1 ─────────         sd_notify(3)
 *           ◄─ descriptors to keep over a restart (the fd store) ─── sd_pid_notify_with_fds(3)
 *
 * The protocol is a datagram with lines of text, promised to stay as it is, and simple: written
 * here, it takes no library. libsystemd would bring compression and cryptography along, and 1.3 MiB
 * of resident memory.
 *
 * Without a service manager every function does nothing. Only the loop's thread calls them.
 */
#ifndef QUICKTHAW_SNAPD_SERVICE_MANAGER_H
#define QUICKTHAW_SNAPD_SERVICE_MANAGER_H

#include <stdbool.h>
#include <stdint.h>

enum {
	SERVICE_FDS_MAX = 4096,	       /* descriptors that can be passed at a start */
	SERVICE_NAME_MAX = 255,	       /* of a descriptor; as systemd has it */
	SERVICE_FDS_PER_MESSAGE = 253, /* as the kernel has it */
};

/** Name of the listening socket in quickthaw.socket. */
#define SERVICE_SOCKET_NAME "api"

/**
 * struct service_fd - a descriptor that was passed, close-on-exec.
 * @name: FDNAME; "" where none was given
 * @fd: -1: it was taken
 */
struct service_fd {
	const char *name;
	int fd;
};

/**
 * service_manager_init() - see who started us, from the environment, which is cleared of it.
 * Before threads are started, and before a descriptor is opened. Return: 0 or -errno (-E2BIG: more
 * than SERVICE_FDS_MAX descriptors).
 */
int service_manager_init(void);
/** service_manager_finish() - for tests. */
void service_manager_finish(void);

/** service_manager_fds() - those that were passed, in order. Return: how many. */
unsigned service_manager_fds(const struct service_fd **ret);
/** service_manager_take_fd() - the first that is left of this name; the caller's from now on.
 * Return: -ENOENT: there is none. */
int service_manager_take_fd(const char *name);
/** service_manager_close_rest() - what nobody has taken: it is closed, and the log says so.
 * A descriptor from the fd store is thereby taken out of it. */
void service_manager_close_rest(void);

/** service_manager_ready() - serving; may be told again. @fmt: one line on how, for `systemctl
 * status`. */
void service_manager_ready(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void service_manager_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void service_manager_stopping(void);

/** service_manager_stores_fds() - does the service manager keep descriptors for us? */
bool service_manager_stores_fds(void);
/**
 * service_manager_store_fds() - keep copies over a restart; they are passed to the next start under
 * @name: letters, digits, and -_. Does not block: -EAGAIN when the service manager is behind.
 * fd_store.c tries again then. Return: 0, -ENOTCONN (no service manager), or -errno.
 */
int service_manager_store_fds(const char *name, const int *fds, unsigned count);
/** service_manager_drop_fds() - keep those of this name no longer. Return: as above. */
int service_manager_drop_fds(const char *name);

/** service_manager_barrier() - wait until all that was told has been acted on. Blocks for up to
 * @wait_ms; at start. Return: 0, -ETIMEDOUT, or -errno. */
int service_manager_barrier(int wait_ms);

/** service_manager_turn() - once per turn of the loop: tells the watchdog that it turns. */
void service_manager_turn(uint64_t now_ns);
/** service_manager_next_ns() - when it has to be told again; UINT64_MAX: nobody asks. */
uint64_t service_manager_next_ns(void);

#endif
