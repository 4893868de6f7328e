/* SPDX-License-Identifier: Apache-2.0 */
/* lifeline.h - end with the last holder of the control socket's other end */
#ifndef QUICKTHAW_VMM_LIFELINE_H
#define QUICKTHAW_VMM_LIFELINE_H

/**
 * lifeline_init() - start the thread that watches @sock, which stays open for the process's life.
 * Before the jail's filter, which allows no threads. Return: 0 or -errno.
 */
int lifeline_init(int sock);

#endif
