/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mm_use.c - guest program: use memory in one way
 *
 * usage: mm_use fill MIB | churn MIB | reserve GIB | recurse KIB | args ...
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#define MIB ((size_t)1 << 20)

static char *map(size_t bytes, int flags)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1,
		       0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(3);
	}
	return p;
}

static int fill(size_t mib)
{
	for (size_t i = 0; i < mib; i++)
		memset(map(MIB, 0), 1, MIB);
	return 0;
}

/** Map, fill and unmap more than the guest may have at once; old contents must not come back. */
static int churn(size_t mib)
{
	for (size_t i = 0; i < mib; i++) {
		char *p = map(MIB, 0);

		for (size_t at = 0; at < MIB; at += 512)
			if (p[at])
				return 1;
		memset(p, 0x5a, MIB);
		if (i % 2 ? madvise(p, MIB, MADV_DONTNEED) || p[4096] : munmap(p, MIB))
			return 1;
	}
	return 0;
}

/** Touch one page in 64 MiB of a large reservation. */
static int reserve(size_t gib)
{
	char *p = map(gib * 1024 * MIB, MAP_NORESERVE);

	for (size_t at = 0; at < gib * 1024 * MIB; at += 64 * MIB)
		p[at] = 1;
	return munmap(p, gib * 1024 * MIB);
}

static int __attribute__((noinline)) recurse(int kib)
{
	volatile char frame[1024];

	memset((char *)(uintptr_t)frame, kib, sizeof(frame));
	return kib > 1 ? recurse(kib - 1) + frame[5] - frame[6] : 0;
}

static int args(int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		printf("%d=%s\n", i, argv[i]);
	printf("execfn=%s\n", (const char *)getauxval(AT_EXECFN));
	printf("secure=%lu page=%lu platform=%s random=%d\n", getauxval(AT_SECURE),
	       getauxval(AT_PAGESZ), (const char *)getauxval(AT_PLATFORM),
	       getauxval(AT_RANDOM) != 0);
	return 0;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "args";
	long n = argc > 2 ? atol(argv[2]) : 0;
	int ret = 2;

	if (!strcmp(how, "fill"))
		ret = fill((size_t)n);
	else if (!strcmp(how, "churn"))
		ret = churn((size_t)n);
	else if (!strcmp(how, "reserve"))
		ret = reserve((size_t)n);
	else if (!strcmp(how, "recurse"))
		ret = recurse((int)n);
	else
		return args(argc, argv);
	if (!ret)
		puts("done");
	return ret;
}
