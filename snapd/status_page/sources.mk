# What operators have: the status page, three files made into one C array, and systemd.
snapd_SRCS += snapd/api_status_page.c snapd/service_manager.c
status_page := $(addprefix snapd/status_page/,index.html page.css page.js)
$(BUILD)/snapd/status_page.inc: scripts/embed-page $(status_page)
	$(call say,GEN,$@)
	$(Q)mkdir -p $(@D)
	$(Q)scripts/embed-page $(status_page) >$@
$(BUILD)/obj/snapd/api_status_page.o: $(BUILD)/snapd/status_page.inc
