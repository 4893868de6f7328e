/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one-line logs to stderr, each tagged with program and instance */
#ifndef QUICKTHAW_COMMON_LOG_H
#define QUICKTHAW_COMMON_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
/** JSON: one object a line, with time, level, program, instance, request (where there are such) and
 * message. */
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/**
 * log_init() - name this process in its log lines.
 * @program: static string, for example "vmm"
 * @instance: the instance's id, or NULL; copied (at most 40 bytes)
 * The level is LOG_LEVEL_INFO unless QUICKTHAW_LOG=error|warn|info|debug is in the environment, the
 * format is text unless QUICKTHAW_LOG_FORMAT=json is.
 */
void log_init(const char *program, const char *instance);
void log_set_level(enum log_level level);
enum log_level log_level(void);
void log_set_format(enum log_format format);
enum log_format log_format(void);

/** log_tag() - `program[instance]` as it opens each line, for those who cannot call log_write(). */
const char *log_tag(void);

/** log_write() - one line `program[instance]: level: message`, one write(2), never blocks on a full
 * pipe. */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** log_about() - the same about an instance of another process: text begins with its id, JSON has
 * it and the request that it serves ("" for none) as members. */
void log_about(enum log_level level, const char *instance, const char *request, const char *fmt,
	       ...) __attribute__((format(printf, 4, 5)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/** die() - log an error and exit 2. Only for start-up, before anything is served. */
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
