/* SPDX-License-Identifier: Apache-2.0 */
/* signals.c - guest program: handlers, faults, alternate stacks, masks, timers, restarts */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "check.h"

static volatile sig_atomic_t hits, last_code, last_sig;
static void *volatile last_addr;
static volatile int last_value;
static sigjmp_buf env;
static char *page;
static char altstack[65536];

static void install(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = {.sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags};

	CHECK(!sigaction(sig, &sa, NULL));
}

static void on_any(int sig, siginfo_t *info, void *uc)
{
	(void)uc;
	hits++;
	last_sig = sig;
	last_code = info->si_code;
	last_addr = info->si_addr;
	last_value = info->si_value.sival_int;
}

static void on_fault(int sig, siginfo_t *info, void *uc)
{
	on_any(sig, info, uc);
	CHECK(!mprotect(page, 4096, PROT_READ | PROT_WRITE));
}

static void on_jump(int sig, siginfo_t *info, void *uc)
{
	on_any(sig, info, uc);
	siglongjmp(env, 1);
}

static void on_altstack(int sig, siginfo_t *info, void *ucv)
{
	const ucontext_t *uc = ucv;
	char here;

	on_any(sig, info, ucv);
	CHECK(&here > altstack && &here < altstack + sizeof(altstack));
	CHECK(uc->uc_mcontext.gregs[REG_CR2] == (greg_t)(uintptr_t)info->si_addr);
	CHECK(uc->uc_mcontext.gregs[REG_TRAPNO] == 14);
	siglongjmp(env, 1);
}

static void on_skip(int sig, siginfo_t *info, void *ucv)
{
	ucontext_t *uc = ucv;

	on_any(sig, info, ucv);
	uc->uc_mcontext.gregs[REG_RIP] += 2; /* ud2 */
	uc->uc_mcontext.gregs[REG_RAX] = 77;
	uc->uc_mcontext.fpregs->_xmm[7].element[0] = 99;
}

static void test_faults(void)
{
	page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(page != MAP_FAILED);
	install(SIGSEGV, on_fault, 0);
	page[5] = 1;
	CHECK(hits == 1 && last_addr == page + 5 && last_code == SEGV_ACCERR && page[5] == 1);
	install(SIGSEGV, on_jump, SA_NODEFER);
	if (!sigsetjmp(env, 1))
		*(volatile int *)16 = 1;
	CHECK(hits == 2 && last_addr == (void *)16 && last_code == SEGV_MAPERR);
	install(SIGFPE, on_jump, 0);
	if (!sigsetjmp(env, 1)) {
		volatile int zero = 0;

		hits = 5 / zero;
	}
	CHECK(last_sig == SIGFPE && last_code == FPE_INTDIV);
	install(SIGTRAP, on_any, 0);
	__asm__ volatile("int3");
	CHECK(last_sig == SIGTRAP);
}

static void test_context(void)
{
	long rax = 1;
	int xmm = 0;

	hits = 0;
	install(SIGILL, on_skip, 0);
	__asm__ volatile("movd %[one], %%xmm7\n ud2\n movd %%xmm7, %[out]"
			 : "+a"(rax), [out] "=r"(xmm)
			 : [one] "r"(5)
			 : "xmm7");
	CHECK(hits == 1 && last_sig == SIGILL && last_code == ILL_ILLOPN);
	CHECK(rax == 77 && xmm == 99);
}

static void *overflow(void *arg)
{
	volatile char big[4096];

	big[0] = 1;
	return (char *)overflow(arg) + big[0];
}

static void test_altstack(void)
{
	stack_t ss = {.ss_sp = altstack, .ss_size = sizeof(altstack)}, old;

	CHECK(!sigaltstack(&ss, NULL) && !sigaltstack(NULL, &old));
	CHECK(old.ss_sp == altstack && old.ss_flags == 0);
	install(SIGSEGV, on_altstack, SA_ONSTACK);
	if (!sigsetjmp(env, 1))
		overflow(NULL);
	CHECK(last_sig == SIGSEGV);
	ss.ss_flags = SS_DISABLE;
	CHECK(!sigaltstack(&ss, NULL));
	signal(SIGSEGV, SIG_DFL);
}

static void test_masks(void)
{
	union sigval value = {.sival_int = 42};
	struct timespec none = {0, 0};
	sigset_t set, old, pending;
	siginfo_t info;

	hits = 0;
	install(SIGUSR1, on_any, 0);
	install(SIGRTMIN + 1, on_any, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 1);
	CHECK(!sigprocmask(SIG_BLOCK, &set, &old));
	raise(SIGUSR1);
	raise(SIGUSR1);
	for (int i = 0; i < 3; i++)
		CHECK(!sigqueue(getpid(), SIGRTMIN + 1, value));
	CHECK(!hits && !sigpending(&pending) && sigismember(&pending, SIGUSR1));
	CHECK(sigtimedwait(&set, &info, &none) == SIGUSR1 && info.si_pid == getpid());
	CHECK(!sigprocmask(SIG_SETMASK, &old, NULL));
	CHECK(hits == 3 && last_value == 42 && last_code == SI_QUEUE);
	CHECK(!sigprocmask(SIG_BLOCK, &set, &old));
	CHECK(sigtimedwait(&set, &info, &(struct timespec){0, 1000000}) == -1 && errno == EAGAIN);
	hits = 0;
	raise(SIGUSR1);
	sigemptyset(&set);
	CHECK(sigsuspend(&set) == -1 && errno == EINTR && hits == 1);
	CHECK(!sigprocmask(SIG_SETMASK, &old, NULL));
}

static void test_interrupts(void)
{
	struct itimerval soon = {.it_value = {0, 20000}};
	struct pollfd pfd = {.events = POLLIN};
	int fds[2];
	char c;

	CHECK(!pipe(fds));
	hits = 0;
	install(SIGALRM, on_any, 0);
	CHECK(!setitimer(ITIMER_REAL, &soon, NULL));
	CHECK(read(fds[0], &c, 1) == -1 && errno == EINTR && hits == 1);
	install(SIGALRM, on_any, SA_RESTART);
	CHECK(!setitimer(ITIMER_REAL, &soon, NULL));
	pfd.fd = fds[0];
	CHECK(poll(&pfd, 1, -1) == -1 && errno == EINTR && hits == 2);
	/* A restarted read ends by what the next signal's handler writes. */
	CHECK(!setitimer(ITIMER_REAL, &soon, NULL));
	CHECK(write(fds[1], "x", 1) == 1 && read(fds[0], &c, 1) == 1 && c == 'x');
	CHECK(usleep(30000) == -1 && errno == EINTR && hits == 3);
}

static volatile int busy_fd = -1;

static void on_write(int sig, siginfo_t *info, void *uc)
{
	on_any(sig, info, uc);
	if (hits == 2)
		CHECK(write(busy_fd, "y", 1) == 1);
}

static void test_restart(void)
{
	struct itimerval often = {.it_value = {0, 5000}, .it_interval = {0, 5000}}, off = {0};
	int fds[2];
	char c = 0;

	CHECK(!pipe(fds));
	busy_fd = fds[1];
	hits = 0;
	install(SIGALRM, on_write, SA_RESTART);
	CHECK(!setitimer(ITIMER_REAL, &often, NULL));
	CHECK(read(fds[0], &c, 1) == 1 && c == 'y' && hits >= 2);
	/* Without a system call: the timer pre-empts. */
	hits = 10;
	while (hits < 13)
		;
	CHECK(!setitimer(ITIMER_REAL, &off, NULL));
}

static void test_posix_timer(void)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2};
	struct itimerspec spec = {.it_value = {0, 3000000}, .it_interval = {0, 3000000}}, left;
	timer_t timer;

	hits = 0;
	ev.sigev_value.sival_int = 7;
	install(SIGRTMIN + 2, on_any, 0);
	CHECK(!timer_create(CLOCK_MONOTONIC, &ev, &timer));
	CHECK(!timer_settime(timer, 0, &spec, NULL) && !timer_gettime(timer, &left));
	CHECK(left.it_value.tv_nsec > 0 && left.it_interval.tv_nsec == 3000000);
	while (hits < 3)
		pause();
	CHECK(last_value == 7 && last_code == SI_TIMER && !timer_delete(timer));
}

static void *send_to_main(void *arg)
{
	usleep(2000);
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

static void test_threads(void)
{
	pthread_t self = pthread_self(), t;
	struct signalfd_siginfo si;
	sigset_t set, old;
	int fd;

	hits = 0;
	install(SIGUSR1, on_any, 0);
	CHECK(!pthread_create(&t, NULL, send_to_main, &self));
	CHECK(pause() == -1 && errno == EINTR && hits == 1 && last_code == SI_TKILL);
	CHECK(!pthread_join(t, NULL));
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK(!pthread_sigmask(SIG_BLOCK, &set, &old));
	fd = signalfd(-1, &set, 0);
	CHECK(fd >= 0 && !pthread_create(&t, NULL, send_to_main, &self));
	CHECK(read(fd, &si, sizeof(si)) == sizeof(si) && si.ssi_signo == SIGUSR1);
	CHECK(!pthread_join(t, NULL) && !pthread_sigmask(SIG_SETMASK, &old, NULL));
}

/* A frame full of nonsense must kill the program, not the machine. */
static void bad_frame(void)
{
	char junk[4096];

	memset(junk, 0xff, sizeof(junk));
	__asm__ volatile("mov %0, %%rsp\n mov $15, %%eax\n syscall" ::"r"(junk + 2048) : "memory");
	__builtin_unreachable();
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "bad-frame"))
		bad_frame();
	if (!strcmp(what, "abort"))
		abort();
	if (!strcmp(what, "segv"))
		*(volatile int *)0x1234 = 1;
	test_faults();
	test_context();
	test_altstack();
	test_masks();
	test_interrupts();
	test_restart();
	test_posix_timer();
	test_threads();
	puts("signals ok");
	return 0;
}
