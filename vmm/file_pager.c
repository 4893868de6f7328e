/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_pager.c - serve a restored guest's page faults from its snapshot file, without snapd
 *
 * What snapd/page_in.c does for many guests, here for one, with a thread that may block: a touch of
 * a hole stops whoever touched it, the page's chunk is read, checked, and written into the
 * template, and the touch is repeated. Pages of zeros come sixteen at a time, as chunks do.
 *
 * Invariants
 *  1. The thread never touches the guest's memory, which would make it wait for itself.
 *  2. Each event is answered by a wake, also where the page is there by now.
 *  3. A page is written once: its bit in @filled is set after its bytes are there.
 */
#include "vmm/file_pager.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "common/thread.h"
#include "common/util.h"

enum { EVENTS_MAX = 16, WINDOW_PAGES = SNAPSHOT_CHUNK_PAGES };

static bool is_filled(const struct file_pager *p, uint32_t page)
{
	return p->filled[page / 8] >> page % 8 & 1;
}

static void set_filled(struct file_pager *p, uint32_t page)
{
	p->filled[page / 8] |= (uint8_t)(1u << page % 8);
}

static uint64_t page_count(const struct file_pager *p)
{
	return snapshot_reader_params(p->reader)->template_pages;
}

/** @count pages that lie one behind the other. */
static int fill(struct file_pager *p, uint32_t page, unsigned count, const void *bytes)
{
	int ret = pwrite_full(p->memfd, bytes, (size_t)count * PAGE_BYTES,
			      (uint64_t)page * PAGE_BYTES);

	for (unsigned i = 0; !ret && i < count; i++)
		set_filled(p, page + i);
	return ret;
}

static int fill_zeros(struct file_pager *p, uint32_t page)
{
	static const uint8_t zeros[PAGE_BYTES];
	uint32_t first = page - page % WINDOW_PAGES;
	uint64_t end = MIN((uint64_t)first + WINDOW_PAGES, page_count(p));
	int ret = 0;

	for (uint32_t at = first; !ret && at < end; at++)
		if (!is_filled(p, at) &&
		    snapshot_reader_page_chunk(p->reader, at) == SNAPSHOT_PAGE_ZERO)
			ret = fill(p, at, 1, zeros);
	return ret;
}

static int fill_chunk(struct file_pager *p, uint32_t number)
{
	const struct snapshot_chunk *c = snapshot_reader_chunk(p->reader, number);
	struct snapshot_error err = {{0}};
	int ret = snapshot_reader_read_chunk(p->reader, number, p->pages, &err);

	if (ret)
		log_error("restore: %s", err.text[0] ? err.text : strerror(-ret));
	for (unsigned i = 0, run; !ret && i < c->page_count; i += run) {
		run = 1;
		if (!snapshot_chunk_has(c, i))
			continue;
		while (i + run < c->page_count && snapshot_chunk_has(c, i + run) &&
		       c->pages[i + run] == c->pages[i] + run)
			run++;
		ret = fill(p, c->pages[i], run, p->pages + (size_t)i * PAGE_BYTES);
	}
	return ret;
}

/** Return: 0 or -errno. */
static int serve(struct file_pager *p, uint64_t address)
{
	uint64_t page = (address - (uint64_t)(uintptr_t)p->ram) / PAGE_BYTES;
	struct uffdio_range range = {.start = align_down(address, (uint64_t)PAGE_BYTES),
				     .len = PAGE_BYTES};
	uint32_t chunk;
	int ret = 0;

	if (page >= page_count(p))
		return -EFAULT;
	chunk = snapshot_reader_page_chunk(p->reader, (uint32_t)page);
	if (!is_filled(p, (uint32_t)page))
		ret = chunk == SNAPSHOT_PAGE_ZERO ? fill_zeros(p, (uint32_t)page)
						  : fill_chunk(p, chunk);
	if (!ret && ioctl(p->uffd, UFFDIO_WAKE, &range))
		ret = -errno;
	return ret;
}

static void *run(void *arg)
{
	struct file_pager *p = arg;
	struct pollfd fds[] = {{.fd = p->uffd, .events = POLLIN},
			       {.fd = p->stop_fd, .events = POLLIN}};
	struct uffd_msg messages[EVENTS_MAX];

	for (;;) {
		ssize_t n;
		int ret = 0;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents)
			break;
		n = read(p->uffd, messages, sizeof(messages));
		for (ssize_t i = 0; !ret && i < n / (ssize_t)sizeof(messages[0]); i++)
			if (messages[i].event == UFFD_EVENT_PAGEFAULT)
				ret = serve(p, messages[i].arg.pagefault.address);
		if (ret) {
			log_error("restore: the guest's memory cannot be brought in: %s",
				  strerror(-ret));
			_exit(1);
		}
	}
	return NULL;
}

/** From the device where there is one, which asks for no capability; else by the system call. */
static int open_uffd(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	CLEANUP_FD int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	CLEANUP_FD int fd = device < 0 ? (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)
				       : ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		return -errno;
	return steal_fd(&fd);
}

static int start_thread(struct file_pager *p)
{
	int ret = thread_start(&p->thread, NULL, run, p);

	p->started = !ret;
	return ret;
}

int file_pager_start(struct file_pager *p, const struct snapshot_reader *r, int memfd,
		     const void *ram)
{
	int ret;

	*p = (struct file_pager){.reader = r, .ram = ram, .memfd = -1, .stop_fd = -1};
	p->uffd = open_uffd();
	if (p->uffd < 0)
		return p->uffd;
	p->memfd = fcntl(memfd, F_DUPFD_CLOEXEC, 0);
	p->stop_fd = eventfd(0, EFD_CLOEXEC);
	p->filled = calloc(page_count(p) / 8 + 1, 1);
	p->pages = malloc(SNAPSHOT_CHUNK_BYTES);
	ret = p->memfd < 0 || p->stop_fd < 0 ? -errno
	      : !p->filled || !p->pages	     ? -ENOMEM
					     : start_thread(p);
	if (ret)
		file_pager_stop(p);
	return ret;
}

void file_pager_stop(struct file_pager *p)
{
	const uint64_t one = 1;

	if (p->started && write(p->stop_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(p->thread, NULL);
	p->started = false;
	if (p->reader) {
		cleanup_fd(&p->uffd);
		cleanup_fd(&p->memfd);
		cleanup_fd(&p->stop_fd);
	}
	free(p->filled);
	free(p->pages);
	*p = (struct file_pager){0};
}
