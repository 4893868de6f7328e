# vmm/kernel: the kernel guest. Its users link liburing.
vmm_SRCS += vmm/kernel/virtio_queue.c vmm/kernel/virtio_mmio.c vmm/kernel/virtio_rng.c
vmm_SRCS += vmm/kernel/virtio_blk.c vmm/kernel/disk.c
vmm_SRCS += vmm/kernel/virtio_vsock.c vmm/kernel/vsock_conn.c vmm/kernel/vsock_unix.c vmm/kernel/vsock_state.c
vmm_SRCS += vmm/kernel/virtio_net.c vmm/kernel/virtio_balloon.c
vmm_SRCS += vmm/kernel/machine.c vmm/kernel/machine_loop.c vmm/kernel/machine_state.c vmm/kernel/machine_virtio.c
vmm_SRCS += vmm/kernel/kvcpu.c vmm/kernel/kvcpu_cpuid.c vmm/kernel/kvcpu_state.c
vmm_SRCS += vmm/kernel/boot_linux.c vmm/kernel/boot_elf.c vmm/kernel/acpi.c vmm/kernel/aml.c
vmm_SRCS += vmm/kernel/bus.c vmm/kernel/serial.c vmm/kernel/serial_out.c vmm/kernel/power.c vmm/kernel/vmgenid.c
vmm_SRCS += vmm/kernel/command.c vmm/kernel/shell.c vmm/kernel/wiring.c vmm/kernel/net_option.c vmm/kernel/agent_link.c
