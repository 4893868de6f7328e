/* SPDX-License-Identifier: Apache-2.0 */
/* test_agent_net.c - the agent's network set-up, on a TAP in a network namespace of this test's own
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* After net/if.h, whose names it defines again otherwise. */
#include <linux/if_tun.h>

#include "common/cleanup.h"
#include "guest/agent/net.h"

/** A TAP named as the agent's interface, which exists as long as the descriptor. Return: -errno. */
static int make_interface(void)
{
	struct ifreq req = {.ifr_name = NET_INTERFACE, .ifr_flags = IFF_TAP | IFF_NO_PI};
	CLEANUP_FD int fd = -1;

	if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET))
		return -errno;
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &req))
		return -errno;
	return steal_fd(&fd);
}

/** Is there a default route by @gateway, as /proc/net/route writes it? */
static bool has_default_route(const char *gateway)
{
	CLEANUP_FILE FILE *f = fopen("/proc/thread-self/net/route", "re");
	char line[256], name[16], to[16], by[16];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%15s %15s %15s", name, to, by) == 3 &&
		    !strcmp(name, NET_INTERFACE) && !strcmp(to, "00000000") && !strcmp(by, gateway))
			return true;
	return false;
}

static void expect_mac(const uint8_t mac[6])
{
	struct ifreq req = {.ifr_name = NET_INTERFACE};
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(ioctl(fd, SIOCGIFHWADDR, &req), 0);
	assert_memory_equal(req.ifr_hwaddr.sa_data, mac, 6);
}

static bool is_up(void)
{
	struct ifreq req = {.ifr_name = NET_INTERFACE};
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &req), 0);
	return req.ifr_flags & IFF_UP;
}

/** A clone that is given a MAC and keeps its address keeps its way out, too. */
static void test_mac_leaves_the_route(void **state)
{
	static const uint8_t macs[2][6] = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}};
	CLEANUP_FD int tap = make_interface();
	struct net_address a;

	(void)state;
	if (tap < 0) {
		print_message("a TAP in a network namespace: %s\n", strerror(-tap));
		skip();
	}
	assert_int_equal(net_set_mac(NET_INTERFACE, macs[0]), 0);
	expect_mac(macs[0]);
	assert_false(is_up());
	assert_int_equal(net_parse(&a, "10.1.2.3/24,10.1.2.1"), 0);
	assert_int_equal(net_set_address(NET_INTERFACE, &a), 0);
	assert_true(is_up());
	assert_true(has_default_route("0102010A"));
	assert_int_equal(net_set_mac(NET_INTERFACE, macs[1]), 0);
	expect_mac(macs[1]);
	assert_true(is_up());
	assert_true(has_default_route("0102010A"));
	assert_int_equal(net_set_mac("nothing0", macs[0]), -ENODEV);
}

/** Is there an announcement of @ip (RFC 5227) among the frames that wait? */
static bool is_announced(int tap, const uint8_t ip[4])
{
	struct pollfd p = {.fd = tap, .events = POLLIN};
	uint8_t frame[2048];
	bool found = false;

	while (!found && poll(&p, 1, 1000) > 0)
		found = read(tap, frame, sizeof(frame)) >= 42 && frame[12] == 8 && frame[13] == 6 &&
			!memcmp(frame + 28, ip, 4) && !memcmp(frame + 38, ip, 4);
	return found;
}

/** Clones take addresses that others have had: whoever knows those by their MAC has to be told. */
static void test_address_is_announced(void **state)
{
	CLEANUP_FD int tap = make_interface();
	struct net_address a;

	(void)state;
	if (tap < 0) {
		print_message("a TAP in a network namespace: %s\n", strerror(-tap));
		skip();
	}
	assert_int_equal(net_parse(&a, "10.1.2.3/24,10.1.2.1"), 0);
	assert_int_equal(net_set_address(NET_INTERFACE, &a), 0);
	assert_true(is_announced(tap, a.ip));
	assert_int_equal(net_parse(&a, "10.1.3.4/24,10.1.3.1"), 0);
	assert_int_equal(net_set_address(NET_INTERFACE, &a), 0);
	assert_true(is_announced(tap, a.ip));
	assert_true(has_default_route("0103010A"));
	assert_false(has_default_route("0102010A"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mac_leaves_the_route),
		cmocka_unit_test(test_address_is_announced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
