/* SPDX-License-Identifier: Apache-2.0 */
/* wiring.c - the virtio devices that a command line asks for */
#include "vmm/kernel/wiring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "vmm/kernel/net_option.h"
#include "vmm/kernel/virtio_balloon.h"
#include "vmm/kernel/virtio_blk.h"
#include "vmm/kernel/virtio_net.h"
#include "vmm/kernel/virtio_rng.h"
#include "vmm/kernel/virtio_vsock.h"

enum { PATH_BYTES = 4096 };
#define EMPTY_DRIVE "none"

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
	o->read_only = !strcmp(text, EMPTY_DRIVE) || (kind && !strcmp(kind, ":ro"));
	if (!strcmp(text, EMPTY_DRIVE))
		return 0;
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
		cleanup_fd(&o.disk.base_fd);
		cleanup_fd(&o.disk.overlay_fd);
	}
	if (!ret)
		ret = virtio_blk_new(&w, &o, &d);
	if (!ret && o.disk.base_fd < 0)
		ret = virtio_blk_attach(d, &o.disk);
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

/** Which MAC the card has, and what of it an agent has to be told. @ret_mac: NULL: the device's own
 * choice, or the snapshot's */
static int choose_mac(struct net_option *net, bool restore, const uint8_t **ret_mac)
{
	bool is_new =
		net->mac_kind == NET_MAC_GIVEN || (restore && net->mac_kind == NET_MAC_RANDOM);

	if (net->mac_kind == NET_MAC_KEEP && !restore) {
		log_error("--net %s: mac=keep: a guest that boots has none to keep", net->tap);
		return -EINVAL;
	}
	*ret_mac = is_new ? net->mac : NULL;
	return is_new && net->mac_kind == NET_MAC_RANDOM ? net_option_random_mac(net->mac) : 0;
}

/** The agent knows of one card. */
static int tell_agent(const struct net_option *net, bool first, bool mac_changes,
		      struct agent_identity *who)
{
	if (!first && (net->has_ip || mac_changes)) {
		log_error("--net %s: only the first card's addresses can be set in the guest",
			  net->tap);
		return -EINVAL;
	}
	if (mac_changes) {
		who->has_mac = true;
		memcpy(who->mac, net->mac, sizeof(who->mac));
	}
	if (net->has_ip) {
		who->has_ip = true;
		who->prefix = net->prefix;
		memcpy(who->ip, net->ip, sizeof(who->ip));
		memcpy(who->gateway, net->gateway, sizeof(who->gateway));
	}
	return 0;
}

static int add_net(struct machine *m, const struct wiring_options *wo, unsigned i,
		   struct agent_identity *who)
{
	struct virtio_net_options o = {.tap_fd = -1};
	struct virtio_wiring w;
	struct virtio_device *d = NULL;
	struct net_option net;
	int ret = net_option_parse(wo->nets[i], &net);

	if (!ret)
		ret = choose_mac(&net, wo->restore, &o.mac);
	if (!ret)
		ret = tell_agent(&net, i == 0, wo->restore && o.mac, who);
	if (!ret) {
		o.name = net.tap;
		o.tap_fd = open_tap(net.tap);
		ret = o.tap_fd < 0 ? o.tap_fd : 0;
	}
	if (ret)
		return ret;
	ret = machine_virtio_wiring(m, &w);
	if (ret)
		close(o.tap_fd);
	if (!ret)
		ret = virtio_net_new(&w, &o, &d);
	return add(m, ret, d, net.tap);
}

int wiring_add(struct machine *m, const struct wiring_options *o, struct virtio_device **ret_vsock,
	       struct agent_identity *ret_who)
{
	int ret = add_plain(m, "virtio-rng", virtio_rng_new);

	*ret_who = (struct agent_identity){.hostname = o->hostname};
	if (!ret)
		ret = add_plain(m, "virtio-balloon", virtio_balloon_new);
	if (!ret)
		ret = add_vsock(m, o->vsock, ret_vsock);
	for (unsigned i = 0; !ret && i < o->disk_count; i++)
		ret = add_disk(m, o->disks[i], i);
	for (unsigned i = 0; !ret && i < o->net_count; i++)
		ret = add_net(m, o, i, ret_who);
	return ret;
}
