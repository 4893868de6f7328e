# snapd: sources
# snapctl: one file per subcommand
snapctl_MAIN := snapd/snapctl/main.c snapd/snapctl/deploy.c snapd/snapctl/publish.c \
	snapd/snapctl/invoke.c snapd/snapctl/list.c snapd/snapctl/logs.c snapd/snapctl/rm.c
snapctl_LIBS := common
snapctl_LDLIBS := -lcurl -ljansson
