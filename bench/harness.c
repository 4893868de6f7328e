/* SPDX-License-Identifier: Apache-2.0 */
/* harness.c - samples, percentiles and result rows */
#include "bench/harness.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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
	r->rows = json_array();
	if (!r->root || !r->host || !r->rows)
		return -ENOMEM;
	json_object_set(r->root, "host", r->host);
	json_object_set(r->root, "rows", r->rows);
	return 0;
}

void results_free(struct results *r)
{
	json_decref(r->host);
	json_decref(r->rows);
	json_decref(r->root);
}

void results_add(struct results *r, const struct row_key *key, struct samples *s)
{
	json_array_append_new(r->rows,
			      json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:f, s:f, s:f, s:f}",
					"stage", key->stage, "case", key->name, "workload",
					key->workload, "guest", key->guest, "system", key->system,
					"unit", key->unit, "n", (json_int_t)s->n, "min",
					samples_percentile(s, 0), "p50", samples_percentile(s, 50),
					"p90", samples_percentile(s, 90), "p99",
					samples_percentile(s, 99)));
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

double results_p50(const struct results *r, const char *name, const char *system,
		   const char *workload)
{
	const json_t *row;
	size_t i;

	json_array_foreach(r->rows, i, row)
	{
		if (!strcmp(json_string_value(json_object_get(row, "case")), name) &&
		    !strcmp(json_string_value(json_object_get(row, "system")), system) &&
		    !strcmp(json_string_value(json_object_get(row, "workload")), workload))
			return json_number_value(json_object_get(row, "p50"));
	}
	return NAN;
}

int results_write(const struct results *r, const char *path)
{
	return json_dump_file(r->root, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) ? -EIO : 0;
}
