/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mm_random.c - guest program: random operations on an address space, as one number
 *
 * Run outside of a guest it prints what Linux does; a guest has to print the same. Every result,
 * errno, byte read and signal goes into the number. Left out is what differs between versions of
 * Linux or is unspecified: mremap() of more than one page at once (whether neighbours are one
 * mapping) and over itself (which error), and a file that is mapped privately and written to.
 *
 * usage: mm_random STEPS SEED [verbose]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGES = 128, PAGE = 4096, FILE_PAGES = 40, OPERATIONS = 12 };

static uint8_t *const base = (uint8_t *)0x300000000000;
static sigjmp_buf caught;
static volatile int fault;
static uint64_t hash = 14695981039346656037ull;
static unsigned seed;
static int private_fd, shared_fd;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	fault = sig * 100 + info->si_code;
	siglongjmp(caught, 1);
}

static unsigned rnd(unsigned below)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 8 & 0xffffff) % below;
}

static void mix(uint64_t v)
{
	hash = (hash ^ v) * 1099511628211ull;
}

static long load(unsigned page)
{
	return sigsetjmp(caught, 1) ? -fault : *(volatile uint8_t *)(base + page * PAGE);
}

static long store(unsigned page, uint8_t v)
{
	if (sigsetjmp(caught, 1))
		return -fault;
	*(volatile uint8_t *)(base + page * PAGE) = v;
	return 0;
}

static long call(unsigned page)
{
	if (sigsetjmp(caught, 1))
		return -fault;
	((void (*)(void))(uintptr_t)(base + page * PAGE))();
	return 0;
}

/** Only a page that holds a RET, or faults, is called. */
static long store_and_call(unsigned page)
{
	long stored = store(page, 0xc3), loaded = load(page);

	return loaded < 0 || loaded == 0xc3 ? stored * 1000 + call(page) : stored;
}

static long map(uint8_t *at, size_t n, int prot, int flags, int fd)
{
	return (long)mmap(at, n, prot, flags | (fd < 0 ? MAP_ANONYMOUS : 0), fd,
			  fd < 0 ? 0 : (off_t)rnd(FILE_PAGES + 4) * PAGE);
}

static long operate(unsigned op, unsigned page, size_t bytes, int prot)
{
	uint8_t *at = base + page * PAGE;
	unsigned to, n;

	switch (op) {
	case 0:
		return map(at, bytes, prot, MAP_PRIVATE | MAP_FIXED, -1);
	case 1:
		return map(at, bytes, prot, MAP_PRIVATE | MAP_FIXED, private_fd);
	case 2:
		return map(at, bytes, prot, MAP_SHARED | MAP_FIXED, shared_fd);
	case 3:
		return rnd(3) ? 0 : munmap(at, bytes);
	case 4:
	case 5:
		return mprotect(at, bytes, prot);
	case 6:
		return madvise(at, bytes, MADV_DONTNEED);
	case 7:
		to = rnd(PAGES - 16);
		n = 1 + rnd(16);
		if (to <= page && page < to + n)
			return 0;
		return (long)mremap(at, PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				    base + to * PAGE);
	case 8:
		n = 1 + rnd(PAGES - page < 16 ? PAGES - page : 16);
		return (long)mremap(at, PAGE, n * PAGE, 0);
	case 9:
		return map(at, bytes, prot, MAP_PRIVATE | MAP_FIXED_NOREPLACE, -1);
	case 10:
		return store_and_call(page);
	default:
		return ftruncate(rnd(2) ? private_fd : shared_fd,
				 (20 + rnd(24)) * PAGE + rnd(PAGE));
	}
}

static int make_file(void)
{
	int fd = memfd_create("mm_random", 0);

	for (unsigned i = 0; i < FILE_PAGES; i++) {
		uint8_t c = (uint8_t)(i + 1);

		if (pwrite(fd, &c, 1, (off_t)i * PAGE) != 1)
			exit(2);
	}
	return fd;
}

static void step(unsigned n, bool verbose)
{
	static const int prots[] = {
		PROT_NONE,
		PROT_READ,
		PROT_READ | PROT_WRITE,
		PROT_READ | PROT_WRITE,
		PROT_READ | PROT_WRITE,
		PROT_READ | PROT_EXEC,
		PROT_READ | PROT_WRITE | PROT_EXEC,
	};
	unsigned op = rnd(OPERATIONS), page = rnd(PAGES), count = 1 + rnd(16);
	int prot = prots[rnd(7)];
	long ret;

	if (count > PAGES - page)
		count = PAGES - page;
	errno = 0;
	ret = operate(op, page, (size_t)count * PAGE, prot);
	mix((uint64_t)ret);
	mix((uint64_t)errno);
	if (verbose)
		printf("%u: operation %u on %u + %u, prot %d: %lx, errno %d\n", n, op, page, count,
		       (unsigned)prot, (unsigned long)ret, errno);
	for (int i = 0; i < 6; i++) {
		page = rnd(PAGES);
		ret = rnd(2) ? load(page) : store(page, (uint8_t)rnd(256));
		mix((uint64_t)ret);
		if (verbose)
			printf("  %u: %ld\n", page, ret);
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
	unsigned steps = argc > 2 ? (unsigned)atoi(argv[1]) : 0;

	if (argc < 3)
		return 2;
	seed = (unsigned)atoi(argv[2]);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	private_fd = make_file();
	shared_fd = make_file();
	for (unsigned n = 0; n < steps; n++) {
		step(n, argc > 3);
		for (unsigned i = 0; n % 50 == 0 && i < PAGES; i++)
			mix((uint64_t)load(i));
	}
	printf("%016llx\n", (unsigned long long)hash);
	return 0;
}
