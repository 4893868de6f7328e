# tests: sources
UNIT_TESTS += test_runtime_api
test_runtime_api_LIBS := vmm common
test_runtime_api_LDLIBS := -lhttp_parser
# The jail, tried from inside by a program that is in a jail: static, never sanitized.
UNIT_TESTS += test_sandbox test_sandbox_policy
test_sandbox_LIBS := common
test_sandbox_LDLIBS := $(sandbox_LDLIBS)
test_sandbox_policy_LIBS := common
test_sandbox_policy_LDLIBS := $(sandbox_LDLIBS)
jail_probe_SRCS := tests/unit/jail_probe.c common/log.c common/io.c common/sandbox_rules.c common/sandbox_rules_kernel.c \
	common/sandbox_seccomp.c common/sandbox_filter.c common/sandbox_confine.c common/sandbox_root.c
$(BUILD)/tests/jail_probe: $(jail_probe_SRCS) common/sandbox.h common/sandbox_internal.h \
		$(BUILD)/common/syscall_names.inc
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -std=gnu11 -O2 -g -fPIE -static-pie $(WARN) $(WERROR) $(jail_probe_SRCS) -lseccomp -lcap-ng \
		-Wl,--no-warnings -o $@
$(BUILD)/tests/test_sandbox $(BUILD)/tests/test_sandbox_policy: | $(BUILD)/tests/jail_probe
# The machine on real KVM.
UNIT_TESTS += test_vm test_vm_state
KVM_TESTS := test_sandbox test_vm test_vm_state test_clock
test_vm_LIBS := vmm common
test_vm_state_LIBS := vmm common
UNIT_TESTS += test_clock
test_clock_LIBS := vmm common
UNIT_TESTS += test_frame
test_frame_LIBS := vmm common
UNIT_TESTS += test_mm_model
test_mm_model_LIBS := vmm common
# The snapshot format. `test_format --golden FILE` writes the golden snapshot of this version, --golden-diff FILE
# a diff on it.
UNIT_TESTS += test_format test_format_damage test_format_diff
test_format_LIBS := snapshot common
test_format_LDLIBS := $(snapshot_lib_LDLIBS)
test_format_damage_LIBS := snapshot common
test_format_damage_LDLIBS := $(snapshot_lib_LDLIBS)
test_format_diff_LIBS := snapshot common
test_format_diff_LDLIBS := $(snapshot_lib_LDLIBS)
UNIT_TESTS += test_mm
test_mm_LIBS := vmm common
UNIT_TESTS += test_neighbours
test_neighbours_LIBS := vmm common
UNIT_TESTS += test_file_pager
test_file_pager_LIBS := vmm snapshot common
test_file_pager_LDLIBS := $(snapshot_lib_LDLIBS)
UNIT_TESTS += test_populate
test_populate_LIBS := vmm common
UNIT_TESTS += test_elf
test_elf_LIBS := vmm common
# snapd: page-in with a real userfaultfd, and its parts without guests.
UNIT_TESTS += test_snapd_page_in test_snapd_template
test_snapd_page_in_LIBS := snapd snapshot common
test_snapd_page_in_LDLIBS := $(snapd_LDLIBS)
test_snapd_template_LIBS := snapd snapshot common
test_snapd_template_LDLIBS := $(snapd_LDLIBS)
UNIT_TESTS += test_snapd_session
test_snapd_session_LIBS := snapd snapshot common
test_snapd_session_LDLIBS := $(snapd_LDLIBS)
UNIT_TESTS += test_snapd_parts
test_snapd_parts_LIBS := snapd snapshot common
test_snapd_parts_LDLIBS := $(snapd_LDLIBS)
UNIT_TESTS += test_config
test_config_LIBS := snapd snapshot common
test_config_LDLIBS := $(snapd_LDLIBS)
UNIT_TESTS += test_sigv4 test_http test_http_auth test_http_limits test_eventstream test_function_url
test_function_url_LIBS := snapd snapshot common
test_function_url_LDLIBS := $(snapd_LDLIBS)
test_eventstream_LIBS := snapd snapshot common
test_eventstream_LDLIBS := $(snapd_LDLIBS)
test_http_LIBS := snapd snapshot common
test_http_LDLIBS := $(snapd_LDLIBS)
test_http_auth_LIBS := snapd snapshot common
test_http_auth_LDLIBS := $(snapd_LDLIBS)
test_http_limits_LIBS := snapd snapshot common
test_http_limits_LDLIBS := $(snapd_LDLIBS)
test_sigv4_LIBS := snapd snapshot common
test_sigv4_LDLIBS := $(snapd_LDLIBS)
UNIT_TESTS += test_api_operation
test_api_operation_LIBS := snapd snapshot common
test_api_operation_LDLIBS := $(snapd_LDLIBS)
UNIT_TESTS += test_api_lambda
test_api_lambda_LIBS := snapd snapshot common
test_api_lambda_LDLIBS := $(snapd_LDLIBS) -lcurl
UNIT_TESTS += test_snapd_function
test_snapd_function_LIBS := snapd snapshot common
test_snapd_function_LDLIBS := $(snapd_LDLIBS)
# Files of a guest, by its own system calls; no KVM.
UNIT_TESTS += test_vfs test_vfs_synth test_tmpfs test_pipe
test_vfs_LIBS := vmm snapshot common
test_vfs_synth_LIBS := vmm snapshot common
test_tmpfs_LIBS := vmm snapshot common
test_pipe_LIBS := vmm snapshot common
# Tasks, signals, events and sockets on a CPU that is a table of steps; no KVM.
UNIT_TESTS += test_sched test_futex test_signal test_sock test_epoll
test_sched_LIBS := vmm snapshot common
test_futex_LIBS := vmm snapshot common
test_signal_LIBS := vmm snapshot common
test_sock_LIBS := vmm snapshot common
test_epoll_LIBS := vmm snapshot common
# What snapd could say to a vmm; no KVM.
UNIT_TESTS += test_control
test_control_LIBS := vmm snapshot common
test_control_LDLIBS := $(vmm_LDLIBS)
# Asynchronous invocations: what is retried when, and the store through kill -9, damage and full disks.
UNIT_TESTS += test_event_policy test_event_store test_event_destination test_event_queue test_event_recovery
test_event_policy_LIBS := snapd snapshot common
test_event_policy_LDLIBS := $(snapd_LDLIBS)
test_event_store_LIBS := snapd snapshot common
test_event_store_LDLIBS := $(snapd_LDLIBS)
test_event_destination_LIBS := snapd snapshot common
test_event_destination_LDLIBS := $(snapd_LDLIBS)
# Without a guest, the test says how attempts end.
test_event_queue_LIBS := snapd snapshot common
test_event_queue_LDLIBS := $(snapd_LDLIBS) -Wl,--wrap=scheduler_invoke -Wl,--wrap=invocation_arg
test_event_recovery_LIBS := snapd snapshot common
test_event_recovery_LDLIBS := $(snapd_LDLIBS) -Wl,--wrap=scheduler_invoke -Wl,--wrap=invocation_arg
fuzz_code_oci_LIBS := unpacker_parts snapd snapshot common
fuzz_code_oci_LDLIBS := $(snapd_LDLIBS) $(unpacker_parts_LDLIBS)
fuzz_code_zip_LIBS := unpacker_parts snapd snapshot common
fuzz_code_zip_LDLIBS := $(snapd_LDLIBS) $(unpacker_parts_LDLIBS)
# How code gets in: hostile archives and images.
UNIT_TESTS += test_code test_code_oci test_code_layer test_code_retention
$(BUILD)/tests/test_code $(BUILD)/tests/test_code_oci $(BUILD)/tests/test_code_layer: | $(BUILD)/bin/unpacker
test_code_LIBS := snapd snapshot common
test_code_LDLIBS := $(snapd_LDLIBS) $(unpacker_parts_LDLIBS)
test_code_oci_LIBS := snapd snapshot common
test_code_oci_LDLIBS := $(snapd_LDLIBS) $(unpacker_parts_LDLIBS)
test_code_layer_LIBS := snapd snapshot common
test_code_retention_LIBS := snapd snapshot common
test_code_retention_LDLIBS := $(snapd_LDLIBS)
test_code_layer_LDLIBS := $(snapd_LDLIBS) $(unpacker_parts_LDLIBS)
# The harness: percentiles, rows, comparing, the tracer's names of pages.
UNIT_TESTS += test_bench test_bench_load
test_bench_load_LIBS := bench common
test_bench_load_LDLIBS := -ljansson -lhttp_parser -lcurl -lm
test_bench_LIBS := bench common
test_bench_LDLIBS := -ljansson -lm
# What is counted, as Prometheus reads it; readiness; the list of failures.
UNIT_TESTS += test_metrics test_api_health test_service_manager
test_metrics_LIBS := snapd snapshot common
test_metrics_LDLIBS := $(snapd_LDLIBS)
test_api_health_LIBS := snapd snapshot common
test_api_health_LDLIBS := $(snapd_LDLIBS)
test_service_manager_LIBS := snapd snapshot common
test_service_manager_LDLIBS := $(snapd_LDLIBS)
UNIT_TESTS += test_kernel_guests
test_kernel_guests_LIBS := snapd snapshot common
test_kernel_guests_LDLIBS := $(snapd_LDLIBS)
# The end of a vmm whose snapd is gone; no KVM.
UNIT_TESTS += test_lifeline
test_lifeline_LIBS := vmm common
# The scheduler's decisions on plain structs, and what it keeps to.
UNIT_TESTS += test_scheduler test_scheduler_budget
test_scheduler_LIBS := snapd snapshot common
test_scheduler_LDLIBS := $(snapd_LDLIBS)
test_scheduler_budget_LIBS := snapd snapshot common
test_scheduler_budget_LDLIBS := $(snapd_LDLIBS)
# What a snapd leaves to the next one.
UNIT_TESTS += test_handover_record test_fd_store
test_handover_record_LIBS := snapd snapshot common
test_handover_record_LDLIBS := $(snapd_LDLIBS)
test_fd_store_LIBS := snapd snapshot common
test_fd_store_LDLIBS := $(snapd_LDLIBS)
# Log lines, read back.
UNIT_TESTS += test_log
test_log_LIBS := common
test_log_LDLIBS := -ljansson
# Virtio devices, driven as a guest's drivers do it and as an enemy does; no KVM.
UNIT_TESTS += test_virtio_mmio test_virtio_blk test_virtio_overlay test_virtio_vsock test_virtio_vsock_unix
UNIT_TESTS += test_virtio_net test_virtio_balloon
test_virtio_mmio_LIBS := vmm common
test_virtio_blk_LIBS := vmm common
test_virtio_blk_LDLIBS := -luring
test_virtio_overlay_LIBS := vmm common
test_virtio_overlay_LDLIBS := -luring
test_virtio_vsock_LIBS := vmm common
test_virtio_vsock_unix_LIBS := vmm common
test_virtio_net_LIBS := vmm common
test_virtio_balloon_LIBS := vmm common
fuzz_virtio_LIBS := vmm common
fuzz_virtio_LDLIBS := -luring
# The agent of kernel guests, here in the place of a guest; no KVM.
UNIT_TESTS += test_agent_parse test_agent_service test_agent_net
test_agent_parse_LIBS := agent common
test_agent_net_LIBS := agent common
test_agent_service_LIBS := agent common
# Kernel guests: images, tables and devices without KVM.
UNIT_TESTS += test_kernel_boot test_kernel_devices test_kernel_cpu test_agent_link test_net_option
UNIT_TESTS += test_kernel_shell
test_kernel_shell_LIBS := vmm snapshot common
test_kernel_shell_LDLIBS := $(vmm_LDLIBS)
test_net_option_LIBS := vmm common
test_agent_link_LIBS := vmm common
test_agent_link_LDLIBS := -lhttp_parser -Wl,--wrap=log_write
test_kernel_boot_LIBS := vmm snapshot common
test_kernel_devices_LIBS := vmm snapshot common
test_kernel_devices_LDLIBS := -Wl,--wrap=clock_gettime
test_kernel_cpu_LIBS := vmm common
# The test is KVM.
UNIT_TESTS += test_kernel_machine
test_kernel_machine_LIBS := vmm snapshot common
test_kernel_machine_LDLIBS := $(vmm_LDLIBS) -Wl,--wrap=ioctl
# What an instance is given of the host.
# Bases of kernel guests; the test is the shells and their guests.
UNIT_TESTS += test_base
test_base_LIBS := snapd snapshot common
test_base_LDLIBS := $(snapd_LDLIBS) $(foreach f,shell_pool_take scheduler_ram_class scheduler_has_room \
	scheduler_instance_bytes budget_charge recapture_origin recapture_root_origin session_adopt session_boot_base \
	session_limit_memory session_capture session_end,-Wl,--wrap=$f)
UNIT_TESTS += test_version_open
$(BUILD)/tests/test_version_open $(BUILD)/tests/test_kernel_guests: | $(BUILD)/bin/unpacker
test_version_open_LIBS := snapd snapshot common
test_version_open_LDLIBS := $(snapd_LDLIBS) $(unpacker_parts_LDLIBS)
# Shells of many sizes; nothing is spawned.
UNIT_TESTS += test_shell_pool
test_shell_pool_LIBS := snapd snapshot common
test_shell_pool_LDLIBS := $(snapd_LDLIBS) -Wl,--wrap=sandbox_spawn_queue
# Which snapshots are made again.
UNIT_TESTS += test_recapture
test_recapture_LIBS := snapd snapshot common
test_recapture_LDLIBS := $(snapd_LDLIBS) -Wl,--wrap=session_instance
