# SPDX-License-Identifier: Apache-2.0
# Quickthaw: `make demo` and `make test` do everything; `make help` lists the rest.
MAKEFLAGS += --no-builtin-rules
BUILD ?= build
CC := gcc
CLANG ?= clang
PKG_CONFIG ?= pkg-config
PREFIX ?= /usr/local
DESTDIR ?=
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(2)')

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual -Wwrite-strings
WERROR ?= $(if $(CI),-Werror)
OPT ?= -O2
SAN ?=
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
FORTIFY := $(if $(SAN),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
CPPFLAGS += -D_GNU_SOURCE -I. -I$(BUILD) $(FORTIFY)
CFLAGS += -std=gnu11 $(OPT) -g -fPIE -fstack-protector-strong -pthread $(WARN) $(WERROR) $(SANFLAGS)
LDFLAGS += -Wl,-z,relro,-z,now -pthread $(SANFLAGS)

.DEFAULT_GOAL := all
all: ## build every program into build/bin

# Each folder lists its own sources.
include common/sources.mk
include snapshot-format/sources.mk
include guest/sources.mk
include vmm/sources.mk
include snapd/sources.mk
include snapd/status_page/sources.mk
include bench/sources.mk
include tests/sources.mk

objs = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

$(BUILD)/obj/%.o: %.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

# $(call library,NAME): build/lib/libNAME.a from NAME_SRCS
define library
$(BUILD)/lib/lib$(1).a: $$(call objs,$$($(1)_SRCS))
	$$(call say,AR,$$@)
	$$(Q)mkdir -p $$(@D) && rm -f $$@ && ar rcs $$@ $$^
endef
# $(call program,PATH,SOURCES,ARCHIVES,LIBS,LINK): LINK is -pie, or -static-pie for a program that is
# to need nothing from the file system it is jailed in (sanitizers know no static programs)
define program
$(BUILD)/$(1): $$(call objs,$(2)) $(3:%=$(BUILD)/lib/lib%.a)
	$$(call say,LD,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(CC) $(if $(SAN),-pie,$(or $(5),-pie)) $$(LDFLAGS) $$(filter %.o,$$^) -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $(4) -o $$@
endef

LIBRARIES := common snapshot agent vmm snapd unpacker_parts bench
$(foreach l,$(LIBRARIES),$(if $($(l)_SRCS),$(eval $(call library,$(l)))))
# PROGRAMS: names; NAME_MAIN sources, NAME_LIBS archives, NAME_LDLIBS system libraries, NAME_LDFLAGS how to link
PROGRAMS := vmm agent snapd unpacker snapctl snapshot bench
PROGRAMS_READY := $(foreach p,$(PROGRAMS),$(if $($(p)_MAIN),$(p)))
$(foreach p,$(PROGRAMS_READY),$(eval $(call program,bin/$(p),$($(p)_MAIN),$($(p)_LIBS),$($(p)_LDLIBS),$($(p)_LDFLAGS))))
# UNIT_TESTS: names of tests/unit/NAME.c; NAME_LIBS archives, NAME_LDLIBS system libraries
$(foreach t,$(UNIT_TESTS),$(eval $(call program,tests/$(t),tests/unit/$(t).c,$($(t)_LIBS),$($(t)_LDLIBS) -lcmocka)))
# FUZZERS: tests/fuzz/fuzz_NAME.c; fuzz_NAME_LIBS and fuzz_NAME_LDLIBS as above. Built by `make fuzz` with clang.
FUZZERS := $(notdir $(basename $(wildcard tests/fuzz/fuzz_*.c)))
$(foreach f,$(FUZZERS),$(eval $(call program,fuzz/$(f),tests/fuzz/$(f).c,$($(f)_LIBS),$($(f)_LDLIBS) -fsanitize=fuzzer)))

# Only `make HOST=emulated` counts: some shells have the machine's name in the environment's HOST.
ifneq ($(origin HOST),command line)
HOST :=
endif
# What the targets below build is built in parallel, whether or not -j was given.
SUBMAKE = +$(Q)$(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

all: $(PROGRAMS_READY:%=$(BUILD)/bin/%) $(BUILD)/guest/reseed.node $(BUILD)/compile_commands.json
	@:
unit-tests: $(UNIT_TESTS:%=$(BUILD)/tests/%)
	@:
print-unit-tests:
	@echo $(UNIT_TESTS)
print-kvm-tests:
	@echo $(KVM_TESTS)
fuzzers: $(FUZZERS:%=$(BUILD)/fuzz/%)
	@:

# ---- what people call; on a fresh machine there may be no compiler yet, hence the setup first

setup: ## install the Debian packages that are missing
	scripts/setup

demo: ## deploy, publish and invoke examples/hello-python, with a table of times (HOST=emulated: on emulated hardware KVM)
	$(Q)scripts/setup build
	$(SUBMAKE) all
	$(Q)HOST=$(HOST) scripts/with-kvm -- scripts/demo

test: ## build, run unit tests (also under ASan and UBSan) and functional tests
	$(Q)scripts/setup build test service
	$(SUBMAKE) all unit-tests
	$(SUBMAKE) asan-unit-tests
	$(Q)HOST=$(HOST) UNIT_TESTS="$(UNIT_TESTS)" KVM_TESTS="$(KVM_TESTS)" tests/run $(SUITES)

test-hwkvm: ## run the functional tests on the emulated hardware-KVM host
	$(Q)scripts/setup build test service hwkvm
	$(SUBMAKE) all
	$(Q)tests/run hwkvm

check: lint test ## lint and test

bench: ## measure every stage into build/bench/results.json and a picture, results.png (BENCH_ARGS=...; emulated: build/hwkvm/out)
	$(Q)scripts/setup build bench
	$(SUBMAKE) all
	$(Q)HOST=$(HOST) scripts/with-kvm --timeout 3600 -- sh -c \
		'exec $(BUILD)/bin/bench run $${HWKVM_OUT:+--out $$HWKVM_OUT/results.json} $(BENCH_ARGS)'

bench-service: ## load the service: throughput, bursts, churn, overload, into build/bench/service.json (BENCH_ARGS=...)
	$(Q)scripts/setup build bench
	$(SUBMAKE) all
	$(Q)HOST=$(HOST) scripts/with-kvm --memory 4096 --timeout 3600 -- sh -c \
		'exec $(BUILD)/bin/bench service $${HWKVM_OUT:+--out $$HWKVM_OUT/service.json} $(BENCH_ARGS)'

guest-images: ## kernel, initramfs and root file systems of kernel guests, into build/kernel
	$(Q)scripts/setup build kernel
	$(SUBMAKE) all
	$(Q)BUILD=$(BUILD) scripts/build-initramfs
	$(SUBMAKE) build/kernel/python.erofs build/kernel/nodejs.erofs build/kernel/hello-python.erofs

# What a root image has in /var/runtime.
RUNTIME_FILES := $(wildcard guest/*.py guest/*.js) $(BUILD)/guest/reseed.node

# Made once: with newer packages, after `rm build/kernel/*.erofs`.
build/kernel/%.erofs: guest/rootfs/%.list $(RUNTIME_FILES)
	$(Q)scripts/build-rootfs --packages $< $(foreach f,$(RUNTIME_FILES),--add $(f):/var/runtime/$(notdir $(f))) $@

build/kernel/hello-python.erofs: $(wildcard examples/hello-python/*)
	$(Q)scripts/build-rootfs --dir examples/hello-python $@

bench-kernel: guest-images ## kernel guests beside other systems' on hardware KVM, into build/bench/kernel.json (BENCH_ARGS=...)
	$(Q)HOST=$(HOST) scripts/with-kvm --cpus 1 --memory 6144 --timeout 3600 -- sh -c \
		'exec $(BUILD)/bin/bench kernel $${HWKVM_OUT:+--out $$HWKVM_OUT/kernel.json} $(BENCH_ARGS)'

soak: ## 10,000 invocations over 50 functions while instances come, go and are killed: none lost, none twice, none left
	$(Q)scripts/setup build test
	$(SUBMAKE) all
	$(Q)HOST=$(HOST) scripts/with-kvm --memory 4096 --timeout 36000 -- env SOAK_INVOCATIONS=10000 \
		SOAK_FUNCTIONS=50 SOAK_KILLS=200 bats --tap tests/functional/soak.bats

asan: ## build everything with ASan and UBSan into build/asan
	$(SUBMAKE) BUILD=$(BUILD)/asan SAN=address,undefined all unit-tests

asan-unit-tests:
	$(SUBMAKE) BUILD=$(BUILD)/asan SAN=address,undefined unit-tests

tsan: ## build everything with TSan into build/tsan
	$(SUBMAKE) BUILD=$(BUILD)/tsan SAN=thread all unit-tests

FUZZ_SECONDS ?= 30
fuzz: ## run each fuzz target for FUZZ_SECONDS (30)
	$(Q)scripts/setup build
	$(SUBMAKE) BUILD=$(BUILD)/clang CC=$(CLANG) SAN=fuzzer-no-link,address,undefined fuzzers
	$(Q)scripts/fuzz $(FUZZ_SECONDS) $(FUZZERS:%=$(BUILD)/clang/fuzz/%)

# ---- the state of the source

SOURCES := $(sort $(foreach l,$(LIBRARIES),$($(l)_SRCS)) $(foreach p,$(PROGRAMS_READY),$($(p)_MAIN)))
TEST_SOURCES := $(UNIT_TESTS:%=tests/unit/%.c) $(FUZZERS:%=tests/fuzz/%.c)
C_FILES = $(shell find common snapshot-format vmm snapd guest include bench tests examples -name '*.[ch]' | sort)
SHELL_FILES = $(shell grep -lrE '^\#!.*(bash|/sh)' scripts tests .ci bench examples --include='*' | sort) $(wildcard tests/functional/*.bats tests/functional/*.bash) packaging/completion/quickthaw
comma := ,
define command_json
{ "directory": "$(CURDIR)", "file": "$(1)", "command": "$(CC) $(CPPFLAGS) $(CFLAGS) -c $(1)" }
endef

compile_commands.json: $(BUILD)/compile_commands.json ## how each file is compiled, for editors and linters (in build/)

$(BUILD)/compile_commands.json: $(MAKEFILE_LIST)
	$(shell mkdir -p $(@D))$(file >$@,[)
	$(foreach s,$(SOURCES) $(TEST_SOURCES),$(file >>$@,$(call command_json,$(s))$(if $(filter $(s),$(lastword $(SOURCES) $(TEST_SOURCES))),,$(comma))))
	$(file >>$@,])

lint: all ## clang-tidy, cppcheck, shellcheck and the format
	$(Q)scripts/lint $(BUILD) "$(SOURCES)" "$(SHELL_FILES)"
	$(SUBMAKE) format-check

format: ## format every C file in place
	clang-format -i $(C_FILES)

format-check: ## does `make format` have anything to do
	$(Q)status=0; for f in $(C_FILES); do \
		clang-format $$f | cmp -s - $$f || { echo "$$f: not as clang-format has it (make format)"; status=1; }; \
	done; exit $$status

# ---- installation

UNITDIR ?= $(PREFIX)/lib/systemd/system
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
DOCDIR ?= $(PREFIX)/share/doc/quickthaw

install: all ## install into DESTDIR and PREFIX (/usr/local)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/quickthaw $(DESTDIR)$(PREFIX)/share/quickthaw
	install -m 755 $(patsubst %,$(BUILD)/bin/%,$(filter-out vmm agent unpacker,$(PROGRAMS_READY))) $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(BUILD)/bin/vmm $(BUILD)/bin/agent $(BUILD)/bin/unpacker $(DESTDIR)$(PREFIX)/libexec/quickthaw
	install -m 644 $(filter-out %.node,$(RUNTIME_FILES)) $(DESTDIR)$(PREFIX)/share/quickthaw
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(COMPLETIONDIR) $(DESTDIR)$(DOCDIR)/examples
	install -m 644 packaging/systemd/quickthaw.socket $(DESTDIR)$(UNITDIR)
	sed 's|@bindir@|$(PREFIX)/bin|' packaging/systemd/quickthaw.service.in >$(DESTDIR)$(UNITDIR)/quickthaw.service
	chmod 644 $(DESTDIR)$(UNITDIR)/quickthaw.service
	install -m 644 packaging/completion/quickthaw $(DESTDIR)$(COMPLETIONDIR)/quickthaw
	for program in $(filter-out agent unpacker,$(PROGRAMS_READY)); do ln -sf quickthaw $(DESTDIR)$(COMPLETIONDIR)/$$program || exit; done
	install -m 644 README.md $(wildcard docs/*.md) $(DESTDIR)$(DOCDIR)
	install -m 644 $(wildcard examples/*.*) $(DESTDIR)$(DOCDIR)/examples
	cp -r $(patsubst %/,%,$(wildcard examples/*/)) $(DESTDIR)$(DOCDIR)/examples
	for page in $(wildcard docs/man/*.[1-8]); do install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/} || exit; done

deb: all ## a Debian package, build/quickthaw_VERSION_amd64.deb
	$(Q)scripts/setup build service
	$(Q)BUILD=$(BUILD) scripts/deb

clean: ## remove what was built (the kernels of the emulated host and of kernel guests stay)
	$(Q)[ ! -d $(BUILD) ] || find $(BUILD) -mindepth 1 -maxdepth 1 ! -name hwkvm ! -name kernel -exec rm -rf {} +

distclean: ## remove build/
	rm -rf $(BUILD)

help: ## this list
	@grep -hE '^[a-z_.-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | awk -F'\t' '{ printf "  make %-22s %s\n", $$1, $$2 }'

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
.PHONY: soak all asan asan-unit-tests bench bench-kernel bench-service check clean compile_commands.json deb demo distclean format \
	format-check fuzz fuzzers guest-images help install lint print-kvm-tests print-unit-tests setup test test-hwkvm tsan unit-tests
.DELETE_ON_ERROR:
