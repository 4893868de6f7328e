/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_net.c - a network card for the guest, on a TAP device of the host
 *
 * Frames to the guest are read into a buffer of the device, and copied from there into as many of
 * the guest's as they take; a frame that finds too few waits, and with it the TAP device's queue,
 * which drops what is too much for it. Frames of the guest go out of its memory directly. Checksums
 * and segmentation are left to whom they are offered to: both sides speak the same header.
 *
 * A TAP device that is removed under a guest is a cable that was pulled: the link is down, what the
 * guest sends is dropped. A restore has a TAP device of its own, and the link is up again.
 *
 * Feature bits are those of 5.1.3; that of VIRTIO_NET_F_MRG_RXBUF keeps the guest's buffers at a
 * page each where without it they were 64 KiB.
 */
#include "vmm/kernel/virtio_net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"

enum {
	RX,
	TX,
	QUEUES,
	QUEUE_SIZE = 256,
	NAME_BYTES = 32,
	HEADER_BYTES = sizeof(struct virtio_net_hdr_v1),
	PACKET_BYTES_MAX = HEADER_BYTES + 65550, /**< 5.1.6.3.1: the largest with GSO */
	BUFFERS_MAX = 64,			 /**< of one frame */
	FRAMES_MAX = 64,			 /**< of the host in one turn */
	MAC_MULTICAST = 1,
	MAC_LOCAL = 2,
};

/**
 * struct virtio_net
 * @is_tap: else a socket
 * @watched: @tap_fd is in the device's epoll set; not once it is gone
 * @tx_waits: the TAP device takes no more for now
 * @mac_given: by the options, and so not by a snapshot
 * @packet: a frame for the guest behind its header, @packet_bytes of it, 0: none waits
 * @first: the chain with its header; @chain: any other
 */
struct virtio_net {
	struct virtio_device device;
	struct virtio_net_config config;
	char name[NAME_BYTES];
	int tap_fd;
	bool is_tap, watched, tx_waits, mac_given, offloads_logged;
	struct virtq_chain first, chain;
	uint32_t packet_bytes;
	uint8_t packet[PACKET_BYTES_MAX];
};

static struct virtio_net *net_of(struct virtio_device *d)
{
	return container_of(d, struct virtio_net, device);
}

static bool link_is_up(const struct virtio_net *net)
{
	return net->config.status & VIRTIO_NET_S_LINK_UP;
}

static void link_down(struct virtio_net *net, int err)
{
	if (!link_is_up(net))
		return;
	log_warn("network %s: the TAP device is gone (%s): the guest's link is down", net->name,
		 strerror(err));
	net->config.status = 0;
	/* Closing it does not do that while somebody else has it, too. */
	virtio_device_unwatch(&net->device, net->tap_fd);
	net->watched = false;
	close(net->tap_fd);
	net->tap_fd = -1;
	virtio_device_config_changed(&net->device);
}

/** Wait for what there is a use for. */
static void update_watch(struct virtio_net *net)
{
	uint32_t events = 0;

	if (!net->watched)
		return;
	if (virtio_device_runs(&net->device) && !net->packet_bytes)
		events |= EPOLLIN;
	if (net->tx_waits)
		events |= EPOLLOUT;
	virtio_device_rewatch(&net->device, net->tap_fd, 0, events);
}

/* ---- to the guest ---- */

/** struct taken - buffers of one frame that were taken and not given back yet. */
struct taken {
	unsigned count;
	uint16_t head[BUFFERS_MAX];
	uint32_t bytes[BUFFERS_MAX];
};

enum delivery { DELIVERED, DROPPED, NO_BUFFER };

/** Fill buffers with the frame. */
static enum delivery fill_buffers(struct virtio_net *net, struct taken *t)
{
	bool mergeable = virtio_device_has(&net->device, VIRTIO_NET_F_MRG_RXBUF);

	for (uint32_t done = 0; done < net->packet_bytes;) {
		struct virtq_chain *c = t->count ? &net->chain : &net->first;
		uint32_t n;

		if (t->count == (mergeable ? (unsigned)BUFFERS_MAX : 1))
			return DROPPED;
		if (!virtio_device_pop(&net->device, RX, c))
			return NO_BUFFER;
		if (c->write_bytes < (t->count ? 1 : HEADER_BYTES)) {
			virtio_device_fail(&net->device,
					   "receive buffer without room for a header");
			return NO_BUFFER;
		}
		n = (uint32_t)virtq_chain_write(c, 0, net->packet + done, net->packet_bytes - done);
		t->head[t->count] = c->head;
		t->bytes[t->count++] = n;
		done += n;
	}
	return DELIVERED;
}

/** Try to get the waiting frame to the guest. Return: false while it has to wait. */
static bool deliver(struct virtio_net *net)
{
	struct virtq *q = &net->device.queues[RX];
	struct taken t = {0};
	enum delivery how = fill_buffers(net, &t);
	uint16_t count = (uint16_t)t.count;

	if (how == DELIVERED) {
		virtq_chain_write(&net->first, offsetof(struct virtio_net_hdr_v1, num_buffers),
				  &count, sizeof(count));
		for (unsigned i = 0; i < t.count; i++)
			virtq_push(q, t.head[i], t.bytes[i]);
	} else {
		virtq_unpop(q, count);
	}
	if (how == NO_BUFFER)
		return false;
	net->packet_bytes = 0;
	return true;
}

/** Read the next frame. Return: is there one? */
static bool read_frame(struct virtio_net *net)
{
	ssize_t n = read(net->tap_fd, net->packet, sizeof(net->packet));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		link_down(net, n ? errno : EPIPE);
		return false;
	}
	if (n <= HEADER_BYTES)
		return true; /* packet_bytes stays 0: nothing to deliver */
	net->packet_bytes = (uint32_t)n;
	return true;
}

/** Frames for the guest, until there is none, or no buffer, or others have their turn: the TAP
 * device stays readable. */
static void receive(struct virtio_net *net)
{
	for (unsigned i = 0; i < FRAMES_MAX && virtio_device_runs(&net->device); i++) {
		if (!net->packet_bytes && (!link_is_up(net) || !read_frame(net)))
			break;
		if (net->packet_bytes && !deliver(net))
			break;
	}
	virtio_device_flush(&net->device, RX);
}

/* ---- from the guest ---- */

/** Only what was negotiated; the kernel checks the rest of a header. */
static bool header_allowed(const struct virtio_device *d, const struct virtio_net_hdr_v1 *h)
{
	bool ecn = h->gso_type & VIRTIO_NET_HDR_GSO_ECN;

	if ((h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && !virtio_device_has(d, VIRTIO_NET_F_CSUM))
		return false;
	if (ecn && !virtio_device_has(d, VIRTIO_NET_F_HOST_ECN))
		return false;
	switch (h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return !ecn;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return virtio_device_has(d, VIRTIO_NET_F_HOST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return virtio_device_has(d, VIRTIO_NET_F_HOST_TSO6);
	case VIRTIO_NET_HDR_GSO_UDP:
		return virtio_device_has(d, VIRTIO_NET_F_HOST_UFO);
	default:
		return false;
	}
}

/** Is it the device that failed, and not the frame? */
static bool is_gone(int err)
{
	return err == EBADFD || err == EBADF || err == ENODEV || err == ENXIO || err == EPIPE ||
	       err == ECONNRESET || err == ECONNREFUSED || err == ENOTCONN;
}

/** Send the frame in net->chain, or drop it. Return: false when it has to wait. */
static bool send_frame(struct virtio_net *net)
{
	const struct virtq_chain *c = &net->chain;
	struct virtio_net_hdr_v1 h;
	struct iovec iov[1 + VIRTQ_SEGMENTS_MAX] = {{&h, sizeof(h)}};
	int count;

	if (!link_is_up(net) || virtq_chain_read(c, 0, &h, sizeof(h)) < sizeof(h) ||
	    c->read_bytes > PACKET_BYTES_MAX || !header_allowed(&net->device, &h))
		return true;
	h.num_buffers = 0;
	count = iov_slice(virtq_chain_iov(c, false), c->read_count, sizeof(h), c->read_bytes,
			  iov + 1);
	while (writev(net->tap_fd, iov, 1 + count) < 0) {
		int err = errno;

		if (err == EAGAIN)
			return false;
		if (is_gone(err))
			link_down(net, err);
		if (err != EINTR)
			break;
	}
	return true;
}

static void transmit(struct virtio_net *net)
{
	struct virtio_device *d = &net->device;
	unsigned count = 0;

	net->tx_waits = false;
	for (; count < VIRTIO_BUDGET && virtio_device_pop(d, TX, &net->chain); count++) {
		if (net->chain.read_bytes < HEADER_BYTES) {
			virtio_device_fail(d, "frame without a header");
			break;
		}
		if (!send_frame(net)) {
			virtq_unpop(&d->queues[TX], 1);
			net->tx_waits = true;
			break;
		}
		virtq_push(&d->queues[TX], net->chain.head, 0);
	}
	virtio_device_flush(d, TX);
	if (count == VIRTIO_BUDGET)
		virtio_device_again(d, TX);
}

/* ---- the TAP device ---- */

/** What the kernel may leave to the guest. */
static unsigned wanted_offloads(const struct virtio_device *d)
{
	static const struct {
		unsigned feature, offload;
	} table[] = {
		{VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
		{VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
		{VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
		{VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO},
	};
	unsigned offloads = 0;

	if (!virtio_device_has(d, VIRTIO_NET_F_GUEST_CSUM))
		return 0; /* the others need it (5.1.3.1) */
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (virtio_device_has(d, table[i].feature))
			offloads |= table[i].offload;
	if (!(offloads & (TUN_F_TSO4 | TUN_F_TSO6)))
		offloads &= ~(unsigned)TUN_F_TSO_ECN;
	return offloads | TUN_F_CSUM;
}

static void set_offloads(struct virtio_net *net)
{
	if (!net->is_tap || !link_is_up(net) ||
	    !ioctl(net->tap_fd, TUNSETOFFLOAD, (unsigned long)wanted_offloads(&net->device)))
		return;
	if (!net->offloads_logged)
		log_warn("network %s: offloads: %s", net->name, strerror(errno));
	net->offloads_logged = true;
}

static void offer_offloads(struct virtio_device *d, bool ufo)
{
	static const uint8_t bits[] = {
		VIRTIO_NET_F_CSUM,	 VIRTIO_NET_F_HOST_TSO4,  VIRTIO_NET_F_HOST_TSO6,
		VIRTIO_NET_F_HOST_ECN,	 VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4,
		VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_ECN,
	};

	for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
		d->features |= VIRTIO_FEATURE(bits[i]);
	if (ufo)
		d->features |= VIRTIO_FEATURE(VIRTIO_NET_F_HOST_UFO) |
			       VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_UFO);
}

/** Find out what the descriptor is, and set the header that virtio has. */
static int prepare_tap(struct virtio_net *net)
{
	const unsigned long tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	int flags = fcntl(net->tap_fd, F_GETFL), bytes = HEADER_BYTES;
	struct ifreq ifr = {0};
	bool ufo;

	if (flags < 0 || fcntl(net->tap_fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	if (ioctl(net->tap_fd, TUNGETIFF, &ifr) < 0)
		return errno == ENOTTY || errno == EOPNOTSUPP ? 0 : -errno;
	if (!(ifr.ifr_flags & IFF_TAP) || !(ifr.ifr_flags & IFF_VNET_HDR)) {
		log_error("network %s: open the TAP device with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR",
			  net->name);
		return -EINVAL;
	}
	if (ioctl(net->tap_fd, TUNSETVNETHDRSZ, &bytes) < 0)
		return -errno;
	net->is_tap = true;
	ufo = !ioctl(net->tap_fd, TUNSETOFFLOAD, tso | TUN_F_UFO);
	if (ufo || !ioctl(net->tap_fd, TUNSETOFFLOAD, tso))
		offer_offloads(&net->device, ufo);
	set_offloads(net); /* none before the driver has asked */
	return 0;
}

/* ---- the device ---- */

static void net_notify(struct virtio_device *d, unsigned queue)
{
	struct virtio_net *net = net_of(d);

	if (queue == TX)
		transmit(net);
	else
		receive(net);
	update_watch(net);
}

static void net_start(struct virtio_device *d)
{
	set_offloads(net_of(d));
	update_watch(net_of(d));
}

static void net_reset(struct virtio_device *d)
{
	struct virtio_net *net = net_of(d);

	net->packet_bytes = 0;
	net->tx_waits = false;
	set_offloads(net);
	if (net->watched)
		virtio_device_rewatch(d, net->tap_fd, 0, 0);
}

static void net_event(struct virtio_device *d, uint32_t tag, uint32_t events)
{
	struct virtio_net *net = net_of(d);

	(void)tag;
	if (events & EPOLLIN)
		receive(net);
	if (events & EPOLLOUT)
		transmit(net);
	if (events & (EPOLLERR | EPOLLHUP))
		link_down(net, ENODEV);
	update_watch(net);
}

/** A frame that waits is not saved: networks lose some. */
static int net_save(const struct virtio_device *d, struct state_writer *w)
{
	const struct virtio_net *net = (const void *)d; /* its first member */

	state_put(w, net->config.mac, sizeof(net->config.mac));
	state_put_u32(w, net->config.status);
	return w->err;
}

static int net_load(struct virtio_device *d, struct state_reader *r)
{
	struct virtio_net *net = net_of(d);
	uint8_t mac[VIRTIO_NET_MAC_BYTES];
	uint32_t status;

	state_get(r, mac, sizeof(mac));
	status = state_get_u32(r);
	if (r->err || (mac[0] & MAC_MULTICAST) || (status & ~(uint32_t)VIRTIO_NET_S_LINK_UP))
		return -EBADMSG;
	if (!net->mac_given)
		memcpy(net->config.mac, mac, sizeof(mac));
	if (status != net->config.status)
		virtio_device_config_changed(d); /* there is a cable again */
	set_offloads(net);
	return 0;
}

static void net_resume(struct virtio_device *d)
{
	update_watch(net_of(d));
}

static void net_free(struct virtio_device *d)
{
	if (net_of(d)->tap_fd >= 0)
		close(net_of(d)->tap_fd);
}

static const struct virtio_class net_class = {
	.id = VIRTIO_ID_NET,
	.name = "virtio-net",
	.queue_count = QUEUES,
	.queue_size = QUEUE_SIZE,
	.notify = net_notify,
	.start = net_start,
	.reset = net_reset,
	.event = net_event,
	.save = net_save,
	.load = net_load,
	.resume = net_resume,
	.free = net_free,
};

const uint8_t *virtio_net_mac(const struct virtio_device *d)
{
	return ((const struct virtio_net *)(const void *)d)->config.mac;
}

static int set_mac(struct virtio_net *net, const uint8_t *mac)
{
	uint8_t *own = net->config.mac;

	net->mac_given = mac;
	if (mac)
		memcpy(own, mac, VIRTIO_NET_MAC_BYTES);
	else if (getrandom(own, VIRTIO_NET_MAC_BYTES, 0) != VIRTIO_NET_MAC_BYTES)
		return -EIO;
	else
		own[0] = (uint8_t)((own[0] & ~MAC_MULTICAST) | MAC_LOCAL);
	if (!(own[0] & MAC_MULTICAST))
		return 0;
	log_error("network %s: a multicast address is not the address of a card", net->name);
	return -EINVAL;
}

static int init(struct virtio_net *net, const struct virtio_net_options *o)
{
	struct virtio_device *d = &net->device;
	int err = set_mac(net, o->mac);

	if (err)
		return err;
	d->features |= VIRTIO_FEATURE(VIRTIO_NET_F_MAC) | VIRTIO_FEATURE(VIRTIO_NET_F_STATUS) |
		       VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF);
	if (o->mtu)
		d->features |= VIRTIO_FEATURE(VIRTIO_NET_F_MTU);
	net->config.mtu = o->mtu;
	net->config.status = VIRTIO_NET_S_LINK_UP;
	d->config = &net->config;
	d->config_bytes = sizeof(net->config);
	err = prepare_tap(net);
	if (err)
		return err;
	net->watched = true;
	return virtio_device_watch(d, net->tap_fd, 0, 0);
}

int virtio_net_new(const struct virtio_wiring *w, const struct virtio_net_options *o,
		   struct virtio_device **ret)
{
	struct virtio_device *d;
	struct virtio_net *net;
	int err = virtio_device_new(&net_class, sizeof(*net), w, &d);

	if (err) {
		close(o->tap_fd);
		return err;
	}
	net = net_of(d);
	net->tap_fd = o->tap_fd;
	snprintf(net->name, sizeof(net->name), "%s", o->name);
	err = init(net, o);
	if (err) {
		virtio_device_free(d);
		return err;
	}
	*ret = d;
	return 0;
}
