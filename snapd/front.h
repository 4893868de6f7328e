/* SPDX-License-Identifier: Apache-2.0 */
/* front.h - the doors that the settings ask for */
#ifndef QUICKTHAW_SNAPD_FRONT_H
#define QUICKTHAW_SNAPD_FRONT_H

#include "snapd/options.h"

/**
 * front_check() - mistakes in the settings, before anything else is done: addresses without keys,
 * an unknown group, a keys file that cannot be used. Dies of them. Reads the keys.
 */
void front_check(const struct options *o);
/** front_open() - listen everywhere. Dies where it cannot. */
void front_open(const struct options *o);
/** front_reload() - read the keys again, in the worker; those that are in use stay if it fails. */
void front_reload(void);

#endif
