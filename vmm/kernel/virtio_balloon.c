/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_balloon.c - memory that the guest does without
 *
 * Pages that the guest gives up or reports as free are given back to the host at once. It is asked
 * for none: num_pages is zero, and what counts is what it reports as free by itself. Where memory
 * is anonymous they are zero from then on, and a capture leaves them out. Where it is the private
 * mapping of a template, the page of the template comes back, which is this guest's own older
 * contents, and costs no memory either. A guest makes no use of what is in free pages.
 *
 * KVM learns of it through its MMU notifier; a guest that touches such a page gets another one. So
 * deflating needs nothing to be done, and the guest may do it on its own when it is out of memory.
 *
 * That is done with the machine's lock held: a turn ends after so many pages, whatever number of
 * chains that is, and of a report that is larger than any of Linux's the rest is not given back.
 *
 * Queues (5.5.2): 0 inflates, 1 deflates. The statistics queue and that for hints exist only with
 * features that are not offered, and drivers do not agree on whether their numbers are left out
 * (Linux: reporting is 2 then) or not (the specification: 4). There is nothing else that those
 * numbers could mean, so free pages are reported in any of them.
 */
#include "vmm/kernel/virtio_balloon.h"

#include <linux/virtio_balloon.h>
#include <string.h>
#include <sys/mman.h>

#include "common/log.h"
#include "common/util.h"

enum {
	INFLATE,
	DEFLATE,
	REPORTING,
	QUEUES = VIRTIO_QUEUES_MAX,
	QUEUE_SIZE = 128,
	PFNS_MAX = 1024,		 /**< looked at together */
	CHAIN_BYTES_MAX = 64 * PFNS_MAX, /**< Linux sends 1 KiB */
	REPORT_PAGES_MAX = 65536,	 /**< of one chain; Linux reports up to 128 MiB */
	TURN_PAGES_MAX = 16384,
};

struct virtio_balloon {
	struct virtio_device device;
	struct virtio_balloon_config config;
	struct virtq_chain chain;
	uint32_t pfns[PFNS_MAX];
};

static struct virtio_balloon *balloon_of(struct virtio_device *d)
{
	return container_of(d, struct virtio_balloon, device);
}

/** Give the whole pages of [@p, @p + @n) back to the host. */
static void give_back(uint8_t *p, uint64_t n)
{
	uintptr_t start = align_up((uintptr_t)p, PAGE_BYTES);
	uintptr_t end = align_down((uintptr_t)p + n, PAGE_BYTES);

	if (start < end && madvise((void *)start, end - start, MADV_DONTNEED))
		log_debug("balloon: %zu bytes stay: %m", end - start);
}

/** struct run - neighbouring pages, given back together. */
struct run {
	uint64_t first, end;
};

static void end_run(const struct virtio_balloon *b, struct run *run)
{
	uint64_t n = (run->end - run->first) * PAGE_BYTES;
	uint8_t *p = guest_mem_ptr(b->device.mem, (struct gpa){run->first * PAGE_BYTES}, n);

	if (n && p)
		give_back(p, n);
	*run = (struct run){0};
}

/** A list of page numbers; those outside of memory are skipped. Linux takes pages in either
 * direction. */
static void give_back_pfns(const struct virtio_balloon *b, const uint32_t *pfns, size_t count)
{
	struct run run = {0};

	for (size_t i = 0; i < count; i++) {
		uint64_t pfn = pfns[i];

		if (!guest_mem_ptr(b->device.mem, (struct gpa){pfn * PAGE_BYTES}, PAGE_BYTES))
			continue;
		if (run.first < run.end && pfn == run.end) {
			run.end++;
		} else if (run.first < run.end && pfn + 1 == run.first) {
			run.first--;
		} else {
			end_run(b, &run);
			run = (struct run){pfn, pfn + 1};
		}
	}
	end_run(b, &run);
}

/** Return: how many pages were looked at. */
static uint64_t inflate(struct virtio_balloon *b)
{
	const struct virtq_chain *c = &b->chain;
	size_t n;

	for (uint32_t at = 0; at < c->read_bytes; at += (uint32_t)n) {
		n = virtq_chain_read(c, at, b->pfns, sizeof(b->pfns));
		give_back_pfns(b, b->pfns, n / sizeof(b->pfns[0]));
	}
	return c->read_bytes / sizeof(b->pfns[0]);
}

/** Each segment is a range of free memory (5.5.6.7). Return: how many pages they are. */
static uint64_t report(const struct virtio_balloon *b)
{
	const struct iovec *iov = virtq_chain_iov(&b->chain, true);
	uint64_t pages = 0;

	for (unsigned i = 0; i < b->chain.write_count && pages < REPORT_PAGES_MAX; i++) {
		size_t n = MIN(iov[i].iov_len, (REPORT_PAGES_MAX - pages) * PAGE_BYTES);

		give_back(iov[i].iov_base, n);
		pages += pages_of(n);
	}
	return pages;
}

static void balloon_notify(struct virtio_device *d, unsigned queue)
{
	struct virtio_balloon *b = balloon_of(d);
	uint64_t pages = 0;

	while (pages < TURN_PAGES_MAX && virtio_device_pop(d, queue, &b->chain)) {
		pages += TURN_PAGES_MAX / VIRTIO_BUDGET; /* for the chain itself */
		if (b->chain.read_bytes > CHAIN_BYTES_MAX) {
			virtio_device_fail(d, "list of pages too long");
			break;
		}
		if (queue == INFLATE)
			pages += inflate(b);
		else if (queue >= REPORTING)
			pages += report(b);
		virtq_push(&d->queues[queue], b->chain.head, 0);
	}
	virtio_device_flush(d, queue);
	if (pages >= TURN_PAGES_MAX)
		virtio_device_again(d, queue);
}

/** Only what the guest has given up is its to write. */
static void balloon_config_write(struct virtio_device *d, uint32_t offset, const void *data,
				 unsigned n)
{
	struct virtio_balloon *b = balloon_of(d);

	if (offset == offsetof(struct virtio_balloon_config, actual) && n == sizeof(uint32_t))
		memcpy(&b->config.actual, data, n);
}

static int balloon_save(const struct virtio_device *d, struct state_writer *w)
{
	const struct virtio_balloon *b = (const void *)d; /* its first member */

	state_put_u32(w, b->config.num_pages);
	state_put_u32(w, b->config.actual);
	return w->err;
}

static int balloon_load(struct virtio_device *d, struct state_reader *r)
{
	struct virtio_balloon *b = balloon_of(d);

	b->config.num_pages = state_get_u32(r);
	b->config.actual = state_get_u32(r);
	return r->err;
}

static const struct virtio_class balloon_class = {
	.id = VIRTIO_ID_BALLOON,
	.name = "virtio-balloon",
	.queue_count = QUEUES,
	.queue_size = QUEUE_SIZE,
	.notify = balloon_notify,
	.config_write = balloon_config_write,
	.save = balloon_save,
	.load = balloon_load,
};

int virtio_balloon_new(const struct virtio_wiring *w, struct virtio_device **ret)
{
	struct virtio_device *d;
	struct virtio_balloon *b;
	int err = virtio_device_new(&balloon_class, sizeof(*b), w, &d);

	if (err)
		return err;
	b = balloon_of(d);
	d->features |= VIRTIO_FEATURE(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
		       VIRTIO_FEATURE(VIRTIO_BALLOON_F_REPORTING);
	d->config = &b->config;
	d->config_bytes = sizeof(b->config);
	*ret = d;
	return 0;
}
