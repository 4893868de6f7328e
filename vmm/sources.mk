# vmm: the machine, and what a command line or snapd does with it
vmm_SRCS += vmm/device.c vmm/capture.c vmm/guest.c vmm/control.c vmm/working_set.c vmm/console.c
vmm_SRCS += vmm/process/runtime_api.c vmm/process/runtime_http.c
vmm_SRCS += vmm/process/file.c
vmm_SRCS += vmm/vm.c vmm/vcpu.c vmm/guest_mem.c vmm/system_slot.c vmm/cpu_features.c
vmm_SRCS += vmm/process/clock.c vmm/process/vdso.c vmm/process/vdso_image.c
