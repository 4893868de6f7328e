/* SPDX-License-Identifier: Apache-2.0 */
/* populate.h - bring a working set in while the guest already runs */
#ifndef QUICKTHAW_VMM_POPULATE_H
#define QUICKTHAW_VMM_POPULATE_H

#include <stdint.h>

#include "include/snapd_proto.h"

struct guest_mem;

/**
 * populate_init() - start the helper thread, which sleeps until there is work. Before the jail's
 * filter, which allows no threads. Return: 0 or -errno.
 */
int populate_init(void);

/**
 * populate_start() - hand the runs of a template's working set to the helper thread; once.
 * @runs: @count runs, those that were written first; checked against @mem here; kept until the
 * process ends Neither the guest's run nor its correctness waits for the thread: a page that it has
 * not brought in comes in by a fault. Return: 0 or -EBADMSG.
 */
int populate_start(const struct guest_mem *mem, const struct proto_populate *runs, uint32_t count);

/**
 * populate_help() - do what is left of the copies together with the helper thread. Where a fault
 * costs a multiple of a copy, the guest is better off starting later. Does not wait for the last
 * ones, which the thread may have in hand.
 */
void populate_help(void);

/**
 * populate_map() - have KVM map the working set into the guest, on the thread of a vCPU before it
 * enters: what the copies of populate_help() and the template have, so that no touch of it leaves
 * the guest. A host that cannot (before Linux 6.10, or without nested paging) is left as it is.
 * Source: KVM API section 4.143, KVM_PRE_FAULT_MEMORY.
 */
void populate_map(int vcpu_fd);

#endif
