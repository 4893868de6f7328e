/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_mmio.c - registers, negotiation, interrupts and state of a virtio device
 *
 * Section numbers are those of virtio 1.2. The life of a device (3.1.1):
 *
 *   reset ── ACKNOWLEDGE, DRIVER ──► features ── FEATURES_OK ──► queues ── DRIVER_OK ──► runs
 *     ▲                                                                                 │
 *     └──────────── status = 0 ◄──────────────── NEEDS_RESET ◄── virtio_device_fail() ──┘
 *
 * Features can be written only before FEATURES_OK, queues be set up only between it and DRIVER_OK.
 */
#include "vmm/kernel/virtio_mmio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"

/* "virt"; the vendor is ours to choose. */
#define MAGIC_VALUE 0x74726976u
#define VENDOR_ID   0x57485451u /* "QTHW" */

enum {
	TRANSPORT_VERSION = 2,
	EVENTS_MAX = 32,
	STATUS_BITS = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
		      VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FEATURES_OK |
		      VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED,
	INTERRUPT_BITS = VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG,
};

#define TAG_AGAIN UINT32_MAX

/* ---- interrupts and events ---- */

static void signal_eventfd(int fd)
{
	uint64_t one = 1;

	/* It can only fail when 2^64 - 2 are pending, and then it is signalled. */
	if (write(fd, &one, sizeof(one)) < 0)
		log_debug("eventfd %d: %s", fd, strerror(errno));
}

static void interrupt(struct virtio_device *d, uint32_t bit)
{
	d->interrupt_status |= bit;
	signal_eventfd(d->irq_fd);
}

void virtio_device_flush(struct virtio_device *d, unsigned queue)
{
	struct virtq *q = &d->queues[queue];

	if (q->ready && virtq_needs_interrupt(q))
		interrupt(d, VIRTIO_MMIO_INT_VRING);
}

void virtio_device_config_changed(struct virtio_device *d)
{
	d->config_generation++;
	if (d->status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(d, VIRTIO_MMIO_INT_CONFIG);
}

void virtio_device_fail(struct virtio_device *d, const char *why)
{
	if (d->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	d->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (!d->fail_logged)
		log_warn("%s: %s: the guest's driver has to reset it", d->class->name, why);
	d->fail_logged = true;
	if (d->status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(d, VIRTIO_MMIO_INT_CONFIG); /* 2.1.2 */
}

void virtio_device_again(struct virtio_device *d, unsigned queue)
{
	if (!d->again)
		signal_eventfd(d->again_fd);
	d->again |= 1u << queue;
}

bool virtio_device_pop(struct virtio_device *d, unsigned queue, struct virtq_chain *c)
{
	struct virtq *q = &d->queues[queue];
	int ret;

	if (!virtio_device_runs(d) || !q->ready)
		return false;
	ret = virtq_pop(q, c);
	if (ret < 0)
		virtio_device_fail(d, "broken descriptor ring");
	return ret > 0;
}

void virtio_device_notify(struct virtio_device *d, unsigned queue)
{
	if (queue < d->class->queue_count && d->queues[queue].ready && virtio_device_runs(d))
		d->class->notify(d, queue);
}

static void notify_again(struct virtio_device *d)
{
	uint32_t queues = d->again;
	uint64_t count;

	if (read(d->again_fd, &count, sizeof(count)) < 0)
		return;
	d->again = 0;
	for (unsigned i = 0; i < d->class->queue_count; i++)
		if (queues & 1u << i)
			virtio_device_notify(d, i);
}

void virtio_device_event(struct virtio_device *d)
{
	struct epoll_event events[EVENTS_MAX];
	int n = epoll_wait(d->poll_fd, events, EVENTS_MAX, 0);

	for (int i = 0; i < n; i++) {
		if (events[i].data.u32 == TAG_AGAIN)
			notify_again(d);
		else
			d->class->event(d, events[i].data.u32, events[i].events);
	}
}

static int poll_change(struct virtio_device *d, int how, int fd, uint32_t tag, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.u32 = tag};

	return epoll_ctl(d->poll_fd, how, fd, &e) < 0 ? -errno : 0;
}

int virtio_device_watch(struct virtio_device *d, int fd, uint32_t tag, uint32_t events)
{
	return poll_change(d, EPOLL_CTL_ADD, fd, tag, events);
}

void virtio_device_rewatch(struct virtio_device *d, int fd, uint32_t tag, uint32_t events)
{
	poll_change(d, EPOLL_CTL_MOD, fd, tag, events);
}

void virtio_device_unwatch(struct virtio_device *d, int fd)
{
	poll_change(d, EPOLL_CTL_DEL, fd, 0, 0);
}

/* ---- what the driver sets up ---- */

void virtio_device_drain(struct virtio_device *d)
{
	if (d->class->drain)
		d->class->drain(d);
}

static void reset(struct virtio_device *d)
{
	virtio_device_drain(d);
	d->driver_features = 0;
	if (d->class->reset)
		d->class->reset(d);
	for (unsigned i = 0; i < d->class->queue_count; i++)
		virtq_reset(&d->queues[i]);
	d->features_sel = d->driver_features_sel = d->queue_sel = 0;
	d->status = d->interrupt_status = 0;
}

static bool features_acceptable(const struct virtio_device *d)
{
	return !(d->driver_features & ~d->features) && virtio_device_has(d, VIRTIO_F_VERSION_1);
}

static void write_status(struct virtio_device *d, uint32_t v)
{
	uint32_t old = d->status;

	if (!v) {
		reset(d);
		return;
	}
	/* A driver takes no bit back but by a reset (2.1.1), and NEEDS_RESET is ours. */
	v = (v & STATUS_BITS & ~VIRTIO_CONFIG_S_NEEDS_RESET) | old;
	if (!(old & VIRTIO_CONFIG_S_FEATURES_OK) && !features_acceptable(d))
		v &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!(v & VIRTIO_CONFIG_S_FEATURES_OK))
		v &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	d->status = v;
	if ((v & ~old & VIRTIO_CONFIG_S_DRIVER_OK) && virtio_device_runs(d) && d->class->start)
		d->class->start(d);
}

static void write_driver_features(struct virtio_device *d, uint32_t v)
{
	unsigned shift = d->driver_features_sel * 32;

	if (d->driver_features_sel > 1 || (d->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return;
	d->driver_features &= ~(0xffffffffull << shift);
	d->driver_features |= (uint64_t)v << shift;
}

static bool queues_can_be_set(const struct virtio_device *d)
{
	return (d->status & (VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)) ==
	       VIRTIO_CONFIG_S_FEATURES_OK;
}

static void write_queue_ready(struct virtio_device *d, struct virtq *q, uint32_t v)
{
	if (v == 0 && q->ready) {
		virtio_device_drain(d); /* nothing is used after the driver took it back */
		virtq_reset(q);
	} else if (v == 1 && !q->ready && queues_can_be_set(d)) {
		if (virtq_start(q, virtio_device_has(d, VIRTIO_RING_F_EVENT_IDX),
				virtio_device_has(d, VIRTIO_RING_F_INDIRECT_DESC)))
			virtio_device_fail(d, "queue outside of memory, misaligned or of no size");
	}
}

static void set_half(uint64_t *v, bool high, uint32_t half)
{
	unsigned shift = high ? 32 : 0;

	*v = (*v & ~(0xffffffffull << shift)) | (uint64_t)half << shift;
}

static void write_queue(struct virtio_device *d, uint64_t offset, uint32_t v)
{
	struct virtq *q = &d->queues[d->queue_sel];

	if (d->queue_sel >= d->class->queue_count)
		return;
	if (offset == VIRTIO_MMIO_QUEUE_READY) {
		write_queue_ready(d, q, v);
		return;
	}
	if (q->ready || !queues_can_be_set(d))
		return;
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM:
		q->size = v <= q->size_max ? (uint16_t)v : 0;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_half(&q->desc_gpa, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH, v);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_half(&q->avail_gpa, offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, v);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_half(&q->used_gpa, offset == VIRTIO_MMIO_QUEUE_USED_HIGH, v);
		break;
	}
}

/* ---- registers (4.2.2) ---- */

static uint32_t read_queue(const struct virtio_device *d, uint64_t offset)
{
	const struct virtq *q = &d->queues[d->queue_sel];

	if (d->queue_sel >= d->class->queue_count)
		return 0;
	return offset == VIRTIO_MMIO_QUEUE_NUM_MAX ? q->size_max : q->ready;
}

static uint32_t read_register(const struct virtio_device *d, uint64_t offset)
{
	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC_VALUE;
	case VIRTIO_MMIO_VERSION:
		return TRANSPORT_VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return d->class->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR_ID;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return d->features_sel > 1 ? 0 : (uint32_t)(d->features >> d->features_sel * 32);
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
	case VIRTIO_MMIO_QUEUE_READY:
		return read_queue(d, offset);
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return d->interrupt_status;
	case VIRTIO_MMIO_STATUS:
		return d->status;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return d->config_generation;
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
		return UINT32_MAX; /* there is no such region */
	default:
		return 0;
	}
}

static void write_register(struct virtio_device *d, uint64_t offset, uint32_t v)
{
	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		d->features_sel = v;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		write_driver_features(d, v);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		d->driver_features_sel = v;
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		d->queue_sel = MIN(v, (uint32_t)VIRTIO_QUEUES_MAX);
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		virtio_device_notify(d, v);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		d->interrupt_status &= ~v;
		break;
	case VIRTIO_MMIO_STATUS:
		write_status(d, v);
		break;
	default:
		write_queue(d, offset, v);
	}
}

void virtio_mmio_read(void *dev, uint64_t offset, void *data, unsigned n)
{
	const struct virtio_device *d = dev;

	memset(data, 0, n);
	if (offset >= VIRTIO_MMIO_CONFIG) {
		offset -= VIRTIO_MMIO_CONFIG;
		if (offset < d->config_bytes)
			memcpy(data, (const uint8_t *)d->config + offset,
			       MIN(n, d->config_bytes - offset));
	} else if (n == sizeof(uint32_t) && offset % n == 0) {
		uint32_t v = read_register(d, offset);

		memcpy(data, &v, sizeof(v));
	}
}

void virtio_mmio_write(void *dev, uint64_t offset, const void *data, unsigned n)
{
	struct virtio_device *d = dev;
	uint32_t v;

	if (offset >= VIRTIO_MMIO_CONFIG) {
		offset -= VIRTIO_MMIO_CONFIG;
		if (d->class->config_write && offset < d->config_bytes &&
		    n <= d->config_bytes - offset)
			d->class->config_write(d, (uint32_t)offset, data, n);
	} else if (n == sizeof(v) && offset % n == 0) {
		memcpy(&v, data, sizeof(v));
		write_register(d, offset, v);
	}
}

/* ---- state ---- */

int virtio_device_save(const struct virtio_device *d, struct state_writer *w)
{
	state_put_u32(w, d->class->id);
	state_put_u64(w, d->driver_features);
	state_put_u32(w, d->features_sel);
	state_put_u32(w, d->driver_features_sel);
	state_put_u32(w, d->queue_sel);
	state_put_u32(w, d->status);
	state_put_u32(w, d->interrupt_status);
	state_put_u32(w, d->config_generation);
	state_put_u32(w, d->class->queue_count);
	for (unsigned i = 0; i < d->class->queue_count; i++)
		virtq_save(&d->queues[i], w);
	return d->class->save ? d->class->save(d, w) : w->err;
}

/** Only states that the registers lead to. */
static bool state_possible(const struct virtio_device *d)
{
	bool negotiated = d->status & VIRTIO_CONFIG_S_FEATURES_OK;

	if ((d->status & ~(uint32_t)STATUS_BITS) ||
	    (d->interrupt_status & ~(uint32_t)INTERRUPT_BITS) || d->queue_sel > VIRTIO_QUEUES_MAX ||
	    (negotiated && !virtio_device_has(d, VIRTIO_F_VERSION_1)) ||
	    (!negotiated && (d->status & VIRTIO_CONFIG_S_DRIVER_OK)))
		return false;
	for (unsigned i = 0; i < d->class->queue_count; i++)
		if (d->queues[i].ready && !negotiated)
			return false;
	return true;
}

int virtio_device_load(struct virtio_device *d, struct state_reader *r)
{
	uint64_t missing;

	if (state_get_u32(r) != d->class->id)
		return -EBADMSG;
	d->driver_features = state_get_u64(r);
	d->features_sel = state_get_u32(r);
	d->driver_features_sel = state_get_u32(r);
	d->queue_sel = state_get_u32(r);
	d->status = state_get_u32(r);
	d->interrupt_status = state_get_u32(r);
	d->config_generation = state_get_u32(r);
	if (state_get_u32(r) != d->class->queue_count || r->err)
		return -EBADMSG;
	for (unsigned i = 0; i < d->class->queue_count; i++) {
		int ret = virtq_load(&d->queues[i], virtio_device_has(d, VIRTIO_RING_F_EVENT_IDX),
				     virtio_device_has(d, VIRTIO_RING_F_INDIRECT_DESC), r);
		if (ret)
			return ret;
	}
	if (!state_possible(d))
		return -EBADMSG;
	missing = d->driver_features & ~d->features;
	if (missing && (d->status & VIRTIO_CONFIG_S_FEATURES_OK)) {
		log_error("%s: the guest uses features that this device does not have: 0x%llx",
			  d->class->name, (unsigned long long)missing);
		return -ENOTSUP;
	}
	return d->class->load ? d->class->load(d, r) : r->err;
}

void virtio_device_resume(struct virtio_device *d)
{
	if (d->class->resume)
		d->class->resume(d);
	if (!virtio_device_runs(d) && !d->interrupt_status)
		return;
	for (unsigned i = 0; i < d->class->queue_count; i++)
		if (d->queues[i].ready)
			virtio_device_again(d, i);
	signal_eventfd(d->irq_fd);
}

/* ---- life ---- */

void virtio_device_free(struct virtio_device *d)
{
	if (!d)
		return;
	if (d->class->free)
		d->class->free(d);
	if (d->irq_fd >= 0)
		close(d->irq_fd);
	if (d->again_fd >= 0)
		close(d->again_fd);
	if (d->poll_fd >= 0)
		close(d->poll_fd);
	free(d);
}

static int init(struct virtio_device *d, const struct virtio_class *class)
{
	d->again_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->again_fd < 0)
		return -errno;
	d->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (d->poll_fd < 0)
		return -errno;
	d->features = VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
		      VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC);
	for (unsigned i = 0; i < class->queue_count; i++) {
		d->queues[i].mem = d->mem;
		d->queues[i].size_max = class->queue_size;
		virtq_reset(&d->queues[i]);
	}
	d->class = class;
	return virtio_device_watch(d, d->again_fd, TAG_AGAIN, EPOLLIN);
}

int virtio_device_new(const struct virtio_class *class, size_t bytes, const struct virtio_wiring *w,
		      struct virtio_device **ret)
{
	static const struct virtio_class unmade = {.name = "unmade"};
	struct virtio_device *d = calloc(1, bytes);
	int err;

	if (!d) {
		close(w->irq_fd);
		return -ENOMEM;
	}
	*d = (struct virtio_device){.class = &unmade,
				    .mem = w->mem,
				    .irq_fd = w->irq_fd,
				    .again_fd = -1,
				    .poll_fd = -1};
	err = init(d, class);
	if (err) {
		d->class = &unmade; /* its own free() has nothing to free yet */
		virtio_device_free(d);
		return err;
	}
	*ret = d;
	return 0;
}
