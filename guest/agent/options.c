/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - what the agent is told */
#include "guest/agent/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "guest/agent/note.h"
#include "include/agent_proto.h"

void options_init(struct options *o)
{
	*o = (struct options){
		.root = "/dev/vda",
		.control = {.kind = ENDPOINT_VSOCK, .port = AGENT_CONTROL_PORT},
		.api = {.kind = ENDPOINT_VSOCK, .port = AGENT_API_PORT},
		.listen = AGENT_API_PORT,
	};
}

static int set_text(char *to, size_t room, const char *value)
{
	size_t n = strlen(value);

	if (n >= room)
		return -EINVAL;
	memcpy(to, value, n + 1);
	return 0;
}

static int set_port(uint16_t *to, const char *value)
{
	char *end;
	unsigned long port = strtoul(value, &end, 10);

	if (end == value || *end || !port || port > UINT16_MAX)
		return -EINVAL;
	*to = (uint16_t)port;
	return 0;
}

int options_set(struct options *o, const char *setting)
{
	const struct {
		const char *name;
		char *text;
	} texts[] = {
		{"root=", o->root}, {"upper=", o->upper},     {"task=", o->task},
		{"opt=", o->opt},   {"address=", o->address},
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (!strncmp(setting, texts[i].name, strlen(texts[i].name)))
			return set_text(texts[i].text, sizeof(o->root),
					setting + strlen(texts[i].name));
	}
	if (!strncmp(setting, "control=", 8))
		return endpoint_parse(&o->control, setting + 8);
	if (!strncmp(setting, "api=", 4))
		return endpoint_parse(&o->api, setting + 4);
	if (!strncmp(setting, "listen=", 7))
		return set_port(&o->listen, setting + 7);
	return -ENOENT;
}

void options_from_cmdline(struct options *o, char *line)
{
	char *save = NULL;

	for (char *word = strtok_r(line, " \t\n", &save); word;
	     word = strtok_r(NULL, " \t\n", &save)) {
		if (!strncmp(word, "agent.", 6) && options_set(o, word + 6))
			note("not understood: %s", word);
	}
}
