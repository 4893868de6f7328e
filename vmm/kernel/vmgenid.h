/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmgenid.h - the number that tells a guest that it is another clone now
 *
 * 16 random bytes in guest memory, named by the DSDT. A restore writes new ones and notifies, and
 * Linux reseeds its random numbers at once. Source: "Virtual Machine Generation ID", Microsoft.
 */
#ifndef QUICKTHAW_KERNEL_VMGENID_H
#define QUICKTHAW_KERNEL_VMGENID_H

#include "vmm/guest_mem.h"

/** vmgenid_renew() - write a new number. Return: 0, or -errno of getrandom(). */
int vmgenid_renew(const struct guest_mem *mem);

#endif
