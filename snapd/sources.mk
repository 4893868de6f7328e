# snapd: sources
snapd_SRCS := snapd/api.c snapd/api_function.c snapd/api_invoke.c snapd/api_stats.c snapd/base64.c \
	snapd/event_loop.c snapd/fd_store.c snapd/function.c snapd/function_store.c snapd/host.c snapd/handover_record.c snapd/http_api.c \
	snapd/log_ring.c snapd/options.c snapd/outcome.c snapd/page_in.c \
	snapd/page_read.c snapd/populate.c snapd/prefetch.c \
	snapd/publish.c snapd/record.c snapd/runtime.c snapd/scheduler.c snapd/session.c \
	snapd/session_message.c snapd/shell_pool.c snapd/template.c snapd/tree.c snapd/version_open.c snapd/worker.c
# What operators look at.
snapd_SRCS += snapd/api_metrics.c snapd/failure_log.c snapd/metrics.c snapd/readiness.c
# What the Lambda API keeps of a function, and its operations.
snapd_SRCS += snapd/api_alias.c snapd/api_change.c snapd/api_concurrency.c \
	snapd/api_event_invoke.c snapd/api_function_read.c snapd/api_operation.c \
	snapd/api_page.c snapd/api_tag.c snapd/api_url.c snapd/api_version.c
snapd_SRCS += snapd/alias.c snapd/event_invoke_config.c snapd/field.c snapd/function_control.c \
	snapd/function_name.c snapd/function_settings.c snapd/provisioned_config.c \
	snapd/qualified.c snapd/url_config.c snapd/uuid.c
snapd_MAIN := snapd/main.c
snapd_LIBS := snapd snapshot common
snapd_LDLIBS := -lmicrohttpd -lnettle -luring -ljansson -lsqlite3 $(snapshot_lib_LDLIBS) $(sandbox_LDLIBS)
# How code gets in.
snapd_SRCS += snapd/api_code.c snapd/api_layer.c snapd/layer.c snapd/layer_store.c snapd/origin.c snapd/recapture.c snapd/retention.c snapd/code.c snapd/code_unpacker.c
# The front door: who may speak over TCP.
snapd_SRCS += snapd/access_keys.c snapd/front.c snapd/http_auth.c snapd/http_limits.c snapd/http_listener.c snapd/sigv4.c
# Responses that are streamed.
snapd_SRCS += snapd/api_invoke_stream.c snapd/eventstream.c snapd/http_stream.c
# Functions as HTTP endpoints.
snapd_SRCS += snapd/function_url.c snapd/url_event.c
snapd_LDLIBS += -lz
# The queue of asynchronous invocations.
snapd_SRCS += snapd/api_event.c snapd/event_attempt.c snapd/event_destination.c snapd/event_flight.c snapd/event_heap.c \
	snapd/event_policy.c snapd/event_queue.c snapd/event_store.c snapd/event_writer.c

# unpacker: archives, in a jail
unpacker_parts_SRCS := snapd/unpacker/erofs.c snapd/unpacker/oci.c snapd/unpacker/unpack.c snapd/unpacker/zip.c
unpacker_parts_LDLIBS := -lzip -larchive -ljansson -lnettle
unpacker_MAIN := snapd/unpacker/main.c
unpacker_LIBS := unpacker_parts snapd common
unpacker_LDLIBS := $(unpacker_parts_LDLIBS) $(sandbox_LDLIBS)

# snapctl: one file per subcommand
snapctl_MAIN := snapd/snapctl/main.c snapd/snapctl/deploy.c snapd/snapctl/publish.c \
	snapd/snapctl/invoke.c snapd/snapctl/list.c snapd/snapctl/logs.c snapd/snapctl/rm.c snapd/snapctl/events.c \
	snapd/snapctl/warm.c
snapctl_LIBS := common
snapctl_LDLIBS := -lcurl -ljansson -lnettle
# Who is served when, and what of this host that may take.
snapd_SRCS += snapd/admission.c snapd/arrivals.c snapd/budget.c snapd/host_memory.c snapd/invocation.c \
	snapd/api_capacity.c snapd/capacity.c snapd/keep.c snapd/pace.c snapd/prewarm.c \
	snapd/provision.c snapd/relief.c snapd/report.c snapd/waiting.c
# From one snapd to the next.
snapd_SRCS += snapd/handover.c snapd/inherit.c snapd/takeover.c
# Whole Linux kernels as guests.
snapd_SRCS += snapd/base.c snapd/base_store.c snapd/erofs_image.c snapd/kernel_guests.c
