# common: what every program is built from
common_SRCS := common/log.c common/io.c
