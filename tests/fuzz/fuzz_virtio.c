/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_virtio.c - a guest may do to a virtio device what it likes: nothing outside its memory is
 * touched, and every state that comes of it can be saved and loaded
 *
 * An input is a device, the features that its driver takes, and steps: register accesses, bytes
 * into guest memory and rings, chains, notifications, what comes from the host's side, captures.
 * Behind guest memory is a page that nobody may touch.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <linux/virtio_vsock.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "tests/unit/virtio_driver.h"
#include "vmm/kernel/virtio_balloon.h"
#include "vmm/kernel/virtio_blk.h"
#include "vmm/kernel/virtio_net.h"
#include "vmm/kernel/virtio_rng.h"
#include "vmm/kernel/virtio_vsock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/** A promise was broken: stop here, so that the fuzzer keeps the input. */
#define PROMISE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)

enum {
	RAM_BYTES = 256 << 10,
	DISK_SECTORS = 203, /* ends within a cluster */
	STEPS_MAX = 400,
	SEGMENTS_MAX = 6,
	HEAD_BYTES_MAX = 64,
	HOST_FDS = 4,
	GUEST_CID = 3,
	ECHO_PORT = 9001,
	UNIX_PORT = 5,
};

enum kind { RNG, BLK_RAW, BLK_OVERLAY, BLK_READ_ONLY, NET, VSOCK, BALLOON, KINDS };

enum step {
	WRITE_REGISTER,
	READ_REGISTER,
	WRITE_CONFIG,
	WRITE_MEMORY,
	ADD_CHAIN,
	ADD_INDIRECT,
	OFFER,
	NOTIFY,
	EVENT,
	HOST_OPEN,
	HOST_SEND,
	HOST_RECEIVE,
	HOST_CLOSE,
	CAPTURE,
	RESTART,
	STEPS,
};

/** struct input - what is left of it; zeros behind its end. */
struct input {
	const uint8_t *at;
	size_t left;
};

static struct guest_mem mem;
static int disk_fd = -1, listener = -1;
static char unix_path[64];

/** struct session - one input's machine. */
static struct {
	struct driver v;
	enum kind kind;
	uint64_t features;
	int host[HOST_FDS]; /* net: the cable's other end, vsock: unix sockets */
	unsigned open_services;
} s;

static uint64_t take(struct input *in, size_t n)
{
	uint64_t v = 0;
	size_t part = MIN(n, in->left);

	memcpy(&v, in->at, part);
	in->at += part;
	in->left -= part;
	return v;
}

static const uint8_t *take_bytes(struct input *in, size_t *n)
{
	const uint8_t *p = in->at;

	*n = MIN(*n, in->left);
	in->at += *n;
	in->left -= *n;
	return p;
}

/* ---- devices ---- */

static int echo_accept(void *arg, struct vsock_conn *c)
{
	(void)arg;
	vsock_set_priv(c, &s);
	s.open_services++;
	return 0;
}

static void echo_data(void *arg, struct vsock_conn *c, const void *data, size_t n)
{
	const uint8_t *bytes = data;

	(void)arg;
	PROMISE(n > 0);
	vsock_send(c, data, n);
	if (bytes[0] == 'q') {
		vsock_close(c);
		s.open_services--;
	}
}

/** Some answer once more and close, others go on until the guest does not hear either. */
static void echo_ended(void *arg, struct vsock_conn *c)
{
	(void)arg;
	PROMISE(vsock_conn_ended(c));
	vsock_send(c, "end", 3);
	if (vsock_conn_id(c) % 2)
		return;
	vsock_close(c);
	s.open_services--;
}

static void echo_closed(void *arg, struct vsock_conn *c)
{
	(void)arg;
	(void)c;
	PROMISE(s.open_services > 0);
	s.open_services--;
}

static struct virtio_device *new_blk(const struct virtio_wiring *w)
{
	struct virtio_blk_options o = {
		.disk = {.name = "fuzz",
			 .base_fd = dup(disk_fd),
			 .read_only = s.kind == BLK_READ_ONLY,
			 .overlay_fd =
				 s.kind == BLK_OVERLAY ? memfd_create("overlay", MFD_CLOEXEC) : -1},
		.no_io_uring = true, /* the sanitizers do not see what the kernel does */
	};
	struct virtio_device *d = NULL;

	PROMISE(!virtio_blk_new(w, &o, &d));
	return d;
}

static struct virtio_device *new_net(const struct virtio_wiring *w)
{
	struct virtio_net_options o = {.name = "fuzz"};
	struct virtio_device *d = NULL;
	int pair[2];

	PROMISE(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	o.tap_fd = pair[0];
	cleanup_fd(&s.host[0]);
	s.host[0] = pair[1];
	PROMISE(!virtio_net_new(w, &o, &d));
	return d;
}

static struct virtio_device *new_vsock(const struct virtio_wiring *w)
{
	const struct virtio_vsock_options o = {.guest_cid = GUEST_CID, .path = unix_path};
	const struct vsock_service echo = {.port = ECHO_PORT,
					   .accept = echo_accept,
					   .data = echo_data,
					   .ended = echo_ended,
					   .closed = echo_closed};
	struct virtio_device *d = NULL;

	unlink(unix_path);
	PROMISE(!virtio_vsock_new(w, &o, &d));
	PROMISE(!vsock_listen_local(d, &echo));
	return d;
}

static struct virtio_device *new_device(void)
{
	struct virtio_wiring w = driver_wiring(&s.v);
	struct virtio_device *d = NULL;

	switch (s.kind) {
	case RNG:
		PROMISE(!virtio_rng_new(&w, &d));
		return d;
	case NET:
		return new_net(&w);
	case VSOCK:
		return new_vsock(&w);
	case BALLOON:
		PROMISE(!virtio_balloon_new(&w, &d));
		return d;
	default:
		return new_blk(&w);
	}
}

/* ---- what the guest does ---- */

/** driver_start(), on a device that a guest has been at. */
static void start(void)
{
	s.v.heap = DRIVER_BASE;
	driver_start(&s.v, s.features | VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
}

static unsigned take_queue(struct input *in)
{
	return (unsigned)take(in, 1) % s.v.d->class->queue_count;
}

static void write_memory(struct input *in)
{
	uint64_t at = take(in, 3) % RAM_BYTES;
	size_t n = take(in, 1) % HEAD_BYTES_MAX;
	const uint8_t *bytes;

	n = MIN(n, RAM_BYTES - at);
	bytes = take_bytes(in, &n);
	memcpy(mem.ram + at, bytes, n);
}

/** A chain whose first bytes are the input's. What else it is may be nonsense. */
static void add_chain(struct input *in, bool indirect)
{
	unsigned queue = take_queue(in), count = 1 + (unsigned)take(in, 1) % SEGMENTS_MAX;
	unsigned readable = (unsigned)take(in, 1) % (count + 1);
	size_t n = take(in, 1) % HEAD_BYTES_MAX;
	const uint8_t *head = take_bytes(in, &n);
	struct vring_desc segs[SEGMENTS_MAX];
	uint64_t at = RAM_BYTES / 2 + take(in, 2);

	memcpy(mem.ram + at, head, n);
	for (unsigned i = 0; i < count; i++) {
		uint16_t len = (uint16_t)take(in, 2);

		segs[i] = (struct vring_desc){.addr = DRIVER_BASE + at, .len = len};
		at += len;
		if (at > RAM_BYTES - 1)
			at = RAM_BYTES - 1; /* and the segment ends behind memory */
	}
	if (!s.v.q[queue].size)
		return;
	if (indirect)
		driver_add_indirect(&s.v, queue, segs, count, readable);
	else
		driver_add(&s.v, queue, segs, count, readable);
	driver_kick(&s.v, queue);
}

static void offer(struct input *in)
{
	unsigned queue = take_queue(in);
	uint16_t head = (uint16_t)take(in, 2);

	if (!s.v.q[queue].size)
		return;
	driver_offer(&s.v, queue, head);
	driver_kick(&s.v, queue);
}

static void access_register(struct input *in, bool write)
{
	static const uint8_t sizes[] = {1, 2, 4, 8};
	uint64_t offset = take(in, 1) * 4, value = take(in, 4);
	unsigned n = sizes[(offset >> 8) & 3];
	uint8_t data[8];

	if (offset < VIRTIO_MMIO_CONFIG)
		n = 4;
	memcpy(data, &value, sizeof(data));
	if (write)
		virtio_mmio_write(s.v.d, offset, data, n);
	else
		virtio_mmio_read(s.v.d, offset, data, n);
}

static void write_config(struct input *in)
{
	uint64_t offset = VIRTIO_MMIO_CONFIG + take(in, 2) % (VIRTIO_MMIO_BYTES - 256);
	uint64_t value = take(in, 8);

	virtio_mmio_write(s.v.d, offset, &value, 1u << (offset & 3));
}

/* ---- what the host does ---- */

static void host_open(struct input *in)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int *fd = &s.host[take(in, 1) % HOST_FDS];

	if (s.kind != VSOCK)
		return;
	cleanup_fd(fd);
	*fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (*fd >= 0)
		return;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", unix_path);
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	PROMISE(*fd >= 0);
	if (connect(*fd, (struct sockaddr *)&addr, sizeof(addr)))
		cleanup_fd(fd);
}

static void host_send(struct input *in)
{
	int fd = s.host[take(in, 1) % HOST_FDS];
	size_t n = take(in, 1);
	const uint8_t *bytes = take_bytes(in, &n);

	if (fd >= 0)
		(void)!send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void host_receive(struct input *in)
{
	static uint8_t bytes[65536];
	int fd = s.host[take(in, 1) % HOST_FDS];

	while (fd >= 0 && recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

static void host_close(struct input *in)
{
	int *fd = &s.host[take(in, 1) % HOST_FDS];

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/** Save, load into another device, save again: the same bytes, as nothing happened in between. */
static void capture(void)
{
	struct state_writer w = driver_saved(&s.v), again = {0};
	struct virtio_device *d;
	struct state_reader r = {.data = w.data, .left = w.used};

	PROMISE(w.used < 1 << 22);
	virtio_device_free(s.v.d);
	s.v.d = d = new_device();
	PROMISE(!virtio_device_load(d, &r) && !r.left);
	PROMISE(!virtio_device_save(d, &again) && !again.err);
	/* A link may be up again, and the guest is told. */
	PROMISE(s.kind == NET || (again.used == w.used && !memcmp(again.data, w.data, w.used)));
	virtio_device_resume(d);
	state_writer_free(&w);
	state_writer_free(&again);
}

static void step(struct input *in)
{
	switch ((enum step)(take(in, 1) % STEPS)) {
	case WRITE_REGISTER:
		access_register(in, true);
		break;
	case READ_REGISTER:
		access_register(in, false);
		break;
	case WRITE_CONFIG:
		write_config(in);
		break;
	case WRITE_MEMORY:
		write_memory(in);
		break;
	case ADD_CHAIN:
		add_chain(in, false);
		break;
	case ADD_INDIRECT:
		add_chain(in, true);
		break;
	case OFFER:
		offer(in);
		break;
	case NOTIFY:
		virtio_device_notify(s.v.d, (unsigned)take(in, 1));
		break;
	case EVENT:
		driver_wait_event(&s.v, 0);
		break;
	case HOST_OPEN:
		host_open(in);
		break;
	case HOST_SEND:
		host_send(in);
		break;
	case HOST_RECEIVE:
		host_receive(in);
		break;
	case HOST_CLOSE:
		host_close(in);
		break;
	case CAPTURE:
		capture();
		break;
	case RESTART:
	case STEPS:
		start();
		break;
	}
}

/* ---- once ---- */

static void set_up(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	log_set_level(LOG_LEVEL_ERROR);
	PROMISE(!guest_mem_init_kernel(&mem, RAM_BYTES + PAGE_BYTES));
	PROMISE(!mprotect(mem.ram + RAM_BYTES, PAGE_BYTES, PROT_NONE));
	mem.ram_bytes = RAM_BYTES;
	disk_fd = memfd_create("base", MFD_CLOEXEC);
	PROMISE(disk_fd >= 0 && !ftruncate(disk_fd, DISK_SECTORS * DISK_SECTOR_BYTES));
	snprintf(unix_path, sizeof(unix_path), "/dev/shm/qt-fuzz-%d", getpid());
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%d", unix_path, UNIX_PORT);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(addr.sun_path);
	PROMISE(!bind(listener, (struct sockaddr *)&addr, sizeof(addr)) && !listen(listener, 8));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = {data, n};

	if (disk_fd < 0)
		set_up();
	memset(mem.ram, 0, RAM_BYTES);
	memset(&s, 0, sizeof(s));
	for (unsigned i = 0; i < HOST_FDS; i++)
		s.host[i] = -1;
	s.kind = (enum kind)(take(&in, 1) % KINDS);
	s.features = take(&in, 8);
	s.v.mem = mem;
	s.v.irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s.v.d = new_device();
	start();
	for (unsigned i = 0; i < STEPS_MAX && in.left; i++)
		step(&in);
	virtio_device_free(s.v.d);
	close(s.v.irq);
	for (unsigned i = 0; i < HOST_FDS; i++)
		cleanup_fd(&s.host[i]);
	for (int fd; (fd = accept4(listener, NULL, NULL, 0)) >= 0;)
		close(fd);
	return 0;
}
