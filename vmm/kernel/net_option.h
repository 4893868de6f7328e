/* SPDX-License-Identifier: Apache-2.0 */
/* net_option.h - what --net says: a TAP device, and who the guest is on its network */
#ifndef QUICKTHAW_KERNEL_NET_OPTION_H
#define QUICKTHAW_KERNEL_NET_OPTION_H

#include <linux/if.h>
#include <stdbool.h>
#include <stdint.h>

enum net_mac {
	NET_MAC_DEFAULT, /**< at boot a random one, at a restore that of the snapshot */
	NET_MAC_KEEP,	 /**< that of the snapshot */
	NET_MAC_RANDOM,	 /**< another one each time */
	NET_MAC_GIVEN,
};

/** struct net_option - one --net, parsed. */
struct net_option {
	char tap[IFNAMSIZ];
	enum net_mac mac_kind;
	uint8_t mac[6]; /**< of NET_MAC_GIVEN */
	bool has_ip;
	uint8_t ip[4];
	uint8_t prefix;	    /**< 1 to 32 */
	uint8_t gateway[4]; /**< all zero: none */
};

/**
 * net_option_parse() - TAP[,mac=keep|random|XX:XX:XX:XX:XX:XX][,ip=A.B.C.D/PREFIX[,gw=A.B.C.D]]
 * Return: 0, or -EINVAL with a log line that says what is wrong with which part.
 */
int net_option_parse(const char *text, struct net_option *ret);

/** net_option_random_mac() - a unicast address of the locally administered kind. Return: 0 or
 * -EIO. */
int net_option_random_mac(uint8_t ret[6]);

#endif
