/* SPDX-License-Identifier: Apache-2.0 */
/* vdso_image.c - the bytes of guest/vdso */
#include "vmm/process/vdso.h"

const uint8_t vdso_image[] = {
#include "guest/vdso.inc"
};
const size_t vdso_image_bytes = sizeof(vdso_image);
