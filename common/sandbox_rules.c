/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_rules.c - the system calls a jailed vmm or unpacker may make, and why
 *
 * Those of a vmm with a kernel guest are in sandbox_rules_kernel.c, written in the same way.
 *
 * What is not listed kills the process with a log line that names the call. To add one, add a line
 * with its reason beside its kin; narrow it with one or two argument checks where the kernel's
 * interface lets us:
 *
 *   {SYS(dup)}                                  any arguments
 *   {SYS(fcntl), {ARG(2, F_GETFL)}}             the 2nd argument is F_GETFL
 *   {SYS(mmap), {ARG_CLEAR(3, PROT_EXEC)}}      those bits of the 3rd argument are 0
 *   {SYS(kcmp), {ARG_ONLY(5, 7)}}               no bits but those of the 5th argument are set
 *
 * Several lines for one call mean any of them. Arguments count from 1 and are compared as 32 bits,
 * which is all the kernel looks at in those that are checked here; pointers cannot be checked. So
 * openat2, whose flags are behind a pointer, is let through whole: the jail's root is empty, and
 * the directory descriptors that the vmm was given are read-only mounts.
 */
#include <assert.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <linux/memfd.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "common/sandbox_internal.h"
#include "common/sandbox_rule.h"
#include "common/util.h"

#define OPEN_READ_BITS                                                                             \
	(O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW | O_PATH | O_NONBLOCK | O_NOCTTY | O_LARGEFILE |     \
	 O_NOATIME)

static const struct sandbox_rule guest_rules[] = {
	/* ---- run the virtual machine ---- */
	IOCTL(KVM_RUN, "enter the guest"),
	IOCTL(KVM_GET_REGS, "capture the vCPU"),
	IOCTL(KVM_SET_REGS, "restore the vCPU"),
	IOCTL(KVM_GET_SREGS, "capture the vCPU"),
	IOCTL(KVM_SET_SREGS, "restore the vCPU, switch page tables and thread pointers"),
	IOCTL(KVM_GET_XSAVE, "save a task's vector registers"),
	IOCTL(KVM_SET_XSAVE, "load a task's vector registers"),
	IOCTL(KVM_GET_XCRS, "capture the vCPU"),
	IOCTL(KVM_SET_XCRS, "restore the vCPU"),
	IOCTL(KVM_GET_MSRS, "capture the vCPU, read its TSC"),
	IOCTL(KVM_SET_MSRS, "restore the vCPU, gs base of a task"),
	IOCTL(KVM_GET_VCPU_EVENTS, "see what exception is pending after a fault"),
	IOCTL(KVM_SET_VCPU_EVENTS, "drop or inject an exception"),
	IOCTL(KVM_GET_DEBUGREGS, "capture the vCPU"),
	IOCTL(KVM_SET_DEBUGREGS, "restore the vCPU"),
	IOCTL(KVM_GET_MP_STATE, "capture the vCPU"),
	IOCTL(KVM_SET_MP_STATE, "restore the vCPU"),
	IOCTL(KVM_GET_TSC_KHZ, "guest clock"),
	IOCTL(KVM_SET_TSC_KHZ, "guest clock on a host of another frequency"),
	IOCTL(KVM_GET_CLOCK, "guest clock"),
	IOCTL(KVM_SET_CLOCK, "guest clock after a restore"),
	IOCTL(KVM_SET_USER_MEMORY_REGION, "more of guest RAM comes into use"),

	/* ---- guest memory ---- */
	IOCTL(UFFDIO_REGISTER, "watch a restored guest's memory"),
	{SYS(mmap), .args = {ARG_CLEAR(3, PROT_EXEC)}, WHY("guest RAM, heap, memfds: never code")},
	{SYS(mprotect), .args = {ARG_CLEAR(3, PROT_EXEC)}, WHY("drop guest mappings: never code")},
	{SYS(munmap), WHY("heap, memfds")},
	{SYS(mremap), WHY("heap: realloc of large blocks")},
	{SYS(brk), WHY("heap")},
	{SYS(madvise), WHY("populate the working set, give pages back, drop guest mappings")},
	{SYS(mincore), WHY("which pages of the template are resident")},
	{SYS(process_madvise), WHY("batches of madvise on itself")},
	{SYS(memfd_create), .args = {ARG_ONLY(2, MFD_CLOEXEC | MFD_ALLOW_SEALING)},
	 WHY("large payloads, working-set reports; no huge pages, which snapd could not map")},
	{SYS(ftruncate), WHY("size of a memfd, of a snapshot in the making")},
	{SYS(fallocate), WHY("give back parts of a memfd, reserve a snapshot's space")},

	/* ---- the control socket ---- */
	{SYS(recvmsg), WHY("messages of snapd, with descriptors")},
	{SYS(sendmsg), WHY("messages to snapd, with descriptors")},
	{SYS(recvfrom), WHY("recv() on the control socket")},
	{SYS(sendto), WHY("send() on the control socket")},
	{SYS(poll), WHY("wait for snapd while no task can run")},
	{SYS(ppoll), WHY("the same with a deadline")},
	{SYS(epoll_create1), WHY("wait for several descriptors")},
	{SYS(epoll_ctl), WHY("the same")},
	{SYS(epoll_wait), WHY("the same")},
	{SYS(epoll_pwait), WHY("the same; what libc calls")},
	{SYS(epoll_pwait2), WHY("the same with nanoseconds")},
	{SYS(eventfd2), WHY("kick the vCPU, wake the loop")},

	/* ---- files of the guest, read-only, below the given directories ---- */
	{SYS(openat2), WHY("guest's open(), confined by RESOLVE_IN_ROOT; flags are behind a "
			   "pointer, the mounts are read-only")},
	{SYS(openat), .args = {ARG_ONLY(3, OPEN_READ_BITS)},
	 WHY("reopen a file or read a directory; no write, create or truncate")},
	{SYS(close), WHY("guest's close()")},
	{SYS(close_range), WHY("drop descriptors in one go")},
	{SYS(read), WHY("files, timers, event counters")},
	{SYS(readv), WHY("guest's readv()")},
	{SYS(pread64), WHY("guest's read(): pages of its files")},
	{SYS(preadv), WHY("the same into several pages")},
	{SYS(preadv2), WHY("the same; what libc may call")},
	{SYS(lseek), WHY("size and holes of files, directory positions")},
	{SYS(newfstatat), WHY("guest's stat()")},
	{SYS(fstat), WHY("what libc calls for fstat()")},
	{SYS(statx), WHY("guest's statx()")},
	{SYS(fstatfs), WHY("guest's statfs()")},
	{SYS(faccessat2), WHY("guest's access(), answered for this process's user")},
	{SYS(readlinkat), WHY("guest's readlink()")},
	{SYS(getdents64), WHY("guest's directories")},
	{SYS(fgetxattr), WHY("guest's getxattr()")},
	{SYS(flistxattr), WHY("guest's listxattr()")},
	{SYS(fadvise64), WHY("read ahead what a program starts with")},
	{SYS(readahead), WHY("the same")},

	/* ---- descriptors ---- */
	{SYS(dup), WHY("hold a descriptor for a second user")},
	{SYS(fcntl), .args = {ARG(2, F_DUPFD_CLOEXEC)}, WHY("the same, close-on-exec")},
	{SYS(fcntl), .args = {ARG(2, F_GETFL)}, WHY("check a descriptor that came from snapd")},
	{SYS(fcntl), .args = {ARG(2, F_GETFD)}, WHY("check whether one is open")},
	{SYS(fcntl), .args = {ARG(2, F_SETFD)}, WHY("close-on-exec")},
	{SYS(fcntl), .args = {ARG(2, F_ADD_SEALS)}, WHY("seal a memfd before it is sent")},
	{SYS(fcntl), .args = {ARG(2, F_GET_SEALS)}, WHY("check that a received memfd is sealed")},

	/* ---- capture: the snapshot file is a descriptor from snapd ---- */
	{SYS(pwrite64), WHY("snapshot's chunks and header, memfds")},
	{SYS(pwritev), WHY("the same from several buffers")},
	{SYS(pwritev2), WHY("the same; what libc may call")},
	{SYS(write), WHY("log lines, memfds, event counters; nothing else is writable")},
	{SYS(writev), WHY("the same from several buffers")},
	{SYS(fdatasync), WHY("the snapshot is on disk before it is announced")},
	{SYS(fsync), WHY("the same, with its size")},
	{SYS(sync_file_range), WHY("start write-out early")},

	/* ---- time ---- */
	{SYS(clock_gettime), WHY("clocks that the vDSO does not serve")},
	{SYS(clock_getres), WHY("guest's clock_getres()")},
	{SYS(clock_nanosleep), WHY("short waits")},
	{SYS(nanosleep), WHY("short waits")},
	{SYS(gettimeofday), WHY("when the vDSO falls back")},
	{SYS(getrusage), WHY("CPU time of the guest")},
	{SYS(times), WHY("CPU time of the guest")},
	{SYS(timer_create), WHY("pre-empt tasks")},
	{SYS(timer_settime), WHY("pre-empt tasks")},
	{SYS(timer_gettime), WHY("pre-empt tasks")},
	{SYS(timer_getoverrun), WHY("pre-empt tasks")},
	{SYS(timer_delete), WHY("pre-empt tasks")},
	{SYS(timerfd_create), WHY("deadlines")},
	{SYS(timerfd_settime), WHY("deadlines")},
	{SYS(timerfd_gettime), WHY("deadlines")},
	{SYS(setitimer), WHY("pre-empt tasks")},
	{SYS(getitimer), WHY("pre-empt tasks")},

	/* ---- the process itself ---- */
	{SYS(rt_sigreturn), WHY("return from a signal handler")},
	{SYS(rt_sigaction), .args = {ARG(1, SIGALRM)},
	 WHY("handler of the pre-emption timer; SIGSYS's stays out of reach")},
	{SYS(rt_sigprocmask), WHY("block kicks outside of KVM_RUN; abort()")},
	{SYS(rt_sigpending), WHY("see whether a kick is pending")},
	{SYS(rt_sigtimedwait), WHY("take a pending kick without its handler")},
	{SYS(sigaltstack), WHY("stack of the crash handler")},
	{SYS(futex), WHY("locks of libc")},
	{SYS(sched_yield), WHY("spin politely")},
	{SYS(sched_getaffinity), WHY("guest's number of processors")},
	{SYS(getcpu), WHY("when the vDSO falls back")},
	{SYS(getrandom), WHY("guest's random numbers, new ones in every clone")},
	{SYS(getpid), WHY("abort(), log lines")},
	{SYS(gettid), WHY("abort(), kicks")},
	{SYS(tgkill), WHY("abort(), kicks; its pid namespace holds nobody else")},
	{SYS(kill), WHY("the same")},
	{SYS(membarrier), WHY("order with another thread without its help")},
	{SYS(rseq), WHY("libc's per-CPU area")},
	{SYS(set_robust_list), WHY("libc's locks")},
	{SYS(restart_syscall), WHY("the kernel goes on with an interrupted wait")},
	{SYS(prctl), .args = {ARG(1, PR_SET_NAME)}, WHY("show the instance in ps")},
	{SYS(prctl), .args = {ARG(1, PR_SET_TIMERSLACK)}, WHY("exact deadlines")},
	{SYS(prctl), .args = {ARG(1, PR_SET_VMA)}, WHY("libc names its mappings")},
	{SYS(exit), WHY("end of a thread")},
	{SYS(exit_group), WHY("end")},
	{0},
};

static const struct sandbox_rule unpack_rules[] = {
	/* ---- the archive, and where it goes: views of directories without a way up ---- */
	{SYS(read), WHY("a layer; the archive is mapped or read")},
	{SYS(pread64), WHY("the same")},
	{SYS(lseek), WHY("its size; the second pass over a layer")},
	{SYS(openat2), WHY("everything in the tree and the image, confined by RESOLVE_BENEATH")},
	{SYS(openat), WHY("a new file; directories of a walk")},
	{SYS(close), WHY("each of them")},
	{SYS(write), WHY("the files' content, log lines, the result")},
	{SYS(writev), WHY("the same; what libc may call")},
	{SYS(ftruncate), WHY("a zip file in the making")},
	{SYS(sysinfo), WHY("qsort() of many names asks how much memory there is")},
	{SYS(mkdirat), WHY("directories of the archive")},
	{SYS(symlinkat), WHY("symbolic links of the archive")},
	{SYS(linkat), WHY("hard links of the archive")},
	{SYS(unlinkat), WHY("what a layer takes away")},
	{SYS(fchmod), WHY("whatever the umask is")},
	{SYS(fstat), WHY("what a descriptor is")},
	{SYS(newfstatat), WHY("what a name is")},
	{SYS(statx), WHY("the same; what libc may call")},
	{SYS(getdents64), WHY("the walk over the tree")},
	{SYS(readlinkat), WHY("where a link leads")},
	{SYS(fcntl), .args = {ARG(2, F_GETFL)}, WHY("fdopendir() checks what it gets")},
	{SYS(fcntl), .args = {ARG(2, F_SETFD)}, WHY("the same: close-on-exec")},

	/* ---- memory: never code ---- */
	{SYS(mmap), .args = {ARG_CLEAR(3, PROT_EXEC)}, WHY("heap")},
	{SYS(mprotect), .args = {ARG_CLEAR(3, PROT_EXEC)}, WHY("heap")},
	{SYS(munmap), WHY("heap")},
	{SYS(mremap), WHY("heap: realloc of large blocks")},
	{SYS(madvise), WHY("heap")},
	{SYS(brk), WHY("heap")},

	/* ---- the process itself ---- */
	{SYS(futex), WHY("locks of libc")},
	{SYS(clock_gettime), WHY("what the vDSO does not serve; log lines")},
	{SYS(getrandom), WHY("seeds of hash tables")},
	{SYS(getpid), WHY("abort(), log lines")},
	{SYS(gettid), WHY("abort()")},
	{SYS(tgkill), WHY("abort()")},
	{SYS(rt_sigprocmask), WHY("abort()")},
	{SYS(rt_sigreturn), WHY("return from a signal handler")},
	{SYS(restart_syscall), WHY("the kernel goes on with an interrupted wait")},
	{SYS(exit_group), WHY("end")},
	{0},
};

static const struct sandbox_rule *const stage_rules[] = {
	[SANDBOX_STAGE_GUEST] = guest_rules,
	[SANDBOX_STAGE_KERNEL] = sandbox_kernel_rules,
	[SANDBOX_STAGE_UNPACK] = unpack_rules,
};
static_assert(ARRAY_SIZE(stage_rules) == SANDBOX_STAGE_COUNT, "rules for each stage");

const struct sandbox_rule *sandbox_rules(enum sandbox_stage stage)
{
	return stage_rules[stage];
}
