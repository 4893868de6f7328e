/* SPDX-License-Identifier: Apache-2.0 */
/* http_listener.c - the doors of the HTTP server: sockets, and libmicrohttpd at each in the loop */
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/event_loop.h"
#include "snapd/http_internal.h"

/* A unix socket's client needs no signature; a signature and its headers have some 1 KiB. */
enum { BACKLOG = 512, UNIX_MEMORY = 16 << 10, TCP_MEMORY = 24 << 10, HOLD_US = 300 };

struct http_params http_params;

static struct {
	struct http_door doors[HTTP_DOORS_MAX];
	unsigned count;
} http;

void http_for_each_connection(void (*visit)(struct http_connection *c, void *arg), void *arg)
{
	unsigned each = http_params.connections_max + HTTP_CONNECTIONS_SPARE;

	for (unsigned i = 0; i < http.count; i++)
		for (unsigned j = 0; http.doors[i].used && j < each; j++)
			visit(&http.doors[i].table[j], arg);
}

/* ---- libmicrohttpd --------------------------------------------------------------------------- */

static void on_mhd_error(void *cls, const char *fmt, va_list ap)
{
	char text[256];
	int n = vsnprintf(text, sizeof(text), fmt, ap);

	(void)cls;
	while (n > 0 && n < (int)sizeof(text) && text[n - 1] == '\n')
		text[--n] = '\0';
	log_debug("http: %s", text);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
			  enum MHD_ConnectionNotificationCode what)
{
	const union MHD_ConnectionInfo *fd, *peer;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (*socket_context)
			http_connection_close(*socket_context);
		*socket_context = NULL;
		return;
	}
	fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	peer = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	*socket_context =
		http_connection_open(cls, fd->connect_fd, peer ? peer->client_addr : NULL);
}

static int start_door(struct http_door *door, int fd)
{
	const union MHD_DaemonInfo *info;
	size_t memory = door->tcp ? TCP_MEMORY : UNIX_MEMORY;
	/* Only a signature and a function URL need the path as it was on the wire. */
	struct MHD_OptionItem wire[] = {
		{MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)http_on_uri, door},
		{MHD_OPTION_END, 0, NULL},
	};

	if (http_connections_init(door))
		return -ENOMEM;
	door->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
		http_on_request, door, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_error, NULL,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, NULL,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, door, MHD_OPTION_CONNECTION_LIMIT,
		http_params.connections_max + HTTP_CONNECTIONS_SPARE,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory, MHD_OPTION_CONNECTION_TIMEOUT, 0u,
		MHD_OPTION_ARRAY, door->tcp ? wire : wire + 1, MHD_OPTION_END);
	info = door->daemon ? MHD_get_daemon_info(door->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (!info)
		return -ENOMEM;
	door->epoll_fd = info->epoll_fd;
	door->due = true;
	return 0;
}

/** A door for a listening socket, which is closed when there is none. */
static int open_door(int fd, const struct http_door *as)
{
	struct http_door *door = &http.doors[http.count];
	int ret = -EMFILE;

	if (http.count < HTTP_DOORS_MAX) {
		*door = *as;
		door->left_fd = -1;
		ret = start_door(door, fd);
	}
	if (ret)
		close(fd);
	else
		http.count++;
	return ret;
}

/* ---- sockets --------------------------------------------------------------------------------- */

/** Is somebody there? A socket file without a listener is what a killed snapd leaves. */
static bool somebody_listens(const struct sockaddr_un *address)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && !connect(fd, (const struct sockaddr *)address, sizeof(*address));
}

/* ---- from another snapd ---------------------------------------------------------------------- */

static struct {
	int fds[HTTP_DOORS_MAX];
	unsigned count;
} inherited;

void http_inherit(int fd)
{
	if (inherited.count == HTTP_DOORS_MAX)
		close(fd);
	else
		inherited.fds[inherited.count++] = fd;
}

void http_inherit_end(void)
{
	while (inherited.count)
		close(inherited.fds[--inherited.count]);
}

/** The one that listens at this address. Return: -1: none does. */
static int take_inherited(const void *address, socklen_t bytes)
{
	for (unsigned i = 0; i < inherited.count; i++) {
		struct sockaddr_storage bound = {0};
		socklen_t n = sizeof(bound);
		int fd = inherited.fds[i];

		if (getsockname(fd, (struct sockaddr *)&bound, &n) || n < bytes ||
		    memcmp(&bound, address, bytes) != 0)
			continue;
		inherited.fds[i] = inherited.fds[--inherited.count];
		return fd;
	}
	return -1;
}

static int make_unix_socket(struct sockaddr_un *address, const char *path, mode_t mode, gid_t group)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t mask;
	int ret, left;

	if (fd < 0)
		return -errno;
	address->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	memcpy(address->sun_path, path, strlen(path) + 1);
	left = take_inherited(
		address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1));
	if (left >= 0)
		return left;
	if (somebody_listens(address))
		return -EADDRINUSE;
	unlink(path);
	/* Closed to all until its group and its mode are right. */
	mask = umask(0777);
	ret = bind(fd, (struct sockaddr *)address, sizeof(*address));
	umask(mask);
	if (ret || chown(path, (uid_t)-1, group) || chmod(path, mode) || listen(fd, BACKLOG))
		return -errno;
	return steal_fd(&fd);
}

int http_listen_unix(const char *path, mode_t mode, gid_t group, http_router router)
{
	struct http_door door = {.router = router};
	int fd = make_unix_socket(&door.unix_address, path, mode, group);

	return fd < 0 ? fd : open_door(fd, &door);
}

int http_listen_fd(int fd, http_router router)
{
	const struct http_door door = {.router = router};

	return open_door(fd, &door);
}

static unsigned port_of(const struct sockaddr_storage *a)
{
	struct sockaddr_in6 in6;
	struct sockaddr_in in4;

	if (a->ss_family == AF_INET6) {
		memcpy(&in6, a, sizeof(in6));
		return ntohs(in6.sin6_port);
	}
	memcpy(&in4, a, sizeof(in4));
	return ntohs(in4.sin_port);
}

static int make_tcp_socket(const struct addrinfo *a, unsigned *ret_port)
{
	int left = take_inherited(a->ai_addr, a->ai_addrlen);
	CLEANUP_FD int fd =
		left >= 0 ? left
			  : socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_storage bound = {0};
	socklen_t n = sizeof(bound);
	int one = 1;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* [::]:PORT and 0.0.0.0:PORT may be given both. */
	if (a->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if ((left < 0 && (bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, BACKLOG))) ||
	    getsockname(fd, (struct sockaddr *)&bound, &n))
		return -errno;
	*ret_port = port_of(&bound);
	return steal_fd(&fd);
}

/** Split HOST:PORT or [HOST]:PORT, in place. Return: false when it is neither. */
static bool split_address(char *text, const char **ret_host, const char **ret_port)
{
	char *colon = strrchr(text, ':');

	if (!colon || colon == text || !colon[1] || strlen(colon + 1) > 5 ||
	    strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return false;
	*colon = '\0';
	*ret_host = text;
	*ret_port = colon + 1;
	if (*text == '[' && colon[-1] == ']') {
		colon[-1] = '\0';
		(*ret_host)++;
	} else if (strchr(text, ':')) {
		return false; /* of IPv6, and nobody knows where its port begins */
	}
	return **ret_host;
}

int http_listen_tcp(const char *address, bool url, http_router router, unsigned *ret_port)
{
	const struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
	struct http_door door = {.router = router, .tcp = true, .url = url};
	CLEANUP_FREE char *text = strdup(address);
	struct addrinfo *list = NULL;
	const char *host, *port;
	int ret = 0;

	if (!text)
		return -ENOMEM;
	if (!split_address(text, &host, &port))
		return -EINVAL;
	if (getaddrinfo(host, port, &hints, &list))
		return -EADDRNOTAVAIL;
	for (const struct addrinfo *a = list; a && !ret; a = a->ai_next) {
		int fd = make_tcp_socket(a, &door.port);

		ret = fd < 0 ? fd : open_door(fd, &door);
	}
	freeaddrinfo(list);
	if (ret_port)
		*ret_port = door.port;
	return ret;
}

/* ---- in the loop ----------------------------------------------------------------------------- */

static void on_epoll(const struct loop_event *event)
{
	http.doors[event->slot].due = true;
	http.doors[event->slot].armed = false;
}

void http_init(const struct http_params *params)
{
	http_params = *params;
	event_loop_handle(LOOP_HTTP, on_epoll);
}

void http_hold(struct http_request *r)
{
	r->door->held_ns = clock_mono_ns() + HOLD_US * 1000;
}

/** How long it is still held. Replies do not wait for that. */
static uint64_t held_ns(struct http_door *door)
{
	uint64_t now = door->held_ns && !door->answers ? clock_mono_ns() : 0;

	if (now && now < door->held_ns)
		return door->held_ns - now;
	door->held_ns = 0;
	return 0;
}

void http_turn(void)
{
	for (unsigned i = 0; i < http.count; i++) {
		struct http_door *door = &http.doors[i];
		bool full;

		if (!door->due || held_ns(door))
			continue;
		door->answers = false;
		/* A full libmicrohttpd listens no more, and again only when it is run once more. */
		full = !door->first_free;
		MHD_run(door->daemon);
		/* A request may have brought the answer to another. */
		door->due = door->answers || (full && door->first_free);
		/* One event at a time: when connections are still waiting, this fires at once. */
		if (!door->armed)
			event_loop_poll_once(LOOP_HTTP, i, 0, door->epoll_fd);
		door->armed = true;
	}
	if (http_limits_next_ns() != UINT64_MAX)
		http_limits_check(clock_mono_ns());
}

uint64_t http_wait_ns(void)
{
	uint64_t now, held, wait = UINT64_MAX, next = http_limits_next_ns();
	MHD_UNSIGNED_LONG_LONG ms;

	for (unsigned i = 0; i < http.count; i++) {
		struct http_door *door = &http.doors[i];

		/* Times are ours to watch: it only says whether it has something to do at once. */
		if (!door->due && MHD_get_timeout(door->daemon, &ms) == MHD_YES && !ms)
			door->due = true;
		held = door->due ? held_ns(door) : UINT64_MAX;
		if (!held)
			return 0;
		wait = MIN(wait, held);
	}
	now = next == UINT64_MAX ? 0 : clock_mono_ns();
	if (next != UINT64_MAX)
		wait = MIN(wait, next > now ? next - now : 0);
	return wait;
}

unsigned http_leave(int *ret_fds, unsigned max)
{
	unsigned n = 0;

	for (unsigned i = 0; i < http.count && n < max; i++) {
		struct http_door *door = &http.doors[i];

		/* libmicrohttpd lets go of it. */
		door->left_fd = MHD_quiesce_daemon(door->daemon);
		if (door->left_fd >= 0)
			ret_fds[n++] = door->left_fd;
		door->due = true;
	}
	return n;
}

int http_resume(void)
{
	int ret = 0;

	/* One that has stopped accepting cannot begin again: a new one takes its place. */
	for (unsigned i = 0, count = http.count; i < count; i++) {
		struct http_door *door = &http.doors[i];
		struct http_door again = {.router = door->router,
					  .tcp = door->tcp,
					  .url = door->url,
					  .port = door->port,
					  .unix_address = door->unix_address};
		int fd = steal_fd(&door->left_fd);

		door->unix_address.sun_path[0] = '\0';
		if (fd >= 0)
			ret = open_door(fd, &again) ? -EMFILE : ret;
	}
	return ret;
}

void http_let_go(void)
{
	for (unsigned i = 0; i < http.count; i++) {
		cleanup_fd(&http.doors[i].left_fd);
		http.doors[i].left_fd = -1;
		http.doors[i].unix_address.sun_path[0] = '\0';
	}
}

void http_quiesce(void)
{
	for (unsigned i = 0; i < http.count; i++) {
		struct http_door *door = &http.doors[i];
		int fd = MHD_quiesce_daemon(door->daemon);

		if (fd >= 0) /* libmicrohttpd lets go of it */
			close(fd);
		door->due = true;
	}
}

unsigned http_waiting(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < http.count; i++)
		n += http.doors[i].suspended;
	return n;
}

void http_finish(void)
{
	for (unsigned i = 0; i < http.count; i++) {
		struct http_door *door = &http.doors[i];

		MHD_run(door->daemon);
		/* A connection that is suspended cannot be closed; the end of the process does it.
		 */
		if (!door->suspended)
			MHD_stop_daemon(door->daemon);
		if (*door->unix_address.sun_path)
			unlink(door->unix_address.sun_path);
		if (!door->suspended)
			free(door->table);
	}
	http.count = 0;
}
