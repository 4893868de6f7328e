# snapshot-format: the file format, its library and its tool
snapshot_SRCS := snapshot-format/format.c snapshot-format/page_index.c \
	snapshot-format/working_set.c snapshot-format/writer.c snapshot-format/install.c \
	snapshot-format/reader.c snapshot-format/base.c snapshot-format/chunk.c \
	snapshot-format/page_source.c snapshot-format/rewrite.c
# For users of the library; the tool needs jansson as well.
snapshot_lib_LDLIBS := $(shell $(PKG_CONFIG) --libs liblz4 libxxhash 2>/dev/null || echo -llz4 -lxxhash)
snapshot_MAIN := snapshot-format/tool.c snapshot-format/tool_info.c snapshot-format/tool_pages.c \
	snapshot-format/tool_flatten.c
snapshot_LIBS := snapshot common
snapshot_LDLIBS := $(snapshot_lib_LDLIBS) $(shell $(PKG_CONFIG) --libs jansson 2>/dev/null || echo -ljansson)
fuzz_snapshot_LIBS := snapshot common
fuzz_snapshot_LDLIBS := $(snapshot_lib_LDLIBS)
