/* SPDX-License-Identifier: Apache-2.0 */
/* version.c - which Quickthaw this is: the contents of the file VERSION */
#include "common/version.h"

#include <stdio.h>
#include <string.h>

const char quickthaw_version[] =
#include "common/version.inc"
	;

bool version_asked(const char *program, int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[1], "--version") != 0)
		return false;
	printf("%s (Quickthaw) %s\n", program, quickthaw_version);
	return true;
}
