# SPDX-License-Identifier: Apache-2.0
# Quickthaw: `make demo` and `make test` do everything; `make help` lists the rest.
MAKEFLAGS += --no-builtin-rules
BUILD ?= build
CC := gcc
CLANG ?= clang
PKG_CONFIG ?= pkg-config
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
LDFLAGS += -pie -Wl,-z,relro,-z,now -pthread $(SANFLAGS)

.DEFAULT_GOAL := all
all: ## build every program into build/bin

# Each folder lists its own sources.
include common/sources.mk
include snapshot-format/sources.mk
include guest/sources.mk
include vmm/sources.mk
include snapd/sources.mk
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
# $(call program,PATH,SOURCES,ARCHIVES,LIBS)
define program
$(BUILD)/$(1): $$(call objs,$(2)) $(3:%=$(BUILD)/lib/lib%.a)
	$$(call say,LD,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(CC) $$(LDFLAGS) $$(filter %.o,$$^) -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $(4) -o $$@
endef

LIBRARIES := common snapshot vmm snapd bench
$(foreach l,$(LIBRARIES),$(if $($(l)_SRCS),$(eval $(call library,$(l)))))
# PROGRAMS: names; NAME_MAIN sources, NAME_LIBS archives, NAME_LDLIBS system libraries
PROGRAMS := vmm snapd snapctl snapshot bench
PROGRAMS_READY := $(foreach p,$(PROGRAMS),$(if $($(p)_MAIN),$(p)))
$(foreach p,$(PROGRAMS_READY),$(eval $(call program,bin/$(p),$($(p)_MAIN),$($(p)_LIBS),$($(p)_LDLIBS))))
# UNIT_TESTS: names of tests/unit/NAME.c; NAME_LIBS archives, NAME_LDLIBS system libraries
$(foreach t,$(UNIT_TESTS),$(eval $(call program,tests/$(t),tests/unit/$(t).c,$($(t)_LIBS),$($(t)_LDLIBS) -lcmocka)))

all: $(PROGRAMS_READY:%=$(BUILD)/bin/%)
unit-tests: $(UNIT_TESTS:%=$(BUILD)/tests/%)

clean: ## remove build/
	rm -rf build

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | awk -F'\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
.PHONY: all clean help unit-tests
.DELETE_ON_ERROR:
