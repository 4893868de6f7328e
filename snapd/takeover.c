/* SPDX-License-Identifier: Apache-2.0 */
/*
 * takeover.c - a snapd takes over from another one that runs, for an upgrade without a pause
 *
 * Theory of operation
 *
 *   old                                              new (snapd --take-over)
 *    |  listens at STATE/handover.sock                | has looked at its host and options
 *    | <----------------------------------- request --|
 *    |  waits for a moment in which nothing short is  | waits
 *    |  under way (publishing, jobs, reads), stops    |
 *    |  accepting, closes what new will open          |
 *    |-- name and descriptors, one message each ----> | keeps them
 *    |-- end ---------------------------------------> | starts as always, and takes them up where
 *    |                                                | it finds them (inherit.c)
 *    | <-------------------------------------- done --| serves
 *    |  forgets what it has given away, answers what  |
 *    |  it was asked before                           |
 *    |-- quiet -------------------------------------> | templates are its alone
 *    |  guards                                        |
 *
 * What goes over at once: listening sockets, with the connections that wait in them; shells and
 * idle instances; templates; the locks of the store and of the cgroups. A busy instance stays with
 * the snapd whose client waits for it, for an HTTP connection cannot move, and ends with its
 * answer: the next one finds the template resident. Until `quiet` both fill shared templates, which
 * is safe (template.c); nobody evicts from them.
 *
 * Jailed processes die with the process that made them, which the kernel sees to and no guest can
 * prevent. So the old snapd stays, as their guard, until they have ended: it holds nothing and
 * waits for their ends, or for that of the connection to its heir, which means that the heir is
 * dead: then it ends, and they do. An heir passes the connections of earlier guards on to its own
 * heir.
 *
 * Where a service manager keeps the descriptors, it restarts snapd instead (handover.c).
 *
 * Invariants
 *  1. Until `done` the old snapd can go on: it has closed nothing that it cannot open again.
 *  2. An instance is either given away or served here after `done`, never both.
 */
#include "snapd/takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/util.h"
#include "snapd/event_loop.h"
#include "snapd/event_queue.h"
#include "snapd/function_store.h"
#include "snapd/handover_internal.h"
#include "snapd/http_api.h"
#include "snapd/page_in.h"
#include "snapd/worker.h"

#define TAKEOVER_MAGIC "QTTAKE01"
enum { GUARDS_MAX = 16, LISTENERS_MAX = 16, ANSWER_S = 120, SEND_S = 5, LOOK_MS = 5 };
/** Slots of LOOP_TAKEOVER. */
enum { SLOT_LISTEN, SLOT_HEIR, SLOT_BEFORE };

enum takeover_state {
	TAKEOVER_NONE,	/**< nobody has asked */
	TAKEOVER_ASKED, /**< a quiet moment is waited for */
	TAKEOVER_GIVEN, /**< everything is sent; `done` is waited for */
	TAKEOVER_OVER,	/**< another snapd serves */
};

struct takeover_message {
	char magic[8];
	char name[FD_STORE_NAME_MAX + 1];
};

static struct {
	enum takeover_state state;
	const struct takeover_hooks *hooks;
	struct sockaddr_un address;
	int listen_fd, heir_fd;
	uint32_t heir_generation;
	int before_fd;		/* to the snapd before this one; stays open for its guard */
	int guards[GUARDS_MAX]; /* to those before it */
	unsigned guard_count;
	int listeners[LISTENERS_MAX]; /* given away, and kept until `done` */
	unsigned listener_count;
	uint32_t given[INSTANCES_MAX]; /* generation + 1 of the slot; 0: it is ours */
} takeover = {.listen_fd = -1, .heir_fd = -1, .before_fd = -1};

/* ---- messages -------------------------------------------------------------------------------- */

static int say(int fd, const char *name, const int *fds, int count)
{
	struct takeover_message m = {.magic = TAKEOVER_MAGIC};
	struct iovec iov = {&m, sizeof(m)};

	snprintf(m.name, sizeof(m.name), "%.31s", name);
	return fdpass_send(fd, &iov, 1, fds, count);
}

/** Return: 1, 0 at the end, or -errno. @fds: FDPASS_FDS_MAX, the caller's. */
static int hear(int fd, struct takeover_message *m, int *fds, int *count, int flags)
{
	ssize_t n = fdpass_recv(fd, m, sizeof(*m), fds, count, flags);

	if (n <= 0)
		return (int)n;
	if (n == sizeof(*m) && !memcmp(m->magic, TAKEOVER_MAGIC, sizeof(m->magic)) &&
	    memchr(m->name, '\0', sizeof(m->name)))
		return 1;
	for (int i = 0; i < *count; i++)
		close(fds[i]);
	return -EPROTO;
}

static int set_address(const char *state)
{
	struct sockaddr_un *a = &takeover.address;

	a->sun_family = AF_UNIX;
	return snprintf(a->sun_path, sizeof(a->sun_path), "%s/handover.sock", state) <
			       (int)sizeof(a->sun_path)
		       ? 0
		       : -ENAMETOOLONG;
}

/* ---- the new one ----------------------------------------------------------------------------- */

static void take(const char *name, const int *fds, int count)
{
	for (int i = 0; i < count; i++) {
		if (!strcmp(name, "listen"))
			http_inherit(fds[i]);
		else if (!strcmp(name, "lock"))
			store_inherit_lock(fds[i]);
		else if (!strcmp(name, "guard") && takeover.guard_count < GUARDS_MAX)
			takeover.guards[takeover.guard_count++] = fds[i];
		else
			inherit_add(name, fds[i]);
	}
}

static void receive_all(int fd)
{
	struct takeover_message m;
	int fds[FDPASS_FDS_MAX], count, ret;

	for (;;) {
		ret = hear(fd, &m, fds, &count, 0);
		if (ret != 1)
			die("--take-over: the snapd that serves: %s",
			    ret ? strerror(-ret) : "it has ended before it had handed over");
		if (!strcmp(m.name, "end"))
			return;
		if (!strncmp(m.name, "no: ", 4))
			die("--take-over: the snapd that serves refuses: %s", m.name + 4);
		take(m.name, fds, count);
	}
}

void takeover_request(const char *state)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	const struct timeval wait = {.tv_sec = ANSWER_S};
	int ret = set_address(state);

	if (ret || fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)))
		die("--take-over: %s: %s", state, strerror(ret ? -ret : errno));
	if (connect(fd, (struct sockaddr *)&takeover.address, sizeof(takeover.address))) {
		log_info("--take-over: no snapd serves from %s: starting as always", state);
		return;
	}
	ret = say(fd, "request", NULL, 0);
	if (ret)
		die("--take-over: %s", strerror(-ret));
	receive_all(fd);
	takeover.before_fd = steal_fd(&fd);
	inherit_prepare();
}

/** `quiet`, or the end of the snapd before: templates are ours alone. */
static void on_before(void)
{
	struct takeover_message m;
	int fds[FDPASS_FDS_MAX], count;
	int ret = hear(takeover.before_fd, &m, fds, &count, MSG_DONTWAIT);

	if (ret == -EAGAIN)
		return;
	for (struct template *t = template_oldest(); t; t = template_next_oldest(t))
		t->shared = false;
	if (ret == 1)
		return;
	event_loop_cancel(LOOP_TAKEOVER, SLOT_BEFORE, 0);
	cleanup_fd(&takeover.before_fd);
	takeover.before_fd = -1;
}

void takeover_done(void)
{
	int ret;

	if (takeover.before_fd < 0)
		return;
	ret = say(takeover.before_fd, "done", NULL, 0);
	if (ret)
		log_warn("take-over: %s", strerror(-ret));
	for (struct template *t = template_oldest(); t; t = template_next_oldest(t))
		t->shared = true;
	event_loop_poll(LOOP_TAKEOVER, SLOT_BEFORE, 0, takeover.before_fd);
}

/* ---- the old one: what it gives -------------------------------------------------------------- */

/** What has to be over first; NULL: nothing. All of it is short, or bounded by --init-timeout. */
static const char *under_way(void)
{
	for (struct function *f = functions_first(); f; f = f->next)
		if (f->busy_publishing)
			return "a function is being published";
	if (session_count(INSTANCE_BOOTING) || session_count(INSTANCE_READY) ||
	    session_count(INSTANCE_CAPTURING) || session_count(INSTANCE_TRACING))
		return "an instance boots or is captured";
	if (!worker_is_idle())
		return "files are being written";
	if (event_queue_stats().in_flight)
		return "events are run";
	return page_in_reads() ? "snapshots are being read" : NULL;
}

static bool is_to_be_given(const struct instance *inst)
{
	return inst->state == INSTANCE_SHELL || (inst->state == INSTANCE_IDLE && !inst->owner);
}

/** Given away, and not ended meanwhile. */
static bool is_given(const struct instance *inst)
{
	return takeover.given[inst->slot] == inst->generation + 1 && is_to_be_given(inst);
}

static int give_template(int fd, struct template *t, struct handover_record *r, uint32_t slot)
{
	const int fds[] = {t->memfd, t->resident_fd, t->file->fd};
	char name[FD_STORE_NAME_MAX + 1];
	struct handover_template e;

	handover_describe_template(t, &e);
	handover_record_set_template(r, slot, &e);
	handover_template_name(t->serial, name);
	return say(fd, name, fds, ARRAY_SIZE(fds));
}

static int give_templates(int fd, struct handover_record *r)
{
	uint32_t slot = 0;
	int ret = 0;

	for (struct template *t = template_oldest(); t && !ret; t = template_next_oldest(t))
		if (t->function[0] && slot < HANDOVER_TEMPLATES_MAX)
			ret = give_template(fd, t, r, slot++);
	return ret;
}

static int give_instances(int fd, struct handover_record *r)
{
	int ret = 0;

	for (uint32_t i = 0; i < INSTANCES_MAX && !ret; i++) {
		struct instance *inst = session_instance(i);
		const int fds[] = {inst->control, inst->uffd, inst->child.pidfd};
		struct handover_instance e;

		takeover.given[i] = 0;
		if (!is_to_be_given(inst))
			continue;
		session_describe(inst, &e);
		session_give(inst);
		takeover.given[i] = inst->generation + 1;
		handover_record_set_instance(r, i, &e);
		ret = say(fd, inst->id, fds, ARRAY_SIZE(fds));
	}
	return ret;
}

static int give_one(int fd, const char *name, int what)
{
	return what < 0 ? 0 : say(fd, name, &what, 1);
}

static int give_all(int fd)
{
	struct handover_record *r = NULL;
	int ret = handover_record_new(1, &r);

	for (unsigned i = 0; i < takeover.listener_count && !ret; i++)
		ret = give_one(fd, "listen", takeover.listeners[i]);
	for (unsigned i = 0; i < takeover.guard_count && !ret; i++)
		ret = give_one(fd, "guard", takeover.guards[i]);
	if (!ret)
		ret = give_one(fd, "guard", takeover.before_fd);
	if (!ret)
		ret = give_one(fd, "lock", store_lock());
	if (!ret)
		ret = give_one(fd, HANDOVER_CGROUPS_NAME, sandbox_cgroups());
	if (!ret)
		ret = give_templates(fd, r);
	if (!ret)
		ret = give_instances(fd, r);
	if (!ret) {
		handover_record_complete(r);
		ret = give_one(fd, HANDOVER_RECORD_NAME "1", handover_record_fd(r));
	}
	handover_record_free(r);
	return ret ? ret : say(fd, "end", NULL, 0);
}

/* ---- the old one: its steps ------------------------------------------------------------------ */

static void drop_heir(void)
{
	event_loop_cancel(LOOP_TAKEOVER, SLOT_HEIR, takeover.heir_generation++);
	cleanup_fd(&takeover.heir_fd);
	takeover.heir_fd = -1;
}

/** The heir has died before it served. */
static void resume(void)
{
	log_warn("take-over: the next snapd has ended before it served: this one goes on");
	drop_heir();
	if (takeover.state == TAKEOVER_GIVEN) {
		if (http_resume())
			log_error("take-over: a listening socket is lost");
		for (uint32_t i = 0; i < INSTANCES_MAX; i++)
			if (is_given(session_instance(i)))
				takeover.hooks->take_back(session_instance(i));
		memset(takeover.given, 0, sizeof(takeover.given));
		takeover.hooks->resume();
	}
	takeover.state = TAKEOVER_NONE;
}

static void give(void)
{
	int ret;

	takeover.listener_count = http_leave(takeover.listeners, LISTENERS_MAX);
	takeover.hooks->pause();
	takeover.state = TAKEOVER_GIVEN;
	ret = give_all(takeover.heir_fd);
	if (ret) {
		log_error("take-over: %s", strerror(-ret));
		resume();
	}
}

/** The heir serves: what was given away is its. */
static void let_go(void)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < INSTANCES_MAX; i++) {
		struct instance *inst = session_instance(i);

		if (!is_given(inst))
			continue;
		session_forget(inst);
		n++;
	}
	http_let_go();
	event_loop_cancel(LOOP_TAKEOVER, SLOT_LISTEN, 0);
	cleanup_fd(&takeover.listen_fd);
	takeover.listen_fd = -1;
	takeover.state = TAKEOVER_OVER;
	log_info("take-over: another snapd serves, with %u instances of this one", n);
}

static void on_heir(void)
{
	struct takeover_message m;
	int fds[FDPASS_FDS_MAX], count;
	int ret = hear(takeover.heir_fd, &m, fds, &count, MSG_DONTWAIT);

	if (ret == -EAGAIN)
		return;
	if (ret != 1) {
		if (takeover.state != TAKEOVER_OVER)
			resume();
		return; /* takeover_guard() will see it */
	}
	for (int i = 0; i < count; i++)
		close(fds[i]);
	if (takeover.state == TAKEOVER_NONE && !strcmp(m.name, "request"))
		takeover.state = TAKEOVER_ASKED;
	else if (takeover.state == TAKEOVER_GIVEN && !strcmp(m.name, "done"))
		let_go();
}

/** Only root's processes get in: the socket's mode, and who it really is. */
static bool is_trusted(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) && peer.uid == geteuid();
}

static void on_connection(void)
{
	const struct timeval wait = {.tv_sec = SEND_S};
	CLEANUP_FD int fd = accept4(takeover.listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (!is_trusted(fd) || takeover.heir_fd >= 0) {
		say(fd, "no: another one is at it", NULL, 0);
		return;
	}
	if (fd_store_is_open()) {
		say(fd, "no: restart its service", NULL, 0);
		return;
	}
	/* It reads all the time, so that sends do not wait; should it not, they end. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)))
		return;
	takeover.heir_fd = steal_fd(&fd);
	event_loop_poll(LOOP_TAKEOVER, SLOT_HEIR, takeover.heir_generation, takeover.heir_fd);
}

static void on_event(const struct loop_event *event)
{
	if (event->res == -ECANCELED)
		return;
	if (event->slot == SLOT_LISTEN && takeover.listen_fd >= 0)
		on_connection();
	else if (event->slot == SLOT_HEIR && event->generation == takeover.heir_generation &&
		 takeover.heir_fd >= 0)
		on_heir();
	else if (event->slot == SLOT_BEFORE && takeover.before_fd >= 0)
		on_before();
}

int takeover_listen(const char *state, const struct takeover_hooks *hooks)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t mask;
	int ret = set_address(state);

	if (fd < 0)
		return -errno;
	if (ret)
		return ret;
	takeover.hooks = hooks;
	unlink(takeover.address.sun_path); /* the store's lock is ours: nobody else's */
	mask = umask(0177);
	ret = bind(fd, (struct sockaddr *)&takeover.address, sizeof(takeover.address));
	umask(mask);
	if (ret || listen(fd, 4))
		return -errno;
	takeover.listen_fd = steal_fd(&fd);
	event_loop_handle(LOOP_TAKEOVER, on_event);
	event_loop_poll(LOOP_TAKEOVER, SLOT_LISTEN, 0, takeover.listen_fd);
	return 0;
}

void takeover_turn(uint64_t now_ns)
{
	(void)now_ns;
	if (takeover.state == TAKEOVER_ASKED && !under_way())
		give();
}

uint64_t takeover_next_ns(void)
{
	return takeover.state == TAKEOVER_ASKED ? clock_mono_ns() + LOOK_MS * NSEC_PER_MSEC
						: UINT64_MAX;
}

bool takeover_is_given(void)
{
	return takeover.state >= TAKEOVER_GIVEN;
}

bool takeover_is_over(void)
{
	return takeover.state == TAKEOVER_OVER;
}

void takeover_guard(void)
{
	struct pollfd heir = {.fd = takeover.heir_fd};
	siginfo_t info;

	say(takeover.heir_fd, "quiet", NULL, 0);
	/* All that is left: to reap, and to end with the heir. */
	while (!waitid(P_ALL, 0, &info, WEXITED | WNOHANG))
		if (poll(&heir, 1, 500) > 0)
			return;
}
