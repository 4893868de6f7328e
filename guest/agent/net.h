/* SPDX-License-Identifier: Apache-2.0 */
/* net.h - network interfaces: up, and with which addresses */
#ifndef QUICKTHAW_AGENT_NET_H
#define QUICKTHAW_AGENT_NET_H

#include <stdint.h>

#define NET_INTERFACE "eth0"

/** An IPv4 address; bytes as they are written. */
struct net_address {
	uint8_t ip[4];
	uint8_t prefix;	    /**< 1 to 32 */
	uint8_t gateway[4]; /**< all zero: none */
};

/** net_parse() - IP/PREFIX[,GATEWAY]. Return: 0 or -EINVAL. */
int net_parse(struct net_address *ret, const char *text);
/** net_up() - bring an interface up. Return: 0 or -errno. */
int net_up(const char *interface);
/**
 * net_set_mac() - give it another MAC. virtio_net takes it while it is up; with a driver that does
 * not, the interface is down for a moment and loses its routes.
 * Return: 0 or -errno.
 */
int net_set_mac(const char *interface, const uint8_t mac[6]);
/** net_set_address() - the one address of an interface and the default route, and bring it up. */
int net_set_address(const char *interface, const struct net_address *a);

#endif
