/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_rule.h - how a line of an allow-list is written; sandbox_rules.c explains it */
#ifndef QUICKTHAW_COMMON_SANDBOX_RULE_H
#define QUICKTHAW_COMMON_SANDBOX_RULE_H

#include "common/sandbox_internal.h"

#define SYS(name) .nr = SYS_##name
#define ARG32(n, bits, want)                                                                       \
	{                                                                                          \
		(n), (uint32_t)(bits), (uint32_t)(want)                                            \
	}
#define ARG(n, value)	   ARG32(n, ~0u, value)
#define ARG_CLEAR(n, bits) ARG32(n, bits, 0)
#define ARG_ONLY(n, bits)  ARG32(n, ~(uint32_t)(bits), 0)
#define WHY(text)	   .reason = text

#define IOCTL(request, text)                                                                       \
	{                                                                                          \
		SYS(ioctl), .args = {ARG(2, request)}, WHY(text)                                   \
	}

#endif
