# common: what every program is built from
# Users of the sandbox_* files link libseccomp and libcap-ng: $(sandbox_LDLIBS).
common_SRCS := common/log.c common/io.c common/cpu_feature.c common/host_cpuid.c common/version.c \
	common/sandbox_spawn.c common/sandbox_child.c common/sandbox_root.c common/sandbox_cgroup.c \
	common/sandbox_rules.c common/sandbox_rules_kernel.c common/sandbox_seccomp.c common/sandbox_filter.c common/sandbox_confine.c
sandbox_LDLIBS := -lseccomp -lcap-ng

# Names of system calls, for the line that says which one a filter refused.
$(BUILD)/common/syscall_names.inc: common/sources.mk
	$(call say,GEN,$@)
	$(Q)mkdir -p $(@D)
	$(Q)echo '#include <asm/unistd_64.h>' | $(CC) -E -dM - | \
		sed -n 's/^#define __NR_\([a-z0-9_]*\) \([0-9]*\)$$/[\2] = "\1",/p' | sort -t[ -k2n > $@
$(BUILD)/obj/common/sandbox_filter.o: $(BUILD)/common/syscall_names.inc
$(BUILD)/common/version.inc: VERSION
	$(call say,GEN,$@)
	$(Q)mkdir -p $(@D)
	$(Q)sed 's/.*/"&"/' $< >$@
$(BUILD)/obj/common/version.o: $(BUILD)/common/version.inc
# It runs beside its parent in the same memory, thread pointer included: no sanitizer survives that.
$(BUILD)/obj/common/sandbox_child.o: SANFLAGS :=
# The client of snapd's API; its users link libcurl.
common_SRCS += common/http_client.c
