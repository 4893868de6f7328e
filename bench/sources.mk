# bench: the harness, the cases, the peers, the tracer
bench_SRCS := bench/harness.c bench/load.c bench/service.c bench/service_load.c bench/cases.c bench/host_costs.c bench/report.c \
	bench/kernel_case.c bench/kernel_guest.c bench/kernel_agent.c bench/kernel_service.c bench/peers/peers.c bench/peers/qemu.c bench/peers/quickthaw.c bench/peers/firecracker.c bench/trace/trace.c \
	bench/trace/timeline.c bench/trace/page_notes.c
bench_MAIN := bench/main.c
bench_LIBS := bench common
bench_LDLIBS := -lcurl -lhttp_parser -ljansson -llz4 -lbpf -lelf -lz -lm

# The BPF program and its skeleton; CO-RE, so no header of the running kernel is needed.
$(BUILD)/bench/trace/trace.bpf.o: bench/trace/trace.bpf.c bench/trace/trace_event.h
	$(call say,BPF,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) -target bpf -D__TARGET_ARCH_x86 -O2 -g -Wall -I. \
		-I/usr/include/$(shell $(CC) -dumpmachine) -c $< -o $@
$(BUILD)/bench/trace/trace.skel.h: $(BUILD)/bench/trace/trace.bpf.o
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name trace_bpf > $@
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool /sbin/bpftool) bpftool)
$(BUILD)/obj/bench/trace/trace.o: $(BUILD)/bench/trace/trace.skel.h
$(BUILD)/obj/bench/trace/timeline.o: $(BUILD)/common/syscall_names.inc
