/* SPDX-License-Identifier: Apache-2.0 */
/* control.h - the vmm's side of the conversation with snapd (include/snapd_proto.h) */
#ifndef QUICKTHAW_VMM_CONTROL_H
#define QUICKTHAW_VMM_CONTROL_H

struct vm;

/**
 * control_serve_process() - the life of a shell for process guests: say HELLO, become a guest by
 * BOOT or RESTORE, serve until the guest or snapd ends it. Once in a process's life. For kernel
 * guests there is kernel_shell_serve() (vmm/kernel/shell.h).
 * @sock: the control socket
 * @uffd: a userfaultfd with its API handshake done; snapd gets it with HELLO
 * Return: the process's exit status.
 */
int control_serve_process(struct vm *vm, int sock, int uffd);

#endif
