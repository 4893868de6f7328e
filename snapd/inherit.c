/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inherit.c - go on with what a snapd before this one has left
 *
 *   service manager ──> descriptors by name ─┐
 *                          record ───────────┴─> templates ──> instances ──> the rest is ended
 *
 * How it was left is told in handover.c. Nothing is believed that can be looked up: descriptors are
 * what the kernel says they are, a process is the one that its pidfd names, functions and versions
 * are those of the store, and a template belongs to the snapshot that its version has now, or to
 * none.
 *
 * A call that was under way has lost its caller with the snapd before. Its instance goes on, for
 * what it does may matter to others; the answer is discarded, and the instance is idle then.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/util.h"
#include "include/snapd_proto.h"
#include "snapd/budget.h"
#include "snapd/function.h"
#include "snapd/function_store.h"
#include "snapd/handover_internal.h"
#include "snapd/scheduler.h"
#include "snapd/scheduler_internal.h"
#include "snapd/service_manager.h"
#include "snapd/shell_pool.h"

/** What an instance has at least for the call that it is at: it may have been over meanwhile. */
#define GRACE_NS (2 * NSEC_PER_SEC)
enum { END_WAIT_MS = 2000 };

static struct {
	struct inherited *fds;
	unsigned count;
	struct handover_record *record;
	struct template *templates[HANDOVER_TEMPLATES_MAX];
	unsigned template_count, instance_count, lost_count;
} inherit;

/* ---- descriptors ----------------------------------------------------------------------------- */

static enum handover_kind kind_of_link(const char *link)
{
	static const struct {
		const char *prefix;
		enum handover_kind kind;
	} kinds[] = {
		{"anon_inode:[userfaultfd]", HANDOVER_UFFD},
		{"anon_inode:[pidfd]", HANDOVER_PIDFD},
		{"pidfd:[", HANDOVER_PIDFD}, /* Linux 6.9 and later */
		{"/memfd:quickthaw-template", HANDOVER_MEMORY},
		{"/memfd:quickthaw-resident", HANDOVER_RESIDENT},
		{"/memfd:quickthaw-record", HANDOVER_RECORD},
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strncmp(link, kinds[i].prefix, strlen(kinds[i].prefix)))
			return kinds[i].kind;
	return HANDOVER_UNKNOWN;
}

static enum handover_kind kind_of(int fd)
{
	int type = 0, listens = 0;
	socklen_t size = sizeof(int);
	char path[64], link[256];
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st))
		return HANDOVER_UNKNOWN;
	if (S_ISSOCK(st.st_mode))
		return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) &&
				       type == SOCK_SEQPACKET &&
				       !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens,
						   &size) &&
				       !listens
			       ? HANDOVER_CONTROL
			       : HANDOVER_UNKNOWN;
	if (S_ISDIR(st.st_mode))
		return HANDOVER_DIRECTORY;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, link, sizeof(link) - 1);
	link[MAX(n, 0)] = '\0';
	if (kind_of_link(link) != HANDOVER_UNKNOWN)
		return kind_of_link(link);
	return S_ISREG(st.st_mode) ? HANDOVER_FILE : HANDOVER_UNKNOWN;
}

/** Is a descriptor of this name ours? The others are somebody else's, as a listening socket. */
static bool is_ours(const char *name)
{
	size_t digits = strspn(name + (*name != '\0'), "0123456789");

	return !strcmp(name, HANDOVER_CGROUPS_NAME) ||
	       !strncmp(name, HANDOVER_RECORD_NAME, strlen(HANDOVER_RECORD_NAME)) ||
	       ((*name == 'i' || *name == 't') && digits && !name[1 + digits]);
}

int inherit_claim(const char *name, enum handover_kind kind)
{
	for (unsigned i = 0; i < inherit.count; i++)
		if (inherit.fds[i].kind == kind && inherit.fds[i].fd >= 0 &&
		    !strcmp(inherit.fds[i].name, name))
			return steal_fd(&inherit.fds[i].fd);
	return -1;
}

/** The record that counts: the newest one that is complete. */
static void find_record(void)
{
	for (unsigned i = 0; i < inherit.count; i++) {
		struct handover_record *r;
		const char *why = NULL;

		if (inherit.fds[i].kind != HANDOVER_RECORD)
			continue;
		if (handover_record_open(inherit.fds[i].fd, &r, &why)) {
			log_warn("handover: %s: %s: what it tells of is ended", inherit.fds[i].name,
				 why);
			continue;
		}
		if (handover_record_is_complete(r) &&
		    (!inherit.record ||
		     handover_record_generation(r) > handover_record_generation(inherit.record))) {
			handover_record_free(inherit.record);
			inherit.record = r;
		} else {
			handover_record_free(r);
		}
	}
}

void inherit_add(const char *name, int fd)
{
	struct inherited *bigger =
		fd < 0 || strlen(name) > FD_STORE_NAME_MAX
			? NULL
			: reallocarray(inherit.fds, inherit.count + 1, sizeof(*inherit.fds));
	struct inherited *f;

	if (!bigger) {
		cleanup_fd(&fd);
		return;
	}
	inherit.fds = bigger;
	f = &inherit.fds[inherit.count++];
	*f = (struct inherited){.kind = kind_of(fd), .fd = fd};
	snprintf(f->name, sizeof(f->name), "%s", name);
}

void inherit_prepare(void)
{
	int cgroups;

	find_record();
	cgroups = inherit_claim(HANDOVER_CGROUPS_NAME, HANDOVER_DIRECTORY);
	if (cgroups >= 0)
		sandbox_adopt_cgroups(cgroups);
}

void inherit_find(void)
{
	const struct service_fd *fds;
	unsigned count = service_manager_fds(&fds);

	for (unsigned i = 0; i < count; i++)
		if (fds[i].fd >= 0 && is_ours(fds[i].name))
			inherit_add(fds[i].name, service_manager_take_fd(fds[i].name));
	inherit_prepare();
}

const struct handover_record *inherit_record(void)
{
	return inherit.record;
}

/* ---- templates ------------------------------------------------------------------------------- */

static struct version *find_version(const char *function, uint32_t number)
{
	struct function *f = functions_find(function);

	return f ? function_version(f, number) : NULL;
}

static bool same_inode(int a, int b)
{
	struct stat sa, sb;

	return !fstat(a, &sa) && !fstat(b, &sb) && sa.st_ino == sb.st_ino && sa.st_dev == sb.st_dev;
}

/**
 * The version's file as it is now, if @fd, the file that the template was filled from, is the same
 * snapshot: it may have been rewritten in another order, or be another version's of the same name.
 */
static int open_snapshot(const struct handover_template *e, int fd, const char *label,
			 struct template_file **ret, struct snapshot_error *err)
{
	CLEANUP_FD int dirfd = store_version_open(e->function, e->number);
	struct snapshot_reader *filled = NULL;
	int ret_;

	if (dirfd < 0)
		return dirfd;
	ret_ = template_file_open(dirfd, STORE_SNAPSHOT_NAME, label, false, ret, err);
	if (ret_ || same_inode((*ret)->fd, fd))
		return ret_;
	ret_ = snapshot_reader_open_alone(fd, label, &filled, err);
	if (!ret_ &&
	    !snapshot_id_equal(snapshot_reader_id((*ret)->reader), snapshot_reader_id(filled)))
		ret_ = -ESTALE;
	snapshot_reader_free(filled);
	if (ret_) {
		template_file_free(*ret);
		*ret = NULL;
	}
	return ret_;
}

static int revive_template(const struct handover_template *e, struct template **ret)
{
	char name[FD_STORE_NAME_MAX + 1], label[FUNCTION_NAME_MAX + 64];
	CLEANUP_FD int memory = -1;
	CLEANUP_FD int resident = -1;
	CLEANUP_FD int fd = -1;
	struct version *v = find_version(e->function, e->number);
	struct template_file *file = NULL;
	struct snapshot_error err = {""};
	int ret_;

	handover_template_name(e->serial, name);
	memory = inherit_claim(name, HANDOVER_MEMORY);
	resident = inherit_claim(name, HANDOVER_RESIDENT);
	fd = inherit_claim(name, HANDOVER_FILE);
	if (memory < 0 || resident < 0 || fd < 0 || !v)
		return -ENOENT;
	snprintf(label, sizeof(label), "%s/versions/%u/%s", e->function, e->number,
		 STORE_SNAPSHOT_NAME);
	ret_ = open_snapshot(e, fd, label, &file, &err);
	if (!ret_)
		ret_ = template_revive(label, file, steal_fd(&memory), steal_fd(&resident),
				       e->serial, ret);
	return ret_;
}

/** With one reference, which is the version's if the template is the version's, and else ours. */
static void take_template(const struct handover_template *e, unsigned slot)
{
	struct version *v = find_version(e->function, e->number);
	char name[FD_STORE_NAME_MAX + 1];
	struct template *t = NULL;
	int ret = revive_template(e, &t);
	size_t ws_count = 0;

	if (ret) {
		log_warn("handover: template of %s:%u: %s: its instances are ended", e->function,
			 e->number, strerror(-ret));
		handover_template_name(e->serial, name);
		fd_store_drop(name);
		return;
	}
	inherit.templates[slot] = template_get(t);
	inherit.template_count++;
	t->stored = true;
	template_is_of(t, e->function, e->number);
	template_used(t, clock_mono_ns());
	/* With a part of its pages in, a recording could not see their first touches. */
	if (!(e->flags & HANDOVER_CURRENT) || e->flags & HANDOVER_RECORDING || v->template) {
		template_retire(t);
		return;
	}
	v->template = t;
	snapshot_reader_working_set(t->file->reader, &ws_count);
	v->snapshot.working_set_pages = ws_count;
}

static struct template *find_template(uint64_t serial)
{
	for (unsigned i = 0; i < HANDOVER_TEMPLATES_MAX; i++)
		if (inherit.templates[i] && inherit.templates[i]->serial == serial)
			return inherit.templates[i];
	return NULL;
}

/* ---- instances ------------------------------------------------------------------------------- */

static void on_result(struct instance *inst, const struct session_result *result)
{
	(void)result;
	log_about(LOG_LEVEL_INFO, inst->id, inst->request_id,
		  "the answer to request %s is discarded: its caller is gone", inst->request_id);
	inst->request_id[0] = '\0';
	scheduler_release(inst);
	scheduler_pump();
}

static void on_working_set(struct instance *inst, int fd, uint64_t template_pages)
{
	(void)fd;
	(void)template_pages;
	scheduler_release(inst);
	scheduler_pump();
}

static const struct session_events orphan_events = {
	.result = on_result,
	.working_set = on_working_set,
};

/** Does @pidfd name the process @pid, and does that live? */
static bool is_process(int pidfd, int pid)
{
	struct pollfd gone = {.fd = pidfd, .events = POLLIN};
	CLEANUP_FREE char *text = NULL;
	const char *line;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	if (pidfd < 0 || poll(&gone, 1, 0) || read_file(AT_FDCWD, path, 4096, &text, NULL))
		return false;
	line = strstr(text, "\nPid:\t");
	return line && strtol(line + strlen("\nPid:\t"), NULL, 10) == pid;
}

/** Of exactly that size: -ERANGE where a snapd before this one had others. */
static int ram_class(uint32_t kind, uint32_t ram_mib)
{
	int class = shell_pool_class((enum guest_kind)kind, ram_mib);

	return class < 0 || shell_pool_ram_mib(class) == ram_mib ? class : -ERANGE;
}

/** What the entry says of function, version and template, as things of ours. */
static const char *look_up(const struct handover_instance *e, struct session_revival *r)
{
	if (e->proto_version != PROTO_VERSION)
		return "its vmm speaks another version of the protocol";
	if (e->state == HANDOVER_SHELL)
		return ram_class(e->guest_kind, e->ram_mib) < 0 ? "its size is none of ours" : NULL;
	r->version = find_version(e->function, e->number);
	r->template = find_template(e->template_serial);
	r->events = &orphan_events;
	if (!r->version)
		return "its version is gone";
	if (e->template_serial && !r->template)
		return "its template is lost";
	if (!e->template_serial && e->state != HANDOVER_IDLE && e->state != HANDOVER_INVOKING)
		return "it has no template";
	return NULL;
}

static void after_revival(struct instance *inst, void (*shell)(struct instance *inst))
{
	inst->ram_class = ram_class(inst->kind, inst->ram_mib);
	inst->requested_ns = inst->changed_ns;
	if (inst->state == INSTANCE_SHELL) {
		shell(inst);
		return;
	}
	budget_charge(inst, scheduler_instance_bytes(inst->version));
	if (inst->state == INSTANCE_IDLE)
		scheduler_release(inst);
	else
		log_about(LOG_LEVEL_INFO, inst->id, inst->request_id, "goes on with request %s",
			  inst->request_id);
	handover_changed(inst);
}

static void take_instance(struct handover_instance *e, void (*shell)(struct instance *inst))
{
	struct session_revival r = {.entry = e, .control = -1, .uffd = -1, .pidfd = -1};
	struct instance *inst = NULL;
	const char *why;

	r.control = inherit_claim(e->id, HANDOVER_CONTROL);
	r.uffd = inherit_claim(e->id, HANDOVER_UFFD);
	r.pidfd = inherit_claim(e->id, HANDOVER_PIDFD);
	if (e->state != HANDOVER_SHELL && e->state != HANDOVER_IDLE)
		e->deadline_ns = MAX(e->deadline_ns, clock_mono_ns() + GRACE_NS);
	why = r.control < 0 || r.uffd < 0 || !is_process(r.pidfd, e->pid) ? "it is gone"
									  : look_up(e, &r);
	if (!why)
		inst = session_revive(&r);
	if (inst) {
		inherit.instance_count++;
		after_revival(inst, shell);
		return;
	}
	log_warn("handover: instance %s is ended: %s", e->id, why ? why : "no slot is free");
	inherit.lost_count++;
	if (r.pidfd >= 0)
		pidfd_send_signal(r.pidfd, SIGKILL, NULL, 0);
	cleanup_fd(&r.control);
	cleanup_fd(&r.uffd);
	cleanup_fd(&r.pidfd);
	fd_store_drop(e->id);
}

void inherit_begin(void (*shell)(struct instance *inst))
{
	struct handover_instance e;
	struct handover_template t;

	for (unsigned i = 0; i < HANDOVER_TEMPLATES_MAX; i++)
		if (handover_record_template(inherit.record, i, &t))
			take_template(&t, i);
	for (unsigned i = 0; i < HANDOVER_INSTANCES_MAX; i++)
		if (handover_record_instance(inherit.record, i, &e))
			take_instance(&e, shell);
	for (unsigned i = 0; i < HANDOVER_TEMPLATES_MAX; i++) {
		template_put(inherit.templates[i]);
		inherit.templates[i] = NULL;
	}
	log_info("handover: %u instances and %u templates were taken over, %u instances lost",
		 inherit.instance_count, inherit.template_count, inherit.lost_count);
}

/* ---- what is left ---------------------------------------------------------------------------- */

/** Has something of this name been taken up? */
static bool is_claimed(const char *name)
{
	for (unsigned i = 0; i < inherit.count; i++)
		if (inherit.fds[i].fd < 0 && !strcmp(inherit.fds[i].name, name))
			return true;
	return false;
}

static bool is_alive(const char *id)
{
	for (uint32_t i = 0; i < INSTANCES_MAX; i++)
		if (session_instance(i)->state != INSTANCE_FREE &&
		    !strcmp(session_instance(i)->id, id))
			return true;
	return false;
}

void inherit_end(const char *record_name)
{
	uint64_t deadline = clock_mono_ns() + END_WAIT_MS * NSEC_PER_MSEC;

	for (unsigned i = 0; i < inherit.count; i++)
		if (inherit.fds[i].fd >= 0 && inherit.fds[i].kind == HANDOVER_PIDFD)
			pidfd_send_signal(inherit.fds[i].fd, SIGKILL, NULL, 0);
	for (unsigned i = 0; i < inherit.count; i++) {
		struct inherited *f = &inherit.fds[i];
		struct pollfd gone = {.fd = f->fd, .events = POLLIN};
		uint64_t now = clock_mono_ns();

		if (f->fd < 0)
			continue;
		if (f->kind == HANDOVER_PIDFD && now < deadline)
			poll(&gone, 1, (int)((deadline - now) / NSEC_PER_MSEC));
		if (strcmp(f->name, record_name) != 0 && !is_claimed(f->name))
			fd_store_drop(f->name);
		close(f->fd);
	}
	/* Of a snapd that hands over while it runs, what is not ours is still its. */
	if (*record_name)
		sandbox_sweep_cgroups(is_alive);
	free(inherit.fds);
	inherit.fds = NULL;
	inherit.count = 0;
	handover_record_free(inherit.record);
	inherit.record = NULL;
}
