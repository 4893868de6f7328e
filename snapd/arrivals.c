/* SPDX-License-Identifier: Apache-2.0 */
/* arrivals.c - when invocations of a version have come, and whether one will come soon */
#include "snapd/arrivals.h"

#include <stdbool.h>

#include "common/clock.h"
#include "common/util.h"

enum { GAPS_MAX = 256, GAPS_MIN = 4, HALF_LIFE_S = 60, LATE = 8 };

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

/** Old habits go: from time to time, each counts half, and what is far out comes nearer. */
static void forget(struct arrivals *a)
{
	a->gap_count = 0;
	for (int i = 0; i < ARRIVALS_BINS; i++) {
		uint32_t quarter = (a->longest_ms[i] - a->shortest_ms[i]) / 4;

		a->gaps[i] /= 2;
		a->gap_count += a->gaps[i];
		a->shortest_ms[i] += quarter;
		a->longest_ms[i] -= quarter;
	}
}

static void add_gap(struct arrivals *a, uint64_t gap_ns)
{
	uint32_t ms = (uint32_t)MIN(gap_ns / NSEC_PER_MSEC, (uint64_t)UINT32_MAX);
	unsigned bin = bin_of(gap_ns);
	bool first = !a->gaps[bin];

	a->shortest_ms[bin] = first ? ms : MIN(a->shortest_ms[bin], ms);
	a->longest_ms[bin] = first ? ms : MAX(a->longest_ms[bin], ms);
	a->gaps[bin]++;
	a->gap_count++;
}

void arrivals_add(struct arrivals *a, uint64_t now_ns)
{
	a->rate = arrivals_rate(a, now_ns) + arrival_weight;
	if (a->last_ns) {
		if (a->gap_count == GAPS_MAX)
			forget(a);
		add_gap(a, now_ns - a->last_ns);
	}
	a->last_ns = now_ns;
}

/** Gaps longer than @gap_ns, a bin that it cuts in proportion to where its gaps were. */
static double longer_than(const struct arrivals *a, uint64_t gap_ns)
{
	double ms = (double)gap_ns / 1e6, n = 0;

	for (int i = 0; i < ARRIVALS_BINS; i++) {
		double shortest = a->shortest_ms[i], longest = a->longest_ms[i] + 1.0;

		if (ms <= shortest)
			n += a->gaps[i];
		else if (ms < longest)
			n += a->gaps[i] * (longest - ms) / (longest - shortest);
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
	/* It has never been quiet for so long: it is late, or nobody comes any more. */
	if (longer < 0.5)
		return longer_than(a, idle_ns - idle_ns / LATE) < 0.5 ? 0 : 100;
	return (unsigned)(100 * (longer - longer_than(a, idle_ns + horizon_ns)) / longer);
}
