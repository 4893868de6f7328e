/* SPDX-License-Identifier: Apache-2.0 */
/* modules.h - the kernel's modules in the initramfs */
#ifndef QUICKTHAW_AGENT_MODULES_H
#define QUICKTHAW_AGENT_MODULES_H

/**
 * modules_load() - load @dir/NAME.ko for each line NAME of @dir/order, and remove the files: the
 * initramfs stays in memory. One that does not load is noted: what needs it will say more.
 */
void modules_load(const char *dir);

#endif
