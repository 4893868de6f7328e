/* SPDX-License-Identifier: Apache-2.0 */
/* uuid.h - random identifiers: of requests and revisions */
#ifndef QUICKTHAW_SNAPD_UUID_H
#define QUICKTHAW_SNAPD_UUID_H

enum { UUID_CHARS = 36 };

/** uuid_make() - a random (version 4) UUID as text, into @buf. Never blocks, never fails. */
void uuid_make(char buf[UUID_CHARS + 1]);

#endif
