/* SPDX-License-Identifier: Apache-2.0 */
/* net_option.c - what --net says: a TAP device, and who the guest is on its network */
#include "vmm/kernel/net_option.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/log.h"
#include "common/util.h"

enum { TEXT_BYTES = 160, MAC_MULTICAST = 1, MAC_LOCAL = 2 };

static const uint8_t no_address[4];

/** Six bytes in hexadecimal, with colons between them. */
static bool read_mac(const char *text, uint8_t ret[6])
{
	for (int i = 0; i < 6; i++, text += 3) {
		char byte[3] = {0};

		memcpy(byte, text, strnlen(text, 2));
		if (!isxdigit((unsigned char)byte[0]) || !isxdigit((unsigned char)byte[1]) ||
		    text[2] != (i < 5 ? ':' : '\0'))
			return false;
		ret[i] = (uint8_t)strtoul(byte, NULL, 16);
	}
	return true;
}

static int parse_mac(const char *value, struct net_option *ret)
{
	static const uint8_t none[6];

	if (!strcmp(value, "keep") || !strcmp(value, "random")) {
		ret->mac_kind = *value == 'k' ? NET_MAC_KEEP : NET_MAC_RANDOM;
		return 0;
	}
	if (!read_mac(value, ret->mac)) {
		log_error("--net: mac=%s: give keep, random, or six bytes as 02:00:00:00:00:01",
			  value);
		return -EINVAL;
	}
	if (!memcmp(ret->mac, none, sizeof(none)) || (ret->mac[0] & MAC_MULTICAST)) {
		log_error("--net: mac=%s: a card has neither a multicast address nor none", value);
		return -EINVAL;
	}
	ret->mac_kind = NET_MAC_GIVEN;
	return 0;
}

static int parse_ip(char *value, struct net_option *ret)
{
	char *slash = strchr(value, '/'), *end = NULL;
	unsigned long prefix = slash ? strtoul(slash + 1, &end, 10) : 0;

	if (slash)
		*slash = '\0';
	ret->has_ip = slash && slash[1] && !*end && prefix >= 1 && prefix <= 32 &&
		      inet_pton(AF_INET, value, ret->ip) == 1 &&
		      memcmp(ret->ip, no_address, sizeof(no_address));
	ret->prefix = (uint8_t)prefix;
	if (ret->has_ip)
		return 0;
	if (slash)
		*slash = '/';
	log_error("--net: ip=%s: give an address and the bits of its network as 10.0.0.2/24",
		  value);
	return -EINVAL;
}

static int parse_gateway(const char *value, struct net_option *ret)
{
	if (inet_pton(AF_INET, value, ret->gateway) == 1 &&
	    memcmp(ret->gateway, no_address, sizeof(no_address)))
		return 0;
	log_error("--net: gw=%s: give an address as 10.0.0.1", value);
	return -EINVAL;
}

static int parse_setting(char *word, struct net_option *ret)
{
	if (!strncmp(word, "mac=", 4))
		return parse_mac(word + 4, ret);
	if (!strncmp(word, "ip=", 3))
		return parse_ip(word + 3, ret);
	if (!strncmp(word, "gw=", 3))
		return parse_gateway(word + 3, ret);
	log_error("--net: %s: a TAP device is followed by mac=, ip= or gw=", word);
	return -EINVAL;
}

int net_option_parse(const char *text, struct net_option *ret)
{
	struct net_option o = {.mac_kind = NET_MAC_DEFAULT};
	char copy[TEXT_BYTES], *save = NULL, *word;

	if ((size_t)snprintf(copy, sizeof(copy), "%s", text) >= sizeof(copy)) {
		log_error("--net: longer than %d bytes: give TAP[,mac=MAC][,ip=IP/PREFIX[,gw=IP]]",
			  TEXT_BYTES - 1);
		return -EINVAL;
	}
	word = strtok_r(copy, ",", &save);
	if (*text == ',' || !word || strlen(word) >= sizeof(o.tap) || strchr(word, '/')) {
		log_error("--net %s: its first word is no name of a TAP device", text);
		return -EINVAL;
	}
	memcpy(o.tap, word, strlen(word));
	while ((word = strtok_r(NULL, ",", &save))) {
		int ret_setting = parse_setting(word, &o);

		if (ret_setting)
			return ret_setting;
	}
	if (!o.has_ip && memcmp(o.gateway, no_address, sizeof(no_address))) {
		log_error("--net %s: gw= needs ip=: a gateway is reached from an address", text);
		return -EINVAL;
	}
	*ret = o;
	return 0;
}

int net_option_random_mac(uint8_t ret[6])
{
	if (getrandom(ret, 6, 0) != 6)
		return -EIO;
	ret[0] = (uint8_t)((ret[0] & ~MAC_MULTICAST) | MAC_LOCAL);
	return 0;
}
