/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace.bpf.c - faults and exits of vmm processes, template fills of snapd
 *
 * Only tracepoints that fire on hardware KVM and on PVM hosts alike are used (kvm_exit, kvm_entry
 * and kvm_page_fault never fire on PVM), and only as BTF tracepoints: these detach in a fraction of
 * a millisecond where classic ones take tens. No header of the running kernel is needed: the few
 * fields of its structs that are read are declared here, and CO-RE finds them.
 *
 * Templates are filled by pwrite64 into a memfd, and memfds have no tracepoint of their own; hence
 * sys_enter, for snapd only.
 */
#include <linux/bpf.h>
#include <linux/kvm.h>
#include <linux/types.h>
#include <stddef.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bench/trace/trace_event.h"

enum { RING_BYTES = 1 << 23, COMM_BYTES = 16, PAGE_SHIFT_4K = 12, NR_PWRITE64 = 18 };

#define KERNEL_STRUCT __attribute__((preserve_access_index))

struct qstr {
	const unsigned char *name;
} KERNEL_STRUCT;
struct dentry {
	struct qstr d_name;
} KERNEL_STRUCT;
struct path {
	struct dentry *dentry;
} KERNEL_STRUCT;
struct file {
	void *private_data;
	struct path f_path;
} KERNEL_STRUCT;
struct fdtable {
	struct file **fd;
} KERNEL_STRUCT;
struct files_struct {
	struct fdtable *fdt;
} KERNEL_STRUCT;
struct task_struct {
	struct files_struct *files;
} KERNEL_STRUCT;
struct kvm_vcpu {
	struct kvm_run *run;
} KERNEL_STRUCT;
struct pt_regs___kernel {
	unsigned long di, dx, r10;
} KERNEL_STRUCT;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} events SEC(".maps");

/** Events that found no room: the tracer says so instead of showing a line that has holes. */
unsigned long long lost;

static __always_inline int comm_is(const char *name, int n)
{
	char comm[COMM_BYTES] = {0};

	bpf_get_current_comm(comm, sizeof(comm));
	for (int i = 0; i < n; i++)
		if (comm[i] != name[i])
			return 0;
	return 1;
}

static __always_inline struct trace_event *event_new(unsigned kind, unsigned long long a,
						     unsigned long long b)
{
	struct trace_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		__sync_fetch_and_add(&lost, 1);
		return NULL;
	}
	e->ns = bpf_ktime_get_ns();
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->kind = kind;
	e->a = a;
	e->b = b;
	e->rip = e->rax = e->rcx = e->cr2 = 0;
	return e;
}

static __always_inline int emit(unsigned kind, unsigned long long a, unsigned long long b)
{
	struct trace_event *e = event_new(kind, a, b);

	if (e)
		bpf_ringbuf_submit(e, 0);
	return 0;
}

/** What the current process has open as @fd. */
static __always_inline struct file *current_file(unsigned long fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct file **table = BPF_CORE_READ(task, files, fdt, fd);
	struct file *file = NULL;

	bpf_probe_read_kernel(&file, sizeof(file), table + fd);
	return file;
}

/*
 * The registers that KVM has just put into the page it shares with the vmm (KVM_CAP_SYNC_REGS). The
 * page is found by the descriptor of the ioctl that is about to return.
 */
static __always_inline void add_registers(struct trace_event *e)
{
	struct pt_regs___kernel *regs =
		(void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());
	struct kvm_vcpu *vcpu = NULL;
	struct kvm_run *run;
	struct file *file;

	if (!bpf_core_field_exists(vcpu->run))
		return;
	file = current_file(BPF_CORE_READ(regs, di));
	vcpu = BPF_CORE_READ(file, private_data);
	run = BPF_CORE_READ(vcpu, run);
	if (!run)
		return;
	bpf_probe_read_kernel(&e->rip, sizeof(e->rip), &run->s.regs.regs.rip);
	bpf_probe_read_kernel(&e->rax, sizeof(e->rax), &run->s.regs.regs.rax);
	bpf_probe_read_kernel(&e->rcx, sizeof(e->rcx), &run->s.regs.regs.rcx);
	bpf_probe_read_kernel(&e->cr2, sizeof(e->cr2), &run->s.regs.sregs.cr2);
}

SEC("tp_btf/kvm_userspace_exit")
int BPF_PROG(on_userspace_exit, unsigned int reason, int error)
{
	struct trace_event *e = comm_is("vmm", 4) ? event_new(TRACE_EXIT, reason, error) : NULL;

	if (!e)
		return 0;
	add_registers(e);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("tp_btf/kvm_mmu_set_spte")
int BPF_PROG(on_set_spte, int level, unsigned long long gfn)
{
	return comm_is("vmm", 4) ? emit(TRACE_MAP, gfn, level) : 0;
}

SEC("tp_btf/page_fault_user")
int BPF_PROG(on_page_fault_user, unsigned long address, void *regs, unsigned long error_code)
{
	return comm_is("vmm", 4) ? emit(TRACE_VMM_FAULT, address, error_code) : 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_sys_enter, struct pt_regs___kernel *regs, long nr)
{
	char name[6] = {0};
	const unsigned char *from;
	unsigned long bytes;
	struct file *file;

	if (nr != NR_PWRITE64 || !comm_is("snapd", 6))
		return 0;
	file = current_file(BPF_CORE_READ(regs, di));
	from = BPF_CORE_READ(file, f_path.dentry, d_name.name);
	bpf_probe_read_kernel(name, sizeof(name), from);
	if (name[0] != 'm' || name[1] != 'e' || name[2] != 'm' || name[3] != 'f' || name[5] != ':')
		return 0;
	bytes = BPF_CORE_READ(regs, dx);
	return emit(TRACE_FILL, BPF_CORE_READ(regs, r10) >> PAGE_SHIFT_4K, bytes >> PAGE_SHIFT_4K);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
