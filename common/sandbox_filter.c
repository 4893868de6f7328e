/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_filter.c - enter a compiled filter, and name the system call that breaks it */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/sandbox_internal.h"
#include "common/util.h"

static const char *const syscall_names[] = {
#include "common/syscall_names.inc"
};

const char *sandbox_syscall_name(int nr)
{
	if (nr < 0 || (size_t)nr >= ARRAY_SIZE(syscall_names) || !syscall_names[nr])
		return "unknown";
	return syscall_names[nr];
}

struct line {
	char text[256];
	size_t n;
};

static void line_add(struct line *l, const char *s)
{
	while (*s && l->n < sizeof(l->text) - 1)
		l->text[l->n++] = *s++;
}

static void line_add_uint(struct line *l, unsigned int v)
{
	char digits[11] = "";
	size_t i = sizeof(digits) - 1;

	do
		digits[--i] = (char)('0' + v % 10);
	while ((v /= 10));
	line_add(l, digits + i);
}

/*
 * The system call did not happen. Nothing here may allocate or lock: the call may have come from
 * inside malloc. SA_RESETHAND has put the default action back, so that one more call that no list
 * holds ends the process with SIGSYS, which is what the parent expects to see.
 */
static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	struct line l = {.n = 0};

	(void)sig;
	(void)context;
	line_add(&l, log_tag());
	line_add(&l, ": error: system call ");
	line_add(&l, sandbox_syscall_name(info->si_syscall));
	line_add(&l, " (");
	line_add_uint(&l, (unsigned int)info->si_syscall);
	line_add(&l, ") is not on the allow-list of common/sandbox_rules.c, or not with these "
		     "arguments: killed\n");
	if (write(STDERR_FILENO, l.text, l.n) < 0)
		l.n = 0; /* nobody reads the log */
	syscall(SYS_reboot, 0, 0, 0, NULL);
	_exit(128 + SIGSYS);
}

int sandbox_filter_install(const struct sock_fprog *program)
{
	struct sigaction action = {
		.sa_sigaction = on_sigsys,
		.sa_flags = SA_SIGINFO | SA_RESETHAND,
	};

	if (sigaction(SIGSYS, &action, NULL) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, program))
		return -errno;
	return 0;
}

int sandbox_seccomp_load(int fd)
{
	struct sock_filter code[BPF_MAXINSNS];
	struct sock_fprog program = {.filter = code};
	ssize_t n = pread_full(fd, code, sizeof(code), 0);
	int err = 0;

	if (n < 0)
		err = (int)n;
	else if (n == 0 || (size_t)n % sizeof(code[0]))
		err = -EBADMSG;
	program.len = (unsigned short)((size_t)n / sizeof(code[0]));
	if (!err)
		err = sandbox_filter_install(&program);
	if (err)
		log_error("cannot enter the system call filter: %s: without it a guest that breaks "
			  "out of the vmm reaches the whole kernel interface",
			  strerror(-err));
	return err;
}
