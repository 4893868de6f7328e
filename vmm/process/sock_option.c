/* SPDX-License-Identifier: Apache-2.0 */
/* sock_option.c - getsockopt and setsockopt: a few mean something, the rest is remembered */
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/sock_internal.h"
#include "vmm/process/task.h"
#include "vmm/process/timer.h"

/** What a socket says that was never asked for something else. */
static const struct sock_option defaults[] = {
	{SOL_SOCKET, SO_SNDBUF, SOCK_MESSAGE_MAX_BYTES},
	{SOL_SOCKET, SO_RCVBUF, SOCK_MESSAGE_MAX_BYTES},
	{SOL_SOCKET, SO_RCVLOWAT, 1},
	{SOL_SOCKET, SO_SNDLOWAT, 1},
	{IPPROTO_TCP, TCP_MAXSEG, 65483},
	{IPPROTO_TCP, TCP_KEEPIDLE, 7200},
	{IPPROTO_TCP, TCP_KEEPINTVL, 75},
	{IPPROTO_TCP, TCP_KEEPCNT, 9},
	{IPPROTO_TCP, TCP_SYNCNT, 6},
	{IPPROTO_IP, IP_TTL, 64},
	{IPPROTO_IP, IP_MULTICAST_TTL, 1},
	{IPPROTO_IP, IP_MULTICAST_LOOP, 1},
	{IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64},
};

static bool level_is_known(const struct sock *s, int level)
{
	switch (level) {
	case SOL_SOCKET:
		return true;
	case IPPROTO_TCP:
		return s->domain != AF_UNIX && sock_is_stream(s);
	case IPPROTO_UDP:
		return s->domain != AF_UNIX && !sock_is_stream(s);
	case IPPROTO_IP:
		return s->domain != AF_UNIX;
	case IPPROTO_IPV6:
		return s->domain == AF_INET6;
	}
	return false;
}

static int remember(struct sock *s, int level, int name, int value)
{
	struct sock_option *o = s->options;

	for (; o < s->options + s->option_count; o++)
		if (o->level == level && o->name == name)
			break;
	if (o == s->options + SOCK_OPTIONS_MAX)
		return -ENOBUFS;
	if (o == s->options + s->option_count)
		s->option_count++;
	*o = (struct sock_option){level, name, value};
	return 0;
}

static int recall(const struct sock *s, int level, int name)
{
	for (unsigned i = 0; i < s->option_count; i++)
		if (s->options[i].level == level && s->options[i].name == name)
			return s->options[i].value;
	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++)
		if (defaults[i].level == level && defaults[i].name == name)
			return defaults[i].value;
	return 0;
}

static int64_t set_timeout(struct proc *p, uint64_t addr, uint64_t bytes, uint64_t *ret_ns)
{
	struct guest_timespec tv;

	if (bytes < sizeof(tv))
		return -EINVAL;
	if (mm_copy_in(p, &tv, addr, sizeof(tv)))
		return -EFAULT;
	if (tv.frac < 0 || tv.frac >= 1000000)
		return -EDOM;
	tv.frac *= 1000;
	if (tv.sec < 0 || (!tv.sec && !tv.frac))
		*ret_ns = tv.sec < 0 ? 0 : WAIT_FOREVER;
	else if (timespec_to_ns(&tv, ret_ns))
		return -EDOM;
	return 0;
}

int64_t sock_option_set(struct proc *p, struct sock *s, const uint64_t a[6])
{
	int level = (int)a[1], name = (int)a[2];
	int32_t value = 0;

	if (!level_is_known(s, level))
		return -ENOPROTOOPT;
	if (level == SOL_SOCKET && name == SO_RCVTIMEO)
		return set_timeout(p, a[3], a[4], &s->read_timeout_ns);
	if (level == SOL_SOCKET && name == SO_SNDTIMEO)
		return set_timeout(p, a[3], a[4], &s->write_timeout_ns);
	if ((int32_t)a[4] < 1)
		return -EINVAL;
	if (mm_copy_in(p, &value, a[3], MIN(a[4], sizeof(value))))
		return -EFAULT;
	if (level == SOL_SOCKET) {
		switch (name) {
		case SO_ERROR:
		case SO_TYPE:
		case SO_DOMAIN:
		case SO_PROTOCOL:
		case SO_ACCEPTCONN:
			return -ENOPROTOOPT;
		case SO_SNDBUF:
		case SO_RCVBUF:
			/* Linux doubles it for its own bookkeeping, and says so. */
			value = MIN(MAX(value, 1024), SOCK_MESSAGE_MAX_BYTES) * 2;
			break;
		case SO_BINDTODEVICE:
			return -EPERM;
		}
	}
	return remember(s, level, name, value);
}

static int64_t put_value(struct proc *p, const void *value, size_t n, uint64_t addr,
			 uint64_t len_addr)
{
	int32_t room;

	if (mm_copy_in(p, &room, len_addr, sizeof(room)))
		return -EFAULT;
	if (room < 0)
		return -EINVAL;
	room = MIN(room, (int32_t)n);
	if (mm_copy_out(p, addr, value, (size_t)room) ||
	    mm_copy_out(p, len_addr, &room, sizeof(room)))
		return -EFAULT;
	return 0;
}

static struct guest_timespec timeout_value(uint64_t ns)
{
	struct guest_timespec tv = ns_to_timespec(ns == WAIT_FOREVER ? 0 : ns);

	tv.frac /= 1000;
	return tv;
}

static int64_t get_socket_level(struct proc *p, struct sock *s, const uint64_t a[6])
{
	const struct guest_timespec read_tv = timeout_value(s->read_timeout_ns);
	const struct guest_timespec write_tv = timeout_value(s->write_timeout_ns);
	const struct ucred cred = {.pid = GUEST_PID};
	struct linger linger = {0};
	int32_t value;

	switch ((int)a[2]) {
	case SO_ERROR:
		value = s->error;
		s->error = 0;
		break;
	case SO_TYPE:
		value = s->type;
		break;
	case SO_DOMAIN:
		value = s->domain;
		break;
	case SO_PROTOCOL:
		value = s->protocol;
		break;
	case SO_ACCEPTCONN:
		value = s->state == SOCK_LISTENING;
		break;
	case SO_RCVTIMEO:
		return put_value(p, &read_tv, sizeof(read_tv), a[3], a[4]);
	case SO_SNDTIMEO:
		return put_value(p, &write_tv, sizeof(write_tv), a[3], a[4]);
	case SO_PEERCRED:
		return put_value(p, &cred, sizeof(cred), a[3], a[4]);
	case SO_LINGER:
		linger.l_onoff = recall(s, SOL_SOCKET, SO_LINGER);
		return put_value(p, &linger, sizeof(linger), a[3], a[4]);
	default:
		value = recall(s, SOL_SOCKET, (int)a[2]);
	}
	return put_value(p, &value, sizeof(value), a[3], a[4]);
}

int64_t sock_option_get(struct proc *p, struct sock *s, const uint64_t a[6])
{
	static const struct tcp_info no_info = {.tcpi_state = TCP_ESTABLISHED};
	int level = (int)a[1], name = (int)a[2];
	int32_t value;

	if (!level_is_known(s, level))
		return -EOPNOTSUPP;
	if (level == SOL_SOCKET)
		return get_socket_level(p, s, a);
	if (level == IPPROTO_TCP && name == TCP_INFO)
		return put_value(p, &no_info, sizeof(no_info), a[3], a[4]);
	value = recall(s, level, name);
	return put_value(p, &value, sizeof(value), a[3], a[4]);
}
