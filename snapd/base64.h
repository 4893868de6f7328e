/* SPDX-License-Identifier: Apache-2.0 */
/* base64.h - decode base64 (RFC 4648, section 4) */
#ifndef QUICKTHAW_SNAPD_BASE64_H
#define QUICKTHAW_SNAPD_BASE64_H

#include <stddef.h>

/**
 * base64_decode() - strict: no white space, correct padding.
 * @ret: malloc'ed, NUL-terminated, the caller's
 * Return: 0, -EINVAL or -ENOMEM.
 */
int base64_decode(const char *text, char **ret, size_t *ret_n);

#endif
