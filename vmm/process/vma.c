/* SPDX-License-Identifier: Apache-2.0 */
/* vma.c - the sorted set of mappings: search, split, merge */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/util.h"
#include "vmm/process/mm_internal.h"

enum { VMA_FIRST_SIZE = 64 };

void vma_set_free(struct proc *p, struct vma_set *s)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (s->v[i].file)
			file_put(p, s->v[i].file);
	free(s->v);
	memset(s, 0, sizeof(*s));
}

int vma_reserve(struct vma_set *s, uint32_t n)
{
	uint32_t size = s->size ? s->size : VMA_FIRST_SIZE;
	struct vma *v;

	if (s->count + n > VMA_MAX)
		return -ENOMEM;
	if (s->count + n <= s->size)
		return 0;
	while (size < s->count + n)
		size *= 2;
	v = reallocarray(s->v, size, sizeof(*v));
	if (!v)
		return -ENOMEM;
	s->v = v;
	s->size = size;
	return 0;
}

uint32_t vma_lower(const struct vma_set *s, uint64_t addr)
{
	uint32_t low = 0, high = s->count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (s->v[mid].end > addr)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

struct vma *vma_at(const struct vma_set *s, uint64_t addr)
{
	uint32_t i = vma_lower(s, addr);

	return i < s->count && s->v[i].start <= addr ? &s->v[i] : NULL;
}

bool vma_covered(const struct vma_set *s, uint64_t start, uint64_t end)
{
	uint32_t i = vma_lower(s, start);

	while (start < end) {
		if (i == s->count || s->v[i].start > start)
			return false;
		start = s->v[i++].end;
	}
	return true;
}

/** Make @n free places at index @i. */
static void open_at(struct vma_set *s, uint32_t i, uint32_t n)
{
	memmove(&s->v[i + n], &s->v[i], (s->count - i) * sizeof(s->v[0]));
	s->count += n;
}

static void close_at(struct vma_set *s, uint32_t i, uint32_t n)
{
	if (!n)
		return;
	memmove(&s->v[i], &s->v[i + n], (s->count - i - n) * sizeof(s->v[0]));
	s->count -= n;
}

static bool can_merge(const struct vma *a, const struct vma *b)
{
	return a->end == b->start && a->prot == b->prot && a->flags == b->flags &&
	       a->file == b->file && (!a->file || a->offset + (a->end - a->start) == b->offset);
}

/** Join entries @i and @i + 1 if they can be one. */
static bool merge_at(struct proc *p, struct vma_set *s, uint32_t i)
{
	if (i + 1 >= s->count || !can_merge(&s->v[i], &s->v[i + 1]))
		return false;
	if (s->v[i + 1].file)
		file_put(p, s->v[i + 1].file);
	s->v[i].end = s->v[i + 1].end;
	close_at(s, i + 1, 1);
	return true;
}

void vma_split(struct vma_set *s, uint64_t addr)
{
	uint32_t i = vma_lower(s, addr);
	struct vma *v = &s->v[i];

	if (i == s->count || v->start >= addr)
		return;
	open_at(s, i, 1);
	v[0].end = addr;
	v[1].start = addr;
	if (v[1].file) {
		v[1].offset += addr - v[0].start;
		file_ref(v[1].file);
	}
}

void vma_insert(struct proc *p, struct vma_set *s, const struct vma *v)
{
	uint32_t i = vma_lower(s, v->start);

	open_at(s, i, 1);
	s->v[i] = *v;
	s->bytes += v->end - v->start;
	merge_at(p, s, i);
	if (i > 0)
		merge_at(p, s, i - 1);
}

void vma_remove(struct proc *p, struct vma_set *s, uint64_t start, uint64_t end)
{
	uint32_t first = vma_lower(s, start);
	uint32_t i = first;

	for (; i < s->count && s->v[i].end <= end; i++) {
		s->bytes -= s->v[i].end - s->v[i].start;
		if (s->v[i].file)
			file_put(p, s->v[i].file);
	}
	close_at(s, first, i - first);
}

void vma_merge(struct proc *p, struct vma_set *s, uint64_t start, uint64_t end)
{
	uint32_t i = vma_lower(s, start);

	if (i > 0)
		i--;
	while (i < s->count && s->v[i].start <= end)
		if (!merge_at(p, s, i))
			i++;
}

uint64_t vma_gap(const struct vma_set *s, uint64_t low, uint64_t high, uint64_t bytes, bool highest)
{
	uint32_t i;

	if (low >= high || high - low < bytes)
		return 0;
	if (!highest) {
		for (i = vma_lower(s, low); i < s->count; i++) {
			if (s->v[i].start > low && s->v[i].start - low >= bytes)
				break;
			low = MAX(low, s->v[i].end);
		}
		return low < high && high - low >= bytes ? low : 0;
	}
	for (i = vma_lower(s, high); high > low; i--) {
		uint64_t bottom = i ? MAX(s->v[i - 1].end, low) : low;

		/* The VMA at i, if any, may begin below the top of the window. */
		if (i < s->count)
			high = MIN(high, s->v[i].start);
		if (high > bottom && high - bottom >= bytes)
			return high - bytes;
		if (!i)
			break;
	}
	return 0;
}

bool vma_check(const struct vma_set *s)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < s->count; i++) {
		const struct vma *v = &s->v[i];

		if (v->start >= v->end || v->start < GUEST_USER_GVA_MIN ||
		    v->end > GUEST_USER_GVA_MAX)
			return false;
		if (v->start % PAGE_BYTES || v->end % PAGE_BYTES || v->offset % PAGE_BYTES)
			return false;
		if (v->prot & ~(uint32_t)(PROT_READ | PROT_WRITE | PROT_EXEC) ||
		    v->flags & ~(uint32_t)VMA_FLAGS_ALL)
			return false;
		if (v->offset > INT64_MAX - (v->end - v->start))
			return false;
		if (i > 0 && (v[-1].end > v->start || can_merge(&v[-1], v)))
			return false;
		bytes += v->end - v->start;
	}
	return bytes == s->bytes;
}

/* ---- saved state ---------------------------------------------------------------------------- */

enum { VMA_NO_FILE = UINT32_MAX, VMA_RECORD_BYTES = 8 + 8 + 8 + 4 + 4 + 4 };

int vmas_save(const struct vma_set *s, struct state_writer *w)
{
	state_put_u32(w, s->count);
	for (uint32_t i = 0; i < s->count; i++) {
		const struct vma *v = &s->v[i];

		state_put_u64(w, v->start);
		state_put_u64(w, v->end);
		state_put_u64(w, v->offset);
		state_put_u32(w, v->file ? v->file->id : VMA_NO_FILE);
		state_put_u32(w, v->prot);
		state_put_u32(w, v->flags);
	}
	return w->err;
}

static int vma_load(struct proc *p, struct vma *v, struct state_reader *r)
{
	uint32_t id;

	v->start = state_get_u64(r);
	v->end = state_get_u64(r);
	v->offset = state_get_u64(r);
	id = state_get_u32(r);
	v->prot = state_get_u32(r);
	v->flags = state_get_u32(r);
	v->file = NULL;
	if (r->err || id == VMA_NO_FILE)
		return r->err;
	v->file = file_by_id(p, id);
	if (!v->file)
		return -EBADMSG;
	file_ref(v->file);
	return 0;
}

int vmas_load(struct proc *p, struct vma_set *s, struct state_reader *r)
{
	uint32_t count = state_get_count(r, VMA_RECORD_BYTES);

	if (r->err || count > VMA_MAX)
		return -EBADMSG;
	if (vma_reserve(s, count))
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		struct vma *v = &s->v[i];
		int ret = vma_load(p, v, r);

		if (ret)
			return ret;
		s->count++;
		s->bytes += v->end - v->start;
	}
	return vma_check(s) ? 0 : -EBADMSG;
}
