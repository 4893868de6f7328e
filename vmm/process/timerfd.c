/* SPDX-License-Identifier: Apache-2.0 */
/* timerfd.c - timers that are read as files */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>

#include "common/util.h"
#include "vmm/process/clock.h"
#include "vmm/process/epoll.h"
#include "vmm/process/file.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/task.h"
#include "vmm/process/timer.h"

/**
 * struct timerfd - @at_ns: next expiration on @at_clock (timer_clock()); 0: not armed
 * @ticks: expirations that were not read
 */
struct timerfd {
	struct file *file;
	int clock, at_clock;
	uint64_t at_ns, interval_ns, ticks;
};

static struct timerfd *timerfd_of(struct proc *p, int fd, int *ret_err)
{
	struct file *f = fd_get(p, fd);

	*ret_err = f ? -EINVAL : -EBADF;
	return f && f->ops == &timerfd_file_ops ? f->priv : NULL;
}

static void on_timer(struct proc *p, void *arg);

static int timerfd_arm(struct proc *p, struct timerfd *tfd)
{
	return sched_timer_set(p, on_timer, tfd,
			       tfd->at_ns ? deadline_of(p, tfd->at_clock, tfd->at_ns)
					  : WAIT_FOREVER);
}

static void on_timer(struct proc *p, void *arg)
{
	struct timerfd *tfd = arg;
	uint64_t now_ns;

	if (!tfd->at_ns || guest_clock_ns(p, tfd->at_clock, &now_ns))
		return;
	if (now_ns < tfd->at_ns) {
		timerfd_arm(p, tfd);
		return;
	}
	tfd->ticks += timer_advance(now_ns, tfd->interval_ns, &tfd->at_ns);
	timerfd_arm(p, tfd);
	task_wake_all(p, tfd->file->wait_key);
}

/* ---- the type ---- */

static int64_t timerfd_read(struct proc *p, struct file *f, const struct iovec *iov, int n,
			    int64_t offset)
{
	struct timerfd *tfd = f->priv;
	uint64_t ticks = tfd->ticks;
	const uint8_t *bytes = (const uint8_t *)&ticks;
	size_t room = 0, done = 0;

	(void)p, (void)offset;
	for (int i = 0; i < n; i++)
		room += iov[i].iov_len;
	if (room < sizeof(ticks))
		return -EINVAL;
	if (!ticks)
		return -EAGAIN;
	for (int i = 0; done < sizeof(ticks); i++) {
		size_t part = MIN(iov[i].iov_len, sizeof(ticks) - done);

		memcpy(iov[i].iov_base, bytes + done, part);
		done += part;
	}
	tfd->ticks = 0;
	return sizeof(ticks);
}

static short timerfd_poll(struct proc *p, struct file *f)
{
	const struct timerfd *tfd = f->priv;

	(void)p;
	return tfd->ticks ? POLLIN | POLLRDNORM : 0;
}

static void timerfd_release(struct proc *p, struct file *f)
{
	if (p->sched)
		sched_timer_set(p, on_timer, f->priv, WAIT_FOREVER);
	free(f->priv);
}

static struct file *timerfd_new(struct proc *p, int clock, int flags)
{
	struct timerfd *tfd = calloc(1, sizeof(*tfd));
	struct file *f = tfd ? file_new(p, &timerfd_file_ops, flags, tfd) : NULL;

	if (!f) {
		free(tfd);
		return NULL;
	}
	tfd->file = f;
	tfd->clock = tfd->at_clock = clock;
	f->path = strdup("anon_inode:[timerfd]");
	return f;
}

static int timerfd_save(struct proc *p, struct file *f, struct state_writer *w)
{
	const struct timerfd *tfd = f->priv;

	(void)p;
	state_put_u32(w, timer_clock_pack(tfd->clock, tfd->at_clock));
	state_put_u64(w, tfd->at_ns);
	state_put_u64(w, tfd->interval_ns);
	state_put_u64(w, tfd->ticks);
	return w->err;
}

static bool clock_is_for_timerfd(int clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
	       clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM;
}

static int timerfd_load(struct proc *p, struct state_reader *r, struct file **ret)
{
	uint32_t clocks = state_get_u32(r);
	uint64_t at_ns = state_get_u64(r), interval_ns = state_get_u64(r);
	uint64_t ticks = state_get_u64(r);
	struct timerfd *tfd;
	int clock, at_clock;

	timer_clock_unpack(clocks, &clock, &at_clock);
	if (r->err || !clock_is_for_timerfd(clock) || at_ns > INT64_MAX || interval_ns > INT64_MAX)
		return -EBADMSG;
	*ret = timerfd_new(p, clock, O_RDONLY);
	if (!*ret)
		return -ENOMEM;
	tfd = (*ret)->priv;
	tfd->at_clock = at_clock;
	tfd->at_ns = at_ns;
	tfd->interval_ns = interval_ns;
	tfd->ticks = ticks;
	return at_ns ? timerfd_arm(p, tfd) : 0;
}

const struct file_ops timerfd_file_ops = {
	.type = FILE_TIMERFD,
	.name = "timerfd",
	.read = timerfd_read,
	.poll = timerfd_poll,
	.release = timerfd_release,
	.save = timerfd_save,
	.load = timerfd_load,
};

/* ---- calls ---- */

int64_t timerfd_create_call(struct proc *p, int clock, int flags)
{
	struct file *f;
	int fd;

	if (!clock_is_for_timerfd(clock) || (flags & ~(TFD_CLOEXEC | TFD_NONBLOCK)))
		return -EINVAL;
	f = timerfd_new(p, clock, O_RDONLY | (flags & TFD_NONBLOCK));
	if (!f)
		return -ENOMEM;
	fd = fd_install(p, f, 0, flags & TFD_CLOEXEC);
	if (fd < 0)
		file_put(p, f);
	return fd;
}

int64_t timerfd_gettime_call(struct proc *p, const uint64_t a[6])
{
	struct guest_itimerspec spec = {{0}, {0}};
	uint64_t now_ns;
	int err;
	const struct timerfd *tfd = timerfd_of(p, (int)a[0], &err);

	if (!tfd)
		return err;
	spec.interval = ns_to_timespec(tfd->interval_ns);
	if (tfd->at_ns && !guest_clock_ns(p, tfd->at_clock, &now_ns))
		spec.value = ns_to_timespec(tfd->at_ns > now_ns ? tfd->at_ns - now_ns : 1);
	return mm_copy_out(p, a[1], &spec, sizeof(spec));
}

int64_t timerfd_settime_call(struct proc *p, const uint64_t a[6])
{
	const uint64_t get[6] = {a[0], a[3]};
	struct guest_itimerspec spec;
	uint64_t value_ns, interval_ns, now_ns = 0;
	int err;
	struct timerfd *tfd = timerfd_of(p, (int)a[0], &err);

	if (!tfd)
		return err;
	if (a[1] & ~(uint64_t)(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET))
		return -EINVAL;
	if (mm_copy_in(p, &spec, a[2], sizeof(spec)))
		return -EFAULT;
	if (timespec_to_ns(&spec.value, &value_ns) || timespec_to_ns(&spec.interval, &interval_ns))
		return -EINVAL;
	if (a[3] && timerfd_gettime_call(p, get))
		return -EFAULT;
	tfd->at_clock = timer_clock(tfd->clock, a[1] & TFD_TIMER_ABSTIME);
	if (!(a[1] & TFD_TIMER_ABSTIME) && guest_clock_ns(p, tfd->at_clock, &now_ns))
		return -EINVAL;
	tfd->ticks = 0;
	tfd->at_ns = value_ns ? now_ns + value_ns : 0;
	tfd->interval_ns = value_ns ? interval_ns : 0;
	return timerfd_arm(p, tfd);
}
