# guest: sources
# The agent of kernel guests: static, for in an initramfs there is nothing but itself.
agent_SRCS := guest/agent/agent.c guest/agent/bridge.c guest/agent/command.c guest/agent/console.c guest/agent/control.c \
	guest/agent/endpoint.c guest/agent/modules.c guest/agent/mounts.c guest/agent/net.c guest/agent/options.c guest/agent/prepare.c \
	guest/agent/resume.c guest/agent/runtime.c
agent_MAIN := guest/agent/main.c
agent_LIBS := agent common
agent_LDFLAGS := -static
# The vDSO: a shared object for guests, embedded in the vmm as bytes.
VDSO_CFLAGS := -std=gnu11 -O2 -fPIC -ffreestanding -fno-stack-protector -fcf-protection=none -fno-jump-tables \
	-mno-sse -mno-mmx -mno-80387 -fvisibility=default $(WARN) $(WERROR)
$(BUILD)/guest/vdso.so: guest/vdso/vdso.c guest/vdso/vvar.h guest/vdso/vdso.lds guest/vdso/vdso.map
	$(call say,VDSO,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE -I. $(VDSO_CFLAGS) -nostdlib -shared -s -Wl,-T,guest/vdso/vdso.lds -Wl,--version-script=guest/vdso/vdso.map \
		-Wl,-soname=linux-vdso.so.1 -Wl,--hash-style=both -Wl,-Bsymbolic -Wl,--no-undefined -Wl,--build-id=none -Wl,--eh-frame-hdr \
		-Wl,-z,noexecstack -Wl,-z,max-page-size=4096 guest/vdso/vdso.c -o $@
$(BUILD)/guest/vdso.inc: $(BUILD)/guest/vdso.so
	$(call say,GEN,$@)
	$(Q)od -An -v -tx1 $< | sed 's/[0-9a-f][0-9a-f]/0x&,/g' >$@
$(BUILD)/obj/vmm/process/vdso_image.o: $(BUILD)/guest/vdso.inc
# Loaded by bootstrap.js into whatever Node.js and C library a root image has.
$(BUILD)/guest/reseed.node: guest/reseed.c
	$(call say,ADDON,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -O2 -fPIC -ffreestanding -fno-stack-protector $(WARN) $(WERROR) -nostdlib -shared -s -Wl,-z,now \
		-Wl,-z,noexecstack -Wl,--build-id=none $< -o $@
