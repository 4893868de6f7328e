/* SPDX-License-Identifier: Apache-2.0 */
/* admission.h - may an invocation come in, or is it told at once to come back later? */
#ifndef QUICKTHAW_SNAPD_ADMISSION_H
#define QUICKTHAW_SNAPD_ADMISSION_H

#include <stdint.h>

/** What becomes of a request that wants to be an invocation. */
enum admission {
	ADMISSION_GRANTED,
	ADMISSION_RESERVED, /**< its function's reserved concurrency is used up */
	ADMISSION_ACCOUNT,  /**< what no function has reserved is used up */
	ADMISSION_QUEUE,    /**< too many wait already, of all or of its function */
	ADMISSION_OVERLOAD, /**< its function's queue stands, and it would wait too long */
	ADMISSION_COUNT
};
/** `Reason` of Lambda's TooManyRequestsException; "" for ADMISSION_GRANTED. */
extern const char *const admission_reasons[ADMISSION_COUNT];

/**
 * struct admission_view - what the decision needs to know. In flight means admitted and not
 * answered: waiting ones count, as in Lambda.
 * @account_limit: of all invocations in flight; @reserved_total: what functions have reserved of it
 * @unreserved: in flight, of functions without a reservation
 * @reserved: of this function, or -1: none; @function: its invocations in flight
 * @waiting, @waiting_max: in the queue; @function_waiting: of this function
 * @standing_ns: since when, until now, some of this function have been waiting without a pause
 * @burst_ns: a queue that stands longer than that is no burst that will drain
 * @calm_ns: since when none of it was refused for overload; UINT64_MAX: none ever was
 * @function_least: so many of a function are let in by any load: one for each CPU, and one that
 *	is next
 * @answer_gap_ns: how far apart its answers have been while at least so many were in flight; 0: not
 *	known yet
 * @alone_ns: how long one takes that is alone; 0: not known yet
 */
struct admission_view {
	unsigned account_limit, reserved_total, unreserved;
	int reserved;
	unsigned function;
	unsigned function_least;
	unsigned waiting, waiting_max, function_waiting;
	uint64_t standing_ns, calm_ns, burst_ns, answer_gap_ns, alone_ns;
};

/**
 * admission_decide() - the limits are Lambda's; the rest keeps a node useful that gets more than it
 * can do. A burst may queue, for it drains: everybody gets an answer, later. A queue that stands is
 * another thing: it makes everybody late and serves nobody more. So once it has stood for
 * @burst_ns, newcomers are refused who would get their answer more than twice as late as alone.
 * When that is follows from how many are before them and how fast answers come (Little's law),
 * wherever those before them are: in the queue, or sharing the CPUs. That empties the queue; so
 * that this is not taken for the end of the overload, a queue is not let grow again before some
 * time without a refusal has passed. (Nichols and Jacobson's CoDel; Maurer, "Fail at Scale", ACM
 * Queue 13(8), uses it for requests.)
 */
enum admission admission_decide(const struct admission_view *v);

/** admission_retry_after_s() - for Retry-After: when it is worth a try. */
unsigned admission_retry_after_s(enum admission a, const struct admission_view *v);

/** admission_burst_ns() - how long a queue may stand: a number of starts, for what they cost on
 * this host (@start_ns), so that a slow host is not called overloaded. */
uint64_t admission_burst_ns(uint64_t start_ns, uint64_t queue_timeout_ns);

/** average_add() - moving average with weight 1/8 for the newest; the first one counts in full. */
static inline void average_add(uint64_t *average, uint64_t v)
{
	*average = *average ? *average - *average / 8 + v / 8 : v;
}

#endif
