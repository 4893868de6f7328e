/* SPDX-License-Identifier: Apache-2.0 */
/* harness.h - samples, percentiles and result rows */
#ifndef QUICKTHAW_BENCH_HARNESS_H
#define QUICKTHAW_BENCH_HARNESS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum { SAMPLES_MAX = 4096 };

/** struct samples - measurements of one case, in one unit. */
struct samples {
	double v[SAMPLES_MAX];
	size_t n;
};

/** samples_add() - one more measurement; past SAMPLES_MAX it is dropped. */
void samples_add(struct samples *s, double v);
/** samples_percentile() - nearest rank, @p from 0 (minimum) to 100; 0 without samples. Sorts @s. */
double samples_percentile(struct samples *s, double p);

/** struct row_key - which measurement a row is; static or longer-lived strings. */
struct row_key {
	const char *stage;    /**< boot, restore, invoke, run, memory, snapshot, daemon */
	const char *name;     /**< the case: cold_boot, cold_restore, resident_restore, warm, ... */
	const char *workload; /**< hello-python, ... */
	const char *guest;    /**< process */
	const char *system;   /**< quickthaw, bare-process, bubblewrap */
	const char *unit;     /**< ms, bytes, pages, ratio */
};

/** struct results - what a run found: {"host": {...}, "goals": [...], "rows": [...]}. */
struct results {
	json_t *root;
	json_t *rows;
	json_t *host;
	json_t *goals; /**< {case, workload, unit, must, stretch}, for plots */
};

int results_init(struct results *r);
void results_free(struct results *r);
/** results_add() - a row {stage, case, workload, guest, system, unit, n, min, p50, p90, p99}. */
void results_add(struct results *r, const struct row_key *key, struct samples *s);
/** results_add_value() - a row of a single number. */
void results_add_value(struct results *r, const struct row_key *key, double v);
/** results_host() - one measured constant of the host. */
void results_host(struct results *r, const char *name, double v);
/** results_host_text() - what the host is. */
void results_host_text(struct results *r, const char *name, const char *text);
/** results_find() - a row by case, system and workload; the results'; NULL when there is none. */
const json_t *results_find(const struct results *r, const char *name, const char *system,
			   const char *workload);
/** results_p50() - p50 of a row by case, system and workload; NAN when there is none. */
double results_p50(const struct results *r, const char *name, const char *system,
		   const char *workload);
/** results_write() - as JSON into @path, whose directory is made. Return: 0 or -errno. */
int results_write(const struct results *r, const char *path);

#endif
