/* SPDX-License-Identifier: Apache-2.0 */
/* version.h - which Quickthaw this is: the contents of the file VERSION */
#ifndef QUICKTHAW_COMMON_VERSION_H
#define QUICKTHAW_COMMON_VERSION_H

#include <stdbool.h>

extern const char quickthaw_version[];

/** version_asked() - is the first argument --version? It has been printed then: exit 0. */
bool version_asked(const char *program, int argc, char **argv);

#endif
