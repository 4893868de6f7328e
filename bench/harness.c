/* SPDX-License-Identifier: Apache-2.0 */
/* harness.c - samples, percentiles and result rows */
#include "bench/harness.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void samples_add(struct samples *s, double v)
{
	if (s->n < SAMPLES_MAX)
		s->v[s->n++] = v;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double samples_percentile(struct samples *s, double p)
{
	size_t rank;

	if (!s->n)
		return 0;
	qsort(s->v, s->n, sizeof(s->v[0]), compare);
	rank = (size_t)ceil(p / 100 * (double)s->n);
	return s->v[rank ? rank - 1 : 0];
}

int results_init(struct results *r)
{
	r->root = json_object();
	r->host = json_object();
	r->goals = json_array();
	r->rows = json_array();
	if (!r->root || !r->host || !r->goals || !r->rows)
		return -ENOMEM;
	json_object_set(r->root, "host", r->host);
	json_object_set(r->root, "goals", r->goals);
	json_object_set(r->root, "rows", r->rows);
	return 0;
}

void results_free(struct results *r)
{
	json_decref(r->host);
	json_decref(r->goals);
	json_decref(r->rows);
	json_decref(r->root);
}

void results_add(struct results *r, const struct row_key *key, struct samples *s)
{
	json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:f, s:f, s:f, s:f}", "stage",
				key->stage, "case", key->name, "workload", key->workload, "guest",
				key->guest, "system", key->system, "unit", key->unit, "n",
				(json_int_t)s->n, "min", samples_percentile(s, 0), "p50",
				samples_percentile(s, 50), "p90", samples_percentile(s, 90), "p99",
				samples_percentile(s, 99));

	if (json_array_append_new(r->rows, row))
		fprintf(stderr, "bench: %s %s: no finite number: the row is left out\n", key->name,
			key->workload);
}

void results_add_value(struct results *r, const struct row_key *key, double v)
{
	static struct samples one;

	one.n = 0;
	samples_add(&one, v);
	results_add(r, key, &one);
}

void results_host(struct results *r, const char *name, double v)
{
	json_object_set_new(r->host, name, json_real(v));
}

void results_host_text(struct results *r, const char *name, const char *text)
{
	json_object_set_new(r->host, name, json_string(text));
}

static bool member_is(const json_t *row, const char *key, const char *value)
{
	const char *text = json_string_value(json_object_get(row, key));

	return text && !strcmp(text, value);
}

const json_t *results_find(const struct results *r, const char *name, const char *system,
			   const char *workload)
{
	const json_t *row;
	size_t i;

	json_array_foreach(r->rows, i, row) if (member_is(row, "case", name) &&
						member_is(row, "system", system) &&
						member_is(row, "workload", workload)) return row;
	return NULL;
}

double results_p50(const struct results *r, const char *name, const char *system,
		   const char *workload)
{
	const json_t *row = results_find(r, name, system, workload);

	return row ? json_number_value(json_object_get(row, "p50")) : NAN;
}

int results_write(const struct results *r, const char *path)
{
	char dir[512];
	const char *slash = strrchr(path, '/');
	FILE *f;
	int ret;

	if (slash && slash != path && (size_t)(slash - path) < sizeof(dir)) {
		snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
		mkdir(dir, 0777); /* its failure shows when the file is opened */
	}
	f = fopen(path, "we");
	if (!f)
		return -errno;
	ret = json_dumpf(r->root, f, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
	if (fclose(f) || ret)
		return errno ? -errno : -EIO;
	return 0;
}
