/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_seccomp.c - compile an allow-list into a filter program */
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "common/sandbox_internal.h"
#include "common/util.h"

static void cleanup_filter(scmp_filter_ctx *ctx)
{
	if (*ctx)
		seccomp_release(*ctx);
}

static int add_rule(scmp_filter_ctx ctx, const struct sandbox_rule *rule)
{
	struct scmp_arg_cmp checks[ARRAY_SIZE(rule->args)];
	unsigned int n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rule->args); i++) {
		const struct sandbox_arg *arg = &rule->args[i];

		if (arg->index)
			checks[n++] = SCMP_CMP((unsigned int)arg->index - 1, SCMP_CMP_MASKED_EQ,
					       arg->mask, arg->want);
	}
	return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, rule->nr, n, checks);
}

/*
 * The default is SIGSYS, not KILL_PROCESS: the call is refused just the same, and the handler
 * (sandbox_filter.c) names it before it dies. The handler cannot be replaced, since no list has
 * rt_sigaction for SIGSYS. Another architecture's calls (int 0x80, x32) are killed at once.
 */
static int compile(enum sandbox_stage stage, int fd)
{
	scmp_filter_ctx ctx __attribute__((cleanup(cleanup_filter))) = seccomp_init(SCMP_ACT_TRAP);
	int err = 0;

	if (!ctx)
		return -ENOMEM;
	err = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!err) /* a binary tree over the call numbers */
		err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	for (const struct sandbox_rule *r = sandbox_rules(stage); !err && r->reason; r++) {
		err = add_rule(ctx, r);
		if (err)
			log_error("cannot allow system call %s: %s", sandbox_syscall_name(r->nr),
				  strerror(-err));
	}
	if (!err)
		err = seccomp_export_bpf(ctx, fd);
	return err;
}

int sandbox_seccomp_export(enum sandbox_stage stage, int *ret_fd)
{
	CLEANUP_FD int fd = memfd_create("quickthaw-seccomp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	*ret_fd = -1;
	err = fd < 0 ? -errno : compile(stage, fd);
	if (!err &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		err = -errno;
	if (err) {
		log_error("cannot compile the system call filter: %s", strerror(-err));
		return err;
	}
	*ret_fd = steal_fd(&fd);
	return 0;
}

int sandbox_seccomp_enter(enum sandbox_stage stage)
{
	CLEANUP_FD int fd = -1;
	int err = sandbox_seccomp_export(stage, &fd);

	return err ? err : sandbox_seccomp_load(fd);
}
