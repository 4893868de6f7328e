/* SPDX-License-Identifier: Apache-2.0 */
/* exec_stack.h - the stack that a program starts with: arguments, environment, auxiliary vector */
#ifndef QUICKTHAW_PROCESS_EXEC_STACK_H
#define QUICKTHAW_PROCESS_EXEC_STACK_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/process/mm.h"

/**
 * struct exec_stack - input, then result.
 * @argv, @argc, @envp, @name: what to put there; @envp ends with NULL; @name becomes AT_EXECFN
 * @auxv, @auxv_words: pairs added so far; complete after exec_stack_build()
 * @image, @bytes: contents of [@sp, top); heap, the caller frees it
 * @arg_start, @env_start, @env_end: where the strings are
 */
struct exec_stack {
	char *const *argv;
	size_t argc;
	char *const *envp;
	const char *name;
	uint64_t auxv[MM_AUXV_MAX];
	uint32_t auxv_words;
	uint8_t *image;
	size_t bytes;
	uint64_t sp, arg_start, env_start, env_end;
};

/** exec_stack_aux() - add one pair. */
void exec_stack_aux(struct exec_stack *s, uint64_t type, uint64_t value);
/** exec_stack_ids() - add the pairs that are the same for every program. */
void exec_stack_ids(struct exec_stack *s);
/**
 * exec_stack_build() - lay everything out below @top; adds AT_RANDOM, AT_EXECFN, AT_PLATFORM and
 * AT_NULL. Source: System V ABI x86-64, figure 3.9.
 * @max_bytes: -E2BIG for more
 */
int exec_stack_build(struct exec_stack *s, uint64_t top, size_t max_bytes);

#endif
