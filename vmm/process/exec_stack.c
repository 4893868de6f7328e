/* SPDX-License-Identifier: Apache-2.0 */
/* exec_stack.c - the stack that a program starts with: arguments, environment, auxiliary vector */
#include "vmm/process/exec_stack.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/util.h"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

enum {
	STRING_BYTES_MAX = 131072, /* Linux: MAX_ARG_STRLEN */
	RANDOM_BYTES = 16,
	TOP_ZEROS = 8, /* Linux keeps one zero word at the very top */
	/* Largest signal frame: extended state with AVX-512, registers, siginfo, red zone. */
	MIN_SIGNAL_STACK = 3632,
	HWCAP2_FSGSBASE = 1 << 1
};

static const char platform[] = "x86_64";

void exec_stack_aux(struct exec_stack *s, uint64_t type, uint64_t value)
{
	if (s->auxv_words + 2 > ARRAY_SIZE(s->auxv))
		return;
	s->auxv[s->auxv_words++] = type;
	s->auxv[s->auxv_words++] = value;
}

void exec_stack_ids(struct exec_stack *s)
{
	exec_stack_aux(s, AT_UID, 0);
	exec_stack_aux(s, AT_EUID, 0);
	exec_stack_aux(s, AT_GID, 0);
	exec_stack_aux(s, AT_EGID, 0);
	exec_stack_aux(s, AT_SECURE, 0);
	exec_stack_aux(s, AT_HWCAP2, HWCAP2_FSGSBASE);
	exec_stack_aux(s, AT_MINSIGSTKSZ, MIN_SIGNAL_STACK);
}

/** Add up strings with their NULs. Return: -E2BIG if there is too much. */
static int count_strings(char *const *v, size_t n, size_t max_bytes, size_t *bytes)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(v[i]) + 1;

		if (len > STRING_BYTES_MAX || len > max_bytes - *bytes)
			return -E2BIG;
		*bytes += len;
	}
	return 0;
}

/** struct cursor - writes upwards through the image. */
struct cursor {
	struct exec_stack *s;
	uint64_t at;
};

static uint64_t put(struct cursor *c, const void *data, size_t n)
{
	uint64_t at = c->at;

	memcpy(c->s->image + (at - c->s->sp), data, n);
	c->at += n;
	return at;
}

static void put_word(struct cursor *c, uint64_t word)
{
	put(c, &word, sizeof(word));
}

/** Strings at @strings, pointers to them and a NULL at @words. */
static void put_strings(struct cursor *words, struct cursor *strings, char *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		put_word(words, put(strings, v[i], strlen(v[i]) + 1));
	put_word(words, 0);
}

int exec_stack_build(struct exec_stack *s, uint64_t top, size_t max_bytes)
{
	size_t fixed = sizeof(platform) + RANDOM_BYTES + strlen(s->name) + 1;
	size_t envc = 0, strings = 0, words;
	uint8_t random[RANDOM_BYTES];
	struct cursor w, t;
	uint64_t text;
	int err;

	while (s->envp[envc])
		envc++;
	/* argc, argv, NULL, envp, NULL; three more pairs and AT_NULL */
	if (s->auxv_words + 8 > ARRAY_SIZE(s->auxv) || s->argc + envc > max_bytes / 8)
		return -E2BIG;
	words = 1 + s->argc + 1 + envc + 1 + s->auxv_words + 8;
	err = count_strings(s->argv, s->argc, max_bytes, &strings);
	if (!err)
		err = count_strings(s->envp, envc, max_bytes, &strings);
	if (err)
		return err;
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -EIO;
	text = align_down(top - TOP_ZEROS - strings - fixed, 16);
	s->sp = align_down(text - words * sizeof(uint64_t), 16);
	s->bytes = top - s->sp;
	s->image = calloc(1, s->bytes);
	if (!s->image)
		return -ENOMEM;
	w = (struct cursor){s, s->sp};
	t = (struct cursor){s, text};
	exec_stack_aux(s, AT_RANDOM, put(&t, random, sizeof(random)));
	exec_stack_aux(s, AT_PLATFORM, put(&t, platform, sizeof(platform)));
	put_word(&w, s->argc);
	s->arg_start = t.at;
	put_strings(&w, &t, s->argv, s->argc);
	s->env_start = t.at;
	put_strings(&w, &t, s->envp, envc);
	s->env_end = t.at;
	exec_stack_aux(s, AT_EXECFN, put(&t, s->name, strlen(s->name) + 1));
	exec_stack_aux(s, AT_NULL, 0);
	put(&w, s->auxv, s->auxv_words * sizeof(s->auxv[0]));
	return 0;
}
