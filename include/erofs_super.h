/* SPDX-License-Identifier: Apache-2.0 */
/*
 * erofs_super.h - the start of an EROFS disk
 *
 * Who makes one writes it (snapd/unpacker/erofs.c), and who opens one looks whether it is whole
 * (snapd/erofs_image.c). Little-endian; Linux, fs/erofs/erofs_fs.h.
 */
#ifndef QUICKTHAW_EROFS_SUPER_H
#define QUICKTHAW_EROFS_SUPER_H

#include <assert.h>
#include <stdint.h>

#define EROFS_MAGIC 0xe0f5e1e2u
/* 250 MiB of code in 100,000 files, each with half a block for nothing, and their inodes. */
#define EROFS_IMAGE_BYTES_MAX (750ull << 20)

enum {
	EROFS_SUPER_AT = 1024,
	EROFS_BLOCK_SHIFT = 12,
	EROFS_BLOCK_BYTES = 1 << EROFS_BLOCK_SHIFT,
	EROFS_NAME_MAX = 255,
};

struct erofs_super {
	uint32_t magic;
	uint32_t checksum, compatible;
	uint8_t block_shift, extra_slots;
	uint16_t root_nid;
	uint64_t inodes;
	uint64_t build_time_s;
	uint32_t build_time_ns;
	uint32_t blocks;
	uint32_t inodes_block, xattr_block;
	uint8_t uuid[16], volume[16];
	uint32_t incompatible;
	uint8_t reserved[44];
};
static_assert(sizeof(struct erofs_super) == 128, "on disk");

#endif
