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
jail_probe_SRCS := tests/unit/jail_probe.c common/log.c common/io.c common/sandbox_rules.c \
	common/sandbox_seccomp.c common/sandbox_filter.c
$(BUILD)/tests/jail_probe: $(jail_probe_SRCS) common/sandbox.h common/sandbox_internal.h \
		$(BUILD)/common/syscall_names.inc
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -std=gnu11 -O2 -g -fPIE -static-pie $(WARN) $(WERROR) $(jail_probe_SRCS) -lseccomp -o $@
$(BUILD)/tests/test_sandbox $(BUILD)/tests/test_sandbox_policy: | $(BUILD)/tests/jail_probe
# The machine on real KVM.
UNIT_TESTS += test_vm test_vm_state
test_vm_LIBS := vmm common
test_vm_state_LIBS := vmm common
UNIT_TESTS += test_clock
test_clock_LIBS := vmm common
