/* SPDX-License-Identifier: Apache-2.0 */
/* uuid.c - random identifiers: of requests and revisions */
#include "snapd/uuid.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>

#include "common/clock.h"

void uuid_make(char buf[UUID_CHARS + 1])
{
	uint8_t b[16];

	if (getrandom(b, sizeof(b), GRND_NONBLOCK) != sizeof(b))
		for (size_t i = 0; i < sizeof(b); i++)
			b[i] = (uint8_t)(clock_mono_ns() >> (i % 8 * 4));
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(buf, UUID_CHARS + 1,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		 b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		 b[15]);
}
