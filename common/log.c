/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - one-line logs to stderr, each tagged with program and instance: text, or JSON objects */
#include "common/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/util.h"

enum { MESSAGE_MAX = 2048, LINE_MAX = 3 * MESSAGE_MAX };

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static char program_name[32] = "quickthaw";
static char own_instance[44];
static char log_tag_text[128] = "quickthaw";
static enum log_level log_level_max = LOG_LEVEL_INFO;
static enum log_format format_now = LOG_FORMAT_TEXT;

void log_init(const char *program, const char *instance)
{
	const char *level = getenv("QUICKTHAW_LOG"), *format = getenv("QUICKTHAW_LOG_FORMAT");

	snprintf(program_name, sizeof(program_name), "%s", program);
	snprintf(own_instance, sizeof(own_instance), "%.40s", instance ? instance : "");
	if (*own_instance)
		snprintf(log_tag_text, sizeof(log_tag_text), "%s[%s]", program, own_instance);
	else
		snprintf(log_tag_text, sizeof(log_tag_text), "%s", program);
	for (size_t i = 0; level && i < ARRAY_SIZE(level_names); i++)
		if (!strcmp(level, level_names[i]))
			log_level_max = (enum log_level)i;
	if (format && !strcmp(format, "json"))
		format_now = LOG_FORMAT_JSON;
}

void log_set_level(enum log_level level)
{
	log_level_max = level;
}

enum log_level log_level(void)
{
	return log_level_max;
}

void log_set_format(enum log_format format)
{
	format_now = format;
}

enum log_format log_format(void)
{
	return format_now;
}

const char *log_tag(void)
{
	return log_tag_text;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

/** struct line - text that ends where its room does. */
struct line {
	char text[LINE_MAX];
	size_t n;
};

static void put(struct line *l, const char *text, size_t n)
{
	n = MIN(n, sizeof(l->text) - 8 - l->n); /* what closes a line has room always */
	memcpy(l->text + l->n, text, n);
	l->n += n;
}

/** How long the UTF-8 sequence at @s is; 0: it is none, or one that JSON does not take. */
static size_t utf8_length(const char *s)
{
	const unsigned char *u = (const unsigned char *)s;
	size_t n = u[0] < 0x80 ? 1 : u[0] >= 0xf0 ? 4 : u[0] >= 0xe0 ? 3 : 2;

	if (n > 1 && (u[0] < 0xc2 || u[0] > 0xf4))
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) ||
	    (u[0] == 0xf0 && u[1] < 0x90) || (u[0] == 0xf4 && u[1] > 0x8f))
		return 0;
	return n;
}

/** A message may have words of a guest in it: whatever they are, the line stays one JSON object. */
static void put_string(struct line *l, const char *s)
{
	put(l, "\"", 1);
	while (*s && l->n < sizeof(l->text) - 64) {
		size_t n = utf8_length(s);
		char escape[8];

		if ((unsigned char)*s < 0x20 || *s == 0x7f || *s == '"' || *s == '\\') {
			snprintf(escape, sizeof(escape), "\\u%04x", *s);
			put(l, escape, strlen(escape));
		} else {
			put(l, n ? s : "?", MAX(n, (size_t)1));
		}
		s += MAX(n, (size_t)1);
	}
	put(l, "\"", 1);
}

static void put_member(struct line *l, const char *name, const char *value)
{
	if (!*value)
		return;
	put(l, l->n > 1 ? ",\"" : "\"", l->n > 1 ? 2 : 1);
	put(l, name, strlen(name));
	put(l, "\":", 2);
	put_string(l, value);
}

static void put_object(struct line *l, enum log_level level, const char *instance,
		       const char *request, const char *message)
{
	uint64_t now_ns = clock_real_ns();
	time_t seconds = (time_t)(now_ns / NSEC_PER_SEC);
	char when[40];
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + n, sizeof(when) - n, ".%03uZ", (unsigned)(now_ns % NSEC_PER_SEC / 1000000));
	put(l, "{", 1);
	put_member(l, "time", when);
	put_member(l, "level", level_names[level]);
	put_member(l, "program", program_name);
	put_member(l, "instance", instance);
	put_member(l, "request", request);
	put_member(l, "message", message);
	put(l, "}", 1);
}

/* ---- a line ---------------------------------------------------------------------------------- */

/** @instance: NULL: what this process is, which the tag of a text line has already. */
static void write_line(enum log_level level, const char *instance, const char *request,
		       const char *fmt, va_list ap)
{
	char message[MESSAGE_MAX];
	struct line line = {.n = 0};

	vsnprintf(message, sizeof(message), fmt, ap);
	if (format_now == LOG_FORMAT_JSON)
		put_object(&line, level, instance ? instance : own_instance, request, message);
	else
		line.n = (size_t)snprintf(line.text, sizeof(line.text) - 1, "%s: %s: %s%s%s%s",
					  log_tag_text, level_names[level],
					  instance ? "instance " : "", instance ? instance : "",
					  instance ? ": " : "", message);
	line.text[line.n++] = '\n';
	if (write(STDERR_FILENO, line.text, line.n) < 0)
		return; /* nobody reads the log: there is no better place to say so */
}

void log_write(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > log_level_max)
		return;
	va_start(ap, fmt);
	write_line(level, NULL, "", fmt, ap);
	va_end(ap);
}

void log_about(enum log_level level, const char *instance, const char *request, const char *fmt,
	       ...)
{
	va_list ap;

	if (level > log_level_max)
		return;
	va_start(ap, fmt);
	write_line(level, instance, request, fmt, ap);
	va_end(ap);
}

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_line(LOG_LEVEL_ERROR, NULL, "", fmt, ap);
	va_end(ap);
	exit(2);
}
