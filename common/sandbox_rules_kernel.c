/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_rules_kernel.c - the system calls a jailed vmm may make whose guest is a whole kernel
 *
 * A list of its own, for the two kinds have little in common. A kernel guest's system calls are its
 * kernel's affair: nothing here is made for the guest by name, no file is opened, no timer or
 * thread made. All devices, eventfds and threads are there before the filter is entered.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/memfd.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "common/kvm_pre_fault.h"
#include "common/sandbox_internal.h"
#include "common/sandbox_rule.h"

const struct sandbox_rule sandbox_kernel_rules[] = {
	/* ---- run the virtual machine ---- */
	IOCTL(KVM_RUN, "enter the guest"),
	IOCTL(KVM_PRE_FAULT_MEMORY, "map a restored guest's working set ahead of it"),
	IOCTL(KVM_SET_CPUID2, "what the guest sees of the CPU, which its snapshot says"),
	IOCTL(KVM_GET_REGS, "capture a vCPU, report a crash"),
	IOCTL(KVM_SET_REGS, "boot or restore a vCPU"),
	IOCTL(KVM_GET_SREGS, "capture a vCPU, report a crash"),
	IOCTL(KVM_SET_SREGS, "boot or restore a vCPU"),
	IOCTL(KVM_GET_XSAVE, "capture a vCPU"),
	IOCTL(KVM_SET_XSAVE, "restore a vCPU"),
	IOCTL(KVM_GET_XCRS, "capture a vCPU"),
	IOCTL(KVM_SET_XCRS, "boot or restore a vCPU"),
	IOCTL(KVM_GET_MSR_INDEX_LIST, "which MSRs there are to capture"),
	IOCTL(KVM_GET_MSRS, "capture a vCPU"),
	IOCTL(KVM_SET_MSRS, "boot or restore a vCPU"),
	IOCTL(KVM_GET_LAPIC, "capture a vCPU's interrupt controller"),
	IOCTL(KVM_SET_LAPIC, "restore a vCPU's interrupt controller"),
	IOCTL(KVM_GET_VCPU_EVENTS, "capture a vCPU"),
	IOCTL(KVM_SET_VCPU_EVENTS, "restore a vCPU"),
	IOCTL(KVM_GET_DEBUGREGS, "capture a vCPU"),
	IOCTL(KVM_SET_DEBUGREGS, "restore a vCPU"),
	IOCTL(KVM_GET_MP_STATE, "capture a vCPU"),
	IOCTL(KVM_SET_MP_STATE, "restore a vCPU"),
	IOCTL(KVM_KVMCLOCK_CTRL, "tell the guest's watchdogs that it stood still"),
	IOCTL(KVM_SET_TSC_KHZ, "a guest's clock on a host of another frequency"),
	IOCTL(KVM_GET_CLOCK, "capture the guest's clock"),
	IOCTL(KVM_SET_CLOCK, "restore the guest's clock"),
	IOCTL(KVM_GET_IRQCHIP, "capture PICs and IOAPIC"),
	IOCTL(KVM_SET_IRQCHIP, "restore PICs and IOAPIC"),
	IOCTL(KVM_GET_PIT2, "capture the timer chip"),
	IOCTL(KVM_SET_PIT2, "restore the timer chip"),

	/* ---- guest memory ---- */
	IOCTL(UFFDIO_REGISTER, "watch a restored guest's memory"),
	{SYS(mmap), .args = {ARG_CLEAR(3, PROT_EXEC)}, WHY("template, heap, memfds: never code")},
	{SYS(mprotect), .args = {ARG_CLEAR(3, PROT_EXEC)}, WHY("heap: never code")},
	{SYS(munmap), WHY("heap, memfds")},
	{SYS(mremap), WHY("heap: realloc of large blocks")},
	{SYS(brk), WHY("heap")},
	{SYS(madvise), WHY("populate the working set; pages that the balloon gives back")},
	{SYS(memfd_create), .args = {ARG_ONLY(2, MFD_CLOEXEC | MFD_ALLOW_SEALING)},
	 WHY("large payloads, working-set reports")},
	{SYS(ftruncate), WHY("size of a memfd, of a snapshot in the making")},

	/* ---- the control socket, and the loop that serves devices ---- */
	{SYS(recvmsg), WHY("messages of snapd, with descriptors")},
	{SYS(sendmsg), WHY("messages to snapd, with descriptors")},
	{SYS(poll), WHY("is there room in the console's output; has snapd gone")},
	{SYS(epoll_ctl), WHY("wait for the control socket")},
	{SYS(epoll_wait), WHY("wait for devices and the control socket")},
	{SYS(epoll_pwait), WHY("the same; what libc may call")},
	{SYS(close), WHY("descriptors that came with messages")},

	/* ---- disks: images that snapd has opened for reading ---- */
	{SYS(pread64), WHY("a kernel to boot, the page map")},
	{SYS(preadv), WHY("the guest's reads, into its memory")},
	{SYS(preadv2), WHY("the same; what libc may call")},
	{SYS(lseek), WHY("size of a file")},
	{SYS(fstat), WHY("size of an image, of a template")},
	{SYS(newfstatat), WHY("the same; what libc may call for fstat()")},
	{SYS(fcntl), .args = {ARG(2, F_OFD_SETLK)},
	 WHY("nobody writes to an image that is in use")},
	{SYS(fcntl), .args = {ARG(2, F_ADD_SEALS)}, WHY("seal a memfd before it is sent")},
	{SYS(fcntl), .args = {ARG(2, F_GET_SEALS)}, WHY("check that a received memfd is sealed")},

	/* ---- capture: the snapshot file is a descriptor from snapd ---- */
	{SYS(pwrite64), WHY("snapshot's chunks and header, memfds")},
	{SYS(pwritev), WHY("the same from several buffers")},
	{SYS(fallocate), WHY("reserve a snapshot's space")},
	{SYS(fdatasync), WHY("the snapshot is on disk before it is announced")},
	{SYS(fsync), WHY("the same, with its size")},

	/* ---- eventfds and log ---- */
	{SYS(read), WHY("queues that the guest rang")},
	{SYS(write), WHY("interrupts, log lines, the console, memfds")},
	{SYS(writev), WHY("log lines; what libc may call")},

	/* ---- threads and the process itself ---- */
	{SYS(rseq), WHY("a thread made before the filter may begin after it: libc's per-CPU area")},
	{SYS(set_robust_list), WHY("the same: libc's locks")},
	{SYS(futex), WHY("the machine's lock")},
	{SYS(tgkill), WHY("kick a vCPU out of the guest; abort()")},
	{SYS(getpid), WHY("the same")},
	{SYS(gettid), WHY("abort()")},
	{SYS(rt_sigprocmask), WHY("what libc does around the same")},
	{SYS(rt_sigreturn), WHY("return from a kick")},
	{SYS(restart_syscall), WHY("the kernel goes on with an interrupted wait")},
	{SYS(sched_yield), WHY("spin politely")},
	{SYS(clock_gettime), WHY("clocks that the vDSO does not serve")},
	{SYS(clock_nanosleep), WHY("short waits")},
	{SYS(getrandom), WHY("the guest's entropy, a clone's own number")},
	{SYS(exit), WHY("end of a thread")},
	{SYS(exit_group), WHY("end")},
	{0},
};
