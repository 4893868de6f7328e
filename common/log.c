/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - one-line logs to stderr, each tagged with program and instance */
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/util.h"

enum { LINE_SIZE_MAX = 2048 };

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static char log_tag_text[128] = "quickthaw";
static enum log_level log_level_max = LOG_LEVEL_INFO;

void log_init(const char *program, const char *instance)
{
	const char *env = getenv("QUICKTHAW_LOG");

	if (instance && instance[0])
		snprintf(log_tag_text, sizeof(log_tag_text), "%s[%.40s]", program, instance);
	else
		snprintf(log_tag_text, sizeof(log_tag_text), "%s", program);
	for (size_t i = 0; env && i < ARRAY_SIZE(level_names); i++)
		if (!strcmp(env, level_names[i]))
			log_level_max = (enum log_level)i;
}

void log_set_level(enum log_level level)
{
	log_level_max = level;
}

const char *log_tag(void)
{
	return log_tag_text;
}

static void log_vwrite(enum log_level level, const char *fmt, va_list ap)
{
	char line[LINE_SIZE_MAX];
	int n;

	n = snprintf(line, sizeof(line), "%s: %s: ", log_tag_text, level_names[level]);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
	if (n > (int)sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* nobody reads the log: there is no better place to say so */
}

void log_write(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > log_level_max)
		return;
	va_start(ap, fmt);
	log_vwrite(level, fmt, ap);
	va_end(ap);
}

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vwrite(LOG_LEVEL_ERROR, fmt, ap);
	va_end(ap);
	exit(2);
}
