/* SPDX-License-Identifier: Apache-2.0 */
/* mm_fixture.h - an address space without a virtual machine, and a file type in memory */
#ifndef QUICKTHAW_TESTS_MM_FIXTURE_H
#define QUICKTHAW_TESTS_MM_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "vmm/process/mm_internal.h"

/** struct fixture - everything that the address space needs; no KVM. */
struct fixture {
	struct vm vm;
	struct proc p;
};

/** struct mem_file - a file whose bytes are given, and frames of its own for shared mappings. */
struct mem_file {
	uint8_t *data;
	size_t bytes;
	uint32_t frames[64];
	unsigned reads;
	int error;
};

static int64_t mem_read(struct proc *p, struct file *f, const struct iovec *iov, int n,
			int64_t offset)
{
	struct mem_file *m = f->priv;
	size_t at = (size_t)offset;
	int64_t done = 0;

	(void)p;
	m->reads++;
	if (m->error)
		return m->error;
	for (int i = 0; i < n && at < m->bytes; i++) {
		size_t part = MIN(iov[i].iov_len, m->bytes - at);

		memcpy(iov[i].iov_base, m->data + at, part);
		at += part;
		done += (int64_t)part;
	}
	return done;
}

static int mem_fill_page(struct proc *p, struct file *f, uint64_t offset, void *page)
{
	struct iovec iov = {page, PAGE_BYTES};

	return (int)MIN(mem_read(p, f, &iov, 1, (int64_t)offset), 0);
}

static int mem_stat(struct proc *p, struct file *f, struct stat *ret)
{
	struct mem_file *m = f->priv;

	(void)p;
	memset(ret, 0, sizeof(*ret));
	ret->st_mode = S_IFREG | 0755;
	ret->st_size = (off_t)m->bytes;
	return 0;
}

static int mem_shared_page(struct proc *p, struct file *f, uint64_t offset, uint32_t *ret_page)
{
	struct mem_file *m = f->priv;
	uint64_t i = offset / PAGE_BYTES;

	if (i >= ARRAY_SIZE(m->frames))
		return -ENOSPC;
	if (!m->frames[i] && frame_alloc(p, &m->frames[i]))
		return -ENOSPC;
	frame_ref(p, m->frames[i]);
	*ret_page = m->frames[i];
	return 0;
}

static const struct file_ops mem_private_ops __attribute__((unused)) = {
	.type = FILE_HOST,
	.name = "mem",
	.read = mem_read,
	.stat = mem_stat,
	.fill_page = mem_fill_page,
};

static const struct file_ops mem_shared_ops __attribute__((unused)) = {
	.type = FILE_TMPFS,
	.name = "mem-shared",
	.read = mem_read,
	.stat = mem_stat,
	.fill_page = mem_fill_page,
	.shared_page = mem_shared_page,
};

static inline struct fixture *fixture_new(uint64_t ram_bytes)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	assert_non_null(fx);
	fx->p.vm = &fx->vm;
	assert_int_equal(guest_mem_init(&fx->vm.mem, ram_bytes), 0);
	fx->vm.vcpu.run = calloc(1, sizeof(*fx->vm.vcpu.run));
	assert_non_null(fx->vm.vcpu.run);
	assert_int_equal(files_new(&fx->p), 0);
	return fx;
}

static inline void fixture_free(struct fixture *fx)
{
	mm_free(&fx->p);
	files_free(&fx->p);
	free(fx->vm.vcpu.run);
	guest_mem_free(&fx->vm.mem);
	free(fx);
}

/** Anonymous private memory, read and write. */
static inline uint64_t map_anonymous(struct proc *p, uint64_t at, uint64_t pages)
{
	int64_t ret = mm_map(p, at, pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), NULL, 0);

	assert_true(ret > 0);
	return (uint64_t)ret;
}

/** One byte of user memory, or -1 when it is not accessible. */
static inline int peek(struct proc *p, uint64_t at)
{
	uint8_t byte;

	return mm_copy_in(p, &byte, at, 1) ? -1 : byte;
}

static inline int poke(struct proc *p, uint64_t at, uint8_t byte)
{
	return mm_copy_out(p, at, &byte, 1);
}

#endif
