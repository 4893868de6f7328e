/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_rng.c - entropy from the host's getrandom()
 *
 * A chain gets at most CHAIN_BYTES_MAX bytes, and a call handles at most TURN_BYTES_MAX: the device
 * may use less of a buffer than there is (5.4.6), and nobody needs more.
 */
#include "vmm/kernel/virtio_rng.h"

#include <sys/random.h>

#include "common/util.h"

enum { QUEUE_SIZE = 64, CHAIN_BYTES_MAX = 4096, TURN_BYTES_MAX = 65536 };

struct virtio_rng {
	struct virtio_device device;
	struct virtq_chain chain;
};

/** Return: bytes of entropy that @c got. */
static uint32_t fill(const struct virtq_chain *c)
{
	uint8_t bytes[CHAIN_BYTES_MAX];
	/* Up to 256 bytes come at once; a signal can cut more short. */
	ssize_t n = getrandom(bytes, MIN(c->write_bytes, (uint32_t)sizeof(bytes)), 0);

	return n <= 0 ? 0 : (uint32_t)virtq_chain_write(c, 0, bytes, (size_t)n);
}

static void rng_notify(struct virtio_device *d, unsigned queue)
{
	struct virtio_rng *rng = container_of(d, struct virtio_rng, device);
	struct virtq_chain *c = &rng->chain;
	uint32_t given = 0;

	while (given < TURN_BYTES_MAX && virtio_device_pop(d, queue, c)) {
		uint32_t n;

		if (!c->write_bytes) {
			virtio_device_fail(d, "a buffer that cannot be written");
			break;
		}
		n = fill(c);
		virtq_push(&d->queues[queue], c->head, n);
		given += MAX(n, 1u);
	}
	virtio_device_flush(d, queue);
	if (given >= TURN_BYTES_MAX)
		virtio_device_again(d, queue);
}

static const struct virtio_class rng_class = {
	.id = VIRTIO_ID_RNG,
	.name = "virtio-rng",
	.queue_count = 1,
	.queue_size = QUEUE_SIZE,
	.notify = rng_notify,
};

int virtio_rng_new(const struct virtio_wiring *w, struct virtio_device **ret)
{
	return virtio_device_new(&rng_class, sizeof(struct virtio_rng), w, ret);
}
