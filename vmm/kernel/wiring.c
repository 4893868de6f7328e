/* SPDX-License-Identifier: Apache-2.0 */
/* wiring.c - the virtio devices that a command line asks for */
#include "vmm/kernel/wiring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "vmm/kernel/virtio_balloon.h"
#include "vmm/kernel/virtio_blk.h"
#include "vmm/kernel/virtio_net.h"
#include "vmm/kernel/virtio_rng.h"
#include "vmm/kernel/virtio_vsock.h"

enum { PATH_BYTES = 4096 };

/** Take @d into the machine, or say why it was not made. */
static int add(struct machine *m, int err, struct virtio_device *d, const char *what)
{
	if (err) {
		log_error("%s: %s", what, strerror(-err));
		return err;
	}
	return machine_virtio_add(m, d);
}

static int add_plain(struct machine *m, const char *name,
		     int (*make)(const struct virtio_wiring *w, struct virtio_device **ret))
{
	struct virtio_wiring w;
	struct virtio_device *d = NULL;
	int ret = machine_virtio_wiring(m, &w);

	if (!ret)
		ret = make(&w, &d);
	return add(m, ret, d, name);
}

static int add_vsock(struct machine *m, const char *path, struct virtio_device **ret_d)
{
	const struct virtio_vsock_options o = {.guest_cid = WIRING_GUEST_CID, .path = path};
	struct virtio_wiring w;
	int ret = machine_virtio_wiring(m, &w);

	*ret_d = NULL;
	if (!ret)
		ret = virtio_vsock_new(&w, &o, ret_d);
	return add(m, ret, *ret_d, "--vsock");
}

/* ---- disks ---- */

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	log_error("--disk: %s: %s", path, strerror(errno));
	return -errno;
}

static int open_disk(const char *text, struct disk_options *o, char path[PATH_BYTES])
{
	const char *kind = strrchr(text, ':');
	size_t n;

	/* The kind is what is behind the last colon, if that is one; a name may have colons. */
	if (kind && strcmp(kind, ":ro") && strcmp(kind, ":overlay") &&
	    strncmp(kind, ":overlay=", 9))
		kind = NULL;
	n = kind ? (size_t)(kind - text) : strlen(text);
	if (n >= PATH_BYTES)
		return -ENAMETOOLONG;
	memcpy(path, text, n);
	path[n] = '\0';
	*o = (struct disk_options){.name = path, .base_fd = -1, .overlay_fd = -1};
	o->read_only = kind && !strcmp(kind, ":ro");
	o->base_fd = open_file(path, kind ? O_RDONLY : O_RDWR);
	if (o->base_fd < 0)
		return o->base_fd;
	if (!kind || o->read_only)
		return 0;
	o->overlay_fd = kind[8] ? open_file(kind + 9, O_RDWR | O_CREAT)
				: memfd_create("overlay", MFD_CLOEXEC);
	if (o->overlay_fd >= 0)
		return 0;
	n = (size_t)errno;
	close(o->base_fd);
	return -(int)n;
}

static int add_disk(struct machine *m, const char *text, unsigned number)
{
	char path[PATH_BYTES], serial[21];
	struct virtio_blk_options o = {.serial = serial};
	struct virtio_wiring w;
	struct virtio_device *d = NULL;
	int ret = open_disk(text, &o.disk, path);

	if (ret)
		return ret;
	snprintf(serial, sizeof(serial), "disk%u", number);
	ret = machine_virtio_wiring(m, &w);
	if (ret) {
		close(o.disk.base_fd);
		cleanup_fd(&o.disk.overlay_fd);
	}
	if (!ret)
		ret = virtio_blk_new(&w, &o, &d);
	return add(m, ret, d, path);
}

/* ---- network ---- */

static int open_tap(const char *name)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	CLEANUP_FD int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	char path[64];

	snprintf(path, sizeof(path), "/sys/class/net/%s", name);
	/* The kernel would make one that leads nowhere. */
	if (!*name || strlen(name) >= IFNAMSIZ || strchr(name, '/') || access(path, F_OK)) {
		log_error("--net %s: there is no such TAP device: make it with ip tuntap add %s "
			  "mode tap",
			  name, name);
		return -ENODEV;
	}
	memcpy(request.ifr_name, name, strlen(name));
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request)) {
		int err = -errno;

		log_error("--net %s: %s: %s", name, fd < 0 ? "/dev/net/tun" : "TUNSETIFF",
			  strerror(-err));
		return err;
	}
	return steal_fd(&fd);
}

static int parse_net(const char *text, char name[IFNAMSIZ], uint8_t mac[6], bool *ret_has_mac)
{
	const char *comma = strchrnul(text, ',');
	size_t n = (size_t)(comma - text);
	unsigned b[6];
	char end;

	*ret_has_mac = *comma;
	if (n >= IFNAMSIZ || (*comma && sscanf(comma, ",mac=%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0],
					       &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6)) {
		log_error("--net %s: give TAP or TAP,mac=02:00:00:00:00:01", text);
		return -EINVAL;
	}
	memcpy(name, text, n);
	name[n] = '\0';
	for (int i = 0; *comma && i < 6; i++)
		mac[i] = (uint8_t)b[i];
	return 0;
}

static int add_net(struct machine *m, const char *text)
{
	struct virtio_net_options o = {.tap_fd = -1};
	struct virtio_wiring w;
	struct virtio_device *d = NULL;
	char name[IFNAMSIZ];
	uint8_t mac[6];
	bool has_mac;
	int ret = parse_net(text, name, mac, &has_mac);

	if (!ret) {
		o.name = name;
		o.mac = has_mac ? mac : NULL;
		o.tap_fd = open_tap(name);
		ret = o.tap_fd < 0 ? o.tap_fd : 0;
	}
	if (ret)
		return ret;
	ret = machine_virtio_wiring(m, &w);
	if (ret)
		close(o.tap_fd);
	if (!ret)
		ret = virtio_net_new(&w, &o, &d);
	return add(m, ret, d, name);
}

int wiring_add(struct machine *m, const struct wiring_options *o, struct virtio_device **ret_vsock)
{
	int ret = add_plain(m, "virtio-rng", virtio_rng_new);

	if (!ret)
		ret = add_plain(m, "virtio-balloon", virtio_balloon_new);
	if (!ret)
		ret = add_vsock(m, o->vsock, ret_vsock);
	for (unsigned i = 0; !ret && i < o->disk_count; i++)
		ret = add_disk(m, o->disks[i], i);
	for (unsigned i = 0; !ret && i < o->net_count; i++)
		ret = add_net(m, o->nets[i]);
	return ret;
}
