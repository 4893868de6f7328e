/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_virtio_net.c - frames over a socket and over a real TAP device in a network of its own;
 * buffers that are too few, cables that are pulled, headers that were not agreed upon
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>

#include "common/log.h"
#include "tests/unit/virtio_driver.h"
#include "vmm/kernel/virtio_net.h"

enum { RX, TX, HEADER = sizeof(struct virtio_net_hdr_v1), FRAME_MAX = 65600, RX_BYTES = 1536 };

static const uint8_t some_mac[] = {0x02, 0x51, 0x54, 0, 0, 1};

/** struct rig - a driver, and the other end of its cable: @peer carries headers and frames. */
struct rig {
	struct driver v;
	int peer;
	uint64_t tx_buffer;
};

static struct rig rig;

static int make_net(struct rig *g, int fd, const uint8_t *mac, struct virtio_device **ret)
{
	const struct virtio_net_options o = {.name = "test", .tap_fd = fd, .mac = mac, .mtu = 1400};
	struct virtio_wiring w = driver_wiring(&g->v);

	return virtio_net_new(&w, &o, ret);
}

static int socket_cable(struct rig *g)
{
	int pair[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	g->peer = pair[1];
	return pair[0];
}

static void begin(struct rig *g, int fd, uint64_t features)
{
	driver_init(&g->v);
	assert_int_equal(make_net(g, fd, some_mac, &g->v.d), 0);
	driver_start(&g->v, features);
	g->tx_buffer = driver_alloc(&g->v, FRAME_MAX, 8);
}

static int setup(void **state)
{
	memset(&rig, 0, sizeof(rig));
	begin(&rig, socket_cable(&rig), ~0ull);
	*state = &rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *g = *state;

	driver_free(&g->v);
	if (g->peer >= 0)
		close(g->peer);
	return 0;
}

static void give_rx(struct rig *g, unsigned count, uint32_t bytes)
{
	for (unsigned i = 0; i < count; i++)
		driver_add(
			&g->v, RX,
			&(struct vring_desc){.addr = driver_alloc(&g->v, bytes, 8), .len = bytes},
			1, 0);
	driver_kick(&g->v, RX);
}

static void host_sends(struct rig *g, uint8_t value, size_t n)
{
	static uint8_t packet[HEADER + FRAME_MAX];

	memset(packet, 0, HEADER);
	memset(packet + HEADER, value, n);
	assert_int_equal(send(g->peer, packet, HEADER + n, 0), (ssize_t)(HEADER + n));
}

static void serve(struct rig *g)
{
	for (unsigned i = 0; i < 1000 && driver_wait_event(&g->v, 0); i++)
		;
}

/** A frame as the guest got it, from as many buffers as it took. Return: its bytes, 0: none. */
static size_t guest_gets(struct rig *g, uint8_t *frame, unsigned *ret_buffers)
{
	struct virtio_net_hdr_v1 h;
	struct driver_used used;
	size_t n = 0;

	serve(g);
	if (!driver_take(&g->v, RX, &used))
		return 0;
	memcpy(&h, driver_ptr(&g->v, driver_desc(&g->v, RX, used.id)->addr, HEADER), HEADER);
	*ret_buffers = h.num_buffers;
	for (unsigned i = 0; i < h.num_buffers; i++) {
		size_t skip = i ? 0 : HEADER;

		if (i)
			assert_true(driver_take(&g->v, RX, &used));
		memcpy(frame + n,
		       (uint8_t *)driver_ptr(&g->v, driver_desc(&g->v, RX, used.id)->addr,
					     used.bytes) +
			       skip,
		       used.bytes - skip);
		n += used.bytes - skip;
	}
	return n;
}

/** The guest sends. Return: was its buffer taken? */
static bool guest_sends(struct rig *g, const struct virtio_net_hdr_v1 *h, const void *frame,
			uint32_t n)
{
	struct driver_used used;

	memcpy(driver_ptr(&g->v, g->tx_buffer, HEADER), h, HEADER);
	memcpy(driver_ptr(&g->v, g->tx_buffer + HEADER, n), frame, n);
	driver_add(&g->v, TX,
		   (struct vring_desc[]){{.addr = g->tx_buffer, .len = HEADER + n / 2},
					 {.addr = g->tx_buffer + HEADER + n / 2, .len = n - n / 2}},
		   2, 2);
	driver_kick(&g->v, TX);
	return driver_take(&g->v, TX, &used);
}

static const struct virtio_net_hdr_v1 plain;

/* ---- by a socket ---- */

static void test_frames(void **state)
{
	struct rig *g = *state;
	struct virtio_net_config config;
	uint8_t frame[FRAME_MAX];
	unsigned buffers;

	driver_config(&g->v, 0, &config, sizeof(config));
	assert_memory_equal(config.mac, some_mac, sizeof(some_mac));
	assert_memory_equal(virtio_net_mac(g->v.d), some_mac, sizeof(some_mac));
	assert_int_equal(config.status, VIRTIO_NET_S_LINK_UP);
	assert_int_equal(config.mtu, 1400);
	give_rx(g, 8, RX_BYTES);
	host_sends(g, 0x11, 60);
	assert_int_equal(guest_gets(g, frame, &buffers), 60);
	assert_int_equal(buffers, 1);
	assert_int_equal(frame[59], 0x11);
	assert_int_equal(driver_interrupts(&g->v), 1);
	memset(frame, 0x22, 100);
	assert_true(guest_sends(g, &plain, frame, 100));
	memset(frame, 0, sizeof(frame));
	assert_int_equal(recv(g->peer, frame, sizeof(frame), 0), HEADER + 100);
	assert_int_equal(frame[HEADER + 99], 0x22);
	assert_true(mem_is_zero(frame, HEADER));
}

/* A frame over several buffers; one that finds too few waits, and is then whole. */
static void test_merged_buffers(void **state)
{
	struct rig *g = *state;
	static uint8_t frame[FRAME_MAX];
	unsigned buffers;

	host_sends(g, 0x33, 40000);
	host_sends(g, 0x44, 50);
	assert_int_equal(guest_gets(g, frame, &buffers), 0);
	assert_false(driver_wait_event(&g->v, 0)); /* and nobody turns round meanwhile */
	give_rx(g, 20, RX_BYTES);
	assert_int_equal(guest_gets(g, frame, &buffers), 0);
	give_rx(g, 8, RX_BYTES);
	assert_int_equal(guest_gets(g, frame, &buffers), 40000);
	assert_int_equal(buffers, (40000 + HEADER + RX_BYTES - 1) / RX_BYTES);
	for (size_t i = 0; i < 40000; i++)
		assert_int_equal(frame[i], 0x33);
	assert_int_equal(guest_gets(g, frame, &buffers), 50);
	assert_int_equal(buffers, 1);
}

static void test_frames_that_do_not_fit(void **state)
{
	struct rig *g = *state;
	static uint8_t frame[FRAME_MAX];
	unsigned buffers;

	/* More buffers than a frame may have: it is dropped, the next one comes. */
	give_rx(g, 100, 16);
	host_sends(g, 0x55, 4000);
	host_sends(g, 0x66, 20);
	assert_int_equal(guest_gets(g, frame, &buffers), 20);
	assert_int_equal(buffers, 2);
	/* Without merged buffers it is one, or none. */
	driver_start(&g->v, ~VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF));
	give_rx(g, 4, RX_BYTES);
	host_sends(g, 0x55, 4000);
	host_sends(g, 0x66, 20);
	assert_int_equal(guest_gets(g, frame, &buffers), 20);
	assert_int_equal(buffers, 1);
}

/* The other side does not take frames: the guest's wait in its ring. */
static void test_slow_cable(void **state)
{
	struct rig *g = *state;
	static uint8_t frame[FRAME_MAX];
	unsigned sent = 0, got = 0;
	struct driver_used used;

	while (sent < 120 && guest_sends(g, &plain, frame, 8000))
		sent++;
	assert_in_range(sent, 1, 100);
	assert_false(driver_wait_event(&g->v, 0));
	while (recv(g->peer, frame, sizeof(frame), 0) > 0) {
		got++;
		serve(g);
	}
	assert_int_equal(got, sent + 1);
	assert_true(driver_take(&g->v, TX, &used));
}

static void test_pulled_cable(void **state)
{
	struct rig *g = *state;
	uint8_t frame[100] = {0};
	unsigned buffers;
	uint32_t generation = driver_read32(&g->v, VIRTIO_MMIO_CONFIG_GENERATION);
	struct state_writer w;
	struct virtio_device *d;

	give_rx(g, 4, RX_BYTES);
	host_sends(g, 0x77, 64);
	close(g->peer);
	assert_int_equal(guest_gets(g, frame, &buffers), 64); /* it was under way */
	serve(g);
	assert_int_equal(driver_read32(&g->v, VIRTIO_MMIO_INTERRUPT_STATUS),
			 VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(driver_read32(&g->v, VIRTIO_MMIO_CONFIG_GENERATION), generation + 1);
	driver_interrupts(&g->v);
	assert_false(driver_wait_event(&g->v, 0));
	assert_true(guest_sends(g, &plain, frame, 64));
	assert_false(driver_needs_reset(&g->v));
	/* A clone has a cable of its own, and the guest hears of it. */
	driver_interrupts(&g->v);
	w = driver_saved(&g->v);
	assert_int_equal(make_net(g, socket_cable(g), NULL, &d), 0);
	assert_int_equal(driver_replace(&g->v, d, &w), 0);
	assert_int_equal(driver_read32(&g->v, VIRTIO_MMIO_INTERRUPT_STATUS),
			 VIRTIO_MMIO_INT_CONFIG);
	host_sends(g, 0x78, 64);
	assert_int_equal(guest_gets(g, frame, &buffers), 64);
	assert_true(guest_sends(g, &plain, frame, 64));
	assert_int_equal(recv(g->peer, frame, sizeof(frame), 0), HEADER + 64);
	state_writer_free(&w);
}

/* The descriptor is somebody else's, too, and stays open there. */
static void test_pulled_cable_that_another_has(void **state)
{
	struct rig *g = *state;
	uint8_t frame[64] = {0};
	int fd, other;

	teardown(state);
	fd = socket_cable(g);
	other = dup(fd);
	begin(g, fd, ~0ull);
	give_rx(g, 4, RX_BYTES);
	close(g->peer);
	g->peer = -1;
	serve(g);
	assert_true(driver_read32(&g->v, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	assert_false(driver_wait_event(&g->v, 0)); /* nobody turns round */
	assert_true(guest_sends(g, &plain, frame, sizeof(frame)));
	close(other);
}

/* Sending into nothing tells of it, too. */
static void test_pulled_cable_while_sending(void **state)
{
	struct rig *g = *state;
	uint8_t frame[64] = {0};

	close(g->peer);
	g->peer = -1;
	assert_true(guest_sends(g, &plain, frame, sizeof(frame)));
	assert_true(driver_read32(&g->v, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	serve(g);
	assert_true(guest_sends(g, &plain, frame, sizeof(frame)));
}

static void test_headers_that_were_not_agreed_upon(void **state)
{
	static const struct virtio_net_hdr_v1 bad[] = {
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM},
		{.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1000},
		{.gso_type = VIRTIO_NET_HDR_GSO_TCPV6, .gso_size = 1000},
		{.gso_type = VIRTIO_NET_HDR_GSO_UDP, .gso_size = 1000},
		{.gso_type = VIRTIO_NET_HDR_GSO_ECN},
		{.gso_type = 0x7f},
	};
	struct rig *g = *state;
	uint8_t frame[64] = {0};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_true(guest_sends(g, &bad[i], frame, sizeof(frame)));
	assert_int_equal(recv(g->peer, frame, sizeof(frame), 0), -1); /* all dropped */
	/* A header alone is no frame, and less than a header is nothing. */
	driver_add(&g->v, TX, &(struct vring_desc){.addr = g->tx_buffer, .len = HEADER - 1}, 1, 1);
	driver_kick(&g->v, TX);
	assert_true(driver_needs_reset(&g->v));
	driver_start(&g->v, ~0ull);
	host_sends(g, 1, 60);
	driver_add(&g->v, RX, &(struct vring_desc){.addr = g->tx_buffer, .len = HEADER - 1}, 1, 0);
	driver_kick(&g->v, RX);
	serve(g);
	assert_true(driver_needs_reset(&g->v));
	assert_false(driver_wait_event(&g->v, 0));
}

static void test_addresses(void **state)
{
	static const uint8_t multicast[] = {0x33, 0x33, 0, 0, 0, 1}, other[] = {2, 0, 0, 0, 0, 9};
	struct rig *g = *state;
	struct virtio_device *d;
	struct state_writer w = driver_saved(&g->v);

	close(g->peer);
	assert_int_equal(make_net(g, socket_cable(g), multicast, &d), -EINVAL);
	close(g->peer);
	assert_int_equal(make_net(g, socket_cable(g), NULL, &d), 0);
	assert_int_equal(virtio_net_mac(d)[0] & 3, 2);
	/* Kept from the snapshot, or changed on request. */
	assert_int_equal(driver_replace(&g->v, d, &w), 0);
	assert_memory_equal(virtio_net_mac(g->v.d), some_mac, 6);
	close(g->peer);
	assert_int_equal(make_net(g, socket_cable(g), other, &d), 0);
	assert_int_equal(driver_replace(&g->v, d, &w), 0);
	assert_memory_equal(virtio_net_mac(g->v.d), other, 6);
	state_writer_free(&w);
}

static void test_hostile_state(void **state)
{
	struct rig *g = *state;
	struct state_writer w = driver_saved(&g->v);
	struct virtio_device *d;

	for (size_t at = 0; at < w.used; at++) {
		struct state_writer cut = {.data = w.data, .used = at};

		close(g->peer);
		assert_int_equal(make_net(g, socket_cable(g), NULL, &d), 0);
		assert_int_equal(driver_replace(&g->v, d, &cut), -EBADMSG);
		for (unsigned bit = 0; bit < 8; bit++) {
			w.data[at] ^= (uint8_t)(1u << bit);
			close(g->peer);
			assert_int_equal(make_net(g, socket_cable(g), NULL, &d), 0);
			if (!driver_replace(&g->v, d, &w))
				serve(g);
			w.data[at] ^= (uint8_t)(1u << bit);
		}
	}
	state_writer_free(&w);
}

/* ---- by a TAP device ---- */

/** In a network namespace of the test's own. Return: -1 where that is not allowed. */
static int new_tap(const char *name, int flags)
{
	struct ifreq ifr = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags)};
	static bool unshared;
	int fd, sock;

	if (!unshared && unshare(CLONE_NEWNET))
		return -1;
	unshared = true;
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr))
		return -1;
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ifr.ifr_flags = IFF_UP;
	assert_int_equal(ioctl(sock, SIOCSIFFLAGS, &ifr), 0);
	close(sock);
	return fd;
}

/** A socket on the host's side of a TAP device, for frames of one Ethernet type. */
static int packet_socket(const char *name, uint16_t type)
{
	struct sockaddr_ll addr = {.sll_family = AF_PACKET, .sll_protocol = htons(type)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(type));

	addr.sll_ifindex = (int)if_nametoindex(name);
	assert_true(fd >= 0 && addr.sll_ifindex);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void test_tap(void **state)
{
	struct rig *g = &rig;
	int fd = new_tap("qt0", IFF_VNET_HDR), host, ip;
	uint8_t frame[2048] = {0};
	unsigned buffers;
	const uint64_t offloads =
		VIRTIO_FEATURE(VIRTIO_NET_F_CSUM) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM) |
		VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4);

	(void)state;
	if (fd < 0) {
		print_message("no right to make a TAP device here\n");
		skip();
	}
	memset(g, 0, sizeof(*g));
	g->peer = -1;
	begin(g, fd, ~0ull);
	assert_int_equal(driver_features(&g->v) & offloads, offloads);
	host = packet_socket("qt0", 0x88b5); /* for experiments */
	ip = packet_socket("qt0", 0x0800);
	memset(frame, 0xff, 6);
	frame[12] = 0x88;
	frame[13] = 0xb5;
	assert_true(guest_sends(g, &plain, frame, 200));
	assert_int_equal(recv(host, frame, sizeof(frame), 0), 200);
	give_rx(g, 16, RX_BYTES);
	assert_int_equal(send(host, frame, 300, 0), 300);
	do
		assert_true(driver_wait_event(&g->v, 2000));
	while (guest_gets(g, frame, &buffers) != 300); /* the host says other things, too */
	/* UDP whose checksum is left to the host: taken, where a frame of no protocol is not. */
	memset(frame + 14, 0, 100);
	frame[12] = 0x08;
	frame[13] = 0x00;
	frame[14] = 0x45;
	frame[14 + 3] = 100;
	frame[14 + 8] = 64;
	frame[14 + 9] = IPPROTO_UDP;
	assert_true(guest_sends(g,
				&(struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
							    .csum_start = 34,
							    .csum_offset = 6},
				frame, 114));
	assert_int_equal(recv(ip, frame, sizeof(frame), 0), 114);
	/* What the kernel refuses is dropped, and the link stays up. */
	assert_true(guest_sends(g,
				&(struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
							    .csum_start = 60000,
							    .csum_offset = 6},
				frame, 114));
	driver_interrupts(&g->v);
	serve(g);
	assert_false(driver_read32(&g->v, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	close(ip);
	close(host);
	driver_free(&g->v);
}

static void delete_link(const char *name)
{
	const struct {
		struct nlmsghdr h;
		struct ifinfomsg info;
	} request = {
		{.nlmsg_len = sizeof(request),
		 .nlmsg_type = RTM_DELLINK,
		 .nlmsg_flags = NLM_F_REQUEST},
		{.ifi_index = (int)if_nametoindex(name)},
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	assert_int_equal(send(fd, &request, sizeof(request), 0), sizeof(request));
	close(fd);
	assert_int_equal(if_nametoindex(name), 0);
}

static void test_tap_that_goes_away(void **state)
{
	struct rig *g = &rig;
	struct ifreq down = {.ifr_name = "qt1"};
	int fd = new_tap("qt1", IFF_VNET_HDR), sock;
	uint8_t frame[64] = {0};

	(void)state;
	if (fd < 0) {
		print_message("no right to make a TAP device here\n");
		skip();
	}
	memset(g, 0, sizeof(*g));
	begin(g, fd, ~0ull);
	give_rx(g, 64, RX_BYTES);
	/* Down is not gone: what is sent is dropped. */
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(sock, SIOCSIFFLAGS, &down), 0);
	close(sock);
	assert_true(guest_sends(g, &plain, frame, sizeof(frame)));
	serve(g);
	driver_interrupts(&g->v);
	delete_link("qt1");
	assert_true(driver_wait_event(&g->v, 5000));
	serve(g);
	assert_true(driver_read32(&g->v, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	assert_true(guest_sends(g, &plain, frame, sizeof(frame)));
	assert_false(driver_wait_event(&g->v, 0));
	driver_free(&g->v);
}

static void test_tap_without_header(void **state)
{
	struct rig *g = &rig;
	struct virtio_device *d;
	int fd = new_tap("qt2", 0);

	(void)state;
	if (fd < 0) {
		print_message("no right to make a TAP device here\n");
		skip();
	}
	driver_init(&g->v);
	assert_int_equal(make_net(g, fd, some_mac, &d), -EINVAL);
	driver_free(&g->v);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_frames),
		TEST(test_merged_buffers),
		TEST(test_frames_that_do_not_fit),
		TEST(test_slow_cable),
		TEST(test_pulled_cable),
		TEST(test_pulled_cable_that_another_has),
		TEST(test_pulled_cable_while_sending),
		TEST(test_headers_that_were_not_agreed_upon),
		TEST(test_addresses),
		TEST(test_hostile_state),
		cmocka_unit_test(test_tap),
		cmocka_unit_test(test_tap_that_goes_away),
		cmocka_unit_test(test_tap_without_header),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
