/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll.c - sets of files to wait for
 *
 * Theory of operation
 *
 * A set asks its files for their readiness when it is looked at; nothing is queued. That is all
 * that level-triggered entries need. An edge-triggered one also has a flag that every wake-up of
 * its file's key sets (epoll_edge()) and every report clears. A set that waits wakes with any event
 * of any object and looks again.
 *
 * Invariants
 *  1. Entries hold no references: epoll_forget() takes a file out of all sets before it goes.
 *  2. At most one entry for each pair of descriptor and file.
 *  3. Sets in sets end after EPOLL_DEPTH_MAX steps, and none holds more than EPOLL_SETS_MAX others,
 *     also in a hostile snapshot: one look visits a bounded number of entries.
 */
#include "vmm/process/epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/util.h"
#include "vmm/process/file.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/sched.h"
#include "vmm/process/syscall.h"
#include "vmm/process/timer.h"

enum { EPOLL_DEPTH_MAX = 5, EPOLL_REPORT_MAX = 1024, EPOLL_ENTRIES_MAX = 4096, EPOLL_SETS_MAX = 8 };

#define EPOLL_MODES  (EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE)
#define EPOLL_ALWAYS (EPOLLERR | EPOLLHUP)

struct epoll_entry {
	struct file *file;
	int fd;
	uint32_t events;
	uint64_t data;
	bool edge;
	bool spent; /**< one-shot, reported */
	uint32_t id;
};

struct epoll {
	struct file *file;
	struct epoll_entry *entries;
	unsigned count, size;
	unsigned cursor; /**< where the next report starts, so that none starves */
	struct epoll *next, *prev;
};

/* struct epoll_event as x86-64 has it: packed. */
struct guest_epoll_event {
	uint32_t events;
	uint64_t data;
} __attribute__((packed));

static struct epoll *epoll_of(const struct file *f)
{
	return f && f->ops == &epoll_file_ops ? f->priv : NULL;
}

/* ---- readiness ---- */

static uint32_t entry_ready(struct proc *p, const struct epoll_entry *e)
{
	uint32_t wanted = (e->events & ~(uint32_t)EPOLL_MODES) | EPOLL_ALWAYS;

	if (e->spent || ((e->events & EPOLLET) && !e->edge))
		return 0;
	return (uint32_t)(uint16_t)e->file->ops->poll(p, e->file) & wanted;
}

static short epoll_poll(struct proc *p, struct file *f)
{
	static unsigned depth;
	const struct epoll *ep = f->priv;
	short ready = 0;

	if (depth >= EPOLL_DEPTH_MAX)
		return 0;
	depth++;
	for (unsigned i = 0; i < ep->count && !ready; i++)
		if (entry_ready(p, &ep->entries[i]))
			ready = POLLIN | POLLRDNORM;
	depth--;
	return ready;
}

void epoll_edge(struct proc *p, uint64_t key)
{
	for (struct epoll *ep = p->sched->epolls; ep; ep = ep->next)
		for (unsigned i = 0; i < ep->count; i++)
			if (ep->entries[i].file->wait_key == key)
				ep->entries[i].edge = true;
}

/* ---- entries ---- */

static void entry_remove(struct epoll *ep, unsigned i)
{
	ep->count--;
	memmove(&ep->entries[i], &ep->entries[i + 1], (ep->count - i) * sizeof(ep->entries[0]));
}

void epoll_forget(struct proc *p, const struct file *f)
{
	for (struct epoll *ep = p->sched ? p->sched->epolls : NULL; ep; ep = ep->next)
		for (unsigned i = ep->count; i-- > 0;)
			if (ep->entries[i].file == f)
				entry_remove(ep, i);
}

static struct epoll_entry *entry_find(struct epoll *ep, int fd, const struct file *f)
{
	for (unsigned i = 0; i < ep->count; i++)
		if (ep->entries[i].fd == fd && ep->entries[i].file == f)
			return &ep->entries[i];
	return NULL;
}

static int entry_add(struct epoll *ep, const struct epoll_entry *e)
{
	if (ep->count >= EPOLL_ENTRIES_MAX)
		return -ENOSPC;
	if (ep->count == ep->size) {
		unsigned size = ep->size ? ep->size * 2 : 8;
		struct epoll_entry *grown = realloc(ep->entries, size * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		ep->entries = grown;
		ep->size = size;
	}
	ep->entries[ep->count++] = *e;
	return 0;
}

static unsigned sets_in(const struct epoll *ep)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ep->count; i++)
		n += epoll_of(ep->entries[i].file) != NULL;
	return n;
}

/** How many sets are below @f, itself included; more than allowed when it holds @ep. */
static unsigned depth_of(const struct file *f, const struct epoll *ep, unsigned depth)
{
	const struct epoll *set = epoll_of(f);
	unsigned deepest = depth;

	if (!set)
		return depth;
	if (set == ep || depth >= EPOLL_DEPTH_MAX)
		return EPOLL_DEPTH_MAX + 1;
	for (unsigned i = 0; i < set->count; i++)
		deepest = MAX(deepest, depth_of(set->entries[i].file, ep, depth + 1));
	return deepest;
}

/* ---- the type ---- */

static void epoll_release(struct proc *p, struct file *f)
{
	struct epoll *ep = f->priv;

	if (ep->prev)
		ep->prev->next = ep->next;
	else if (p->sched)
		p->sched->epolls = ep->next;
	if (ep->next)
		ep->next->prev = ep->prev;
	free(ep->entries);
	free(ep);
}

static struct file *epoll_new(struct proc *p)
{
	struct epoll *ep = calloc(1, sizeof(*ep));
	struct file *f = ep ? file_new(p, &epoll_file_ops, O_RDWR, ep) : NULL;

	if (!f) {
		free(ep);
		return NULL;
	}
	ep->file = f;
	ep->next = p->sched->epolls;
	if (ep->next)
		ep->next->prev = ep;
	p->sched->epolls = ep;
	free(f->path);
	f->path = strdup("anon_inode:[eventpoll]");
	return f;
}

static int epoll_save(struct proc *p, struct file *f, struct state_writer *w)
{
	const struct epoll *ep = f->priv;

	(void)p;
	state_put_u32(w, ep->count);
	for (unsigned i = 0; i < ep->count; i++) {
		const struct epoll_entry *e = &ep->entries[i];

		state_put_u32(w, (uint32_t)e->fd);
		state_put_u32(w, e->file->id);
		state_put_u32(w, e->events);
		state_put_u64(w, e->data);
		state_put_u8(w, (uint8_t)(e->edge | e->spent << 1));
	}
	return w->err;
}

static int epoll_load(struct proc *p, struct state_reader *r, struct file **ret)
{
	uint32_t count = state_get_count(r, 21);
	struct file *f;
	struct epoll *ep;

	if (r->err || count > EPOLL_ENTRIES_MAX)
		return -EBADMSG;
	f = epoll_new(p);
	if (!f)
		return -ENOMEM;
	*ret = f;
	ep = f->priv;
	ep->entries = count ? calloc(count, sizeof(*ep->entries)) : NULL;
	if (count && !ep->entries)
		return -ENOMEM;
	ep->size = count;
	for (uint32_t i = 0; i < count; i++) {
		struct epoll_entry *e = &ep->entries[i];
		uint8_t bits;

		e->fd = (int)state_get_u32(r);
		e->id = state_get_u32(r);
		e->events = state_get_u32(r);
		e->data = state_get_u64(r);
		bits = state_get_u8(r);
		e->edge = bits & 1;
		e->spent = bits & 2;
	}
	/* ep->count stays 0 until epoll_link() has found the files. */
	return r->err;
}

static int epoll_link(struct proc *p, struct file *f)
{
	struct epoll *ep = f->priv;

	for (unsigned i = 0; i < ep->size; i++) {
		struct file *watched = file_by_id(p, ep->entries[i].id);

		if (!watched || !watched->ops->poll || watched == f)
			return -EBADMSG;
		ep->entries[i].file = watched;
		ep->count = i + 1;
	}
	return sets_in(ep) > EPOLL_SETS_MAX ? -EBADMSG : 0;
}

const struct file_ops epoll_file_ops = {
	.type = FILE_EPOLL,
	.name = "epoll",
	.poll = epoll_poll,
	.release = epoll_release,
	.save = epoll_save,
	.load = epoll_load,
	.link = epoll_link,
};

/* ---- calls ---- */

int64_t epoll_create_call(struct proc *p, int flags)
{
	struct file *f;
	int fd;

	if (flags & ~EPOLL_CLOEXEC)
		return -EINVAL;
	f = epoll_new(p);
	if (!f)
		return -ENOMEM;
	fd = fd_install(p, f, 0, flags & EPOLL_CLOEXEC);
	if (fd < 0)
		file_put(p, f);
	return fd;
}

static int64_t ctl_add(struct epoll *ep, int fd, struct file *f,
		       const struct guest_epoll_event *event)
{
	struct epoll_entry e = {
		.file = f,
		.fd = fd,
		.events = event->events,
		.data = event->data,
		.edge = true,
	};

	if (entry_find(ep, fd, f))
		return -EEXIST;
	if (depth_of(f, ep, 0) >= EPOLL_DEPTH_MAX)
		return -ELOOP;
	/* Linux counts the ways through sets and has the same answer. */
	if (epoll_of(f) && sets_in(ep) >= EPOLL_SETS_MAX)
		return -EINVAL;
	return entry_add(ep, &e);
}

int64_t epoll_ctl_call(struct proc *p, const uint64_t a[6])
{
	struct file *set = fd_get(p, (int)a[0]), *f = fd_get(p, (int)a[2]);
	struct epoll *ep = epoll_of(set);
	struct guest_epoll_event event = {0};
	struct epoll_entry *e;
	int64_t ret = 0;

	if ((int)a[1] != EPOLL_CTL_DEL && mm_copy_in(p, &event, a[3], sizeof(event)))
		return -EFAULT;
	if (!set || !f)
		return -EBADF;
	if (!f->ops->poll)
		return -EPERM;
	if (!ep || f == set)
		return -EINVAL;
	e = entry_find(ep, (int)a[2], f);
	switch ((int)a[1]) {
	case EPOLL_CTL_ADD:
		ret = ctl_add(ep, (int)a[2], f, &event);
		break;
	case EPOLL_CTL_MOD:
		if (!e)
			return -ENOENT;
		e->events = event.events;
		e->data = event.data;
		e->edge = true;
		e->spent = false;
		break;
	case EPOLL_CTL_DEL:
		if (!e)
			return -ENOENT;
		entry_remove(ep, (unsigned)(e - ep->entries));
		return 0;
	default:
		return -EINVAL;
	}
	/* Another task may be waiting for what is ready now. */
	if (!ret)
		task_wake_all(p, set->wait_key);
	return ret;
}

static unsigned collect(struct proc *p, struct epoll *ep, struct guest_epoll_event *out,
			unsigned max)
{
	unsigned n = 0, first = ep->count ? ep->cursor % ep->count : 0;

	for (unsigned k = 0; k < ep->count && n < max; k++) {
		struct epoll_entry *e = &ep->entries[(first + k) % ep->count];
		uint32_t ready = entry_ready(p, e);

		if (!ready)
			continue;
		out[n++] = (struct guest_epoll_event){ready, e->data};
		e->edge = false;
		if (e->events & EPOLLONESHOT)
			e->spent = true;
		ep->cursor = (first + k + 1) % ep->count;
	}
	return n;
}

int64_t epoll_wait_call(struct proc *p, struct task *t, int epfd, uint64_t events, int max,
			uint64_t timeout_ns)
{
	struct guest_epoll_event out[EPOLL_REPORT_MAX];
	struct file *f = fd_get(p, epfd);
	struct epoll *ep = epoll_of(f);
	unsigned n;

	if (!f)
		return -EBADF;
	if (!ep || max <= 0)
		return -EINVAL;
	n = collect(p, ep, out, MIN((unsigned)max, (unsigned)EPOLL_REPORT_MAX));
	if (n)
		return mm_copy_out(p, events, out, n * sizeof(out[0])) ? -EFAULT : (int64_t)n;
	if (!timeout_ns || t->wait.outcome == WAIT_TIMEOUT)
		return 0;
	if (t->wait.outcome == WAIT_SIGNAL)
		return -EINTR;
	task_wait(p, t, WAIT_KEY_ANY, deadline_after(p, timeout_ns));
	return SYS_BLOCKED;
}
