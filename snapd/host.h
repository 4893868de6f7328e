/* SPDX-License-Identifier: Apache-2.0 */
/* host.h - what snapd needs of the host; at start, and every failure is fatal there */
#ifndef QUICKTHAW_SNAPD_HOST_H
#define QUICKTHAW_SNAPD_HOST_H

/** host_open_kvm() - /dev/kvm, checked. Does not return on failure: says what to do, exits 2. */
int host_open_kvm(void);
/** host_read_cpuid() - what shells are to know of this host's CPU, as a descriptor for
 * host_cpuid_import(). As above. */
int host_read_cpuid(int kvm_fd);
/** host_open_userfaultfd() - /dev/userfaultfd, with the features that page-in needs. As above. */
int host_open_userfaultfd(void);
/** host_die_io_uring() - the event loop could not be made: say why it matters and what to do. */
_Noreturn void host_die_io_uring(int err);

#endif
