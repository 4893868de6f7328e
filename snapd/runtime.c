/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.c - which program runs a function, and what it is told in its environment */
#include "snapd/runtime.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int put_env(struct runtime_command *c, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int put_env(struct runtime_command *c, const char *name, const char *fmt, ...)
{
	char *value = NULL, *text = NULL;
	va_list ap;
	int n;

	if (c->envc == RUNTIME_ENV_MAX)
		return -E2BIG;
	va_start(ap, fmt);
	n = vasprintf(&value, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -ENOMEM;
	n = asprintf(&text, "%s=%s", name, value);
	free(value);
	if (n < 0)
		return -ENOMEM;
	c->envp[c->envc++] = text;
	c->envp[c->envc] = NULL;
	return 0;
}

/** Names that a user's variables may not take over. */
static bool is_reserved(const char *name)
{
	static const char *const names[] = {"_HANDLER", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	return !strncmp(name, "AWS_LAMBDA_", 11) || !strcmp(name, "AWS_EXECUTION_ENV");
}

/** Defaults that a user's variables may replace. */
static int put_defaults(struct runtime_command *c, const json_t *user)
{
	static const char *const defaults[][2] = {
		{"LANG", "C.UTF-8"},
		{"TZ", ":UTC"},
		{"HOME", "/tmp"},
		{"PATH", "/usr/local/bin:/usr/bin:/bin:/opt/bin"},
		{"LD_LIBRARY_PATH", "/var/task:/var/task/lib:/opt/lib"},
		{"AWS_REGION", "local"},
		{"AWS_DEFAULT_REGION", "local"},
		{"PYTHONDONTWRITEBYTECODE", "1"}, /* /var/task is read-only */
	};
	int ret = 0;

	for (size_t i = 0; !ret && i < sizeof(defaults) / sizeof(defaults[0]); i++)
		if (!json_object_get(user, defaults[i][0]))
			ret = put_env(c, defaults[i][0], "%s", defaults[i][1]);
	return ret;
}

static int put_lambda(struct runtime_command *c, const struct version *v)
{
	char number[16];
	int ret = put_env(c, "AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001");

	version_name(v, number);
	if (!ret)
		ret = put_env(c, "_HANDLER", "%s", v->settings.handler);
	if (!ret)
		ret = put_env(c, "LAMBDA_TASK_ROOT", "/var/task");
	if (!ret)
		ret = put_env(c, "LAMBDA_RUNTIME_DIR", "/var/runtime");
	if (!ret)
		ret = put_env(c, "AWS_LAMBDA_FUNCTION_NAME", "%s", v->function->name);
	if (!ret)
		ret = put_env(c, "AWS_LAMBDA_FUNCTION_VERSION", "%s", number);
	if (!ret)
		ret = put_env(c, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "%u", v->settings.memory_mib);
	if (!ret)
		ret = put_env(c, "AWS_LAMBDA_INITIALIZATION_TYPE", "%s",
			      v->number ? "snap-start" : "on-demand");
	if (!ret)
		ret = put_env(c, "AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/%s", v->function->name);
	if (!ret)
		ret = put_env(c, "AWS_LAMBDA_LOG_STREAM_NAME", "[%s]", number);
	if (!ret)
		ret = put_env(c, "AWS_EXECUTION_ENV", "AWS_Lambda_%s", v->settings.runtime);
	return ret;
}

/** Where bootstraps are in process guests and in root images alike. */
static void put_program(const struct function_settings *s, struct runtime_command *ret)
{
	static const struct {
		const char *family;
		const char *argv[3];
	} programs[] = {
		{"nodejs", {"/usr/bin/node", "/var/runtime/bootstrap.js", NULL}},
		{"provided", {"/var/task/bootstrap", NULL}},
		{"", {"/usr/bin/python3", "/var/runtime/bootstrap.py", NULL}},
	};
	size_t i = 0;

	while (strncmp(s->runtime, programs[i].family, strlen(programs[i].family)) != 0)
		i++;
	memcpy(ret->argv, programs[i].argv, sizeof(programs[i].argv));
}

int runtime_command_make(const struct version *v, struct runtime_command *ret)
{
	const char *key;
	json_t *value;
	int err;

	*ret = (struct runtime_command){.envc = 0};
	put_program(&v->settings, ret);
	err = put_lambda(ret, v);
	if (!err)
		err = put_defaults(ret, v->settings.env);
	json_object_foreach(v->settings.env, key, value) if (!err && !is_reserved(key)) err =
		put_env(ret, key, "%s", json_string_value(value));
	return err;
}

void runtime_command_free(struct runtime_command *c)
{
	for (int i = 0; i < c->envc; i++)
		free(c->envp[i]);
	c->envc = 0;
}
