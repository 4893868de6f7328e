/* SPDX-License-Identifier: Apache-2.0 */
/* net.c - network interfaces: up, and with which addresses */
#include "guest/agent/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "guest/agent/text_file.h"

int net_parse(struct net_address *ret, const char *text)
{
	const char *slash = strchr(text, '/'), *comma = strchr(text, ',');
	struct net_address a = {0};
	char ip[16] = "";
	char *end;
	unsigned long prefix;

	if (!slash || (size_t)(slash - text) >= sizeof(ip))
		return -EINVAL;
	memcpy(ip, text, (size_t)(slash - text));
	prefix = strtoul(slash + 1, &end, 10);
	if (end == slash + 1 || (*end && end != comma) || !prefix || prefix > 32 ||
	    inet_pton(AF_INET, ip, a.ip) != 1 ||
	    (comma && inet_pton(AF_INET, comma + 1, a.gateway) != 1))
		return -EINVAL;
	a.prefix = (uint8_t)prefix;
	*ret = a;
	return 0;
}

static int open_socket(const char *interface, struct ifreq *ret)
{
	*ret = (struct ifreq){0};
	memcpy(ret->ifr_name, interface, MIN(strlen(interface), (size_t)IFNAMSIZ - 1));
	return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static int set_up(int fd, struct ifreq *req, bool up)
{
	if (ioctl(fd, SIOCGIFFLAGS, req))
		return -errno;
	req->ifr_flags = (short)(up ? req->ifr_flags | IFF_UP : req->ifr_flags & ~IFF_UP);
	return ioctl(fd, SIOCSIFFLAGS, req) ? -errno : 0;
}

int net_up(const char *interface)
{
	struct ifreq req;
	CLEANUP_FD int fd = open_socket(interface, &req);

	return fd < 0 ? -errno : set_up(fd, &req, true);
}

static int set_mac(int fd, struct ifreq *req, const uint8_t mac[6])
{
	req->ifr_hwaddr = (struct sockaddr){.sa_family = ARPHRD_ETHER};
	memcpy(req->ifr_hwaddr.sa_data, mac, 6);
	return ioctl(fd, SIOCSIFHWADDR, req) ? -errno : 0;
}

int net_set_mac(const char *interface, const uint8_t mac[6])
{
	struct ifreq req;
	CLEANUP_FD int fd = open_socket(interface, &req);
	int err, up_err;

	if (fd < 0)
		return -errno;
	/* An interface that goes down loses its routes: only where its driver insists. */
	err = set_mac(fd, &req, mac);
	if (err != -EBUSY)
		return err;
	if ((err = set_up(fd, &req, false)))
		return err;
	err = set_mac(fd, &req, mac);
	up_err = set_up(fd, &req, true);
	return err ? err : up_err;
}

static struct sockaddr in_address(const uint8_t ip[4])
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr ret;

	memcpy(&in.sin_addr, ip, 4);
	memcpy(&ret, &in, sizeof(ret));
	return ret;
}

int net_set_address(const char *interface, const struct net_address *a)
{
	static const uint8_t zero[4];
	struct ifreq req;
	CLEANUP_FD int fd = open_socket(interface, &req);
	uint32_t mask = htonl(UINT32_MAX << (32 - a->prefix));
	struct rtentry route = {
		.rt_dst = in_address(zero),
		.rt_gateway = in_address(a->gateway),
		.rt_genmask = in_address(zero),
		.rt_flags = RTF_UP | RTF_GATEWAY,
	};
	int err;

	if (fd < 0)
		return -errno;
	/* Others on the network learn at once where this address is now: the kernel tells them when
	 * the interface comes up, which a restored clone's is already, with a route of another. */
	text_file_write("/proc/sys/net/ipv4/conf/" NET_INTERFACE "/arp_notify", "1");
	if ((err = set_up(fd, &req, false)))
		return err;
	req.ifr_addr = in_address(a->ip);
	if (ioctl(fd, SIOCSIFADDR, &req))
		return -errno;
	req.ifr_netmask = in_address((const uint8_t *)&mask);
	if (ioctl(fd, SIOCSIFNETMASK, &req))
		return -errno;
	if ((err = set_up(fd, &req, true)))
		return err;
	if (memcmp(a->gateway, zero, sizeof(zero)) && ioctl(fd, SIOCADDRT, &route) &&
	    errno != EEXIST)
		return -errno;
	return 0;
}
