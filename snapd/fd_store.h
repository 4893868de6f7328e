/* SPDX-License-Identifier: Apache-2.0 */
/* fd_store.h - descriptors in the care of the service manager, where it keeps them over a restart
 */
#ifndef QUICKTHAW_SNAPD_FD_STORE_H
#define QUICKTHAW_SNAPD_FD_STORE_H

#include <stdbool.h>
#include <stdint.h>

enum { FD_STORE_FDS_MAX = 3, FD_STORE_NAME_MAX = 31 };

/**
 * fd_store_open() - find out whether somebody keeps descriptors for us: a service manager, and a
 * unit with FileDescriptorStoreMax=. Asks by storing one, for older versions of systemd do not say.
 * Blocks for up to 2 s; at start, after service_manager_init().
 * Return: is there such a store?
 */
bool fd_store_open(void);
bool fd_store_is_open(void);
/** fd_store_close() - talk to it no more; what it keeps stays there. */
void fd_store_close(void);

/**
 * fd_store_keep() - give copies of descriptors to the store, under one name. Never blocks: what
 * cannot be sent at once is sent by fd_store_turn(), so the descriptors stay open until then, or
 * until fd_store_drop() of their name. A no-op where there is no store.
 * @fds: 1 to FD_STORE_FDS_MAX
 */
void fd_store_keep(const char *name, const int *fds, int count);
/** fd_store_drop() - the store closes all that it has under the name. Before the caller closes its
 * own. */
void fd_store_drop(const char *name);

/** fd_store_turn() - once per turn of the loop: what could not be sent. */
void fd_store_turn(uint64_t now_ns);
/** fd_store_next_ns() - when that has to be tried again, UINT64_MAX: nothing waits. */
uint64_t fd_store_next_ns(void);

#endif
