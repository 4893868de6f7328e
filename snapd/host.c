/* SPDX-License-Identifier: Apache-2.0 */
/* host.c - what snapd needs of the host; at start, and every failure is fatal there */
#include "snapd/host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/host_cpuid.h"
#include "common/log.h"

int host_open_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		die("/dev/kvm: not there: every function runs in a KVM virtual machine: enable "
		    "virtualisation in the firmware or hypervisor and load kvm_intel, kvm_amd or "
		    "kvm_pvm");
	if (fd < 0 && (errno == EACCES || errno == EPERM))
		die("/dev/kvm: no permission: every function runs in a KVM virtual machine: run "
		    "snapd as root, and allow the device where it runs in a container");
	if (fd < 0)
		die("/dev/kvm: %s: every function runs in a KVM virtual machine: see the kernel's "
		    "log for why",
		    strerror(errno));
	if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		die("/dev/kvm: not KVM's stable API: every function runs in a KVM virtual machine: "
		    "use a kernel of this decade");
	return fd;
}

int host_read_cpuid(int kvm_fd)
{
	int fd, err = host_cpuid_export(kvm_fd, &fd);

	if (err)
		die("/dev/kvm: what it can offer of the CPU is not to be had: %s", strerror(-err));
	return fd;
}

int host_open_userfaultfd(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	CLEANUP_FD int probe = -1;

	if (fd < 0 && errno == ENOENT)
		die("/dev/userfaultfd: not there: snapshots are paged in through it: use Linux 6.1 "
		    "or newer with CONFIG_USERFAULTFD");
	if (fd < 0)
		die("/dev/userfaultfd: %s: snapshots are paged in through it: run snapd as root, "
		    "and allow the device where it runs in a container",
		    strerror(errno));
	probe = ioctl(fd, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	if (probe < 0 || ioctl(probe, UFFDIO_API, &api) < 0 ||
	    !(api.features & UFFD_FEATURE_MISSING_SHMEM))
		die("userfaultfd: this kernel cannot watch shared memory with it: snapshots are "
		    "paged in that way: use Linux 6.1 or newer");
	return fd;
}

_Noreturn void host_die_io_uring(int err)
{
	if (err == -EPERM || err == -EACCES)
		die("io_uring: no permission: snapd waits and reads through it: set sysctl "
		    "kernel.io_uring_disabled=0, and allow io_uring_setup where it runs in a "
		    "container");
	if (err == -ENOSYS)
		die("io_uring: not in this kernel: snapd waits and reads through it: use Linux 6.1 "
		    "or newer with CONFIG_IO_URING");
	die("io_uring: %s: snapd waits and reads through it: more memory or a higher "
	    "RLIMIT_MEMLOCK may help",
	    strerror(-err));
}
