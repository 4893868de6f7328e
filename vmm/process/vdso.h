/* SPDX-License-Identifier: Apache-2.0 */
/* vdso.h - the vDSO's ELF image, as it is put into guests */
#ifndef QUICKTHAW_PROCESS_VDSO_H
#define QUICKTHAW_PROCESS_VDSO_H

#include <stddef.h>
#include <stdint.h>

extern const uint8_t vdso_image[];
extern const size_t vdso_image_bytes;

#endif
