/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sock.h - sockets that never leave the guest
 *
 * AF_UNIX and AF_INET/AF_INET6 loopback, stream and datagram, between tasks of one guest; and
 * services: listeners on a loopback port that the vmm itself serves (the Runtime API). Anything
 * else answers ENETUNREACH.
 */
#ifndef QUICKTHAW_PROCESS_SOCK_H
#define QUICKTHAW_PROCESS_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/state.h"

struct proc;
struct sock;

int net_new(struct proc *p);
void net_free(struct proc *p);
int net_save(struct proc *p, struct state_writer *w);
int net_load(struct proc *p, struct state_reader *r);

/**
 * struct sock_service - the vmm's end of connections to one loopback port.
 * @accept: a guest socket connected; set the connection's private pointer by service_set_priv()
 * @data: bytes that the guest sent; consume all of them
 * @ended: the guest shut down writing, and may still read: service_ended() is true from here on
 * @closed: the guest closed its end; the connection ends after the call
 * Callbacks run inside the guest's system call and may call service_send().
 */
struct sock_service {
	uint16_t port;
	int (*accept)(struct proc *p, struct sock *conn);
	void (*data)(struct proc *p, struct sock *conn, const void *data, size_t n);
	void (*ended)(struct proc *p, struct sock *conn);
	void (*closed)(struct proc *p, struct sock *conn);
};

/** sock_service_register() - once per port, before the guest runs (boot and load alike). */
int sock_service_register(struct proc *p, const struct sock_service *service);
/**
 * service_send() - queue bytes for the guest and wake its reader.
 * Return: 0, -EPIPE, -ENOMEM, or -ENOBUFS: it does not read what it has.
 */
int service_send(struct proc *p, struct sock *conn, const void *data, size_t n);
void service_close(struct proc *p, struct sock *conn);
/** service_ended() - has the guest sent all that it ever will? */
bool service_ended(const struct sock *conn);
/** service_port() - of the service whose end @conn is; 0: it is a socket of the guest. */
uint16_t service_port(const struct sock *conn);
void service_set_priv(struct sock *conn, void *priv);
void *service_priv(const struct sock *conn);
/** sock_id() / sock_by_id() - stable over save and load: how a service saves its connections. */
uint32_t sock_id(const struct sock *conn);
struct sock *sock_by_id(struct proc *p, uint32_t id);

#endif
