/* SPDX-License-Identifier: Apache-2.0 */
/* arrivals.h - when invocations of a version have come, and whether one will come soon */
#ifndef QUICKTHAW_SNAPD_ARRIVALS_H
#define QUICKTHAW_SNAPD_ARRIVALS_H

#include <stdint.h>

/** Gaps of 2^k to 2^(k+1) ms; the last one: longer, which is 35 minutes and more. */
enum { ARRIVALS_BINS = 22 };

/**
 * struct arrivals - zero it to begin with.
 * @rate: arrivals in a second, decayed by half every minute
 * @gaps: between two arrivals, a histogram that forgets; @gap_count: all of it
 * @shortest_ms, @longest_ms: of the gaps of each bin, for a bin is as wide as its shortest gap, and
 *	a timer's are all the same
 */
struct arrivals {
	uint64_t last_ns;
	double rate;
	uint16_t gaps[ARRIVALS_BINS];
	uint32_t shortest_ms[ARRIVALS_BINS], longest_ms[ARRIVALS_BINS];
	unsigned gap_count;
};

void arrivals_add(struct arrivals *a, uint64_t now_ns);

/** arrivals_rate() - in a second, as of now. */
double arrivals_rate(const struct arrivals *a, uint64_t now_ns);

/**
 * arrivals_percent() - how likely is one within @horizon_ns?
 *
 * Of the gaps that were longer than the present one is already: the share that ended within the
 * horizon. That sees what a rate cannot, say a timer every five minutes. While few gaps are known,
 * the decayed rate has to do.
 */
unsigned arrivals_percent(const struct arrivals *a, uint64_t now_ns, uint64_t horizon_ns);

#endif
