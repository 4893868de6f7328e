/* SPDX-License-Identifier: Apache-2.0 */
/* provision.h - provisioned concurrency: restored instances that wait for their version's work */
#ifndef QUICKTHAW_SNAPD_PROVISION_H
#define QUICKTHAW_SNAPD_PROVISION_H

#include <stdbool.h>
#include <stdint.h>

#include "snapd/session.h"

enum provision_state { PROVISION_IN_PROGRESS, PROVISION_READY, PROVISION_FAILED };
/** Names as in the API: "IN_PROGRESS", "READY", "FAILED". */
extern const char *const provision_state_names[];

/** struct provision_status - @available: restored, idle or at work; @reason: "" unless FAILED;
 * valid until the loop's next turn. */
struct provision_status {
	enum provision_state state;
	unsigned available;
	const char *reason;
};

/** scheduler_provisioned_status() - how far one configuration of @f has got. */
struct provision_status scheduler_provisioned_status(struct function *f, const char *qualifier,
						     unsigned requested);

/** What to do next for a version. */
enum provision_step { PROVISION_REST, PROVISION_START, PROVISION_RELEASE };
/** provision_decide() - @wanted of it, @live there are, @failures in a row, not before @retry_ns.
 */
enum provision_step provision_decide(unsigned wanted, unsigned live, uint64_t retry_ns,
				     uint64_t now_ns);
/** provision_backoff_ns() - how long to wait after so many failures in a row. */
uint64_t provision_backoff_ns(unsigned failures);

/** provision_turn() - once per turn of the loop: at most one start. */
void provision_turn(uint64_t now_ns);
uint64_t provision_next_ns(void);
/** provision_ended() - a provisioned instance is ENDING; it still has its version. */
void provision_ended(struct instance *inst);

#endif
