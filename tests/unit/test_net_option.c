/* SPDX-License-Identifier: Apache-2.0 */
/* test_net_option.c - what --net may say */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/kernel/net_option.h"

static void test_good(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0, 0xaa, 0xBB, 1}, ip[4] = {10, 0, 0, 2},
			     gateway[4] = {10, 0, 0, 1}, none[4];
	struct net_option o;

	(void)state;
	assert_int_equal(net_option_parse("tap0", &o), 0);
	assert_string_equal(o.tap, "tap0");
	assert_int_equal(o.mac_kind, NET_MAC_DEFAULT);
	assert_false(o.has_ip);
	assert_int_equal(net_option_parse("tap0,mac=keep", &o), 0);
	assert_int_equal(o.mac_kind, NET_MAC_KEEP);
	assert_int_equal(net_option_parse("tap0,mac=random,ip=10.0.0.2/32", &o), 0);
	assert_int_equal(o.mac_kind, NET_MAC_RANDOM);
	assert_int_equal(o.prefix, 32);
	assert_memory_equal(o.gateway, none, 4);
	/* In any order. */
	assert_int_equal(net_option_parse("t,gw=10.0.0.1,ip=10.0.0.2/24,mac=02:00:00:aa:BB:01", &o),
			 0);
	assert_int_equal(o.mac_kind, NET_MAC_GIVEN);
	assert_memory_equal(o.mac, mac, 6);
	assert_true(o.has_ip);
	assert_memory_equal(o.ip, ip, 4);
	assert_memory_equal(o.gateway, gateway, 4);
	assert_int_equal(o.prefix, 24);
}

static void test_bad(void **state)
{
	static const char *const texts[] = {
		"",
		",mac=keep",
		"a-name-that-is-too-long",
		"../tap0",
		"tap0,mac",
		"tap0,mac=",
		"tap0,mac=Keep",
		"tap0,mac=02:00:00:00:00",
		"tap0,mac=02:00:00:00:00:01:02",
		"tap0,mac=02:00:00:00:00:0g",
		"tap0,mac=2:0:0:0:0:1:::::::",
		"tap0,mac=01:00:00:00:00:01",
		"tap0,mac=00:00:00:00:00:00",
		"tap0,ip=10.0.0.2",
		"tap0,ip=10.0.0.2/",
		"tap0,ip=10.0.0.2/0",
		"tap0,ip=10.0.0.2/33",
		"tap0,ip=10.0.0.2/24x",
		"tap0,ip=10.0.0/24",
		"tap0,ip=0.0.0.0/24",
		"tap0,ip=/24",
		"tap0,gw=10.0.0.1",
		"tap0,ip=10.0.0.2/24,gw=10.0.0",
		"tap0,ip=10.0.0.2/24,gw=0.0.0.0",
		"tap0,speed=10",
	};
	struct net_option o = {.tap = "untouched"};
	char longest[300];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (net_option_parse(texts[i], &o) != -EINVAL)
			fail_msg("accepted: %s", texts[i]);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(net_option_parse(longest, &o), -EINVAL);
	assert_string_equal(o.tap, "untouched");
}

static void test_random_mac(void **state)
{
	uint8_t one[6], two[6];

	(void)state;
	for (int i = 0; i < 64; i++) {
		assert_int_equal(net_option_random_mac(one), 0);
		assert_int_equal(one[0] & 3, 2); /* local, and not multicast */
	}
	assert_int_equal(net_option_random_mac(two), 0);
	assert_memory_not_equal(one, two, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_random_mac),
	};

	log_init("test_net_option", NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
