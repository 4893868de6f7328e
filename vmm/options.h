/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - the vmm's command line */
#ifndef QUICKTHAW_VMM_OPTIONS_H
#define QUICKTHAW_VMM_OPTIONS_H

#include <stdint.h>
#include <stdio.h>

#include "include/guest_abi.h"
#include "vmm/console.h"
#include "vmm/kernel/command.h"

enum { OPTIONS_ENV_MAX = 256 };

/** struct options - the command line, parsed. */
struct options {
	struct console_options console;
	struct kernel_options kernel;
	const char *id;
	enum guest_kind kind; /**< of a shell */
	uint64_t ram_mib;
	const char *baseline;
	char *env[OPTIONS_ENV_MAX + 1];
	int env_count;
};

/**
 * options_parse() - read the options of a command; ends the process where they are wrong.
 * @argv: from the command on; getopt's optind is relative to it afterwards
 */
void options_parse(struct options *o, int argc, char **argv);
/** options_add_env() - one more variable for the guest; @text is kept. */
void options_add_env(struct options *o, char *text);
void options_usage(FILE *out);

#endif
