/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - snapd's command line */
#ifndef QUICKTHAW_SNAPD_OPTIONS_H
#define QUICKTHAW_SNAPD_OPTIONS_H

#include <limits.h>

struct options {
	char state[PATH_MAX];
	char socket[PATH_MAX];
	char vmm[PATH_MAX];
	char runtime_dir[PATH_MAX];
	const char *cpu_baseline; /**< what the vmm calls it */
	unsigned shells;
	unsigned keep_warm_s;
	unsigned init_timeout_s;
};

/** options_parse() - exits 0 after --help and 2 after a mistake, with a message. */
void options_parse(struct options *o, int argc, char **argv);

#endif
