/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sock_internal.h - what the files of sockets share; everybody else uses sock.h
 *
 *   net.c         all sockets of a guest, services, saved state
 *   sock.c        bytes and messages between two ends, connections
 *   sock_name.c   addresses: what is bound where
 *   sock_file.c   a socket as an open file
 *   sock_option.c getsockopt, setsockopt
 *   syscall_socket.c
 *
 * Invariants
 *  1. The two ends of a stream point at each other, or one of them is gone and the other's peer is
 *     NULL. Datagram sockets point at whom they are connected to; that one need not point back.
 *  2. A socket has a file, or it waits in a listener's queue, or it is the vmm's end of a service.
 *  3. The vmm's end has no buffer: bytes go to the service at once.
 */
#ifndef QUICKTHAW_PROCESS_SOCK_INTERNAL_H
#define QUICKTHAW_PROCESS_SOCK_INTERNAL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "vmm/process/file.h"
#include "vmm/process/sock.h"

enum {
	SOCKS_MAX = 4096,
	SERVICES_MAX = 4,
	SOCK_BUFFER_BYTES = 256 * 1024,	  /**< a peer that does not read: more waits */
	SOCK_BUFFER_MAX_BYTES = 16 << 20, /**< one blocking send is never cut below this */
	SOCK_BYTES_MAX = 64 << 20,	  /**< all that a guest's sockets hold for it */
	SOCK_MESSAGES_MAX = 512,
	SOCK_MESSAGE_MAX_BYTES = 212992,
	SOCK_INET_MESSAGE_MAX_BYTES = 65507,
	SOCK_BACKLOG_MAX = 4096,
	SOCK_OPTIONS_MAX = 24,
	SOCK_PATH_MAX = sizeof(((struct sockaddr_un *)0)->sun_path),
};

/**
 * struct sock_addr - AF_UNSPEC, AF_UNIX or AF_INET6. IPv4 addresses are kept as mapped IPv6 ones.
 * @port: host order
 * @path: of @path_bytes; an abstract name begins with 0
 */
struct sock_addr {
	uint16_t family;
	uint16_t port;
	uint8_t ip[16];
	uint8_t path_bytes;
	char path[SOCK_PATH_MAX];
};

enum sock_state { SOCK_UNCONNECTED, SOCK_LISTENING, SOCK_CONNECTED };

/** struct sock_message - one datagram or record. */
struct sock_message {
	struct sock_message *next;
	struct sock_addr from;
	size_t bytes;
	size_t room; /**< of data[] */
	uint8_t data[];
};

/** struct sock_option - an option that is remembered and has no effect. */
struct sock_option {
	int level, name, value;
};

/**
 * struct sock - one end.
 * @bound: @local was asked for (or given by the first send): others cannot have it
 * @inode: of the name of an AF_UNIX socket in the file system; 0: none
 * @rx: bytes of a stream, from @rx_head, @rx_used many
 * @pending: connections to accept, linked by pending_next; @listener points back
 * @error: SO_ERROR
 */
struct sock {
	struct net *net;
	uint32_t id;
	struct sock *next, *prev;
	int domain, type, protocol;
	enum sock_state state;
	bool bound, read_shut, write_shut, peer_done;
	struct sock_addr local, remote;
	uint64_t inode;
	struct sock *peer;
	uint8_t *rx;
	size_t rx_head, rx_used, rx_size;
	size_t held_bytes; /**< part of net->bytes */
	struct sock_message *messages, *messages_tail;
	unsigned message_count;
	struct sock *pending, *pending_next, *listener;
	unsigned pending_count, backlog;
	int error;
	uint64_t read_timeout_ns, write_timeout_ns;
	struct sock_option options[SOCK_OPTIONS_MAX];
	unsigned option_count;
	struct file *file;
	const struct sock_service *service; /**< this is the vmm's end */
	void *priv;
};

/**
 * struct net - all sockets.
 * @bytes: allocated for what was sent and not yet read
 */
struct net {
	struct sock *first, *last;
	unsigned count;
	uint32_t next_id;
	uint16_t next_port;
	size_t bytes;
	struct sock_service services[SERVICES_MAX];
	unsigned service_count;
};

/**
 * struct sock_io - where bytes of a call are: in user memory (iov_base is a user address) or in the
 * vmm's own (file operations).
 */
struct sock_io {
	const struct iovec *iov;
	int count;
	bool user;
	size_t bytes; /**< in all */
};

/** sock_io_get() / sock_io_put() - copy @n bytes from or to offset @at. Return: 0 or -EFAULT. */
int sock_io_get(struct proc *p, const struct sock_io *io, size_t at, void *dst, size_t n);
int sock_io_put(struct proc *p, const struct sock_io *io, size_t at, const void *src, size_t n);

/* ---- net.c ---- */

struct sock *sock_new(struct proc *p, int domain, int type, int protocol);
/** sock_free() - memory only; sock_close() comes before. */
void sock_free(struct proc *p, struct sock *s);
const struct sock_service *service_by_port(const struct proc *p, uint16_t port);

/* ---- sock.c ---- */

static inline bool sock_is_stream(const struct sock *s)
{
	return s->type == SOCK_STREAM;
}

/** sock_has_ends() - do two sockets belong to each other, as opposed to datagrams? */
static inline bool sock_has_ends(const struct sock *s)
{
	return s->type != SOCK_DGRAM;
}

int sock_append(struct sock *s, const void *data, size_t n);
int sock_message_add(struct sock *s, const struct sock_addr *from, size_t n,
		     struct sock_message **ret);
void sock_wake(struct proc *p, const struct sock *s);
void sock_pair(struct sock *a, struct sock *b);
/** sock_close() - the last descriptor is gone. Frees @s. */
void sock_close(struct proc *p, struct sock *s);
int sock_shutdown(struct proc *p, struct sock *s, int how);
int sock_listen(struct sock *s, int backlog);
int sock_connect(struct proc *p, struct sock *s, const struct sock_addr *to);
/** sock_accept() - Return: NULL: nobody waits. */
struct sock *sock_accept(struct sock *s);
/** sock_send() - @to: NULL: the peer. Return: bytes, -EAGAIN or another -errno. */
int64_t sock_send(struct proc *p, struct sock *s, const struct sock_io *io, int flags,
		  const struct sock_addr *to);
/**
 * sock_recv() - @ret_from may be NULL; @ret_flags gets MSG_TRUNC.
 * @at: offset in @io to begin at
 */
int64_t sock_recv(struct proc *p, struct sock *s, const struct sock_io *io, size_t at, int flags,
		  struct sock_addr *ret_from, int *ret_flags);
short sock_poll(const struct sock *s);
/** sock_readable_bytes() - FIONREAD. */
size_t sock_readable_bytes(const struct sock *s);

/* ---- sock_name.c ---- */

/** sock_addr_get() - from user memory, for a socket of @domain. Return: 0 or -errno. */
int sock_addr_get(struct proc *p, int domain, uint64_t addr, uint64_t bytes, struct sock_addr *ret);
/** sock_addr_put() - as accept, getsockname and recvfrom do. @addr 0: not wanted. */
int sock_addr_put(struct proc *p, int domain, const struct sock_addr *a, uint64_t addr,
		  uint64_t len_addr);
/** sock_addr_pack() - as a sockaddr. Return: its length. */
size_t sock_addr_pack(int domain, const struct sock_addr *a, struct sockaddr_storage *ret);
int sock_bind(struct proc *p, struct sock *s, const struct sock_addr *a);
/** sock_autobind() - give an unbound one an address from which @to can be reached. */
int sock_autobind(struct proc *p, struct sock *s, const struct sock_addr *to);
/** sock_find() - who receives what is sent to @to? @ret: NULL: nobody. Return: 0, or -errno for
 * names of AF_UNIX that are not there. */
int sock_find(struct proc *p, const struct sock *from, const struct sock_addr *to,
	      struct sock **ret);
/** sock_has_path() - a name in the file system, as opposed to an abstract one or none. */
static inline bool sock_has_path(const struct sock_addr *a)
{
	return a->family == AF_UNIX && a->path_bytes && a->path[0];
}
/** sock_addr_is_local() - an address of this guest, or "any", which means it. */
bool sock_addr_is_local(const struct sock_addr *a);

/* ---- sock_file.c, sock_option.c ---- */

/** sock_open() - a descriptor for @s. @flags: SOCK_NONBLOCK, SOCK_CLOEXEC. Return: fd or -errno; on
 * error @s is closed. */
int sock_open(struct proc *p, struct sock *s, int flags);
struct sock *sock_of_fd(struct proc *p, int fd, int *ret_err);
int64_t sock_option_set(struct proc *p, struct sock *s, const uint64_t a[6]);
int64_t sock_option_get(struct proc *p, struct sock *s, const uint64_t a[6]);

#endif
