# vmm: the machine, and what a command line or snapd does with it
vmm_SRCS += vmm/device.c vmm/capture.c vmm/guest.c vmm/control.c vmm/control_process.c vmm/lifeline.c vmm/working_set.c vmm/pagemap.c vmm/snapshot_file.c vmm/file_pager.c vmm/populate.c vmm/console.c vmm/console_call.c
vmm_SRCS += vmm/process/runtime_api.c vmm/process/runtime_http.c vmm/process/runtime_sock.c
vmm_SRCS += vmm/process/file.c
vmm_SRCS += vmm/vm.c vmm/vcpu.c vmm/guest_mem.c vmm/ram_slots.c vmm/system_slot.c vmm/cpu_features.c
vmm_SRCS += vmm/process/clock.c vmm/process/vdso.c vmm/process/vdso_image.c
vmm_SRCS += vmm/process/devices.c vmm/process/proc.c vmm/process/exception.c vmm/process/sched.c vmm/process/sched_run.c vmm/process/futex.c
vmm_SRCS += vmm/process/signal.c vmm/process/signal_frame.c vmm/process/timer.c
vmm_SRCS += vmm/process/syscall_task.c vmm/process/syscall_signal.c vmm/process/syscall_time.c vmm/process/syscall_system.c
vmm_SRCS += vmm/process/mm.c vmm/process/mm_map.c vmm/process/mm_report.c vmm/process/frame.c vmm/process/paging.c \
	vmm/process/vma.c vmm/process/page_fault.c vmm/process/user_mem.c vmm/process/neighbours.c
vmm_SRCS += vmm/process/elf.c vmm/process/exec.c vmm/process/exec_stack.c
vmm_SRCS += vmm/process/syscall.c vmm/process/syscall_mem.c
$(BUILD)/obj/vmm/process/syscall.o: $(BUILD)/common/syscall_names.inc

vmm_SRCS += vmm/process/epoll.c vmm/process/poll.c vmm/process/timerfd.c vmm/process/signalfd.c vmm/process/syscall_event.c
vmm_SRCS += vmm/process/net.c vmm/process/sock.c vmm/process/sock_name.c vmm/process/sock_file.c vmm/process/sock_option.c \
	vmm/process/syscall_socket.c
vmm_SRCS += vmm/process/vfs.c vmm/process/vfs_walk.c vmm/process/host_file.c vmm/process/tmpfs.c vmm/process/tmpfs_file.c
vmm_SRCS += vmm/process/synth_file.c vmm/process/synth_text.c vmm/process/stdio_file.c vmm/process/pipe.c vmm/process/eventfd.c
vmm_SRCS += vmm/process/syscall_file.c vmm/process/syscall_fd.c vmm/process/syscall_path.c vmm/process/syscall_stat.c

include vmm/kernel/sources.mk

# The jail has an empty root, so the vmm is one static file.
vmm_MAIN := vmm/main.c vmm/options.c
vmm_LIBS := vmm snapshot common
vmm_LDLIBS := -lhttp_parser -llz4 -lxxhash -lseccomp -luring
vmm_LDFLAGS := -static-pie
