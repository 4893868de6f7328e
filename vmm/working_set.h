/* SPDX-License-Identifier: Apache-2.0 */
/* working_set.h - which template pages has this instance touched, and which has it written */
#ifndef QUICKTHAW_VMM_WORKING_SET_H
#define QUICKTHAW_VMM_WORKING_SET_H

#include <stdint.h>

struct guest_mem;

#define WORKING_SET_TOUCHED 1u
#define WORKING_SET_WRITTEN 2u

/**
 * working_set_read() - WORKING_SET_* of each template page.
 * @pagemap_fd: /proc/PID/pagemap of this process; the jail has no /proc, so snapd opens it
 * @ret_marks: room for @m->template_pages
 * Source: the kernel's pagemap (Documentation/admin-guide/mm/pagemap.rst): a present page is
 * touched; one that no longer belongs to the template file was written. Reads of neighbours that
 * the kernel mapped around a fault count as touched: that is what it costs to have them. Return: 0
 * or -errno.
 */
int working_set_read(const struct guest_mem *m, int pagemap_fd, uint8_t *ret_marks);

#endif
