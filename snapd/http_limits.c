/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_limits.c - how many clients there may be, and how long each may take
 *
 * Theory of operation
 *
 * A client holds a slot of its door's table as long as it is connected, so whoever is slow on
 * purpose could take them all. Each phase of a connection has its time therefore: one for the
 * header of a request; one for its body and one for the reading of a reply, which are longer the
 * more bytes have moved. How long we take ourselves does not count. Whose time is over is told so,
 * where a reply has not begun, and cut off.
 *
 * The clock is read when a phase begins and not when bytes move: they are counted, and when the
 * deadline is there it is moved to the time that they have earned. What a client has read of a
 * reply is known to TCP alone, which is asked then. Over a unix socket, where clients are let in by
 * name, a reply has the time that all of it may take.
 *
 *   OPENED ──header──> BODY ──all of it──> ANSWERING ──reply──> REPLY ──sent──> IDLE
 *     ^                                                └──stream──> STREAM ──sent──┘ │
 *     └──────────────────────────request line────────────────────────────────────────┘
 *   any but ANSWERING ──deadline──> CUT;  too many ──> REFUSED ──deadline──> CUT
 *
 * The table has SPARE entries more than are served: whoever comes then gets an answer, 503, before
 * it is cut off. When these are taken, too, no more are accepted until one is free, and new ones
 * wait in the kernel.
 */
#include <assert.h>
#include <errno.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/http_internal.h"

enum { IDLE_S = 120, REFUSED_S = 2 };

static const char *const phase_names[] = {
	[HTTP_FREE] = "free",		[HTTP_OPENED] = "header",   [HTTP_BODY] = "body",
	[HTTP_ANSWERING] = "answering", [HTTP_REPLY] = "reply",	    [HTTP_STREAM] = "stream",
	[HTTP_IDLE] = "idle",		[HTTP_REFUSED] = "refused", [HTTP_CUT] = "cut",
};
static_assert(ARRAY_SIZE(phase_names) == HTTP_PHASE_COUNT, "a name for each phase");

static uint64_t next_ns = UINT64_MAX;

int http_connections_init(struct http_door *door)
{
	unsigned count = http_params.connections_max + HTTP_CONNECTIONS_SPARE;

	door->table = calloc(count, sizeof(*door->table));
	if (!door->table)
		return -ENOMEM;
	for (unsigned i = count; i-- > 0;) {
		door->table[i].next_free = door->first_free;
		door->first_free = &door->table[i];
	}
	return 0;
}

/* ---- time ------------------------------------------------------------------------------------ */

/** The time that a phase may take, after its bytes so far. */
static uint64_t allowed_ns(const struct http_connection *c)
{
	uint64_t patience_ns = http_params.client_timeout_s * NSEC_PER_SEC;

	switch (c->phase) {
	case HTTP_OPENED:
		return patience_ns;
	case HTTP_REPLY:
	case HTTP_STREAM:
		if (c->door->tcp)
			return patience_ns;
		/* fall through */
	case HTTP_BODY:
		return patience_ns + c->bytes * NSEC_PER_SEC / http_params.client_rate_bytes;
	case HTTP_IDLE:
		return IDLE_S * NSEC_PER_SEC;
	case HTTP_REFUSED:
		return REFUSED_S * NSEC_PER_SEC;
	default:
		assert(!"a phase without a time");
		return 0;
	}
}

/** Has a client over TCP read at its rate since this was asked last? */
static bool reads(struct http_connection *c, uint64_t now_ns)
{
	uint64_t wanted = (now_ns - c->since_ns) / NSEC_PER_SEC * http_params.client_rate_bytes;
	struct tcp_info info = {0};
	socklen_t n = sizeof(info);
	uint64_t before = c->read_bytes;

	if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &n))
		return false;
	c->read_bytes = info.tcpi_bytes_acked;
	return before == UINT64_MAX || c->read_bytes - before >= wanted;
}

static void set_deadline(struct http_connection *c)
{
	c->deadline_ns = c->since_ns + allowed_ns(c);
	next_ns = MIN(next_ns, c->deadline_ns);
}

void http_connection_enter(struct http_connection *c, enum http_phase phase, uint64_t bytes)
{
	if (c->phase == HTTP_CUT || c->phase == HTTP_REFUSED)
		return;
	c->phase = phase;
	c->bytes = bytes;
	c->read_bytes = UINT64_MAX;
	c->deadline_ns = UINT64_MAX;
	if (phase == HTTP_ANSWERING)
		return;
	c->since_ns = clock_mono_ns();
	set_deadline(c);
}

/** Past libmicrohttpd, which can answer only whole requests: nothing of a reply was sent yet. */
static void tell(struct http_connection *c, const char *status, const char *type, const char *text)
{
	char reply[512];
	int n = snprintf(reply, sizeof(reply),
			 "HTTP/1.1 %s\r\nConnection: close\r\nContent-Type: application/json\r\n"
			 "x-amzn-ErrorType: %s\r\nContent-Length: %zu\r\n\r\n%s",
			 status, type, strlen(text), text);

	if (send(c->fd, reply, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return; /* it does not read that either */
}

static void cut(struct http_connection *c)
{
	log_debug("http: a client is too slow: %s", phase_names[c->phase]);
	if (c->phase == HTTP_OPENED || c->phase == HTTP_BODY)
		tell(c, "408 Request Timeout", "RequestTimeoutException",
		     "{\"Type\":\"User\",\"Message\":\"the request did not come in time\"}");
	shutdown(c->fd, SHUT_RDWR);
	c->phase = HTTP_CUT;
	c->deadline_ns = UINT64_MAX;
}

static void check(struct http_connection *c, void *arg)
{
	uint64_t now_ns = *(const uint64_t *)arg;

	if (c->phase == HTTP_FREE)
		return;
	if (c->deadline_ns <= now_ns && c->door->tcp &&
	    (c->phase == HTTP_REPLY || c->phase == HTTP_STREAM) && reads(c, now_ns))
		c->since_ns = now_ns;
	if (c->deadline_ns <= now_ns)
		set_deadline(c); /* bytes have moved since */
	if (c->deadline_ns <= now_ns)
		cut(c);
	next_ns = MIN(next_ns, c->deadline_ns);
}

void http_limits_check(uint64_t now_ns)
{
	if (now_ns < next_ns)
		return;
	next_ns = UINT64_MAX;
	http_for_each_connection(check, &now_ns);
}

uint64_t http_limits_next_ns(void)
{
	return next_ns;
}

/* ---- number ---------------------------------------------------------------------------------- */

/** Who somebody is when it comes to counting: an address, or a network of IPv6. */
static struct in6_addr identity(const struct sockaddr *peer)
{
	struct in6_addr id = IN6ADDR_ANY_INIT;

	if (peer && peer->sa_family == AF_INET) {
		memcpy(&id.s6_addr[12], &((const struct sockaddr_in *)(const void *)peer)->sin_addr,
		       4);
	} else if (peer && peer->sa_family == AF_INET6) {
		id = ((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr;
		memset(&id.s6_addr[8], 0, 8);
	}
	return id;
}

struct tally {
	const struct http_connection *who;
	unsigned count;
};

static void count_peer(struct http_connection *c, void *arg)
{
	struct tally *tally = arg;

	if (c->phase != HTTP_FREE && c->door->tcp &&
	    !memcmp(&c->peer, &tally->who->peer, sizeof(c->peer)))
		tally->count++;
}

static bool too_many_of_peer(const struct http_connection *c)
{
	struct tally tally = {.who = c};

	if (c->door->tcp)
		http_for_each_connection(count_peer, &tally);
	return tally.count > http_params.peer_connections_max;
}

static void refuse(struct http_connection *c)
{
	static bool told;

	if (!told)
		log_warn("http: too many connections: some are refused (--connections, "
			 "--connections-per-peer)");
	told = true;
	tell(c, "503 Service Unavailable", "ServiceException",
	     "{\"Type\":\"Service\",\"Message\":\"too many connections\"}");
	shutdown(c->fd, SHUT_WR);
	http_connection_enter(c, HTTP_REFUSED, 0);
}

struct http_connection *http_connection_open(struct http_door *door, int fd,
					     const struct sockaddr *peer)
{
	struct http_connection *c = door->first_free;

	if (!c)
		return NULL;
	door->first_free = c->next_free;
	door->used++;
	*c = (struct http_connection){.door = door, .fd = fd, .peer = identity(peer)};
	http_connection_enter(c, HTTP_OPENED, 0);
	if (door->used > http_params.connections_max || too_many_of_peer(c))
		refuse(c);
	return c;
}

void http_connection_close(struct http_connection *c)
{
	struct http_door *door = c->door;

	c->phase = HTTP_FREE;
	c->next_free = door->first_free;
	door->first_free = c;
	door->used--;
}
