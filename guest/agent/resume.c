/* SPDX-License-Identifier: Apache-2.0 */
/* resume.c - after a restore: a clock that is right, random numbers and names of one's own */
#include "guest/agent/resume.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "guest/agent/net.h"

static int set_clock(uint64_t wall_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(wall_ns / NSEC_PER_SEC),
		.tv_nsec = (long)(wall_ns % NSEC_PER_SEC),
	};

	return clock_settime(CLOCK_REALTIME, &ts) ? -errno : 0;
}

/** Clones of one snapshot must not share their random numbers. */
static int add_entropy(const uint8_t random[32])
{
	CLEANUP_FD int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	struct {
		struct rand_pool_info info;
		uint8_t bytes[32];
	} pool = {.info = {.entropy_count = 256, .buf_size = 32}};

	memcpy(pool.info.buf, random, sizeof(pool.bytes));
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) || ioctl(fd, RNDRESEEDCRNG))
		return -errno;
	return 0;
}

static int set_network(const struct agent_resumed *msg)
{
	struct net_address a = {.prefix = msg->prefix};
	int err = 0;

	if (msg->flags & AGENT_RESUMED_MAC)
		err = net_set_mac(NET_INTERFACE, msg->mac);
	if (!err && (msg->flags & AGENT_RESUMED_IP)) {
		memcpy(a.ip, msg->ip, sizeof(a.ip));
		memcpy(a.gateway, msg->gateway, sizeof(a.gateway));
		err = net_set_address(NET_INTERFACE, &a);
	}
	return err;
}

static bool is_valid(const struct agent_resumed *msg)
{
	uint32_t known = AGENT_RESUMED_HOSTNAME | AGENT_RESUMED_MAC | AGENT_RESUMED_IP;

	return !(msg->flags & ~known) && !msg->reserved && !msg->reserved0 &&
	       memchr(msg->hostname, 0, sizeof(msg->hostname)) &&
	       (!(msg->flags & AGENT_RESUMED_IP) || (msg->prefix >= 1 && msg->prefix <= 32));
}

int resume(const struct agent_resumed *msg, struct agent_resumed_done *ret)
{
	int errors[4] = {0};

	if (!is_valid(msg))
		return -EBADMSG;
	if (msg->wall_ns)
		errors[0] = set_clock(msg->wall_ns);
	errors[1] = add_entropy(msg->random);
	if (msg->flags & AGENT_RESUMED_HOSTNAME &&
	    sethostname(msg->hostname, strlen(msg->hostname)))
		errors[2] = -errno;
	errors[3] = set_network(msg);
	for (int i = 0; i < 4 && !ret->error; i++)
		ret->error = errors[i];
	ret->wall_ns = clock_real_ns();
	return 0;
}
