/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_queue.c - split virtqueues, as the device sees them
 *
 * Barriers (virtio 1.2, 2.7.13 has the driver's side of each):
 * - avail->idx is read with acquire before the entries that it covers.
 * - used->idx is written with release after the entries that it covers.
 * - After used->idx, and before what the driver wrote about interrupts is read, lies a full
 *   barrier: either the driver sees the new index, or we see that it wants an interrupt. The
 *   request for notifications and the last look at avail->idx are the mirror image of that.
 */
#include "vmm/kernel/virtio_queue.h"

#include <errno.h>

#include "common/util.h"

enum { DESC_ALIGN = 16, AVAIL_ALIGN = 2, USED_ALIGN = 4 };

/** Copy what others may write meanwhile. Without the barrier a compiler may use the source again
 * instead of the copy, and find something else there than what was checked. */
static void copy_once(void *dst, const void *src, size_t n)
{
	memcpy(dst, src, n);
	__asm__ volatile("" : : "r"(dst) : "memory");
}

void virtq_reset(struct virtq *q)
{
	*q = (struct virtq){.mem = q->mem, .size_max = q->size_max, .size = q->size_max};
}

/** A ring as host memory, or NULL. The header of the used and available rings is 4 bytes, the
 * event index behind the entries 2 (2.7.6, 2.7.8). */
static void *ring_ptr(const struct virtq *q, uint64_t gpa, uint64_t bytes, uint64_t align)
{
	return gpa % align ? NULL : guest_mem_ptr(q->mem, (struct gpa){gpa}, bytes);
}

int virtq_start(struct virtq *q, bool event_idx, bool indirect)
{
	uint16_t n = q->size;

	if (!n || n > q->size_max || (n & (n - 1)))
		return -EINVAL;
	q->desc = ring_ptr(q, q->desc_gpa, n * sizeof(*q->desc), DESC_ALIGN);
	q->avail = ring_ptr(q, q->avail_gpa, 6 + n * sizeof(q->avail->ring[0]), AVAIL_ALIGN);
	q->used = ring_ptr(q, q->used_gpa, 6 + n * sizeof(q->used->ring[0]), USED_ALIGN);
	if (!q->desc || !q->avail || !q->used)
		return -EINVAL;
	q->event_idx = event_idx;
	q->indirect = indirect;
	q->ready = true;
	return 0;
}

static __virtio16 *used_event(const struct virtq *q)
{
	return &q->avail->ring[q->size];
}

static __virtio16 *avail_event(const struct virtq *q)
{
	return (__virtio16 *)(void *)&q->used->ring[q->size];
}

/** The index of the available ring, once the driver has been asked to notify if it is what we know
 * already. */
static uint16_t avail_idx(struct virtq *q)
{
	uint16_t idx = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);

	if (idx != q->next_avail || !q->event_idx)
		return idx;
	__atomic_store_n(avail_event(q), q->next_avail, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);
}

/** struct walk - where a chain's descriptors are read from: the queue's table, or an indirect one.
 */
struct walk {
	const uint8_t *table;
	uint32_t entries;
	uint32_t next;
	bool indirect;
};

/** Go on in an indirect table (2.7.5.3). It ends the chain, and has no table inside. */
static int enter_table(const struct virtq *q, struct walk *at, const struct vring_desc *d)
{
	if (at->indirect || !q->indirect || (d->flags & VRING_DESC_F_NEXT) || !d->len ||
	    d->len % sizeof(*d))
		return -EBADMSG;
	at->table = guest_mem_ptr(q->mem, (struct gpa){d->addr}, d->len);
	if (!at->table)
		return -EBADMSG;
	at->entries = d->len / sizeof(*d);
	at->next = 0;
	at->indirect = true;
	return 0;
}

static int add_segment(const struct virtq *q, struct virtq_chain *c, const struct vring_desc *d)
{
	bool writable = d->flags & VRING_DESC_F_WRITE;
	void *p = guest_mem_ptr(q->mem, (struct gpa){d->addr}, d->len);
	uint32_t sum;

	if (!p || !checked_add(c->read_bytes + c->write_bytes, d->len, &sum))
		return -EBADMSG;
	if (!writable && c->write_count)
		return -EBADMSG; /* what is read comes first (2.7.4.2) */
	if (!d->len)
		return 0;
	c->iov[c->read_count + c->write_count] = (struct iovec){p, d->len};
	if (writable) {
		c->write_count++;
		c->write_bytes += d->len;
	} else {
		c->read_count++;
		c->read_bytes += d->len;
	}
	return 0;
}

/** Follow the descriptors from @head. A loop ends at VIRTQ_SEGMENTS_MAX. */
static int collect(const struct virtq *q, uint16_t head, struct virtq_chain *c)
{
	struct walk at = {(const uint8_t *)q->desc, q->size, head, false};

	c->head = head;
	c->read_count = c->write_count = 0;
	c->read_bytes = c->write_bytes = 0;
	for (unsigned seen = 0; seen < VIRTQ_SEGMENTS_MAX;) {
		struct vring_desc d;
		int ret;

		if (at.next >= at.entries)
			return -EBADMSG;
		copy_once(&d, at.table + at.next * sizeof(d), sizeof(d));
		if (d.flags & VRING_DESC_F_INDIRECT) {
			ret = enter_table(q, &at, &d);
			if (ret)
				return ret;
			continue;
		}
		seen++;
		ret = add_segment(q, c, &d);
		if (ret || !(d.flags & VRING_DESC_F_NEXT))
			return ret;
		at.next = d.next;
	}
	return -EBADMSG;
}

int virtq_pop(struct virtq *q, struct virtq_chain *c)
{
	uint16_t idx = avail_idx(q);
	int ret;

	if (idx == q->next_avail)
		return 0;
	if ((uint16_t)(idx - q->next_avail) > q->size)
		return -EBADMSG;
	ret = collect(
		q,
		__atomic_load_n(&q->avail->ring[q->next_avail & (q->size - 1)], __ATOMIC_RELAXED),
		c);
	if (ret)
		return ret;
	q->next_avail++;
	return 1;
}

void virtq_unpop(struct virtq *q, uint16_t count)
{
	q->next_avail -= count;
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t bytes)
{
	vring_used_elem_t *e = &q->used->ring[q->next_used & (q->size - 1)];

	e->id = head;
	e->len = bytes;
	__atomic_store_n(&q->used->idx, ++q->next_used, __ATOMIC_RELEASE);
}

bool virtq_needs_interrupt(struct virtq *q)
{
	uint16_t old = q->signalled;

	if (old == q->next_used)
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	q->signalled = q->next_used;
	if (q->event_idx)
		return vring_need_event(__atomic_load_n(used_event(q), __ATOMIC_RELAXED),
					q->next_used, old);
	return !(__atomic_load_n(&q->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
}

/* ---- bytes of a chain ---- */

int iov_slice(const struct iovec *iov, int count, uint64_t offset, uint64_t n, struct iovec *out)
{
	int ret = 0;

	for (int i = 0; i < count && n; i++) {
		size_t part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - offset, n);
		out[ret++] = (struct iovec){(uint8_t *)iov[i].iov_base + offset, part};
		offset = 0;
		n -= part;
	}
	return ret;
}

/** Copy between @buf and @n bytes at @offset of @iov; @out: from @buf. */
static size_t iov_copy(const struct iovec *iov, int count, uint64_t offset, uint8_t *buf, size_t n,
		       bool out)
{
	size_t done = 0;

	for (int i = 0; i < count && done < n; i++) {
		size_t part;
		uint8_t *at;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		at = (uint8_t *)iov[i].iov_base + offset;
		part = MIN(iov[i].iov_len - offset, n - done);
		copy_once(out ? at : buf + done, out ? buf + done : at, part);
		offset = 0;
		done += part;
	}
	return done;
}

size_t virtq_chain_read(const struct virtq_chain *c, uint32_t offset, void *buf, size_t n)
{
	return iov_copy(virtq_chain_iov(c, false), c->read_count, offset, buf, n, false);
}

size_t virtq_chain_write(const struct virtq_chain *c, uint32_t offset, const void *buf, size_t n)
{
	return iov_copy(virtq_chain_iov(c, true), c->write_count, offset, (uint8_t *)(uintptr_t)buf,
			n, true);
}

/* ---- state ---- */

void virtq_save(const struct virtq *q, struct state_writer *w)
{
	state_put_u32(w, q->size);
	state_put_u8(w, q->ready);
	state_put_u64(w, q->desc_gpa);
	state_put_u64(w, q->avail_gpa);
	state_put_u64(w, q->used_gpa);
	state_put_u32(w, q->next_avail);
	state_put_u32(w, q->next_used);
	state_put_u32(w, q->signalled);
}

int virtq_load(struct virtq *q, bool event_idx, bool indirect, struct state_reader *r)
{
	uint32_t size = state_get_u32(r);
	uint8_t ready = state_get_u8(r);
	uint32_t next_avail, next_used, signalled;

	q->desc_gpa = state_get_u64(r);
	q->avail_gpa = state_get_u64(r);
	q->used_gpa = state_get_u64(r);
	next_avail = state_get_u32(r);
	next_used = state_get_u32(r);
	signalled = state_get_u32(r);
	if (r->err || size > UINT16_MAX || ready > 1 || next_avail > UINT16_MAX ||
	    next_used > UINT16_MAX || signalled > UINT16_MAX)
		return -EBADMSG;
	q->size = (uint16_t)size;
	q->next_avail = (uint16_t)next_avail;
	q->next_used = (uint16_t)next_used;
	q->signalled = (uint16_t)signalled;
	return ready && virtq_start(q, event_idx, indirect) ? -EBADMSG : 0;
}
