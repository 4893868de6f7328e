# vmm/kernel: the kernel guest. Its users link liburing.
vmm_SRCS += vmm/kernel/virtio_queue.c vmm/kernel/virtio_mmio.c vmm/kernel/virtio_rng.c
vmm_SRCS += vmm/kernel/virtio_blk.c vmm/kernel/disk.c
vmm_SRCS += vmm/kernel/virtio_vsock.c vmm/kernel/vsock_conn.c vmm/kernel/vsock_unix.c vmm/kernel/vsock_state.c
vmm_SRCS += vmm/kernel/virtio_net.c vmm/kernel/virtio_balloon.c
