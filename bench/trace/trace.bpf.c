/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace.bpf.c - faults and exits of vmm processes, template fills of snapd
 *
 * Only tracepoints that fire on hardware KVM and on PVM hosts alike are used (kvm_exit, kvm_entry and
 * kvm_page_fault never fire on PVM), and only as BTF tracepoints: these detach in a fraction of a
 * millisecond where classic ones take tens. Arguments are scalars but for one field of struct
 * folio, so that no kernel header is needed: CO-RE finds the field on the running kernel.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bench/trace/trace_event.h"

enum { RING_BYTES = 1 << 22, COMM_BYTES = 16 };

struct folio {
	unsigned long index;
} __attribute__((preserve_access_index));

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

static __always_inline int emit(unsigned kind, unsigned long long a, unsigned long long b)
{
	struct trace_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	e->ns = bpf_ktime_get_ns();
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->kind = kind;
	e->a = a;
	e->b = b;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("tp_btf/kvm_userspace_exit")
int BPF_PROG(on_userspace_exit, unsigned int reason, int error)
{
	return comm_is("vmm", 4) ? emit(TRACE_EXIT, reason, error) : 0;
}

SEC("tp_btf/kvm_pio")
int BPF_PROG(on_pio, unsigned int write, unsigned int port)
{
	return comm_is("vmm", 4) ? emit(TRACE_IO, port, write) : 0;
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

SEC("tp_btf/mm_filemap_add_to_page_cache")
int BPF_PROG(on_page_cache, struct folio *folio)
{
	return comm_is("snapd", 6) ? emit(TRACE_FILL, BPF_CORE_READ(folio, index), 0) : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
