/* SPDX-License-Identifier: Apache-2.0 */
/* command.c - the program that START names */
#include "guest/agent/command.h"

#include <errno.h>
#include <string.h>

/** Take @count strings from *@at on. Return: 0 or -EBADMSG. */
static int take_strings(const char **to, uint32_t count, const char **at, const char *end)
{
	for (uint32_t i = 0; i < count; i++) {
		const char *nul = memchr(*at, 0, (size_t)(end - *at));

		if (!nul)
			return -EBADMSG;
		to[i] = *at;
		*at = nul + 1;
	}
	to[count] = NULL;
	return 0;
}

int command_parse(struct command *ret, const struct agent_start *start)
{
	const char *at = (const char *)(start + 1);
	const char *end = (const char *)start + start->h.bytes;

	if (!start->argc || start->argc > AGENT_STRINGS_MAX || start->envc > AGENT_STRINGS_MAX ||
	    take_strings(ret->argv, start->argc, &at, end) ||
	    take_strings(ret->envp, start->envc, &at, end) || at != end || !ret->argv[0][0])
		return -EBADMSG;
	ret->uid = start->uid;
	ret->gid = start->gid;
	return 0;
}
