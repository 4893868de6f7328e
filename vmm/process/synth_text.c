/* SPDX-License-Identifier: Apache-2.0 */
/* synth_text.c - what the files of /proc, /dev and /sys say */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/util.h"
#include "vmm/process/clock.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/synth.h"
#include "vmm/process/task.h"
#include "vmm/process/vfs_node.h"

#define PROC "/proc/1"

static int text_room(struct synth_text *t, size_t n)
{
	char *data;

	if (t->err || t->used + n > SYNTH_TEXT_MAX)
		return t->err = t->err ? t->err : -E2BIG;
	data = realloc(t->data, t->used + n);
	if (!data)
		return t->err = -ENOMEM;
	t->data = data;
	return 0;
}

void synth_append(struct synth_text *t, const void *data, size_t n)
{
	if (!n || text_room(t, n))
		return;
	memcpy(t->data + t->used, data, n);
	t->used += n;
}

void synth_print(struct synth_text *t, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n > 0)
		synth_append(t, line, MIN((size_t)n, sizeof(line) - 1));
}

/* ---- the process ---------------------------------------------------------------------------- */

/* A range of the program's memory, as long as it is there. */
static void text_memory(struct proc *p, uint64_t from, uint64_t to, struct synth_text *t)
{
	char buf[1024];

	while (from < to) {
		size_t n = MIN(to - from, sizeof(buf));

		if (mm_copy_in(p, buf, from, n) < 0)
			return;
		synth_append(t, buf, n);
		if (t->err)
			return;
		from += n;
	}
}

static void text_cmdline(struct proc *p, int num, struct synth_text *t)
{
	const struct mm_exec *e = mm_exec_info(p);

	(void)num;
	text_memory(p, e->arg_start, e->arg_end, t);
}

static void text_environ(struct proc *p, int num, struct synth_text *t)
{
	const struct mm_exec *e = mm_exec_info(p);

	(void)num;
	text_memory(p, e->env_start, e->env_end, t);
}

static void text_auxv(struct proc *p, int num, struct synth_text *t)
{
	const struct mm_exec *e = mm_exec_info(p);

	(void)num;
	synth_append(t, e->auxv, MIN(e->auxv_words, (uint32_t)MM_AUXV_MAX) * sizeof(e->auxv[0]));
}

static void text_maps(struct proc *p, int num, struct synth_text *t)
{
	enum { MAPS_MAX = 512 << 10 };
	char *buf = malloc(MAPS_MAX);

	(void)num;
	if (!buf) {
		t->err = -ENOMEM;
		return;
	}
	synth_append(t, buf, mm_print_maps(p, buf, MAPS_MAX));
	free(buf);
}

static const char *task_name(struct proc *p, int num)
{
	const struct task *t = task_by_tid(p, num ? num : 1);

	return t ? t->name : "";
}

static void text_comm(struct proc *p, int num, struct synth_text *t)
{
	synth_print(t, "%.15s\n", task_name(p, num));
}

static unsigned task_count(struct proc *p)
{
	unsigned n = 0;

	for (struct task *t = NULL; (t = task_next(p, t));)
		n++;
	return n;
}

static void text_status(struct proc *p, int num, struct synth_text *t)
{
	const struct task *task = task_by_tid(p, num ? num : 1);
	uint64_t mapped, resident;

	mm_totals(p, &mapped, &resident);
	synth_print(t, "Name:\t%.15s\nUmask:\t%04o\nState:\tR (running)\n", task_name(p, num),
		    (unsigned)p->vfs->umask);
	synth_print(t, "Tgid:\t1\nNgid:\t0\nPid:\t%d\nPPid:\t0\nTracerPid:\t0\n", num ? num : 1);
	synth_print(t, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t256\nGroups:\t\n");
	synth_print(t, "VmPeak:\t%8llu kB\nVmSize:\t%8llu kB\nVmLck:\t       0 kB\n",
		    (unsigned long long)(mapped >> 10), (unsigned long long)(mapped >> 10));
	synth_print(t, "VmHWM:\t%8llu kB\nVmRSS:\t%8llu kB\n", (unsigned long long)(resident >> 10),
		    (unsigned long long)(resident >> 10));
	synth_print(t, "Threads:\t%u\nSigQ:\t0/1024\nSigPnd:\t%016llx\nShdPnd:\t%016x\n",
		    task_count(p), (unsigned long long)(task ? task->signal_pending : 0), 0);
	synth_print(t, "SigBlk:\t%016llx\nCapInh:\t%016x\nCapPrm:\t%016x\nCapEff:\t%016x\n",
		    (unsigned long long)(task ? task->signal_mask : 0), 0, 0, 0);
	synth_print(t, "CapBnd:\t%016x\nCapAmb:\t%016x\nNoNewPrivs:\t1\nSeccomp:\t2\n", 0, 0);
	synth_print(t, "Cpus_allowed:\t1\nCpus_allowed_list:\t0\nMems_allowed:\t1\n"
		       "Mems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\n"
		       "nonvoluntary_ctxt_switches:\t0\n");
}

static void text_stat(struct proc *p, int num, struct synth_text *t)
{
	uint64_t mapped, resident, ticks = guest_cpu_ns(p) / 10000000;

	mm_totals(p, &mapped, &resident);
	synth_print(t, "%d (%.15s) R 0 1 1 0 -1 4194560 0 0 0 0 %llu 0 0 0 20 0 %u 0 0 %llu %llu",
		    num ? num : 1, task_name(p, num), (unsigned long long)ticks, task_count(p),
		    (unsigned long long)mapped, (unsigned long long)(resident / PAGE_BYTES));
	synth_print(t, " 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0"
		       " 0 0\n");
}

static void text_statm(struct proc *p, int num, struct synth_text *t)
{
	uint64_t mapped, resident;

	(void)num;
	mm_totals(p, &mapped, &resident);
	mapped /= PAGE_BYTES;
	resident /= PAGE_BYTES;
	synth_print(t, "%llu %llu 0 0 0 %llu 0\n", (unsigned long long)mapped,
		    (unsigned long long)resident, (unsigned long long)mapped);
}

static void text_limits(struct proc *p, int num, struct synth_text *t)
{
	static const char *const rows[] = {
		"Max cpu time              unlimited            unlimited            seconds",
		"Max file size             unlimited            unlimited            bytes",
		"Max data size             unlimited            unlimited            bytes",
		"Max stack size            8388608              unlimited            bytes",
		"Max core file size        0                    0                    bytes",
		"Max resident set          unlimited            unlimited            bytes",
		"Max processes             512                  512                  processes",
		"Max open files            1024                 1024                 files",
		"Max locked memory         8388608              8388608              bytes",
		"Max address space         unlimited            unlimited            bytes",
	};

	(void)p;
	(void)num;
	synth_print(t,
		    "Limit                     Soft Limit           Hard Limit           Units\n");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		synth_print(t, "%s\n", rows[i]);
}

static void text_fdinfo(struct proc *p, int num, struct synth_text *t)
{
	const struct file *f = fd_get(p, num);

	if (f)
		synth_print(t, "pos:\t%lld\nflags:\t0%o\nmnt_id:\t1\nino:\t0\n", (long long)f->pos,
			    (unsigned)f->flags | (fd_cloexec(p, num) ? O_CLOEXEC : 0));
}

/* ---- the machine ---------------------------------------------------------------------------- */

static void text_cpuinfo(struct proc *p, int num, struct synth_text *t)
{
	(void)num;
	synth_print(t, "processor\t: 0\nvendor_id\t: GenuineQuickthaw\ncpu family\t: 6\n"
		       "model\t\t: 1\nmodel name\t: Quickthaw virtual CPU\nstepping\t: 0\n");
	synth_print(t, "cpu MHz\t\t: %u.%03u\ncache size\t: 1024 KB\nphysical id\t: 0\n",
		    p->vm->tsc_khz ? (unsigned)(p->vm->tsc_khz / 1000) : 2000,
		    p->vm->tsc_khz ? (unsigned)(p->vm->tsc_khz % 1000) : 0);
	synth_print(
		t, "siblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\nfpu\t\t: yes\n"
		   "flags\t\t: fpu tsc cx8 cmov mmx fxsr sse sse2 syscall nx lm constant_tsc "
		   "nonstop_tsc\nbogomips\t: 4000.00\nclflush size\t: 64\n"
		   "cache_alignment\t: 64\naddress sizes\t: 40 bits physical, 48 bits virtual\n\n");
}

static void text_meminfo(struct proc *p, int num, struct synth_text *t)
{
	uint64_t total = p->memory_bytes, used = mm_resident_pages(p) * PAGE_BYTES;
	uint64_t left = used < total ? total - used : 0;
	unsigned long long shmem = p->vfs->tmpfs.page_count * (PAGE_BYTES >> 10);

	(void)num;
	synth_print(t, "MemTotal:       %8llu kB\nMemFree:        %8llu kB\n",
		    (unsigned long long)(total >> 10), (unsigned long long)(left >> 10));
	synth_print(t, "MemAvailable:   %8llu kB\nBuffers:               0 kB\n",
		    (unsigned long long)(left >> 10));
	synth_print(t, "Cached:         %8llu kB\nSwapCached:            0 kB\n", shmem);
	synth_print(t,
		    "SwapTotal:             0 kB\nSwapFree:              0 kB\n"
		    "Shmem:          %8llu kB\nHugePages_Total:       0\n"
		    "HugePages_Free:        0\nHugepagesize:       2048 kB\n",
		    shmem);
}

static void text_machine_stat(struct proc *p, int num, struct synth_text *t)
{
	uint64_t user = guest_cpu_ns(p) / 10000000, up = guest_mono_ns(p) / 10000000;
	unsigned long long idle = up > user ? up - user : 0;

	(void)num;
	synth_print(t, "cpu  %llu 0 0 %llu 0 0 0 0 0 0\ncpu0 %llu 0 0 %llu 0 0 0 0 0 0\n",
		    (unsigned long long)user, idle, (unsigned long long)user, idle);
	synth_print(t,
		    "intr 0\nctxt 0\nbtime %llu\nprocesses 1\nprocs_running 1\n"
		    "procs_blocked 0\n",
		    (unsigned long long)((clock_real_ns() - guest_mono_ns(p)) / NSEC_PER_SEC));
}

static void text_uptime(struct proc *p, int num, struct synth_text *t)
{
	uint64_t up = guest_mono_ns(p) / 10000000;

	(void)num;
	synth_print(t, "%llu.%02llu 0.00\n", (unsigned long long)(up / 100),
		    (unsigned long long)(up % 100));
}

static void text_mounts(struct proc *p, int num, struct synth_text *t)
{
	(void)num;
	synth_print(t,
		    "quickthaw / overlay ro,relatime 0 0\nproc /proc proc rw,nosuid 0 0\n"
		    "devtmpfs /dev devtmpfs rw,nosuid 0 0\n"
		    "tmpfs /dev/shm tmpfs rw,nosuid,nodev,size=%lluk 0 0\n"
		    "tmpfs /tmp tmpfs rw,nosuid,nodev,size=%lluk 0 0\n",
		    (unsigned long long)(p->tmp_bytes >> 10),
		    (unsigned long long)(p->tmp_bytes >> 10));
	if (p->vfs->dirs[PROTO_DIR_TASK] >= 0)
		synth_print(t, "quickthaw /var/task overlay ro,relatime 0 0\n");
	if (p->vfs->dirs[PROTO_DIR_RUNTIME] >= 0)
		synth_print(t, "quickthaw /var/runtime overlay ro,relatime 0 0\n");
	if (p->vfs->dirs[PROTO_DIR_OPT] >= 0)
		synth_print(t, "quickthaw /opt overlay ro,relatime 0 0\n");
}

/* Random, and another one in every clone. */
static void text_uuid(struct proc *p, int num, struct synth_text *t)
{
	uint8_t b[16];

	(void)p;
	(void)num;
	if (getrandom(b, sizeof(b), 0) != sizeof(b)) {
		t->err = -EIO;
		return;
	}
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	synth_print(t, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\n",
		    b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12],
		    b[13], b[14], b[15]);
}

#define DIR_AT(path)                                                                               \
	{                                                                                          \
		path, SYNTH_DIR, 0555, NULL, NULL, 0                                               \
	}
#define LINK_AT(path, to)                                                                          \
	{                                                                                          \
		path, SYNTH_LINK, 0777, to, NULL, 0                                                \
	}
#define SELF_AT(path)                                                                              \
	{                                                                                          \
		path, SYNTH_SELF_LINK, 0777, NULL, NULL, 0                                         \
	}
#define FILE_AT(path, fn)                                                                          \
	{                                                                                          \
		path, SYNTH_FILE, 0444, NULL, fn, 0                                                \
	}
#define FILE_RW(path, fn)                                                                          \
	{                                                                                          \
		path, SYNTH_FILE, 0644, NULL, fn, 0                                                \
	}
#define CONST_AT(path, text)                                                                       \
	{                                                                                          \
		path, SYNTH_CONST, 0444, text, NULL, 0                                             \
	}
#define CONST_RW(path, text)                                                                       \
	{                                                                                          \
		path, SYNTH_CONST, 0644, text, NULL, 0                                             \
	}
#define DEVICE_AT(path, minor)                                                                     \
	{                                                                                          \
		path, SYNTH_DEVICE, 0666, NULL, NULL, minor                                        \
	}

const struct synth_entry synth_entries[] = {
	DIR_AT("/proc"),
	LINK_AT("/proc/self", "1"),
	SELF_AT("/proc/thread-self"),
	LINK_AT("/proc/mounts", "self/mounts"),
	FILE_AT("/proc/cpuinfo", text_cpuinfo),
	FILE_AT("/proc/meminfo", text_meminfo),
	FILE_AT("/proc/stat", text_machine_stat),
	FILE_AT("/proc/uptime", text_uptime),
	CONST_AT("/proc/loadavg", "0.00 0.00 0.00 1/1 1\n"),
	CONST_AT("/proc/version", "Linux version 6.1.0 (quickthaw) #1 quickthaw\n"),
	CONST_AT("/proc/filesystems",
		 "nodev\tproc\nnodev\ttmpfs\nnodev\tdevtmpfs\nnodev\toverlay\n"),
	CONST_AT("/proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"),
	CONST_AT("/proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
	DIR_AT("/proc/sys"),
	DIR_AT("/proc/sys/kernel"),
	CONST_AT("/proc/sys/kernel/ostype", "Linux\n"),
	CONST_AT("/proc/sys/kernel/osrelease", "6.1.0\n"),
	CONST_AT("/proc/sys/kernel/version", "#1 quickthaw\n"),
	CONST_RW("/proc/sys/kernel/hostname", "quickthaw\n"),
	CONST_RW("/proc/sys/kernel/pid_max", "32768\n"),
	CONST_RW("/proc/sys/kernel/threads-max", "512\n"),
	CONST_AT("/proc/sys/kernel/cap_last_cap", "40\n"),
	CONST_AT("/proc/sys/kernel/ngroups_max", "65536\n"),
	CONST_RW("/proc/sys/kernel/randomize_va_space", "2\n"),
	CONST_RW("/proc/sys/kernel/core_pattern", "core\n"),
	DIR_AT("/proc/sys/kernel/random"),
	FILE_AT("/proc/sys/kernel/random/boot_id", text_uuid),
	FILE_AT("/proc/sys/kernel/random/uuid", text_uuid),
	CONST_AT("/proc/sys/kernel/random/entropy_avail", "256\n"),
	CONST_AT("/proc/sys/kernel/random/poolsize", "256\n"),
	DIR_AT("/proc/sys/vm"),
	CONST_RW("/proc/sys/vm/overcommit_memory", "1\n"),
	CONST_RW("/proc/sys/vm/max_map_count", "65530\n"),
	CONST_RW("/proc/sys/vm/mmap_min_addr", "65536\n"),
	CONST_RW("/proc/sys/vm/swappiness", "60\n"),
	DIR_AT("/proc/sys/fs"),
	CONST_RW("/proc/sys/fs/file-max", "1048576\n"),
	CONST_RW("/proc/sys/fs/nr_open", "1048576\n"),
	CONST_RW("/proc/sys/fs/pipe-max-size", "1048576\n"),
	DIR_AT("/proc/sys/net"),
	DIR_AT("/proc/sys/net/core"),
	CONST_RW("/proc/sys/net/core/somaxconn", "4096\n"),
	DIR_AT(PROC),
	SELF_AT(PROC "/exe"),
	SELF_AT(PROC "/cwd"),
	SELF_AT(PROC "/root"),
	FILE_AT(PROC "/cmdline", text_cmdline),
	FILE_AT(PROC "/environ", text_environ),
	FILE_AT(PROC "/auxv", text_auxv),
	FILE_AT(PROC "/maps", text_maps),
	FILE_AT(PROC "/status", text_status),
	FILE_AT(PROC "/stat", text_stat),
	FILE_AT(PROC "/statm", text_statm),
	FILE_RW(PROC "/comm", text_comm),
	FILE_AT(PROC "/limits", text_limits),
	FILE_AT(PROC "/mounts", text_mounts),
	CONST_AT(PROC "/cgroup", "0::/\n"),
	CONST_RW(PROC "/oom_score_adj", "0\n"),
	CONST_RW(PROC "/oom_adj", "0\n"),
	CONST_AT(PROC "/oom_score", "0\n"),
	CONST_RW(PROC "/coredump_filter", "00000033\n"),
	CONST_AT(PROC "/loginuid", "4294967295"),
	CONST_AT(PROC "/wchan", "0"),
	{PROC "/fd", SYNTH_FD_DIR, 0500, NULL, NULL, 0},
	{PROC "/fdinfo", SYNTH_FD_DIR, 0555, NULL, NULL, 0},
	{PROC "/task", SYNTH_TASK_DIR, 0555, NULL, NULL, 0},
	DIR_AT("/dev"),
	DEVICE_AT("/dev/null", 3),
	DEVICE_AT("/dev/zero", 5),
	DEVICE_AT("/dev/full", 7),
	DEVICE_AT("/dev/random", 8),
	DEVICE_AT("/dev/urandom", 9),
	DEVICE_AT("/dev/tty", 5 << 8),
	LINK_AT("/dev/fd", "/proc/self/fd"),
	LINK_AT("/dev/stdin", "/proc/self/fd/0"),
	LINK_AT("/dev/stdout", "/proc/self/fd/1"),
	LINK_AT("/dev/stderr", "/proc/self/fd/2"),
	DIR_AT("/dev/shm"),
	DIR_AT("/sys"),
	DIR_AT("/sys/fs"),
	DIR_AT("/sys/kernel"),
	DIR_AT("/sys/kernel/mm"),
	DIR_AT("/sys/kernel/mm/transparent_hugepage"),
	CONST_AT("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"),
	DIR_AT("/sys/devices"),
	DIR_AT("/sys/devices/system"),
	DIR_AT("/sys/devices/system/cpu"),
	CONST_AT("/sys/devices/system/cpu/online", "0\n"),
	CONST_AT("/sys/devices/system/cpu/possible", "0\n"),
	CONST_AT("/sys/devices/system/cpu/present", "0\n"),
	DIR_AT("/sys/devices/system/cpu/cpu0"),
	/* Where mount points hang that a root may lack. */
	DIR_AT("/var"),
	DIR_AT("/tmp"),
	{0},
};

const struct synth_entry synth_fd_link = {"fd", SYNTH_FD_LINK, 0700, NULL, NULL, 0};
const struct synth_entry synth_fdinfo = {"fdinfo", SYNTH_FILE, 0400, NULL, text_fdinfo, 0};
const struct synth_entry synth_task_dir = {"task", SYNTH_DIR, 0555, NULL, NULL, 0};
