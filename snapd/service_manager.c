/* SPDX-License-Identifier: Apache-2.0 */
/* service_manager.c - what snapd and systemd tell each other */
#include "snapd/service_manager.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"

enum { FDS_START = 3, MESSAGE_MAX = 1024, STATUS_MAX = 512, WAIT_S = 1 };

static struct {
	int notify_fd; /* connected; -1: nobody listens */
	bool stores_fds;
	uint64_t watchdog_ns; /* between two signs of life; 0: nobody waits for them */
	uint64_t next_ns;
	unsigned fd_count;
	struct service_fd *fds;
	char *names; /* what fds[].name point into */
} service = {.notify_fd = -1};

/* ---- what was passed ------------------------------------------------------------------------- */

/** A variable that is a number. Return: false when it is not there or none. */
static bool env_number(const char *name, unsigned long *ret)
{
	const char *text = getenv(name);
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*ret = strtoul(text, &end, 10);
	return !errno && !*end;
}

/** Is a variable meant for this process? One that a parent forgot to clear is not. */
static bool env_pid_is_ours(const char *name, bool if_absent)
{
	unsigned long pid = 0;

	return getenv(name) ? env_number(name, &pid) && pid == (unsigned long)getpid() : if_absent;
}

/** LISTEN_FDNAMES: names with a colon between them. */
static void name_fds(char *names)
{
	for (unsigned i = 0; i < service.fd_count && names; i++) {
		char *colon = strchr(names, ':');

		if (colon)
			*colon++ = '\0';
		service.fds[i].name = names;
		names = colon;
	}
}

static int take_passed_fds(void)
{
	const char *names = getenv("LISTEN_FDNAMES");
	unsigned long count;

	if (!env_pid_is_ours("LISTEN_PID", false) || !env_number("LISTEN_FDS", &count) || !count)
		return 0;
	if (count > SERVICE_FDS_MAX)
		return -E2BIG;
	service.fds = calloc(count, sizeof(*service.fds));
	service.names = strdup(names ? names : "");
	if (!service.fds || !service.names)
		return -ENOMEM;
	service.fd_count = (unsigned)count;
	for (unsigned i = 0; i < service.fd_count; i++) {
		int fd = FDS_START + (int)i;

		if (fcntl(fd, F_SETFD, FD_CLOEXEC))
			return -errno;
		service.fds[i] = (struct service_fd){"", fd};
	}
	name_fds(service.names);
	return 0;
}

unsigned service_manager_fds(const struct service_fd **ret)
{
	*ret = service.fds;
	return service.fd_count;
}

int service_manager_take_fd(const char *name)
{
	for (unsigned i = 0; i < service.fd_count; i++) {
		int fd = service.fds[i].fd;

		if (fd < 0 || strcmp(service.fds[i].name, name) != 0)
			continue;
		service.fds[i].fd = -1;
		return fd;
	}
	return -ENOENT;
}

void service_manager_close_rest(void)
{
	for (unsigned i = 0; i < service.fd_count; i++) {
		struct service_fd *f = &service.fds[i];

		if (f->fd < 0)
			continue;
		log_warn("service manager: descriptor '%s' is of no use: closed", f->name);
		close(f->fd);
		f->fd = -1;
		service_manager_drop_fds(f->name);
	}
}

/* ---- what is told ---------------------------------------------------------------------------- */

/** NOTIFY_SOCKET: a path, or @NAME in the abstract name space. */
static int connect_notify(const char *path)
{
	const struct timeval wait = {.tv_sec = WAIT_S};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t n = strlen(path);
	int fd;

	if ((*path != '/' && *path != '@') || n < 2)
		return -EAFNOSUPPORT;
	if (n >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, n);
	if (*path == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) ||
	    connect(fd, (struct sockaddr *)&address,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n))) {
		int err = errno;

		close(fd);
		return -err;
	}
	return fd;
}

/** @flags: MSG_DONTWAIT, or 0 to wait up to WAIT_S for room. */
static int notify(const char *text, int flags, const int *fds, unsigned count)
{
	char control[CMSG_SPACE(SERVICE_FDS_PER_MESSAGE * sizeof(int))];
	struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *header;

	if (service.notify_fd < 0)
		return -ENOTCONN;
	if (count) {
		memset(control, 0, sizeof(control));
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		header = CMSG_FIRSTHDR(&msg);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(header), fds, count * sizeof(int));
	}
	return sendmsg(service.notify_fd, &msg, MSG_NOSIGNAL | flags) < 0 ? -errno : 0;
}

static void tell(const char *text, int flags)
{
	int ret = notify(text, flags, NULL, 0);

	if (ret && ret != -ENOTCONN && ret != -EAGAIN)
		log_warn("service manager: %s", strerror(-ret));
}

/** @first: lines before STATUS=. What follows a line feed would be another assignment. */
static void tell_status(const char *first, int flags, const char *fmt, va_list ap)
{
	char status[STATUS_MAX], text[MESSAGE_MAX];

	vsnprintf(status, sizeof(status), fmt, ap);
	status[strcspn(status, "\n")] = '\0';
	snprintf(text, sizeof(text), "%sSTATUS=%s\n", first, status);
	tell(text, flags);
}

void service_manager_ready(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell_status("READY=1\n", 0, fmt, ap);
	va_end(ap);
}

void service_manager_status(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell_status("", MSG_DONTWAIT, fmt, ap);
	va_end(ap);
}

void service_manager_stopping(void)
{
	tell("STOPPING=1\nSTATUS=stopping\n", 0);
}

/* ---- the fd store ---------------------------------------------------------------------------- */

bool service_manager_stores_fds(void)
{
	return service.stores_fds;
}

static bool name_ok(const char *name)
{
	size_t n =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");

	return n >= 1 && n <= SERVICE_NAME_MAX && !name[n];
}

int service_manager_store_fds(const char *name, const int *fds, unsigned count)
{
	char text[SERVICE_NAME_MAX + 32];
	int ret = 0;

	if (!name_ok(name) || !count)
		return -EINVAL;
	/* FDPOLL=0: a descriptor that hangs up is still ours to judge. */
	snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s\n", name);
	for (unsigned done = 0; done < count && !ret; done += SERVICE_FDS_PER_MESSAGE)
		ret = notify(text, MSG_DONTWAIT, fds + done,
			     MIN(count - done, (unsigned)SERVICE_FDS_PER_MESSAGE));
	return ret;
}

int service_manager_drop_fds(const char *name)
{
	char text[SERVICE_NAME_MAX + 32];

	if (!name_ok(name))
		return -EINVAL;
	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s\n", name);
	return notify(text, MSG_DONTWAIT, NULL, 0);
}

int service_manager_barrier(int wait_ms)
{
	struct pollfd ours = {.fd = -1};
	int ends[2], ret;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	/* It closes its copy when it has come to this message. */
	ret = notify("BARRIER=1", 0, &ends[1], 1);
	close(ends[1]);
	ours.fd = ends[0];
	if (!ret && poll(&ours, 1, wait_ms) != 1)
		ret = -ETIMEDOUT;
	close(ends[0]);
	return ret;
}

/* ---- the watchdog ---------------------------------------------------------------------------- */

static uint64_t watchdog_from_env(void)
{
	unsigned long us;

	if (!env_number("WATCHDOG_USEC", &us) || !us || !env_pid_is_ours("WATCHDOG_PID", true))
		return 0;
	return us * 1000ull / 2; /* as sd_watchdog_enabled(3) advises */
}

void service_manager_turn(uint64_t now_ns)
{
	if (!service.watchdog_ns || now_ns < service.next_ns)
		return;
	service.next_ns = now_ns + service.watchdog_ns;
	/* If there is no room, the next sign of life comes in time. */
	tell("WATCHDOG=1\n", MSG_DONTWAIT);
}

uint64_t service_manager_next_ns(void)
{
	return service.watchdog_ns ? service.next_ns : UINT64_MAX;
}

/* ---- start ----------------------------------------------------------------------------------- */

static void clear_environment(void)
{
	/* Ours alone: what a vmm inherited, it could misread. */
	static const char *const names[] = {"LISTEN_PID",    "LISTEN_FDS",    "LISTEN_FDNAMES",
					    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
					    "FDSTORE"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
}

int service_manager_init(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	unsigned long store;
	int ret = take_passed_fds();

	if (path && *path) {
		service.notify_fd = connect_notify(path);
		if (service.notify_fd < 0)
			log_warn("service manager: NOTIFY_SOCKET=%s: %s", path,
				 strerror(-service.notify_fd));
	}
	if (service.notify_fd >= 0) {
		service.watchdog_ns = watchdog_from_env();
		/* systemd says so from version 254 on; before, the unit's setting has to be
		 * trusted. */
		service.stores_fds = !getenv("FDSTORE") || (env_number("FDSTORE", &store) && store);
	}
	clear_environment();
	return ret;
}

void service_manager_finish(void)
{
	if (service.notify_fd >= 0)
		close(service.notify_fd);
	for (unsigned i = 0; i < service.fd_count; i++)
		if (service.fds[i].fd >= 0)
			close(service.fds[i].fd);
	free(service.fds);
	free(service.names);
	memset(&service, 0, sizeof(service));
	service.notify_fd = -1;
}
