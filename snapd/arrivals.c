/* SPDX-License-Identifier: Apache-2.0 */
/* arrivals.c - when invocations of a version have come, and whether one will come soon */
#include "snapd/arrivals.h"

#include "common/clock.h"
#include "common/util.h"

enum { GAPS_MAX = 256, GAPS_MIN = 4, HALF_LIFE_S = 60 };

static const uint64_t half_life_ns = HALF_LIFE_S * NSEC_PER_SEC;
/** One arrival adds so much that a steady stream of r a second settles at r. */
static const double arrival_weight = 0.5 / HALF_LIFE_S;

static unsigned bin_of(uint64_t gap_ns)
{
	uint64_t ms = gap_ns / NSEC_PER_MSEC;
	unsigned bin = ms ? 63 - (unsigned)__builtin_clzll(ms) : 0;

	return MIN(bin, (unsigned)ARRIVALS_BINS - 1);
}

double arrivals_rate(const struct arrivals *a, uint64_t now_ns)
{
	uint64_t idle_ns = a->last_ns ? now_ns - a->last_ns : 0;
	uint64_t halves = idle_ns / half_life_ns;
	double rate = a->rate;

	if (halves >= 64)
		return 0;
	/* Between two halvings a straight line is near enough. */
	rate /= (double)(1ull << halves);
	return rate * (1 - (double)(idle_ns % half_life_ns) / (double)half_life_ns / 2);
}

/** Old habits go: from time to time, each counts half. */
static void forget(struct arrivals *a)
{
	a->gap_count = 0;
	for (int i = 0; i < ARRIVALS_BINS; i++) {
		a->gaps[i] /= 2;
		a->gap_count += a->gaps[i];
	}
}

void arrivals_add(struct arrivals *a, uint64_t now_ns)
{
	a->rate = arrivals_rate(a, now_ns) + arrival_weight;
	if (a->last_ns) {
		if (a->gap_count == GAPS_MAX)
			forget(a);
		a->gaps[bin_of(now_ns - a->last_ns)]++;
		a->gap_count++;
	}
	a->last_ns = now_ns;
}

/** Gaps longer than @gap_ns, a bin that it cuts in proportion. */
static double longer_than(const struct arrivals *a, uint64_t gap_ns)
{
	double ms = (double)gap_ns / 1e6, low, n = 0;

	for (int i = 0; i < ARRIVALS_BINS; i++) {
		low = i ? (double)(1ull << i) : 0;
		if (ms <= low || (i == ARRIVALS_BINS - 1 && ms > low))
			n += ms <= low ? a->gaps[i] : 0;
		else if (ms < (double)(2ull << i))
			n += a->gaps[i] * ((double)(2ull << i) - ms) / ((double)(2ull << i) - low);
	}
	return n;
}

unsigned arrivals_percent(const struct arrivals *a, uint64_t now_ns, uint64_t horizon_ns)
{
	uint64_t idle_ns = now_ns - a->last_ns;
	double longer, percent;

	if (!a->last_ns)
		return 0;
	if (a->gap_count < GAPS_MIN) {
		percent = arrivals_rate(a, now_ns) * (double)horizon_ns / 1e9 * 100;
		return (unsigned)MIN(percent, 100.0);
	}
	longer = longer_than(a, idle_ns);
	if (longer < 0.5) /* it has never been quiet for so long: nobody comes any more */
		return 0;
	return (unsigned)(100 * (longer - longer_than(a, idle_ns + horizon_ns)) / longer);
}
