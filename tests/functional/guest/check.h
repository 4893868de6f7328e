/* SPDX-License-Identifier: Apache-2.0 */
/* check.h - guest programs end at the first thing that is not as it should be */
#ifndef QUICKTHAW_TESTS_CHECK_H
#define QUICKTHAW_TESTS_CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(c)                                                                                   \
	do {                                                                                       \
		if (!(c)) {                                                                        \
			printf("line %d: %s (errno %d)\n", __LINE__, #c, errno);                   \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#endif
