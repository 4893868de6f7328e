/* SPDX-License-Identifier: Apache-2.0 */
/* machine_virtio.c - where a machine's virtio devices are, and what wakes them */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/log.h"
#include "vmm/kernel/acpi.h"
#include "vmm/kernel/machine.h"

static uint64_t window(unsigned index)
{
	return LAYOUT_VIRTIO + (uint64_t)index * LAYOUT_VIRTIO_BYTES;
}

int machine_virtio_wiring(struct machine *m, struct virtio_wiring *ret)
{
	int err;

	*ret = (struct virtio_wiring){.mem = &m->mem, .irq_fd = -1};
	if (m->virtio_count == LAYOUT_VIRTIO_DEVICES)
		return -ENOSPC;
	ret->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ret->irq_fd < 0)
		return -errno;
	err = machine_irq(m, ret->irq_fd, LAYOUT_GSI_VIRTIO + m->virtio_count);
	if (err)
		close(ret->irq_fd);
	return err;
}

static void on_event(void *arg, int fd, uint32_t events)
{
	(void)fd;
	(void)events;
	virtio_device_event(arg);
}

static void on_kick(void *arg, int fd, uint32_t events)
{
	struct machine_queue *q = arg;
	eventfd_t ignored;

	(void)events;
	if (!eventfd_read(fd, &ignored))
		virtio_device_notify(q->device, q->index);
}

/** A write of the queue's number to its device's notify register wakes the loop, and costs the
 * guest no exit to this process. */
static int add_kick(struct machine *m, struct virtio_device *d, unsigned device, unsigned queue)
{
	struct machine_queue *q = &m->queues[device][queue];
	struct kvm_ioeventfd kick = {
		.datamatch = queue,
		.addr = window(device) + VIRTIO_MMIO_QUEUE_NOTIFY,
		.len = 4,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	*q = (struct machine_queue){
		.device = d, .index = queue, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	if (q->fd < 0)
		return -errno;
	kick.fd = q->fd;
	if (ioctl(m->vm_fd, KVM_IOEVENTFD, &kick))
		return -errno;
	return machine_watch(m, q->fd, EPOLLIN, on_kick, q);
}

int machine_virtio_add(struct machine *m, struct virtio_device *d)
{
	unsigned index = m->virtio_count;
	const struct bus_range range = {
		.base = window(index),
		.bytes = LAYOUT_VIRTIO_BYTES,
		.dev = d,
		.read = virtio_mmio_read,
		.write = virtio_mmio_write,
	};
	int ret = bus_add(&m->memory, &range);

	m->virtio[m->virtio_count++] = d;
	if (!ret)
		ret = machine_watch(m, virtio_device_fd(d), EPOLLIN, on_event, d);
	for (unsigned q = 0; !ret && q < d->class->queue_count; q++)
		ret = add_kick(m, d, index, q);
	if (ret)
		log_error("device %s: no room for it", d->class->name);
	return ret;
}

void machine_virtio_describe(const struct machine *m, struct acpi_virtio ret[LAYOUT_VIRTIO_DEVICES])
{
	for (unsigned i = 0; i < m->virtio_count; i++)
		ret[i] = (struct acpi_virtio){.base = (uint32_t)window(i),
					      .bytes = LAYOUT_VIRTIO_BYTES,
					      .gsi = LAYOUT_GSI_VIRTIO + i};
}

void machine_virtio_free(struct machine *m)
{
	for (unsigned i = 0; i < m->virtio_count; i++) {
		for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
			if (m->queues[i][q].device)
				close(m->queues[i][q].fd);
		virtio_device_free(m->virtio[i]);
	}
	m->virtio_count = 0;
}

/* ---- capture and restore ---- */

int machine_virtio_save(struct machine *m, struct state_writer *w)
{
	state_put_u32(w, m->virtio_count);
	for (unsigned i = 0; i < m->virtio_count; i++) {
		int ret;

		state_put_u32(w, m->virtio[i]->class->id);
		ret = virtio_device_save(m->virtio[i], w);
		if (ret)
			return ret;
	}
	return w->err;
}

int machine_virtio_load(struct machine *m, struct state_reader *r)
{
	if (state_get_u32(r) != m->virtio_count || r->err) {
		log_error("restore: the snapshot's machine had other devices: give as many --disk "
			  "and --net as it was booted with, in the same order");
		return r->err ? r->err : -EINVAL;
	}
	for (unsigned i = 0; i < m->virtio_count; i++) {
		uint32_t id = state_get_u32(r);
		int ret = r->err;

		if (!ret && id != m->virtio[i]->class->id) {
			log_error("restore: device %u of the snapshot is not a %s: give --disk and "
				  "--net as the machine was booted with",
				  i, m->virtio[i]->class->name);
			ret = -EINVAL;
		}
		if (!ret)
			ret = virtio_device_load(m->virtio[i], r);
		if (ret)
			return ret;
	}
	return r->err;
}
