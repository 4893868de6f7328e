/* SPDX-License-Identifier: Apache-2.0 */
/* skip.h - what a test program says that cannot run here at all */
#ifndef QUICKTHAW_SKIP_H
#define QUICKTHAW_SKIP_H

#include <stdio.h>

/* Making jails needs root: the TAP of a test program that was skipped whole. */
static inline int skip_without_root(const char *program)
{
	printf("1..1\nok 1 - %s # SKIP making jails needs root\n", program);
	return 0;
}

#endif
